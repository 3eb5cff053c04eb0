"""Error ablation with oracle inputs: the fit again, given a little more of the truth at each step.

It uses the pictures that show subjects of the database, whose true landmarks are known.

Letters: n pictures, v vertices, e expressions, k landmarks.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.evaluation._statistics import CorrespondenceErrors, correspondence_errors
from digitaltwin.fitting import FitConfig, fit, fit_groups, make_fitter
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.geometry import project
from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.io import read_image
from digitaltwin.perception import detect_landmarks
from digitaltwin.perception._detection import Perception
from digitaltwin.synthesis._scene import Scene


class Seen(NamedTuple):
    """Detections and truth of a picture, or of several in a leading axis."""

    landmarks_px: Float[np.ndarray | Array, "*n k 2"]
    """Detected landmarks."""
    true_landmarks_px: Float[np.ndarray | Array, "*n k 2"]
    """True projections of the landmarks."""
    scores: Float[np.ndarray | Array, "*n e"]
    """Detected expression coefficients; the true ones are zero."""
    image_size: Int[np.ndarray | Array, "*n 2"]
    focal_px: Float[np.ndarray | Array, "*n"]
    neutral: Float[np.ndarray | Array, "*n v 3"]
    """True neutral shape [mm]."""


class Step(NamedTuple):
    """One fit and its oracle inputs."""

    title: str
    config: FitConfig
    from_mean: bool = True
    expression: bool = False
    """Whether it knows that there is none."""
    landmarks: bool = False
    focal: bool = False


_NO_EXPRESSION = 0.02  # standard deviation of the coefficients: as good as held, and still positive
_NEUTRAL = FitConfig(expression_deviation=_NO_EXPRESSION)
# True landmarks lie at their anchors, also where the head hides those.
_ANCHORED = FitConfig(expression_deviation=_NO_EXPRESSION, sliding_contour=False)
STEPS = (
    Step("the same fit from the best group's mean", FitConfig(), from_mean=False),
    Step("the chain's fit, from the mean head", FitConfig()),
    Step("... and given that the face is neutral", _NEUTRAL, expression=True),
    Step("... and given true landmarks", _ANCHORED, expression=True, landmarks=True),
    Step("... and the true focal length", _ANCHORED, expression=True, landmarks=True, focal=True),
)


def detect(head: HeadModel, perception: Perception, scene: Scene, picture: Path) -> Seen:
    """Detect landmarks and expression in a scene's picture, and project the true landmarks."""
    face = detect_landmarks(read_image(picture).pixels, perception=perception)
    camera = jax.tree.map(jnp.asarray, scene.camera)
    true = project(camera, landmark_points(head, jnp.asarray(scene.vertices)))
    return Seen(
        np.asarray(face.landmarks_px),
        np.asarray(true),
        np.asarray(face.scores),
        scene.image_size,
        scene.camera.focal_px,
        scene.neutral,
    )


def fit_steps(head: HeadModel, seen: Sequence[Seen]) -> dict[str, list[CorrespondenceErrors]]:
    """Fit all pictures at each of :data:`STEPS`.

    Args:
        head: The head model.
        seen: Pictures.

    Returns:
        Errors between corresponding points by the step's title, one a picture.
    """
    batch = Seen(*(jnp.stack([jnp.asarray(part) for part in parts]) for parts in zip(*seen)))
    table = {}
    for step in STEPS:
        given = batch._replace(
            landmarks_px=batch.true_landmarks_px if step.landmarks else batch.landmarks_px,
            scores=jnp.zeros_like(batch.scores) if step.expression else batch.scores,
        )
        neutral = _fit_all(make_fitter(head, step.config), given, from_mean=step.from_mean, focal=step.focal)
        errors = jax.vmap(partial(correspondence_errors, region=head.regions.face))(neutral, batch.neutral)
        table[step.title] = [CorrespondenceErrors(*map(float, row)) for row in zip(*errors)]
    return table


@partial(jax.jit, static_argnames=("from_mean", "focal"))
def _fit_all(fitter: Fitter, seen: Seen, *, from_mean: bool, focal: bool) -> Float[Array, "n v 3"]:
    def one(seen: Seen) -> Array:
        options: dict[str, Any] = {"scores": seen.scores, "focal_px": seen.focal_px if focal else None}
        landmarks = jnp.asarray(seen.landmarks_px)
        if from_mean:
            return fit(fitter, fitter.mean, landmarks, seen.image_size, **options).neutral
        return fit_groups(fitter, landmarks, seen.image_size, **options).result.neutral

    return jax.vmap(one)(seen)
