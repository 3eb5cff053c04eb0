"""Errors of fits to renders with known truth, and sweeps of the hyper-parameters."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from digitaltwin.avatar._report import held_out_points
from digitaltwin.fitting import FitConfig, FitResult, FitStatus, fit, fit_groups, make_fitter
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.geometry import procrustes_alignment, project
from digitaltwin.geometry._camera import camera_points
from digitaltwin.head import HeadModel, landmark_points, neutral_shape
from digitaltwin.head.markup import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from digitaltwin.synthesis._scene import YAW_BINS_DEG, Scene

FACTORS = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
FEW_FACTORS = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
SWEEPS: dict[str, tuple[float, ...]] = {
    "correction_weight": FACTORS,
    "correction_length_mm": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
    "omega_r": FEW_FACTORS,
    "expression_deviation": (0.35, 0.6, 0.8, 1.0, 1.4, 2.0),
    "omega_i": FACTORS,
    "lambda_q": FEW_FACTORS,
    "lambda_f": FEW_FACTORS,
    "contour_weight": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "contour_reach_mm": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
    "iterations": (0.4, 0.6, 0.8, 1.0, 1.4, 2.0),
}
"""Hyper-parameters that are swept, and the factors of their defaults."""
IN_ARRAYS = ("correction_weight", "correction_length_mm", "expression_deviation", "omega_i", "contour_weight")
"""Hyper-parameters that :func:`make_fitter` puts into the fitter's arrays, and that the fit itself does not read."""
OWN_SHARE = 0.5
"""Share of a person's own shape in the given one; the rest is the group's mean."""
STARTS = ("group", "given")
CONTOUR_NOISE_PERCENT = 2.0
"""Standard deviation of the landmarks that are put on the outline, in per cent of the eye distance."""


class Errors(NamedTuple):
    """Errors of fits, one row a render."""

    held_out_percent: Float[np.ndarray | Array, " n"]
    """Root mean square distance of held-out mesh points, detected and fitted, in per cent of the eye distance."""
    true_points_percent: Float[np.ndarray | Array, " n"]
    """Root mean square distance of the face's projected vertices, true and fitted, in per cent of the eye distance."""
    face_mm: Float[np.ndarray | Array, " n"]
    """Root mean square distance of the face's vertices with expression, after rigid alignment."""
    neutral_mm: Float[np.ndarray | Array, " n"]
    """Root mean square distance of the neutral face's vertices, after rigid alignment."""
    neutral_scaled_mm: Float[np.ndarray | Array, " n"]
    """Root mean square distance of the neutral face's vertices, after similarity alignment."""
    correction_p95_mm: Float[np.ndarray | Array, " n"]
    rotation_deg: Float[np.ndarray | Array, " n"]
    expression: Float[np.ndarray | Array, " n"]
    """Root mean square over the 52 coefficients."""


UNITS = {
    "held_out_percent": "held-out mesh points, % of the eye distance",
    "true_points_percent": "true projections, % of the eye distance",
    "face_mm": "face with expression, mm",
    "neutral_mm": "neutral face, mm",
    "neutral_scaled_mm": "neutral face, similarity alignment, mm",
    "correction_p95_mm": "correction, 95th percentile, mm",
    "rotation_deg": "rotation, degrees",
    "expression": "expression coefficients",
}


@partial(jax.jit, static_argnames="start")
def fit_all(fitter: Fitter, shapes: Array, landmarks: Array, sizes: Array, scores: Array, *, start: str) -> FitResult:
    """Fit all renders in one batch; ``shapes`` are used where ``start`` is "given"."""

    def one(shape: Array, seen: Array, size: Array, score: Array) -> FitResult:
        if start == "group":
            return fit_groups(fitter, seen, size, scores=score).result
        return fit(fitter, shape, seen, size, scores=score)

    return jax.vmap(one)(shapes, landmarks, sizes, scores)


def one_program(head: HeadModel, config: FitConfig) -> Fitter:
    """Make a fitter with the same static part for all values of :data:`IN_ARRAYS`, so that fits are compiled once."""
    defaults = {name: getattr(FitConfig(), name) for name in IN_ARRAYS}
    return dataclasses.replace(make_fitter(head, config), config=dataclasses.replace(config, **defaults))


def given_shapes(head: HeadModel, truth: Scene) -> Float[np.ndarray, "n v 3"]:
    """Interpolate neutral shapes between the persons' own and their groups' means."""
    means = np.asarray(jax.vmap(partial(neutral_shape, head))(head.group_identity))[truth.group]
    return (OWN_SHARE * truth.neutral + (1 - OWN_SHARE) * means).astype(np.float32)


