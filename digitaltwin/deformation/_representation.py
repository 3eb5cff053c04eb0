"""The deformation representation: nine numbers a vertex that say how the surface around it turned and stretched.

Letters: v vertices, f faces, c connected components, d directions. The paper's section 3.2, after Gao et al. 2019
("Sparse data driven mesh deformation"). A mesh p is seen against a reference p^R of the same faces; with one-ring N(i),
edges ``e_ij = p_i - p_j`` and cotangent weights c_ij of the reference,

    T_i = argmin sum_j c_ij |e_ij - T e^R_ij|^2 + b_i |m_i - T n^R_i|^2                                    Eq. 5
        = (sum_j c_ij e_ij e^R_ij' + b_i m_i n^R_i') M_i^-1,   M_i = sum_j c_ij e^R_ij e^R_ij' + b_i n^R_i n^R_i'

    T_i = R_i S_i (polar decomposition),    feature_i = (log R_i, S_i - I)                                  Eq. 6

and back, p is the minimiser of ``sum_ij c_ij |e_ij - (T_i + T_j)/2 e^R_ij|^2``, that is, with one vertex of each
component held,

    sum_j c_ij (p_i - p_j) = sum_j c_ij (T_i + T_j)/2 (p^R_i - p^R_j),     A p = K T                        Eq. 8

Where this departs from the paper:

* Eq. 8 is printed without the weights and without T_j; solved like that it misses by decimetres.
* The second term of Eq. 5 is ours: a virtual edge along the unit normal n^R, without which T is undetermined where a
  ring is flat. Its target m is the deformed surface's normal, as long as the square root of its growth in area: so
  rotating *and scaling* p rotates and scales T, exactly. (A pull towards the identity would break both.)
* A tenth of the edges of the shipped head have negative cotangent weights; weights are raised to a floor.
* ``A p = K T`` is solved for the displacement from the reference, ``A d = K (T - I)``: in float32 a twentieth of the
  error.
* log R is continuous over a component as long as its rotations stay clear of full turns: along a breadth-first tree a
  vertex takes, of all rotation vectors of R_i, the one nearest to its parent's, so that a bend by more than 180 degrees
  interpolates as a bend. The root's is the shortest one.

T has nine numbers a vertex where p has three, yet ``decode(encode(p))`` is not p: averaging T over an edge loses its
curvature (at most a few mm on a head, 0.03 mm on average over expressions). With ``exact=True`` T gets the smallest
change that makes it so, ``dT = K'(K K')^-1 (A p - K T)``.

All operators are constant: factored once, on the host in float64, they are applied as dense blocks
(:mod:`digitaltwin.sparse._blocked`, :mod:`digitaltwin.sparse._dissection`). ``T`` is kept transposed, rows by direction
of the reference: K and the gradient ``p -> T'`` are then matrices that act on x, y and z alike.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import breadth_first_order, connected_components

from digitaltwin.geometry import check_surface, cotangent_stiffness
from digitaltwin.geometry._normals import summed_normals
from digitaltwin.geometry._polar import polar_quaternion, stretch
from digitaltwin.geometry._rotations import rotation_vector_from_quaternion
from digitaltwin.geometry._surface import refuse_where
from digitaltwin.sparse import BlockedMatrix, Factor, block_matrix, factor_dense, factor_dissected, patches_of
from digitaltwin.types import InputError

WEIGHT_FLOOR = 0.05
"""Least cotangent weight of an edge: the plain round trip's error is flat below it, and M well conditioned above."""
NORMAL_WEIGHT = 0.1
"""Weight of the virtual edge along the normal, relative to half the trace of the ring's own moments: its mean share."""
_DENSE_UP_TO = 6000  # vertices; on accelerators, whose memory the inverse's square has to fit
_REFINEMENTS = 2
_ROUNDING_ANGLE = 100.0  # units of the last place [rad]; below it the axis of a rotation is rounding
_LARGEST_STEP = 0.7  # rad, from one vertex to the next on a surface; more is a ring that is folded over
_SERIES_BELOW = 1e-8  # rad^2; there two terms are exact to double precision
_VANISHING = 1e-6  # of the areas around a vertex; what is left of their normals' sum when they cancel


