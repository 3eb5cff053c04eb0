"""A scan of a head in the head's topology: similarity, rigid and non-rigid ICP, one after the other.

Letters: v skin vertices, f faces of the skin, n vertices of the scan, m its faces.
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.spatial import KDTree

from digitaltwin.geometry import Similarity, SurfacePoints, SurfaceTree, icp, procrustes_alignment
from digitaltwin.geometry._smoothstep import smoothstep
from digitaltwin.geometry._topology import boundary_vertices
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import ALIGNMENT, LANDMARK_COUNT
from digitaltwin.registration._config import RegistrationConfig
from digitaltwin.registration._identity import fit_identity
from digitaltwin.registration._nonrigid import nonrigid_icp
from digitaltwin.types import InputError

UNITS_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "dm": 100.0, "m": 1000.0}
"""Units that scans come in."""
FACE_MM = 95.0
"""Distance from the nose tip up to which a scan is a face's; the paper's."""
MAX_PROCRUSTES_RESIDUAL = 0.25
"""Of a face's landmarks from the mean head's, see :func:`procrustes_residual`; people have 0.05 to 0.1."""
_SURE = 1.3  # ratio of sizes up to which a scan is of a unit: faces differ by far less, units by far more
_HAIR_MM = 25.0  # how far hair is expected beyond the scalp, everywhere; and in places three times that
_THIN_MM = 2.0  # what stands no further off than this is no hair
_INNER_LIPS = np.array([[97, 98, 99], [103, 102, 101]])
_CLOSED_MM = 2.5  # gap of the lips up to which a mouth is closed
_FACES_ASKED = 20_000  # on which side they are
_MIXED = 0.2  # share of faces on the wrong side beyond which a scan is not oriented


class Registration(NamedTuple):
    """A scan in the head's topology."""

    vertices: Float[np.ndarray, "v 3"]
    """The skin, head frame [mm]."""
    model: Float[np.ndarray, "v 3"]
    """The head of the model nearest to the scan, from which the skin was deformed [mm]."""
    identity: Float[np.ndarray, " i"]
    """That head's identity coefficients [mm]."""
    scan_from_head: Similarity
    """From the head frame to the scan's own frame and unit."""
    unit: str
    """The scan's unit, as inferred from its landmarks: a key of UNITS_MM, or "unknown"."""
    faces_flipped: bool
    """Whether the scan's faces pointed inwards."""
    scan: SurfaceTree
    """The scan in the head frame [mm], its faces pointing outwards."""
    landmarks: Float[np.ndarray, "104 3"]
    """The scan's landmarks, head frame [mm]; NaN where not known."""

    @property
    def placement(self) -> Similarity:
        """The former name of :attr:`scan_from_head`."""
        warnings.warn("Registration.placement is scan_from_head now", DeprecationWarning, stacklevel=2)
        return self.scan_from_head

    @property
    def turned(self) -> bool:
        """The former name of :attr:`faces_flipped`."""
        warnings.warn("Registration.turned is faces_flipped now", DeprecationWarning, stacklevel=2)
        return self.faces_flipped


class ScanDistances(NamedTuple):
    """How far a scan is from the skin that was registered to it."""

    distances_mm: Float[np.ndarray, " n"]
    """From every vertex of the scan to the skin; NaN for those of no face."""
    valid: Bool[np.ndarray, " n"]
    """Which of them belong to the face and have a corresponding point: within 95 mm of the nose tip, neither hair nor
    in the openings of eyes, nostrils and neck, where the skin has a hole or the scan a lid; each position once."""
    landmarks_mm: Float[np.ndarray, "104"]
    """From the scan's landmarks to the skin's; NaN where not known."""

    @property
    def judged(self) -> Bool[np.ndarray, " n"]:
        """The former name of :attr:`valid`."""
        warnings.warn("ScanDistances.judged is valid now", DeprecationWarning, stacklevel=2)
        return self.valid


