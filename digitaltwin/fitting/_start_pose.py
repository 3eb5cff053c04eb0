"""The start of one photo's fit: EPnP's pose, or a frontal one where that explains the photo better.

The frontal pose puts the landmarks' centre and size right. It is what remains when the face is so far off the model, or
the landmarks are so few, that EPnP has no answer, or one behind the camera.

Letters: k landmarks, e expressions.
"""

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from digitaltwin.fitting._epnp import epnp
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._status import FitStatus
from digitaltwin.fitting._unknowns import Unknowns
from digitaltwin.geometry._camera import AXIS_FLIP
from digitaltwin.geometry._rotations import quaternion_from_matrix


def start_unknowns(fitter: Fitter, landmarks: Float[Array, "k 3"], photo: Photo) -> Unknowns:
    """``f_s = 1``, the expression of the photo's scores, no correction, and the better of two poses.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        landmarks: The landmarks on the given neutral shape, at their fixed anchors [mm].
        photo: One photo.

    Returns:
        The unknowns that the steps start from.
    """
    dtype, mean = fitter.mean.dtype, photo.coefficient_mean
    points = landmarks + jnp.einsum("kxu,u->kx", fitter.points.modes, mean, precision=Precision.HIGHEST)
    image = (photo.landmarks - photo.principal_point_px[None]) / photo.focal_px
    blind = jnp.sum(photo.weights) == 0.0
    weights = jnp.where(blind, 1.0, photo.weights)
    flip = jnp.asarray(AXIS_FLIP, dtype)

    share = (weights / jnp.sum(weights))[:, None]
    centre, image_centre = jnp.sum(share * points, axis=0), jnp.sum(share * image, axis=0)
    size = jnp.sqrt(jnp.sum(share * (points - centre[None])[:, :2] ** 2))
    image_size = jnp.sqrt(jnp.sum(share * (image - image_centre[None]) ** 2))
    depth = size / jnp.where(blind | (image_size == 0.0), 0.1, image_size)
    frontal = depth * jnp.concatenate([image_centre, jnp.ones(1, dtype)]) - flip * centre
    moved = flip[None] * points + frontal[None]
    error = jnp.sqrt(jnp.sum(share * (moved[:, :2] / moved[:, 2:] - image) ** 2))

    pose = epnp(points, image, weights=weights)
    trusted = (pose.error < error) & ~blind
    rotation = jnp.where(trusted, flip[:, None] * pose.rotation, jnp.eye(3, dtype=dtype))
    return Unknowns(
        coefficients=mean,
        quaternion=quaternion_from_matrix(rotation),
        translation=jnp.where(trusted, pose.translation, frontal),
        log_focal_scale=jnp.zeros((), dtype),
        multipliers=jnp.zeros((fitter.multiplier_count, 3), dtype),
        change=jnp.zeros(0 if fitter.lagged is None else len(fitter.expressions), dtype),
    )


def given_start(own: Unknowns, init: Unknowns, status: Int[Array, " w"], *, shared: int) -> Unknowns:
    """The caller's start for photos that are usable; where none is, no correction either.

    Args:
        own: The start found here, of w photos.
        init: The caller's.
        status: Of every photo.
        shared: How many coefficients, the last ones, all photos share. The first usable photo's start says them.

    Returns:
        The start.
    """
    init = jax.tree.map(lambda given, mine: jnp.asarray(given, mine.dtype), init, own)
    usable = status == FitStatus.OK

    def chosen(given: Array, mine: Array) -> Array:
        return jnp.where(usable.reshape(-1, *(1,) * (mine.ndim - 1)), given, mine)

    anywhere = jnp.any(usable)
    coefficients = chosen(init.coefficients, own.coefficients)
    photos_own = coefficients.shape[1] - shared
    common = coefficients[jnp.argmax(usable)][None, photos_own:]
    return Unknowns(
        coefficients.at[:, photos_own:].set(jnp.broadcast_to(common, coefficients[:, photos_own:].shape)),
        chosen(init.quaternion, own.quaternion),
        chosen(init.translation, own.translation),
        chosen(init.log_focal_scale, own.log_focal_scale),
        jnp.where(anywhere, init.multipliers, own.multipliers),
        jnp.where(anywhere, init.change, own.change),
    )
