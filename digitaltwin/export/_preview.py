"""One picture that shows what came out: the photo with the fitted mesh over it, then the avatar from three sides."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.render import Surface, portrait_lighting, project, render_mesh, srgb_from_linear
from digitaltwin.render._window import linear_window

BACKDROP = (0.86, 0.86, 0.87)
"""sRGB."""
_CLAY = (0.55, 0.68, 0.80)
_VEIL = 0.6  # how much of the photo the clay hides
_DISTANCE_MM = 900.0  # of the camera from the head; about what portraits are taken from
_YAWS = (0.0, np.deg2rad(38.0), np.deg2rad(85.0))


def preview(
    image: Float[np.ndarray, "h w 3"],
    posed: tuple[Surface, ...],
    unposed: tuple[Surface, ...],
    *,
    focal_px: float | Float[Array, ""],
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"],
    size: int = 640,
) -> Float[np.ndarray, "rows columns 3"]:
    """Photo with the mesh over it, then front, three-quarter and side view, side by side.

    Args:
        image: the photo, sRGB.
        posed: the avatar as fitted to the photo, camera frame [mm].
        unposed: the avatar to look at, head frame [mm], with the same faces.
        focal_px: focal length [px] of the photo.
        principal_point_px: (c_x, c_y) [px] of the photo.
        size: edge of each of the four squares.

    Returns:
        sRGB picture ``[size, 4 size, 3]``.
    """
    overlay = _overlay(image, posed, float(focal_px), np.asarray(principal_point_px), size)
    return np.concatenate([overlay, *(turned(unposed, yaw, size) for yaw in _YAWS)], axis=1)


def turned(surfaces: tuple[Surface, ...], yaw: float, size: int) -> Float[np.ndarray, "n n 3"]:
    """Picture of an avatar that fills the square, its head turned to its own left by an angle.

    Args:
        surfaces: head frame [mm].
        yaw: angle about the vertical [rad].
        size: edge of the picture.
    """
    points = np.concatenate([np.asarray(surface.vertices) for surface in surfaces])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    cosine, sine = np.cos(yaw), np.sin(yaw)
    camera_from_head = np.diag([1.0, -1, -1]) @ [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]

    def placed(vertices: Float[Array, "v 3"]) -> Float[Array, "v 3"]:
        # On the host: a matrix product on an accelerator would round to a millimetre.
        return jnp.asarray((np.asarray(vertices) - middle) @ camera_from_head.T + [0, 0, _DISTANCE_MM], jnp.float32)

    # The same scale at every angle, from the head's height.
    focal = 0.88 * size * _DISTANCE_MM / np.ptp(points[:, 1])
    picture = render_mesh(
        tuple(surface._replace(vertices=placed(surface.vertices)) for surface in surfaces),
        jnp.float32(focal),
        jnp.full(2, size / 2),
        height=size,
        width=size,
        lighting=portrait_lighting(),
        background=jnp.array(BACKDROP),
    )
    return np.asarray(picture.colour)


def _overlay(
    image: Float[np.ndarray, "h w 3"],
    posed: tuple[Surface, ...],
    focal_px: float,
    principal_point_px: Float[np.ndarray, " 2"],
    size: int,
) -> Float[np.ndarray, "n n 3"]:
    """The photo around the head under a veil of clay."""
    height, width = image.shape[:2]
    points = jnp.concatenate([surface.vertices for surface in posed])
    screen = np.asarray(project(points, focal_px, jnp.asarray(principal_point_px, jnp.float32)))[:, :2]
    low, high = screen.min(axis=0), screen.max(axis=0)
    edge = float(min(1.5 * (high - low).max(), max(height, width)))
    # As much of the photo as fits: the window keeps within it along the sides that are long enough.
    corner = (low + high - edge) / 2
    room = np.array([width, height]) - edge
    corner = np.where(room > 0, np.clip(corner, 0, np.maximum(room, 0)), room / 2)
    scale = size / edge

    photo = np.asarray(srgb_from_linear(jnp.asarray(linear_window(image, corner, edge, size))))
    x = corner + (np.arange(size) + 0.5)[:, None] / scale
    on_photo = (x >= 0) & (x <= [width, height])
    photo = np.where((on_photo[:, 1][:, None] & on_photo[:, 0][None])[..., None], photo, BACKDROP)
    clay = jnp.array(_CLAY)[None, None]
    picture = render_mesh(
        tuple(surface._replace(texture=clay) for surface in posed),
        jnp.float32(focal_px * scale),
        jnp.asarray((principal_point_px - corner) * scale, jnp.float32),
        height=size,
        width=size,
        lighting=portrait_lighting(),
        background=jnp.array(BACKDROP),
    )
    veil = _VEIL * np.asarray(picture.alpha)[..., None]
    return photo * (1 - veil) + np.asarray(picture.colour) * veil