class Tree(NamedTuple):
    """Breadth-first spanning trees, one a component; letters: n levels, w vertices of the widest level."""

    vertices: Int[Array, "n w"]
    """Vertices of each level but the roots'; v where padded."""
    parents: Int[Array, "n w"]
    """Their parents, in the level before; 0 where padded."""


class Correction(NamedTuple):
    """What ``encode(..., exact=True)`` needs besides: the least change of T that makes it solve Eq. 8."""

    stiffness: BlockedMatrix
    """A [v v], rows of the held vertices zero."""
    spread: BlockedMatrix
    """K' [3v v]."""
    factor: Factor
    """Of ``K K'``; one at the held vertices, whose rows it drops."""


class Reference(NamedTuple):
    """A reference mesh and its constant operators; a pytree of arrays, made once by :func:`make_reference`."""

    vertices: Float[Array, "v 3"]
    faces: Int[Array, "f 3"]
    gradient: BlockedMatrix
    """[3v v]: the edges' part of ``p -> T'``."""
    normal_gradient: Float[Array, "v 3"]
    """``b_i M_i^-1 n^R_i``: the normal's part."""
    normals: Float[Array, "v 3"]
    """``n^R``, unit."""
    areas: Float[Array, " v"]
    """Length of the sum of the faces' normals around each vertex, as :func:`summed_normals` makes it [mm^2]."""
    divergence: BlockedMatrix
    """K [v 3v], rows of the held vertices zero."""
    factor: Factor
    """Of A; one at the held vertices."""
    anchors: Int[Array, " c"]
    """The held vertex of each component, in the middle of it; also the root of its tree."""
    component: Int[Array, " v"]
    """Of each vertex."""
    tree: Tree
    correction: Correction


