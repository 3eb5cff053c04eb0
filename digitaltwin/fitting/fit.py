"""The fit of a head to the landmarks of one photo (the paper's section 4.2, with the corrections named below).

Letters: v vertices, k landmarks, e expressions, i identity coefficients, c = e + i (or e) coefficients that are
unknown, n iterations, g groups.

    P_F = P + sum_c u_c B_c + dP                      u = (beta, z - z_0): expressions, and identity beyond P's own
    E   = (100 / W_eye)^2 sum_k w_k |project(P_F; q, t, f_s)_k - y_k|^2                                       Eq. 1
        + tr(dP' A dP),    A = omega_c (L'WL + lambda W)                                                      Eq. 2
        + omega_r ( sum ((beta - mu) / sigma)^2 + sum hinge(beta; 0, 1)^2 / sigma^2 + lambda_q |q|^2 + lambda_f s^2 )
        + omega_i sum ((z - z_0) / sigma_z)^2                                                                 Eq. 3

W_eye is the distance of the outer eye corners in the image, freed from the start pose's foreshortening: with it inside
the square (the paper prints it outside) the balance of the terms is the same at every resolution. ``f_s = exp(s)``
stays positive, and ``log^2 f_s`` is ``s^2``. mu are the expression scores read off the photo, and the hinge
keeps expressions near [0, 1], where the shapes were made. The prior's L acts on dP alone (the paper's on last
iteration's expressions too, so that its steps minimise no single energy).

Landmarks see dP through k points, and it is eliminated exactly: :mod:`digitaltwin.fitting.elimination`.

One photo does not tell size from distance: head and translation scaled together leave every projection unchanged. But
the priors are in millimetres, and a smaller head is corrected more cheaply (``tr(dP' A dP)`` falls with the square of
the size), so the minimum lies at a head that is a few percent too small. Where identity is unknown the size is
therefore a gauge, fixed after the last step: the whole fit is scaled by

    size(landmarks on P) / size(landmarks on the fitted neutral shape)          size = RMS distance from their centroid

over all 104 landmarks. The contour's belong to it: of a neutral face they measure the outline, and with them the ratio
follows the face's own size more closely than without.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Int, Num

from digitaltwin.fitting.config import FitConfig
from digitaltwin.fitting.elimination import (
    CorrectionField,
    eliminated_step,
    field_at_landmarks,
    field_at_vertices,
    field_energy,
    field_stiffness,
    make_correction_field,
)
from digitaltwin.fitting.epnp import epnp
from digitaltwin.fitting.residuals import linearise, outer_eye_distance_px
from digitaltwin.geometry.barycentric import interpolate
from digitaltwin.geometry.camera import Camera, camera_points, project
from digitaltwin.geometry.rotations import compose, matrix_from_quaternion, quaternion_from_matrix
from digitaltwin.head.markup import CONTOUR, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from digitaltwin.head.model import HeadModel
from digitaltwin.solvers import run
from digitaltwin.types import InputError

OK, NON_FINITE_INPUT, DEGENERATE_LANDMARKS, BEHIND_CAMERA, DIVERGED = range(5)
"""Values of ``FitResult.status``."""

_FRONTAL_COSINE = 0.3  # a pose turned further than this gives no scale that could be trusted
_FLATTEST = 1e-3  # landmarks whose spread across their main direction is smaller than this share of it are a line
_FOCAL_SCALE_RANGE = 20.0

ImageSize = Num[Array, " 2"] | Num[np.ndarray, " 2"] | tuple[int | Num[Array, ""], int | Num[Array, ""]]
Scalar = float | int | Num[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fitter:
    """What all fits of one head model share; a pytree, made once by :func:`make_fitter`."""

    mean: Float[Array, "v 3"]
    expressions: Float[Array, "e v 3"]
    identity: Float[Array, "i v 3"]
    group_identity: Float[Array, "g i"]
    corners: Int[Array, "k 3"]
    """The three skin vertices around each landmark ..."""
    barycentric: Float[Array, "k 3"]
    """... and their weights."""
    landmark_modes: Float[Array, "k 3 c"]
    """Displacement of each landmark by each unknown coefficient."""
    precision: Float[Array, " c"]
    """``omega / sigma^2`` of each coefficient's prior."""
    bound_precision: Float[Array, " c"]
    """The hinge's: as ``precision`` for expressions, 0 for identity."""
    correction: CorrectionField
    config: FitConfig = field(metadata={"static": True})


