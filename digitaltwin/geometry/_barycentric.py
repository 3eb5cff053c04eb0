"""Points on a triangle mesh given by barycentric coordinates: interpolation, and the same as a sparse matrix."""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.lax import Precision
from jaxtyping import Array, Float, Int


def interpolate(
    values: Float[Array, "v d"], corners: Int[Array, "k 3"], barycentric: Float[Array, "k 3"]
) -> Float[Array, "k d"]:
    """Interpolate vertex values at k points of the surface: ``sum_j w_kj values[corners_kj]``.

    Args:
        values: One row for each vertex: positions, normals, anything linear.
        corners: The three vertices around each point, ``faces[anchor.faces]``.
        barycentric: Their weights; they sum to one.

    Returns:
        One row for each point.

    Example:
        >>> import jax.numpy as jnp
        >>> triangle = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        >>> interpolate(triangle, jnp.array([[0, 1, 2]]), jnp.array([[0.5, 0.25, 0.25]])).tolist()
        [[0.75, 0.75]]
    """
    return jnp.einsum("kj,kjd->kd", barycentric, values[corners], precision=Precision.HIGHEST)


def interpolation_matrix(
    corners: Int[np.ndarray, "k c"], barycentric: Float[np.ndarray, "k c"], count: int
) -> sp.csr_array:
    """The k x v matrix of :func:`interpolate`, on the host in float64.

    Args:
        corners: The vertices that carry each point: the three around it, or however many.
        barycentric: Their weights.
        count: Number of vertices v.

    Returns:
        Sparse [k v].
    """
    rows = np.repeat(np.arange(len(corners)), corners.shape[1])
    entries = (np.asarray(barycentric, np.float64).ravel(), (rows, np.asarray(corners).ravel()))
    return sp.coo_array(entries, shape=(len(corners), count)).tocsr()
