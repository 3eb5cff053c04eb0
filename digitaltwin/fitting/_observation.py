"""The data of a photo, as the caller gives them (:class:`Observation`) and as the energy needs them (:class:`Photo`).

An observation may leave things open, hold NaN, or show nothing usable. :func:`photo_of` fills in what is open, replaces
what cannot be used by numbers that do no harm, and says so in a status: under ``jit`` and ``vmap`` nothing raises, and
trouble in one photo stays there.

Letters: k landmarks, e expressions, u coefficients (e expressions, then identity); w photos where there are several.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num

from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._status import FitStatus
from digitaltwin.fitting._unknowns import Unknowns
from digitaltwin.types import InputError

_FLATTEST = 1e-3  # landmarks whose spread across their main direction is smaller than this share of it are a line

ImageSize = Num[Array, " 2"] | Num[np.ndarray, " 2"] | tuple[int | Num[Array, ""], int | Num[Array, ""]]
Scalar = float | int | Num[Array, ""] | Num[np.ndarray, ""]


class Observation(NamedTuple):
    """The arguments of a fit that belong to a photo, as floating-point arrays, in the photo's order of landmarks.

    Of several photos every array has a leading axis w.
    """

    landmarks: Float[Array, "*w k 2"] | Float[np.ndarray, "*w k 2"]
    """[px], x first."""
    image_size: Float[Array, "*w 2"] | Float[np.ndarray, "*w 2"]
    """Height and width [px]."""
    scores: Float[Array, "*w e"] | Float[np.ndarray, "*w e"] | None
    """Expression coefficients detected in the photo; None for 0."""
    focal_px: Float[Array, "*w"] | Float[np.ndarray, "*w"] | None
    """None where it is not known."""
    principal_point_px: Float[Array, "*w 2"] | Float[np.ndarray, "*w 2"] | None
    """None for the middle of the image."""
    weights: Float[Array, "*w k"] | Float[np.ndarray, "*w k"] | None
    """Weight of each landmark; None for 1."""


OBSERVATION_AXES = (2, 1, 1, 0, 1, 1)
"""Number of axes of each field of one photo's :class:`Observation`."""


class Photo(NamedTuple):
    """The data of one photo, its values safe, in the units of the energy and the fitter's order of landmarks.

    Of several photos every array has a leading axis w.
    """

    landmarks: Float[Array, "*w k 2"]
    """y [px]; anything finite where the weight is 0."""
    weights: Float[Array, "*w k"]
    """w."""
    focal_px: Float[Array, "*w"]
    principal_point_px: Float[Array, "*w 2"]
    coefficient_mean: Float[Array, "*w u"]
    """mu for the expressions, 0 for identity beyond the given shape."""
    focal_precision: Float[Array, "*w"]
    """``omega_r lambda_f``."""
    scale: Float[Array, "*w k"]
    """``(100 / W_eye) sqrt(w_k)`` [1/px]: the residuals' unit; 0 until ``residual_scale`` has set it."""


def as_floats(value: ArrayLike | tuple[Any, ...], dtype: np.dtype) -> Array | np.ndarray:
    """A value in the fitter's type: a JAX array stays one, all else is NumPy, so that no tiny program is compiled.

    Integers, tuples and arrays of them thereby meet one and the same compiled fit.
    """
    if isinstance(value, jax.Array):
        return value if value.dtype == dtype else value.astype(dtype)
    if isinstance(value, tuple) and any(isinstance(side, jax.Array) for side in value):
        return jnp.stack([jnp.asarray(side, dtype) for side in value])
    return np.asarray(value, dtype)


def make_observation(
    fitter: Fitter,
    landmarks: ArrayLike,
    image_size: ArrayLike | tuple[Any, ...],
    *,
    scores: ArrayLike | None,
    focal_px: ArrayLike | None,
    principal_point_px: ArrayLike | None,
    weights: ArrayLike | None,
) -> Observation:
    """The arguments in the fitter's type; None stays None."""
    given = (landmarks, image_size, scores, focal_px, principal_point_px, weights)
    dtype = np.dtype(fitter.mean.dtype)
    return Observation._make(None if part is None else as_floats(part, dtype) for part in given)


