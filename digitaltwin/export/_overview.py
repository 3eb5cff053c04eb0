"""One picture that shows what came out: the photo with the fitted mesh over it, then the avatar from three sides."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from digitaltwin.geometry import Camera
from digitaltwin.geometry._camera import camera_points, project_camera_points
from digitaltwin.render._colour import srgb_from_linear_on_host
from digitaltwin.render._portrait import BACKDROP_SRGB, fitting_camera, render_portraits
from digitaltwin.render._window import linear_window
from digitaltwin.types import Mesh

_VEIL = 0.6  # how much of the photo the clay hides
_YAWS = (0.0, np.deg2rad(38.0), np.deg2rad(85.0))


def preview(
    image: Float[np.ndarray, "h w 3"], meshes: Sequence[Mesh], camera: Camera, *, size: int = 640
) -> Float[np.ndarray, "rows columns 3"]:
    """Show the photo with the mesh over it, then front, three-quarter and side view, side by side.

    Args:
        image: The photo, sRGB.
        meshes: The avatar, head frame [mm], see :func:`digitaltwin.render.head_meshes`.
        camera: The photo's, as fitted.
        size: Edge of each of the four squares [px].

    Returns:
        An sRGB picture ``[size, 4 size, 3]``.

    Example:
        >>> from digitaltwin.head import load_head
        >>> from digitaltwin.render import head_meshes
        >>> head, grey = load_head(), np.full((1, 1, 3), 0.5, np.float32)
        >>> meshes = head_meshes(head, head.mean, head.parts_mean, texture=grey, eye_texture=grey)
        >>> camera = Camera(np.eye(3), np.array([0.0, 0.0, 600.0]), 90.0, np.array([32.0, 32.0]))
        >>> preview(np.zeros((64, 64, 3), np.float32), meshes, camera, size=48).shape
        (48, 192, 3)
    """
    camera = Camera(*(np.asarray(value, np.float64) for value in camera))
    points = np.concatenate([np.asarray(mesh.vertices, np.float64) for mesh in meshes])
    corner, edge = _window(image.shape[:2], points, camera)
    scale = size / edge
    inset = camera._replace(
        focal_px=camera.focal_px * scale, principal_point_px=(camera.principal_point_px - corner) * scale
    )
    cameras = [inset, *(fitting_camera(points, yaw=float(yaw), size_px=size) for yaw in _YAWS)]
    pictures, alpha = render_portraits(
        meshes, cameras, size_px=size, untextured=[number == 0 for number in range(len(cameras))]
    )
    photo = srgb_from_linear_on_host(linear_window(image, corner, edge, size))
    x = corner + (np.arange(size) + 0.5)[:, None] / scale
    on_photo = (x >= 0) & (x <= image.shape[1::-1])
    photo = np.where(
        (on_photo[:, 1][:, None] & on_photo[:, 0][None])[..., None], photo, np.array(BACKDROP_SRGB, np.float32)
    )
    veil = np.float32(_VEIL) * alpha[0, ..., None]
    return np.concatenate([photo * (1 - veil) + pictures[0] * veil, *pictures[1:]], axis=1)


def _window(
    image_hw: tuple[int, ...], points: Float[np.ndarray, "v 3"], camera: Camera
) -> tuple[Float[np.ndarray, " 2"], float]:
    """Upper left corner and edge [px] of the square of the photo around a head."""
    size = np.array(image_hw[::-1])
    placed = camera_points(camera, points)
    screen = project_camera_points(placed, camera.focal_px, camera.principal_point_px)
    low, high = screen.min(axis=0), screen.max(axis=0)
    edge = float(min(1.5 * (high - low).max(), size.max()))
    # As much of the photo as fits: the window keeps within it along the sides that are long enough.
    corner = (low + high - edge) / 2
    room = size - edge
    return np.where(room > 0, np.clip(corner, 0, np.maximum(room, 0)), room / 2), edge
