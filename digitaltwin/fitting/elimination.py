"""The correction field, and its exact elimination from the normal equations.

Letters: v vertices, p points of the skin (n fixed ones, then q candidates of sliding contours), r residuals' points
(every landmark of every photo), m the other unknowns (coefficients, pose, focal scale).

The field dP is a free displacement of every vertex, the price of which is ``tr(dP' A dP)`` with
``A = omega_c (L'WL + lambda W)``, the same constant v x v matrix for x, y and z. The photos see dP at r points only,
``T Pi dP``: Pi the p x v barycentric rows, T the r x p choice among them. So at the minimum of any quadratic model

    dP = -A^-1 Pi' T' alpha,     T Pi dP = -G alpha,     tr(dP' A dP) = sum alpha * (G alpha),     G = T Pi A^-1 Pi' T'

with multipliers alpha [r 3], and 3v unknowns shrink to 3r that are never even solved for: substituted, they leave

    r~ = r - Jp d                  S = I + Jp (G (x) I3) Jp'           Cholesky, 2r x 2r
    (Jw' S^-1 Jw + H) D = -(Jw' S^-1 r~ + g)                           Cholesky, m x m
    alpha = Jp' lambda,  lambda = S^-1 (r~ + Jw D)

where Jp, Jw are the residual's derivatives by the point's position and by the other unknowns, d the current field at
the points, H and g half the Hessian and half the gradient of the priors (the energy carries no 1/2). The step is the
full-size sparse step to rounding, at a thousandth of its cost. That it forms normal equations in Jw is harmless: S^-1
bounds them, every coefficient has a prior, and the solver scales them to unit diagonal.

For some hundred points the Cholesky factor of S is too dear, and S is close to something cheaper. Under a distant
camera every Jp is ``s_i Q`` with one 2 x 3 matrix Q of orthonormal rows, and then ``S = (I + s G s) (x) I2``, an r x r
matrix. With it as preconditioner conjugate gradients solve the two equations above together
(:func:`conjugate_step`): what they have to mend is perspective alone.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from digitaltwin.fitting.config import FitConfig
from digitaltwin.geometry.laplacian import graph_laplacian, weighted_laplacian
from digitaltwin.solvers import conjugate_gradient, factor_positive_definite, solve_positive_definite

_MOST_DIRECT = 320
"""Points of one photo up to which S is factored."""
_CONJUGATE_ITERATIONS = {4: 6, 8: 16}
"""Enough for rounding, by bytes of the type: perspective leaves a hundredth of the error at each, a fifth at worst."""

_Pair = tuple[Float[Array, "r 2"], Float[Array, " m"]]


class FieldPrior(NamedTuple):
    """Eq. 2, ``omega (|L d|_W^2 + balance |d|_W^2)``, on the host in float64, d in millimetres."""

    operator: sp.csr_array
    """L [v v]."""
    weights: Float[np.ndarray, " v"]
    """Diagonal of W."""
    omega: float
    """``omega_c`` [mm^-2]."""
    balance: float
    """``lambda``."""

    def smoothness(self) -> sp.csr_array:
        """``N = L'WL``."""
        return sp.csr_array(self.operator.T @ sp.diags_array(self.weights) @ self.operator)

    def stiffness(self) -> sp.csc_array:
        """``A = omega (N + balance W)``, symmetric positive definite."""
        return sp.csc_array(self.omega * (self.smoothness() + self.balance * sp.diags_array(self.weights)))


def field_prior(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], config: FitConfig) -> FieldPrior:
    """Eq. 2 of a configuration: in lengths of the surface, or as printed.

    Args:
        vertices: The mean head [mm]; A is not rebuilt for every person.
        faces: Triangles.
        config: ``graph_prior``, or else ``correction_weight`` and ``correction_length_mm``.

    Returns:
        Its parts.
    """
    if config.graph_prior is not None:
        graph = config.graph_prior
        operator = graph_laplacian(faces, len(vertices))
        return FieldPrior(operator, np.ones(len(vertices)), graph.omega_c / graph.unit_mm**2, graph.lambda_delta)
    laplacian = weighted_laplacian(vertices, faces)
    balance = laplacian.area_mm2**2 / config.correction_length_mm**4
    omega = config.correction_weight * laplacian.area_mm2 / balance
    return FieldPrior(laplacian.operator, laplacian.weights, omega, balance)


