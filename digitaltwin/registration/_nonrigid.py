"""Non-rigid ICP: a template laid over a surface, stiffly first and ever more softly (Amberg et al. 2007).

The template's vertices p are moved by displacements d [mm], which in every round minimise

    int (n . (p + d - c))^2               template to surface: c the closest point of the surface, n its normal there
  + int (n . (B (p + d) - s))^2           surface to template: s on the surface, B the template's point closest to it
  + sum_l w_l |A_l (p + d) - y_l|^2       landmarks y, on the template at A
  + u sum_ij |d_i - d_j|^2                vertices that touch: closed lips are to stay so
  + l^4 int |Laplace d|^2 + m int |d|^2   stiffness

Both integrals count only where the surfaces correspond: within reach of one another, facing alike, on neither's border;
large gaps count less (Geman and McClure). All terms are areas times squared lengths, so what the stiffness means does
not depend on how dense either mesh is: l [mm] is the size of bump it irons out. Where the surface says nothing, a bump
goes on smoothly and fades over some five l.

Distances along normals leave the template free to slide, which the stiffness alone resists. The second integral takes
half of it back that a coarse template with its vertices on a surface leaves most of that outside its flat faces.

On the host, in float64. Letters: v vertices, f faces of the template; k landmarks; t pairs; n pulls.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from absl import logging
from jaxtyping import Float, Int

from digitaltwin.geometry import SurfaceTree, cotangent_stiffness, interpolation_matrix, lumped_mass
from digitaltwin.types import InputError, check_ranges

_TOLERANCE, _MOST_ITERATIONS = 1e-5, 500  # of conjugate gradients
_SOFT_MM = 2.0  # a gap of as much counts a quarter, in rounds of short reach


@dataclass(frozen=True)
class Round:
    """A number of rounds of the same stiffness."""

    stiffness_mm: float
    """l."""
    reach_mm: float
    """Distance up to which surfaces correspond."""
    iterations: int = 4

    def __post_init__(self) -> None:
        check_ranges(
            self,
            ("stiffness_mm", self.stiffness_mm >= 0.0, "not be negative"),
            ("reach_mm", self.reach_mm > 0.0, "be positive"),
            ("iterations", self.iterations >= 1, "be 1 or more"),
        )


@dataclass(frozen=True)
class NonRigidConfig:
    """How a template is laid over a surface."""

    rounds: tuple[Round, ...] = (
        Round(40.0, 15.0),
        Round(20.0, 10.0),
        Round(10.0, 6.0),
        Round(6.0, 5.0),
        Round(4.0, 4.0),
    )
    most_turned_deg: float = 60.0
    """Angle between the normals of corresponding points up to which they count."""
    slide: float = 0.05
    """What a distance across the normal counts."""
    landmarks_mm2: float = 2000.0
    """The area that all landmarks together count as, ..."""
    landmark_mm2: float = 100.0
    """... and w of one, at most."""
    touch_mm2: float = 300.0
    """u."""
    fade: float = 1e-3
    """m."""
    most_points: int = 40_000
    """Points of the surface that pull, spread evenly over its vertices near the template."""

    def __post_init__(self) -> None:
        amounts = ("slide", "landmarks_mm2", "landmark_mm2", "touch_mm2")
        check_ranges(
            self,
            ("rounds", len(self.rounds) > 0, "hold one or more"),
            ("most_turned_deg", 0.0 < self.most_turned_deg <= 180.0, "lie in (0, 180]"),
            *((name, getattr(self, name) >= 0.0, "not be negative") for name in amounts),
            ("fade", self.fade > 0.0, "be positive"),
            ("most_points", self.most_points >= 1, "be 1 or more"),
        )


class Landmarks(NamedTuple):
    """Points of the template, and where they belong."""

    rows: sp.csr_array
    """A [k v]: barycentric weights of the vertices."""
    positions: Float[np.ndarray, "k 3"]
    """y [mm]; rows that are not finite are left out."""

    def finite(self) -> "Landmarks":
        """Those that are known."""
        known = np.isfinite(self.positions).all(axis=1)
        return Landmarks(sp.csr_array(self.rows)[known], self.positions[known])


class Correspondence(NamedTuple):
    """What of a surface some points correspond to."""

    points: Float[np.ndarray, "n 3"]
    """The closest ones."""
    planes: Float[np.ndarray, "n 3"]
    """The surface's unit normals there."""
    gaps: Float[np.ndarray, " n"]
    """Distances from the points to these planes, along the normals [mm]."""
    weights: Float[np.ndarray, " n"]
    """From 0, for what does not correspond, to 1, where there is no gap."""


