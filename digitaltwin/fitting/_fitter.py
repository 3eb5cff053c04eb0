"""The constants that all fits of one head model share: what no photo changes, computed once, on the host in float64.

Letters: v vertices, k landmarks: n of them fixed to the skin, c on a contour that slides; l lines of j candidates for
the contour; p = n + l j points; e expressions, i identity coefficients, u = e + i (or e) coefficients that are unknown,
g groups.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from digitaltwin.fitting._config import FitConfig
from digitaltwin.fitting._contour import make_contour_lines
from digitaltwin.fitting._elimination import (
    CorrectionField,
    LaggedField,
    field_prior,
    make_fields,
)
from digitaltwin.fitting._points import FacePoints, landmark_points_of
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.head import HeadModel


class PointTable(NamedTuple):
    """Points of the head, linear in its vertices and in the coefficients."""

    corners: Int[Array, "p 4"]
    weights: Float[Array, "p 4"]
    rest: Float[Array, "p 3"]
    modes: Float[Array, "p 3 u"]
    """Displacement by each unknown coefficient."""


class SlidingContour(NamedTuple):
    """Candidates of the contour's landmarks, on lines across the outline (:mod:`digitaltwin.fitting._contour`)."""

    corners: Int[Array, "l j 3"]
    barycentric: Float[Array, "l j 3"]
    modes: Float[Array, "q 3 u"]
    """Displacement of the candidates, line by line, by each unknown coefficient."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fitter:
    """Constants that all fits of one head model share.

    It is a pytree, made once by :func:`make_fitter`. Inside, the n fixed landmarks come first and the c of the contour
    last; ``order`` takes a photo's there.
    """

    mean: Float[Array, "v 3"]
    """The mean head [mm]."""
    expressions: Float[Array, "e v 3"]
    """Displacement of the vertices by each expression [mm]."""
    identity: Float[Array, "i v 3"]
    """The identity basis, orthonormal."""
    group_identity: Float[Array, "g i"]
    """Identity coefficients of each group's mean [mm]."""
    order: Int[Array, " k"]
    """Which landmark of the photo each is."""
    landmark_weights: Float[Array, " k"]
    """Weight of each, in this order."""
    points: PointTable
    """All k of them at fixed anchors, in this order; of the contour's, where they are on a frontal face."""
    iris_identity: Float[Array, "k 3 i"] | None
    """What identity adds to ``PointTable.rest`` for points that are not on the skin; None without such."""
    contour: SlidingContour | None
    """None where nothing slides (c = 0)."""
    precision: Float[Array, " u"]
    """``omega / sigma^2`` of each coefficient's prior."""
    bound_precision: Float[Array, " u"]
    """The hinge's: as ``precision`` for expressions, 0 for identity."""
    correction: CorrectionField
    """What the correction field's elimination needs."""
    lagged: LaggedField | None
    """None but for the prior as printed."""
    config: FitConfig = field(metadata={"static": True})
    """The hyper-parameters."""
    eye_corners: tuple[int, int] = field(metadata={"static": True})
    """The outer eye corners, left and right, in this order."""
    closed_contour: bool = field(metadata={"static": True})
    """Whether the contour's last landmark neighbours its first."""

    @property
    def multiplier_count(self) -> int:
        """Number p of the points that carry Lagrange multipliers."""
        return self.correction.response.shape[1]

    @property
    def fixed_count(self) -> int:
        """Number n of the landmarks that do not slide."""
        return self.correction.fixed.shape[0]

    @property
    def landmark_count(self) -> int:
        """Number k of the landmarks."""
        return self.order.shape[0]


