"""The unknowns of a fit, and the camera they imply.

Letters: w photos, u coefficients (e expressions, then identity), p points of the skin that carry multipliers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from digitaltwin.geometry import Camera
from digitaltwin.geometry._rotations import compose, matrix_from_quaternion

_REST_DISTANCE_MM = 1000.0  # of the head in the result of a fit that diverged


class Unknowns(NamedTuple):
    """The unknowns of the solver.

    ``FitResult.unknowns`` of one photo is a fit's ``init`` for the next frame. They belong to the given neutral shape
    they were found with, and to the solver's own size of the head: the result's size is set afterwards. With several
    photos, all but multipliers and change have a leading axis w.
    """

    coefficients: Float[Array, "*w u"]
    """Expressions, then (if fitted) identity beyond that of the given shape [mm]."""
    quaternion: Float[Array, "*w 4"]
    """Unit quaternion of R(q), w first, w >= 0."""
    translation: Float[Array, "*w 3"]
    """Origin of the head frame in the camera frame [mm]."""
    log_focal_scale: Float[Array, "*w"]
    """``s = log f_s``."""
    multipliers: Float[Array, "p 3"]
    """The Lagrange multipliers alpha, which stand for the correction field."""
    change: Float[Array, " e"]
    """Change of the expressions in the last step. Only the lagged prior needs it: the field is then
    ``-A^-1 Pi' alpha - C change``. Empty otherwise."""


PHOTO_AXES = Unknowns._make((0, 0, 0, 0, None, None))
"""Which of the unknowns have an axis of photos, for ``vmap``."""


def with_photo_axis(unknowns: Unknowns) -> Unknowns:
    """The unknowns of one photo as those of w = 1 photos."""
    parts = (part[None] if axis == 0 else part for part, axis in zip(unknowns, PHOTO_AXES))
    return Unknowns._make(parts)


def without_photo_axis(unknowns: Unknowns) -> Unknowns:
    """The inverse of :func:`with_photo_axis`."""
    parts = (part[0] if axis == 0 else part for part, axis in zip(unknowns, PHOTO_AXES))
    return Unknowns._make(parts)


def camera_of(
    focal_px: Float[Array, ""],
    principal_point_px: Float[Array, " 2"],
    unknowns: Unknowns,
    *,
    increment: Float[Array, " 7"] | None = None,
) -> Camera:
    """The camera of one photo, after an increment: rotation vector on the left, translation, log focal scale."""
    quaternion, translation, zoom = unknowns.quaternion, unknowns.translation, unknowns.log_focal_scale
    if increment is not None:
        quaternion = compose(increment[:3], quaternion)
        translation, zoom = translation + increment[3:6], zoom + increment[6]
    return Camera(matrix_from_quaternion(quaternion), translation, focal_px * jnp.exp(zoom), principal_point_px)


def at_rest(unknowns: Unknowns) -> Unknowns:
    """The given shape a metre in front of the camera: what is returned of a fit that is not finite."""
    rest = jax.tree.map(jnp.zeros_like, unknowns)
    return rest._replace(
        quaternion=rest.quaternion.at[..., 0].set(1.0), translation=rest.translation.at[..., 2].set(_REST_DISTANCE_MM)
    )


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all leaves are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