def make_reference(
    vertices: Float[np.ndarray, "v 3"] | Float[Array, "v 3"],
    faces: Int[np.ndarray, "f 3"] | Int[Array, "f 3"],
    *,
    dense: bool | None = None,
    dtype: Any = jnp.float32,
) -> Reference:
    """Prepare a mesh as the reference of the representation, on the host in float64.

    Args:
        vertices: Positions of the reference [mm].
        faces: Triangles of an oriented manifold, with or without boundary, in any number of components.
        dense: Whether to solve with dense inverses, or by nested dissection. By default, on CPUs dissection, which
            measured faster at every size; on accelerators, where this is not measured yet, the inverse while it is
            small enough to keep.
        dtype: Floating-point type of all arrays; float64 needs ``jax_enable_x64``.

    Returns:
        The reference. Meshes of the same faces can be encoded against it.

    Raises:
        InputError: the mesh is no such manifold (:func:`digitaltwin.geometry.check_surface` names the
            vertices or faces), vertices have fewer than three neighbours, or the faces around one cancel; or JAX does
            not have the dtype.

    Example:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> tetrahedron = make_reference(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
        >>> feature = encode(tetrahedron, 2 * tetrahedron.vertices)
        >>> feature.round().astype(int)[0].tolist()
        [0, 0, 0, 1, 1, 1, 0, 0, 0]
        >>> held = 2 * tetrahedron.vertices[tetrahedron.anchors]
        >>> decode(tetrahedron, feature, anchor=held).round().astype(int)[3].tolist()
        [0, 0, 2]
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if np.dtype(dtype) not in (np.float32, np.float64) or jax.dtypes.canonicalize_dtype(dtype) != np.dtype(dtype):
        raise InputError(f"dtype: {np.dtype(dtype)} cannot be used; take float32, or float64 with jax_enable_x64.")
    check_surface(vertices, faces)
    count = len(vertices)
    stiffness = cotangent_stiffness(vertices, faces, floor=WEIGHT_FLOOR)
    neighbours = np.diff(stiffness.indptr) - 1
    refuse_where("vertices", neighbours < 3, "have fewer than three neighbours", "refine the mesh there")
    if dense is None:
        dense = jax.default_backend() != "cpu" and count <= _DENSE_UP_TO

    anchors, component, tree = _breadth_first_trees(stiffness, count)
    held = np.zeros(count, bool)
    held[anchors] = True
    free = sp.diags_array((~held).astype(float))
    at_held = sp.diags_array(held.astype(float))

    divergence = sp.csr_array(free @ _divergence(stiffness, vertices))
    normals, areas = _normals(vertices, faces)
    gradient, normal_gradient = _gradient(stiffness, vertices, normals)

    patches = patches_of(vertices)
    of_directions = [(3 * patch[:, None] + np.arange(3)).ravel() for patch in patches]

    def factor(matrix: sp.csr_array) -> Factor:
        matrix = sp.csr_array(free @ matrix @ free + at_held)
        return factor_dense(matrix, dtype=dtype) if dense else factor_dissected(matrix, vertices, dtype=dtype)

    return Reference(
        vertices=jnp.asarray(vertices, dtype),
        faces=jnp.asarray(faces, jnp.int32),
        gradient=block_matrix(gradient, of_directions, dtype=dtype),
        normal_gradient=jnp.asarray(normal_gradient, dtype),
        normals=jnp.asarray(normals, dtype),
        areas=jnp.asarray(areas, dtype),
        divergence=block_matrix(divergence, patches, run=3, dtype=dtype),
        factor=factor(stiffness),
        anchors=jnp.asarray(anchors, jnp.int32),
        component=jnp.asarray(component, jnp.int32),
        tree=tree,
        correction=Correction(
            stiffness=block_matrix(sp.csr_array(free @ stiffness), patches, dtype=dtype),
            spread=block_matrix(sp.csr_array(divergence.T), of_directions, dtype=dtype),
            factor=factor(sp.csr_array(divergence @ divergence.T)),
        ),
    )


def encode(reference: Reference, vertices: Float[Array, "v 3"], *, exact: bool = False) -> Float[Array, "v 9"]:
    """The deformation of a mesh against the reference.

    Args:
        reference: Of the same faces.
        vertices: Positions, in the reference's unit [mm]; anywhere, in any orientation.
        exact: Correct T by as little as makes :func:`decode` return the mesh itself. Mixing many meshes is smoother
            without.

    Returns:
        For each vertex log R as a rotation vector x, y, z [rad], then S - I as xx, yy, zz, xy, xz, yz. Continuous and
        differentiable in the vertices, but for two places: where a component as a whole is turned by 180 degrees, all
        its rotation vectors change by a full turn together; and where a rotation is undetermined. Gradients are finite
        there too.

    Raises:
        InputError: another number of vertices than the reference's.
    """
    _check_shape("vertices", vertices, reference.vertices.shape)
    moved = vertices - reference.vertices
    # A component's place says nothing; without it, rounding does not grow with the distance from the reference.
    moved = moved - moved[reference.anchors][reference.component]
    transposed = _deformation_gradient(reference, moved)
    if exact:
        transposed = _correct(reference, transposed, moved)
    quaternion = jax.vmap(polar_quaternion)(jnp.swapaxes(transposed, 1, 2))
    s = jax.vmap(stretch)(quaternion, jnp.swapaxes(transposed, 1, 2))
    logarithm = _unwrap(reference, jax.vmap(rotation_vector_from_quaternion)(quaternion))
    stretches = [s[:, 0, 0] - 1, s[:, 1, 1] - 1, s[:, 2, 2] - 1, s[:, 0, 1], s[:, 0, 2], s[:, 1, 2]]
    return jnp.concatenate([logarithm, jnp.stack(stretches, axis=1)], axis=1)


def decode(
    reference: Reference, feature: Float[Array, "v 9"], *, anchor: Float[Array, "c 3"] | None = None
) -> Float[Array, "v 3"]:
    """The mesh of a deformation: Eq. 8, solved for the displacement from the reference.

    Args:
        reference: That the feature was encoded against.
        feature: Of :func:`encode`, or mixed of such.
        anchor: Where each component's ``reference.anchors`` vertex shall be; by default where the reference has it. The
            feature says nothing of a component's place.

    Returns:
        Positions [mm].

    Raises:
        InputError: another number of vertices, or of anchors, than the reference's.
    """
    _check_shape("feature", feature, (len(reference.vertices), 9))
    displacement = _displacement(reference, _gradient_changes(feature))
    if anchor is not None:
        _check_shape("anchor", anchor, (len(reference.anchors), 3))
        shift = anchor - reference.vertices[reference.anchors]
        displacement = displacement + shift[reference.component]
    return reference.vertices + displacement


def _displacement(reference: Reference, change: Float[Array, "v 3 3"]) -> Float[Array, "v 3"]:
    """``A^-1 K (T' - I)``: where Eq. 8 moves the reference, zero at the anchors [mm]."""
    return reference.factor.solve(reference.divergence.apply(change.reshape(-1, 3)))


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{name}: has shape {array.shape}, not {shape}; it has to belong to the reference's mesh.")


def deformation_gradients(feature: Float[Array, "v 9"]) -> Float[Array, "v 3 3"]:
    """``T = exp(log R) (I + (S - I))`` of each vertex.

    Args:
        feature: Of :func:`encode`.

    Returns:
        T, which maps the reference's edges to the mesh's.
    """
    return jnp.eye(3, dtype=feature.dtype)[None] + jnp.swapaxes(_gradient_changes(feature), 1, 2)


def _gradient_changes(feature: Float[Array, "v 9"]) -> Float[Array, "v 3 3"]:
    """``T' - I``, with ``T - I = (R - I) + R (S - I)``: not I subtracted in the end, where small changes would cancel.

    R by Rodrigues' formula. Each of the nine channels is one long array: a tenth of the time of batched 3 x 3 products.
    """
    x, y, z, xx, yy, zz, xy, xz, yz = feature.T
    squared = x * x + y * y + z * z
    small = squared < _SERIES_BELOW
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))  # the branch not taken stays finite: its gradient is times zero
    sine = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    half = jnp.sin(angle / 2)
    versine = jnp.where(small, 0.5 - squared / 24.0, 2.0 * half * half / (angle * angle))  # (1 - cos angle) / angle^2
    a, b, c = versine * x, versine * y, versine * z
    turn = [
        [-b * y - c * z, a * y - sine * z, a * z + sine * y],
        [a * y + sine * z, -a * x - c * z, b * z - sine * x],
        [a * z - sine * y, b * z + sine * x, -a * x - b * y],
    ]  # R - I
    s = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    entries = [
        turn[m][n] + s[m][n] + turn[m][0] * s[0][n] + turn[m][1] * s[1][n] + turn[m][2] * s[2][n]
        for n in range(3)
        for m in range(3)
    ]
    # Nine in one stack: XLA keeps that as a pass of its own, but fuses two stacks of three into the decoder's gathers,
    # and then computes every entry once for each patch that reads it.
    return jnp.stack(entries, axis=1).reshape(-1, 3, 3)


