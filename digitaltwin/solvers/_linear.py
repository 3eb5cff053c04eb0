"""Linear systems small enough to factor densely."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Float


class ScaledFactor(NamedTuple):
    """A Cholesky factor of ``D A D``, ``D = diag(A)^(-1/2)``; made by ``factor_positive_definite``."""

    lower: Float[Array, "m m"]
    scale: Float[Array, " m"]
    """Diagonal of D; one where A's is zero."""

    def solve(self, right: Float[Array, " m"]) -> Float[Array, " m"]:
        """``A^-1 b``; see :func:`solve_positive_definite`."""
        return self.scale * jsl.cho_solve((self.lower, True), self.scale * right)


def factor_positive_definite(matrix: Float[Array, "m m"]) -> ScaledFactor:
    """Factor a matrix for several right-hand sides; :func:`solve_positive_definite` says how.

    Args:
        matrix: Symmetric, positive definite but for zero rows.

    Returns:
        The factor, whose ``solve(right)`` solves; NaN where the matrix is indefinite.

    Example:
        >>> import jax.numpy as jnp
        >>> factor_positive_definite(jnp.diag(jnp.array([4.0, 2.0]))).solve(jnp.ones(2)).round(3).tolist()
        [0.25, 0.5]
    """
    diagonal = jnp.diagonal(matrix)
    idle = diagonal == 0.0
    scale = lax.rsqrt(jnp.where(idle, 1.0, diagonal))
    scaled = matrix * scale[:, None] * scale[None] + jnp.diag(idle.astype(matrix.dtype))
    return ScaledFactor(jnp.linalg.cholesky(scaled), scale)


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
    return factor_positive_definite(matrix).solve(right)
