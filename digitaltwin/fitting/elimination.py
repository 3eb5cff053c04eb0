"""The correction field, and its exact elimination from the normal equations.

Letters: v vertices, k landmarks, m the other unknowns (coefficients, pose, focal scale).

The field dP is a free displacement of every vertex, the price of which is ``tr(dP' A dP)`` with
``A = omega_c (L'WL + lambda W)``, the same constant v x v matrix for x, y and z. The photo sees dP through the k
landmarks only, ``Pi dP``, Pi the k x v barycentric rows. So at the minimum of any quadratic model

    dP = -A^-1 Pi' alpha,    Pi dP = -G alpha,    tr(dP' A dP) = sum alpha * (G alpha),    G = Pi A^-1 Pi'

with multipliers alpha [k 3], and 3v unknowns shrink to 3k that are never even solved for: substituted, they leave

    r~ = r - Jp Pi d                  S = I + Jp (G (x) I3) Jp'          Cholesky, 2k x 2k
    (Jw' S^-1 Jw + H) D = -(Jw' S^-1 r~ + g)                             Cholesky, m x m
    alpha = Jp' S^-1 (r~ + Jw D)

where Jp, Jw are the residual's derivatives by the landmark's position and by the other unknowns, d the current field,
H and g half the Hessian and half the gradient of the priors (the energy carries no 1/2). The step is the full-size
sparse step to rounding, at a thousandth of its cost. That it forms normal equations in Jw is harmless: S^-1 bounds
them, every coefficient has a prior, and the solver scales them to unit diagonal.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from digitaltwin.geometry.barycentric import interpolation_matrix
from digitaltwin.geometry.laplacian import weighted_laplacian
from digitaltwin.solvers import solve_positive_definite


class CorrectionField(NamedTuple):
    """What the elimination needs of A, which is never needed itself again."""

    response: Float[Array, "v k"]
    """``A^-1 Pi'``: the field that a unit force on each landmark raises [mm per unit of alpha]."""
    coupling: Float[Array, "k k"]
    """``G = Pi A^-1 Pi'``: what that field is at the landmarks."""


def field_stiffness(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], weight: float, length_mm: float
) -> sp.csc_array:
    """A of Eq. 2, in float64: ``omega_c (L'WL + lambda W)``, ``lambda = a^2 / l^4``, ``omega_c = weight a / lambda``.

    Args:
        vertices: The mean head [mm]; A is not rebuilt for every person.
        faces: Triangles.
        weight: ``omega_c lambda / a`` [mm^-4].
        length_mm: ``l``.

    Returns:
        Symmetric positive definite [v v], in mm^-2.
    """
    laplacian = weighted_laplacian(vertices, faces)
    balance = laplacian.area_mm2**2 / length_mm**4
    mass = sp.diags_array(laplacian.weights)
    smoothness = laplacian.operator.T @ mass @ laplacian.operator
    return sp.csc_array(weight * laplacian.area_mm2 * (smoothness / balance + mass))


def make_correction_field(
    stiffness: sp.csc_array,
    corners: Int[np.ndarray, "k 3"],
    barycentric: Float[np.ndarray, "k 3"],
    dtype: type[np.floating],
) -> CorrectionField:
    """Factor A once, on the host in float64, and keep its inverse at the landmarks.

    Args:
        stiffness: A.
        corners: The three vertices around each landmark.
        barycentric: Their weights.
        dtype: Floating-point type of the result.

    Returns:
        Response and coupling.
    """
    count = stiffness.diagonal().size
    rows = interpolation_matrix(corners, barycentric, count)
    response = spl.splu(stiffness).solve(rows.T.toarray())
    coupling = rows @ response
    return CorrectionField(jnp.asarray(response, dtype), jnp.asarray((coupling + coupling.T) / 2.0, dtype))


def field_at_landmarks(field: CorrectionField, multipliers: Float[Array, "k 3"]) -> Float[Array, "k 3"]:
    """``Pi dP = -G alpha`` [mm]; all that an iteration needs of the field."""
    return -jnp.matmul(field.coupling, multipliers, precision=Precision.HIGHEST)


def field_at_vertices(field: CorrectionField, multipliers: Float[Array, "k 3"]) -> Float[Array, "v 3"]:
    """``dP = -A^-1 Pi' alpha`` [mm]; needed once, after the last step."""
    return -jnp.matmul(field.response, multipliers, precision=Precision.HIGHEST)


def field_energy(field: CorrectionField, multipliers: Float[Array, "k 3"]) -> Float[Array, ""]:
    """``tr(dP' A dP)``, Eq. 2."""
    return -jnp.sum(multipliers * field_at_landmarks(field, multipliers))


def eliminated_step(
    field: CorrectionField,
    multipliers: Float[Array, "k 3"],
    residual: Float[Array, "k 2"],
    point_jacobian: Float[Array, "k 2 3"],
    jacobian: Float[Array, "k 2 m"],
    prior_gradient: Float[Array, " m"],
    prior_hessian: Float[Array, "m m"],
    damping: Float[Array, ""],
) -> tuple[Float[Array, " m"], Float[Array, "k 3"]]:
    """One Gauss-Newton step of everything, the field eliminated.

    With damping mu the model gains ``mu tr((dP - d)' A (dP - d))`` and mu times the diagonal of the reduced normal
    matrix; the field's part is again a scaling: G becomes ``G / (1 + mu)``, d becomes ``d / (1 + mu)`` in r~, and the
    new multipliers are a mean of what the step asks for and the old ones.

    Args:
        field: The eliminated field.
        multipliers: alpha, where the step starts.
        residual: r, weighted.
        point_jacobian: Jp, derivative of r by the landmarks' positions.
        jacobian: Jw, derivative of r by the other unknowns.
        prior_gradient: g, half the gradient of the other unknowns' priors.
        prior_hessian: H, half their Hessian.
        damping: mu; 0 for the plain step.

    Returns:
        The increment D of the other unknowns, and the new multipliers.
    """
    count, unknowns = 2 * residual.shape[0], jacobian.shape[2]
    ease = 1.0 / (1.0 + damping)
    shift = jnp.einsum(
        "kax,kx->ka", point_jacobian, field_at_landmarks(field, multipliers), precision=Precision.HIGHEST
    )
    reduced = (residual - ease * shift).reshape(count)
    outer = jnp.einsum("iax,jbx->iajb", point_jacobian, point_jacobian, precision=Precision.HIGHEST)
    system = (ease * field.coupling[:, None, :, None] * outer).reshape(count, count) + jnp.eye(count, dtype=outer.dtype)
    factor = jnp.linalg.cholesky(system)
    columns = jnp.concatenate([jacobian.reshape(count, unknowns), reduced[:, None]], axis=1)
    whitened = jsl.solve_triangular(factor, columns, lower=True)
    products = jnp.matmul(whitened.T, whitened, precision=Precision.HIGHEST)
    normal = products[:-1, :-1] + prior_hessian
    normal = normal + damping * jnp.diag(jnp.diagonal(normal))
    increment = -solve_positive_definite(normal, products[:-1, -1] + prior_gradient)
    remaining = whitened[:, -1] + jnp.matmul(whitened[:, :-1], increment, precision=Precision.HIGHEST)
    force = jsl.solve_triangular(factor, remaining, lower=True, trans="T").reshape(residual.shape)
    wanted = jnp.einsum("kax,ka->kx", point_jacobian, force, precision=Precision.HIGHEST)
    return increment, ease * (wanted + damping * multipliers)