class Unknowns(NamedTuple):
    """Where the solver stands; ``FitResult.unknowns`` of one photo is a fit ``init`` for the next frame.

    They belong to the same given shape, and to the solver's own size of the head: the result's is set afterwards.
    """

    coefficients: Float[Array, " c"]
    """Expressions, then (if fitted) identity beyond that of the given shape [mm]."""
    quaternion: Float[Array, " 4"]
    """Unit quaternion of R(q), w first, w >= 0."""
    translation: Float[Array, " 3"]
    """Origin of the head frame in the camera frame [mm]."""
    log_focal_scale: Float[Array, ""]
    """s."""
    multipliers: Float[Array, "k 3"]
    """alpha: the correction field, as the elimination holds it."""


class FitResult(NamedTuple):
    """A fitted head.

    Its overall size is not measured but P's, over the landmarks: one photo does not tell size from distance. With
    ``fit_identity`` all lengths here (and the expression weights, which multiply lengths) are the solver's times the
    one factor that makes it so; every projection stays where it was. ``energies`` and ``unknowns`` are the solver's.
    """

    vertices: Float[Array, "v 3"]
    """The skin with identity, expression and correction, unposed, in the head frame [mm]."""
    neutral: Float[Array, "v 3"]
    """The same without the expression: the person's own neutral shape [mm]."""
    expression: Float[Array, " e"]
    """beta, in the order of the head's expressions; mostly within [0, 1]. ``vertices`` are ``neutral`` with it on."""
    identity: Float[Array, " i"]
    """Projection [mm] of ``neutral - correction - mean`` onto the head's identity basis. What the basis lacks (detail
    of the given shape, some of the size) is in ``neutral`` alone. The parts follow ``neutral`` itself, its correction
    included: :func:`digitaltwin.head.parts_vertices`."""
    correction: Float[Array, "v 3"]
    """dP [mm]."""
    rotation: Float[Array, "3 3"]
    """R(q), without the axis flip: the identity for a frontal face."""
    translation: Float[Array, " 3"]
    """Origin of the head frame in the camera frame [mm]."""
    focal_scale: Float[Array, ""]
    """f_s, relative to the given focal length or to the longer side of the image. One photo of an unknown face hardly
    determines it: a longer focal length from further away shows nearly the same."""
    camera: Camera
    """Pose and intrinsics together, for :func:`digitaltwin.geometry.camera.project`."""
    energies: Float[Array, " steps"]
    """E before the first and after each step; but for rounding it never rises."""
    status: Int[Array, ""]
    """0 ok; 1 an input is not finite; 2 fewer than four landmarks, or all on a line; 3 part of the head is behind the
    camera; 4 diverged. All arrays are finite in every case; for 1 and 2 they hold the given shape with the
    scores' expression (the mean head and 0 in place of what is not finite), and no pose worth the name."""
    unknowns: Unknowns


class GroupFit(NamedTuple):
    """The best of the fits started from each group's mean."""

    result: FitResult
    group: Int[Array, ""]
    """Index into ``HeadModel.group_names`` of the start that won; a start, not a statement about the person."""
    energies: Float[Array, " g"]
    """Final energy from each start; inf where it failed."""


class _Observation(NamedTuple):
    """One photo, its values made safe, in the units of the energy."""

    landmarks: Float[Array, "k 2"]
    """y [px]; anything finite where the weight is 0."""
    weights: Float[Array, " k"]
    """w."""
    points: Float[Array, "k 3"]
    """The landmarks on the given neutral shape [mm]."""
    focal_px: Float[Array, ""]
    principal_point_px: Float[Array, " 2"]
    coefficient_mean: Float[Array, " c"]
    """mu for the expressions, 0 for identity beyond the given shape."""
    focal_precision: Float[Array, ""]
    """``omega_r lambda_f``."""


