"""The fit's Gauss-Newton steps over some photos of one head, with the correction field eliminated.

One photo is w = 1: the field couples the landmarks of all photos of a head, so that the step is made for all of them.

Letters: w photos; k landmarks of each, n fixed ones and then c on the contour; u coefficients (e expressions, then
identity); m unknowns of a step: the coefficients that all photos share, then for each photo its own and its pose. The
equations stand in :mod:`digitaltwin.fitting._fit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin import solvers
from digitaltwin.fitting._correspondences import Landmarks, Neutral, match_landmarks, positions
from digitaltwin.fitting._elimination import (
    coupling,
    field_at_fixed,
    field_penalty,
    gather_multipliers,
    lagged_penalty,
)
from digitaltwin.fitting._energy import PhotoModel, PhotoPrior, photo_energy, photo_model, residual_per_mm
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._steps import (
    LinearModel,
    WeakPerspective,
    conjugate_step,
    damped_field,
    direct_step,
    is_direct,
    make_weak_perspective,
)
from digitaltwin.fitting._unknowns import PHOTO_AXES, Unknowns
from digitaltwin.geometry._rotations import compose


class _Point(NamedTuple):
    """The unknowns, and what of the field they imply is worth keeping."""

    unknowns: Unknowns
    field: Float[Array, "w k 3"]
    """The eliminated field at the landmarks [mm], under the present correspondences."""
    penalty: Float[Array, ""]
    """Its penalty ``tr(dP' A dP)``, with the lagged prior's ``u' Q u``."""


def minimise(
    fitter: Fitter, neutral: Neutral, photos: Photo, start: Unknowns, *, shared: int, has_correction: bool
) -> tuple[Unknowns, Float[Array, " steps"]]:
    """Run the fit's steps.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        neutral: The given shape.
        photos: What w photos show of it.
        start: Where to start, with the axis w.
        shared: How many coefficients, the last ones, all photos share; the others are each photo's own.
        has_correction: Whether the start has a correction, as only a caller's has.

    Returns:
        The unknowns, and the energy before the first step and after each. A step judges itself by the correspondences
        it was made with, so where these change the energy may rise from one entry to the next.
    """
    config, count = fitter.config, len(photos.landmarks)
    damping = None if config.lagged_laplacian else solvers.Damping()
    owned = _ownership_mask(fitter, count, shared)

    def match(point: _Point) -> tuple[Landmarks, _Point]:
        one = lambda photo, unknowns, field: match_landmarks(fitter, neutral, photo, unknowns, field)  # noqa: E731
        landmarks, field = jax.vmap(one, (0, PHOTO_AXES, 0))(photos, point.unknowns, point.field)
        return landmarks, point._replace(field=field)

    def energy(landmarks: Landmarks, point: _Point) -> Float[Array, ""]:
        one = jax.vmap(lambda *photo: photo_energy(fitter, *photo), (0, 0, PHOTO_AXES, 0, 0))
        return jnp.sum(one(photos, landmarks, point.unknowns, point.field, owned)) + point.penalty

    first = _first_point(fitter, photos, start, has_correction=has_correction)
    preconditioner = None
    if config.iterations == 0 or not is_direct(*photos.landmarks.shape[:2]):
        landmarks, point = match(first)
        if config.iterations == 0:
            return start, energy(landmarks, point)[None]
        places = jax.vmap(positions, (0, PHOTO_AXES, 0))(landmarks, start, point.field)
        sizes = jax.vmap(residual_per_mm, (0, PHOTO_AXES, 0))(photos, start, places)
        preconditioner = make_weak_perspective(jnp.asarray(fitter.correction.fixed), sizes[0])

    def iterate(
        state: tuple[_Point, Float[Array, ""]], _: None
    ) -> tuple[tuple[_Point, Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
        point, mu = state
        landmarks, point = match(point)

        def propose(at: _Point, mu: Float[Array, ""]) -> _Point:
            return _propose(fitter, photos, landmarks, at, mu, preconditioner, shared=shared)

        before = solvers.State(point, energy(landmarks, point), mu)
        after = solvers.step(lambda at: energy(landmarks, at), propose, before, damping=damping)
        return (after.point, after.damping), (before.energy, after.energy)

    begin = (first, jnp.zeros((), fitter.mean.dtype))
    (last, _), (before, after) = lax.scan(iterate, begin, None, length=config.iterations)
    return last.unknowns, jnp.concatenate([before[:1], after])


def _first_point(fitter: Fitter, photos: Photo, start: Unknowns, *, has_correction: bool) -> _Point:
    """The start with its field at the fixed landmarks; matching adds the contour's."""
    zero = jnp.zeros((*photos.landmarks.shape[:2], 3), fitter.mean.dtype)
    if not has_correction:
        return _Point(start, zero, jnp.zeros((), fitter.mean.dtype))
    penalty = field_penalty(fitter.correction, start.multipliers)
    if fitter.lagged is not None:
        penalty += lagged_penalty(fitter.lagged, start.change)
    fixed = field_at_fixed(fitter.correction, start.multipliers)
    return _Point(start, zero.at[:, : len(fixed)].add(fixed[None]), penalty)


def _ownership_mask(fitter: Fitter, photos: int, shared: int) -> Float[Array, "w u"]:
    """1 where a coefficient is a photo's own, or the first photo's that all share; 0 for the copies of that."""
    u = fitter.precision.shape[0]
    first = (jnp.arange(photos) == 0)[:, None]
    return jnp.where(first | (jnp.arange(u) < u - shared)[None], 1.0, 0.0).astype(fitter.mean.dtype)


def _propose(
    fitter: Fitter,
    photos: Photo,
    landmarks: Landmarks,
    point: _Point,
    damping: Float[Array, ""],
    preconditioner: WeakPerspective | None,
    *,
    shared: int,
) -> _Point:
    """The Gauss-Newton step of all unknowns at once."""
    unknowns, field = point.unknowns, fitter.correction
    one = jax.vmap(lambda *photo: photo_model(fitter, *photo), (0, 0, PHOTO_AXES, 0))
    models, priors = one(photos, landmarks, unknowns, point.field)
    model = _assemble(fitter, models, priors, shared=shared)
    among = coupling(field, landmarks.choice)
    present = point.field
    if landmarks.lagged is not None:  # the eliminated field, e = dP + C u, starts where u = 0: at dP
        present -= jnp.einsum("wkxe,e->wkx", landmarks.lagged, unknowns.change, precision=Precision.HIGHEST)
    if preconditioner is None:
        increment, multipliers = direct_step(among, present, model, damping)
    else:
        increment, multipliers = conjugate_step(among, present, model, damping, preconditioner)
    at_landmarks, penalty = damped_field(among, present, point.penalty, multipliers, damping)
    moved = _moved(unknowns, increment, shared=shared)
    if fitter.lagged is not None:
        change = increment[: len(unknowns.change)]
        moved = moved._replace(change=change)
        penalty += lagged_penalty(fitter.lagged, change)
    multipliers = gather_multipliers(field, landmarks.choice, multipliers)
    multipliers = (multipliers + damping * unknowns.multipliers) / (1.0 + damping)
    return _Point(moved._replace(multipliers=multipliers), at_landmarks, penalty)


def _moved(unknowns: Unknowns, increment: Float[Array, " m"], *, shared: int) -> Unknowns:
    """The unknowns of every photo after a step, but for the field."""
    count = len(unknowns.coefficients)
    own = increment[shared:].reshape(count, -1)
    common = jnp.broadcast_to(increment[None, :shared], (count, shared))
    coefficients, pose = jnp.concatenate([own[:, :-7], common], axis=1), own[:, -7:]
    return unknowns._replace(
        coefficients=unknowns.coefficients + coefficients,
        quaternion=jax.vmap(compose)(pose[:, :3], unknowns.quaternion),
        translation=unknowns.translation + pose[:, 3:6],
        log_focal_scale=unknowns.log_focal_scale + pose[:, 6],
    )


def _assemble(fitter: Fitter, models: PhotoModel, priors: PhotoPrior, *, shared: int) -> LinearModel:
    """The models of all photos as one, in the order of a step's unknowns."""
    count, k, _, u = models.by_coefficient.shape
    own = u - shared
    of_one = jnp.concatenate([models.by_coefficient[..., :own], models.by_pose], axis=3)
    of_each = of_one[:, :, :, None, :] * jnp.eye(count, dtype=of_one.dtype)[:, None, None, :, None]
    jacobian = jnp.concatenate([models.by_coefficient[..., own:], of_each.reshape(count, k, 2, -1)], axis=3)

    by_each = jnp.concatenate([priors.by_coefficient[:, :own], priors.by_pose], axis=1)
    gradient = jnp.concatenate([priors.by_coefficient[0, own:], by_each.reshape(-1)])
    blocks = [jnp.diag(priors.curvature[0, own:])]
    for curvature, pose in zip(priors.curvature[:, :own], priors.pose_hessian):
        blocks += [jnp.diag(curvature), pose]
    hessian = jsl.block_diag(*blocks)
    if fitter.lagged is not None:
        e = fitter.lagged.quadratic.shape[0]
        hessian = hessian.at[:e, :e].add(fitter.lagged.quadratic)
    rows = count * k
    return LinearModel(
        residual=models.residual.reshape(rows, 2),
        by_point=models.by_point.reshape(rows, 2, 3),
        by_unknown=jacobian.reshape(rows, 2, -1),
        gradient=gradient,
        hessian=hessian,
    )
