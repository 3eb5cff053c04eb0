"""The pinhole camera.

    p_camera = diag(1, -1, -1) R p_head + t          p_px = f (x, y) / z + c

The constant axis flip takes the head frame (+y up, +z out of the face) to the camera frame (+y down, +z forward), so a
face that looks into the lens has R = I. Kept out of R, it also stays out of the rotation a solver estimates: as a
rotation it would be one of 180 degrees, where a quaternion's vector part has no derivative.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from digitaltwin.geometry._rotations import rotate


class Camera(NamedTuple):
    """Pose and intrinsics of a pinhole camera that looks at a head."""

    rotation: Float[Array, "3 3"]
    """R, without the axis flip; the identity for a frontal face."""
    translation: Float[Array, " 3"]
    """Origin of the head frame in the camera frame [mm]."""
    focal_px: Float[Array, ""]
    """Focal length [px]."""
    principal_point_px: Float[Array, " 2"]
    """Image point of the optical axis [px], x first; the middle of an uncropped photo."""


def camera_from_head(camera: Camera) -> Float[Array, "3 3"]:
    """The rotation ``diag(1, -1, -1) R`` that takes head-frame directions to the camera frame."""
    flip = jnp.array([[1.0], [-1.0], [-1.0]], dtype=camera.rotation.dtype)
    return flip * camera.rotation


def camera_points(camera: Camera, points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Head-frame points [mm] in the camera frame [mm]; z is the depth."""
    return rotate(camera_from_head(camera), points) + camera.translation[None]


def project(camera: Camera, points: Float[Array, "n 3"]) -> Float[Array, "n 2"]:
    """Image positions [px] of head-frame points [mm].

    Points at or behind the camera's centre have no image: look at the depths of :func:`camera_points` where that
    can happen.

    Args:
        camera: The camera.
        points: Points in the head frame [mm].

    Returns:
        Continuous pixel coordinates, x first.

    Example:
        >>> import jax.numpy as jnp
        >>> camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(1000.0), jnp.array([320.0, 240.0]))
        >>> project(camera, jnp.array([[50.0, 25.0, 0.0]])).tolist()  # towards the subject's left, and up
        [[420.0, 190.0]]
    """
    return project_camera_points(camera_points(camera, points), camera.focal_px, camera.principal_point_px)


def project_camera_points(
    points: Float[Array, "n 3"], focal_px: Float[Array, ""], principal_point_px: Float[Array, " 2"]
) -> Float[Array, "n 2"]:
    """Image positions [px] of camera-frame points [mm]: ``f (x, y) / z + c``."""
    return focal_px * points[:, :2] / points[:, 2:] + principal_point_px[None]
