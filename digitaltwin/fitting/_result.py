"""The result of a fit, made from the solver's unknowns once, after the last step.

Letters: v vertices, e expressions, i identity coefficients, u coefficients (e expressions, then identity), w photos,
g groups.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.fitting._elimination import field_at_vertices
from digitaltwin.fitting._fitter import Fitter, identity_of
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._size_gauge import size_gauge
from digitaltwin.fitting._status import FitStatus
from digitaltwin.fitting._unknowns import PHOTO_AXES, Unknowns, all_finite, at_rest, camera_of
from digitaltwin.geometry import Camera
from digitaltwin.geometry._camera import camera_points

_FOCAL_SCALE_RANGE = 20.0


class FitResult(NamedTuple):
    """A fitted head; a pytree of arrays.

    Its overall size is not measured but that of the given shape P, over the landmarks: one photo does not tell size
    from distance. With ``fit_identity`` all lengths here (and the expression weights, which multiply lengths) are the
    solver's times the one factor that makes it so; every projection stays where it was. ``energies`` and ``unknowns``
    are the solver's.

    With w photos (:func:`fit_views`) what belongs to a photo has a leading axis w: vertices and expression, pose,
    status.
    """

    vertices: Float[Array, "*w v 3"]
    """The skin with identity, expression and correction, unposed, in the head frame [mm]."""
    neutral: Float[Array, "v 3"]
    """The skin without the expression: the person's own neutral shape [mm]."""
    expression: Float[Array, "*w e"]
    """The coefficients beta, in the order of the head's expressions; mostly within [0, 1]. ``vertices`` are ``neutral``
    with it on."""
    identity: Float[Array, " i"]
    """Projection [mm] of ``neutral - correction - mean`` onto the head's identity basis. What the basis lacks (detail
    of the given shape, some of the size) is in ``neutral`` alone. The parts follow ``neutral`` itself, its correction
    included: :func:`digitaltwin.head.parts_vertices`."""
    correction: Float[Array, "v 3"]
    """The correction field dP [mm]."""
    rotation: Float[Array, "*w 3 3"]
    """R(q), without the axis flip: the identity for a frontal face."""
    translation: Float[Array, "*w 3"]
    """Origin of the head frame in the camera frame [mm]."""
    focal_scale: Float[Array, "*w"]
    """The factor f_s, relative to the given focal length or to the longer side of the image. One photo of an unknown
    face hardly determines it: a longer focal length from further away shows nearly the same."""
    camera: Camera
    """Pose and intrinsics together, for :func:`digitaltwin.geometry.project`."""
    energies: Float[Array, " steps"]
    """E before the first and after each step. At fixed anchors it never rises but for rounding; where the contour's
    landmarks have slid before a step, it may start from more than the last one reached."""
    status: Int[Array, "*w"]
    """A :class:`FitStatus`. All arrays are finite in every case. With ``NON_FINITE_INPUT`` and ``DEGENERATE`` they hold
    the given shape with the scores' expression (the mean head and 0 in place of what is not finite), with ``DIVERGED``
    perhaps the given shape alone, and no pose worth the name. An energy that is not finite is the largest number of its
    type. That no step lowered the energy is no failure: all energies are then the same."""
    unknowns: Unknowns
    """Where the solver stopped; the ``init`` of the next fit."""


class GroupFit(NamedTuple):
    """The best of the fits started from each group's mean."""

    result: FitResult
    """The fit of the lowest energy."""
    group: Int[Array, ""]
    """Index into ``HeadModel.group_names`` of the start that won; a start, not a statement about the person."""
    energies: Float[Array, " g"]
    """Final energy from each start; inf where it failed."""


class _Shape(NamedTuple):
    """What all photos of a head share."""

    uncorrected: Float[Array, "v 3"]
    correction: Float[Array, "v 3"]
    gauge: Float[Array, ""]
    """The factor of all lengths."""