def make_fitter(head: HeadModel, config: FitConfig, *, dtype: type[np.floating] = np.float32) -> Fitter:
    """Prepare the fit of a head model: everything that no photo changes, computed on the host in float64.

    Args:
        head: The head model.
        config: Weights and counts; ``FitConfig()`` for the defaults.
        dtype: Floating-point type of the fit; float64, where JAX has it enabled, is for referees.

    Returns:
        The fitter.
    """
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    expressions, identity = np.asarray(head.expressions, np.float64), np.asarray(head.identity, np.float64)
    corners = faces[np.asarray(head.landmarks.faces)]
    barycentric = np.asarray(head.landmarks.barycentric, np.float64)
    modes = np.concatenate([expressions, identity]) if config.fit_identity else expressions
    expression_precision = np.full(len(expressions), config.omega_r / config.expression_deviation**2)
    identity_precision = config.omega_i / np.asarray(head.identity_deviation, np.float64) ** 2
    held = identity_precision if config.fit_identity else np.zeros(0)
    stiffness = field_stiffness(mean, faces, config.correction_weight, config.correction_length_mm)
    return Fitter(
        mean=jnp.asarray(mean, dtype),
        expressions=jnp.asarray(expressions, dtype),
        identity=jnp.asarray(identity, dtype),
        group_identity=jnp.asarray(head.group_identity, dtype),
        corners=jnp.asarray(corners),
        barycentric=jnp.asarray(barycentric, dtype),
        landmark_modes=jnp.asarray(np.einsum("kj,ckjx->kxc", barycentric, modes[:, corners]), dtype),
        precision=jnp.asarray(np.concatenate([expression_precision, held]), dtype),
        bound_precision=jnp.asarray(np.concatenate([expression_precision, np.zeros(len(held))]), dtype),
        correction=make_correction_field(stiffness, corners, barycentric, dtype),
        config=config,
    )


@jax.jit
def fit(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    landmarks: Float[Array, "k 2"],
    image_size: ImageSize,
    *,
    scores: Float[Array, " e"] | None = None,
    focal_px: Scalar | None = None,
    principal_point_px: Float[Array, " 2"] | None = None,
    weights: Float[Array, " k"] | None = None,
    init: Unknowns | None = None,
) -> FitResult:
    """Fit pose, focal scale, expression, identity and a correction field to one photo's landmarks.

    Pure; ``vmap`` it over photos. Trouble in the data is reported in ``status`` and stays within its photo.

    Args:
        fitter: From :func:`make_fitter`.
        shape: Neutral shape P [mm]: a prediction for this person, or a group's mean (:func:`fit_groups`).
        landmarks: The 104 landmarks [px], x first. NaN is allowed where the weight is 0.
        image_size: Height and width [px].
        scores: Expression scores read off the photo, in the order of the head's expressions; 0 by default.
        focal_px: Focal length [px] where it is known (EXIF: ``f35 * diagonal_px / 43.27``). The longer side of the
            image by default, its scale then free.
        principal_point_px: Optical axis [px], x first; the middle of the image by default. Give it for a crop.
        weights: Weight of each landmark, times 1/2 for the contour's (``FitConfig.contour_weight``); 0 for a landmark
            that was not seen.
        init: Start, instead of EPnP's pose and the scores.

    Returns:
        The fit.

    Raises:
        InputError: The number of vertices, landmarks or scores is not the fitter's.
    """
    _check_shapes(fitter, shape, landmarks, scores, weights)
    observation, status = _observe(
        fitter, shape, landmarks, image_size, scores, focal_px, principal_point_px, weights, init
    )
    start = _start(fitter, observation)
    if init is not None:
        init = jax.tree.map(lambda part: jnp.asarray(part, start.translation.dtype), init)
        start = jax.tree.map(lambda given, own: jnp.where(status == OK, given, own), init, start)
    energy, propose = _problem(fitter, observation, start)
    unknowns, energies, *_ = run(energy, propose, start, iterations=fitter.config.iterations)
    return _result(fitter, shape, observation, unknowns, energies, status)


