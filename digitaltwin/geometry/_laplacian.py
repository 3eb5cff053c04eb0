"""The cotangent Laplacian, on the host in float64 as scipy sparse arrays.

C is the v x v stiffness matrix, ``f'Cf`` the integral of ``|grad f|^2`` over the surface [f^2]; M the diagonal of
lumped vertex areas a_i [mm^2]; a their mean. ``M^-1 C f`` is minus the Laplacian of f [f / mm^2].
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from digitaltwin.geometry._topology import edges


class WeightedLaplacian(NamedTuple):
    """``L = a M^-1 C`` and ``W = M / a``: both without unit, and free of the mesh's density."""

    operator: sp.csr_array
    """L [v v]; ``L f`` is the Laplacian of f times the mean vertex area."""
    weights: Float[np.ndarray, " v"]
    """Diagonal of W; its mean is one."""
    area_mm2: float
    """The mean vertex area a [mm^2]."""


def lumped_mass(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, " v"]:
    """Compute the area of each vertex: a third of each triangle around it.

    Args:
        vertices: Positions [v 3] in any unit.
        faces: Triangles [f 3].

    Returns:
        Areas [v] in the unit's square; they sum to the area of the surface.

    Example:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
        >>> lumped_mass(corners, np.array([[0, 1, 2]])).tolist()
        [1.0, 1.0, 1.0]
    """
    a, b, c = np.moveaxis(np.asarray(vertices, np.float64)[np.asarray(faces)], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0
    return np.bincount(np.ravel(faces), np.repeat(area / 3.0, 3), minlength=len(vertices))


def cotangent_stiffness(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], *, floor: float = 1e-3
) -> sp.csr_array:
    """Assemble the stiffness matrix C, ``(C f)_i = sum_j c_ij (f_i - f_j)``, ``c_ij = (cot a_ij + cot b_ij) / 2``.

    Around one edge in six of a real head mesh the two opposite angles exceed 180 degrees and c_ij is negative; raised
    to a small positive floor it keeps the maximum principle (a bump never overshoots) and every vertex connected.

    Args:
        vertices: Positions [v 3]; no triangle may have area zero.
        faces: Triangles [f 3].
        floor: Smallest weight of an edge; ``-inf`` gives the pure cotangent weights.

    Returns:
        Symmetric, positive semidefinite [v v]; constants are in its null space.

    Example:
        >>> import numpy as np
        >>> square = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
        >>> stiffness = cotangent_stiffness(square, np.array([[0, 1, 2], [0, 2, 3]]), floor=0.0)
        >>> stiffness.toarray()[0].round(6).tolist()
        [1.0, -0.5, 0.0, -0.5]

    Source: Pinkall, Polthier, Computing discrete minimal surfaces and their conjugates, Experimental Mathematics 1993.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    rows, columns, values = [], [], []
    for corner in range(3):
        i, j = faces[:, (corner + 1) % 3], faces[:, (corner + 2) % 3]
        u, v = vertices[i] - vertices[faces[:, corner]], vertices[j] - vertices[faces[:, corner]]
        half_cotangent = 0.5 * np.sum(u * v, axis=1) / np.linalg.norm(np.cross(u, v), axis=1)
        rows += [i, j]
        columns += [j, i]
        values += [half_cotangent, half_cotangent]
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    weights = sp.coo_array(entries, shape=(len(vertices), len(vertices))).tocsr()  # sums the two triangles of an edge
    weights.data = np.maximum(weights.data, floor)
    return sp.csr_array(sp.diags_array(weights.sum(axis=1)) - weights)


def graph_laplacian(faces: Int[np.ndarray, "f 3"], count: int) -> sp.csr_array:
    """Degree minus adjacency: ``(L f)_i = sum_j (f_i - f_j)`` over the neighbours j of i, blind to lengths.

    Args:
        faces: Triangles.
        count: Number of vertices v.

    Returns:
        Symmetric, positive semidefinite [v v].
    """
    i, j = edges(faces).T
    ones = (np.ones(2 * len(i)), (np.concatenate([i, j]), np.concatenate([j, i])))
    adjacency = sp.coo_array(ones, shape=(count, count)).tocsr()
    return sp.csr_array(sp.diags_array(adjacency.sum(axis=1)) - adjacency)


def weighted_laplacian(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> WeightedLaplacian:
    """L and W of the correction field's prior ``|L d|_W^2 + lambda |d|_W^2``.

    With them ``a |L d|_W^2`` tends to ``a^2`` times the integral of ``|Laplacian d|^2`` as the mesh is refined, and
    ``a |d|_W^2`` to that of ``|d|^2``: the prior's length ``(a^2 / lambda)^(1/4)`` and strength belong to the surface,
    not to its triangles.

    Args:
        vertices: Positions [mm].
        faces: Triangles.

    Returns:
        Operator, weights and mean vertex area.
    """
    mass = lumped_mass(vertices, faces)
    area = float(mass.mean())
    operator = sp.csr_array(sp.diags_array(area / mass) @ cotangent_stiffness(vertices, faces))
    return WeightedLaplacian(operator, mass / area, area)
