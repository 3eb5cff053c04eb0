"""What is read off a photo: the largest face's mesh, landmarks and expression.

The stages are pure functions, which a script may combine, jit and vmap as it likes; :func:`detect_landmarks` drives
them from the host, where it can look again, closer or with the photo turned, if a first look finds nothing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.io.assets import asset_path
from digitaltwin.perception import detector, face_mesh
from digitaltwin.perception.detector import Detections, detect_candidates, region_of_detection, suppress
from digitaltwin.perception.face_mesh import FaceMesh, read_expression, read_mesh, region_of_mesh
from digitaltwin.perception.landmarks import landmarks_from_mesh
from digitaltwin.perception.network import Network, load_network
from digitaltwin.perception.region import Pyramid, Region, make_pyramid, sample_region
from digitaltwin.types import InputError

MIN_PRESENCE = 0.5
"""Probability of a face, by the mesh network, below which a detection is discarded."""
MIN_FACE_PX = 48.0
"""Smaller faces (long side of the mesh's bounds) show too little to be worth a measurement."""
_TILE_PARTS = (2, 4)  # tiles of 1/2 and 1/4 of the long side


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
    return _detect(perception.detector, _sample_for_detector(pyramid, regions), regions)


def read_face(perception: Perception, pyramid: Pyramid, region: Region) -> tuple[FaceMesh, Float[Array, "52"]]:
    """Read the mesh and the expression of the face in a region.

    The region is recomputed from the mesh and looked at once more: a detector's box is rough.
    """
    _, region = _read(perception.face_mesh, _sample_for_mesh(pyramid, region), region)
    mesh, _ = _read(perception.face_mesh, _sample_for_mesh(pyramid, region), region)
    return mesh, _read_expression(perception.expressions, mesh.points)


# Compiled apart, because the sampling depends on the size of the pyramid and the networks, which take the longest to
# compile, do not. Inside a caller's jit or vmap these are ordinary functions.
_make_pyramid = jax.jit(make_pyramid)
_sample_for_mesh = jax.jit(functools.partial(sample_region, size=face_mesh.INPUT_SIZE))
_sample_for_detector = jax.jit(
    jax.vmap(functools.partial(sample_region, size=detector.INPUT_SIZE, black_outside=True), (None, 0))
)
_region_of_detection = jax.jit(region_of_detection)
_read_expression = jax.jit(read_expression)
_suppress = jax.jit(suppress)


@jax.jit
def _detect(network: Network, pixels: Float[Array, "r 128 128 3"], regions: Region) -> Detections:
    candidates = jax.vmap(detect_candidates, (None, 0, 0))(network, pixels, regions)
    count, per_region = candidates.scores.shape
    candidates = jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), candidates)
    return suppress(candidates, jnp.repeat(jnp.arange(count), per_region))


@jax.jit
def _read(network: Network, pixels: Float[Array, "256 256 3"], region: Region) -> tuple[FaceMesh, Region]:
    mesh = read_mesh(network, pixels, region)
    return mesh, region_of_mesh(mesh.points)


def detect_landmarks(
    image: Float[np.ndarray | Array, "h w 3"],
    *,
    perception: Perception | None = None,
    min_face_px: float = MIN_FACE_PX,
) -> FaceLandmarks:
    """Find the largest face in a photo and read its landmarks and expression.

    The whole photo is searched first, in four quarter turns; if it shows no face, overlapping tiles are, where small
    ones are larger. So in a photo that has large faces, small ones are neither found nor counted.

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
    long_side = float(max(height, width))
    faces = _faces_in(perception, pyramid, [_quarter_turns((width / 2, height / 2, long_side))])
    if not faces:
        tiles = [tile for parts in _TILE_PARTS for tile in _tiles(height, width, long_side / parts)]
        faces = _faces_in(perception, pyramid, [_quarter_turns(tile) for tile in tiles])
    if not faces:
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


def _faces_in(perception: Perception, pyramid: Pyramid, searches: list[Region]) -> list[tuple[FaceMesh, np.ndarray]]:
    """The faces in several regions that the mesh network confirms, each once: (mesh, scores) in host memory."""
    found = [detect_faces(perception, pyramid, regions) for regions in searches]
    detections = jax.tree.map(lambda *fields: np.concatenate(fields), *found)
    if len(found) > 1:
        detections = _suppress(detections, np.arange(len(detections.scores)))
    boxes, keypoints, scores = jax.tree.map(np.asarray, detections)
    faces = [
        read_face(perception, pyramid, _region_of_detection(boxes[i], keypoints[i])) for i in np.flatnonzero(scores)
    ]
    return [(mesh, scores) for mesh, scores in jax.tree.map(np.asarray, faces) if mesh.presence >= MIN_PRESENCE]


def _extent(mesh: FaceMesh) -> float:
    """Long side of the mesh's bounds [px]."""
    return float(np.max(np.ptp(mesh.points[:, :2], axis=0)))


def _quarter_turns(square: tuple[float, float, float]) -> Region:
    """The four ways of looking at a square (x and y of its centre, side).

    All four always: at a face that lies on its side the detector fires too, only less sure and with wrong key points.
    """
    x, y, side = square
    angles = np.arange(4, dtype=np.float32) * np.float32(np.pi / 2)
    rows = np.broadcast_to(np.array([x, y, side], np.float32), (4, 3))
    return Region(jnp.asarray(rows[:, :2]), jnp.asarray(rows[:, 2]), jnp.asarray(angles))


def _tiles(height: int, width: int, side: float) -> list[tuple[float, float, float]]:
    """Squares (x and y of the centre, side) that cover the image, neighbours sharing at least half of themselves."""

    def centres(extent):
        if extent <= side:
            return [extent / 2]
        return np.linspace(side / 2, extent - side / 2, 1 + int(np.ceil(2 * (extent - side) / side)))

    return [(x, y, side) for y in centres(height) for x in centres(width)]