class CorrectionField(NamedTuple):
    """What the elimination needs of A, which is never needed itself again."""

    response: Float[Array, "v p"]
    """``A^-1 Pi'``: the field that a unit force on each point raises [mm per unit of alpha]."""
    fixed: Float[Array, "n n"]
    """``Pi A^-1 Pi'``, that field at the points: among the fixed ones, ..."""
    mixed: Float[Array, "q n"]
    """... between candidates and fixed ones, ..."""
    candidates: Float[Array, "q q"]
    """... and among the candidates."""


class LaggedField(NamedTuple):
    """What Eq. 2 as printed needs besides.

    With B the expressions and u their change in the step, its prior is

        tr(e' A e) + u' Q u,    e = dP + C u,    C = (N + lambda W)^-1 N B,    Q = omega_c lambda B' W C

    so that the eliminated field is e, and dP follows as ``e - C u``.
    """

    vertices: Float[Array, "e v 3"]
    """C."""
    points: Float[Array, "p 3 e"]
    """``Pi C``."""
    quadratic: Float[Array, "e e"]
    """Q."""


def make_correction_field(
    prior: FieldPrior, rows: sp.csr_array, fixed_count: int, dtype: type[np.floating]
) -> CorrectionField:
    """Factor A once, on the host in float64, and keep its inverse at the points.

    Args:
        prior: Eq. 2.
        rows: Pi [p v], the fixed points first.
        fixed_count: n.
        dtype: Floating-point type of the result.

    Returns:
        Response and coupling.
    """
    response = spl.splu(prior.stiffness()).solve(rows.T.toarray())
    coupling = rows @ response
    coupling = (coupling + coupling.T) / 2.0
    n = fixed_count
    parts = (response, coupling[:n, :n], coupling[n:, :n], coupling[n:, n:])
    return CorrectionField(*(jnp.asarray(part, dtype) for part in parts))


def make_lagged_field(
    prior: FieldPrior, rows: sp.csr_array, expressions: Float[np.ndarray, "e v 3"], dtype: type[np.floating]
) -> LaggedField:
    """The constant factors of the lagged prior; see :class:`LaggedField`."""
    e, v, _ = expressions.shape
    modes = expressions.transpose(1, 0, 2).reshape(v, 3 * e)
    weights = prior.balance * prior.weights[:, None]
    kept = modes - spl.splu(prior.stiffness() / prior.omega).solve(weights * modes)
    quadratic = prior.omega * np.einsum("vex,vgx->eg", (weights * modes).reshape(v, e, 3), kept.reshape(v, e, 3))
    at_points = (rows @ kept).reshape(-1, e, 3).transpose(0, 2, 1)
    parts = (kept.reshape(v, e, 3).transpose(1, 0, 2), at_points, (quadratic + quadratic.T) / 2.0)
    return LaggedField(*(jnp.asarray(part, dtype) for part in parts))


def lagged_price(lagged: LaggedField, change: Float[Array, " e"]) -> Float[Array, ""]:
    """``u' Q u``."""
    return jnp.einsum("e,eg,g->", change, lagged.quadratic, change, precision=Precision.HIGHEST)


class Choice(NamedTuple):
    """T of the contour landmarks of w photos: each between two candidates."""

    first: Int[Array, "w c"]
    second: Int[Array, "w c"]
    share: Float[Array, "w c"]
    """Weight of the second; the first has one minus it."""


