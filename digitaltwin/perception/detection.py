"""What is read off a photo: the largest face's mesh, landmarks and expression.

The stages are pure functions, which a script may combine, jit and vmap as it likes; :func:`detect_landmarks` drives
them from the host, where it can look again, closer or with the photo turned, if a first look finds nothing.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from digitaltwin.io.assets import asset_path
from digitaltwin.perception.detector import Detections, detect_candidates, region_of_detection, suppress
from digitaltwin.perception.face_mesh import FaceMesh, read_expression, read_mesh, region_of_mesh
from digitaltwin.perception.landmarks import landmarks_from_mesh
from digitaltwin.perception.network import Network, load_network
from digitaltwin.perception.region import Pyramid, Region, make_pyramid
from digitaltwin.types import InputError

MIN_PRESENCE = 0.5
"""Probability of a face, by the mesh network, below which a detection is discarded."""
MIN_FACE_PX = 48
"""Smaller faces (long side of the mesh's bounds) show too little to be worth a measurement."""
_MESH_PASSES = 2  # the second look has the region the network was trained on
_TILE_DEPTH = 2  # tiles of 1/2 and 1/4 of the long side
_CHUNK = 8  # regions looked at in one call


class Perception(NamedTuple):
    """The networks."""

    detector: Network
    face_mesh: Network
    expressions: Network


class FaceLandmarks(NamedTuple):
    """A face found in a photo."""

    mesh_px: Float[Array, "478 3"]
    """Points of the face mesh [px]; z away from the camera."""
    landmarks_px: Float[Array, "104 2"]
    """The landmarks of :mod:`digitaltwin.head.markup` [px]."""
    scores: Float[Array, "52"]
    """Expression in [0, 1], in the order of ``ARKIT_EXPRESSIONS``."""
    box: Float[Array, "4"]
    """Bounds of the mesh: left, top, right, bottom [px]."""
    confidence: float
    """Probability that this is a face."""
    face_count: int
    """Faces in the photo; this is the largest."""


@functools.cache
def load_perception() -> Perception:
    """Load the shipped networks (once in a process)."""
    return Perception(*[load_network(asset_path(f"networks/{name}.npz")) for name in _NETWORK_FILES])


_NETWORK_FILES = ("face_detector", "face_mesh", "expressions")


def detect_faces(perception: Perception, pyramid: Pyramid, regions: Region) -> Detections:
    """Look for faces in several regions of an image.

    Args:
        perception: The networks.
        pyramid: The image.
        regions: A batch of them (a leading axis on every field).

    Returns:
        ``MAX_FACES`` faces by falling score; rows that hold none have score 0.
    """
    candidates = jax.vmap(detect_candidates, (None, None, 0))(perception.detector, pyramid, regions)
    return suppress(jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), candidates))


def read_face(perception: Perception, pyramid: Pyramid, region: Region) -> tuple[FaceMesh, Float[Array, "52"]]:
    """Read the mesh and the expression of the face in a region.

    The region is recomputed from the mesh and looked at once more: a detector's box is rough.
    """

    def look(region, _):
        mesh = read_mesh(perception.face_mesh, pyramid, region)
        return region_of_mesh(mesh.points), mesh

    _, meshes = lax.scan(look, region, length=_MESH_PASSES)
    mesh = jax.tree.map(lambda field: field[-1], meshes)
    return mesh, read_expression(perception.expressions, mesh.points)


