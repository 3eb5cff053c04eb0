"""Derivatives of a minimum by what the energy depends on, without going back through the steps that found it.

Letters: x unknowns, p whatever else the energy is a function of (data, weights), closed over; E(x; p) the energy.

At a minimum the gradient is zero for every p, and stays so as p moves (implicit function theorem):

    g(x*(p); p) = 0,  g = dE/dx           dx*/dp = -H^-1 dg/dp,           H = d^2 E / dx^2 at x*

H is the exact Hessian: second derivatives of the residuals and of robust losses are in it, which J'WJ leaves out. So
the answer does not depend on how x* was found, and costs one linear solve at any number of steps.

It holds where x* is a minimum (an error in x* enters in first order), where E is twice differentiable there (not where
a residual stands on Huber's corner or a bound), and where H is positive definite: along a direction in which E is flat
the minimum is not a function of p, and the derivative is NaN by the dense solve. For unknowns on a manifold (a unit
quaternion) differentiate in increments: ``d = at_minimum(lambda d: energy(moved(x, d)), zeros)``, then ``moved(x, d)``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from digitaltwin.solvers._conjugate_gradient import Operator, solve_symmetric
from digitaltwin.solvers._gauss_newton import ADAPTIVE, Damping, Energy, Proposal, Result, Tolerance, run
from digitaltwin.solvers._linear import solve_positive_definite

Solve = Callable[[Operator, PyTree], PyTree]
"""``A^-1 b`` from products with A and b: :func:`dense_solve`, or ``partial(conjugate_gradient, iterations=...)``."""


def dense_solve(operator: Operator, right: PyTree) -> PyTree:
    """Solve a small symmetric positive definite system of which products are known; NaN if it is not."""
    vector, restore = ravel_pytree(right)
    columns = jax.vmap(lambda column: ravel_pytree(operator(restore(column)))[0])
    return restore(solve_positive_definite(columns(jnp.eye(vector.size, dtype=vector.dtype)), vector))


def at_minimum(energy: Energy, point: PyTree, *, solve: Solve = dense_solve) -> PyTree:
    """A minimum, found by whatever means, as a differentiable function of all that ``energy`` closes over.

    Args:
        energy: E(x).
        point: x*; its own derivatives are ignored.
        solve: How ``H^-1 b`` is computed.

    Returns:
        ``point``, with derivatives in forward and reverse mode.

    Example:
        >>> def smallest(p):  # x* = p^2
        ...     return at_minimum(lambda x: (x - p**2) ** 2, jnp.array(9.0))
        >>> round(jax.grad(smallest)(3.0).item(), 3)
        6.0
    """
    return _root(energy, point, lambda start: start, solve, has_aux=False)


def run_implicit(
    energy: Energy,
    propose: Proposal,
    start: PyTree,
    *,
    iterations: int,
    tolerance: Tolerance | None = None,
    damping: Damping | None = ADAPTIVE,
    solve: Solve = dense_solve,
) -> Result:
    """:func:`digitaltwin.solvers.run`, differentiated at the minimum in place of through its steps.

    Args:
        energy: Sum of squares at x; derivatives are by what it closes over, and none by ``start``.
        propose: The damped Gauss-Newton step from x.
        start: Initial unknowns.
        iterations: Number n of steps (at most, with a tolerance).
        tolerance: When to stop early.
        damping: As for :func:`digitaltwin.solvers.run`.
        solve: How ``H^-1 b`` is computed.

    Returns:
        The same result. Only ``point`` has derivatives: call ``energy`` on it for the energy's.
    """

    def minimise(start: PyTree) -> tuple[PyTree, tuple]:
        result = run(energy, propose, start, iterations=iterations, tolerance=tolerance, damping=damping)
        # Counts and codes as numbers of the energies' type: custom_root fails on integers beside the solution.
        codes = jnp.stack([result.iterations, result.status]).astype(result.energies.dtype)
        return result.point, (result.energies, codes)

    point, (energies, codes) = _root(energy, start, minimise, solve, has_aux=True)
    made, status = codes.astype(jnp.int32)
    return Result(point, energies, made, status)


def _root(energy: Energy, start: PyTree, find: Callable[[PyTree], Any], solve: Solve, *, has_aux: bool) -> Any:
    """What ``find`` returns from the start, with the derivatives of a zero of the gradient."""

    def tangent(hessian: Operator, right: PyTree) -> PyTree:
        return solve_symmetric(hessian, right, lambda right: solve(hessian, right))

    return lax.custom_root(jax.grad(energy), start, lambda _, first: find(first), tangent, has_aux=has_aux)
