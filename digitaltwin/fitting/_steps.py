"""One Gauss-Newton step, the correction field eliminated; two ways to the same increments.

Letters: w photos of k landmarks each, n of them fixed and c on a contour; r = w k; m unknowns besides the field. The
equations are those of :mod:`digitaltwin.fitting._elimination`:

    S = I + Jp (G (x) I3) Jp',      [S, Jw; Jw', -H] (lambda, -D) = (r~, -g),      alpha = Jp' lambda

:func:`direct_step` factors S, 2r x 2r.

For some hundred points that costs too much, and S is close to something cheaper. Under weak perspective (a distant
camera) every Jp is ``s_i Q`` with one 2 x 3 matrix Q of orthonormal rows, and then ``S = (I + s G s) (x) I2``, an r x r
matrix. With it as preconditioner, conjugate gradients solve both equations above at once (:func:`conjugate_step`): what
they have to mend is perspective. And the s_i, the points' sizes in the image, hardly change during a fit, so the fixed
points' part of that matrix is factored once, at its start (:class:`WeakPerspective`).
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.fitting._elimination import Coupling, apply_coupling, dense_coupling
from digitaltwin.solvers import conjugate_gradient, solve_positive_definite, solve_symmetric
from digitaltwin.solvers._linear import factor_positive_definite

_MOST_DIRECT = 320
"""Points of one photo up to which S is factored."""
_TOLERANCE = {4: 2e-4, 8: 1e-10}
"""Tolerance of conjugate gradients, by bytes of the type: how far the error falls from where the preconditioner alone
leaves it, at a hundredth as a rule. Then rounding is reached, in two iterations or five."""
_MOST_ITERATIONS = 30

_Pair = tuple[Float[Array, "k 2"], Float[Array, " m"]]


class LinearModel(NamedTuple):
    """The residuals to first order, and the priors to second, about the present unknowns."""

    residual: Float[Array, "r 2"]
    """r, weighted."""
    by_point: Float[Array, "r 2 3"]
    """Jp."""
    by_unknown: Float[Array, "r 2 m"]
    """Jw."""
    gradient: Float[Array, " m"]
    """g: half the gradient of the other unknowns' priors."""
    hessian: Float[Array, "m m"]
    """H: half their Hessian."""


class FieldStep(NamedTuple):
    """A Gauss-Newton step of everything."""

    increment: Float[Array, " m"]
    """D of the other unknowns."""
    multipliers: Float[Array, "w k 3"]
    """alpha, undamped: what the step itself asks for, which the old multipliers damp (:func:`damped_field`)."""


class WeakPerspective(NamedTuple):
    """The parts of the conjugate step's preconditioner."""

    sizes: Float[Array, " k"]
    """``s_i``: residual by millimetre, under weak perspective."""
    upper: Float[Array, "n n"]
    """The transposed Cholesky factor of ``I + s G s`` at the fixed points; row by row it is what LAPACK reads."""


def is_direct(photos: int, landmarks: int) -> bool:
    """Whether the direct step is the cheaper one.

    Several photos are solved directly whatever their number: each has a direction of sight, and so a Q, of its own, and
    the preconditioner knows one.
    """
    return photos > 1 or landmarks <= _MOST_DIRECT


def make_weak_perspective(fixed: Float[Array, "n n"], sizes: Float[Array, " k"]) -> WeakPerspective:
    """The preconditioner of a fit's steps; points without a size (behind the camera) count as unseen.

    No derivative goes through it: a solution does not depend on its preconditioner.
    """
    fixed, sizes = lax.stop_gradient((fixed, jnp.where(jnp.isfinite(sizes), sizes, 0.0)))
    return WeakPerspective(sizes, _factor(_weak_perspective_system(fixed, sizes[: len(fixed)])).T)