class SurfaceSample(NamedTuple):
    """Points of a surface."""

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    """Unit normals there."""
    areas: Float[np.ndarray, " n"]
    """What each stands for [mm^2]."""


class _Pulls(NamedTuple):
    """Points of the template and the planes they are pulled to."""

    rows: sp.csr_array
    """[n v]"""
    planes: Float[np.ndarray, "n 3"]
    """Unit normals."""
    targets: Float[np.ndarray, "n 3"]
    weights: Float[np.ndarray, " n"]
    """[mm^2]"""


def lay_over(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    surface: SurfaceTree,
    *,
    weights: Float[np.ndarray, " v"] | None = None,
    landmarks: Landmarks | None = None,
    touching: Int[np.ndarray, "t 2"] | None = None,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Lay a template over a surface.

    Args:
        vertices: The template, already in place within some millimetres [mm].
        faces: Its triangles.
        surface: What it is laid over.
        weights: How much the surface counts at each vertex, 0 to 1; by default 1 everywhere.
        landmarks: Points that are known.
        touching: Pairs of vertices that are to move together.
        config: The schedule and its numbers.

    Returns:
        The vertices in their new places. Those at the same position (along a texture's seam) stay together, those of
        no face where they are.

    Raises:
        InputError: The template is no mesh, or fewer than ten points of the two correspond.
    """
    config = NonRigidConfig() if config is None else config
    vertices = np.asarray(vertices, np.float64)
    chosen, faces, number = _weld(SurfaceTree(vertices, faces, name="template"))
    start, moves = vertices[chosen], np.flatnonzero(number >= 0)
    expand = sp.csr_array((np.ones(len(moves)), (moves, number[moves])), shape=(len(vertices), len(start)))

    weights = np.ones(len(start)) if weights is None else np.asarray(weights, np.float64)[chosen]
    mass, stiffness = lumped_mass(start, faces), cotangent_stiffness(start, faces)
    bending = sp.csr_array(stiffness @ sp.diags_array(1.0 / mass) @ stiffness)
    pairs = np.zeros((0, 2), int) if touching is None else np.asarray(touching)
    bound = _differences(pairs, len(vertices)) @ expand
    bound = config.touch_mm2 * bound.T @ bound
    sample = sample_surface(surface, start, config)
    known = None if landmarks is None else landmarks.finite()
    if known is not None:
        known = Landmarks(sp.csr_array(known.rows @ expand), known.positions)
    moved = start
    for part in _each(config.rounds):
        template = SurfaceTree(moved, faces, name="template")
        pulls = [
            _template_to_surface(template, surface, mass * weights, part, config),
            _surface_to_template(sample, template, weights, part, config),
        ]
        count = sum(len(pull.weights) for pull in pulls)
        if count < 10:
            raise InputError(f"surfaces: only {count} points correspond; are they aligned, and in millimetres?")
        stiff = part.stiffness_mm**4 * bending + config.fade * sp.diags_array(mass) + bound
        moved = start + _solve(start, moved - start, stiff, pulls, known, config)
    laid = vertices.copy()
    laid[moves] = moved[number[moves]]
    return laid


def _weld(mesh: SurfaceTree) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, "f 3"], Int[np.ndarray, " v"]]:
    """One vertex for each position that faces use: which, the faces in their terms, and which of them each vertex is.

    A vertex of no face is -1.
    """
    corners = mesh.faces.ravel()
    _, first, faces = np.unique(mesh.places[corners], return_index=True, return_inverse=True)
    number = np.full(len(mesh.vertices), -1)
    number[corners] = faces
    return corners[first], faces.reshape(-1, 3), number


def _differences(pairs: Int[np.ndarray, "t 2"], count: int) -> sp.csr_array:
    """Rows ``d_i - d_j`` [t v]."""
    signs = np.tile([1.0, -1.0], len(pairs))
    return sp.csr_array((signs, (np.repeat(np.arange(len(pairs)), 2), pairs.ravel())), shape=(len(pairs), count))


def _solve(
    start: Float[np.ndarray, "v 3"],
    guess: Float[np.ndarray, "v 3"],
    stiff: sp.csr_array,
    pulls: list[_Pulls],
    landmarks: Landmarks | None,
    config: NonRigidConfig,
) -> Float[np.ndarray, "v 3"]:
    """The displacements of one round, by conjugate gradients.

    Planes couple the three coordinates. Were every pull one towards a point, of a third of its weight, there would be
    one v x v matrix for all three: factored, it is the preconditioner.
    """
    alike, sideways = stiff, np.zeros_like(start)
    if landmarks is not None and len(landmarks.positions):
        weight = min(config.landmark_mm2, config.landmarks_mm2 / len(landmarks.positions))
        alike = alike + weight * landmarks.rows.T @ landmarks.rows
        sideways += weight * (landmarks.rows.T @ (landmarks.positions - landmarks.rows @ start))
    near, right, planar = alike, np.zeros(start.size), []
    for pull in pulls:
        missing = pull.targets - pull.rows @ start
        weighted = sp.diags_array(pull.weights) @ pull.rows
        alike = alike + config.slide * pull.rows.T @ weighted
        near = near + (config.slide + 1.0 / 3.0) * pull.rows.T @ weighted
        sideways += config.slide * (weighted.T @ missing)
        along = _along(pull, len(start))
        right += along.T @ (pull.weights * np.sum(pull.planes * missing, axis=1))
        planar.append(along.T @ sp.diags_array(pull.weights) @ along)
    across, coupled = sp.csr_array(alike), sp.csr_array(sum(planar))
    factor = spl.splu(sp.csc_array(near), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def product(flat: np.ndarray) -> np.ndarray:
        return (across @ flat.reshape(-1, 3)).ravel() + coupled @ flat

    def precondition(flat: np.ndarray) -> np.ndarray:
        return factor.solve(flat.reshape(-1, 3)).ravel()

    size = (start.size, start.size)
    solution, unfinished = spl.cg(
        spl.LinearOperator(size, product, dtype=np.float64),  # pyright: ignore[reportCallIssue]
        right + sideways.ravel(),
        x0=guess.ravel(),
        rtol=_TOLERANCE,
        maxiter=_MOST_ITERATIONS,
        M=spl.LinearOperator(size, precondition, dtype=np.float64),  # pyright: ignore[reportCallIssue]
    )
    if unfinished:
        logging.warning("non-rigid ICP: a round was left after %d steps of conjugate gradients", _MOST_ITERATIONS)
    return solution.reshape(-1, 3)


def sample_surface(surface: SurfaceTree, near: Float[np.ndarray, "v 3"], config: NonRigidConfig) -> SurfaceSample:
    """Vertices of a surface that may pull: those within reach of a template's box, spread evenly over their list.

    Args:
        surface: A mesh.
        near: The template.
        config: Its rounds' reach, and how many points at most.

    Returns:
        Those of them that belong to faces.
    """
    reach = max(part.reach_mm for part in config.rounds)
    within = np.all(
        (surface.vertices > near.min(axis=0) - reach) & (surface.vertices < near.max(axis=0) + reach), axis=1
    )
    used = np.flatnonzero(within & (surface.vertex_areas > 0.0))
    if not len(used):
        return SurfaceSample(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    chosen = used[np.linspace(0, len(used) - 1, min(config.most_points, len(used))).astype(int)]
    areas = surface.vertex_areas[chosen]
    share = surface.vertex_areas[used].sum() / areas.sum()
    return SurfaceSample(surface.vertices[chosen], surface.vertex_normals[chosen], share * areas)


def _each(rounds: tuple[Round, ...]) -> Iterator[Round]:
    return (part for part in rounds for _ in range(part.iterations))


def _along(pull: _Pulls, count: int) -> sp.csr_array:
    """Rows ``n . B d`` over the 3v coordinates of d."""
    entries = pull.rows.tocoo()
    row, column = entries.coords
    data = entries.data[:, None] * pull.planes[row]
    index = (np.repeat(row, 3), (3 * column[:, None] + np.arange(3)).ravel())
    return sp.csr_array((data.ravel(), index), shape=(len(pull.weights), 3 * count))


def correspondence(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    surface: SurfaceTree,
    reach_mm: float,
    most_turned_deg: float,
) -> Correspondence:
    """Closest points that can be trusted: near, facing alike, not on the surface's border.

    Args:
        points: [mm]
        normals: Unit normals there.
        surface: What they are compared with.
        reach_mm: Distance up to which they correspond. Of such as a third of it (but 2 mm) a quarter counts.
        most_turned_deg: Angle between the normals likewise.

    Returns:
        For every point.
    """
    targets, closest = surface.closest(points)
    planes = surface.smooth_normals(closest)
    weights = _trust(points, normals, targets, planes, reach_mm, most_turned_deg) * ~surface.on_rim(closest)
    return Correspondence(targets, planes, np.sum(planes * (targets - points), axis=1), weights)


def _template_to_surface(
    template: SurfaceTree, surface: SurfaceTree, areas: np.ndarray, part: Round, config: NonRigidConfig
) -> _Pulls:
    vertices = template.vertices
    to = correspondence(vertices, template.vertex_normals, surface, part.reach_mm, config.most_turned_deg)
    kept = np.flatnonzero(areas * to.weights)
    rows = sp.csr_array((np.ones(len(kept)), (np.arange(len(kept)), kept)), shape=(len(kept), len(vertices)))
    return _Pulls(rows, to.planes[kept], to.points[kept], (areas * to.weights)[kept])


def _surface_to_template(
    sample: SurfaceSample, template: SurfaceTree, weights: np.ndarray, part: Round, config: NonRigidConfig
) -> _Pulls:
    positions, closest = template.closest(sample.points)
    corners = template.faces[closest.faces]
    facing = template.normals[closest.faces]
    trust = _trust(sample.points, facing, positions, sample.normals, part.reach_mm, config.most_turned_deg)
    trust *= np.sum(weights[corners] * closest.barycentric, axis=1) * ~template.on_rim(closest)
    kept = np.flatnonzero(trust)
    rows = interpolation_matrix(corners[kept], closest.barycentric[kept], len(weights))
    return _Pulls(rows, sample.normals[kept], sample.points[kept], (sample.areas * trust)[kept])


def _trust(
    points: np.ndarray,
    normals: np.ndarray,
    closest: np.ndarray,
    planes: np.ndarray,
    reach_mm: float,
    most_turned_deg: float,
) -> Float[np.ndarray, " n"]:
    away = closest - points
    near = np.linalg.norm(away, axis=1) <= reach_mm
    alike = np.sum(normals * planes, axis=1) > np.cos(np.deg2rad(most_turned_deg))
    gap = np.sum(planes * away, axis=1)
    soft = max(_SOFT_MM, reach_mm / 3.0)
    return np.where(near & alike, (soft**2 / (soft**2 + gap**2)) ** 2, 0.0)
