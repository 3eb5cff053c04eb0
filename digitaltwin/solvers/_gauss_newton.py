"""Gauss-Newton with accept-reject damping, for any pytree of unknowns x, one problem or a vmapped batch.

Letters: n steps at most, mu >= 0 the damping, r residuals, J their derivative.

Two functions make a problem: ``energy(x)``, a sum of squares without a factor 1/2, and ``propose(x, mu)``, the
minimiser of its quadratic model at x,

    E(x) = sum_i r_i(x)^2       (J'J + mu D) (x_new - x) = -J'r,       D of J'J's size

``mu = 0`` is the plain Gauss-Newton step. How it is computed is the problem's own affair:
:func:`digitaltwin.solvers.least_squares` makes both functions from residuals, and
:mod:`digitaltwin.fitting._elimination` removes thousands of unknowns first.

A step is taken if the energy does not rise beyond rounding. So where plain Gauss-Newton descends, this is plain
Gauss-Newton; where it overshoots or meets NaN (which compares false), that lane of the batch keeps its point and is
damped, and no other is touched. Nothing raises under ``jit``: how a run ended stands in ``Result.status``.

Two ways to stop. A fixed number of steps is a ``scan``: every lane does the same work, and reverse mode differentiates
the very steps that were made. A :class:`Tolerance` makes it a ``while_loop``: a lane that has finished keeps its
numbers, bit for bit, while others go on; its gradients are those at the minimum,
:func:`digitaltwin.solvers.at_minimum`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

_ROUNDING = 128.0
"""Units of the last place that a sum of squares may rise by and still count as equal. More than its own rounding: a
residual is the small difference of large numbers, such as two image positions of hundreds of pixels, and keeps what
they were rounded by."""

Energy = Callable[[PyTree], Float[Array, ""]]
Proposal = Callable[[PyTree, Float[Array, ""]], PyTree]


class SolverStatus(IntEnum):
    """How a run ended; ``Result.status`` holds it as an integer array.

    Example:
        >>> SolverStatus(0).name
        'CONVERGED'
    """

    CONVERGED = 0
    """The tolerance was met."""
    STEPS_DONE = 1
    """All n steps were made."""
    NON_FINITE = 2
    """No point of finite energy was found, and the start is returned."""
    STALLED = 3
    """Every proposal was rejected, at every damping up to ``Damping.most``."""


@dataclass(frozen=True)
class Damping:
    """How mu follows from steps taken and rejected; relative to the curvature D, so without a unit.

    By default there is no damping until a step is rejected.

    Example:
        >>> Damping(start=1e-2).growth
        10.0
    """

    start: float = 0.0
    """Damping mu of the first step: 0 tries plain Gauss-Newton, 1e-2 is Marquardt's cautious beginning."""
    first: float = 1e-2
    """The least mu after a rejection."""
    growth: float = 10.0
    """Factor of mu after a rejection."""
    decay: float = 0.1
    """Factor of mu after a step taken."""
    negligible: float = 1e-4
    """Below it mu drops to ``least``, and with it goes the last trace of a rejection."""
    least: float = 0.0
    """The damping mu never falls below. Where J'J is singular the plain step does not exist: 1e-6 gives one that does,
    and slows down only what is determined no better than that, relative to D."""
    most: float = 1e8
    """The damping mu never rises above: there a step no longer moves anything in float32."""


_ADAPTIVE = Damping()  # none until a step is rejected


@dataclass(frozen=True)
class Tolerance:
    """When to stop: as soon as one of the two holds, both to rounding, so they have to be larger than the type's eps.

    A damped step is short by itself; what it changes counts ``1 + mu`` times.

    Example:
        >>> Tolerance(energy=1e-4).point
        1e-06
    """

    energy: float = 1e-6
    """A step was taken that lowered the energy by at most this share of it."""
    point: float = 1e-6
    """A step was proposed, taken or not, with ``|dx| <= point (|x| + point)``; Euclidean over all unknowns."""


