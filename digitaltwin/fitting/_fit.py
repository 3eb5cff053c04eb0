"""The fit of a head to the landmarks of one photo (the paper's section 4.2, with the corrections named below).

Letters: v vertices, k landmarks, e expressions, i identity coefficients, u = e + i (or e) coefficients that are
unknown, w photos, n iterations, g groups.

    P_F = P + sum_u c_u B_u + dP                      c = (beta, z - z_0): expressions, and identity beyond P's own
    E   = (100 / W_eye)^2 sum_k w_k |project(P_F; q, t, f_s)_k - y_k|^2                                       Eq. 1
        + tr(dP' A dP),    A = omega_c (L'WL + lambda W)                                                      Eq. 2
        + omega_r ( sum ((beta - mu) / sigma)^2 + sum hinge(beta; 0, 1)^2 / sigma^2 + lambda_q |q|^2 + lambda_f s^2 )
        + omega_i sum ((z - z_0) / sigma_z)^2                                                                 Eq. 3

W_eye is the distance of the outer eye corners in the image, freed from the start pose's foreshortening: with it inside
the square (the paper prints it outside) the balance of the terms is the same at every resolution. ``f_s = exp(s)``
stays positive, and ``log^2 f_s`` is ``s^2``. mu are the expression scores read off the photo, and the hinge
keeps expressions near [0, 1], where the shapes were made. The prior's L acts on dP alone (the paper's on last
iteration's expressions too, so that its steps minimise no single energy: ``FitConfig.lagged_laplacian``).

Landmarks see dP through k points, and it is eliminated exactly: :mod:`digitaltwin.fitting._elimination`. Those on the
contour slide: before every step :mod:`digitaltwin.fitting._contour` says what they are on the skin.

One photo does not tell size from distance: head and translation scaled together leave every projection unchanged. But
the priors are in millimetres, and a smaller head is corrected more cheaply (``tr(dP' A dP)`` falls with the square of
the size), so the minimum lies at a head that is a few percent too small. Where identity is unknown the size is
therefore a gauge, fixed after the last step: the whole fit is scaled by

    size(landmarks on P) / size(landmarks on the fitted neutral shape)          size = RMS distance from their centroid

over all 104 landmarks. The contour's belong to it: of a neutral face they measure the outline, and with them the ratio
follows the face's own size more closely than without.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num, PyTree

from digitaltwin.fitting._contour import nearest_on_outline, silhouettes
from digitaltwin.fitting._elimination import field_at_vertices
from digitaltwin.fitting._energy import PHOTO_AXES, Neutral, Photos, Unknowns, camera_of, minimise, neutral_points
from digitaltwin.fitting._epnp import epnp
from digitaltwin.fitting._fitter import Fitter, identity_of, points_on
from digitaltwin.fitting._status import BEHIND_CAMERA, DEGENERATE, DIVERGED, NON_FINITE_INPUT, OK
from digitaltwin.geometry import Camera, camera_points, project
from digitaltwin.geometry._rotations import quaternion_from_matrix
from digitaltwin.types import InputError

_FRONTAL_COSINE = 0.3  # a pose turned further than this gives no scale that could be trusted
_FLATTEST = 1e-3  # landmarks whose spread across their main direction is smaller than this share of it are a line
_FOCAL_SCALE_RANGE = 20.0
_REST_DISTANCE_MM = 1000.0  # of the head in the result of a fit that diverged

ImageSize = Num[Array, " 2"] | Num[np.ndarray, " 2"] | tuple[int | Num[Array, ""], int | Num[Array, ""]]
Scalar = float | int | Num[Array, ""]


class FitResult(NamedTuple):
    """A fitted head.

    Its overall size is not measured but P's, over the landmarks: one photo does not tell size from distance. With
    ``fit_identity`` all lengths here (and the expression weights, which multiply lengths) are the solver's times the
    one factor that makes it so; every projection stays where it was. ``energies`` and ``unknowns`` are the solver's.

    Of w photos (:func:`fit_views`) what belongs to a photo has a leading axis w: vertices and expression, pose, status.
    """

    vertices: Float[Array, "*w v 3"]
    """The skin with identity, expression and correction, unposed, in the head frame [mm]."""
    neutral: Float[Array, "v 3"]
    """The same without the expression: the person's own neutral shape [mm]."""
    expression: Float[Array, "*w e"]
    """beta, in the order of the head's expressions; mostly within [0, 1]. ``vertices`` are ``neutral`` with it on."""
    identity: Float[Array, " i"]
    """Projection [mm] of ``neutral - correction - mean`` onto the head's identity basis. What the basis lacks (detail
    of the given shape, some of the size) is in ``neutral`` alone. The parts follow ``neutral`` itself, its correction
    included: :func:`digitaltwin.head.parts_vertices`."""
    correction: Float[Array, "v 3"]
    """dP [mm]."""
    rotation: Float[Array, "*w 3 3"]
    """R(q), without the axis flip: the identity for a frontal face."""
    translation: Float[Array, "*w 3"]
    """Origin of the head frame in the camera frame [mm]."""
    focal_scale: Float[Array, "*w"]
    """f_s, relative to the given focal length or to the longer side of the image. One photo of an unknown face hardly
    determines it: a longer focal length from further away shows nearly the same."""
    camera: Camera
    """Pose and intrinsics together, for :func:`digitaltwin.geometry.project`."""
    energies: Float[Array, " steps"]
    """E before the first and after each step. At fixed anchors it never rises but for rounding; where the contour's
    landmarks have slid before a step, it may start from more than the last one reached."""
    status: Int[Array, "*w"]
    """0 ok; 1 an input is not finite; 2 fewer than four landmarks of positive weight, or all on a line; 3 part of the
    head is behind the camera; 4 diverged (:mod:`digitaltwin.fitting._status`). All arrays are finite in every case; for
    1 and 2 they hold the given shape with the scores' expression (the mean head and 0 in place of what is not finite),
    for 4 perhaps the given shape alone, and no pose worth the name. An energy that is not finite is the largest number
    of its type. That no step lowered the energy is no failure: all energies are then the same."""
    unknowns: Unknowns


