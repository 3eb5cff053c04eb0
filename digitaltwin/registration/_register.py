"""A scan of a head in the head's topology: similarity, rigid and non-rigid ICP, one after the other.

Letters: v skin vertices, f faces of the skin, n vertices of the scan, m its faces.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int, Shaped
from scipy.spatial import KDTree

from digitaltwin.geometry import (
    IcpConfig,
    Similarity,
    SurfaceTree,
    icp,
    procrustes_alignment,
    smoothstep,
)
from digitaltwin.geometry._topology import boundary_vertices
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import ALIGNMENT, LANDMARK_COUNT
from digitaltwin.registration._identity import IdentityConfig, fit_identity
from digitaltwin.registration._nonrigid import Landmarks, NonRigidConfig, lay_over
from digitaltwin.types import InputError, check_ranges

UNITS_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "dm": 100.0, "m": 1000.0}
"""Units that scans come in."""
FACE_MM = 95.0
"""Distance from the nose tip up to which a scan is a face's; the paper's."""
MOST_UNLIKE = 0.25
"""Of a person's landmarks from the mean head's, see :func:`unlikeness`; people are 0.05 to 0.1."""
_SURE = 1.3  # ratio of sizes up to which a scan is of a unit: faces differ by far less, units by far more
_HAIR_MM = 25.0  # how far hair is expected beyond the scalp, everywhere; and in places three times that
_THIN_MM = 2.0  # what stands no further off than this is no hair
_INNER_LIPS = np.array([[97, 98, 99], [103, 102, 101]])
_CLOSED_MM = 2.5  # gap of the lips up to which a mouth is closed
_FACES_ASKED = 20_000  # on which side they are
_MIXED = 0.2  # share of faces on the wrong side beyond which a scan is not oriented


@dataclass(frozen=True)
class RegistrationConfig:
    """How a scan is registered."""

    scalp: float = 0.0
    """What the scan counts where hair usually grows, in [0, 1]: 1 for the bald, and those in a swimming cap."""
    icp: IcpConfig = field(default_factory=lambda: IcpConfig(iterations=30, trimmed=0.3, tolerance_mm=1e-2))
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    nonrigid: NonRigidConfig = field(default_factory=NonRigidConfig)

    def __post_init__(self) -> None:
        check_ranges(self, ("scalp", 0.0 <= self.scalp <= 1.0, "lie in [0, 1]"))


class Registration(NamedTuple):
    """A scan in the head's topology."""

    vertices: Float[np.ndarray, "v 3"]
    """The skin, head frame [mm]."""
    model: Float[np.ndarray, "v 3"]
    """The head of the model nearest to it, which it was bent from [mm]."""
    identity: Float[np.ndarray, " i"]
    """That head's coefficients [mm]."""
    placement: Similarity
    """From the head frame to the scan's own frame and unit."""
    unit: str
    """Of the scan, as guessed from its landmarks: a key of UNITS_MM, or "unknown"."""
    turned: bool
    """Whether the scan's faces pointed inwards."""
    scan: SurfaceTree
    """The scan in the head frame [mm], its faces pointing outwards."""
    landmarks: Float[np.ndarray, "104 3"]
    """The scan's, head frame [mm]; NaN where not known."""


class ScanDistances(NamedTuple):
    """How far a scan is from what it was registered to."""

    distances_mm: Float[np.ndarray, " n"]
    """From every vertex of the scan to the skin; NaN for those of no face."""
    judged: Bool[np.ndarray, " n"]
    """Which of them are of the face and have a counterpart: within 95 mm of the nose tip, neither hair nor in the
    openings of eyes, nostrils and neck, where the skin has a hole or the scan a lid; each position once."""
    landmarks_mm: Float[np.ndarray, "104"]
    """From the scan's landmarks to the skin's; NaN where not known."""


