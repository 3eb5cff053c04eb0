"""Robust losses: what a residual costs when it may be an outlier, and the weight that Gauss-Newton gives it.

Letters: r one residual (or a short vector of them), s = r^2 (or |r|^2), c the size beyond which it is doubted, rho the
cost in place of s, w = rho'(s) its weight.

    E(x) = sum_i rho(|r_i(x)|^2)        grad E / 2 = J'W r        E's model at x: sum_i w_i |r_i + J_i dx|^2, W fixed

Every rho here is concave in s with rho(s) ~ s for small s. So the model touches E at x and lies above it, up to a
constant, as far as r is linear: each reweighted least-squares step lowers the robust energy itself, which is what steps
are accepted by. The term with rho'' (Triggs 2000) is left out: it is what could make J'WJ indefinite.

    Huber               rho = s, beyond c: 2 c sqrt(s) - c^2        w = min(1, c / sqrt(s))
    Geman-McClure       rho = s c^2 / (s + c^2) < c^2               w = (c^2 / (s + c^2))^2

Huber's is convex, so a convex problem stays one; Geman-McClure's forgets outliers altogether, and needs a start from
which the good residuals can be told.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Residual = Callable[[PyTree], PyTree]


class Loss(NamedTuple):
    """rho, its derivative, and what is judged as one."""

    cost: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    """rho(s), elementwise."""
    weight: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    """rho'(s), elementwise, never negative."""
    axes: int = 0
    """So many last axes of a residual array are one vector, weighted as a whole: 1 for the x and y of a landmark."""


Losses = Loss | PyTree | None
"""One loss for all residuals, None for plain squares, or a tree of both that is a prefix of the residuals' own."""


def huber(scale: float | Float[Array, ""], *, axes: int = 0) -> Loss:
    """Squares up to a residual of ``scale``, linear beyond.

    Args:
        scale: c > 0, in the residual's unit.
        axes: As in :class:`Loss`.

    Example:
        >>> huber(1.0).cost(jnp.array([0.25, 9.0])).tolist()
        [0.25, 5.0]
    """
    square = scale * scale

    def cost(s: Float[Array, "..."]) -> Float[Array, "..."]:
        # Under the root s is held at c^2 and above: no derivative is infinite at 0.
        return jnp.where(s <= square, s, 2.0 * scale * jnp.sqrt(jnp.maximum(s, square)) - square)

    def weight(s: Float[Array, "..."]) -> Float[Array, "..."]:
        return scale / jnp.sqrt(jnp.maximum(s, square))

    return Loss(cost, weight, axes)


def geman_mcclure(scale: float | Float[Array, ""], *, axes: int = 0) -> Loss:
    """Squares near zero, never more than ``scale**2``.

    Args:
        scale: c > 0, in the residual's unit.
        axes: As in :class:`Loss`.

    Example:
        >>> geman_mcclure(1.0).cost(jnp.array([0.0, 1.0, 3.0])).tolist()
        [0.0, 0.5, 0.75]
    """
    square = scale * scale

    def weight(s: Float[Array, "..."]) -> Float[Array, "..."]:
        return (square / (s + square)) ** 2

    return Loss(lambda s: s * (square / (s + square)), weight, axes)


def energy_of(residual: Residual, *, loss: Losses = None) -> Callable[[PyTree], Float[Array, ""]]:
    """The energy ``sum_i rho(|r_i(x)|^2)`` of residuals in any pytree.

    Args:
        residual: r(x).
        loss: rho.

    Returns:
        The energy, a function of x.

    Example:
        >>> residual = lambda x: {"data": x - 3.0, "prior": x}
        >>> energy_of(residual, loss={"data": huber(1.0), "prior": None})(jnp.array(1.0)).item()
        4.0
    """

    def cost(rho: Loss | None, values: Float[Array, "..."]) -> Float[Array, ""]:
        return jnp.sum(values**2) if rho is None else jnp.sum(rho.cost(_squares(values, rho.axes)))

    return lambda x: jnp.asarray(sum(jax.tree.leaves(_map(cost, loss, residual(x)))))


def reweighted(residual: Residual, x: PyTree, *, loss: Losses = None) -> Residual:
    """Residuals times the square roots of their weights at x, the weights then held.

    The plain Gauss-Newton step of the returned function at x is the robust one, for whoever solves for it.

    Args:
        residual: r.
        x: Where the weights are taken.
        loss: rho; where None nothing changes.

    Returns:
        ``sqrt(w(x)) r``, a function of any other x.
    """
    if loss is None:
        return residual

    def root(rho: Loss | None, values: Float[Array, "..."]) -> Float[Array, "..."] | None:
        if rho is None:
            return None
        weight = rho.weight(_squares(values, rho.axes))
        # Held off zero, where the root has no derivative; its square underflows to zero again.
        root = jnp.sqrt(jnp.maximum(weight, jnp.finfo(weight.dtype).tiny))
        return root.reshape(root.shape + (1,) * rho.axes)

    roots = jax.tree.leaves(_map(root, loss, residual(x)), is_leaf=lambda part: part is None)

    def scaled(other: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(residual(other))
        return structure.unflatten([leaf if root is None else root * leaf for root, leaf in zip(roots, leaves)])

    return scaled


def _squares(values: Float[Array, "..."], axes: int) -> Float[Array, "..."]:
    """s: squared lengths of the vectors that the last axes hold."""
    return jnp.sum(values**2, axis=tuple(range(values.ndim - axes, values.ndim)))


def _map(function: Callable, loss: Losses, values: PyTree) -> PyTree:
    """Call ``function(loss, array)`` for every array, with the loss of its part of the tree."""
    return jax.tree.map(
        lambda rho, part: jax.tree.map(lambda leaf: function(rho, leaf), part),
        loss,
        values,
        is_leaf=lambda part: part is None or isinstance(part, Loss),
    )
