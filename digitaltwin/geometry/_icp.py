"""Laying one surface over another: seven landmarks, then iterated closest points.

A face is compared with a scan in the scan's frame. Landmarks bring it near (:func:`rough_alignment`): the outer and
inner corners of both eyes, the tip of the nose, the corners of the mouth, in the order of
:data:`digitaltwin.head.markup.ALIGNMENT`. Then every point is pulled towards the tangent plane of the scan where that
is closest (point to plane, Chen and Medioni 1992), the farthest of them left out (Chetverikov et al. 2002), as are such
whose closest point lies on the scan's border or faces elsewhere.

Reflections cannot come out: the rotation is composed of rotations.

Letters: n points.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from digitaltwin.geometry._alignment import align
from digitaltwin.geometry._surface_tree import SurfaceTree
from digitaltwin.types import InputError, check_ranges


class Placement(NamedTuple):
    """The map ``p -> scale R p + translation``, on the host in float64."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, " 3"]

    def apply(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Place points."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Take placed points back."""
        return (points - self.translation) @ self.rotation / self.scale

    def then(self, second: "Placement") -> "Placement":
        """One map after the other, its rotation kept orthonormal."""
        rotation = Rotation.from_matrix(second.rotation @ self.rotation).as_matrix()
        translation = second.scale * second.rotation @ self.translation + second.translation
        return Placement(self.scale * second.scale, rotation, translation)

    @property
    def inverse(self) -> "Placement":
        """The map back."""
        return Placement(1.0 / self.scale, self.rotation.T, -self.translation @ self.rotation / self.scale)


@dataclass(frozen=True)
class IcpConfig:
    """How closest points are iterated.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = 60
    """At most; 0 leaves it at the landmarks' alignment."""
    with_scale: bool = False
    """Whether the size is free. A method that claims to measure millimetres is judged without."""
    trimmed: float = 0.1
    """Share of the correspondences, the farthest, that are left out."""
    settled: int = 30
    """Iterations after which the points that count stay the same: some sets would change each other for ever."""
    most_turned_deg: float = 60.0
    """Angle between the normals of corresponding points up to which they count."""
    tolerance_mm: float = 1e-4
    """Stop when no point moves further in an iteration."""
    from_scan: bool = False
    """Whether the scan's points are laid on the prediction, by least squares of their distances in the scan's unit, as
    NoW does; else the prediction's are laid on the tangent planes of the scan."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            ("iterations", self.iterations >= 0, "not be negative"),
            ("settled", self.settled >= 1, "be 1 or more"),
            ("trimmed", 0.0 <= self.trimmed < 1.0, "lie in [0, 1)"),
            ("most_turned_deg", 0.0 < self.most_turned_deg <= 180.0, "lie in (0, 180]"),
            ("tolerance_mm", self.tolerance_mm > 0.0, "be positive"),
        )


class IcpResult(NamedTuple):
    """How the iteration ended."""

    placement: Placement
    rms_mm: float
    """Root mean square of what is minimised, of the points that counted last."""
    iterations: int
    converged: bool
    """Whether the tolerance was met."""


def rough_alignment(
    landmarks: Float[np.ndarray, "n 3"], targets: Float[np.ndarray, "n 3"], *, with_scale: bool = False
) -> Placement:
    """The rigid map, or similarity, that takes landmarks nearest to others, by :mod:`digitaltwin.geometry._alignment`.

    Args:
        landmarks: At least three, not on a line.
        targets: The same ones on the other surface.
        with_scale: Whether the size is free.

    Returns:
        The map.

    Raises:
        InputError: Fewer than three landmarks, numbers that differ, values that are not finite, or all on a line.

    Example:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> rough_alignment(corners, corners + [1.0, 2.0, 3.0]).translation.round(6).tolist()
        [1.0, 2.0, 3.0]
    """
    landmarks, targets = np.asarray(landmarks, np.float64), np.asarray(targets, np.float64)
    if landmarks.shape != targets.shape or landmarks.ndim != 2 or landmarks.shape[1] != 3 or len(landmarks) < 3:
        raise InputError(
            f"landmarks: have shapes {landmarks.shape} and {targets.shape}; give the same three or more points of both."
        )
    if not (np.isfinite(landmarks).all() and np.isfinite(targets).all()):
        raise InputError("landmarks: are not all finite; leave out those that are not known.")
    centre, target_centre = landmarks.mean(axis=0), targets.mean(axis=0)
    centred, centred_target = landmarks - centre, targets - target_centre
    for name, spread in (("landmarks", centred), ("target landmarks", centred_target)):
        extents = np.linalg.svd(spread, compute_uv=False)
        if extents[1] <= 1e-6 * extents[0]:
            raise InputError(f"{name}: lie on a line, so they give no rotation; give others.")
    # About the centroids, so that float32 has nothing to lose to where a scanner puts its origin.
    fitted = align(jnp.float32(centred), jnp.float32(centred_target), with_scale=with_scale)
    scale, rotation = float(fitted.scale), Rotation.from_matrix(np.asarray(fitted.rotation, np.float64)).as_matrix()
    return Placement(scale, rotation, target_centre - scale * rotation @ centre)


def align_closest_points(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    surface: SurfaceTree,
    start: Placement,
    *,
    config: IcpConfig | None = None,
    count_borders: bool = False,
) -> IcpResult:
    """Trimmed ICP.

    Each iteration minimises ``sum (n_i . (T p_i - c_i))^2`` over a small motion T: c_i the surface's closest point, n_i
    its normal there, between those of the vertices (point to plane). What the surfaces leave free (a ball's rotation)
    stays as it is. With ``from_scan`` n_i is the direction from c_i to the point, so that the distances themselves are
    minimised, and they are measured in the points' unit: else a scan would shrink to nothing when the size is free.

    Args:
        points: On the surface that is moved [mm].
        normals: Unit normals there.
        surface: The other.
        start: Where the points are to begin with, within some ten millimetres of the truth.
        config: Numbers of the iteration.
        count_borders: Whether points count whose closest one lies on the surface's border.

    Returns:
        The placement, that of the start included, and how well it fits.

    Raises:
        InputError: Fewer than ten points correspond: the surfaces lie apart, or face opposite ways.
    """
    config = IcpConfig() if config is None else config
    placement, rms, made, converged = start, np.inf, 0, False
    counts = np.ones(len(points), bool)
    while made < config.iterations and not converged:
        made += 1
        moved = placement.apply(points)
        closest = surface.closest(moved)
        planes = surface.smooth_normals(closest)  # those of faces jump, and points then never come to rest
        if made <= config.settled:
            counts = _corresponding(moved, normals @ placement.rotation.T, planes, closest.points, config)
            if not count_borders:
                counts &= ~surface.on_rim(closest)
        if counts.sum() < 10:
            raise InputError(
                f"surfaces: only {counts.sum()} of {len(points)} points lie over one another after the rough "
                "alignment; check the landmarks, the units and the orientation of the faces."
            )
        unit = placement.scale if config.from_scan else 1.0
        if config.from_scan:
            away = moved - closest.points
            distance = np.linalg.norm(away, axis=1, keepdims=True)
            planes = np.where(distance > 1e-9 * unit, away / np.maximum(distance, 1e-300), planes)
        gaps = np.sum(planes * (moved - closest.points), axis=1)
        rms = float(np.sqrt(np.mean(gaps[counts] ** 2))) / unit
        placement = placement.then(_small_motion(moved[counts], planes[counts], gaps[counts], config))
        converged = bool(np.abs(placement.apply(points) - moved).max() < config.tolerance_mm * unit)
    return IcpResult(placement, rms, made, converged)


def _corresponding(
    moved: np.ndarray, normals: np.ndarray, planes: np.ndarray, closest: np.ndarray, config: IcpConfig
) -> Bool[np.ndarray, " n"]:
    """Points that face as their closest ones do, without the farthest of them."""
    alike = np.sum(normals * planes, axis=1) > np.cos(np.deg2rad(config.most_turned_deg))
    if not alike.any():
        return alike
    distance = np.linalg.norm(moved - closest, axis=1)
    return alike & (distance <= np.quantile(distance[alike], 1.0 - config.trimmed))


def _small_motion(points: np.ndarray, planes: np.ndarray, gaps: np.ndarray, config: IcpConfig) -> Placement:
    """The motion that closes the gaps best, to first order; about the points' middle, where it is well conditioned."""
    middle = points.mean(axis=0)
    arms = points - middle
    size = np.sqrt(np.mean(np.sum(arms**2, axis=1)))
    columns = [np.cross(arms, planes) / size, planes]
    if config.with_scale:
        growing = np.sum(arms * planes, axis=1) - (gaps if config.from_scan else 0.0)  # of gaps in the points' unit
        columns.append(growing[:, None] / size)
    solution = np.linalg.lstsq(np.concatenate(columns, axis=1), -gaps, rcond=1e-6)[0]
    turn = Rotation.from_rotvec(solution[:3] / size).as_matrix()
    scale = float(np.exp(solution[6] / size)) if config.with_scale else 1.0
    return Placement(scale, turn, middle + solution[3:6] - scale * turn @ middle)