@jax.jit
def fit_groups(
    fitter: Fitter,
    landmarks: Float[Array, "k 2"],
    image_size: ImageSize,
    *,
    scores: Float[Array, " e"] | None = None,
    focal_px: Scalar | None = None,
    principal_point_px: Float[Array, " 2"] | None = None,
    weights: Float[Array, " k"] | None = None,
) -> GroupFit:
    """Fit a face nothing is known of: from the mean of every group, the fit with the smallest energy.

    Args:
        fitter: From :func:`make_fitter`, with ``fit_identity``.
        landmarks: As for :func:`fit`, like all that follow.
        image_size: Height and width [px].
        scores: Expression scores.
        focal_px: Focal length [px].
        principal_point_px: Optical axis [px].
        weights: Landmark weights.

    Returns:
        The best fit and all final energies.
    """
    shapes = fitter.mean[None] + jnp.einsum(
        "gi,ivx->gvx", fitter.group_identity, fitter.identity, precision=Precision.HIGHEST
    )
    options = {"scores": scores, "focal_px": focal_px, "principal_point_px": principal_point_px, "weights": weights}
    results = jax.vmap(lambda shape: fit(fitter, shape, landmarks, image_size, **options))(shapes)
    energies = jnp.where(results.status == OK, results.energies[:, -1], jnp.inf)
    group = jnp.argmin(energies)
    return GroupFit(jax.tree.map(lambda part: part[group], results), group, energies)


def _check_shapes(fitter: Fitter, shape: Array, landmarks: Array, scores: Array | None, weights: Array | None) -> None:
    """Static mistakes, named."""
    expected = [
        ("shape", shape, fitter.mean.shape, "the skin vertices of the head model the fitter was made for"),
        ("landmarks", landmarks, (len(fitter.corners), 2), "the layout of digitaltwin.head.markup"),
        ("scores", scores, fitter.expressions.shape[:1], "the head's expressions, without the network's '_neutral'"),
        ("weights", weights, fitter.corners.shape[:1], "one for each landmark"),
    ]
    for name, value, wanted, remedy in expected:
        if value is not None and value.shape != wanted:
            raise InputError(f"{name} has shape {value.shape}; the fit needs {wanted}: {remedy}")


def _observe(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    landmarks: Float[Array, "k 2"],
    image_size: ImageSize,
    scores: Float[Array, " e"] | None,
    focal_px: Scalar | None,
    principal_point_px: Float[Array, " 2"] | None,
    weights: Float[Array, " k"] | None,
    init: Unknowns | None,
) -> tuple[_Observation, Int[Array, ""]]:
    """Complete one photo's inputs, and make them safe to compute with where they are not.

    A photo with a non-finite or degenerate input loses all its landmarks: its fit then ends where the priors are, and
    no NaN enters the computation.
    """
    config, dtype = fitter.config, fitter.mean.dtype
    on_contour = np.isin(np.arange(len(fitter.corners)), CONTOUR)
    layout = jnp.asarray(np.where(on_contour, config.contour_weight, 1.0), dtype)
    given = jnp.ones_like(layout) if weights is None else jnp.asarray(weights, dtype)
    size = jnp.asarray(image_size, dtype)
    focal = jnp.max(size) if focal_px is None else jnp.asarray(focal_px, dtype)
    centre = size[::-1] / 2.0 if principal_point_px is None else jnp.asarray(principal_point_px, dtype)
    means = jnp.zeros(len(fitter.expressions), dtype) if scores is None else jnp.asarray(scores, dtype)
    seen = given > 0.0

    inputs = (shape, size, focal, centre, means, given, jnp.where(seen[:, None], landmarks, 0.0), init)
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(part)) for part in jax.tree.leaves(inputs)]))
    finite &= (focal > 0.0) & jnp.all(size > 0.0) & jnp.all(given >= 0.0)
    spread = _spread(jnp.where(seen[:, None], landmarks, 0.0), seen.astype(dtype))
    degenerate = (jnp.sum(seen) < 4) | ~(spread[0] > (_FLATTEST * spread[1]))
    status = jnp.where(finite, jnp.where(degenerate, DEGENERATE_LANDMARKS, OK), NON_FINITE_INPUT)

    usable = status == OK
    used = seen & usable
    extra = len(fitter.precision) - len(fitter.expressions)
    observation = _Observation(
        landmarks=jnp.where(used[:, None], landmarks, 0.0).astype(dtype),
        weights=jnp.where(used, given * layout, 0.0),
        points=interpolate(jnp.where(finite, shape, fitter.mean).astype(dtype), fitter.corners, fitter.barycentric),
        focal_px=jnp.where(finite, focal, 1.0),
        principal_point_px=jnp.where(finite, centre, 0.0),
        coefficient_mean=jnp.concatenate([jnp.where(finite, means, 0.0), jnp.zeros(extra, dtype)]),
        focal_precision=jnp.asarray(
            config.omega_r * (config.lambda_f if focal_px is None else config.lambda_f_known), dtype
        ),
    )
    return observation, status