class GroupFit(NamedTuple):
    """The best of the fits started from each group's mean."""

    result: FitResult
    group: Int[Array, ""]
    """Index into ``HeadModel.group_names`` of the start that won; a start, not a statement about the person."""
    energies: Float[Array, " g"]
    """Final energy from each start; inf where it failed."""


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

    Pure; ``vmap`` it over photos, or see :func:`~digitaltwin.fitting.fit_batch`. Trouble in the data is reported
    in ``status`` and stays within its photo. Differentiable, through the steps; EPnP's pose counts as a constant, which
    changes the derivative at convergence by 0.2 % (it is what frees W_eye from foreshortening), and so does the choice
    of silhouettes.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        shape: Neutral shape P [mm]: a prediction for this person, or a group's mean (:func:`fit_groups`).
        landmarks: The fitter's landmarks [px], x first: 104, or the 478 points of a face mesh. NaN is allowed where
            the weight is 0.
        image_size: Height and width [px].
        scores: Expression scores read off the photo, in the order of the head's expressions; 0 by default.
        focal_px: Focal length [px] where it is known (EXIF: ``f35 * diagonal_px / 43.27``). The longer side of the
            image by default, its scale then free.
        principal_point_px: Optical axis [px], x first; the middle of the image by default. Give it for a crop.
        weights: Weight of each landmark, times the fitter's own (``FitConfig.contour_weight`` for the contour's); 0 for
            a landmark that was not seen.
        init: Start, instead of EPnP's pose and the scores. The energy does not depend on it: W_eye is freed from the
            foreshortening of EPnP's pose in any case.

    Returns:
        The fit.

    Raises:
        InputError: The number of vertices, landmarks or scores is not the fitter's.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import FitConfig, make_fitter
        >>> from digitaltwin.geometry import Camera, project
        >>> from digitaltwin.head import landmark_points, load_head
        >>> head = load_head()
        >>> camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(640.0), jnp.array([320.0, 240.0]))
        >>> photo = project(camera, landmark_points(head, head.mean + 0.8 * head.expressions[24]))
        >>> result = fit(make_fitter(head, FitConfig()), head.mean, photo, (480, 640))
        >>> head.expression_names[24], head.expression_names[int(result.expression.argmax())], int(result.status)
        ('jawOpen', 'jawOpen', 0)
    """
    alone = (landmarks, jnp.stack([jnp.asarray(side) for side in image_size]), scores, focal_px)
    landmarks_, size, scores_, focal_px_ = jax.tree.map(_as_one, alone)
    result = _fit(
        fitter,
        shape,
        landmarks_,
        size,
        scores_,
        focal_px_,
        _as_one(principal_point_px),
        _as_one(weights),
        None if init is None else _photos_axis(init),
        share_expression=True,
    )
    of_photo = ("vertices", "expression", "rotation", "translation", "focal_scale", "camera", "status")
    parts = {name: jax.tree.map(lambda part: part[0], getattr(result, name)) for name in of_photo}
    return result._replace(**parts, unknowns=_one_photo(result.unknowns))


def fit_views(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    landmarks: Float[Array, "w k 2"],
    image_sizes: Num[Array, "w 2"] | Num[np.ndarray, "w 2"] | ImageSize,
    *,
    scores: Float[Array, "w e"] | Float[Array, " e"] | None = None,
    focal_px: Num[Array, " w"] | Scalar | None = None,
    principal_point_px: Float[Array, "w 2"] | Float[Array, " 2"] | None = None,
    weights: Float[Array, "w k"] | Float[Array, " k"] | None = None,
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
        scores: Expression scores of every photo; their mean counts where the expression is shared.
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
        >>> from digitaltwin.fitting import FitConfig, make_fitter, predict_landmarks
        >>> from digitaltwin.geometry import Camera
        >>> from digitaltwin.geometry import matrix_from_rotation_vector
        >>> from digitaltwin.head import load_head
        >>> head, still = load_head(), jnp.zeros(52)
        >>> fitter = make_fitter(head, FitConfig())
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

    def of_each(value: ArrayLike | None, axes: int) -> Array | None:
        if value is None or jnp.ndim(value) != axes:
            return None if value is None else jnp.asarray(value)
        return jnp.broadcast_to(jnp.asarray(value)[None], (len(landmarks), *jnp.shape(value)))

    sizes = jnp.stack([jnp.asarray(side) for side in image_sizes]) if isinstance(image_sizes, tuple) else image_sizes
    return _fit_jitted(
        fitter,
        shape,
        landmarks,
        cast(Array, of_each(sizes, 1)),
        of_each(scores, 1),
        of_each(focal_px, 0),
        of_each(principal_point_px, 1),
        of_each(weights, 1),
        init,
        share_expression=share_expression,
    )


def fit_groups(
    fitter: Fitter, landmarks: Float[Array, "k 2"], image_size: ImageSize, **options: Array | float | None
) -> GroupFit:
    """Fit from the mean shape of every group of the head model and keep the start with the lowest energy.

    Identity coefficients are measured from the start, so the right group leaves the least to explain. That holds for
    people near their group's mean and landmarks off by about 1 % of the eye distance. A face detector's are off by
    more: it then finds the group hardly more often than chance does, and :func:`fit` from ``fitter.mean`` comes nearer
    to the person (docs/accuracy.md).

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`, with ``fit_identity``.
        landmarks: As for :func:`fit`.
        image_size: Height and width [px].
        **options: The other options of :func:`fit`.

    Returns:
        The best fit, its group, and every group's energy.

    Raises:
        InputError: The fitter holds the identity, so that a group's mean would be the answer.
    """
    if not fitter.config.fit_identity:
        raise InputError("fitter: fit_groups needs one made with fit_identity=True.")
    offsets = jnp.einsum("gi,ivx->gvx", fitter.group_identity, fitter.identity, precision=Precision.HIGHEST)
    shapes = fitter.mean[None] + offsets
    results = jax.vmap(lambda shape: fit(fitter, shape, landmarks, image_size, **options))(shapes)
    energies = jnp.where(results.status == OK, results.energies[:, -1], jnp.inf)
    best = jnp.argmin(energies)
    return GroupFit(jax.tree.map(lambda part: part[best], results), best, energies)


@jax.jit
def predict_landmarks(
    fitter: Fitter,
    camera: Camera,
    neutral: Float[Array, "v 3"],
    expression: Float[Array, " e"],
    *,
    near: Float[Array, "k 2"] | None = None,
) -> Float[Array, "k 2"]:
    """Where a photo of a known head shows the landmarks, those of a sliding contour on its outline.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        camera: Pose and intrinsics, as in ``FitResult.camera``.
        neutral: The person's neutral shape, as in ``FitResult.neutral`` [mm].
        expression: Weights of the expressions.
        near: Landmarks [px]; a contour's are the points of the outline nearest to them, or to its fixed anchors by
            default.

    Returns:
        Landmarks [px], in the photo's order.
    """
    n, e = fitter.fixed_count, len(fitter.expressions)
    neutral_ = neutral_points(fitter, neutral.astype(fitter.mean.dtype))

    def image(base: Float[Array, "p 3"], modes: Float[Array, "p 3 u"]) -> Float[Array, "p 2"]:
        moved = jnp.einsum("pxe,e->px", modes[..., :e], expression, precision=Precision.HIGHEST)
        return project(camera, base + moved)

    seen = image(neutral_.points, fitter.points.modes)
    if fitter.contour is not None and neutral_.candidates is not None:
        index = silhouettes(camera, neutral_.candidates)
        outline = image(neutral_.candidates.points.reshape(-1, 3)[index], fitter.contour.modes[index])
        wanted = seen[n:] if near is None else near[fitter.order[n:]]
        found = nearest_on_outline(outline, wanted, closed=fitter.closed_contour)
        share = found.share[:, None]
        seen = seen.at[n:].set((1.0 - share) * outline[found.first] + share * outline[found.second])
    return jnp.zeros_like(seen).at[fitter.order].set(seen)


def _as_one(value: ArrayLike | None) -> Array | None:
    """A photo's value as those of one photo."""
    return None if value is None else jnp.asarray(value)[None]


def _photos_axis(unknowns: Unknowns) -> Unknowns:
    """The unknowns of one photo as those of w = 1."""
    of_photo = unknowns._asdict()
    shared = {name: jnp.asarray(of_photo.pop(name)) for name in ("multipliers", "change")}
    return Unknowns(**{name: jnp.asarray(part)[None] for name, part in of_photo.items()}, **shared)


def _one_photo(unknowns: Unknowns) -> Unknowns:
    """The inverse of :func:`_photos_axis`."""
    of_photo = unknowns._asdict()
    shared = {name: of_photo.pop(name) for name in ("multipliers", "change")}
    return Unknowns(**{name: part[0] for name, part in of_photo.items()}, **shared)


def _fit(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    landmarks: Float[Array, "w k 2"],
    image_sizes: Num[Array, "w 2"],
    scores: Float[Array, "w e"] | None,
    focal_px: Num[Array, " w"] | None,
    principal_point_px: Float[Array, "w 2"] | None,
    weights: Float[Array, "w k"] | None,
    init: Unknowns | None,
    *,
    share_expression: bool,
) -> FitResult:
    """Both public fits."""
    _check_shapes(fitter, shape, landmarks, image_sizes, scores, focal_px, principal_point_px, weights, init)
    shape_finite = jnp.all(jnp.isfinite(shape))
    safe = jnp.where(shape_finite, shape, fitter.mean).astype(fitter.mean.dtype)
    neutral = neutral_points(fitter, safe)
    finite = jnp.broadcast_to(shape_finite, len(landmarks))
    if init is not None:
        finite &= jax.vmap(_all_finite, (PHOTO_AXES,))(init)

    def observe(*photo: Any) -> tuple[Photos, Unknowns, Int[Array, ""]]:
        return _observe(fitter, neutral, *photo)

    given = (finite, landmarks, image_sizes, scores, focal_px, principal_point_px, weights)
    photos, start, status = jax.vmap(observe, tuple(None if part is None else 0 for part in given))(*given)
    start = start._replace(multipliers=start.multipliers[0], change=start.change[0])
    count, e = len(landmarks), len(fitter.expressions)
    if share_expression and count > 1:
        usable = jnp.where(status == OK, 1.0, 0.0)[:, None]
        mean = jnp.sum(usable * photos.coefficient_mean, axis=0) / jnp.maximum(jnp.sum(usable), 1.0)
        mean = jnp.broadcast_to(mean[None], photos.coefficient_mean.shape)
        photos, start = photos._replace(coefficient_mean=mean), start._replace(coefficients=mean)
    if init is not None:
        start = _given_start(start, init, status, 0 if share_expression else e)
    unknowns, energies = minimise(
        fitter, neutral, photos, start, private=not share_expression and count > 1 and e > 0, at_rest=init is None
    )
    return _result(fitter, safe, neutral, photos, unknowns, energies, status)


_fit_jitted = jax.jit(_fit, static_argnames="share_expression")


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all leaves are."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _given_start(own: Unknowns, init: Unknowns, status: Int[Array, " w"], own_count: int) -> Unknowns:
    """The caller's start for photos that are usable; where none is, no correction either.

    Only the first ``own_count`` coefficients are a photo's own. What all share, the first usable photo's start says.
    """
    init = jax.tree.map(lambda given, mine: jnp.asarray(given, mine.dtype), init, own)
    usable = status == OK

    def chosen(given: Array, mine: Array) -> Array:
        return jnp.where(usable.reshape(-1, *(1,) * (mine.ndim - 1)), given, mine)

    anywhere = jnp.any(usable)
    coefficients = chosen(init.coefficients, own.coefficients)
    common = coefficients[jnp.argmax(usable)][None, own_count:]
    return Unknowns(
        coefficients.at[:, own_count:].set(jnp.broadcast_to(common, coefficients[:, own_count:].shape)),
        chosen(init.quaternion, own.quaternion),
        chosen(init.translation, own.translation),
        chosen(init.log_focal_scale, own.log_focal_scale),
        jnp.where(anywhere, init.multipliers, own.multipliers),
        jnp.where(anywhere, init.change, own.change),
    )


def _check_shapes(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    landmarks: Float[Array, "w k 2"],
    image_sizes: Num[Array, "w 2"],
    scores: Float[Array, "w e"] | None,
    focal_px: Num[Array, " w"] | None,
    principal_point_px: Float[Array, "w 2"] | None,
    weights: Float[Array, "w k"] | None,
    init: Unknowns | None,
) -> None:
    """Name the argument that does not fit; of what photos have, with the axis w."""
    w, k, e, u = len(landmarks), fitter.landmark_count, len(fitter.expressions), len(fitter.precision)
    expected = {
        "shape": (shape, fitter.mean.shape),
        "landmarks": (landmarks, (w, k, 2)),
        "image_size": (image_sizes, (w, 2)),
        "scores": (scores, (w, e)),
        "focal_px": (focal_px, (w,)),
        "principal_point_px": (principal_point_px, (w, 2)),
        "weights": (weights, (w, k)),
    }
    if init is not None:
        changed = 0 if fitter.lagged is None else e
        shapes = ((w, u), (w, 4), (w, 3), (w,), (fitter.correction.response.shape[1], 3), (changed,))
        expected |= {f"init.{name}": (part, of) for name, part, of in zip(Unknowns._fields, init, shapes)}
    for name, (value, wanted) in expected.items():
        if value is not None and jnp.shape(value) != wanted:
            found = jnp.shape(value)
            if name != "shape" and w == 1 and len(found) > 0 and not name.startswith("init.") and found[0] == 1:
                found, wanted = found[1:], wanted[1:]
            raise InputError(f"{name} has shape {found}; the fit needs {wanted}.")


def _observe(
    fitter: Fitter,
    neutral: Neutral,
    others_finite: Bool[Array, ""],
    landmarks: Float[Array, "k 2"],
    image_size: Num[Array, " 2"],
    scores: Float[Array, " e"] | None,
    focal_px: Num[Array, ""] | None,
    principal_point_px: Float[Array, " 2"] | None,
    weights: Float[Array, " k"] | None,
) -> tuple[Photos, Unknowns, Int[Array, ""]]:
    """Fill in what one photo leaves open, replace what cannot be used, say so, and find a start."""
    dtype, config, order = fitter.mean.dtype, fitter.config, fitter.order
    landmarks = landmarks.astype(dtype)[order]
    size = jnp.asarray(image_size, dtype)
    focal = jnp.asarray(jnp.max(size) if focal_px is None else focal_px, dtype)
    centre = size[::-1] / 2.0 if principal_point_px is None else jnp.asarray(principal_point_px, dtype)
    means = jnp.zeros(len(fitter.expressions), dtype) if scores is None else jnp.asarray(scores, dtype)
    given = fitter.importance * (1.0 if weights is None else jnp.asarray(weights, dtype)[order])

    seen = given > 0.0
    finite = (
        others_finite
        & jnp.all(jnp.isfinite(landmarks) | ~seen[:, None])
        & jnp.all(jnp.isfinite(given) & (given >= 0.0))
        & jnp.all(jnp.isfinite(means))
        & jnp.isfinite(focal)
        & (focal > 0.0)
        & jnp.all(jnp.isfinite(centre))
    )
    spread = _spread(jnp.where(seen[:, None], landmarks, 0.0), seen.astype(dtype))
    degenerate = (jnp.sum(seen) < 4) | ~(spread[0] > (_FLATTEST * spread[1]))
    status = jnp.where(finite, jnp.where(degenerate, DEGENERATE, OK), NON_FINITE_INPUT)

    used = seen & (status == OK)
    means = jnp.where(finite & config.expression_scores, means, 0.0)
    extra = len(fitter.precision) - len(fitter.expressions)
    photo = Photos(
        landmarks=jnp.where(used[:, None], landmarks, 0.0),
        weights=jnp.where(used, given, 0.0),
        focal_px=jnp.where(finite, focal, 1.0),
        principal_point_px=jnp.where(finite, centre, 0.0),
        coefficient_mean=jnp.concatenate([means, jnp.zeros(extra, dtype)]),
        focal_precision=jnp.asarray(
            config.omega_r * (config.lambda_f if focal_px is None else config.lambda_f_known), dtype
        ),
        scale=jnp.zeros_like(fitter.importance),
    )
    start = _start(fitter, neutral, photo)
    return photo._replace(scale=_residual_scale(fitter, neutral, photo, start)), start, status


def _spread(points: Float[Array, "k 2"], weights: Float[Array, " k"]) -> Float[Array, " 2"]:
    """Standard deviations along the two principal directions, the smaller first."""
    share = weights / jnp.maximum(jnp.sum(weights), 1.0)
    centred = points - jnp.sum(share[:, None] * points, axis=0)[None]
    x, y = centred.T
    a, b, c = jnp.sum(share * x * x), jnp.sum(share * x * y), jnp.sum(share * y * y)
    middle, radius = (a + c) / 2.0, jnp.hypot((a - c) / 2.0, b)
    return jnp.sqrt(jnp.maximum(jnp.stack([middle - radius, middle + radius]), 0.0))


def _start(fitter: Fitter, neutral: Neutral, photo: Photos) -> Unknowns:
    """``f_s = 1``, the expression of the scores, EPnP's pose, or a frontal one where that explains the photo better.

    The frontal pose puts the landmarks' centre and size right; it is what remains when the face is so far off, or the
    landmarks are so few, that EPnP has no answer, or one behind the camera.
    """
    dtype = fitter.mean.dtype
    modes, mean = fitter.points.modes, photo.coefficient_mean
    points = neutral.points + jnp.einsum("kxu,u->kx", modes, mean, precision=Precision.HIGHEST)
    image = (photo.landmarks - photo.principal_point_px[None]) / photo.focal_px
    blind = jnp.sum(photo.weights) == 0.0
    weights = jnp.where(blind, 1.0, photo.weights)
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
    e = 0 if fitter.lagged is None else len(fitter.expressions)
    return Unknowns(
        coefficients=mean,
        quaternion=quaternion_from_matrix(rotation),
        translation=jnp.where(trusted, pose.translation, frontal),
        log_focal_scale=jnp.zeros((), dtype),
        multipliers=jnp.zeros((fitter.correction.response.shape[1], 3), dtype),
        change=jnp.zeros(e, dtype),
    )


def _residual_scale(fitter: Fitter, neutral: Neutral, photo: Photos, start: Unknowns) -> Float[Array, " k"]:
    """``(100 / W_eye) sqrt(w_k)`` [1/px]; as printed, ``sqrt(100 w_k / W_eye)``.

    The outer eye corners in the photo measure W_eye if both were seen; the start pose's projection of the shape's does
    otherwise.
    """
    camera = camera_of(photo.focal_px, photo.principal_point_px, start)
    corners = jnp.array(fitter.eye_corners)
    predicted = project(camera, neutral.points[corners])
    both_seen = jnp.all(photo.weights[corners] > 0.0)
    left, right = jnp.where(both_seen, photo.landmarks[corners], predicted)
    cosine = jnp.maximum(jnp.hypot(camera.rotation[0, 0], camera.rotation[1, 0]), _FRONTAL_COSINE)
    share = 100.0 * cosine / jnp.maximum(jnp.linalg.norm(left - right), 1e-3)
    if not fitter.config.squared_eye_scale:
        share = jnp.sqrt(share)
    seen = photo.weights > 0.0
    return jnp.where(seen, share * jnp.sqrt(jnp.where(seen, photo.weights, 1.0)), 0.0)  # the root's slope at 0 is inf


def _at_rest(unknowns: Unknowns) -> Unknowns:
    """The given shape, some way off: what is returned of a fit that is not finite."""
    rest = jax.tree.map(jnp.zeros_like, unknowns)
    return rest._replace(
        quaternion=rest.quaternion.at[..., 0].set(1.0), translation=rest.translation.at[..., 2].set(_REST_DISTANCE_MM)
    )


def _size(fitter: Fitter, neutral: Float[Array, "v 3"]) -> Float[Array, ""]:
    """Root mean square distance of the landmarks on a neutral shape from their centroid [mm]."""
    points = points_on(fitter, neutral)
    centred = points - jnp.mean(points, axis=0, keepdims=True)
    return jnp.sqrt(jnp.mean(jnp.sum(centred**2, axis=1)))


def _result(
    fitter: Fitter,
    shape: Float[Array, "v 3"],
    neutral: Neutral,
    photos: Photos,
    unknowns: Unknowns,
    energies: Float[Array, " steps"],
    status: Int[Array, " w"],
) -> FitResult:
    """Expand the solver's unknowns to the head, once, and judge them."""
    e = len(fitter.expressions)
    sound = _all_finite(unknowns) & jnp.isfinite(energies[-1])
    unknowns = jax.tree.map(lambda found, rest: jnp.where(sound, found, rest), unknowns, _at_rest(unknowns))
    energies = jnp.where(jnp.isfinite(energies), energies, jnp.finfo(energies.dtype).max)
    expression, extra = unknowns.coefficients[:, :e], unknowns.coefficients[0, e:]
    correction = field_at_vertices(fitter.correction, unknowns.multipliers)
    if fitter.lagged is not None:
        correction -= jnp.einsum("evx,e->vx", fitter.lagged.vertices, unknowns.change, precision=Precision.HIGHEST)
    cameras = jax.vmap(camera_of, (0, 0, PHOTO_AXES))(photos.focal_px, photos.principal_point_px, unknowns)
    uncorrected = shape
    if fitter.config.fit_identity:
        uncorrected = shape + jnp.einsum("i,ivx->vx", extra, fitter.identity, precision=Precision.HIGHEST)
        gauge = _size(fitter, shape) / _size(fitter, uncorrected + correction)
        gauge = jnp.where(jnp.any(status == OK) & jnp.isfinite(gauge) & (gauge > 0.0), gauge, 1.0)
        # Expressions are displacements in mm: on a larger face the same look takes larger ones.
        uncorrected, correction, expression = gauge * uncorrected, gauge * correction, gauge * expression
        cameras = cameras._replace(translation=gauge * cameras.translation)
    whole = uncorrected + correction
    vertices = whole[None] + jnp.einsum("we,evx->wvx", expression, fitter.expressions, precision=Precision.HIGHEST)
    depths = jax.vmap(lambda camera, points: camera_points(camera, points)[:, 2], (0, 0))(cameras, vertices)
    far = jnp.abs(unknowns.log_focal_scale) > jnp.log(_FOCAL_SCALE_RANGE)
    found = jnp.where(jnp.all(depths > 0.0, axis=1), jnp.where(far, DIVERGED, OK), BEHIND_CAMERA)
    found = jnp.where(sound, found, DIVERGED)
    return FitResult(
        vertices=vertices,
        neutral=whole,
        expression=expression,
        identity=identity_of(fitter, uncorrected),
        correction=correction,
        rotation=cameras.rotation,
        translation=cameras.translation,
        focal_scale=jnp.exp(unknowns.log_focal_scale),
        camera=cameras,
        energies=energies,
        status=jnp.where(status == OK, found, status),
        unknowns=unknowns,
    )
