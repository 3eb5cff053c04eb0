"""The fit of an avatar as compiled programs: the head, and what its residuals are measured by, in one.

Letters: v vertices, p parts vertices, e expressions, k landmarks, m mesh points on the skin.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.fitting import FitResult, FitStatus, GroupMeans, MeanHead, Shape, fit, fit_groups, predict_landmarks
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._residuals import outer_eye_distance_px, reprojection_errors_px
from digitaltwin.geometry import SurfacePoints
from digitaltwin.geometry._camera import camera_points
from digitaltwin.head import HeadModel, express, parts_vertices
from digitaltwin.head.markup import MESH_POINT_COUNT
from digitaltwin.io._images import Photo
from digitaltwin.io._programs import UNOPTIMIZED, stored_program
from digitaltwin.perception._detection import FaceLandmarks
from digitaltwin.types import InputError


class FittedFace(NamedTuple):
    """A fit, and how it explains what was detected in the photo."""

    result: FitResult
    """The fit."""
    posed: Float[Array, "v 3"]
    """The skin in the camera frame [mm]."""
    landmark_errors_px: Float[np.ndarray, " k"]
    """Distance of each landmark from where the fit puts it, the contour's from the head's outline [px]."""
    mesh_errors_px: Float[np.ndarray, " m"]
    """Distance of each point of the face mesh from where the fit puts it [px]."""
    eye_distance_px: float
    """Distance of the outer eye corners in the photo [px]."""
    start: str
    """The start of the fit, in words."""


def fit_face(
    head: HeadModel, fitter: Fitter, photo: Photo, face: FaceLandmarks, start: MeanHead | GroupMeans | Shape
) -> FittedFace:
    """Fit the head to a detected face and measure the residuals.

    Args:
        head: The head model.
        fitter: The model prepared for the fit.
        photo: The photo.
        face: The face.
        start: What to start from.

    Returns:
        The fit and its residuals.

    Raises:
        InputError: The fit failed, or the start does not suit the fitter.
    """
    size = jax.device_put(np.array(photo.pixels.shape[:2], np.int32))
    focal_px = None if photo.focal_px is None else jax.device_put(np.float32(photo.focal_px))
    anchors = head.mesh_points, head.faces
    if not isinstance(start, Shape) and not fitter.config.fit_identity:
        raise InputError("pipeline: its fitter holds the identity; make it with fit_identity=True, or give a Shape.")
    if isinstance(start, GroupMeans):
        shape = None
    else:
        shape = jnp.asarray(start.vertices) if isinstance(start, Shape) else fitter.mean
    result, group, posed, *errors = _fit(
        fitter, anchors, shape, face.landmarks_px, face.mesh_px, face.scores, size, focal_px
    )
    if group is None:
        name = "given shape" if isinstance(start, Shape) else "mean head"
    else:
        name = f"mean of {head.group_names[int(group)]}"
    status = FitStatus(int(result.status))
    if status != FitStatus.OK:
        raise InputError(f"image: {status.message} (status {int(status)}); take a sharper photo from the front.")
    landmark_errors, mesh_errors, eye_distance = (np.asarray(part) for part in errors)
    return FittedFace(result, posed, landmark_errors, mesh_errors, float(eye_distance), name)


@functools.partial(stored_program, options=UNOPTIMIZED)
def with_expression(
    head: HeadModel, neutral: Float[Array, "v 3"], expression: Float[Array, " e"]
) -> tuple[Float[Array, "v 3"], Float[Array, "p 3"]]:
    """The skin and the parts of a person with an expression [mm]."""
    return express(head, neutral, expression), parts_vertices(head, neutral, expression)


@functools.partial(stored_program, options=UNOPTIMIZED)
def _fit(
    fitter: Fitter,
    anchors: tuple[SurfacePoints, Int[Array, "f 3"]],
    shape: Float[Array, "v 3"] | None,
    landmarks: Float[Array, "k 2"],
    mesh: Float[Array, "478 3"],
    scores: Float[Array, " e"],
    size: Int[Array, "2"],
    focal_px: Float[Array, ""] | None,
) -> tuple[FitResult, Int[Array, ""] | None, Any, Any, Any, Any]:
    """Fit from a shape, or from the mean of each group where it is None; with the group that won, and the residuals."""
    if shape is None:
        result, group, _ = fit_groups(fitter, landmarks, size, scores=scores, focal_px=focal_px)
    else:
        result, group = fit(fitter, shape, landmarks, size, scores=scores, focal_px=focal_px), None
    return (result, group, *_measured(fitter, anchors, result, landmarks, mesh))


def _measured(
    fitter: Fitter,
    anchors: tuple[SurfacePoints, Int[Array, "f 3"]],
    result: FitResult,
    landmarks: Float[Array, "k 2"],
    mesh: Float[Array, "478 3"],
) -> tuple[Float[Array, "v 3"], Float[Array, " k"], Float[Array, " m"], Float[Array, ""]]:
    """The posed skin, errors of landmarks and mesh points, distance of the outer eye corners."""
    camera = result.camera
    predicted = predict_landmarks(fitter, camera, result.neutral, result.expression, near=landmarks)
    points, faces = anchors
    errors = reprojection_errors_px(camera, points.interpolate(result.vertices, faces), mesh[:MESH_POINT_COUNT, :2])
    landmark_errors = jnp.linalg.norm(predicted - landmarks, axis=1)
    return camera_points(camera, result.vertices), landmark_errors, errors, outer_eye_distance_px(landmarks)