def _spread(points: Float[Array, "k 2"], weights: Float[Array, " k"]) -> Float[Array, " 2"]:
    """Standard deviations along the two principal directions, the smaller first."""
    share = weights / jnp.maximum(jnp.sum(weights), 1.0)
    centred = points - jnp.sum(share[:, None] * points, axis=0)[None]
    covariance = jnp.einsum("k,ki,kj->ij", share, centred, centred, precision=Precision.HIGHEST)
    middle = (covariance[0, 0] + covariance[1, 1]) / 2.0
    radius = jnp.hypot((covariance[0, 0] - covariance[1, 1]) / 2.0, covariance[0, 1])
    return jnp.sqrt(jnp.maximum(jnp.stack([middle - radius, middle + radius]), 0.0))


def _start(fitter: Fitter, observation: _Observation) -> Unknowns:
    """``f_s = 1``, the expression of the scores, EPnP's pose, or a frontal one where that explains the photo better.

    The frontal pose puts the landmarks' centre and size right; it is what remains when the face is so far off, or the
    landmarks are so few, that EPnP has no answer, or one behind the camera.
    """
    dtype = fitter.mean.dtype
    points = observation.points + _moved(fitter, observation.coefficient_mean)
    image = (observation.landmarks - observation.principal_point_px[None]) / observation.focal_px
    total = jnp.sum(observation.weights)
    blind = total == 0.0
    weights = jnp.where(blind, 1.0, observation.weights)
    flip = jnp.array([1.0, -1.0, -1.0], dtype)

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
        coefficients=observation.coefficient_mean,
        quaternion=quaternion_from_matrix(rotation),
        translation=jnp.where(trusted, pose.translation, frontal),
        log_focal_scale=jnp.zeros((), dtype),
        multipliers=jnp.zeros_like(points),
    )


def _moved(fitter: Fitter, coefficients: Float[Array, " c"]) -> Float[Array, "k 3"]:
    """Displacement of the landmarks by the coefficients [mm]."""
    return jnp.einsum("kxc,c->kx", fitter.landmark_modes, coefficients, precision=Precision.HIGHEST)


def _camera(observation: _Observation, unknowns: Unknowns, increment: Float[Array, " 7"]) -> Camera:
    """The camera after an increment: rotation vector on the left, translation, log focal scale."""
    return Camera(
        rotation=matrix_from_quaternion(compose(increment[:3], unknowns.quaternion)),
        translation=unknowns.translation + increment[3:6],
        focal_px=observation.focal_px * jnp.exp(unknowns.log_focal_scale + increment[6]),
        principal_point_px=observation.principal_point_px,
    )


