"""One camera, light and backdrop for all pictures of heads that people look at.

Letters: v vertices, w views, n rows and columns of a picture.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.geometry import Camera
from digitaltwin.geometry._camera import camera_points
from digitaltwin.head import HeadModel, express, parts_vertices
from digitaltwin.render._head import HEAD_GLOSS, head_meshes
from digitaltwin.render._shading import portrait_lighting, render_views
from digitaltwin.types import Mesh

BACKDROP_SRGB = (0.86, 0.86, 0.87)
"""Light grey, slightly cool: skin of every tone stands out from it."""
PORTRAIT_DISTANCE_MM = 900.0
"""Distance of the camera from the head, about that of portraits."""
FACE_MIDDLE_MM = (0.0, -30.0, 0.0)
"""About the middle of a face, in the head frame."""


def portrait_camera(
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    width_mm: float,
    size_px: int,
    target_mm: Float[np.ndarray, " 3"] | tuple[float, float, float] = FACE_MIDDLE_MM,
) -> Camera:
    """Place the camera that portraits are taken with.

    Args:
        yaw: Turn of the head to its own left [rad].
        pitch: Turn of the head down [rad].
        width_mm: Width of what the picture shows at the target [mm].
        size_px: Edge of the square picture [px].
        target_mm: The point in the picture's middle, head frame [mm].

    Returns:
        The camera, in float64 on the host.

    Example:
        >>> portrait_camera(width_mm=300.0, size_px=600).focal_px
        1800.0
    """
    return Camera.orbit(
        yaw=yaw,
        pitch=pitch,
        distance_mm=PORTRAIT_DISTANCE_MM,
        focal_px=size_px * PORTRAIT_DISTANCE_MM / width_mm,
        principal_point_px=(size_px / 2, size_px / 2),
        target_mm=target_mm,
    )


def fitting_camera(points: Float[np.ndarray, "v 3"], *, yaw: float = 0.0, size_px: int) -> Camera:
    """Place the portrait camera so that points fill the picture; from every side at the same scale.

    Args:
        points: Points [v 3] in the head frame [mm].
        yaw: Turn of the head to its own left [rad].
        size_px: Edge of the square picture [px].

    Returns:
        The camera, in float64 on the host.

    Example:
        >>> fitting_camera(np.array([[0.0, -88.0, 0.0], [0.0, 88.0, 0.0]]), size_px=200).focal_px
        900.0
    """
    low, high = np.min(points, axis=0).astype(np.float64), np.max(points, axis=0).astype(np.float64)
    # From the height, which no turn about the vertical changes.
    return portrait_camera(yaw=yaw, width_mm=(high[1] - low[1]) / 0.88, size_px=size_px, target_mm=(low + high) / 2)


def render_portraits(
    meshes: Sequence[Mesh],
    cameras: Sequence[Camera],
    *,
    size_px: int,
    gloss: Sequence[float] = HEAD_GLOSS,
    untextured: Sequence[bool] | None = None,
    clay_srgb: tuple[float, float, float] = (0.55, 0.68, 0.80),
) -> tuple[Float[np.ndarray, "w n n 3"], Float[np.ndarray, "w n n"]]:
    """Render meshes from some cameras in the portrait light before the portrait backdrop, in one program.

    Args:
        meshes: Textured meshes in the head frame [mm], see :func:`digitaltwin.render.head_meshes`.
        cameras: Cameras, one for each view.
        size_px: Edge of the pictures [px].
        gloss: Strength of each mesh's highlights.
        untextured: Which views show the meshes as if made of clay; none if left out.
        clay_srgb: Colour of clay.

    Returns:
        Pictures [w n n 3] in sRGB over the backdrop, and the share [w n n] of each pixel that the meshes cover.

    Example:
        >>> corners = np.array([[-50.0, -50.0, 0.0], [50.0, -50.0, 0.0], [0.0, 50.0, 0.0]], np.float32)
        >>> face, grey = np.array([[0, 1, 2]], np.int32), np.full((1, 1, 3), 0.5, np.float32)
        >>> mesh = Mesh(corners, face, corners[:, :2], face, grey)
        >>> camera = fitting_camera(corners, size_px=32)
        >>> pictures, alpha = render_portraits([mesh], [camera], size_px=32, gloss=[0.04])
        >>> pictures.shape, float(alpha[0, 20, 16])
        ((1, 32, 32, 3), 1.0)
    """
    flags = [False] * len(cameras) if untextured is None else untextured
    hosted = [Camera(*(np.asarray(value, np.float64) for value in camera)) for camera in cameras]
    cache: dict[int, Array] = {}  # the meshes of a head share their vertices

    def placed(vertices: Array | np.ndarray) -> Array:
        if id(vertices) not in cache:
            # On the host: a matrix product on an accelerator would round to a millimetre.
            points = np.asarray(vertices, np.float64)
            cache[id(vertices)] = jnp.asarray(
                np.stack([camera_points(camera, points) for camera in hosted]).astype(np.float32)
            )
        return cache[id(vertices)]

    picture = render_views(
        tuple(meshes),
        tuple(placed(mesh.vertices) for mesh in meshes),
        np.array([camera.focal_px for camera in hosted], np.float32),
        np.array([camera.principal_point_px for camera in hosted], np.float32),
        image_hw=(size_px, size_px),
        lighting=portrait_lighting(),
        background=np.array(BACKDROP_SRGB, np.float32),
        gloss=np.array(gloss, np.float32),
        plain=np.array(clay_srgb, np.float32),
        is_plain=np.array(flags),
    )
    return np.asarray(picture.colour), np.asarray(picture.alpha)


def render_head(
    head: HeadModel,
    camera: Camera,
    neutral: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    expression: Float[Array, " e"] | Float[np.ndarray, " e"],
    *,
    texture: Float[Array, "rows columns 3"] | Float[np.ndarray, "rows columns 3"],
    eye_texture: Float[Array, "eye_rows eye_columns 3"] | Float[np.ndarray, "eye_rows eye_columns 3"],
    size_px: int,
) -> Float[np.ndarray, "n n 3"]:
    """Render a head of the model with an expression, see :func:`render_portraits`.

    Args:
        head: The model.
        camera: See :func:`portrait_camera`.
        neutral: Neutral skin [v 3] [mm].
        expression: Expression coefficients, in [0, 1].
        texture: Texture of skin and interior, sRGB.
        eye_texture: Texture of both eyes, sRGB.
        size_px: Edge of the picture [px].

    Returns:
        The picture [n n 3], sRGB.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head, grey = load_head(), np.full((1, 1, 3), 0.5, np.float32)
        >>> camera, rest = portrait_camera(width_mm=300.0, size_px=48), np.zeros(len(head.expressions), np.float32)
        >>> render_head(head, camera, head.mean, rest, texture=grey, eye_texture=grey, size_px=48).shape
        (48, 48, 3)
    """
    shape, weights = jnp.asarray(neutral), jnp.asarray(expression)
    skin, parts = np.asarray(express(head, shape, weights)), np.asarray(parts_vertices(head, shape, weights))
    meshes = head_meshes(head, skin, parts, texture=texture, eye_texture=eye_texture)
    return render_portraits(meshes, [camera], size_px=size_px)[0][0]


def picture_grid(pictures: Sequence[Float[np.ndarray, "h w 3"]], columns: int) -> Float[np.ndarray, "_ _ 3"]:
    """Put pictures of one size side by side, row by row.

    Args:
        pictures: As many as fill the rows.
        columns: Pictures in a row.

    Returns:
        One picture.

    Example:
        >>> picture_grid([np.zeros((2, 3, 3))] * 4, 2).shape
        (4, 6, 3)
    """
    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows)