def check_shapes(
    fitter: Fitter, shape: ArrayLike, observation: Observation, init: Unknowns | None, *, photos: tuple[int, ...] = ()
) -> None:
    """Name the argument that does not fit.

    Args:
        fitter: Says how many landmarks, expressions and coefficients there are.
        shape: Neutral shape.
        observation: The photo's arguments, or the photos'.
        init: The caller's start.
        photos: ``(w,)`` for several photos.

    Raises:
        InputError: Says which shape an argument has and which it needs.
    """
    k, e, u = fitter.landmark_count, len(fitter.expressions), len(fitter.precision)
    expected: dict[str, tuple[ArrayLike | None, tuple[int, ...]]] = {"shape": (shape, fitter.mean.shape)}
    needed: tuple[tuple[int, ...], ...] = ((k, 2), (2,), (e,), (), (2,), (k,))
    expected |= {
        name: (value, (*photos, *of)) for name, value, of in zip(Observation._fields, observation, needed, strict=True)
    }
    if init is not None:
        change = 0 if fitter.lagged is None else e
        shapes = ((*photos, u), (*photos, 4), (*photos, 3), photos, (fitter.multiplier_count, 3), (change,))
        expected |= {f"init.{name}": (part, of) for name, part, of in zip(Unknowns._fields, init, shapes)}
    for name, (value, wanted) in expected.items():
        if value is not None and np.shape(value) != wanted:
            raise InputError(f"{name} has shape {np.shape(value)}; the fit needs {wanted}.")


def photo_of(
    fitter: Fitter, observation: Observation, *, others_finite: Bool[Array, ""]
) -> tuple[Photo, Int[Array, ""]]:
    """Make one photo's values safe, and judge them.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        observation: One photo's, of the right shapes.
        others_finite: Whether what belongs to no photo, or to the caller's start, is finite.

    Returns:
        The photo, and ``OK``, ``NON_FINITE_INPUT`` or ``DEGENERATE``.
    """
    dtype, config, order = fitter.mean.dtype, fitter.config, fitter.order
    landmarks, size = jnp.asarray(observation.landmarks)[order], jnp.asarray(observation.image_size)
    focal = jnp.max(size) if observation.focal_px is None else jnp.asarray(observation.focal_px)
    centre = size[::-1] / 2.0 if observation.principal_point_px is None else jnp.asarray(observation.principal_point_px)
    e = len(fitter.expressions)
    scores = jnp.zeros(e, dtype) if observation.scores is None else jnp.asarray(observation.scores)
    given = fitter.landmark_weights
    if observation.weights is not None:
        given = given * jnp.asarray(observation.weights)[order]

    seen = given > 0.0
    finite = (
        others_finite
        & jnp.all(jnp.isfinite(landmarks) | ~seen[:, None])
        & jnp.all(jnp.isfinite(given) & (given >= 0.0))
        & jnp.all(jnp.isfinite(scores))
        & jnp.isfinite(focal)
        & (focal > 0.0)
        & jnp.all(jnp.isfinite(centre))
    )
    spread = _spread(jnp.where(seen[:, None], landmarks, 0.0), seen.astype(dtype))
    degenerate = (jnp.sum(seen) < 4) | ~(spread[0] > (_FLATTEST * spread[1]))
    status = jnp.where(finite, jnp.where(degenerate, FitStatus.DEGENERATE, FitStatus.OK), FitStatus.NON_FINITE_INPUT)

    used = seen & (status == FitStatus.OK)
    scores = jnp.where(finite & config.expression_scores, scores, 0.0)
    focal_weight = config.lambda_f if observation.focal_px is None else config.lambda_f_known
    photo = Photo(
        landmarks=jnp.where(used[:, None], landmarks, 0.0),
        weights=jnp.where(used, given, 0.0),
        focal_px=jnp.where(finite, focal, 1.0),
        principal_point_px=jnp.where(finite, centre, 0.0),
        coefficient_mean=jnp.concatenate([scores, jnp.zeros(len(fitter.precision) - e, dtype)]),
        focal_precision=jnp.asarray(config.omega_r * focal_weight, dtype),
        scale=jnp.zeros_like(fitter.landmark_weights),
    )
    return photo, status


def _spread(points: Float[Array, "k 2"], weights: Float[Array, " k"]) -> Float[Array, " 2"]:
    """Standard deviations along the two principal directions, the smaller first."""
    share = weights / jnp.maximum(jnp.sum(weights), 1.0)
    centred = points - jnp.sum(share[:, None] * points, axis=0)[None]
    x, y = centred.T
    a, b, c = jnp.sum(share * x * x), jnp.sum(share * x * y), jnp.sum(share * y * y)
    middle, radius = (a + c) / 2.0, jnp.hypot((a - c) / 2.0, b)
    return jnp.sqrt(jnp.maximum(jnp.stack([middle - radius, middle + radius]), 0.0))