def _residual_scale(observation: _Observation, start: Unknowns, camera: Camera) -> Float[Array, " k"]:
    """``(100 / W_eye) sqrt(w_k)`` [1/px].

    The outer eye corners in the photo measure W_eye if both were seen; the start pose's projection of the shape's does
    otherwise.
    """
    measured = outer_eye_distance_px(observation.landmarks)
    predicted = outer_eye_distance_px(project(camera, observation.points))
    both_seen = (observation.weights[LEFT_EYE_OUTER] > 0.0) & (observation.weights[RIGHT_EYE_OUTER] > 0.0)
    distance = jnp.where(both_seen, measured, predicted)
    cosine = jnp.maximum(jnp.hypot(camera.rotation[0, 0], camera.rotation[1, 0]), _FRONTAL_COSINE)
    return 100.0 * cosine / jnp.maximum(distance, 1e-3) * jnp.sqrt(observation.weights)


def _problem(
    fitter: Fitter, observation: _Observation, start: Unknowns
) -> tuple[Callable[[Unknowns], Float[Array, ""]], Callable[[Unknowns, Float[Array, ""]], Unknowns]]:
    """The energy of one photo, and its Gauss-Newton step with the correction field eliminated."""
    still = jnp.zeros(7, fitter.mean.dtype)
    scale = _residual_scale(observation, start, _camera(observation, start, still))[:, None]
    rotation_precision = fitter.config.omega_r * fitter.config.lambda_q
    count = len(fitter.precision)

    def points(unknowns: Unknowns) -> Float[Array, "k 3"]:
        correction = field_at_landmarks(fitter.correction, unknowns.multipliers)
        return observation.points + (_moved(fitter, unknowns.coefficients) + correction)

    def hinge(coefficients: Float[Array, " c"]) -> Float[Array, " c"]:
        """How far a coefficient is beyond [0, 1], with sign."""
        return coefficients - jnp.clip(coefficients, 0.0, 1.0)

    def energy(unknowns: Unknowns) -> Float[Array, ""]:
        seen = project(_camera(observation, unknowns, still), points(unknowns))
        residual = jnp.where(scale > 0.0, scale * (seen - observation.landmarks), 0.0)
        coefficients = unknowns.coefficients
        return (
            jnp.sum(residual**2)
            + field_energy(fitter.correction, unknowns.multipliers)
            + jnp.sum(fitter.precision * (coefficients - observation.coefficient_mean) ** 2)
            + jnp.sum(fitter.bound_precision * hinge(coefficients) ** 2)
            + rotation_precision * jnp.sum(unknowns.quaternion[1:] ** 2)
            + observation.focal_precision * unknowns.log_focal_scale**2
        )

    def prior(unknowns: Unknowns) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
        """Half the gradient and half the Gauss-Newton Hessian of the priors, by coefficients and pose."""
        coefficients = unknowns.coefficients
        beyond = hinge(coefficients)
        bounds = jnp.where(beyond == 0.0, 0.0, fitter.bound_precision)
        w, vector = unknowns.quaternion[0], unknowns.quaternion[1:]
        # An increment on the left moves the quaternion's vector part by (w I - [vector]x) / 2.
        turned = 0.5 * (w * jnp.eye(3, dtype=w.dtype) + jnp.cross(jnp.eye(3, dtype=w.dtype), vector[None]).T)
        gradient = jnp.concatenate(
            [
                fitter.precision * (coefficients - observation.coefficient_mean) + bounds * beyond,
                rotation_precision * jnp.sum(vector[:, None] * turned, axis=0),
                jnp.zeros(3, w.dtype),
                (observation.focal_precision * unknowns.log_focal_scale)[None],
            ]
        )
        diagonal = jnp.concatenate(
            [fitter.precision + bounds, jnp.zeros(6, w.dtype), observation.focal_precision[None]]
        )
        block = rotation_precision * jnp.sum(turned[:, :, None] * turned[:, None, :], axis=0)
        hessian = jnp.diag(diagonal).at[count : count + 3, count : count + 3].set(block)
        return gradient, hessian

    def propose(unknowns: Unknowns, damping: Float[Array, ""]) -> Unknowns:
        seen, by_point, by_pose = linearise(
            lambda increment: _camera(observation, unknowns, increment), points(unknowns)
        )
        by_point, by_pose = scale[..., None] * by_point, scale[..., None] * by_pose
        by_modes = jnp.einsum("kax,kxc->kac", by_point, fitter.landmark_modes, precision=Precision.HIGHEST)
        increment, multipliers = eliminated_step(
            fitter.correction,
            unknowns.multipliers,
            scale * (seen - observation.landmarks),
            by_point,
            jnp.concatenate([by_modes, by_pose], axis=2),
            *prior(unknowns),
            damping,
        )
        turn, shift, zoom = increment[count : count + 3], increment[count + 3 : count + 6], increment[count + 6]
        return Unknowns(
            coefficients=unknowns.coefficients + increment[:count],
            quaternion=compose(turn, unknowns.quaternion),
            translation=unknowns.translation + shift,
            log_focal_scale=unknowns.log_focal_scale + zoom,
            multipliers=multipliers,
        )

    return energy, propose


