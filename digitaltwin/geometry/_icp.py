"""Iterated closest points (ICP): the rigid map, or similarity, that takes one surface onto another.

Landmarks bring the two near (:func:`digitaltwin.geometry.procrustes_alignment`). Then every point is drawn towards the
tangent plane of the other surface where that is closest (point to plane, Chen and Medioni 1992), the farthest of them
left out (Chetverikov et al. 2002), as are such whose closest point lies on the other's border or faces elsewhere.

Reflections cannot come out: the rotation is composed of rotations.

Each iteration is a linear least-squares problem in six or seven unknowns, solved in closed form on the host in float64,
between queries of a tree that lives there: it needs no general solver.

Letters: n points.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from digitaltwin.geometry._similarity import Similarity
from digitaltwin.geometry._surface_tree import SurfaceTree
from digitaltwin.types import InputError, check_ranges


@dataclass(frozen=True)
class IcpConfig:
    """How closest points are iterated.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = 60
    """At most; 0 leaves it at the landmarks' alignment."""
    with_scale: bool = False
    """Whether a similarity is fitted, its size free. A method that claims to measure millimetres is scored without."""
    trimmed: float = 0.1
    """Share of the correspondences, the farthest, that are left out."""
    fixed_after: int = 30
    """Iterations after which the points that count stay the same: some sets would change each other for ever."""
    max_normal_angle_deg: float = 60.0
    """Angle between the normals of corresponding points up to which they count."""
    tolerance_mm: float = 1e-4
    """Stop when no point moves further in an iteration."""
    from_scan: bool = False
    """Whether the scan's points are aligned with the prediction, by least squares of their distances in the scan's
    unit, as NoW does; else the prediction's are aligned with the tangent planes of the scan."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            ("iterations", self.iterations >= 0, "not be negative"),
            ("fixed_after", self.fixed_after >= 1, "be 1 or more"),
            ("trimmed", 0.0 <= self.trimmed < 1.0, "lie in [0, 1)"),
            ("max_normal_angle_deg", 0.0 < self.max_normal_angle_deg <= 180.0, "lie in (0, 180]"),
            ("tolerance_mm", self.tolerance_mm > 0.0, "be positive"),
        )


class Reverse(NamedTuple):
    """The correspondences from the other side: points of the surface that others are aligned with."""

    points: Float[np.ndarray, "m 3"]
    """Points of the surface that stays, in its frame [mm]."""
    normals: Float[np.ndarray, "m 3"]
    """Unit normals there."""
    surface: SurfaceTree
    """The surface that is moved, as it lies before the alignment."""


class IcpResult(NamedTuple):
    """How the iteration ended."""

    similarity: Similarity
    """From the points to the surface."""
    rms_mm: float
    """Root mean square of what is minimised, of the points that counted last."""
    iterations: int
    """How many were made."""
    converged: bool
    """Whether the tolerance was met."""


def icp(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    surface: SurfaceTree,
    start: Similarity,
    *,
    config: IcpConfig | None = None,
    count_borders: bool = False,
    reverse: Reverse | None = None,
) -> IcpResult:
    """Align points with a surface by iterated closest points, trimmed, point to plane.

    Each iteration minimises ``sum (n_i . (T p_i - c_i))^2`` over a small motion T: c_i the surface's closest point, n_i
    its normal there, between those of the vertices (point to plane). What the surfaces leave free (a ball's rotation)
    stays as it is. With ``from_scan`` n_i is the direction from c_i to the point, so that the distances themselves are
    minimised, and they are measured in the points' unit: else a scan would shrink to nothing when the size is free.

    From one side alone a size that is free is told badly: a broad face that is shrunk finds a near point for all of its
    own, while much of the other surface is left without one. With ``reverse`` the other surface's points are drawn
    towards the moved one's tangent planes as well, in the same step, and both sides count alike.

    Args:
        points: Points [n 3] of the surface that is moved [mm].
        normals: Unit normals there [n 3].
        surface: The surface that they are aligned with.
        start: The alignment to begin with, within some ten millimetres of the truth.
        config: Numbers of the iteration.
        count_borders: Whether points count whose closest one lies on the surface's border.
        reverse: The correspondences from the other side; not with ``from_scan``.

    Returns:
        The similarity, that of the start included, and how well it fits.

    Raises:
        InputError: Fewer than ten points correspond: the surfaces lie apart, or face opposite ways.

    Example:
        >>> import numpy as np
        >>> import trimesh
        >>> box = trimesh.creation.box((30.0, 40.0, 50.0)).subdivide().subdivide()
        >>> surface, shift = SurfaceTree(box.vertices, box.faces), np.array([1.0, -2.0, 0.5])
        >>> start = Similarity(1.0, np.eye(3), np.zeros(3))
        >>> found = icp(box.vertices - shift, surface.vertex_normals, surface, start, config=IcpConfig(trimmed=0.0))
        >>> found.similarity.translation.round(3).tolist()
        [1.0, -2.0, 0.5]

    Source: Chen, Medioni, Object modelling by registration of multiple range images, IVC 1992; Chetverikov et al., The
    trimmed iterative closest point algorithm, ICPR 2002.
    """
    config = IcpConfig() if config is None else config
    if config.from_scan and reverse is not None:
        raise InputError("reverse: is not used with from_scan, whose distances are those of one side.")
    similarity, rms, made, converged = start, np.inf, 0, False
    counts = [np.ones(len(points), bool), np.ones(0 if reverse is None else len(reverse.points), bool)]
    while made < config.iterations and not converged:
        made += 1
        chosen = counts if made > config.fixed_after else [None, None]
        pairs = [_match(points, normals, surface, similarity, chosen[0], config, count_borders=count_borders)]
        if reverse is not None:
            back = similarity.inverse()
            found = _match(
                reverse.points, reverse.normals, reverse.surface, back, chosen[1], config, count_borders=count_borders
            )
            # What moves is the closest point on the moved surface, and the plane is its own.
            planes = found.planes @ similarity.rotation.T
            pairs.append(_Pairs(similarity.apply(found.targets), planes, reverse.points, found.counts))
        counts = [pair.counts for pair in pairs]
        if min(map(np.count_nonzero, counts)) < 10:
            raise InputError(
                f"surfaces: only {counts[0].sum()} of {len(points)} points lie over one another after the rough "
                "alignment; check the landmarks, the units and the orientation of the faces."
            )
        unit = similarity.scale if config.from_scan else 1.0
        moved, planes, gaps, weights = (np.concatenate(part) for part in zip(*map(_equation, pairs)))
        rms = float(np.sqrt(np.average(gaps**2, weights=weights))) / unit
        before = similarity.apply(points)
        similarity = similarity.then(_small_motion(moved, planes, gaps, weights, config))
        converged = bool(np.abs(similarity.apply(points) - before).max() < config.tolerance_mm * unit)
    return IcpResult(similarity, rms, made, converged)


class _Pairs(NamedTuple):
    """Points that move, and the planes and places they are drawn to."""

    moved: Float[np.ndarray, "n 3"]
    planes: Float[np.ndarray, "n 3"]
    targets: Float[np.ndarray, "n 3"]
    counts: Bool[np.ndarray, " n"]


def _match(
    points: np.ndarray,
    normals: np.ndarray,
    surface: SurfaceTree,
    similarity: Similarity,
    counts: np.ndarray | None,
    config: IcpConfig,
    *,
    count_borders: bool,
) -> _Pairs:
    """Find the closest points on a surface, and which of them count unless that is given."""
    moved = similarity.apply(points)
    targets, closest = surface.closest(moved)
    planes = surface.smooth_normals(closest)  # those of faces jump, and points then never come to rest
    if counts is None:
        counts = _corresponding(moved, normals @ similarity.rotation.T, planes, targets, config)
        if not count_borders:
            counts &= ~surface.on_rim(closest)
    if config.from_scan:
        away = moved - targets
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        planes = np.where(distance > 1e-9 * similarity.scale, away / np.maximum(distance, 1e-300), planes)
    return _Pairs(moved, planes, targets, counts)


def _equation(pairs: _Pairs) -> tuple[np.ndarray, ...]:
    """The points that count, their planes, gaps and weights; the weights of a side sum to 1."""
    moved, planes, targets = (part[pairs.counts] for part in pairs[:3])
    return moved, planes, np.sum(planes * (moved - targets), axis=1), np.full(len(moved), 1.0 / len(moved))


def _corresponding(
    moved: np.ndarray, normals: np.ndarray, planes: np.ndarray, closest: np.ndarray, config: IcpConfig
) -> Bool[np.ndarray, " n"]:
    """Points that face as their closest ones do, without the farthest of them."""
    alike = np.sum(normals * planes, axis=1) > np.cos(np.deg2rad(config.max_normal_angle_deg))
    if not alike.any():
        return alike
    distance = np.linalg.norm(moved - closest, axis=1)
    return alike & (distance <= np.quantile(distance[alike], 1.0 - config.trimmed))


def _small_motion(
    points: np.ndarray, planes: np.ndarray, gaps: np.ndarray, weights: np.ndarray, config: IcpConfig
) -> Similarity:
    """The motion that closes the gaps best, to first order; about the points' middle, where it is well conditioned."""
    middle = weights @ points / weights.sum()
    arms = points - middle
    size = np.sqrt(weights @ np.sum(arms**2, axis=1) / weights.sum())
    columns = [np.cross(arms, planes) / size, planes]
    if config.with_scale:
        growing = np.sum(arms * planes, axis=1) - (gaps if config.from_scan else 0.0)  # of gaps in the points' unit
        columns.append(growing[:, None] / size)
    root = np.sqrt(weights)
    solution = np.linalg.lstsq(root[:, None] * np.concatenate(columns, axis=1), -root * gaps, rcond=1e-6)[0]
    turn = Rotation.from_rotvec(solution[:3] / size).as_matrix()
    scale = float(np.exp(solution[6] / size)) if config.with_scale else 1.0
    return Similarity(scale, turn, middle + solution[3:6] - scale * turn @ middle)