def direct_step(
    coupling: Coupling, field: Float[Array, "w k 3"], model: LinearModel, damping: Float[Array, ""]
) -> FieldStep:
    """One Gauss-Newton step, the field eliminated by a Cholesky factor of S.

    With damping mu the model gains ``mu tr((dP - d)' A (dP - d))`` and mu times the diagonal of the reduced normal
    matrix; the field's part is again a scaling: G becomes ``G / (1 + mu)``, d becomes ``d / (1 + mu)`` in r~, and the
    new multipliers are a mean of what the step asks for and the old ones.

    Args:
        coupling: G at the landmarks.
        field: d, the present field there [mm].
        model: Residuals and priors, linearised.
        damping: mu; 0 for the plain step.

    Returns:
        Increment and multipliers.
    """
    points, unknowns = model.residual.shape[0], model.by_unknown.shape[2]
    count, damping_scale = 2 * points, 1.0 / (1.0 + damping)
    flat = model.by_point.reshape(count, 3)
    outer = jnp.matmul(flat, flat.T, precision=Precision.HIGHEST).reshape(points, 2, points, 2)
    dense = damping_scale * dense_coupling(coupling, len(field))
    factor = _factor((dense[:, None, :, None] * outer).reshape(count, count) + jnp.eye(count, dtype=outer.dtype))
    rows = jnp.concatenate(
        [
            model.by_unknown.reshape(count, unknowns).T,
            _residual_without_field(model, damping_scale * field).reshape(1, count),
        ]
    )
    whitened = _whiten(factor, rows)
    products = _products(whitened)
    normal = products[:-1, :-1] + model.hessian
    normal = normal + damping * jnp.diag(jnp.diagonal(normal))
    increment = -solve_positive_definite(normal, products[:-1, -1] + model.gradient)
    remaining = whitened[-1] + jnp.matmul(increment, whitened[:-1], precision=Precision.HIGHEST)
    dual = jsl.solve_triangular(factor, remaining, lower=True, trans="T").reshape(points, 2)
    return FieldStep(increment, _multipliers(model, dual).reshape(field.shape))


def conjugate_step(
    coupling: Coupling,
    field: Float[Array, "1 k 3"],
    model: LinearModel,
    damping: Float[Array, ""],
    preconditioner: WeakPerspective,
) -> FieldStep:
    """The same step as :func:`direct_step`, by preconditioned conjugate gradients; for many points of one photo.

    A damped step is another one: its mu multiplies the diagonal of the weak-perspective normal matrix, for the exact
    one's is not known here.

    The preconditioner has ``S_0 = (I + s G s) (x) I2`` for S and all else exact, so every iterate keeps the second
    equation, and on what keeps it the matrix is positive definite (a constraint preconditioner: Gould, Hribar, Nocedal
    2001). Derivatives are those of the solution, not of the iterates.

    Args:
        coupling: G at the landmarks.
        field: d, the present field there [mm].
        model: Residuals and priors, linearised.
        damping: mu.
        preconditioner: Of the start; of another pose it costs iterations, of which there are 30 at most.

    Returns:
        Increment and multipliers.
    """
    points, unknowns = model.residual.shape[0], model.by_unknown.shape[2]
    highest, damping_scale = Precision.HIGHEST, 1.0 / (1.0 + damping)
    factor = _block_factor(coupling, preconditioner)
    by_unknown = model.by_unknown.transpose(2, 1, 0)  # m 2 k
    whitened = factor.whiten(by_unknown.reshape(2 * unknowns, points)).reshape(unknowns, 2 * points)
    by_unknown = by_unknown.reshape(unknowns, 2 * points)
    products = _products(whitened)

    scales = lax.stop_gradient(jnp.diagonal(products + model.hessian))
    hessian = model.hessian + damping * jnp.diag(scales)
    small = factor_positive_definite(products + hessian)

    def precondition(residual: _Pair) -> _Pair:
        first, second = residual
        half = factor.whiten(first.T).reshape(2 * points)
        change = small.solve(jnp.matmul(whitened, half, precision=highest) - second)
        half = (half - jnp.matmul(change, whitened, precision=highest)).reshape(2, points)
        return factor.unwhiten(half).T, change

    def first_equation(solution: _Pair) -> Float[Array, "k 2"]:
        dual, change = solution
        spread = damping_scale * apply_coupling(coupling, _multipliers(model, dual)[None])[0]
        by_change = jnp.matmul(change, by_unknown, precision=highest).reshape(2, points).T
        return dual + jnp.sum(model.by_point * spread[:, None, :], axis=2) + by_change

    def equations(solution: _Pair) -> _Pair:
        dual, change = solution
        second = jnp.matmul(by_unknown, dual.T.reshape(2 * points), precision=highest)
        return first_equation(solution), second - jnp.matmul(hessian, change, precision=highest)

    def solve(right: _Pair) -> _Pair:
        begin = precondition(right)  # meets the second equation, as does every iterate after it
        met = jnp.zeros_like(right[1])
        rest = conjugate_gradient(
            lambda direction: (first_equation(direction), met),
            (right[0] - first_equation(begin), met),
            iterations=_MOST_ITERATIONS,
            tolerance=_TOLERANCE[right[0].dtype.itemsize],
            precondition=precondition,
        )
        return begin[0] + rest[0], begin[1] + rest[1]

    dual, change = solve_symmetric(
        equations, (_residual_without_field(model, damping_scale * field), -model.gradient), solve
    )
    return FieldStep(-change, _multipliers(model, dual)[None])


