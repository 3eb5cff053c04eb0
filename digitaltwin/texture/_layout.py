"""Which point of the head each texel shows, and which texels a photo of the face may colour.

Depends on the head's topology alone, so it is made once and kept. Letters: v vertices, f faces, n texels that a photo
may colour, s edge of the texture, o points of the face oval.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry import SurfacePoints
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import BROWS, INTERIOR_PARTS, MESH_OVAL
from digitaltwin.io._store import digest, stored_arrays
from digitaltwin.render import rasterize
from digitaltwin.render._zbuffer import Fragments
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
    """The skin's texels. A pytree."""

    covered: Bool[Array, "s s"]
    """Texels on the skin or on the interior, which shares the texture; the others lie between the islands."""
    mouth: Bool[Array, "s s"]
    """Texels on the inside of the mouth."""
    sockets: Bool[Array, "s s"]
    """Texels on the lining of the eye sockets."""
    texel: Int[Array, " n"]
    """Index (row s + column) of each texel that a photo may colour."""
    face: Int[Array, " n"]
    """Face of the skin that the texel's centre lies on."""
    barycentric: Float[Array, "n 3"]
    """Where on that face: weights of its corners."""
    oval_mm: Float[Array, " n"]
    """How far inside the face oval the texel lies [mm], negative outside."""
    bare_mm: Float[Array, " n"]
    """How far inside that part of the oval which neither hair nor a hat covers and which ends above the brows [mm]."""
    coarse_oval_mm: Float[Array, "c c"]
    """``oval_mm`` over the whole coarse texture (:data:`COARSE`), minus infinity between the islands."""


def rasterize_uv(
    uv: Float[Array, "t 2"] | Float[np.ndarray, "t 2"], uv_faces: Int[Array, "f 3"] | Int[np.ndarray, "f 3"], size: int
) -> Fragments:
    """The face and the point of it under each texel's centre; row 0 is at v = 1.

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.2, 0.0], [0.0, 1.2]])
        >>> rasterize_uv(corners, np.array([[0, 1, 2]]), 2).face.tolist()
        [[0, -1], [0, 0]]
    """
    return _rasterize_texels(uv, uv_faces, size, scale=size, drawn=np.ones(len(uv), bool))


def _rasterize_texels(
    uv: Float[Array, "t 2"] | Float[np.ndarray, "t 2"],
    uv_faces: Int[Array, "f 3"] | Int[np.ndarray, "f 3"],
    size: int,
    *,
    scale: int,
    drawn: Bool[np.ndarray, " t"],
) -> Fragments:
    """The fragments of a texture of edge ``scale`` in the upper left corner of a picture of edge ``size``."""
    u, v = np.asarray(uv, np.float32).T
    # A face with a corner at depth 0 is left out.
    screen = np.stack([u * scale, (1 - v) * scale, drawn.astype(np.float32)], axis=1)
    return rasterize(jax.device_put(screen), jax.device_put(uv_faces), image_hw=(size, size))