def judge(
    head: HeadModel,
    config: FitConfig,
    truth: Scene,
    *,
    start: str,
    landmarks: Float[np.ndarray, "n k 2"] | None = None,
    portion: int = 60,
) -> Errors:
    """Fit the renders and measure the errors.

    Args:
        head: The head model.
        config: Configuration of the fit.
        truth: The renders.
        start: One of :data:`STARTS`.
        landmarks: Landmarks other than those detected.
        portion: Renders in a batch.

    Returns:
        Errors; NaN where the status of the fit is not OK.
    """
    fitter, shapes = one_program(head, config), given_shapes(head, truth)
    landmarks = truth.landmarks_px if landmarks is None else landmarks
    rows = []
    for first in range(0, len(shapes), portion):
        # One batch size for all, so that it is compiled once; the last render may be repeated.
        mine = np.minimum(np.arange(first, first + portion), len(shapes) - 1)
        some = truth.take(mine)
        result = fit_all(fitter, shapes[mine], landmarks[mine], some.image_size, some.detected_expression, start=start)
        rows.append(_compare(head, jax.tree.map(jnp.asarray, some), result))
    return Errors(*(np.concatenate(field)[: len(shapes)] for field in zip(*rows)))


@jax.jit
def _compare(head: HeadModel, truth: Scene, result: FitResult) -> Errors:
    held_out = jnp.asarray(held_out_points())

    def one(truth: Scene, result: FitResult) -> tuple[Array, ...]:
        eye_px = true_eye_distance_px(head, truth)
        true_vertices, true_neutral = jnp.asarray(truth.vertices), jnp.asarray(truth.neutral)
        face = head.regions.face

        def over_face(squares: Array, where: Array = face) -> Array:
            return jnp.sqrt(jnp.sum(jnp.where(where, squares, 0.0)) / jnp.sum(where))

        mesh = project(result.camera, head.mesh_points.interpolate(result.vertices, head.faces))
        off_mesh = jnp.sum((mesh - truth.mesh_px[: len(mesh)])[held_out] ** 2, axis=1)
        off_truth = project(result.camera, result.vertices) - project(truth.camera, true_vertices)

        def off(found: Array, true: Array, with_scale: bool) -> Array:
            move = procrustes_alignment(found, true, weights=face.astype(found.dtype), with_scale=with_scale)
            return over_face(jnp.sum((move.apply(found) - true) ** 2, axis=1))

        turned = jnp.sum(result.rotation * truth.camera.rotation)  # the trace of one times the other's inverse
        failed = jnp.where(result.status == FitStatus.OK, 0.0, jnp.nan)
        return tuple(
            value + failed
            for value in (
                100 * jnp.sqrt(jnp.mean(off_mesh)) / eye_px,
                100 * over_face(jnp.sum(off_truth**2, axis=1)) / eye_px,
                off(result.vertices, true_vertices, False),
                off(result.neutral, true_neutral, False),
                off(result.neutral, true_neutral, True),
                jnp.percentile(jnp.linalg.norm(result.correction, axis=1), 95),
                jnp.rad2deg(jnp.arccos(jnp.clip((turned - 1) / 2, -1.0, 1.0))),
                jnp.sqrt(jnp.mean((result.expression - truth.expression) ** 2)),
            )
        )

    return Errors(*jax.vmap(one)(truth, result))


def true_eye_distance_px(head: HeadModel, truth: Scene) -> Float[Array, ""]:
    """Return the distance of one render's outer eye corners [px], without foreshortening: the true one at its depth."""
    corners = landmark_points(head, jnp.asarray(truth.vertices))[jnp.array([LEFT_EYE_OUTER, RIGHT_EYE_OUTER])]
    depth = jnp.mean(camera_points(truth.camera, corners)[:, 2])
    return truth.camera.focal_px * jnp.linalg.norm(corners[0] - corners[1]) / depth


def summary(errors: Errors) -> dict[str, float]:
    """Average over all renders whose fit did not fail, for JSON."""
    ok = np.isfinite(errors.face_mm)
    means = {name: float(values[ok].mean()) for name, values in errors._asdict().items()}
    return {"renders": len(ok), "failed": int((~ok).sum()), **means}


def by_yaw(errors: Errors, bins: Int[np.ndarray, " n"]) -> dict[str, list[float | None]]:
    """Average over the renders of each yaw bin, for JSON; None where every fit failed."""
    ok = np.isfinite(errors.face_mm)
    columns = errors._asdict()
    kept = [ok & (bins == k) for k in np.unique(bins)]
    return {name: [float(v[some].mean()) if some.any() else None for some in kept] for name, v in columns.items()}


def yaw_names(bins: Int[np.ndarray, " n"]) -> list[str]:
    """Return the names of the yaw bins that have renders."""
    return [f"{YAW_BINS_DEG[k]:.0f}-{YAW_BINS_DEG[k + 1]:.0f}" for k in np.unique(bins)]


def sweep(
    head: HeadModel,
    truth: Scene,
    default: FitConfig,
    names: Mapping[str, tuple[float, ...]],
    starts: tuple[str, ...],
) -> dict[str, Any]:
    """Fit with one hyper-parameter moved at a time: ``[name][start]`` holds columns over its values, which rise."""
    table: dict[str, Any] = {}
    jobs = [(name, factor, start) for name, factors in names.items() for factor in factors for start in starts]
    for name, factor, start in tqdm(jobs, desc="hyper-parameters", unit=" fits of all", disable=None):
        value = factor * getattr(default, name)
        value = round(value) if name == "iterations" else value
        errors = judge(head, dataclasses.replace(default, **{name: value}), truth, start=start)
        columns = table.setdefault(name, {}).setdefault(start, {})
        for column, mean in {"value": value, **summary(errors)}.items():
            columns.setdefault(column, []).append(mean)
    return table