def damped_field(
    coupling: Coupling,
    field: Float[Array, "w k 3"],
    energy: Float[Array, ""],
    multipliers: Float[Array, "w k 3"],
    damping: Float[Array, ""],
) -> tuple[Float[Array, "w k 3"], Float[Array, ""]]:
    """Field at the landmarks and its penalty after a step: of the multipliers ``(alpha + mu alpha_old) / (1 + mu)``.

    Args:
        coupling: G.
        field: The old multipliers' field at the landmarks [mm], under the present correspondences.
        energy: ``tr(dP' A dP)`` before it.
        multipliers: alpha, of the step.
        damping: mu.

    Returns:
        Both after the step.
    """
    damping_scale = 1.0 / (1.0 + damping)
    applied = apply_coupling(coupling, multipliers)
    penalty = jnp.sum(multipliers * applied) - 2.0 * damping * jnp.sum(multipliers * field) + damping**2 * energy
    return damping_scale * (damping * field - applied), damping_scale**2 * penalty


class _BlockFactor(NamedTuple):
    """Cholesky factor of S_0, the fixed points' block apart."""

    fixed: Float[Array, "n n"]
    mixed: Float[Array, "c n"] | None
    contour: Float[Array, "c c"] | None

    def whiten(self, rows: Float[Array, "j k"]) -> Float[Array, "j k"]:
        """``L^-1 x`` for every row x."""
        n = len(self.fixed)
        first = _whiten(self.fixed, rows[:, :n])
        if self.mixed is None or self.contour is None:
            return first
        remaining = rows[:, n:] - jnp.matmul(first, self.mixed.T, precision=Precision.HIGHEST)
        return jnp.concatenate([first, _whiten(self.contour, remaining)], axis=1)

    def unwhiten(self, rows: Float[Array, "j k"]) -> Float[Array, "j k"]:
        """``L'^-1 x``."""
        n = len(self.fixed)
        if self.mixed is None or self.contour is None:
            return _unwhiten(self.fixed, rows)
        last = _unwhiten(self.contour, rows[:, n:])
        remaining = rows[:, :n] - jnp.matmul(last, self.mixed, precision=Precision.HIGHEST)
        return jnp.concatenate([_unwhiten(self.fixed, remaining), last], axis=1)


def _block_factor(coupling: Coupling, preconditioner: WeakPerspective) -> _BlockFactor:
    """Continue the fixed points' factor over the contour's, whose coupling is new at every step."""
    fixed = preconditioner.upper.T
    if coupling.mixed is None or coupling.contour is None:
        return _BlockFactor(fixed, None, None)
    own, others = preconditioner.sizes[len(fixed) :], preconditioner.sizes[: len(fixed)]
    mixed = _whiten(fixed, own[:, None] * coupling.mixed[0] * others[None])
    contour = _weak_perspective_system(coupling.contour[0, :, 0], own) - _products(mixed)
    return _BlockFactor(fixed, mixed, _factor(contour))


def _weak_perspective_system(coupling: Float[Array, "k k"], sizes: Float[Array, " k"]) -> Float[Array, "k k"]:
    """``I + s G s``."""
    return sizes[:, None] * coupling * sizes[None] + jnp.eye(len(sizes), dtype=sizes.dtype)


def _factor(matrix: Float[Array, "r r"]) -> Float[Array, "r r"]:
    """Lower Cholesky factor. LAPACK reads columns, and those of the transpose, which is the same, are the rows here."""
    return jnp.linalg.cholesky(matrix.T, symmetrize_input=False)


def _whiten(factor: Float[Array, "r r"], rows: Float[Array, "j r"]) -> Float[Array, "j r"]:
    """``L^-1 x`` for every row x: as rows, they lie in memory as LAPACK wants its columns."""
    return jsl.solve_triangular(factor, rows.T, lower=True).T


def _unwhiten(factor: Float[Array, "r r"], rows: Float[Array, "j r"]) -> Float[Array, "j r"]:
    """``L'^-1 x`` for every row x."""
    return jsl.solve_triangular(factor, rows.T, lower=True, trans="T").T


def _products(rows: Float[Array, "j r"]) -> Float[Array, "j j"]:
    """Inner products of all pairs of rows."""
    return lax.dot_general(rows, rows, (((1,), (1,)), ((), ())), precision=Precision.HIGHEST)


def _multipliers(model: LinearModel, dual: Float[Array, "r 2"]) -> Float[Array, "r 3"]:
    """``Jp' lambda``."""
    return jnp.sum(model.by_point * dual[:, :, None], axis=1)


def _residual_without_field(model: LinearModel, field: Float[Array, "w k 3"]) -> Float[Array, "r 2"]:
    """``r~ = r - Jp d``."""
    return model.residual - jnp.sum(model.by_point * field.reshape(-1, 1, 3), axis=2)