def _deformation_gradient(reference: Reference, moved: Float[Array, "v 3"]) -> Float[Array, "v 3 3"]:
    """T' of Eq. 5, as the change against the reference, whose own T is I."""
    summed = summed_normals(reference.vertices + moved, reference.faces)
    squared = jnp.sum(summed**2, axis=1, keepdims=True)
    safe = jnp.where(squared > 0, squared, 1)  # keeps the root's infinite slope out of the gradient
    # |m| = sqrt(area / area of the reference), so m = sum / sqrt(|sum| area).
    target = jnp.where(squared > 0, summed / (safe**0.25 * jnp.sqrt(reference.areas)[:, None]), 0)
    by_edges = reference.gradient.apply(moved).reshape(-1, 3, 3)
    by_normal = reference.normal_gradient[:, :, None] * (target - reference.normals)[:, None, :]
    return jnp.eye(3, dtype=moved.dtype)[None] + by_edges + by_normal


def _correct(
    reference: Reference, transposed: Float[Array, "v 3 3"], moved: Float[Array, "v 3"]
) -> Float[Array, "v 3 3"]:
    """T' changed as little as makes Eq. 8 hold.

    What is missing, ``A p - K T``, is ``A (p - decode(T))``: formed so, from positions that nearly agree, float32
    loses nothing, where ``A p`` and ``K T`` would cancel. Repeated, because the solve rounds too.
    """
    identity = jnp.eye(3, dtype=transposed.dtype)[None]
    for _ in range(_REFINEMENTS):
        missing = reference.correction.stiffness.apply(moved - _displacement(reference, transposed - identity))
        change = reference.correction.spread.apply(reference.correction.factor.solve(missing))
        transposed = transposed + change.reshape(-1, 3, 3)
    return transposed


