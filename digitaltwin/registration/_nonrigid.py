"""Non-rigid ICP: a template deformed onto a surface, with a stiffness that goes from coarse to fine.

The template's vertices p are moved by displacements d [mm], which in every iteration minimise

    int (n . (p + d - c))^2               template to surface: c the closest point of the surface, n its normal there
  + int (n . (B (p + d) - s))^2           surface to template: s on the surface, B the template's point closest to it
  + sum_l w_l |A_l (p + d) - y_l|^2       landmarks y, on the template at A
  + u sum_ij |d_i - d_j|^2                contact pairs: closed lips are to stay so
  + l^4 int |Laplace d|^2 + m int |d|^2   stiffness

Both integrals count only where the surfaces correspond: within reach of one another, facing alike, on neither's border;
large gaps count less (Geman and McClure). All terms are areas times squared lengths, so what the stiffness means does
not depend on how dense either mesh is: l [mm] is the size of bump it irons out. Where the surface says nothing, a bump
goes on smoothly, and vanishes over some five l by the displacement penalty m.

Distances along normals leave the template free to slide, which the stiffness alone resists. The second integral takes
half of it back that a coarse template with its vertices on a surface leaves most of that outside its flat faces.

On the host, in float64. Letters: v vertices, f faces of the template; k landmarks; t contact pairs; n constraints.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from absl import logging
from jaxtyping import Float, Int

from digitaltwin.geometry import SurfacePoints, SurfaceTree
from digitaltwin.geometry._laplacian import cotangent_stiffness, lumped_mass
from digitaltwin.registration._config import NonRigidConfig, Round
from digitaltwin.types import InputError

_TOLERANCE, _MOST_ITERATIONS = 1e-5, 500  # of conjugate gradients
_SOFT_MM = 2.0  # a gap of as much counts a quarter, in rounds of short reach


class Correspondence(NamedTuple):
    """The points of a surface that some points correspond to."""

    points: Float[np.ndarray, "n 3"]
    """The closest points [mm]."""
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
    """The area that each represents [mm^2]."""


class _Constraints(NamedTuple):
    """Points of the template, and the planes they are drawn to."""

    rows: sp.csr_array
    """Barycentric weights of the template's vertices [n v]."""
    planes: Float[np.ndarray, "n 3"]
    """Unit normals."""
    targets: Float[np.ndarray, "n 3"]
    weights: Float[np.ndarray, " n"]
    """[mm^2]"""


