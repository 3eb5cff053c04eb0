"""Which point of the head each texel shows, and which texels a photo of the face may colour.

Depends on the head's topology alone, so it is made once and kept. Letters: v vertices, f faces, n texels that a photo
may colour, s edge of the texture, o points of the face oval.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head.markup import BROWS, INTERIOR_PARTS, MESH_OVAL
from digitaltwin.render import Fragments, interpolate_fragments, rasterize
from digitaltwin.types import InputError

REACH_MM = 14.0
"""How far beyond the face oval a photo may colour the skin, if it looks like skin there."""
BARE_FOREHEAD_MM = 14.0
"""How far above the brows the forehead is taken to be bare; what is seen higher up has to look like skin."""
SMALLEST = 512
"""Edge of the smallest texture [texels]: masks are widened and feathered at this size."""
COARSE = 128
"""Edge of the coarse texture on which colours are compared [texels]."""


class TextureLayout(NamedTuple):
    """The skin's texels."""

    covered: Bool[Array, "s s"]
    """Texels on the skin or on the interior, which shares the texture; the others lie between the islands."""
    mouth: Bool[Array, "s s"]
    """Texels on the inside of the mouth."""
    sockets: Bool[Array, "s s"]
    """Texels on the lining of the eye sockets."""
    texel: Int[Array, " n"]
    """Index (row s + column) of each texel that a photo may colour ..."""
    face: Int[Array, " n"]
    """... the face its centre lies on ..."""
    barycentric: Float[Array, "n 3"]
    """... where on that face ..."""
    oval_mm: Float[Array, " n"]
    """... how far inside the face oval, negative outside ..."""
    bare_mm: Float[Array, " n"]
    """... and how far inside the part of it that neither hair nor a hat covers, which ends above the brows."""
    coarse_oval_mm: Float[Array, "c c"]
    """The same over the whole, coarse texture (:data:`COARSE`), minus infinity between the islands."""


def rasterize_uv(uv: Float[Array, "t 2"], uv_faces: Int[Array, "f 3"], size: int) -> Fragments:
    """The face and the point of it under each texel's centre; row 0 is at v = 1.

    Example:
        >>> corners = jnp.array([[0.0, 0.0], [1.2, 0.0], [0.0, 1.2]])
        >>> rasterize_uv(corners, jnp.array([[0, 1, 2]]), 2).face.tolist()
        [[0, -1], [0, 0]]
    """
    screen = jnp.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size, jnp.ones(len(uv))], axis=1)
    return rasterize(screen, uv_faces, image_hw=(size, size))


def make_layout(head: HeadModel, *, size: int = 2048, reach_mm: float = REACH_MM) -> TextureLayout:
    """Lay the texels of a head out.

    Args:
        head: the model.
        size: edge of the texture [texels], a power of two of at least 512.
        reach_mm: how far outside the face oval a texel may be coloured; infinity for the whole skin.

    Raises:
        InputError: the size is none of these.
    """
    if size < SMALLEST or size & (size - 1):
        # Under the name it has where users give it.
        raise InputError(f"texture_size: {size} is not a power of two of at least {SMALLEST}; take 1024 or 2048.")
    inside = oval_distance(head)
    height = np.asarray(head.mean)[:, 1]
    brows = np.asarray(landmark_points(head, head.mean))[BROWS, 1].max()
    bare = np.minimum(inside, 2 * (brows + BARE_FOREHEAD_MM - height))  # a fringe ends more sharply than a cheek
    inside_mm = jnp.asarray(np.stack([inside, bare], axis=1))
    fine, coarse = (rasterize_uv(head.uv, head.uv_faces, edge) for edge in (size, COARSE))
    distance = np.asarray(interpolate_fragments(fine, inside_mm, head.faces))
    coarse_mm = interpolate_fragments(coarse, inside_mm, head.faces)[..., 0]
    on_skin = np.asarray(fine.face) >= 0
    mouth, sockets = (_covered_by_part(head, name, size) & ~on_skin for name in INTERIOR_PARTS)
    texel = np.flatnonzero(on_skin & (distance[..., 0] > -reach_mm))
    return TextureLayout(
        covered=jnp.asarray(on_skin | mouth | sockets),
        mouth=jnp.asarray(mouth),
        sockets=jnp.asarray(sockets),
        texel=jnp.asarray(texel.astype(np.int32)),
        face=fine.face.reshape(-1)[texel],
        barycentric=fine.barycentric.reshape(-1, 3)[texel],
        oval_mm=jnp.asarray(distance[..., 0].reshape(-1)[texel]),
        bare_mm=jnp.asarray(distance[..., 1].reshape(-1)[texel]),
        coarse_oval_mm=jnp.where(coarse.face >= 0, coarse_mm, -jnp.inf),
    )


def _covered_by_part(head: HeadModel, name: str, size: int) -> Bool[np.ndarray, "s s"]:
    faces = np.asarray(head.parts_face_part) == head.part_names.index(name)
    return np.asarray(rasterize_uv(head.parts_uv, head.parts_uv_faces[faces], size).face) >= 0


def oval_distance(head: HeadModel) -> Float[np.ndarray, " v"]:
    """Distance [mm] of each vertex of the mean head from the face oval; positive inside, negative outside.

    Inside is decided in the texture, where the oval is a polygon, and the distance taken in space, so that it means
    the same everywhere and knows no seams.
    """
    oval = np.array(MESH_OVAL)
    corners = np.asarray(head.faces)[np.asarray(head.mesh_points.faces)[oval]]
    uv_corners = np.asarray(head.uv_faces)[np.asarray(head.mesh_points.faces)[oval]]
    weights = np.asarray(head.mesh_points.barycentric, np.float64)[oval][..., None]
    mean, uv = np.asarray(head.mean, np.float64), np.asarray(head.uv, np.float64)
    line = (mean[corners] * weights).sum(axis=1)
    polygon = (uv[uv_corners] * weights).sum(axis=1)

    vertex_uv = np.zeros((len(mean), 2))
    vertex_uv[np.asarray(head.faces)] = uv[np.asarray(head.uv_faces)]
    distance = _distance_to_loop(mean, line)
    return np.where(_in_polygon(vertex_uv, polygon), distance, -distance).astype(np.float32)


def _distance_to_loop(points: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Distance of points [v 3] from a closed polyline [o 3]."""
    start, along = loop, np.roll(loop, -1, axis=0) - loop
    offset = points[:, None] - start
    # Neighbours of the oval may fall on one point of a coarse mesh.
    share = np.clip((offset * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0, 1)
    return np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1)


def _in_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether points [v 2] lie in a polygon [o 2]: an odd number of its edges crosses the ray to the left."""
    p, q = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    spans = (p[:, 1] <= y) != (q[:, 1] <= y)
    rise = np.where(q[:, 1] == p[:, 1], 1, q[:, 1] - p[:, 1])
    crossing = p[:, 0] + (y - p[:, 1]) * (q[:, 0] - p[:, 0]) / rise
    return (spans & (crossing <= x)).sum(axis=1) % 2 == 1