def blend(table: Float[Array, "q ..."], choice: Choice) -> Float[Array, "w c ..."]:
    """Rows of a table of candidates at the chosen points."""
    share = choice.share.reshape(choice.share.shape + (1,) * (table.ndim - 1))
    first, second = table[choice.first], table[choice.second]
    return first + share * (second - first)


def coupling(field: CorrectionField, choice: Choice | None, photos: int) -> Float[Array, "r r"]:
    """G of all landmarks of w photos, photo by photo, in each the fixed points and then the contour's."""
    n = field.fixed.shape[0]
    if choice is None:
        return jnp.tile(field.fixed, (photos, photos))
    contour = choice.first.shape[1]
    mixed = blend(field.mixed, choice)  # w c n
    rows = blend(field.candidates, choice).reshape(photos * contour, -1)
    among = blend(rows.T, choice).reshape(photos * contour, photos, contour).reshape(photos, contour, photos, contour)
    fixed = jnp.broadcast_to(field.fixed[None, :, None], (photos, n, photos, n))
    left = jnp.broadcast_to(mixed[:, :, None], (photos, contour, photos, n))
    upper = jnp.concatenate([fixed, left.transpose(2, 3, 0, 1)], axis=3)
    lower = jnp.concatenate([left, among], axis=3)
    count = photos * (n + contour)
    return jnp.concatenate([upper, lower], axis=1).reshape(count, count)


def gather_forces(field: CorrectionField, choice: Choice | None, forces: Float[Array, "w k 3"]) -> Float[Array, "p 3"]:
    """``T' alpha``: multipliers of landmarks as multipliers of points."""
    n, count = field.fixed.shape[0], field.response.shape[1]
    fixed = jnp.sum(forces[:, :n], axis=0)
    if choice is None:
        return fixed
    share = choice.share[..., None]
    candidates = jnp.zeros((count - n, 3), forces.dtype)
    candidates = candidates.at[choice.first].add((1.0 - share) * forces[:, n:])
    candidates = candidates.at[choice.second].add(share * forces[:, n:])
    return jnp.concatenate([fixed, candidates])


def field_at_fixed(field: CorrectionField, multipliers: Float[Array, "p 3"]) -> Float[Array, "n 3"]:
    """The eliminated field at the fixed points [mm]."""
    n = field.fixed.shape[0]
    own = jnp.matmul(field.fixed, multipliers[:n], precision=Precision.HIGHEST)
    return -own - jnp.matmul(field.mixed.T, multipliers[n:], precision=Precision.HIGHEST)


def field_at_candidates(
    field: CorrectionField, multipliers: Float[Array, "p 3"], index: Int[Array, " l"]
) -> Float[Array, "l 3"]:
    """The eliminated field at some candidates [mm]."""
    n = field.fixed.shape[0]
    own = jnp.matmul(field.candidates[index], multipliers[n:], precision=Precision.HIGHEST)
    return -own - jnp.matmul(field.mixed[index], multipliers[:n], precision=Precision.HIGHEST)


def field_at_vertices(field: CorrectionField, multipliers: Float[Array, "p 3"]) -> Float[Array, "v 3"]:
    """``-A^-1 Pi' alpha`` [mm]; needed once, after the last step."""
    return -jnp.matmul(field.response, multipliers, precision=Precision.HIGHEST)


def field_energy(field: CorrectionField, multipliers: Float[Array, "p 3"]) -> Float[Array, ""]:
    """``tr(dP' A dP)``, Eq. 2."""
    n = field.fixed.shape[0]
    fixed = field_at_fixed(field, multipliers)
    candidates = field_at_candidates(field, multipliers, jnp.arange(multipliers.shape[0] - n))
    return -jnp.sum(multipliers[:n] * fixed) - jnp.sum(multipliers[n:] * candidates)


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
    forces: Float[Array, "r 3"]
    """alpha, undamped: what the step itself asks for, which the old multipliers damp (:func:`damped_field`)."""