def make_result(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    photos: Photo,
    unknowns: Unknowns,
    energies: Float[Array, " steps"],
    status: Int[Array, "*w"],
) -> FitResult:
    """Expand the solver's unknowns to the head, once, and judge them.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        shape: The given neutral shape [mm].
        photos: One photo, or w of them.
        unknowns: Where the solver stopped.
        energies: Before the first step and after each.
        status: What the photos' data allow.

    Returns:
        The result, with an axis of photos if ``status`` has one.
    """
    sound = all_finite(unknowns) & jnp.isfinite(energies[-1])
    unknowns = jax.tree.map(lambda found, rest: jnp.where(sound, found, rest), unknowns, at_rest(unknowns))
    energies = jnp.where(jnp.isfinite(energies), energies, jnp.finfo(energies.dtype).max)
    several = status.ndim > 0
    first = unknowns.coefficients[0] if several else unknowns.coefficients
    head = _shape_of(fitter, shape, first, unknowns, usable=jnp.any(status == FitStatus.OK))
    neutral = head.uncorrected + head.correction

    def posed(photo: Photo, of: Unknowns, status: Int[Array, ""]) -> tuple[Array, Array, Camera, Array]:
        return _posed(fitter, head, neutral, photo, of, status, sound=sound)

    if several:
        vertices, expression, camera, status = jax.vmap(posed, (0, PHOTO_AXES, 0))(photos, unknowns, status)
    else:
        vertices, expression, camera, status = posed(photos, unknowns, status)
    return FitResult(
        vertices=vertices,
        neutral=neutral,
        expression=expression,
        identity=identity_of(fitter, head.uncorrected),
        correction=head.correction,
        rotation=camera.rotation,
        translation=camera.translation,
        focal_scale=jnp.exp(unknowns.log_focal_scale),
        camera=camera,
        energies=energies,
        status=status,
        unknowns=unknowns,
    )


def _shape_of(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    coefficients: Float[Array, " u"],
    unknowns: Unknowns,
    *,
    usable: Bool[Array, ""],
) -> _Shape:
    """Identity and correction at all vertices, in the size of the given shape."""
    correction = field_at_vertices(fitter.correction, unknowns.multipliers)
    if fitter.lagged is not None:
        correction -= jnp.einsum("evx,e->vx", fitter.lagged.vertices, unknowns.change, precision=Precision.HIGHEST)
    if not fitter.config.fit_identity:
        return _Shape(shape, correction, jnp.ones((), shape.dtype))
    extra = coefficients[len(fitter.expressions) :]
    uncorrected = shape + jnp.einsum("i,ivx->vx", extra, fitter.identity, precision=Precision.HIGHEST)
    gauge = size_gauge(fitter, shape, uncorrected + correction, usable=usable)
    return _Shape(gauge * uncorrected, gauge * correction, gauge)


def _posed(
    fitter: Fitter,
    head: _Shape,
    neutral: Float[Array, "v 3"],
    photo: Photo,
    unknowns: Unknowns,
    status: Int[Array, ""],
    *,
    sound: Bool[Array, ""],
) -> tuple[Float[Array, "v 3"], Float[Array, " e"], Camera, Int[Array, ""]]:
    """Vertices, expression, camera and status of one photo."""
    # Expressions are displacements in mm: on a larger face the same look takes larger ones.
    expression = head.gauge * unknowns.coefficients[: len(fitter.expressions)]
    camera = camera_of(photo.focal_px, photo.principal_point_px, unknowns)
    camera = camera._replace(translation=head.gauge * camera.translation)
    vertices = neutral + jnp.einsum("e,evx->vx", expression, fitter.expressions, precision=Precision.HIGHEST)
    in_front = jnp.all(camera_points(camera, vertices)[:, 2] > 0.0)
    astray = jnp.abs(unknowns.log_focal_scale) > jnp.log(_FOCAL_SCALE_RANGE)
    found = jnp.where(in_front, jnp.where(astray, FitStatus.DIVERGED, FitStatus.OK), FitStatus.BEHIND_CAMERA)
    found = jnp.where(sound, found, FitStatus.DIVERGED)
    return vertices, expression, camera, jnp.where(status == FitStatus.OK, found, status)