def nonrigid_icp(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    surface: SurfaceTree,
    *,
    weights: Float[np.ndarray, " v"] | None = None,
    landmarks: tuple[SurfacePoints, Float[np.ndarray, "k 3"]] | None = None,
    contact_pairs: Int[np.ndarray, "t 2"] | None = None,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Deform a template smoothly until it lies on a surface (non-rigid ICP).

    Each iteration finds closest points both ways and minimises the sum of squared distances from the tangent planes
    there, a stiffness ``l^4 int |Laplace d|^2`` of the displacements d, and distances of landmarks; l shrinks by the
    schedule of the configuration.

    Args:
        vertices: The template's vertices [v 3], already in place within some millimetres [mm].
        faces: Its triangles [f 3].
        surface: The surface that it is deformed onto [mm].
        weights: Weight of the surface at each vertex, 0 to 1; by default 1 everywhere.
        landmarks: Points of the template, and where they belong [mm]; those not finite are left out.
        contact_pairs: Pairs of vertices [t 2] that are to move together.
        config: The schedule and its numbers.

    Returns:
        The deformed vertices [v 3], in millimetres. Those at the same position (along a texture's seam) stay together;
        those of no face stay where they are.

    Raises:
        InputError: The template is no mesh, or fewer than ten points of the two correspond.

    Example:
        >>> import numpy as np
        >>> import trimesh
        >>> from digitaltwin.geometry import SurfaceTree
        >>> ball = trimesh.creation.icosphere(subdivisions=2, radius=80.0)
        >>> larger = SurfaceTree(1.03 * ball.vertices, ball.faces)
        >>> deformed = nonrigid_icp(ball.vertices, ball.faces, larger)
        >>> bool(np.abs(np.linalg.norm(deformed, axis=1) - 1.03 * 80.0).max() < 0.2)
        True

    Source: Amberg, Romdhani, Vetter, Optimal step nonrigid ICP algorithms for surface registration, CVPR 2007.
    """
    config = NonRigidConfig() if config is None else config
    vertices = np.asarray(vertices, np.float64)
    triangles = faces
    chosen, faces, number = _weld(SurfaceTree(vertices, faces, name="template"))
    start, moves = vertices[chosen], np.flatnonzero(number >= 0)
    expand = sp.csr_array((np.ones(len(moves)), (moves, number[moves])), shape=(len(vertices), len(start)))

    weights = np.ones(len(start)) if weights is None else np.asarray(weights, np.float64)[chosen]
    mass, stiffness = lumped_mass(start, faces), cotangent_stiffness(start, faces)
    bending = sp.csr_array(stiffness @ sp.diags_array(1.0 / mass) @ stiffness)
    pairs = np.zeros((0, 2), int) if contact_pairs is None else np.asarray(contact_pairs)
    contact = _differences(pairs, len(vertices)) @ expand
    contact = config.contact_mm2 * contact.T @ contact
    sample = sample_surface(surface, start, config)
    rows, targets = known_landmarks(landmarks, triangles, len(vertices))
    rows = sp.csr_array(rows @ expand)
    welded, moved = SurfaceTree(start, faces, name="template"), start
    for part in _each(config.rounds):
        template = welded.deformed(moved)
        constraints = [
            _template_to_surface(template, surface, mass * weights, part, config),
            _surface_to_template(sample, template, weights, part, config),
        ]
        count = sum(len(one.weights) for one in constraints)
        if count < 10:
            raise InputError(f"surfaces: only {count} points correspond; are they aligned, and in millimetres?")
        stiff = part.stiffness_mm**4 * bending + config.displacement_penalty * sp.diags_array(mass) + contact
        moved = start + _solve(start, moved - start, stiff, constraints, (rows, targets), config)
    deformed = vertices.copy()
    deformed[moves] = moved[number[moves]]
    return deformed


def known_landmarks(
    landmarks: tuple[SurfacePoints, Float[np.ndarray, "k 3"]] | None, faces: Int[np.ndarray, "f 3"], count: int
) -> tuple[sp.csr_array, Float[np.ndarray, "m 3"]]:
    """Barycentric weights of the vertices, and targets, of the landmarks that are known; of none without any.

    Args:
        landmarks: Points of a mesh, and where they belong; rows that are not finite are left out.
        faces: The mesh's triangles.
        count: Its number of vertices.

    Returns:
        Rows [m v] and positions [m 3].
    """
    if landmarks is None:
        return sp.csr_array((0, count)), np.zeros((0, 3))
    points, targets = landmarks
    known = np.isfinite(targets).all(axis=1)
    return sp.csr_array(points.matrix(faces, count))[known], np.asarray(targets, np.float64)[known]


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
    constraints: list[_Constraints],
    landmarks: tuple[sp.csr_array, Float[np.ndarray, "k 3"]],
    config: NonRigidConfig,
) -> Float[np.ndarray, "v 3"]:
    """The displacements of one iteration, by conjugate gradients.

    Planes couple the three coordinates. Were every constraint one towards a point, of a third of its weight, there
    would be one v x v matrix for all three: factored, it is the preconditioner.
    """
    per_axis, right_per_axis = stiff, np.zeros_like(start)
    marked, targets = landmarks
    if len(targets):
        weight = min(config.landmark_mm2, config.landmarks_mm2 / len(targets))
        per_axis = per_axis + weight * marked.T @ marked
        right_per_axis += weight * (marked.T @ (targets - marked @ start))
    near, right, planar = per_axis, np.zeros(start.size), []
    for one in constraints:
        missing = one.targets - one.rows @ start
        weighted = sp.diags_array(one.weights) @ one.rows
        per_axis = per_axis + config.tangential * one.rows.T @ weighted
        near = near + (config.tangential + 1.0 / 3.0) * one.rows.T @ weighted
        right_per_axis += config.tangential * (weighted.T @ missing)
        normal = _normal_rows(one, len(start))
        right += normal.T @ (one.weights * np.sum(one.planes * missing, axis=1))
        planar.append(normal.T @ sp.diags_array(one.weights) @ normal)
    across, coupled = sp.csr_array(per_axis), sp.csr_array(sum(planar))
    factor = spl.splu(sp.csc_array(near), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def product(flat: np.ndarray) -> np.ndarray:
        return (across @ flat.reshape(-1, 3)).ravel() + coupled @ flat

    def precondition(flat: np.ndarray) -> np.ndarray:
        return factor.solve(flat.reshape(-1, 3)).ravel()

    size = (start.size, start.size)
    solution, unfinished = spl.cg(
        spl.LinearOperator(size, product, dtype=np.float64),  # pyright: ignore[reportCallIssue]
        right + right_per_axis.ravel(),
        x0=guess.ravel(),
        rtol=_TOLERANCE,
        maxiter=_MOST_ITERATIONS,
        M=spl.LinearOperator(size, precondition, dtype=np.float64),  # pyright: ignore[reportCallIssue]
    )
    if unfinished:
        logging.warning("non-rigid ICP: an iteration was left after %d steps of conjugate gradients", _MOST_ITERATIONS)
    return solution.reshape(-1, 3)


def sample_surface(surface: SurfaceTree, near: Float[np.ndarray, "v 3"], config: NonRigidConfig) -> SurfaceSample:
    """Vertices of a surface that constrain a template: those within reach of its box, spread evenly over their list.

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


def _normal_rows(constraints: _Constraints, count: int) -> sp.csr_array:
    """Rows ``n . B d`` over the 3v coordinates of d."""
    entries = constraints.rows.tocoo()
    row, column = entries.coords
    data = entries.data[:, None] * constraints.planes[row]
    index = (np.repeat(row, 3), (3 * column[:, None] + np.arange(3)).ravel())
    return sp.csr_array((data.ravel(), index), shape=(len(constraints.weights), 3 * count))


def correspondence(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    surface: SurfaceTree,
    reach_mm: float,
    max_normal_angle_deg: float,
) -> Correspondence:
    """Closest points that can be trusted: near, facing alike, not on the surface's border.

    Args:
        points: [mm]
        normals: Unit normals there.
        surface: What they are compared with.
        reach_mm: Distance up to which they correspond. Of such as a third of it (but 2 mm) a quarter counts.
        max_normal_angle_deg: Angle between the normals likewise.

    Returns:
        For every point.
    """
    targets, closest = surface.closest(points)
    planes = surface.smooth_normals(closest)
    weights = _trust(points, normals, targets, planes, reach_mm, max_normal_angle_deg) * ~surface.on_rim(closest)
    return Correspondence(targets, planes, np.sum(planes * (targets - points), axis=1), weights)


def _template_to_surface(
    template: SurfaceTree, surface: SurfaceTree, areas: np.ndarray, part: Round, config: NonRigidConfig
) -> _Constraints:
    vertices = template.vertices
    to = correspondence(vertices, template.vertex_normals, surface, part.reach_mm, config.max_normal_angle_deg)
    kept = np.flatnonzero(areas * to.weights)
    rows = sp.csr_array((np.ones(len(kept)), (np.arange(len(kept)), kept)), shape=(len(kept), len(vertices)))
    return _Constraints(rows, to.planes[kept], to.points[kept], (areas * to.weights)[kept])


def _surface_to_template(
    sample: SurfaceSample, template: SurfaceTree, weights: np.ndarray, part: Round, config: NonRigidConfig
) -> _Constraints:
    positions, closest = template.closest(sample.points)
    corners = template.faces[closest.faces]
    facing = template.normals[closest.faces]
    trust = _trust(sample.points, facing, positions, sample.normals, part.reach_mm, config.max_normal_angle_deg)
    trust *= np.sum(weights[corners] * closest.barycentric, axis=1) * ~template.on_rim(closest)
    kept = np.flatnonzero(trust)
    rows = SurfacePoints(*(part[kept] for part in closest)).matrix(template.faces, len(weights))
    return _Constraints(rows, sample.normals[kept], sample.points[kept], (sample.areas * trust)[kept])


def _trust(
    points: np.ndarray,
    normals: np.ndarray,
    closest: np.ndarray,
    planes: np.ndarray,
    reach_mm: float,
    max_normal_angle_deg: float,
) -> Float[np.ndarray, " n"]:
    away = closest - points
    near = np.linalg.norm(away, axis=1) <= reach_mm
    alike = np.sum(normals * planes, axis=1) > np.cos(np.deg2rad(max_normal_angle_deg))
    gap = np.sum(planes * away, axis=1)
    soft = max(_SOFT_MM, reach_mm / 3.0)
    return np.where(near & alike, (soft**2 / (soft**2 + gap**2)) ** 2, 0.0)
