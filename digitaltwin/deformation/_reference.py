"""The reference of the deformation representation: a mesh and its constant operators, made once on the host.

Letters and equations are those of :mod:`digitaltwin.deformation._representation`; besides, n levels of a tree, w
vertices of its widest level.

All operators are constant: factored once in float64, they are applied as dense blocks (:mod:`digitaltwin.sparse`).
``T`` is kept transposed, rows by direction of the reference: K and the gradient ``p -> T'`` are then matrices that act
on x, y and z alike.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import breadth_first_order, connected_components

from digitaltwin.geometry._laplacian import cotangent_stiffness
from digitaltwin.geometry._surface import check_surface, refuse_where
from digitaltwin.sparse import factor_dissected
from digitaltwin.sparse._blocked import BlockedMatrix, block_matrix, patches_of
from digitaltwin.sparse._dissection import Factor, factor_dense
from digitaltwin.types import InputError

WEIGHT_FLOOR = 0.05
"""Least cotangent weight of an edge: the plain round trip's error is flat below it, and M well conditioned above."""
NORMAL_WEIGHT = 0.1
"""Weight of the virtual edge along the normal, relative to half the trace of the ring's own moments: its mean share."""
_DENSE_UP_TO = 6000  # vertices; on accelerators, whose memory the inverse's square has to fit
_VANISHING = 1e-6  # of the areas around a vertex; what is left of their normals' sum when they cancel


class Tree(NamedTuple):
    """Breadth-first spanning trees, one a component."""

    vertices: Int[Array, "n w"]
    """Vertices of each level but the roots'; v where padded."""
    parents: Int[Array, "n w"]
    """Their parents, in the level before; 0 where padded."""


class Correction(NamedTuple):
    """Operators for ``encode(..., exact=True)``: the least change of T that makes it solve Eq. 8."""

    stiffness: BlockedMatrix
    """A [v v], rows of the held vertices zero."""
    spread: BlockedMatrix
    """Transpose of K [3v v]."""
    factor: Factor
    """Factor of ``K K'``; one at the held vertices, whose rows it drops."""


class Reference(NamedTuple):
    """A reference mesh and its constant operators; a pytree of arrays, made once by :func:`make_reference`."""

    vertices: Float[Array, "v 3"]
    """Positions of the reference mesh [mm]."""
    faces: Int[Array, "f 3"]
    """Its triangles."""
    gradient: BlockedMatrix
    """The edges' part of ``p -> T'`` [3v v]."""
    normal_gradient: Float[Array, "v 3"]
    """The normal's part of ``p -> T'``: ``b_i M_i^-1 n^R_i``."""
    normals: Float[Array, "v 3"]
    """Unit normals ``n^R``."""
    areas: Float[Array, " v"]
    """Length of the sum of the faces' normals around each vertex, each as long as twice its face's area [mm^2]."""
    divergence: BlockedMatrix
    """K [v 3v], rows of the held vertices zero."""
    factor: Factor
    """Factor of A; one at the held vertices."""
    anchors: Int[Array, " c"]
    """The held vertex of each component, in the middle of it; also the root of its tree."""
    component: Int[Array, " v"]
    """Number of the component each vertex belongs to."""
    tree: Tree
    """Spanning trees, along which rotation vectors are made continuous."""
    correction: Correction
    """Operators of the exact representation."""


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
        InputError: The mesh is no such manifold (the vertices or faces are named), vertices have fewer than three
            neighbours, or the faces around one cancel; or JAX does not have the dtype.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.deformation import decode, encode
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> tetrahedron = make_reference(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
        >>> feature = encode(tetrahedron, 2 * tetrahedron.vertices)
        >>> feature.round().astype(int)[0].tolist()
        [0, 0, 0, 1, 1, 1, 0, 0, 0]
        >>> held = 2 * tetrahedron.vertices[tetrahedron.anchors]
        >>> decode(tetrahedron, feature, anchor=held).round().astype(int)[3].tolist()
        [0, 0, 2]

    Source: Gao et al. 2019, "Sparse Data Driven Mesh Deformation"; Eq. 5 and 8 of the paper.
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


def _normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, " v"]]:
    """Compute the unit normal of each vertex, and the length of the sum of its faces' normals, in float64.

    Raises:
        InputError: The faces around a vertex cancel.
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
    """Span each component by a tree from its middle; return roots, each vertex's component, and the trees."""
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
