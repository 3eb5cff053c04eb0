"""Gauss-Newton with accept-reject damping, for any pytree of unknowns x, one problem or a vmapped batch.

Two functions make a problem: ``energy(x)``, a sum of squares, and ``propose(x, mu)``, the minimiser of its quadratic
model at x with a damping term that grows with mu >= 0; ``mu = 0`` is the plain Gauss-Newton step. How the step is
computed is the problem's own affair: :func:`dense_proposal` suits small ones, :mod:`digitaltwin.fitting.elimination`
removes thousands of unknowns first.

A step is taken if the energy does not rise beyond rounding. So where plain Gauss-Newton descends, this is plain
Gauss-Newton; where it overshoots or meets NaN (which compares false), that lane of the batch keeps its point and is
damped, and no other is touched.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import Precision
from jaxtyping import Array, Float, PyTree

from digitaltwin.solvers.linear import solve_positive_definite

Energy = Callable[[PyTree], Float[Array, ""]]
Proposal = Callable[[PyTree, Float[Array, ""]], PyTree]

_FIRST_DAMPING = 1e-2  # after the first rejection, relative to the curvature
_GROWTH, _DECAY = 10.0, 0.1
_ROUNDING = 32.0  # units of the last place that a sum of squares may rise by and still count as equal
_NEGLIGIBLE_DAMPING = 1e-4  # below it the damping is dropped, and with it the last trace of a rejection


class State(NamedTuple):
    """Where the iteration stands."""

    point: PyTree
    """The unknowns x."""
    energy: Float[Array, ""]
    """``energy(x)``; but for rounding never larger than in the state before."""
    damping: Float[Array, ""]
    """mu for the next proposal; zero until a step is rejected."""


def initial_state(energy: Energy, point: PyTree) -> State:
    """The state before the first step, undamped."""
    value = energy(point)
    return State(point, value, jnp.zeros_like(value))


def step(energy: Energy, propose: Proposal, state: State) -> State:
    """One proposal, taken or rejected."""
    point = propose(state.point, state.damping)
    value = energy(point)
    # Near the minimum energies differ by rounding alone; rejections there would leave the flat directions short.
    limit = state.energy * (1.0 + _ROUNDING * jnp.finfo(value.dtype).eps)
    taken = (value <= limit) | (jnp.isfinite(value) & ~jnp.isfinite(state.energy))
    eased = state.damping * _DECAY
    damping = jnp.where(
        taken,
        jnp.where(eased < _NEGLIGIBLE_DAMPING, 0.0, eased),
        jnp.maximum(state.damping * _GROWTH, _FIRST_DAMPING),
    )
    kept = jax.tree.map(lambda new, old: jnp.where(taken, new, old), point, state.point)
    return State(kept, jnp.where(taken, value, state.energy), damping)


def minimise(
    energy: Energy, propose: Proposal, start: PyTree, *, iterations: int
) -> tuple[PyTree, Float[Array, " steps"]]:
    """Run a fixed number of steps.

    Args:
        energy: Sum of squares at x.
        propose: The damped Gauss-Newton step from x.
        start: Initial unknowns.
        iterations: Number n of steps, a static count: every lane of a batch does the same work.

    Returns:
        The final unknowns, and the energy before the first and after each step.

    Example:
        >>> import jax.numpy as jnp
        >>> residual = lambda x: jnp.array([x[1] - x[0] ** 2, 1.0 - x[0]])  # Rosenbrock's valley
        >>> energy = lambda x: jnp.sum(residual(x) ** 2)
        >>> point, energies = minimise(energy, dense_proposal(residual), jnp.array([-1.2, 1.0]), iterations=25)
        >>> point.round(3).tolist()
        [1.0, 1.0]
    """

    def body(state: State, _: None) -> tuple[State, Array]:
        state = step(energy, propose, state)
        return state, state.energy

    first = initial_state(energy, start)
    last, energies = lax.scan(body, first, None, length=iterations)
    return last.point, jnp.concatenate([first.energy[None], energies])


def dense_proposal(residual: Callable[[Float[Array, " m"]], Float[Array, " r"]]) -> Proposal:
    """The step of a small problem, ``x - (J'J + mu diag J'J)^-1 J'r`` with J by forward differentiation.

    Args:
        residual: Residuals of a vector of unknowns.

    Returns:
        A proposal for :func:`minimise`; its energy is ``|residual(x)|^2``.
    """

    def propose(x: Float[Array, " m"], damping: Float[Array, ""]) -> Float[Array, " m"]:
        jacobian = jax.jacfwd(residual)(x)
        normal = jnp.matmul(jacobian.T, jacobian, precision=Precision.HIGHEST)
        normal = normal + damping * jnp.diag(jnp.diagonal(normal))
        gradient = jnp.matmul(jacobian.T, residual(x), precision=Precision.HIGHEST)
        return x - solve_positive_definite(normal, gradient)

    return propose
