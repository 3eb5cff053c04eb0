"""Gauss-Newton steps of small problems, from residuals in any pytree.

Letters: x unknowns, m their number; r residuals, also their number; J [r m] their derivative; mu >= 0 the damping.

    (J'J + mu diag(J'J)) dx = -J'r        Cholesky of the matrix scaled to unit diagonal

J is found by forward differentiation. Damping by the diagonal (Marquardt 1963) asks for no units. An unknown that no
residual depends on stays where it is.

Cholesky forms J'J, and with it the square of J's condition number. In float32 a step is good to 5e-5 of its length at a
condition number (columns scaled to length 1) of 1e2, to 5e-3 at 1e3, which later steps make up for, and does not exist
at 1e4: then use float64, or ``Damping.least``. Where J is singular the plain step is NaN, which is rejected, and the
damped step after it exists.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import Precision
from jaxtyping import Array, Float, PyTree

from digitaltwin.solvers._gauss_newton import Energy, Proposal
from digitaltwin.solvers._linear import solve_positive_definite

Residual = Callable[[PyTree], PyTree]


def least_squares(residual: Residual) -> tuple[Energy, Proposal]:
    """Make the two functions that :func:`digitaltwin.solvers.run` asks for from residuals.

    Args:
        residual: Residuals r(x), from a pytree of unknowns to a pytree; J is dense, so for some hundred unknowns.

    Returns:
        ``energy(x)``, the sum of squares without a factor 1/2, and ``propose(x, mu)``, the damped Gauss-Newton step.

    Example:
        >>> from digitaltwin.solvers import run
        >>> data = jnp.array([1.0, 2.1, 2.9, 4.0])
        >>> residual = lambda x: {"line": x["slope"] * jnp.arange(1.0, 5.0) - data}
        >>> run(*least_squares(residual), {"slope": jnp.array(0.0)}, iterations=2).point["slope"].round(2).item()
        1.0

    Source: Marquardt 1963, "An algorithm for least-squares estimation of nonlinear parameters".
    """

    def energy(x: PyTree) -> Float[Array, ""]:
        return jnp.asarray(sum(jnp.sum(part**2) for part in jax.tree.leaves(residual(x))))

    def propose(x: PyTree, damping: Float[Array, ""]) -> PyTree:
        vector, restore = ravel_pytree(x)
        values, push = jax.linearize(lambda flat: ravel_pytree(residual(restore(flat)))[0], vector)
        jacobian = jax.vmap(push, out_axes=1)(jnp.eye(vector.size, dtype=vector.dtype))
        normal = jnp.matmul(jacobian.T, jacobian, precision=Precision.HIGHEST)
        normal = normal + damping * jnp.diag(jnp.diagonal(normal))
        right = jnp.matmul(jacobian.T, values, precision=Precision.HIGHEST)
        return restore(vector - solve_positive_definite(normal, right))

    return energy, propose