def register_scan(
    head: HeadModel,
    vertices: Shaped[np.ndarray, "n 3"],
    faces: Shaped[np.ndarray, "m 3"],
    landmarks: Float[np.ndarray, "k 3"],
    *,
    config: RegistrationConfig | None = None,
) -> Registration:
    """Register a scan: bring the head's skin onto it, so that it gets the head's topology.

    Landmarks bring the mean head near and tell the scan's unit; trimmed ICP puts it in place; then the head of the
    model that is nearest is found, by identity coefficients and pose, and non-rigid ICP deforms it the rest of the way.
    Where the scan has nothing (often the back of the head), and where its hair is, the deformed head goes on smoothly.

    Args:
        head: The head model.
        vertices: The scan's vertices [n 3], in any frame and unit.
        faces: Its triangles [m 3]; holes, and vertices repeated along seams, do not matter.
        landmarks: The seven of :data:`digitaltwin.head.markup.ALIGNMENT` in this order, or all 104 with NaN for those
            not known, in the scan's frame and unit. :func:`digitaltwin.registration.find_landmarks` finds them.
        config: The configuration of all steps.

    Returns:
        The skin, and its pose.

    Raises:
        InputError: The landmarks or the mesh cannot be used, or its faces point this way and that.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import landmark_points, load_head
        >>> from digitaltwin.registration import IdentityConfig, NonRigidConfig, RegistrationConfig, Round
        >>> head = load_head()
        >>> landmarks = 0.1 * np.asarray(landmark_points(head, head.mean))
        >>> quick = NonRigidConfig(rounds=(Round(stiffness_mm=9.0, reach_mm=9.0, iterations=1),))
        >>> config = RegistrationConfig(identity=IdentityConfig(iterations=2), nonrigid=quick)
        >>> vertices, faces = 0.1 * np.asarray(head.mean), np.asarray(head.faces)
        >>> registration = register_scan(head, vertices, faces, landmarks, config=config)
        >>> registration.unit, registration.vertices.shape == head.mean.shape
        ('cm', True)

    Source: Amberg, Romdhani, Vetter, Optimal step nonrigid ICP algorithms for surface registration, CVPR 2007, for the
    last step.
    """
    config = RegistrationConfig() if config is None else config
    known = _all_landmarks(landmarks)
    mean, skin = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    on_skin = SurfacePoints(*(np.asarray(part) for part in head.landmarks))
    finite = np.isfinite(known).all(axis=1)
    if finite.sum() < 4:
        raise InputError(f"landmarks: only {finite.sum()} are known; give at least four.")
    expected = on_skin.interpolate(mean, skin)
    rough = procrustes_alignment(expected[finite], known[finite], with_scale=True)
    residual = procrustes_residual(expected[finite], rough.inverse().apply(known[finite]))
    if residual > MAX_PROCRUSTES_RESIDUAL:
        raise InputError(
            f"landmarks: are not a face's (off by {100 * residual:.0f} % of its size); give the seven in the order of "
            "digitaltwin.head.markup.ALIGNMENT, or all 104 in theirs; left and right are the subject's."
        )
    unit, scale = infer_unit(rough.scale)
    rough = _with_scale(expected[finite], known[finite], rough, scale)

    # One tree of the scan serves all steps, whichever frame they work in; likewise one of the mean head.
    scan = SurfaceTree(rough.inverse().apply(np.asarray(vertices, np.float64)), faces, name="scan")
    template = SurfaceTree(mean, skin, name="head")
    inwards = _points_inwards(template, scan)
    scan = scan.flipped() if inwards else scan
    weights = _beside_hair(head, config.scalp)
    used = weights > 0.0
    aligned = icp(mean[used], template.vertex_normals[used], scan, Similarity.identity(), config=config.icp)
    fitted = fit_identity(
        head,
        scan,
        aligned.similarity,
        weights=weights,
        landmarks=(on_skin, rough.inverse().apply(known)),
        template=template,
        config=config.identity,
    )
    # From here on in the head's own frame, which the fit has found.
    head_from_scan = fitted.surface_from_head.inverse()
    scan, known = scan.moved(head_from_scan), head_from_scan.apply(rough.inverse().apply(known))
    person = template.deformed(fitted.neutral)
    deformed = nonrigid_icp(
        fitted.neutral,
        skin,
        scan,
        weights=weights * _under_hair(head, person, scan, config.scalp),
        landmarks=(on_skin, known),
        contact_pairs=_lip_contacts(head, person) if _is_closed(known) else None,
        config=config.nonrigid,
    )
    return Registration(
        vertices=deformed,
        model=fitted.neutral,
        identity=fitted.identity,
        scan_from_head=fitted.surface_from_head.then(rough),
        unit=unit,
        faces_flipped=inwards,
        scan=scan,
        landmarks=known,
    )


def scan_distances(head: HeadModel, registration: Registration) -> ScanDistances:
    """Measure how far a scan is from the skin that was registered to it.

    Args:
        head: The head model.
        registration: The result of :func:`register_scan`.

    Returns:
        Distances of all vertices of the scan, in millimetres, and which of them are valid.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import landmark_points, load_head
        >>> from digitaltwin.registration import IdentityConfig, NonRigidConfig, RegistrationConfig, Round
        >>> head = load_head()  # on itself
        >>> vertices, landmarks = np.asarray(head.mean), np.asarray(landmark_points(head, head.mean))
        >>> quick = NonRigidConfig(rounds=(Round(stiffness_mm=9.0, reach_mm=9.0, iterations=1),))
        >>> config = RegistrationConfig(identity=IdentityConfig(iterations=2), nonrigid=quick)
        >>> registration = register_scan(head, vertices, np.asarray(head.faces), landmarks, config=config)
        >>> found = scan_distances(head, registration)
        >>> bool(found.distances_mm[found.valid].mean() < 0.1)
        True
    """
    scan, faces = registration.scan, np.asarray(head.faces)
    skin = SurfaceTree(registration.vertices, faces, name="skin")
    positions, closest = skin.closest(scan.vertices)
    marked = SurfacePoints(*(np.asarray(part) for part in head.landmarks)).interpolate(registration.vertices, faces)
    left_out = np.asarray(head.regions.scalp) | boundary_vertices(faces, len(registration.vertices))
    lost = scan.vertex_areas == 0.0
    valid = ~np.any(left_out[skin.faces[closest.faces]], axis=1) & ~lost
    valid &= np.linalg.norm(scan.vertices - marked[ALIGNMENT[4]], axis=1) <= FACE_MM
    once = np.zeros(len(valid), bool)  # of a position that the file repeats
    once[np.unique(np.where(lost, -1, scan.places), return_index=True)[1]] = True
    return ScanDistances(
        np.where(lost, np.nan, np.linalg.norm(scan.vertices - positions, axis=1)),
        valid & once,
        np.linalg.norm(registration.landmarks - marked, axis=1),
    )


