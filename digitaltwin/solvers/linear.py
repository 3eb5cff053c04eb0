"""Linear systems small enough to factor densely."""

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Float


def solve_positive_definite(matrix: Float[Array, "m m"], right: Float[Array, " m"]) -> Float[Array, " m"]:
    """Solve ``A x = b`` by a Cholesky factorisation of A scaled to unit diagonal.

    Unknowns in different units (a coefficient, a millimetre, a radian) put factors of 1e6 between the entries of a
    normal matrix; ``D A D`` with ``D = diag(A)^(-1/2)`` removes them, and with them most of float32's rounding. An
    unknown that nothing depends on (zero on the diagonal) is left at zero.

    Args:
        matrix: Symmetric, positive definite but for zero rows.
        right: Right-hand side.

    Returns:
        The solution; NaN where the matrix is indefinite, for the caller to reject.

    Example:
        >>> import jax.numpy as jnp
        >>> matrix = jnp.diag(jnp.array([4.0, 1e-6, 0.0]))
        >>> solve_positive_definite(matrix, jnp.array([2.0, 1e-6, 0.0])).round(3).tolist()
        [0.5, 1.0, 0.0]
    """
    diagonal = jnp.diagonal(matrix)
    idle = diagonal == 0.0
    scale = lax.rsqrt(jnp.where(idle, 1.0, diagonal))
    scaled = matrix * scale[:, None] * scale[None] + jnp.diag(idle.astype(matrix.dtype))
    return scale * jsl.cho_solve((jnp.linalg.cholesky(scaled), True), scale * right)
