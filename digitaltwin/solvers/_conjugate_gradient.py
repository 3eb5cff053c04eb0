"""Conjugate gradients on pytrees: a symmetric positive (semi-)definite system of which only products are known.

Letters: A the operator, b the right-hand side, M a preconditioner (M ~ A^-1), z = M (b - A x), gamma = <b - A x, z>.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

Operator = Callable[[PyTree], PyTree]


class _Iterate(NamedTuple):
    point: PyTree
    residual: PyTree
    direction: PyTree
    gamma: Float[Array, ""]
    limit: Float[Array, ""]
    """gamma of a residual that is rounding."""


def conjugate_gradient(
    operator: Operator,
    right: PyTree,
    *,
    iterations: int,
    tolerance: float | None = None,
    precondition: Operator | None = None,
) -> PyTree:
    """Solve ``A x = b`` from ``x = 0``.

    Args:
        operator: A, linear, symmetric and positive definite. Semi-definite will do where b lies in its range.
        right: The right-hand side b.
        iterations: Number of steps, static; at most that many with a tolerance.
        tolerance: Stop once ``sqrt(gamma)`` has fallen by this factor. Derivatives are then those of ``A^-1 b``,
            by solves like this one. With None all steps are made, and derivatives go through them.
        precondition: M, linear, symmetric and positive definite.

    Returns:
        x. Once the residual is rounding it stays as it is, and so do its derivatives; where A or b holds NaN, so does
        x. That a tolerance was not met after all iterations is not said.

    Example:
        >>> import jax.numpy as jnp
        >>> conjugate_gradient(lambda x: jnp.array([4.0, 2.0]) * x, jnp.ones(2), iterations=2).round(3).tolist()
        [0.25, 0.5]
    """
    improve = _unchanged if precondition is None else precondition

    def begin(right: PyTree) -> _Iterate:
        better = improve(right)
        gamma = tree_dot(right, better)
        limit = lax.stop_gradient(jnp.finfo(gamma.dtype).eps ** 2 * gamma)
        return _Iterate(jax.tree.map(jnp.zeros_like, right), right, better, gamma, limit)

    def advance(iterate: _Iterate) -> tuple[PyTree, PyTree]:
        product = operator(iterate.direction)
        curvature = tree_dot(iterate.direction, product)
        length = _ratio(iterate.gamma, curvature, (iterate.gamma <= iterate.limit) | (curvature <= 0.0))
        point = add_scaled(iterate.point, length, iterate.direction)
        return point, add_scaled(iterate.residual, -length, product)

    def step(iterate: _Iterate) -> _Iterate:
        point, residual = advance(iterate)
        better = improve(residual)
        gamma = tree_dot(residual, better)
        direction = add_scaled(better, _ratio(gamma, iterate.gamma, iterate.gamma <= iterate.limit), iterate.direction)
        return _Iterate(point, residual, direction, gamma, iterate.limit)

    if tolerance is None:
        if iterations == 0:
            return jax.tree.map(jnp.zeros_like, right)
        before, _ = lax.scan(lambda iterate, _: (step(iterate), None), begin(right), None, length=iterations - 1)
        return advance(before)[0]  # no further direction, which would cost a product with M

    def solve(right: PyTree) -> PyTree:
        first = begin(right)
        limit = tolerance**2 * first.gamma

        def goes_on(carry: tuple[_Iterate, Array]) -> Array:
            iterate, count = carry
            return (iterate.gamma > limit) & (count < iterations)

        start = (first, jnp.zeros((), jnp.int32))
        last = lax.while_loop(goes_on, lambda carry: (step(carry[0]), carry[1] + 1), start)[0]
        # NaN ends the loop, and has to be seen: unmarked it would pass for a solution.
        return jax.tree.map(lambda part: jnp.where(jnp.isnan(last.gamma), jnp.nan, part), last.point)

    return solve_symmetric(operator, right, solve)


def solve_symmetric(operator: Operator, right: PyTree, solve: Callable[[PyTree], PyTree]) -> PyTree:
    """``solve(b)``, differentiated as the solution of ``A x = b``: by more such solves, whatever they do inside.

    ``lax.custom_linear_solve`` on one flat array: with several, of which only some depend on what is differentiated by,
    it fails.

    Args:
        operator: A, linear and symmetric.
        right: The right-hand side b.
        solve: Returns x for any b.

    Returns:
        The solution x.

    Example:
        >>> import jax.numpy as jnp
        >>> solve_symmetric(lambda x: 4.0 * x, jnp.ones(2), lambda b: b / 4.0).tolist()
        [0.25, 0.25]
    """
    flat, unravel = ravel_pytree(right)

    def flattened(function: Operator) -> Callable[[Array], Array]:
        return lambda vector: ravel_pytree(function(unravel(vector)))[0]

    inner = flattened(solve)
    return unravel(lax.custom_linear_solve(flattened(operator), flat, lambda _, vector: inner(vector), symmetric=True))


def _unchanged(residual: PyTree) -> PyTree:
    return residual


def _ratio(numerator: Float[Array, ""], denominator: Float[Array, ""], nothing: Bool[Array, ""]) -> Float[Array, ""]:
    """Zero where nothing is left, in value and derivative; NaN stays NaN, as it compares false."""
    return jnp.where(nothing, 0.0, numerator / jnp.where(nothing, 1.0, denominator))


def tree_dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Inner product over all leaves."""
    return jnp.asarray(sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))))


def add_scaled(a: PyTree, factor: Float[Array, ""], b: PyTree) -> PyTree:
    """``a + factor b``."""
    return jax.tree.map(lambda x, y: x + factor * y, a, b)