def procrustes_residual(expected: Float[np.ndarray, "k 3"], found: Float[np.ndarray, "k 3"]) -> float:
    """Root mean square distance of aligned landmarks from the expected ones, relative to the size of these."""
    size = np.sqrt(np.mean(np.sum((expected - expected.mean(axis=0)) ** 2, axis=1)))
    return float(np.sqrt(np.mean(np.sum((found - expected) ** 2, axis=1))) / size)


def infer_unit(units_per_mm: float) -> tuple[str, float]:
    """Infer the unit of a scan from the size of the face on it.

    Args:
        units_per_mm: Size of the scan's face over the mean head's in millimetres.

    Returns:
        Name of the unit, a key of UNITS_MM, and how many there are to a millimetre; "unknown", and what was given,
        where no unit makes it a human face.

    Example:
        >>> infer_unit(0.00093)
        ('m', 0.001)
    """
    name = min(UNITS_MM, key=lambda unit: abs(np.log(units_per_mm * UNITS_MM[unit])))
    ratio = units_per_mm * UNITS_MM[name]
    if not 1.0 / _SURE < ratio < _SURE:
        return "unknown", units_per_mm
    return name, 1.0 / UNITS_MM[name]


def _beside_hair(head: HeadModel, scalp: float) -> Float[np.ndarray, " v"]:
    """Weight of the scan at each vertex: it rises with the distance from the scalp, as hair hangs over."""
    return scalp + (1.0 - scalp) * smoothstep(_from_scalp(head), 0.0, _HAIR_MM)


def _under_hair(head: HeadModel, skin: SurfaceTree, scan: SurfaceTree, scalp: float) -> Float[np.ndarray, " v"]:
    """0 where the scan stands off the nearest head of the model, towards the scalp: sideburns, locks; else 1."""
    closest, _ = scan.closest(skin.vertices)
    outside = np.sum(skin.vertex_normals * (closest - skin.vertices), axis=1)
    near = 1.0 - smoothstep(_from_scalp(head), 0.0, 3.0 * _HAIR_MM)
    return 1.0 - (1.0 - scalp) * np.sqrt(near) * smoothstep(outside, _THIN_MM, 2.0 * _THIN_MM)


def _from_scalp(head: HeadModel) -> Float[np.ndarray, " v"]:
    """Distance from where hair usually grows [mm]."""
    mean, where = np.asarray(head.mean, np.float64), np.asarray(head.regions.scalp)
    return np.asarray(KDTree(mean[where]).query(mean)[0])


def _is_closed(landmarks: Float[np.ndarray, "104 3"]) -> bool:
    """Whether the lips are known to touch."""
    upper, lower = _INNER_LIPS
    gap = np.linalg.norm(landmarks[upper] - landmarks[lower], axis=1)
    return bool(np.any(np.isfinite(gap)) and np.nanmax(gap) < _CLOSED_MM)


def _lip_contacts(head: HeadModel, skin: SurfaceTree) -> Int[np.ndarray, "t 2"]:
    """Pairs of vertices on lips that face one another across the slit."""
    lips = np.flatnonzero(np.asarray(head.regions.lips))
    pairs = lips[KDTree(skin.vertices[lips]).query_pairs(_CLOSED_MM, output_type="ndarray")]
    facing = np.sum(skin.vertex_normals[pairs[:, 0]] * skin.vertex_normals[pairs[:, 1]], axis=1)
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


def _with_scale(points: np.ndarray, targets: np.ndarray, rough: Similarity, scale: float) -> Similarity:
    """The same rotation, another size, about the landmarks' middle."""
    return Similarity(scale, rough.rotation, targets.mean(axis=0) - scale * rough.rotation @ points.mean(axis=0))


def _points_inwards(template: SurfaceTree, surface: SurfaceTree) -> bool:
    """Whether the scan's faces all point the wrong way, told by the mean head near it."""
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