def make_fitter(
    head: HeadModel,
    config: FitConfig | None = None,
    *,
    points: FacePoints | None = None,
    dtype: type[np.floating] = np.float32,
) -> Fitter:
    """Prepare the fit of a head model: everything that no photo changes.

    Args:
        head: The head model.
        config: Hyper-parameters; ``FitConfig()`` by default.
        points: Which landmarks its photos come with: the 104 by default, or
            :func:`~digitaltwin.fitting.mesh_points_of` the head for the 478 points of the face mesh.
        dtype: Floating-point type of the fit; float64, where JAX has it enabled, is for referees.

    Returns:
        The fitter.

    Raises:
        InputError: A contour line meets no skin.

    Example:
        >>> from digitaltwin.head import load_head
        >>> fitter = make_fitter(load_head())
        >>> fitter.landmark_count, fitter.fixed_count
        (104, 87)
    """
    config = FitConfig() if config is None else config
    points = landmark_points_of(head) if points is None else points
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    expressions, identity = np.asarray(head.expressions, np.float64), np.asarray(head.identity, np.float64)

    on_contour = points.contour.landmarks
    fixed = np.setdiff1d(np.arange(len(points.rest)), on_contour)
    order = np.concatenate([fixed, on_contour])
    fixed_count = len(fixed) if config.sliding_contour else len(order)
    landmark_weights = points.landmark_weights.copy()
    landmark_weights[on_contour] *= config.contour_weight

    def floats(values: np.ndarray | Array) -> Array:
        """The values on the device; converted on the host and put there, for ``jnp.asarray`` compiles tiny programs."""
        return jax.device_put(np.asarray(values, dtype))

    def modes_of(expressions: np.ndarray, identity: np.ndarray) -> np.ndarray:
        return np.concatenate([expressions, identity], axis=2) if config.fit_identity else expressions

    rows = _row_matrix(points.corners[order], points.weights[order], len(mean))[:fixed_count]
    contour = None
    if config.sliding_contour:
        places = np.einsum("kj,kjx->kx", points.weights, mean[points.corners]) + points.rest
        lines = make_contour_lines(
            mean,
            faces,
            places[on_contour],
            points.contour.behind_mm,
            np.minimum(points.contour.before_mm, config.contour_reach_mm),
            inside=places[points.contour.inside],
            closed=points.contour.closed,
        )
        candidates = interpolation_matrix(lines.corners.reshape(-1, 3), lines.barycentric.reshape(-1, 3), len(mean))
        rows = sp.csr_array(sp.vstack([rows, candidates]))
        modes = modes_of(*(_modes(candidates, basis) for basis in (expressions, identity)))
        contour = SlidingContour(jax.device_put(lines.corners), floats(lines.barycentric), floats(modes))

    sees_irises = bool(points.rest.any())
    turns_eyes = np.array([name.startswith("eyeLook") for name in head.expression_names])
    std = np.where(sees_irises & turns_eyes, config.gaze_deviation, config.expression_deviation)
    expression_precision = config.omega_r / std**2
    identity_precision = config.omega_i / np.asarray(head.identity_std, np.float64) ** 2
    held = identity_precision if config.fit_identity else np.zeros(0)
    bound = expression_precision if config.expression_bounds else np.zeros(len(expressions))
    prior = field_prior(mean, faces, config)
    lagged_modes = expressions if config.lagged_laplacian else None
    correction, lagged = make_fields(prior, rows, fixed_count, dtype, lagged_modes=lagged_modes)
    beyond_skin = points.identity - np.einsum("kj,ikjx->kxi", points.weights, identity[:, points.corners])
    return Fitter(
        mean=floats(mean),
        expressions=floats(expressions),
        identity=floats(identity),
        group_identity=floats(head.group_identity),
        order=jax.device_put(order),
        landmark_weights=floats(landmark_weights[order]),
        points=PointTable(
            jax.device_put(points.corners[order]),
            floats(points.weights[order]),
            floats(points.rest[order]),
            floats(modes_of(points.expressions, points.identity)[order]),
        ),
        iris_identity=floats(beyond_skin[order]) if sees_irises else None,
        contour=contour,
        precision=floats(np.concatenate([expression_precision, held])),
        bound_precision=floats(np.concatenate([bound, np.zeros(len(held))])),
        correction=correction,
        lagged=lagged,
        config=config,
        eye_corners=(_place(order, points.eye_corners[0]), _place(order, points.eye_corners[1])),
        closed_contour=points.contour.closed,
    )


def points_on(fitter: Fitter, shape: Float[Array, "v 3"]) -> Float[Array, "k 3"]:
    """The landmarks on a neutral shape, at their fixed anchors [mm]."""
    table = fitter.points
    carried = jnp.einsum("kj,kjx->kx", table.weights, shape[table.corners], precision=Precision.HIGHEST)
    if fitter.iris_identity is None:
        return carried
    identity = identity_of(fitter, shape)
    moved = jnp.einsum("kxi,i->kx", fitter.iris_identity, identity, precision=Precision.HIGHEST)
    return carried + table.rest + moved


def identity_of(fitter: Fitter, shape: Float[Array, "v 3"]) -> Float[Array, " i"]:
    """Projection [mm] of a neutral shape's offset from the mean onto the identity basis."""
    return jnp.einsum("ivx,vx->i", fitter.identity, shape - fitter.mean, precision=Precision.HIGHEST)


def _place(order: np.ndarray, landmark: int) -> int:
    """Where a landmark comes in an order."""
    return int(np.flatnonzero(order == landmark)[0])


def _row_matrix(corners: np.ndarray, weights: np.ndarray, count: int) -> sp.csr_array:
    """Means of vertices as a sparse matrix [k v]."""
    rows = np.repeat(np.arange(len(corners)), corners.shape[1])
    return sp.coo_array((weights.ravel(), (rows, corners.ravel())), shape=(len(corners), count)).tocsr()


def _modes(rows: sp.csr_array, basis: Float[np.ndarray, "u v 3"]) -> Float[np.ndarray, "p 3 u"]:
    """Displacements of means of vertices by each mode."""
    count, v, _ = basis.shape
    return (rows @ basis.transpose(1, 2, 0).reshape(v, 3 * count)).reshape(-1, 3, count)
