"""Points of a triangle mesh by barycentric coordinates: interpolation of vertex values, and the same as a matrix.

Letters: n points, c vertices that carry a point, v vertices, f faces, d columns.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from digitaltwin.geometry._namespace import product


class SurfacePoints(NamedTuple):
    """Points of a triangle mesh: a face each, and weights of its corners. A pytree, of NumPy or JAX.

    A point stays where it is on the surface while the vertices move, so it serves for landmarks, for what is closest to
    something, and for texels alike. It knows its face and not only the vertices around: the face has the normal, the
    border and the texture coordinates.
    """

    faces: Int[Any, " n"]
    """Index of the face each point lies on."""
    barycentric: Float[Any, "n 3"]
    """Weights of that face's corners; they sum to one."""

    def interpolate(self, values: Float[Any, "v d"], faces: Int[Any, "f 3"]) -> Float[Any, "n d"]:
        """Interpolate vertex values linearly: ``sum_j w_nj values[corners_nj]``.

        Args:
            values: One row [d] for each vertex: positions, normals, colours.
            faces: The mesh's triangles.

        Returns:
            One row for each point.

        Example:
            >>> import numpy as np
            >>> triangle = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
            >>> point = SurfacePoints(np.array([0]), np.array([[0.5, 0.25, 0.25]]))
            >>> point.interpolate(triangle, np.array([[0, 1, 2]])).tolist()
            [[0.75, 0.75]]
        """
        return interpolate(values, faces[self.faces], self.barycentric)

    def matrix(self, faces: Int[Any, "f 3"], count: int) -> sp.csr_array:
        """The matrix [n v] of :meth:`interpolate`, on the host in float64.

        Args:
            faces: The mesh's triangles.
            count: Number of vertices v.

        Returns:
            Sparse rows that sum to one.
        """
        return interpolation_matrix(np.asarray(faces)[np.asarray(self.faces)], np.asarray(self.barycentric), count)


def interpolate(
    values: Float[Any, "v d"], corners: Int[Any, "n c"], barycentric: Float[Any, "n c"]
) -> Float[Any, "n d"]:
    """Interpolate vertex values at n points: ``sum_j w_nj values[corners_nj]``.

    Args:
        values: One row for each vertex: positions, normals, anything linear.
        corners: The vertices that carry each point: the three around it, or however many.
        barycentric: Their weights; they sum to one.

    Returns:
        One row for each point.

    Example:
        >>> import numpy as np
        >>> triangle = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        >>> interpolate(triangle, np.array([[0, 1, 2]]), np.array([[0.5, 0.25, 0.25]])).tolist()
        [[0.75, 0.75]]
    """
    return product("nj,njd->nd", barycentric, values[corners])


def interpolation_matrix(
    corners: Int[np.ndarray, "n c"], barycentric: Float[np.ndarray, "n c"], count: int
) -> sp.csr_array:
    """The n x v matrix of :func:`interpolate`, on the host in float64.

    Args:
        corners: The vertices that carry each point: the three around it, or however many.
        barycentric: Their weights.
        count: Number of vertices v.

    Returns:
        Sparse [n v].
    """
    rows = np.repeat(np.arange(len(corners)), corners.shape[1])
    entries = (np.asarray(barycentric, np.float64).ravel(), (rows, np.asarray(corners).ravel()))
    return sp.coo_array(entries, shape=(len(corners), count)).tocsr()