def direct_step(
    coupling: Float[Array, "r r"], field: Float[Array, "r 3"], model: LinearModel, damping: Float[Array, ""]
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
        Increment and forces.
    """
    points, unknowns = model.residual.shape[0], model.by_unknown.shape[2]
    count, ease = 2 * points, 1.0 / (1.0 + damping)
    flat = model.by_point.reshape(count, 3)
    outer = jnp.matmul(flat, flat.T, precision=Precision.HIGHEST).reshape(points, 2, points, 2)
    system = (ease * coupling[:, None, :, None] * outer).reshape(count, count) + jnp.eye(count, dtype=outer.dtype)
    factor = jnp.linalg.cholesky(system, symmetrize_input=False)
    columns = jnp.concatenate(
        [model.by_unknown.reshape(count, unknowns), _freed(model, ease * field).reshape(count, 1)], axis=1
    )
    whitened = jsl.solve_triangular(factor, columns, lower=True)
    products = jnp.matmul(whitened.T, whitened, precision=Precision.HIGHEST)
    normal = products[:-1, :-1] + model.hessian
    normal = normal + damping * jnp.diag(jnp.diagonal(normal))
    increment = -solve_positive_definite(normal, products[:-1, -1] + model.gradient)
    remaining = whitened[:, -1] + jnp.matmul(whitened[:, :-1], increment, precision=Precision.HIGHEST)
    force = jsl.solve_triangular(factor, remaining, lower=True, trans="T").reshape(points, 2)
    return FieldStep(increment, jnp.sum(model.by_point * force[:, :, None], axis=1))


def conjugate_step(
    coupling: Float[Array, "r r"],
    field: Float[Array, "r 3"],
    model: LinearModel,
    damping: Float[Array, ""],
    *,
    iterations: int | None = None,
) -> FieldStep:
    """The same step as :func:`direct_step`, by preconditioned conjugate gradients; for many points of one photo.

    With E = -D the two equations are ``[S, Jw; Jw', -H] (lambda, E) = (r~, -g)``. The preconditioner has
    ``S_0 = (I + s G s) (x) I2`` for S and all else exact, so every iterate keeps the second equation, and on what keeps
    it the matrix is positive definite (a constraint preconditioner: Gould, Hribar, Nocedal 2001). Q, whose rows are
    orthonormal, and the ``s_i`` are the best for the Jp at hand.

    Args:
        coupling: G at the landmarks.
        field: d, the present field there [mm].
        model: Residuals and priors, linearised.
        damping: mu.
        iterations: Of conjugate gradients; enough for rounding at any pose of a face in a photo by default.

    Returns:
        Increment and forces.
    """
    points, unknowns = model.residual.shape[0], model.by_unknown.shape[2]
    if iterations is None:
        iterations = _CONJUGATE_ITERATIONS[model.residual.dtype.itemsize]
    highest = Precision.HIGHEST
    ease = 1.0 / (1.0 + damping)
    coupling = ease * coupling
    by_point = model.by_point
    # Coordinates of the residuals in which Jp is nearly s_i times the identity: x and y of Q's frame.
    frame = _orthonormal_rows(jnp.sum(by_point, axis=0))
    scale = 0.5 * jnp.sum(by_point * frame[None], axis=(1, 2))
    factor = jnp.linalg.cholesky(
        coupling * scale[:, None] * scale[None] + jnp.eye(points, dtype=scale.dtype), symmetrize_input=False
    )
    columns = model.by_unknown.reshape(points, 2 * unknowns)
    whitened = jsl.solve_triangular(factor, columns, lower=True).reshape(2 * points, unknowns)
    products = jnp.matmul(whitened.T, whitened, precision=highest)

    # Marquardt's diagonal is that of the exact normal matrix, which is not known here; its preconditioner's is close.
    normal = products + model.hessian
    hessian = model.hessian + damping * jnp.diag(jnp.diagonal(normal))
    small = factor_positive_definite(products + hessian)

    def precondition(remainder: _Pair) -> _Pair:
        first, second = remainder
        half = jsl.solve_triangular(factor, first, lower=True).reshape(2 * points)
        change = small.solve(jnp.matmul(whitened.T, half, precision=highest) - second)
        half = (half - jnp.matmul(whitened, change, precision=highest)).reshape(points, 2)
        return jsl.solve_triangular(factor, half, lower=True, trans="T"), change

    def first_equation(solution: _Pair) -> Float[Array, "r 2"]:
        force, change = solution
        spread = jnp.matmul(coupling, jnp.sum(by_point * force[:, :, None], axis=1), precision=highest)
        by_change = jnp.einsum("ram,m->ra", model.by_unknown, change, precision=highest)
        return force + jnp.sum(by_point * spread[:, None, :], axis=2) + by_change

    right = _freed(model, ease * field)
    begin = precondition((right, -model.gradient))  # meets the second equation, as does every iterate after it
    met = jnp.zeros_like(model.gradient)
    force, change = conjugate_gradient(
        lambda direction: (first_equation(direction), met),
        (right - first_equation(begin), met),
        iterations=iterations,
        precondition=precondition,
    )
    force, change = begin[0] + force, begin[1] + change
    return FieldStep(-change, jnp.sum(by_point * force[:, :, None], axis=1))


def _orthonormal_rows(matrix: Float[Array, "2 3"]) -> Float[Array, "2 3"]:
    """The matrix of orthonormal rows nearest to one, ``(A A')^(-1/2) A``; the root of a 2 x 2 matrix in closed form."""
    (a, b), (_, c) = jnp.sum(matrix[:, None, :] * matrix[None], axis=2)
    root = jnp.sqrt(jnp.maximum(a * c - b * b, 0.0))
    span = jnp.sqrt(a + c + 2.0 * root)
    # (A A')^(1/2) = (A A' + root I) / span, inverted:
    inverse = jnp.array([[c + root, -b], [-b, a + root]]) * span / ((a + root) * (c + root) - b * b)
    return jnp.sum(inverse[:, :, None] * matrix[None], axis=1)


def eliminated_step(
    coupling: Float[Array, "r r"],
    field: Float[Array, "r 3"],
    model: LinearModel,
    damping: Float[Array, ""],
    *,
    photos: int,
) -> FieldStep:
    """The step by whichever of the two ways is cheaper.

    Several photos are solved directly whatever their number: each has a direction of sight, and so a Q, of its own, and
    the preconditioner knows one.
    """
    direct = photos > 1 or model.residual.shape[0] <= _MOST_DIRECT
    return (direct_step if direct else conjugate_step)(coupling, field, model, damping)


def damped_field(
    coupling: Float[Array, "r r"],
    field: Float[Array, "r 3"],
    energy: Float[Array, ""],
    forces: Float[Array, "r 3"],
    damping: Float[Array, ""],
) -> tuple[Float[Array, "r 3"], Float[Array, ""]]:
    """Field at the landmarks and its price after a step: of the multipliers ``(alpha + mu alpha_old) / (1 + mu)``.

    Args:
        coupling: G.
        field: The field at the landmarks before the step [mm], ``-G alpha_old``.
        energy: ``tr(dP' A dP)`` before it.
        forces: alpha, of the step.
        damping: mu.

    Returns:
        Both after the step.
    """
    ease = 1.0 / (1.0 + damping)
    raised = jnp.matmul(coupling, forces, precision=Precision.HIGHEST)
    price = jnp.sum(forces * raised) - 2.0 * damping * jnp.sum(forces * field) + damping**2 * energy
    return ease * (damping * field - raised), ease**2 * price


def _freed(model: LinearModel, field: Float[Array, "r 3"]) -> Float[Array, "r 2"]:
    """``r~ = r - Jp d``."""
    return model.residual - jnp.sum(model.by_point * field[:, None, :], axis=2)
