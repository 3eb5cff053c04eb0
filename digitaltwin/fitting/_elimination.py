"""The correction field, and its exact elimination from the normal equations.

Letters: v vertices, p points of the skin (n fixed ones, then q candidates of sliding contours), r residuals' points
(every landmark of every photo), m the other unknowns (coefficients, pose, focal scale).

The field dP is a free displacement of every vertex, whose penalty (prior energy) is ``tr(dP' A dP)`` with
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

The step itself is made in :mod:`digitaltwin.fitting._steps`; here are A's constant factors, G, and the field that
belongs to given multipliers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from digitaltwin.fitting._config import FitConfig
from digitaltwin.geometry._laplacian import graph_laplacian, weighted_laplacian
from digitaltwin.io._store import digest, stored_arrays
from digitaltwin.solvers import single_blas_thread


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
    """The constant parts of A that the elimination needs; A itself is never needed again."""

    response: Float[Array, "v p"] | Float[np.ndarray, "v p"]
    """``A^-1 Pi'``: minus the field of a unit multiplier at each point [mm per unit of alpha]."""
    fixed: Float[Array, "n n"] | Float[np.ndarray, "n n"]
    """``Pi A^-1 Pi'``, that field at the points: its block among the fixed ones."""
    mixed: Float[Array, "q n"] | Float[np.ndarray, "q n"]
    """Its block between candidates and fixed ones."""
    candidates: Float[Array, "q q"] | Float[np.ndarray, "q q"]
    """Its block among the candidates."""


class LaggedField(NamedTuple):
    """The further constants of Eq. 2 as printed.

    With B the expressions and u their change in the step, its prior is

        tr(e' A e) + u' Q u,    e = dP + C u,    C = (N + lambda W)^-1 N B,    Q = omega_c lambda B' W C

    so that the eliminated field is e, and dP follows as ``e - C u``.
    """

    vertices: Float[Array, "e v 3"] | Float[np.ndarray, "e v 3"]
    """C."""
    points: Float[Array, "p 3 e"] | Float[np.ndarray, "p 3 e"]
    """``Pi C``."""
    quadratic: Float[Array, "e e"] | Float[np.ndarray, "e e"]
    """Q."""


def make_fields(
    prior: FieldPrior,
    rows: sp.csr_array,
    fixed_count: int,
    dtype: type[np.floating],
    *,
    lagged_modes: Float[np.ndarray, "e v 3"] | None,
) -> tuple[CorrectionField, LaggedField | None]:
    """The constant factors of A, from disk if another process has made them.

    Args:
        prior: Eq. 2.
        rows: Pi [p v], the fixed points first.
        fixed_count: Number n of the fixed points.
        dtype: Floating-point type of the result.
        lagged_modes: The expressions, for the lagged prior; None without it.

    Returns:
        Response and coupling, and the lagged prior's factors.
    """

    def make() -> dict[str, np.ndarray]:
        with single_blas_thread():
            arrays = make_correction_field(prior, rows, fixed_count, dtype)._asdict()
            if lagged_modes is not None:
                lagged = make_lagged_field(prior, rows, lagged_modes, dtype)._asdict()
                arrays |= {f"lagged_{name}": part for name, part in lagged.items()}
        return arrays

    matrices = [part for matrix in (prior.operator, rows) for part in (matrix.data, matrix.indices, matrix.indptr)]
    key = digest(*matrices, prior.weights, prior.omega, prior.balance, fixed_count, np.dtype(dtype).name, lagged_modes)
    arrays = {name: jax.device_put(part) for name, part in stored_arrays("fitter-factors", key, make).items()}
    lagged = None if lagged_modes is None else LaggedField(*(arrays[f"lagged_{name}"] for name in LaggedField._fields))
    return CorrectionField(*(arrays[name] for name in CorrectionField._fields)), lagged


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
    return CorrectionField(*(part.astype(dtype) for part in parts))


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
    return LaggedField(*(part.astype(dtype) for part in parts))


def lagged_penalty(lagged: LaggedField, change: Float[Array, " e"]) -> Float[Array, ""]:
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


