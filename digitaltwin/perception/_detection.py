"""Detection in a photo: the largest face's mesh, landmarks and expression.

The stages are pure functions, which a script may combine, jit and vmap as it likes; :func:`detect_landmarks` drives
them from the host, where it can look again, closer or with the photo turned, if a first look finds nothing.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.io._programs import LIGHT, UNOPTIMIZED, stored_program
from digitaltwin.io.assets import asset_path
from digitaltwin.perception import _detector as detector
from digitaltwin.perception import _face_mesh as face_mesh
from digitaltwin.perception._bias import remove_bias
from digitaltwin.perception._detector import Detections, detect_candidates, region_of_detection, suppress
from digitaltwin.perception._face_mesh import FaceMesh, read_expression, read_mesh, region_of_mesh
from digitaltwin.perception._network import Network, load_network
from digitaltwin.perception._region import Pyramid, Region, make_pyramid, sample_region
from digitaltwin.types import InputError

MIN_PRESENCE = 0.5
"""Probability of a face, by the mesh network, below which a detection is discarded."""
CERTAIN_PRESENCE = 0.99999
"""Above, there is no need to look closer. Meshes put on a face the wrong way round reach 0.99997."""
MIN_FACE_PX = 48.0
"""Smaller faces (long side of the mesh's bounds) show too little to be worth a measurement."""
_TILE_SIDES = (1.0, 0.45, 0.25)  # of the long side; ever closer
_TILE_OVERLAP = 0.3  # of a tile's side: a face that no larger tile shows lies whole in one of these
_BATCH = 4  # regions given to the detector at once
# Of a pyramid of the largest photo that digitaltwin.io.read_image gives, 2560 px square: one length for all, so that
# nothing compiles for a photo of another size.
_PYRAMID_LENGTH = 35 << 18


class Perception(NamedTuple):
    """The networks that read a face; made once by :func:`load_perception`."""

    detector: Network
    """Face detector: boxes and key points."""
    face_mesh: Network
    """The 478 points of the face mesh."""
    expressions: Network
    """The coefficients of the 52 ARKit expressions."""


class FaceLandmarks(NamedTuple):
    """A face found in a photo."""

    mesh_px: Float[Array, "478 3"]
    """Points of the face mesh, the network's bias removed [px]; z away from the camera."""
    landmarks_px: Float[Array, "104 2"]
    """The landmarks of :mod:`digitaltwin.head.markup`, likewise [px]."""
    scores: Float[Array, "52"]
    """Expression in [0, 1], in the order of ``ARKIT_EXPRESSIONS``."""
    box: Float[Array, "4"]
    """Bounds of the mesh: left, top, right, bottom [px]."""
    confidence: float
    """Probability that this is a face."""
    face_count: int
    """Faces in the photo; this is the largest. Those under about 1/14 of the long side may be missing."""


_View = tuple[float, float, float, int]  # of a square of the image: x and y of its centre, side [px], quarter turns


class _Sighting(NamedTuple):
    """A face as seen in one turn, its mesh read once; in host memory."""

    mesh: FaceMesh
    region: Region
    """Where to look again."""
    score: float
    """The detector's."""
    turn: int
    """Turn of the view [quarter turns]."""


@functools.cache
def load_perception() -> Perception:
    """Load the shipped networks (once in a process).

    Returns:
        The networks.

    Example:
        >>> load_perception() is load_perception()
        True
    """
    return Perception(*[load_network(asset_path(f"networks/{name}.npz")) for name in _NETWORK_FILES])


_NETWORK_FILES = ("face_detector", "face_mesh", "expressions")


@functools.partial(stored_program, options=LIGHT)
def detect_faces(perception: Perception, pyramid: Pyramid, regions: Region) -> Detections:
    """Look for faces in several regions of an image.

    Args:
        perception: The networks.
        pyramid: The image.
        regions: A batch of them (a leading axis on every field).

    Returns:
        For each region its ``MAX_FACES`` faces by falling score; rows that hold none have score 0.
    """
    sample = functools.partial(sample_region, size=detector.INPUT_SIZE, black_outside=True)
    pixels = jax.vmap(sample, (None, 0))(pyramid, regions)
    candidates = jax.vmap(detect_candidates, (None, 0, 0))(perception.detector, pixels, regions)
    return jax.vmap(suppress)(candidates)


def read_face(perception: Perception, pyramid: Pyramid, region: Region) -> tuple[FaceMesh, Float[Array, "52"]]:
    """Read the mesh and the expression of the face in a region.

    The region is recomputed from the mesh and looked at once more: a detector's box is rough.

    Args:
        perception: The networks.
        pyramid: The image.
        region: Where the face is.

    Returns:
        The mesh, and the scores of the 52 ARKit expressions in [0, 1].
    """
    _, region = _read_mesh(perception.face_mesh, pyramid, region)
    mesh, _ = _read_mesh(perception.face_mesh, pyramid, region)
    return mesh, _read_expression(perception.expressions, mesh.points)


@stored_program
def _read_mesh(network: Network, pyramid: Pyramid, region: Region) -> tuple[FaceMesh, Region]:
    """The mesh of the face in a region, and the region to look at it again; a program of its own, read_face has two."""
    mesh = read_mesh(network, sample_region(pyramid, region, face_mesh.INPUT_SIZE), region)
    return mesh, region_of_mesh(mesh.points)


_read_expression = stored_program(read_expression, options=UNOPTIMIZED)


def detect_landmarks(
    image: Float[np.ndarray | Array, "h w 3"],
    *,
    perception: Perception | None = None,
    min_face_px: float = MIN_FACE_PX,
) -> FaceLandmarks:
    """Find the largest face in a photo and read its landmarks and expression.

    The whole photo is searched first, then ever smaller tiles, until a face is certain; then tiles of the next size,
    for others beside it. The detector also fires at a face that lies on its side, sometimes surer than at the upright
    one, but its key points are then wrong. So every search is done in four quarter turns, and of a face's sightings the
    one counts on which the mesh network sees a face most surely. Its points are moved to where the head model has them,
    by the network's mean error on faces that look the same way (:mod:`digitaltwin.perception._bias`).

    Args:
        image: Pixels, sRGB in [0, 1].
        perception: The networks; None for those shipped.
        min_face_px: Smaller faces are refused.

    Returns:
        The face with its landmarks, expression coefficients and confidence.

    Raises:
        InputError: There is no face, or none large enough.

    Example:
        >>> from digitaltwin.io import read_image
        >>> face = detect_landmarks(read_image(asset_path("portrait.png")).pixels)
        >>> face.landmarks_px.shape, face.face_count
        ((104, 2), 1)
    """
    mesh, scores, count = detect_face_mesh(image, perception=perception, min_face_px=min_face_px)
    points, landmarks = remove_bias(np.asarray(mesh.points))
    arrays = points, landmarks, scores, _bounds(mesh)
    points, landmarks, scores, box = jax.device_put(arrays)
    return FaceLandmarks(points, landmarks, scores, box, confidence=float(mesh.presence), face_count=count)


def detect_face_mesh(
    image: Float[np.ndarray | Array, "h w 3"],
    *,
    perception: Perception | None = None,
    min_face_px: float = MIN_FACE_PX,
) -> tuple[FaceMesh, Float[np.ndarray, "52"], int]:
    """Find the largest face as :func:`detect_landmarks` does, its mesh as the network has it.

    Args:
        image: Pixels, sRGB in [0, 1].
        perception: The networks; None for those shipped.
        min_face_px: Smaller faces are refused.

    Returns:
        The mesh on the host, the expression's scores, and the number of faces.

    Raises:
        InputError: There is no face, or none large enough.
    """
    perception = perception or load_perception()
    pyramid = make_pyramid(np.asarray(image, np.float32), min_length=_PYRAMID_LENGTH)
    height, width = image.shape[:2]
    faces = [read_face(perception, pyramid, face.region) for face in _find_faces(perception, pyramid, height, width)]
    faces = [(mesh, scores) for mesh, scores in jax.tree.map(np.asarray, faces) if mesh.presence >= MIN_PRESENCE]
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
    return mesh, scores, len(faces)


def _find_faces(perception: Perception, pyramid: Pyramid, height: int, width: int) -> list[_Sighting]:
    """The best sighting of each face that is certain; if none is, of those the whole image shows.

    Seen closely enough, coffee has a face (0.9994): what only a tile shows has to be certain.
    """
    faces, certain, doubtful = [], [], None
    for share in _TILE_SIDES:
        tiles = _tiles(height, width, share * max(height, width))
        # Beside a certain face, others are looked for only the same way up: that is cheap.
        turns = [certain[0].turn] if certain else range(4)
        last = bool(certain)
        faces = _look(perception, pyramid, [(*tile, turn) for tile in tiles for turn in turns], faces)
        certain = [face for face in faces if _is_certain(face)]
        doubtful = faces if doubtful is None else doubtful
        if last:
            break
    return certain or doubtful or []


def _look(perception: Perception, pyramid: Pyramid, views: list[_View], known: list[_Sighting]) -> list[_Sighting]:
    """The best sighting of each face, of those known and those in several views of the image."""
    # Batches of one length, so that one compilation serves all; the last view may be repeated.
    batches = np.array(views + views[-1:] * (-len(views) % _BATCH), np.float32).reshape(-1, _BATCH, 4)
    found = [detect_faces(perception, pyramid, _regions(batch)) for batch in batches]
    boxes, keypoints, scores = jax.tree.map(lambda *fields: np.concatenate(fields)[: len(views)], *found)
    sightings = list(known)
    for i in sorted(zip(*np.nonzero(scores)), key=lambda i: scores[i], reverse=True):
        # Where a face is certain, what the other turns and tiles show of it need not be read.
        if not any(_is_certain(face) and _is_same(_bounds(face.mesh), boxes[i]) for face in sightings):
            region = region_of_detection(boxes[i], keypoints[i])
            mesh, region = jax.device_get(_read_mesh(perception.face_mesh, pyramid, region))
            sightings.append(_Sighting(mesh, region, float(scores[i]), views[i[0]][3]))
    faces = []
    for sighting in sorted(sightings, key=lambda it: (it.mesh.presence, it.score), reverse=True):
        if not any(_is_same(_bounds(face.mesh), _bounds(sighting.mesh)) for face in faces):
            faces.append(sighting)
    return [face for face in faces if face.mesh.presence >= MIN_PRESENCE]


def _is_certain(face: _Sighting) -> bool:
    return bool(face.mesh.presence >= CERTAIN_PRESENCE)


def _is_same(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> bool:
    """Whether two boxes share half of the smaller: a mesh put on the wrong way round may cover a part of the face."""
    sides = np.stack([a[2:] - a[:2], b[2:] - b[:2], np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])])
    first, second, shared = np.prod(np.maximum(sides, 0), axis=1)
    return bool(shared > min(first, second) / 2)


def _bounds(mesh: FaceMesh) -> Float[np.ndarray, "4"]:
    """Left, top, right, bottom [px]."""
    return np.concatenate([mesh.points[:, :2].min(axis=0), mesh.points[:, :2].max(axis=0)])


def _extent(mesh: FaceMesh) -> float:
    """Long side of the mesh's bounds [px]."""
    return float(np.max(np.ptp(mesh.points[:, :2], axis=0)))


def _regions(views: Float[np.ndarray, "r 4"]) -> Region:
    """The views' regions: x and y of the centre, side, quarter turns."""
    return Region(views[:, :2], views[:, 2], views[:, 3] * np.float32(np.pi / 2))


def _tiles(height: int, width: int, side: float) -> list[tuple[float, float, float]]:
    """Squares (x and y of the centre, side) that cover the image; neighbours share ``_TILE_OVERLAP`` or more."""

    def centres(extent):
        if extent <= side:
            return [extent / 2]
        steps = np.ceil((extent - side) / ((1 - _TILE_OVERLAP) * side) - 1e-6)
        return np.linspace(side / 2, extent - side / 2, 1 + int(steps))

    return [(x, y, side) for y in centres(height) for x in centres(width)]
