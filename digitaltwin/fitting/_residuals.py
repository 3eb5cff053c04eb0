"""Reprojections of a head into a photo, their derivatives, and their size for a report.

Letters: n points; 7 pose unknowns: rotation increment [rad], translation [mm], log focal scale, in this order.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from digitaltwin.geometry import Camera, project
from digitaltwin.head.markup import LANDMARK_COUNT, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from digitaltwin.types import InputError

POSE_UNKNOWNS = 7


def linearise(
    camera: Callable[[Float[Array, " 7"]], Camera], points: Float[Array, "n 3"]
) -> tuple[Float[Array, "n 2"], Float[Array, "n 2 3"], Float[Array, "n 2 7"]]:
    """Projections and their derivatives, by forward differentiation of one point's projection.

    Args:
        camera: The camera after an increment of its pose unknowns; differentiated at the zero increment.
        points: Points in the head frame [mm].

    Returns:
        Image positions [px], derivatives by the points' positions, derivatives by the pose unknowns.
    """

    def one(point: Float[Array, " 3"], increment: Float[Array, " 7"]) -> Float[Array, " 2"]:
        return project(camera(increment), point[None])[0]

    still = jnp.zeros(POSE_UNKNOWNS, points.dtype)
    by_point, by_pose = jax.vmap(jax.jacfwd(one, (0, 1)), (0, None))(points, still)
    return project(camera(still), points), by_point, by_pose


def outer_eye_distance_px(landmarks: Float[Array, "k 2"]) -> Float[Array, ""]:
    """Distance of the two outer eye corners in the image, the yardstick of every error [px].

    Args:
        landmarks: The 104 [px]; of the face mesh take those of
            :func:`digitaltwin.perception.detect_landmarks`, which are read off it.

    Returns:
        One length.

    Raises:
        InputError: They are not 104.
    """
    if landmarks.shape[0] != LANDMARK_COUNT:
        raise InputError(f"landmarks: {landmarks.shape[0]} points; the outer eye corners are known of the 104.")
    return jnp.linalg.norm(landmarks[LEFT_EYE_OUTER] - landmarks[RIGHT_EYE_OUTER])


def reprojection_errors_px(
    camera: Camera, points: Float[Array, "n 3"], image_points: Float[Array, "n 2"]
) -> Float[Array, " n"]:
    """Distance between where points are imaged and where they were seen [px].

    Args:
        camera: The camera, as in ``FitResult.camera``.
        points: Points in the head frame, expression included [mm].
        image_points: Where the photo shows them [px].

    Returns:
        One distance for each point.
    """
    return jnp.linalg.norm(project(camera, points) - image_points, axis=1)


def relative_rms(
    errors_px: Float[Array, " n"], eye_distance_px: Float[Array, ""], *, weights: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Root mean square error as a fraction of the outer eye distance; errors of weight 0 may be NaN.

    Args:
        errors_px: Distances [px].
        eye_distance_px: :func:`outer_eye_distance_px`.
        weights: Weights of the mean; one by default.

    Returns:
        For instance 0.02 for 2 % of the eye distance.

    Example:
        >>> import jax.numpy as jnp
        >>> relative_rms(jnp.array([3.0, 4.0]), jnp.array(100.0)).round(4).tolist()
        0.03539999946951866
    """
    if weights is None:
        weights = jnp.ones_like(errors_px)
    squared = jnp.where(weights > 0.0, weights * errors_px**2, 0.0)
    return jnp.sqrt(jnp.sum(squared) / jnp.sum(weights)) / eye_distance_px