def _unwrap(reference: Reference, logarithm: Float[Array, "v 3"]) -> Float[Array, "v 3"]:
    """Rotation vectors made continuous: whole turns added along the tree.

    The vectors of one rotation are ``(angle + 2 pi k) axis``; nearest to r is ``k = round((r . axis - angle) / 2 pi)``.
    Where the rotation is none to rounding, its axis is r's. r is the parent's vector, or, if that is far from its own
    parent's, the one that the parent was compared with: a ring that is folded over leads nobody astray.
    """
    squared = jnp.sum(logarithm**2, axis=1, keepdims=True)
    determined = squared > (_ROUNDING_ANGLE * jnp.finfo(logarithm.dtype).eps) ** 2
    own_axis = logarithm / jnp.sqrt(jnp.where(determined, squared, 1))

    def descend(carried: tuple[Array, Array], level: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        unwrapped, trusted = carried
        vertices, parents = level
        above, own = trusted[parents], logarithm[vertices]
        length = jnp.sqrt(jnp.sum(above**2, axis=1, keepdims=True))
        axis = jnp.where(determined[vertices], own_axis[vertices], above / jnp.where(length > 0, length, 1))
        turns = jnp.round(jnp.sum((above - own) * axis, axis=1, keepdims=True) / (2 * jnp.pi))
        found = own + 2 * jnp.pi * turns * axis
        near = jnp.sum((found - above) ** 2, axis=1, keepdims=True) < _LARGEST_STEP**2
        unwrapped = unwrapped.at[vertices].set(found, mode="drop")
        return (unwrapped, trusted.at[vertices].set(jnp.where(near, found, above), mode="drop")), None

    # The turns are whole numbers: found without derivatives, they are then a factor of the logarithm.
    (unwrapped, _), _ = jax.lax.scan(descend, (logarithm, logarithm), reference.tree)
    whole = jax.lax.stop_gradient(unwrapped - logarithm)
    along = jnp.sum(whole * jax.lax.stop_gradient(own_axis), axis=1, keepdims=True)
    return logarithm + jnp.where(determined, along * own_axis, whole)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, " v"]]:
    """Unit normal of each vertex, and the length of the sum of its faces' normals, in float64.

    Raises:
        InputError: where the faces around a vertex cancel.
    """
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    of_faces = np.cross(b - a, c - a)
    corners, count = faces.ravel(), len(vertices)
    total = np.stack([np.bincount(corners, np.repeat(x, 3), minlength=count) for x in of_faces.T], axis=1)
    length = np.linalg.norm(total, axis=1)
    around = np.bincount(corners, np.repeat(np.linalg.norm(of_faces, axis=1), 3), minlength=count)
    cancelled = length < _VANISHING * around
    refuse_where("vertices", cancelled, "have no normal, as their faces lie on one another", "move these apart")
    return total / length[:, None], length


