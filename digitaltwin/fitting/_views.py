"""The fit of one head to several photos of a person.

Letters: v vertices, k landmarks, e expressions, w photos.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from digitaltwin.fitting._correspondences import neutral_points
from digitaltwin.fitting._eye_scale import residual_scale
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._minimise import minimise
from digitaltwin.fitting._observation import (
    OBSERVATION_AXES,
    ImageSize,
    Observation,
    Photo,
    Scalar,
    as_floats,
    check_shapes,
    make_observation,
    photo_of,
)
from digitaltwin.fitting._result import FitResult, make_result
from digitaltwin.fitting._start_pose import given_start, start_unknowns
from digitaltwin.fitting._status import FitStatus
from digitaltwin.fitting._unknowns import PHOTO_AXES, Unknowns, all_finite
from digitaltwin.io._programs import stored_program
from digitaltwin.solvers._blas import call_with_single_blas_thread
from digitaltwin.types import InputError


def fit_views(
    fitter: Fitter,
    shape: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    landmarks: Float[Array, "w k 2"] | Float[np.ndarray, "w k 2"],
    image_sizes: Num[Array, "w 2"] | Num[np.ndarray, "w 2"] | ImageSize,
    *,
    scores: Float[Array, "w e"] | Float[np.ndarray, "w e"] | Float[Array, " e"] | Float[np.ndarray, " e"] | None = None,
    focal_px: Num[Array, " w"] | Num[np.ndarray, " w"] | Scalar | None = None,
    principal_point_px: (
        Float[Array, "w 2"] | Float[np.ndarray, "w 2"] | Float[Array, " 2"] | Float[np.ndarray, " 2"] | None
    ) = None,
    weights: (
        Float[Array, "w k"] | Float[np.ndarray, "w k"] | Float[Array, " k"] | Float[np.ndarray, " k"] | None
    ) = None,
    init: Unknowns | None = None,
    share_expression: bool = False,
) -> FitResult:
    """Fit one head to several photos of a person: one identity and one correction, a pose and focal scale for each.

    All unknowns are solved for together: the field is eliminated from the landmarks of all photos at once, by a factor
    of a 2 w k x 2 w k matrix. That suits a handful of photos: the cost grows with ``(w k)^3``.

    The arguments are those of :func:`fit`, with a leading axis w, or without where it is the same for all photos.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        shape: Neutral shape P [mm].
        landmarks: Of every photo [px].
        image_sizes: Height and width of every photo [px].
        scores: Expression coefficients detected in every photo; their mean counts where the expression is shared.
        focal_px: Focal lengths [px].
        principal_point_px: Optical axes [px].
        weights: Weights of the landmarks.
        init: Start, as another call returned it.
        share_expression: Whether the face is the same in all photos, as taken at one moment; each has an expression of
            its own otherwise.

    Returns:
        The fit. A photo that cannot be used has a status of its own and no say in the rest.

    Raises:
        InputError: A number is not the fitter's; or the prior as printed, of one expression, meets several.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import make_fitter, predict_landmarks
        >>> from digitaltwin.geometry import Camera
        >>> from digitaltwin.geometry._rotations import matrix_from_rotation_vector
        >>> from digitaltwin.head import load_head
        >>> head, still = load_head(), jnp.zeros(52)
        >>> fitter = make_fitter(head)
        >>> photos = []
        >>> for yaw in (-0.4, 0.4):
        ...     turn = matrix_from_rotation_vector(jnp.array([0.0, yaw, 0.0]))
        ...     camera = Camera(turn, jnp.array([0.0, 0.0, 500.0]), jnp.array(640.0), jnp.array([320.0, 240.0]))
        ...     photos.append(predict_landmarks(fitter, camera, head.mean, still))
        >>> result = fit_views(fitter, head.mean, jnp.stack(photos), (480, 640))
        >>> result.status.tolist(), result.neutral.shape, result.expression.shape
        ([0, 0], (2699, 3), (2, 52))
    """
    if fitter.lagged is not None and not share_expression:
        raise InputError(
            "fitter: lagged_laplacian knows one expression only; use share_expression=True, or another prior."
        )
    one = make_observation(
        fitter,
        landmarks,
        image_sizes,
        scores=scores,
        focal_px=focal_px,
        principal_point_px=principal_point_px,
        weights=weights,
    )
    count = len(landmarks)
    observations = Observation._make(_of_each(part, count, axes) for part, axes in zip(one, OBSERVATION_AXES))
    check_shapes(fitter, shape, observations, init, photos=(count,))
    shape = as_floats(shape, fitter.mean.dtype)
    return call_with_single_blas_thread(
        _fit_photos, fitter, shape, observations, init, share_expression=share_expression
    )


def _of_each(value: Array | np.ndarray | None, count: int, axes: int) -> Array | np.ndarray | None:
    """Repeat what is the same for all photos."""
    if value is None or value.ndim != axes:
        return value
    library = jnp if isinstance(value, jax.Array) else np
    return library.broadcast_to(value[None], (count, *value.shape))


@partial(stored_program, static_argnames=("share_expression",))
def _fit_photos(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    observations: Observation,
    init: Unknowns | None,
    *,
    share_expression: bool,
) -> FitResult:
    """The compiled part of :func:`fit_views`: arrays of the fitter's type, of the right shapes."""
    shape_finite = jnp.all(jnp.isfinite(shape))
    shape = jnp.where(shape_finite, shape, fitter.mean)
    neutral = neutral_points(fitter, shape)
    count, u = len(observations.landmarks), len(fitter.precision)
    others_finite = jnp.broadcast_to(shape_finite, count)
    if init is not None:
        others_finite &= jax.vmap(all_finite, (PHOTO_AXES,))(init)

    def observe(observation: Observation, others_finite: Array) -> tuple[Photo, Unknowns, Array]:
        photo, status = photo_of(fitter, observation, others_finite=others_finite)
        start = start_unknowns(fitter, neutral.points, photo)
        return photo._replace(scale=residual_scale(fitter, neutral.points, photo, start)), start, status

    photos, start, status = jax.vmap(observe, out_axes=(0, PHOTO_AXES, 0))(observations, others_finite)
    if share_expression and count > 1:
        usable = jnp.where(status == FitStatus.OK, 1.0, 0.0)[:, None]
        mean = jnp.sum(usable * photos.coefficient_mean, axis=0) / jnp.maximum(jnp.sum(usable), 1.0)
        mean = jnp.broadcast_to(mean[None], photos.coefficient_mean.shape)
        photos, start = photos._replace(coefficient_mean=mean), start._replace(coefficients=mean)
    shared = u if share_expression or count == 1 else u - len(fitter.expressions)
    if init is not None:
        start = given_start(start, init, status, shared=u if share_expression else u - len(fitter.expressions))
    unknowns, energies = minimise(fitter, neutral, photos, start, shared=shared, has_correction=init is not None)
    return make_result(fitter, shape, photos, unknowns, energies, status)