def make_layout(head: HeadModel, *, size: int = 2048, reach_mm: float = REACH_MM) -> TextureLayout:
    """Find the point of the head under each texel; from disk if this was done before.

    Args:
        head: The model.
        size: Edge of the texture [texels], a power of two of at least 512.
        reach_mm: How far outside the face oval a texel may be coloured [mm]; infinity for the whole skin.

    Returns:
        The layout, which depends on the head's topology, its mean and its texture coordinates.

    Raises:
        InputError: The size is none of these.

    Example:
        >>> from digitaltwin.head import load_head
        >>> make_layout(load_head(), size=512).covered.shape
        (512, 512)
    """
    if size < SMALLEST or size & (size - 1):
        # Under the name it has where users give it.
        raise InputError(f"texture_size: {size} is not a power of two of at least {SMALLEST}; take 1024 or 2048.")
    inside = oval_distance(head)
    vertices, faces = np.asarray(head.mean), np.asarray(head.faces)
    landmarks = SurfacePoints(*(np.asarray(value) for value in head.landmarks)).interpolate(vertices, faces)
    # A fringe ends more sharply than a cheek.
    bare = np.minimum(inside, 2 * (landmarks[BROWS, 1].max() + BARE_FOREHEAD_MM - vertices[:, 1]))
    inside_mm = np.stack([inside, bare], axis=1).astype(np.float32)

    part, parts_uv_faces = np.asarray(head.parts_face_part), np.asarray(head.parts_uv_faces)
    mouth, sockets = (parts_uv_faces[part == head.part_names.index(name)] for name in INTERIOR_PARTS)
    uv = np.concatenate([head.parts_uv, head.uv])
    # The skin comes last: where islands overlap the last face wins.
    uv_faces = [mouth, sockets, np.asarray(head.uv_faces) + len(head.parts_uv)]
    made = functools.partial(_make, uv, uv_faces, faces, inside_mm, size, float(reach_mm))
    stored = stored_arrays("texture-layout", digest(uv, uv_faces, faces, inside_mm, size, float(reach_mm)), made)

    def mask(name: str) -> np.ndarray:
        return np.unpackbits(stored[name], count=size * size).astype(bool)

    covered, in_mouth, in_sockets = (
        jax.device_put(mask(n).reshape(size, size)) for n in ("covered", "mouth", "sockets")
    )
    texel, face = np.flatnonzero(mask("reached")).astype(np.int32), stored["face"].astype(np.int32)
    rest = ("barycentric", "oval_mm", "bare_mm", "coarse_oval_mm")
    points = (jax.device_put(array) for array in (texel, face, *(stored[name] for name in rest)))
    return TextureLayout(covered, in_mouth, in_sockets, *points)


def _make(
    uv: Float[np.ndarray, "t 2"],
    uv_faces: list[Int[np.ndarray, "_ 3"]],
    faces: Int[np.ndarray, "f 3"],
    inside_mm: Float[np.ndarray, "v 2"],
    size: int,
    reach_mm: float,
) -> dict[str, np.ndarray]:
    """The layout's arrays as they are stored: masks as bits, whose set ones say which texels the others are of."""
    all_faces = np.concatenate(uv_faces)
    fine = rasterize_uv(uv, all_faces, size)
    mouth_end = len(uv_faces[0])
    skin_start = mouth_end + len(uv_faces[1])
    # The coarse texture is drawn into a corner of a fine one, without the interior: that takes one program, not two.
    of_skin = np.zeros(len(uv), bool)
    of_skin[uv_faces[-1]] = True
    corner = _rasterize_texels(uv, all_faces, size, scale=COARSE, drawn=of_skin)

    def distances(face: np.ndarray, barycentric: np.ndarray) -> Float[np.ndarray, "n 2"]:
        return np.einsum("nk,nkd->nd", barycentric, inside_mm[faces[face]])

    of_texel = np.asarray(fine.face).reshape(-1)
    skin = np.flatnonzero(of_texel >= skin_start)
    face, barycentric = of_texel[skin] - skin_start, np.asarray(fine.barycentric).reshape(-1, 3)[skin]
    inside = distances(face, barycentric)
    within = inside[:, 0] > -reach_mm
    reached = np.zeros(size * size, bool)
    reached[skin[within]] = True

    coarse_face, coarse_barycentric = (np.asarray(a)[:COARSE, :COARSE] for a in (corner.face, corner.barycentric))
    hit = coarse_face >= 0
    coarse_mm = np.full((COARSE, COARSE), -np.inf, np.float32)
    coarse_mm[hit] = distances(coarse_face[hit] - skin_start, coarse_barycentric[hit])[:, 0]
    return {
        "covered": np.packbits(of_texel >= 0),
        "mouth": np.packbits((of_texel >= 0) & (of_texel < mouth_end)),
        "sockets": np.packbits((of_texel >= mouth_end) & (of_texel < skin_start)),
        "reached": np.packbits(reached),
        "face": face[within].astype(np.uint16 if len(faces) < 2**16 else np.int32),
        "barycentric": barycentric[within],
        "oval_mm": inside[within, 0],
        "bare_mm": inside[within, 1],
        "coarse_oval_mm": coarse_mm,
    }


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