class Coupling(NamedTuple):
    """G of all landmarks of w photos, photo by photo, in each the n fixed points and then the contour's c."""

    fixed: Float[Array, "n n"]
    """Among the fixed points, the same ones in every photo."""
    mixed: Float[Array, "w c n"] | None
    """Between the contour's and the fixed ones; None where nothing slides."""
    contour: Float[Array, "w c w c"] | None
    """Among the contour's."""


def coupling(field: CorrectionField, choice: Choice | None) -> Coupling:
    """G under the present correspondences."""
    fixed, mixed, candidates = (jnp.asarray(part) for part in (field.fixed, field.mixed, field.candidates))
    if choice is None:
        return Coupling(fixed, None, None)
    photos, count = choice.first.shape
    rows = blend(candidates, choice).reshape(photos * count, -1)
    among = blend(rows.T, choice).reshape(photos * count, photos, count)
    return Coupling(fixed, blend(mixed, choice), among.reshape(photos, count, photos, count))


def dense_coupling(parts: Coupling, photos: int) -> Float[Array, "r r"]:
    """G as one matrix."""
    if parts.mixed is None or parts.contour is None:
        return jnp.tile(parts.fixed, (photos, photos))
    _, c, n = parts.mixed.shape
    fixed = jnp.broadcast_to(parts.fixed[None, :, None], (photos, n, photos, n))
    left = jnp.broadcast_to(parts.mixed[:, :, None], (photos, c, photos, n))
    upper = jnp.concatenate([fixed, left.transpose(2, 3, 0, 1)], axis=3)
    lower = jnp.concatenate([left, parts.contour], axis=3)
    return jnp.concatenate([upper, lower], axis=1).reshape(photos * (n + c), photos * (n + c))


def apply_coupling(parts: Coupling, multipliers: Float[Array, "w k 3"]) -> Float[Array, "w k 3"]:
    """``G alpha``: minus the field at the landmarks that belongs to multipliers there [mm]."""
    n, highest = parts.fixed.shape[0], Precision.HIGHEST
    alike = jnp.sum(multipliers[:, :n], axis=0)
    at_fixed = jnp.matmul(parts.fixed, alike, precision=highest)
    if parts.mixed is None or parts.contour is None:
        return jnp.broadcast_to(at_fixed[None], multipliers.shape)
    at_fixed += jnp.einsum("wcn,wcx->nx", parts.mixed, multipliers[:, n:], precision=highest)
    at_contour = jnp.matmul(parts.mixed, alike, precision=highest)
    at_contour += jnp.einsum("wcvd,vdx->wcx", parts.contour, multipliers[:, n:], precision=highest)
    at_fixed = jnp.broadcast_to(at_fixed[None], (len(multipliers), *at_fixed.shape))
    return jnp.concatenate([at_fixed, at_contour], axis=1)


def gather_multipliers(
    field: CorrectionField, choice: Choice | None, multipliers: Float[Array, "w k 3"]
) -> Float[Array, "p 3"]:
    """``T' alpha``: multipliers of landmarks as multipliers of points."""
    n, count = field.fixed.shape[0], field.response.shape[1]
    fixed = jnp.sum(multipliers[:, :n], axis=0)
    if choice is None:
        return fixed
    share = choice.share[..., None]
    candidates = jnp.zeros((count - n, 3), multipliers.dtype)
    candidates = candidates.at[choice.first].add((1.0 - share) * multipliers[:, n:])
    candidates = candidates.at[choice.second].add(share * multipliers[:, n:])
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


def field_penalty(field: CorrectionField, multipliers: Float[Array, "p 3"]) -> Float[Array, ""]:
    """``tr(dP' A dP)``, Eq. 2."""
    n = field.fixed.shape[0]
    fixed = field_at_fixed(field, multipliers)
    candidates = field_at_candidates(field, multipliers, jnp.arange(multipliers.shape[0] - n))
    return -jnp.sum(multipliers[:n] * fixed) - jnp.sum(multipliers[n:] * candidates)