class State(NamedTuple):
    """Where the iteration stands."""

    point: PyTree
    """The unknowns x."""
    energy: Float[Array, ""]
    """``energy(x)``; but for rounding never larger than in the state before."""
    damping: Float[Array, ""]
    """The damping mu of the next proposal."""


class Result(NamedTuple):
    """How a run ended."""

    point: PyTree
    """The unknowns x."""
    energies: Float[Array, " n+1"]
    """Energy before the first step and after each; the last one again where fewer than n were made."""
    iterations: Int[Array, ""]
    """Steps made, rejected ones too."""
    status: Int[Array, ""]
    """A :class:`SolverStatus`."""


def init(energy: Energy, point: PyTree, *, damping: Damping | None = _ADAPTIVE) -> State:
    """The state before the first step.

    Args:
        energy: Sum of squares at x.
        point: Initial unknowns.
        damping: As for :func:`step`; its ``start`` is the first mu.

    Returns:
        The state, its energy computed.

    Example:
        >>> import jax.numpy as jnp
        >>> init(lambda x: (x - 3.0) ** 2, jnp.array(5.0)).energy.item()
        4.0
    """
    value = energy(point)
    start = 0.0 if damping is None else max(damping.start, damping.least)
    return State(point, value, jnp.full_like(value, start))


def step(energy: Energy, propose: Proposal, state: State, *, damping: Damping | None = _ADAPTIVE) -> State:
    """One proposal, taken or rejected.

    Args:
        energy: Sum of squares at x.
        propose: The step from x with damping mu.
        state: Where it starts.
        damping: How mu grows and falls; with None it stays as it is, and every step of finite energy is taken.

    Returns:
        The next state.

    Example:
        >>> import jax.numpy as jnp
        >>> energy = lambda x: (x - 3.0) ** 2
        >>> propose = lambda x, mu: x - (x - 3.0) / (1.0 + mu)
        >>> step(energy, propose, init(energy, jnp.array(5.0))).point.item()
        3.0
    """
    return _judge(energy, propose(state.point, state.damping), state, damping)[0]


def _judge(energy: Energy, point: PyTree, state: State, damping: Damping | None) -> tuple[State, Bool[Array, ""]]:
    """Take a proposed point or reject it; and whether it lies no higher, but for rounding."""
    value = energy(point)
    finite = jnp.isfinite(value)
    # Near the minimum energies differ by rounding alone; rejections there would leave the flat directions short.
    limit = state.energy * (1.0 + _ROUNDING * jnp.finfo(value.dtype).eps)
    descended = (value <= limit) | (finite & ~jnp.isfinite(state.energy))
    taken, mu = finite, state.damping
    if damping is not None:
        eased = mu * damping.decay
        taken, mu = (
            descended,
            jnp.where(
                descended,
                jnp.where(eased < max(damping.negligible, damping.least), damping.least, eased),
                jnp.clip(mu * damping.growth, damping.first, damping.most),
            ),
        )
    kept = jax.tree.map(lambda new, old: jnp.where(taken, new, old), point, state.point)
    return State(kept, jnp.where(taken, value, state.energy), mu), descended


def run(
    energy: Energy,
    propose: Proposal,
    start: PyTree,
    *,
    iterations: int,
    tolerance: Tolerance | None = None,
    damping: Damping | None = _ADAPTIVE,
) -> Result:
    """Run a fixed number of steps, or until a tolerance is met.

    Args:
        energy: Sum of squares at x.
        propose: The damped Gauss-Newton step from x.
        start: Initial unknowns.
        iterations: Number n of steps (at most, with a tolerance); static.
        tolerance: When to stop early. With None nothing does, and reverse mode goes through the steps.
        damping: As for :func:`step`.

    Returns:
        The final unknowns, the energies, and how it ended. Where a proposal was rejected for being NaN, gradients
        through the steps are NaN as well, in that lane: ``Damping.least`` avoids it for singular problems.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.solvers import least_squares
        >>> residual = lambda x: jnp.array([x[1] - x[0] ** 2, 1.0 - x[0]])  # Rosenbrock's valley
        >>> result = run(*least_squares(residual), jnp.array([-1.2, 1.0]), iterations=50, tolerance=Tolerance())
        >>> result.point.round(3).tolist(), SolverStatus(result.status.item()).name, result.iterations.item() < 20
        ([1.0, 1.0], 'CONVERGED', True)
    """
    first = init(energy, start, damping=damping)
    if tolerance is None:
        return _run_all(energy, propose, first, iterations, damping)
    return _run_until(energy, propose, first, iterations, tolerance, damping)


