"""Gauss-Newton steps from residuals in any pytree: dense, or matrix-free for unknowns too many to factor.

Letters: x unknowns, m their number, r residuals, also their number; J [r m]; W the weights of a robust loss
(:mod:`digitaltwin.solvers._robust`), 1 without; mu >= 0 the damping.

    dense           (J'WJ + mu diag(J'WJ)) dx = -J'W r        Cholesky, or QR of the stacked rows
    matrix-free     (J'WJ + mu D) dx = -J'W r                 conjugate gradients, J and J' by differentiation

Damping by the diagonal (Marquardt 1963) asks for no units. Matrix-free D is the diagonal where it is given, and else
the curvature along the gradient, one number for all. An unknown that no residual depends on stays where it is.

Cholesky forms J'WJ, and with it the square of J's condition number. In float32 a step is good to 5e-5 of its length at
a condition number (columns scaled to length 1) of 1e2, to 5e-3 at 1e3, which later steps make up for, and does not
exist at 1e4. QR works on J itself, at several times the cost: 6e-5 at 1e4, 2e-3 at 1e5. Where J is singular both give
NaN for mu = 0, which is rejected, and the damped step after it exists.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.lax import Precision
from jaxtyping import Array, Float, PyTree

from digitaltwin.solvers._conjugate_gradient import Operator, conjugate_gradient, tree_dot
from digitaltwin.solvers._gauss_newton import Energy, Proposal
from digitaltwin.solvers._linear import solve_positive_definite
from digitaltwin.solvers._robust import Losses, Residual, energy_of, reweighted

DenseStep = Callable[[Float[Array, "r m"], Float[Array, " r"], Float[Array, ""]], Float[Array, " m"]]


def least_squares(
    residual: Residual, *, loss: Losses = None, proposal: Callable[..., Proposal] | None = None
) -> tuple[Energy, Proposal]:
    """The two functions that :func:`digitaltwin.solvers.run` asks for.

    Args:
        residual: r(x), pytree to pytree.
        loss: A robust loss in place of squares, or one for each part of the residuals.
        proposal: ``functools.partial`` of :func:`dense_proposal` (the default) or :func:`matrix_free_proposal`.

    Returns:
        ``energy(x)`` and ``propose(x, mu)``.

    Example:
        >>> from digitaltwin.solvers import geman_mcclure, run
        >>> data = jnp.array([1.0, 2.0, 3.0, 40.0])
        >>> residual = lambda x: {"line": x["slope"] * jnp.arange(1.0, 5.0) - data}
        >>> result = run(*least_squares(residual, loss=geman_mcclure(1.0)), {"slope": jnp.array(1.5)}, iterations=9)
        >>> result.point["slope"].round(2).item()
        1.0
    """
    return energy_of(residual, loss=loss), (proposal or dense_proposal)(residual, loss=loss)


def normal_step(
    jacobian: Float[Array, "r m"], residual: Float[Array, " r"], damping: Float[Array, ""]
) -> Float[Array, " m"]:
    """``-(J'J + mu diag J'J)^-1 J'r`` by Cholesky; NaN where J'J is singular and mu = 0."""
    normal = jnp.matmul(jacobian.T, jacobian, precision=Precision.HIGHEST)
    normal = normal + damping * jnp.diag(jnp.diagonal(normal))
    return -solve_positive_definite(normal, jnp.matmul(jacobian.T, residual, precision=Precision.HIGHEST))


def orthogonal_step(
    jacobian: Float[Array, "r m"], residual: Float[Array, " r"], damping: Float[Array, ""]
) -> Float[Array, " m"]:
    """The same step by QR of ``[J; sqrt(mu) diag(J'J)^(1/2)]``, without squaring J's condition number.

    NaN where J is singular to rounding and mu = 0.
    """
    squares = jnp.sum(jacobian**2, axis=0)
    idle = squares == 0.0
    scale = lax.rsqrt(jnp.where(idle, 1.0, squares))
    # In columns of length 1 the damping's rows are a multiple of I; an idle unknown gets a row of its own. At mu = 0
    # the root has no derivative: there it is taken of a 1 that is not used.
    root = jnp.where(damping > 0.0, jnp.sqrt(jnp.where(damping > 0.0, damping, 1.0)), 0.0)
    rows = jnp.diag(jnp.where(idle, 1.0, root))
    q, triangle = jnp.linalg.qr(jnp.concatenate([jacobian * scale[None], rows]))
    right = jnp.matmul(q[: len(residual)].T, residual, precision=Precision.HIGHEST)
    # A flat direction is none to go a million miles along, though the energy would not object.
    flat = jnp.min(jnp.abs(jnp.diagonal(triangle))) <= 8.0 * jnp.finfo(triangle.dtype).eps
    return jnp.where(flat, jnp.nan, -scale * jsl.solve_triangular(triangle, right))


def dense_proposal(residual: Residual, *, loss: Losses = None, solve: DenseStep = normal_step) -> Proposal:
    """The step of a small problem, J by forward differentiation.

    Args:
        residual: r(x), pytree to pytree.
        loss: Its robust loss; the energy is ``energy_of(residual, loss=loss)``.
        solve: dx from J, r and mu: :func:`normal_step` or :func:`orthogonal_step`.

    Returns:
        A proposal for :func:`digitaltwin.solvers.run`.
    """

    def propose(x: PyTree, damping: Float[Array, ""]) -> PyTree:
        vector, restore = ravel_pytree(x)
        weighted = reweighted(residual, x, loss=loss)
        values, push = jax.linearize(lambda flat: ravel_pytree(weighted(restore(flat)))[0], vector)
        jacobian = jax.vmap(push, out_axes=1)(jnp.eye(vector.size, dtype=vector.dtype))
        return restore(vector + solve(jacobian, values, damping))

    return propose


def matrix_free_proposal(
    residual: Residual,
    *,
    loss: Losses = None,
    iterations: int,
    tolerance: float | None = None,
    diagonal: Callable[[PyTree], PyTree] | None = None,
    precondition: Callable[[PyTree, Float[Array, ""]], Operator] | None = None,
) -> Proposal:
    """The step by conjugate gradients, J and J' as products only; memory of a few x and r.

    A truncated solve is a descent direction all the same, so few iterations do where Gauss-Newton is far from the
    minimum; what they leave, the next step's residual still holds.

    Args:
        residual: r(x), pytree to pytree.
        loss: Its robust loss; the energy is ``energy_of(residual, loss=loss)``.
        iterations: Conjugate gradient steps in one Gauss-Newton step, at most that many with a tolerance.
        tolerance: As for :func:`digitaltwin.solvers.conjugate_gradient`.
        diagonal: diag(J'WJ) at x, such as :func:`normal_diagonal`: D, and Jacobi's preconditioner.
        precondition: At x and mu, a linear function that nearly undoes ``J'WJ + mu D``; in Jacobi's place.

    Returns:
        A proposal for :func:`digitaltwin.solvers.run`.
    """

    def propose(x: PyTree, damping: Float[Array, ""]) -> PyTree:
        values, push = jax.linearize(reweighted(residual, x, loss=loss), x)
        pull = jax.linear_transpose(push, x)
        gradient = pull(values)[0]
        curvature = _along(gradient, push) if diagonal is None else diagonal(x)

        def damped(direction: PyTree) -> PyTree:
            return jax.tree.map(
                lambda product, scale, part: product + damping * scale * part,
                pull(push(direction))[0],
                curvature,
                direction,
            )

        improve = None
        if precondition is not None:
            improve = precondition(x, damping)
        elif diagonal is not None:
            improve = _jacobi(curvature)
        increment = conjugate_gradient(
            damped, gradient, iterations=iterations, tolerance=tolerance, precondition=improve
        )
        return jax.tree.map(jnp.subtract, x, increment)

    return propose


def _along(gradient: PyTree, push: Operator) -> PyTree:
    """``|J g|^2 / |g|^2`` for every unknown: a mean of the curvatures, weighted towards those that matter."""
    length = jnp.sqrt(tree_dot(gradient, gradient))
    unit = jax.tree.map(lambda part: part / jnp.where(length > 0.0, length, 1.0), gradient)
    pushed = push(unit)
    curvature = tree_dot(pushed, pushed)
    return jax.tree.map(lambda part: jnp.full_like(part, curvature), gradient)


def _jacobi(diagonal: PyTree) -> Operator:
    """Division by the diagonal; damped it is ``1 + mu`` times as large, a factor that no preconditioner needs."""

    def invert(scale: Float[Array, "..."], part: Float[Array, "..."]) -> Float[Array, "..."]:
        return part / jnp.where(scale == 0.0, 1.0, scale)

    return lambda remainder: jax.tree.map(invert, diagonal, remainder)


def normal_diagonal(
    residual: Residual, *, loss: Losses = None, probes: PyTree | None = None
) -> Callable[[PyTree], PyTree]:
    """diag(J'WJ) from products alone, ``sum_p z_p * J'WJ z_p``.

    Args:
        residual: r(x), pytree to pytree.
        loss: Its robust loss.
        probes: z, shaped like x with one axis more in front. Exact if the probes add up to one in each unknown, and
            those that share a probe share no residual (a colouring: few products for a sparse J); an estimate for
            random signs, divided by the square root of their number. By default one probe for each unknown.

    Returns:
        The diagonal, a function of x.

    Example:
        >>> residual = lambda x: jnp.array([3.0 * x[0], x[1] + x[0]])
        >>> normal_diagonal(residual)(jnp.zeros(2)).tolist()
        [10.0, 1.0]
    """

    def diagonal(x: PyTree) -> PyTree:
        vector, restore = ravel_pytree(x)
        directions = jax.vmap(restore)(jnp.eye(vector.size, dtype=vector.dtype)) if probes is None else probes
        _, push = jax.linearize(reweighted(residual, x, loss=loss), x)
        pull = jax.linear_transpose(push, x)

        def one(total: PyTree, probe: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(lambda sum_, z, product: sum_ + z * product, total, probe, pull(push(probe))[0]), None

        # One probe at a time: all at once would be the dense Jacobian.
        return lax.scan(one, jax.tree.map(jnp.zeros_like, x), directions)[0]

    return diagonal
