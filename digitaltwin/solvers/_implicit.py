"""Derivatives of a minimum by what the energy depends on, without going back through the steps that found it.

Letters: x unknowns, p whatever else the energy is a function of (data, weights), closed over; E(x; p) the energy.

At a minimum the gradient is zero for every p, and stays so as p moves (implicit function theorem):

    g(x*(p); p) = 0,  g = dE/dx           dx*/dp = -H^-1 dg/dp,           H = d^2 E / dx^2 at x*

H is the exact Hessian: second derivatives of the residuals are in it, which J'J leaves out. So
the answer does not depend on how x* was found, and costs one linear solve at any number of steps.

It holds where x* is a minimum (an error in x* enters in first order), where E is twice differentiable there (not where
an unknown stands on a bound), and where H is positive definite: along a direction in which E is flat
the minimum is not a function of p, and the derivative is NaN by the dense solve. For unknowns on a manifold (a unit
quaternion) differentiate in increments: ``d = at_minimum(lambda d: energy(moved(x, d)), zeros)``, then ``moved(x, d)``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from digitaltwin.solvers._conjugate_gradient import Operator, solve_symmetric
from digitaltwin.solvers._gauss_newton import Energy
from digitaltwin.solvers._linear import solve_positive_definite

Solve = Callable[[Operator, PyTree], PyTree]
"""``A^-1 b`` from products with A, and b."""


def dense_solve(operator: Operator, right: PyTree) -> PyTree:
    """Solve a small symmetric positive definite system of which products are known; NaN if it is not."""
    vector, restore = ravel_pytree(right)
    columns = jax.vmap(lambda column: ravel_pytree(operator(restore(column)))[0])
    return restore(solve_positive_definite(columns(jnp.eye(vector.size, dtype=vector.dtype)), vector))


def at_minimum(energy: Energy, point: PyTree, *, solve: Solve = dense_solve) -> PyTree:
    """A minimum, found by whatever means, as a differentiable function of all that ``energy`` closes over.

    Use it on what :func:`digitaltwin.solvers.run` returns, with any number of steps or a tolerance.

    Args:
        energy: E(x); derivatives are by what it closes over.
        point: The minimum x*; its own derivatives are ignored.
        solve: How ``H^-1 b`` is computed: densely, or by products only as in
            ``lambda operator, right: conjugate_gradient(operator, right, iterations=30)``.

    Returns:
        ``point``, with derivatives in forward and reverse mode.

    Example:
        >>> def smallest(p):  # x* = p^2
        ...     return at_minimum(lambda x: (x - p**2) ** 2, jnp.array(9.0))
        >>> round(jax.grad(smallest)(3.0).item(), 3)
        6.0

    Source: implicit differentiation, Blondel et al. 2022, "Efficient and modular implicit differentiation".
    """

    def tangent(hessian: Operator, right: PyTree) -> PyTree:
        return solve_symmetric(hessian, right, lambda right: solve(hessian, right))

    found = jax.tree.map(lax.stop_gradient, point)
    return lax.custom_root(jax.grad(energy), found, lambda _, first: first, tangent)
