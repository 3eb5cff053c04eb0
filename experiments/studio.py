"""Pictures of heads of the model: a camera, the portrait light, a plain background; and sheets of them."""

import jax
import jax.numpy as jnp
import numpy as np

from digitaltwin.geometry import Camera, camera_points, matrix_from_rotation_vector
from digitaltwin.head import HeadModel, express, parts_vertices
from digitaltwin.render import head_surfaces, portrait_lighting, project, render_mesh
from digitaltwin.texture import eye_texture

DISTANCE_MM = 900.0
BACKGROUND = 0.86


class Studio:
    """A camera at a fixed distance in front of a head of the model."""

    def __init__(
        self,
        head: HeadModel,
        skin: np.ndarray,
        *,
        yaw: float,
        width_mm: float,
        size: int,
        eyes: jax.Array | None = None,
    ):
        self.head, self.size = head, size
        self.rotation = np.asarray(matrix_from_rotation_vector(jnp.array([0.0, yaw, 0.0])))
        self.focal_px = size * DISTANCE_MM / width_mm
        self.textures = {
            "texture": jnp.asarray(skin),
            "eye_texture": eye_texture(jax.random.key(0)) if eyes is None else eyes,
        }

    def pose(self) -> Camera:
        """The camera; it looks at the face's middle."""
        flip = np.array([1.0, -1.0, -1.0])
        translation = flip * (self.rotation @ [0.0, 30.0, 0.0]) + [0.0, 0.0, DISTANCE_MM]
        return Camera(
            jnp.asarray(self.rotation, jnp.float32),
            jnp.asarray(translation, jnp.float32),
            jnp.float32(self.focal_px),
            jnp.full(2, self.size / 2),
        )

    def camera(self, points: jax.Array) -> jax.Array:
        """Camera frame of head-frame points."""
        return camera_points(self.pose(), jnp.asarray(points, jnp.float32))

    def pixels(self, points: jax.Array) -> np.ndarray:
        """Image positions [k 2]."""
        return np.asarray(project(self.camera(points), self.focal_px, jnp.full(2, self.size / 2)))[:, :2]

    def shoot(self, neutral: jax.Array, expression: jax.Array) -> np.ndarray:
        """Picture of a person with an expression."""
        skin = self.camera(express(self.head, neutral, expression))
        parts = self.camera(parts_vertices(self.head, neutral, expression))
        picture = render_mesh(
            head_surfaces(self.head, skin, parts, **self.textures),
            self.focal_px,
            jnp.full(2, self.size / 2),
            height=self.size,
            width=self.size,
            lighting=portrait_lighting(),
            background=jnp.full(3, BACKGROUND),
        )
        return np.asarray(picture.colour)


def grid(shots: list[np.ndarray], columns: int) -> np.ndarray:
    """One picture of pictures of one size, row by row."""
    rows = [np.concatenate(shots[i : i + columns], axis=1) for i in range(0, len(shots), columns)]
    return np.concatenate(rows)