def detect_landmarks(
    image: Float[np.ndarray | Array, "h w 3"],
    perception: Perception | None = None,
    *,
    min_face_px: float = MIN_FACE_PX,
) -> FaceLandmarks:
    """Find the largest face in a photo and read its landmarks and expression.

    The whole photo is searched first, then the photo in quarter turns, then overlapping tiles, for small faces, upright
    and turned; the first search that finds a face ends it.

    Args:
        image: sRGB in [0, 1].
        perception: The networks; None for those shipped.
        min_face_px: Smaller faces are refused.

    Raises:
        InputError: There is no face, or none large enough.

    Example:
        >>> from digitaltwin.io.images import read_image
        >>> face = detect_landmarks(read_image(asset_path("portrait.png")).pixels)
        >>> face.landmarks_px.shape, face.face_count
        ((104, 2), 1)
    """
    perception = perception or load_perception()
    pyramid = _make_pyramid(jnp.asarray(image, jnp.float32))
    height, width = image.shape[:2]
    for regions in _searches(height, width):
        faces = _faces_in(perception, pyramid, regions)
        if faces:
            break
    else:
        raise InputError(
            f"image: no face found in {width} x {height} pixels; take a photo that shows the whole face from the "
            "front, sharp, evenly lit and not covered, or crop the photo to it."
        )
    mesh, scores = max(faces, key=lambda face: _extent(face[0]))
    if _extent(mesh) < min_face_px:
        raise InputError(
            f"image: the face is {_extent(mesh):.0f} px large and at least {min_face_px:.0f} px are needed; take a "
            "closer photo, or use the original if this copy was reduced."
        )
    points = jnp.asarray(mesh.points)
    return FaceLandmarks(
        mesh_px=points,
        landmarks_px=landmarks_from_mesh(points[:, :2]),
        scores=jnp.asarray(scores),
        box=jnp.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)]),
        confidence=float(mesh.presence),
        face_count=len(faces),
    )


_make_pyramid = jax.jit(make_pyramid)
_detect_faces = jax.jit(detect_faces)
_suppress = jax.jit(suppress)


@jax.jit
def _read_detection(perception: Perception, pyramid: Pyramid, box: Float[Array, "4"], keypoints: Float[Array, "6 2"]):
    return read_face(perception, pyramid, region_of_detection(box, keypoints))


def _faces_in(perception: Perception, pyramid: Pyramid, regions: Region) -> list[tuple[FaceMesh, np.ndarray]]:
    """The faces in several regions that the mesh network confirms, each once: (mesh, scores) in host memory."""
    count = len(regions.side)
    if count > 1:  # whole chunks, so that two sizes get compiled in all; looking twice at the last does no harm
        rows = np.minimum(np.arange(-(-count // _CHUNK) * _CHUNK), count - 1).reshape(-1, _CHUNK)
        chunks = [_detect_faces(perception, pyramid, Region(*[field[row] for field in regions])) for row in rows]
        detections = _suppress(jax.tree.map(lambda *fields: jnp.concatenate(fields), *chunks))
    else:
        detections = _detect_faces(perception, pyramid, regions)
    boxes, keypoints, scores = jax.tree.map(np.asarray, detections)
    faces = [_read_detection(perception, pyramid, boxes[i], keypoints[i]) for i in np.flatnonzero(scores)]
    return [(mesh, scores) for mesh, scores in jax.tree.map(np.asarray, faces) if mesh.presence >= MIN_PRESENCE]


def _extent(mesh: FaceMesh) -> float:
    """Long side of the mesh's bounds [px]."""
    return float(np.max(np.ptp(mesh.points[:, :2], axis=0)))


def _searches(height: int, width: int) -> Iterator[Region]:
    """Batches of regions to look at, from the likely to the far-fetched."""
    long_side = max(height, width)
    whole = np.array([[width / 2, height / 2, long_side]])
    tiles = np.concatenate([_tiles(height, width, long_side / 2**depth) for depth in range(1, _TILE_DEPTH + 1)])
    for squares in (whole, tiles):
        for quarter_turns in ((0,), (1, 3, 2)):
            x, y, side, turn = np.array(
                [(*square, turn) for turn in quarter_turns for square in squares], dtype=np.float32
            ).T
            fields = (np.stack([x, y], axis=1), side, turn * np.float32(np.pi / 2))
            yield Region(*[jnp.asarray(field) for field in fields])


def _tiles(height: int, width: int, side: float) -> Float[np.ndarray, "r 3"]:
    """Squares (x and y of the centre, side) that cover the image, neighbours sharing at least half of themselves."""

    def centres(extent):
        if extent <= side:
            return [extent / 2]
        return np.linspace(side / 2, extent - side / 2, 1 + int(np.ceil(2 * (extent - side) / side)))

    return np.array([(x, y, side) for y in centres(height) for x in centres(width)])
