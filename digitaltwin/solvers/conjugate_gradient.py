"""Conjugate gradients on pytrees: a symmetric positive (semi-)definite system of which only products are known.

Letters: A the operator, b the right-hand side, M a preconditioner (M ~ A^-1), z = M (b - A x), gamma = <b - A x, z>.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

Operator = Callable[[PyTree], PyTree]


class _Iterate(NamedTuple):
    point: PyTree
    remainder: PyTree
    direction: PyTree
    gamma: Float[Array, ""]


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
        right: b.
        iterations: Number of steps, static; at most that many with a tolerance.
        tolerance: Stop once ``sqrt(gamma)`` has fallen by this factor. Derivatives are then those of ``A^-1 b``,
            by solves like this one. With None all steps are made, and derivatives go through them.
        precondition: M, linear, symmetric and positive definite.

    Returns:
        x. Once the remainder is zero it stays as it is; where A or b holds NaN, so does x.

    Example:
        >>> import jax.numpy as jnp
        >>> conjugate_gradient(lambda x: jnp.array([4.0, 2.0]) * x, jnp.ones(2), iterations=2).round(3).tolist()
        [0.25, 0.5]
    """
    improve = _unchanged if precondition is None else precondition

    def begin(right: PyTree) -> _Iterate:
        better = improve(right)
        return _Iterate(jax.tree.map(jnp.zeros_like, right), right, better, tree_dot(right, better))

    def advance(iterate: _Iterate) -> tuple[PyTree, PyTree]:
        product = operator(iterate.direction)
        length = _ratio(iterate.gamma, tree_dot(iterate.direction, product))
        point = add_scaled(iterate.point, length, iterate.direction)
        return point, add_scaled(iterate.remainder, -length, product)

    def step(iterate: _Iterate) -> _Iterate:
        point, remainder = advance(iterate)
        better = improve(remainder)
        gamma = tree_dot(remainder, better)
        direction = add_scaled(better, _ratio(gamma, iterate.gamma), iterate.direction)
        return _Iterate(point, remainder, direction, gamma)

    if tolerance is None:
        if iterations == 0:
            return jax.tree.map(jnp.zeros_like, right)
        before, _ = lax.scan(lambda iterate, _: (step(iterate), None), begin(right), None, length=iterations - 1)
        return advance(before)[0]  # no further direction, which would cost a product with M

    def solve(_: Operator, right: PyTree) -> PyTree:
        first = begin(right)
        limit = tolerance**2 * first.gamma

        def goes_on(carry: tuple[_Iterate, Array]) -> Array:
            iterate, count = carry
            return (iterate.gamma > limit) & (count < iterations)

        start = (first, jnp.zeros((), jnp.int32))
        last = lax.while_loop(goes_on, lambda carry: (step(carry[0]), carry[1] + 1), start)[0]
        # NaN ends the loop, and has to be seen: unmarked it would pass for a solution.
        return jax.tree.map(lambda part: jnp.where(jnp.isnan(last.gamma), jnp.nan, part), last.point)

    return lax.custom_linear_solve(operator, right, solve, symmetric=True)


def _unchanged(remainder: PyTree) -> PyTree:
    return remainder


def _ratio(numerator: Float[Array, ""], denominator: Float[Array, ""]) -> Float[Array, ""]:
    """Zero where nothing is left, or where rounding has made a positive number none; NaN stays NaN."""
    nothing = denominator <= 0.0
    return jnp.where(nothing, 0.0, numerator / jnp.where(nothing, 1.0, denominator))


def tree_dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Inner product over all leaves."""
    return jnp.asarray(sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))))


def add_scaled(a: PyTree, factor: Float[Array, ""], b: PyTree) -> PyTree:
    """``a + factor b``."""
    return jax.tree.map(lambda x, y: x + factor * y, a, b)