def _run_all(energy: Energy, propose: Proposal, first: State, iterations: int, damping: Damping | None) -> Result:
    def body(state: State, _: None) -> tuple[State, Array]:
        state = step(energy, propose, state, damping=damping)
        return state, state.energy

    last, energies = lax.scan(body, first, None, length=iterations)
    status = _either(_exhausted(last, damping), SolverStatus.STALLED, SolverStatus.STEPS_DONE)
    energies = jnp.concatenate([first.energy[None], energies])
    return Result(last.point, energies, jnp.full_like(status, iterations), _unless_non_finite(last, status))


class _Progress(NamedTuple):
    """The carry of the ``while_loop``: the result so far, with ``STEPS_DONE`` for a run that goes on."""

    state: State
    energies: Float[Array, " n+1"]
    iterations: Int[Array, ""]
    status: Int[Array, ""]


def _run_until(
    energy: Energy, propose: Proposal, first: State, iterations: int, tolerance: Tolerance, damping: Damping | None
) -> Result:
    def goes_on(progress: _Progress) -> Bool[Array, ""]:
        return (progress.status == SolverStatus.STEPS_DONE) & (progress.iterations < iterations)

    def body(progress: _Progress) -> _Progress:
        old = progress.state
        point = propose(old.point, old.damping)
        new, descended = _judge(energy, point, old, damping)
        status = _either(~descended & _exhausted(new, damping), SolverStatus.STALLED, SolverStatus.STEPS_DONE)
        status = _either(_settled(old, point, new, descended, tolerance), SolverStatus.CONVERGED, status)
        count = progress.iterations + 1
        return _Progress(new, progress.energies.at[count].set(new.energy), count, status)

    energies = jnp.broadcast_to(first.energy[None], (iterations + 1,))
    zero = jnp.zeros((), jnp.int32)
    last = lax.while_loop(goes_on, body, _Progress(first, energies, zero, jnp.full_like(zero, SolverStatus.STEPS_DONE)))
    energies = jnp.where(jnp.arange(iterations + 1) > last.iterations, last.state.energy, last.energies)
    return Result(last.state.point, energies, last.iterations, _unless_non_finite(last.state, last.status))


def _settled(
    old: State, proposed: PyTree, new: State, descended: Bool[Array, ""], tolerance: Tolerance
) -> Bool[Array, ""]:
    """Whether a step changed no more than the tolerance; false for NaN.

    With ``1 + mu`` counts what rounding hides, too: a step too short to be seen at a large mu settles nothing.
    """
    eps, stretch = jnp.finfo(new.energy.dtype).eps, 1.0 + old.damping
    moved, size = _norm(jax.tree.map(jnp.subtract, proposed, old.point)), _norm(old.point)
    short = stretch * (moved + eps * size) <= tolerance.point * (size + tolerance.point)
    # Of the new energy, for the old one may be infinite.
    fall = jnp.maximum(old.energy - new.energy, 0.0) + eps * new.energy
    return short | (descended & (stretch * fall <= tolerance.energy * new.energy))


def _norm(tree: PyTree) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def _exhausted(state: State, damping: Damping | None) -> Bool[Array, ""]:
    most = jnp.inf if damping is None else damping.most
    return state.damping >= most


def _either(condition: Bool[Array, ""], status: int, other: int | Int[Array, ""]) -> Int[Array, ""]:
    return jnp.where(condition, jnp.int32(status), jnp.int32(other))


def _unless_non_finite(last: State, status: Int[Array, ""]) -> Int[Array, ""]:
    """An energy that once was finite stays so; one that is not at the end never was."""
    return _either(~jnp.isfinite(last.energy), SolverStatus.NON_FINITE, status)