def _divergence(stiffness: sp.csr_array, vertices: np.ndarray) -> sp.csr_array:
    """K [v 3v] of Eq. 8: ``(K T')_i = sum_j c_ij / 2 (T_i + T_j) e^R_ij``."""
    i, j, edge, weight = _edges(stiffness, vertices)
    values = np.tile((weight[:, None] * edge / 2).ravel(), 2)
    rows = np.tile(np.repeat(i, 3), 2)
    columns = np.concatenate([(3 * end[:, None] + np.arange(3)).ravel() for end in (i, j)])
    return sp.coo_array((values, (rows, columns)), shape=(len(vertices), 3 * len(vertices))).tocsr()


def _gradient(
    stiffness: sp.csr_array, vertices: np.ndarray, normals: np.ndarray
) -> tuple[sp.csr_array, Float[np.ndarray, "v 3"]]:
    """The two parts of ``T' = M^-1 (sum_j c_ij e^R_ij e_ij' + b_i n^R_i m_i')``: on positions [3v v], on normals."""
    i, j, edge, weight = _edges(stiffness, vertices)
    count = len(vertices)
    outer = weight[:, None, None] * edge[:, :, None] * edge[:, None, :]
    moments = np.zeros((count, 3, 3))
    np.add.at(moments, i, outer)
    normal_weight = NORMAL_WEIGHT * np.trace(moments, axis1=1, axis2=2) / 2
    moments += (normal_weight[:, None] * normals)[:, :, None] * normals[:, None, :]
    inverse = np.linalg.inv(moments)
    response = weight[:, None] * np.einsum("nxy,ny->nx", inverse[i], edge)  # of T'_i to e_ij
    rows = (3 * i[:, None] + np.arange(3)).ravel()
    entries = np.concatenate([response.ravel(), -response.ravel()])
    where = (np.tile(rows, 2), np.concatenate([np.repeat(i, 3), np.repeat(j, 3)]))
    gradient = sp.coo_array((entries, where), shape=(3 * count, count)).tocsr()
    return gradient, normal_weight[:, None] * np.einsum("nxy,ny->nx", inverse, normals)


def _edges(stiffness: sp.csr_array, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every edge in both directions: its ends i and j, ``p_i - p_j``, c_ij."""
    entries = stiffness.tocoo()
    apart = entries.row != entries.col
    i, j = entries.row[apart], entries.col[apart]
    return i, j, vertices[i] - vertices[j], np.negative(entries.data)[apart]


def _breadth_first_trees(graph: sp.csr_array, count: int) -> tuple[np.ndarray, np.ndarray, Tree]:
    """A spanning tree of each component from a vertex in its middle: roots, component of each vertex, the levels."""
    components, component = connected_components(graph, directed=False)
    depth, parent = np.zeros(count, int), np.zeros(count, int)
    roots = []
    for number in range(components):
        end = int(np.flatnonzero(component == number)[0])
        for _ in range(2):  # the far end of the far end: the ends of a longest path, nearly
            path = _path_to_farthest(graph, end)
            end = path[0]
        root = path[len(path) // 2]
        roots.append(root)
        order, above = breadth_first_order(graph, root, directed=False)
        for vertex in order[1:]:
            parent[vertex] = above[vertex]
            depth[vertex] = depth[above[vertex]] + 1
    levels = [np.flatnonzero(depth == level) for level in range(1, depth.max() + 1)]
    width = max(map(len, levels))
    vertices, parents = np.full((len(levels), width), count, np.int32), np.zeros((len(levels), width), np.int32)
    for row, level in enumerate(levels):
        vertices[row, : len(level)], parents[row, : len(level)] = level, parent[level]
    return np.array(roots), component, Tree(jnp.asarray(vertices), jnp.asarray(parents))


def _path_to_farthest(graph: sp.csr_array, start: int) -> list[int]:
    """From the vertex that a breadth-first search reaches last back to its start."""
    order, above = breadth_first_order(graph, start, directed=False)
    path = [int(order[-1])]
    while path[-1] != start:
        path.append(int(above[path[-1]]))
    return path
