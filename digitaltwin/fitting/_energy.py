"""The energy of Eq. 1 to 3: what one photo adds to it, and its first and second derivatives.

The correction field's own term is not here: the field is eliminated, and its penalty is known to
:mod:`digitaltwin.fitting._elimination`.

Letters: k landmarks; u coefficients (e expressions, then identity); 7 unknowns of a pose: rotation increment on the
left [rad], translation [mm], log focal scale.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.fitting._correspondences import Landmarks, positions
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._residuals import linearise
from digitaltwin.fitting._unknowns import Unknowns, camera_of
from digitaltwin.geometry import project
from digitaltwin.geometry._camera import camera_points


class PhotoModel(NamedTuple):
    """The residuals of one photo to first order about the present unknowns."""

    residual: Float[Array, "k 2"]
    """r, weighted."""
    by_point: Float[Array, "k 2 3"]
    """Jp: by the landmarks' positions [1/mm]."""
    by_coefficient: Float[Array, "k 2 u"]
    by_pose: Float[Array, "k 2 7"]


class PhotoPrior(NamedTuple):
    """Half the gradient and half the Gauss-Newton Hessian of one photo's priors."""

    by_coefficient: Float[Array, " u"]
    by_pose: Float[Array, " 7"]
    curvature: Float[Array, " u"]
    """The coefficients' Hessian is diagonal."""
    pose_hessian: Float[Array, "7 7"]


def photo_energy(
    fitter: Fitter,
    photo: Photo,
    landmarks: Landmarks,
    unknowns: Unknowns,
    field: Float[Array, "k 3"],
    owned: Float[Array, " u"],
) -> Float[Array, ""]:
    """E of Eq. 1 to 3 of one photo, without the field's penalty.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        photo: The photo.
        landmarks: What its landmarks are on the head.
        unknowns: The unknowns.
        field: The eliminated field at the landmarks [mm].
        owned: 1 for a coefficient whose prior this photo accounts for, 0 for a copy of another photo's.

    Returns:
        The energy.
    """
    config, coefficients = fitter.config, unknowns.coefficients
    camera = camera_of(photo.focal_px, photo.principal_point_px, unknowns)
    image = project(camera, positions(landmarks, unknowns, field))
    scale = photo.scale[:, None]
    residual = jnp.where(scale > 0.0, scale * (image - photo.landmarks), 0.0)
    held = fitter.precision * (coefficients - photo.coefficient_mean) ** 2
    bounded = fitter.bound_precision * _beyond(coefficients) ** 2
    return (
        jnp.sum(residual**2)
        + jnp.sum(owned * (held + bounded))
        + config.omega_r * config.lambda_q * jnp.sum(unknowns.quaternion[1:] ** 2)
        + photo.focal_precision * unknowns.log_focal_scale**2
    )


def photo_model(
    fitter: Fitter, photo: Photo, landmarks: Landmarks, unknowns: Unknowns, field: Float[Array, "k 3"]
) -> tuple[PhotoModel, PhotoPrior]:
    """Residuals and priors of one photo about the present unknowns; the arguments are those of :func:`photo_energy`."""
    image, by_point, by_pose = linearise(
        lambda increment: camera_of(photo.focal_px, photo.principal_point_px, unknowns, increment=increment),
        positions(landmarks, unknowns, field),
    )
    scale = photo.scale[:, None]
    by_point, by_pose = scale[..., None] * by_point, scale[..., None] * by_pose
    modes = landmarks.modes
    if landmarks.lagged is not None:  # what moves with the expressions is B - C: the rest is the eliminated field's
        modes = modes.at[..., : landmarks.lagged.shape[2]].add(-landmarks.lagged)
    by_coefficient = jnp.einsum("kax,kxu->kau", by_point, modes, precision=Precision.HIGHEST)
    model = PhotoModel(scale * (image - photo.landmarks), by_point, by_coefficient, by_pose)
    return model, _prior(fitter, photo, unknowns)


def residual_per_mm(photo: Photo, unknowns: Unknowns, points: Float[Array, "k 3"]) -> Float[Array, " k"]:
    """How much residual a millimetre at each landmark makes.

    The geometric mean of the derivative's singular values, which are ``f / z`` and, along the image's radius,
    ``f |p| / z^2``.
    """
    camera = camera_of(photo.focal_px, photo.principal_point_px, unknowns)
    places = camera_points(camera, points)
    return photo.scale * camera.focal_px * jnp.sqrt(jnp.linalg.norm(places, axis=1) / places[:, 2] ** 3)


def _prior(fitter: Fitter, photo: Photo, unknowns: Unknowns) -> PhotoPrior:
    """The priors of Eq. 3 about a point."""
    config, dtype = fitter.config, fitter.mean.dtype
    stiff = config.omega_r * config.lambda_q
    beyond = _beyond(unknowns.coefficients)
    bounds = jnp.where(beyond == 0.0, 0.0, fitter.bound_precision)
    by_coefficient = fitter.precision * (unknowns.coefficients - photo.coefficient_mean) + bounds * beyond
    # An increment on the left moves the quaternion's vector part by (w I - [vector]x) / 2.
    w, vector = unknowns.quaternion[0], unknowns.quaternion[1:]
    turn = 0.5 * (w * jnp.eye(3, dtype=dtype) + jnp.cross(jnp.eye(3, dtype=dtype), vector[None]).T)
    by_turn = stiff * jnp.sum(vector[:, None] * turn, axis=0)
    by_focal = photo.focal_precision * unknowns.log_focal_scale
    by_pose = jnp.concatenate([by_turn, jnp.zeros(3, dtype), by_focal[None]])
    of_turn = stiff * jnp.sum(turn[:, :, None] * turn[:, None, :], axis=0)
    of_focal = jnp.diag(jnp.concatenate([jnp.zeros(6, dtype), photo.focal_precision[None]]))
    return PhotoPrior(by_coefficient, by_pose, fitter.precision + bounds, of_focal + jnp.pad(of_turn, (0, 4)))


def _beyond(coefficients: Float[Array, " u"]) -> Float[Array, " u"]:
    """How far a coefficient is beyond [0, 1], with sign."""
    return coefficients - jnp.clip(coefficients, 0.0, 1.0)