def register_scan(
    head: HeadModel,
    vertices: Shaped[np.ndarray, "n 3"],
    faces: Shaped[np.ndarray, "m 3"],
    landmarks: Float[np.ndarray, "k 3"],
    *,
    config: RegistrationConfig | None = None,
) -> Registration:
    """Lay the head's skin over a scan.

    Landmarks bring the mean head near and tell the scan's unit; trimmed ICP puts it in place; then the head of the
    model that is nearest is found (:mod:`digitaltwin.registration._identity`) and bent the rest of the way
    (:mod:`digitaltwin.registration._nonrigid`). Where the scan has nothing (often the back of the head), and where its
    hair is, the bent head goes on smoothly.

    Args:
        head: The model.
        vertices: The scan's, in any frame and unit.
        faces: Its triangles; holes, and vertices repeated along seams, do not matter.
        landmarks: The seven of :data:`digitaltwin.head.markup.ALIGNMENT` in this order, or all 104 with NaN for those
            not known. :func:`digitaltwin.registration.find_landmarks` finds them.
        config: Its numbers.

    Returns:
        The skin, and where it stands.

    Raises:
        InputError: The landmarks or the mesh cannot be used, or its faces point this way and that.
    """
    config = RegistrationConfig() if config is None else config
    known = _all_landmarks(landmarks)
    rows = _landmark_rows(head)
    mean, skin = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    finite = np.isfinite(known).all(axis=1)
    if finite.sum() < 4:
        raise InputError(f"landmarks: only {finite.sum()} are known; give at least four.")
    rough = procrustes_alignment((rows @ mean)[finite], known[finite], with_scale=True)
    unlike = unlikeness((rows @ mean)[finite], rough.inverse().apply(known[finite]))
    if unlike > MOST_UNLIKE:
        raise InputError(
            f"landmarks: are not a face's (off by {100 * unlike:.0f} % of its size); give the seven in the order of "
            "digitaltwin.head.markup.ALIGNMENT, or all 104 in theirs; left and right are the subject's."
        )
    unit, scale = guess_unit(rough.scale)
    rough = _with_scale((rows @ mean)[finite], known[finite], rough, scale)

    surface = SurfaceTree(rough.inverse().apply(np.asarray(vertices, np.float64)), faces, name="scan")
    turned = _points_inwards(mean, skin, surface)
    if turned:
        surface = SurfaceTree(surface.vertices, surface.faces[:, ::-1], name="scan")
    weights = _beside_hair(head, config.scalp)
    template = SurfaceTree(mean, skin, name="head")
    used = weights > 0.0
    still = Similarity.identity()
    placed = icp(mean[used], template.vertex_normals[used], surface, still, config=config.icp)
    marks = Landmarks(rows, rough.inverse().apply(known))
    fitted = fit_identity(head, surface, placed.placement, weights=weights, landmarks=marks, config=config.identity)
    # From here on in the head's own frame, which the fit has found.
    surface = SurfaceTree(fitted.placement.inverse().apply(surface.vertices), surface.faces, name="scan")
    marks = Landmarks(rows, fitted.placement.inverse().apply(marks.positions))
    touching = _touching_lips(head, fitted.neutral) if _is_closed(marks.positions) else None
    weights = weights * _under_hair(head, fitted.neutral, surface, config.scalp)
    laid = lay_over(
        fitted.neutral, skin, surface, weights=weights, landmarks=marks, touching=touching, config=config.nonrigid
    )
    return Registration(
        vertices=laid,
        model=fitted.neutral,
        identity=fitted.identity,
        placement=fitted.placement.then(rough),
        unit=unit,
        turned=turned,
        scan=surface,
        landmarks=marks.positions,
    )


def scan_distances(head: HeadModel, registration: Registration) -> ScanDistances:
    """Distances from a scan to the skin laid over it.

    Args:
        head: The model.
        registration: Of the scan.

    Returns:
        For all its vertices, and which of them tell something.
    """
    scan, faces = registration.scan, np.asarray(head.faces)
    skin = SurfaceTree(registration.vertices, faces, name="skin")
    positions, closest = skin.closest(scan.vertices)
    rows = _landmark_rows(head)
    own = rows @ registration.vertices
    left_out = np.asarray(head.regions.scalp) | boundary_vertices(faces, len(registration.vertices))
    tip = own[ALIGNMENT[4]]
    lost = scan.vertex_areas == 0.0
    judged = ~np.any(left_out[skin.faces[closest.faces]], axis=1) & ~lost
    judged &= np.linalg.norm(scan.vertices - tip, axis=1) <= FACE_MM
    once = np.zeros(len(judged), bool)  # of a position that the file repeats
    once[np.unique(np.where(lost, -1, scan.places), return_index=True)[1]] = True
    return ScanDistances(
        np.where(lost, np.nan, np.linalg.norm(scan.vertices - positions, axis=1)),
        judged & once,
        np.linalg.norm(registration.landmarks - own, axis=1),
    )


def unlikeness(expected: Float[np.ndarray, "k 3"], found: Float[np.ndarray, "k 3"]) -> float:
    """How unlike landmarks are, once aligned: their root mean square distance from the expected ones, in their size."""
    size = np.sqrt(np.mean(np.sum((expected - expected.mean(axis=0)) ** 2, axis=1)))
    return float(np.sqrt(np.mean(np.sum((found - expected) ** 2, axis=1))) / size)


def guess_unit(units_per_mm: float) -> tuple[str, float]:
    """The unit of a scan on which a mean face would be so large.

    Args:
        units_per_mm: Size of the scan's face over the mean head's in millimetres.

    Returns:
        Name of the unit, a key of UNITS_MM, and how many there are to a millimetre; "unknown", and what was given,
        where no unit makes it a human face.

    Example:
        >>> guess_unit(0.00093)
        ('m', 0.001)
    """
    name = min(UNITS_MM, key=lambda unit: abs(np.log(units_per_mm * UNITS_MM[unit])))
    ratio = units_per_mm * UNITS_MM[name]
    if not 1.0 / _SURE < ratio < _SURE:
        return "unknown", units_per_mm
    return name, 1.0 / UNITS_MM[name]