def _size(fitter: Fitter, neutral: Float[Array, "v 3"]) -> Float[Array, ""]:
    """Root mean square distance of the landmarks on a neutral shape from their centroid [mm]."""
    points = interpolate(neutral, fitter.corners, fitter.barycentric)
    centred = points - jnp.mean(points, axis=0, keepdims=True)
    return jnp.sqrt(jnp.mean(jnp.sum(centred**2, axis=1)))


def _result(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    observation: _Observation,
    unknowns: Unknowns,
    energies: Float[Array, " steps"],
    status: Int[Array, ""],
) -> FitResult:
    """Expand the solver's unknowns to the head, once, and judge them."""
    dtype = fitter.mean.dtype
    expression, extra = jnp.split(unknowns.coefficients, [len(fitter.expressions)])
    shape = jnp.where(status == NON_FINITE_INPUT, fitter.mean, shape).astype(dtype)
    correction = field_at_vertices(fitter.correction, unknowns.multipliers)
    camera = _camera(observation, unknowns, jnp.zeros(7, dtype))
    uncorrected = shape
    if fitter.config.fit_identity:
        uncorrected = shape + jnp.einsum("i,ivx->vx", extra, fitter.identity, precision=Precision.HIGHEST)
        gauge = jnp.where(status == OK, _size(fitter, shape) / _size(fitter, uncorrected + correction), 1.0)
        gauge = jnp.where(jnp.isfinite(gauge) & (gauge > 0.0), gauge, 1.0)
        # Expressions are displacements in mm: on a larger face the same look takes larger ones.
        uncorrected, correction, expression = gauge * uncorrected, gauge * correction, gauge * expression
        camera = camera._replace(translation=gauge * camera.translation)
    neutral = uncorrected + correction
    vertices = neutral + jnp.einsum("e,evx->vx", expression, fitter.expressions, precision=Precision.HIGHEST)
    identity = jnp.einsum("ivx,vx->i", fitter.identity, uncorrected - fitter.mean, precision=Precision.HIGHEST)
    depths = camera_points(camera, vertices)[:, 2]
    focal_scale = jnp.exp(unknowns.log_focal_scale)
    strayed = ~jnp.isfinite(energies[-1]) | (jnp.abs(unknowns.log_focal_scale) > jnp.log(_FOCAL_SCALE_RANGE))
    found = jnp.where(jnp.all(depths > 0.0), jnp.where(strayed, DIVERGED, OK), BEHIND_CAMERA)
    return FitResult(
        vertices=vertices,
        neutral=neutral,
        expression=expression,
        identity=identity,
        correction=correction,
        rotation=camera.rotation,
        translation=camera.translation,
        focal_scale=focal_scale,
        camera=camera,
        energies=energies,
        status=jnp.where(status == OK, found, status),
        unknowns=unknowns,
    )
