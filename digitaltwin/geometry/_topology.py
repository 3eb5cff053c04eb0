"""Connectivity of a triangle mesh, on the host: what depends on the faces alone."""

import numpy as np
from jaxtyping import Bool, Int


def edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "m 2"]:
    """Every undirected edge once, its smaller vertex first, in lexicographic order.

    Example:
        >>> import numpy as np
        >>> edges(np.array([[0, 1, 2], [0, 2, 3]])).tolist()
        [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]
    """
    return np.unique(_sides(faces), axis=0)


def boundary_edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "b 2"]:
    """Every edge that only one face has, its smaller vertex first, in lexicographic order.

    Example:
        >>> import numpy as np
        >>> boundary_edges(np.array([[0, 1, 2], [0, 2, 3]])).tolist()
        [[0, 1], [0, 3], [1, 2], [2, 3]]
    """
    sides, uses = np.unique(_sides(faces), axis=0, return_counts=True)
    return sides[uses == 1]


def boundary_vertices(faces: Int[np.ndarray, "f 3"], count: int) -> Bool[np.ndarray, " v"]:
    """Mask of the vertices on an edge that only one face has.

    Args:
        faces: Triangles.
        count: Number of vertices v.

    Returns:
        True on the boundary; all False for a closed surface.
    """
    mask = np.zeros(count, bool)
    mask[boundary_edges(faces)] = True
    return mask


def _sides(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "s 2"]:
    return np.sort(np.asarray(faces)[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