def _beside_hair(head: HeadModel, scalp: float) -> Float[np.ndarray, " v"]:
    """What the scan counts at each vertex: hair hangs over, so the scalp fades in."""
    return scalp + (1.0 - scalp) * np.asarray(smoothstep(_from_scalp(head), 0.0, _HAIR_MM))


def _under_hair(
    head: HeadModel, neutral: Float[np.ndarray, "v 3"], surface: SurfaceTree, scalp: float
) -> Float[np.ndarray, " v"]:
    """0 where the scan stands off the nearest head of the model, towards the scalp: sideburns, locks; else 1."""
    skin = SurfaceTree(neutral, np.asarray(head.faces), name="head")
    closest, _ = surface.closest(neutral)
    outside = np.sum(skin.vertex_normals * (closest - neutral), axis=1)
    near = 1.0 - smoothstep(_from_scalp(head), 0.0, 3.0 * _HAIR_MM)
    hair = jnp.sqrt(near) * smoothstep(jnp.asarray(outside), _THIN_MM, 2.0 * _THIN_MM)
    return np.asarray(1.0 - (1.0 - scalp) * hair, np.float64)


def _from_scalp(head: HeadModel) -> Float[Array, " v"]:
    """Distance from where hair usually grows [mm]."""
    mean, where = np.asarray(head.mean, np.float64), np.asarray(head.regions.scalp)
    return jnp.asarray(KDTree(mean[where]).query(mean)[0])


def _is_closed(landmarks: Float[np.ndarray, "104 3"]) -> bool:
    """Whether the lips are known to touch."""
    upper, lower = _INNER_LIPS
    gap = np.linalg.norm(landmarks[upper] - landmarks[lower], axis=1)
    return bool(np.any(np.isfinite(gap)) and np.nanmax(gap) < _CLOSED_MM)


def _touching_lips(head: HeadModel, neutral: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, "t 2"]:
    """Pairs of vertices on lips that face one another across the slit."""
    lips = np.flatnonzero(np.asarray(head.regions.lips))
    pairs = lips[KDTree(neutral[lips]).query_pairs(_CLOSED_MM, output_type="ndarray")]
    normals = SurfaceTree(neutral, np.asarray(head.faces), name="head").vertex_normals
    facing = np.sum(normals[pairs[:, 0]] * normals[pairs[:, 1]], axis=1)
    return pairs[facing < 0.0]


def _all_landmarks(landmarks: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "104 3"]:
    given = np.asarray(landmarks, np.float64)
    if given.shape == (len(ALIGNMENT), 3):
        known = np.full((LANDMARK_COUNT, 3), np.nan)
        known[ALIGNMENT] = given
        return known
    if given.shape != (LANDMARK_COUNT, 3):
        raise InputError(f"landmarks: have shape {given.shape}; give ({len(ALIGNMENT)}, 3) or ({LANDMARK_COUNT}, 3).")
    return given


def _landmark_rows(head: HeadModel) -> sp.csr_array:
    return head.landmarks.matrix(np.asarray(head.faces), len(head.mean))


def _with_scale(points: np.ndarray, targets: np.ndarray, rough: Similarity, scale: float) -> Similarity:
    """The same rotation, another size, about the landmarks' middle."""
    return Similarity(scale, rough.rotation, targets.mean(axis=0) - scale * rough.rotation @ points.mean(axis=0))


def _points_inwards(mean: np.ndarray, faces: np.ndarray, surface: SurfaceTree) -> bool:
    """Whether the scan's faces all point the wrong way, told by the mean head near it."""
    template = SurfaceTree(mean, faces, name="head")
    some = np.linspace(0, len(surface.faces) - 1, min(_FACES_ASKED, len(surface.faces))).astype(int)
    middle = surface.vertices[surface.faces[some]].mean(axis=1)
    positions, closest = template.closest(middle)
    near = np.linalg.norm(positions - middle, axis=1) < 10.0
    facing = np.sum(template.normals[closest.faces] * surface.normals[some], axis=1)
    near &= np.abs(facing) > 0.5  # what stands across tells nothing
    if not near.any():
        raise InputError("scan: nothing of it lies near its landmarks; check them.")
    wrong = float(np.average(facing[near] < 0.0, weights=surface.areas[some][near]))
    if _MIXED < wrong < 1.0 - _MIXED:
        raise InputError(
            f"scan: {100 * wrong:.0f} % of its faces point inwards, the others outwards; orient them alike (MeshLab: "
            '"Re-Orient all faces coherently"), or remove the inner one of two walls.'
        )
    return wrong >= 1.0 - _MIXED
