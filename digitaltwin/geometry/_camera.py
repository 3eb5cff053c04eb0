"""The pinhole camera.

    p_camera = diag(1, -1, -1) R p_head + t          p_px = f (x, y) / z + c

The constant axis flip takes the head frame (+y up, +z out of the face) to the camera frame (+y down, +z forward), so a
face that looks into the lens has R = I. Kept out of R, it also stays out of the rotation a solver estimates: as a
rotation it would be one of 180 degrees, where a quaternion's vector part has no derivative.

Everything here works on NumPy arrays on the host and on JAX arrays under jit.

Letters: n points.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from digitaltwin.geometry._namespace import namespace, product

AXIS_FLIP = np.array([1.0, -1.0, -1.0])
"""The diagonal of the map from head axes to camera axes; its own inverse."""


class Camera(NamedTuple):
    """Pose and intrinsics of a pinhole camera that looks at a head. A pytree."""

    rotation: Float[Any, "3 3"]
    """R, without the axis flip; the identity for a frontal face."""
    translation: Float[Any, " 3"]
    """Origin of the head frame in the camera frame [mm]."""
    focal_px: Float[Any, ""]
    """Focal length [px]."""
    principal_point_px: Float[Any, " 2"]
    """Image point of the optical axis [px], x first; the middle of an uncropped photo."""

    @classmethod
    def orbit(
        cls,
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        distance_mm: float,
        focal_px: float,
        principal_point_px: Float[np.ndarray, " 2"] | tuple[float, float],
        target_mm: Float[np.ndarray, " 3"] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> "Camera":
        """Place a camera on a sphere around a point of the head, upright.

        ``R = R_x(pitch) R_y(yaw)``, so that in the picture the head turns to its own left by the yaw, then nods down
        by the pitch.

        Args:
            yaw: Turn of the head to its own left [rad].
            pitch: Turn of the head down [rad].
            distance_mm: Depth of the target [mm], positive.
            focal_px: Focal length [px].
            principal_point_px: Where the target is seen [px], x first.
            target_mm: The point looked at, in the head frame [mm].

        Returns:
            The camera, in float64 on the host.

        Example:
            >>> import numpy as np
            >>> camera = Camera.orbit(yaw=np.pi / 2, distance_mm=500.0, focal_px=800.0, principal_point_px=(64.0, 64.0))
            >>> project(camera, np.array([[0.0, 0.0, 100.0]])).tolist()  # the nose points to the right of the picture
            [[224.0, 64.0]]
        """
        about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        rotation = about_x @ about_y
        translation = np.array([0.0, 0.0, distance_mm]) - AXIS_FLIP * (rotation @ np.asarray(target_mm, np.float64))
        return cls(rotation, translation, float(focal_px), np.asarray(principal_point_px, np.float64))

    @classmethod
    def look_at(
        cls,
        position_mm: Float[np.ndarray, " 3"] | tuple[float, float, float],
        target_mm: Float[np.ndarray, " 3"] | tuple[float, float, float],
        *,
        focal_px: float,
        principal_point_px: Float[np.ndarray, " 2"] | tuple[float, float],
        up: Float[np.ndarray, " 3"] | tuple[float, float, float] = (0.0, 1.0, 0.0),
    ) -> "Camera":
        """Place a camera somewhere, and let it look at a point.

        Args:
            position_mm: The camera's centre in the head frame [mm].
            target_mm: The point looked at, in the head frame [mm].
            focal_px: Focal length [px].
            principal_point_px: Where the target is seen [px], x first.
            up: What shall point up in the picture; not along the line of sight.

        Returns:
            The camera, in float64 on the host.

        Example:
            >>> import numpy as np
            >>> camera = Camera.look_at((0.0, 0.0, 500.0), (0.0, 0.0, 0.0), focal_px=1.0, principal_point_px=(0.0, 0.0))
            >>> camera.rotation.tolist()  # in front of the face
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        """
        position = np.asarray(position_mm, np.float64)
        backward = position - np.asarray(target_mm, np.float64)
        backward = backward / np.linalg.norm(backward)
        right = np.cross(np.asarray(up, np.float64), backward)
        right = right / np.linalg.norm(right)
        rotation = np.stack([right, np.cross(backward, right), backward]) + 0.0
        translation = -AXIS_FLIP * (rotation @ position)
        return cls(rotation, translation, float(focal_px), np.asarray(principal_point_px, np.float64))


def camera_from_head(rotation: Float[Any, "3 3"]) -> Float[Any, "3 3"]:
    """The rotation ``diag(1, -1, -1) R`` that takes head-frame directions to the camera frame.

    Args:
        rotation: R, as :class:`Camera` holds it.

    Returns:
        A proper rotation, of NumPy or JAX as R is.

    Example:
        >>> import numpy as np
        >>> camera_from_head(np.eye(3)).diagonal().tolist()
        [1.0, -1.0, -1.0]
    """
    return namespace(rotation).asarray(AXIS_FLIP[:, None], rotation.dtype) * rotation


def camera_points(camera: Camera, points: Float[Any, "n 3"]) -> Float[Any, "n 3"]:
    """Take points from the head frame to the camera frame; z is the depth.

    Args:
        camera: The camera.
        points: Points [n 3] in the head frame [mm].

    Returns:
        Points [n 3] in the camera frame [mm].

    Example:
        >>> import numpy as np
        >>> camera = Camera.orbit(distance_mm=500.0, focal_px=800.0, principal_point_px=(64.0, 64.0))
        >>> camera_points(camera, np.array([[0.0, 10.0, 100.0]])).tolist()
        [[0.0, -10.0, 400.0]]
    """
    return product("ij,nj->ni", camera_from_head(camera.rotation), points) + camera.translation[None]


def project(camera: Camera, points: Float[Any, "n 3"]) -> Float[Any, "n 2"]:
    """Project head-frame points into the image: ``p_px = f (x, y) / z + c``.

    Points at or behind the camera's centre have no image: look at their depths, ``z`` in the camera frame, where that
    can happen.

    Args:
        camera: The camera.
        points: Points [n 3] in the head frame [mm].

    Returns:
        Continuous pixel coordinates [n 2], x first.

    Example:
        >>> import numpy as np
        >>> camera = Camera(np.eye(3), np.array([0.0, 0.0, 500.0]), 1000.0, np.array([320.0, 240.0]))
        >>> project(camera, np.array([[50.0, 25.0, 0.0]])).tolist()  # towards the subject's left, and up
        [[420.0, 190.0]]
    """
    return project_camera_points(camera_points(camera, points), camera.focal_px, camera.principal_point_px)


def project_camera_points(
    points: Float[Any, "n 3"], focal_px: Float[Any, ""] | float, principal_point_px: Float[Any, " 2"]
) -> Float[Any, "n 2"]:
    """Image positions [px] of camera-frame points [mm]: ``f (x, y) / z + c``."""
    return focal_px * points[:, :2] / points[:, 2:] + principal_point_px[None]
