"""The energy of some photos of one head, and its Gauss-Newton step with the correction field eliminated.

Letters: w photos; k landmarks of each, n fixed ones and then c on the contour; r = w k; l lines of j candidates, q of
all lines; p = n + q points; u coefficients (e expressions, then identity); m unknowns of a step: the coefficients that
all photos share, then for each photo its own and its pose. The equations stand in :mod:`digitaltwin.fitting._fit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin import solvers
from digitaltwin.fitting._contour import Candidates, candidates_on, nearest_on_outline, silhouettes
from digitaltwin.fitting._elimination import (
    Choice,
    blend,
    coupling,
    field_at_candidates,
    field_at_fixed,
    field_energy,
    gather_forces,
    lagged_price,
)
from digitaltwin.fitting._fitter import Fitter, points_on
from digitaltwin.fitting._residuals import linearise
from digitaltwin.fitting._steps import (
    Distant,
    LinearModel,
    conjugate_step,
    damped_field,
    direct_step,
    is_direct,
    make_distant,
)
from digitaltwin.geometry import Camera, camera_points, project
from digitaltwin.geometry._rotations import compose, matrix_from_quaternion


class Unknowns(NamedTuple):
    """Where the solver stands; ``FitResult.unknowns`` of one photo is a fit's ``init`` for the next frame.

    They belong to the same given shape, and to the solver's own size of the head: the result's is set afterwards. Of
    several photos, all but multipliers and change have a leading axis w.
    """

    coefficients: Float[Array, "*w u"]
    """Expressions, then (if fitted) identity beyond that of the given shape [mm]."""
    quaternion: Float[Array, "*w 4"]
    """Unit quaternion of R(q), w first, w >= 0."""
    translation: Float[Array, "*w 3"]
    """Origin of the head frame in the camera frame [mm]."""
    log_focal_scale: Float[Array, "*w"]
    """s."""
    multipliers: Float[Array, "p 3"]
    """alpha: the correction field, as the elimination holds it."""
    change: Float[Array, " e"]
    """What the last step changed the expressions by; needed by the lagged prior alone, where the field is
    ``-A^-1 Pi' alpha - C change``."""


PHOTO_AXES = Unknowns._make((0, 0, 0, 0, None, None))
"""What of the unknowns has an axis of photos, for ``vmap``."""


class Photos(NamedTuple):
    """What w photos show, their values made safe, in the units of the energy and the fitter's order."""

    landmarks: Float[Array, "w k 2"]
    """y [px]; anything finite where the weight is 0."""
    weights: Float[Array, "w k"]
    """w."""
    focal_px: Float[Array, " w"]
    principal_point_px: Float[Array, "w 2"]
    coefficient_mean: Float[Array, "w u"]
    """mu for the expressions, 0 for identity beyond the given shape."""
    focal_precision: Float[Array, " w"]
    """``omega_r lambda_f``."""
    scale: Float[Array, "w k"]
    """``(100 / W_eye) sqrt(w_k)`` [1/px]: the residuals' unit."""


class Neutral(NamedTuple):
    """The given neutral shape at the points that photos see."""

    points: Float[Array, "k 3"]
    """The landmarks at their fixed anchors [mm]."""
    candidates: Candidates | None
    """The contour's; None where nothing slides."""


class _Point(NamedTuple):
    """The unknowns, and what of the field they imply is worth keeping."""

    unknowns: Unknowns
    field: Float[Array, "w k 3"]
    """The eliminated field at the landmarks [mm], under the present correspondences."""
    price: Float[Array, ""]
    """Its price ``tr(dP' A dP)``, with the lagged prior's ``u' Q u``."""


class _Landmarks(NamedTuple):
    """What the landmarks are on the head, their correspondences frozen."""

    base: Float[Array, "w k 3"]
    """On the given shape [mm]."""
    modes: Float[Array, "w k 3 u"]
    lagged: Float[Array, "w k 3 e"] | None
    """``Pi C``."""
    choice: Choice | None


def neutral_points(fitter: Fitter, shape: Float[Array, "v 3"]) -> Neutral:
    """Landmarks and candidates on a neutral shape."""
    points, contour = points_on(fitter, shape), fitter.contour
    if contour is None:
        return Neutral(points, None)
    closed = fitter.closed_contour
    return Neutral(points, candidates_on(shape, contour.corners, contour.barycentric, closed=closed))


def camera_of(
    focal_px: Float[Array, ""],
    principal_point_px: Float[Array, " 2"],
    unknowns: Unknowns,
    *,
    increment: Float[Array, " 7"] | None = None,
) -> Camera:
    """The camera of one photo, after an increment: rotation vector on the left, translation, log focal scale."""
    turn, shift, zoom = unknowns.quaternion, unknowns.translation, unknowns.log_focal_scale
    if increment is not None:
        turn, shift, zoom = compose(increment[:3], turn), shift + increment[3:6], zoom + increment[6]
    return Camera(matrix_from_quaternion(turn), shift, focal_px * jnp.exp(zoom), principal_point_px)


def minimise(
    fitter: Fitter, neutral: Neutral, photos: Photos, start: Unknowns, *, private: bool, at_rest: bool
) -> tuple[Unknowns, Float[Array, " steps"]]:
    """Run the fit's steps.

    Args:
        fitter: Constants.
        neutral: The given shape.
        photos: What w photos show of it.
        start: Where to start, with the axis w.
        private: Whether each photo has an expression of its own.
        at_rest: Whether the start has no correction, as it has unless it is a caller's.

    Returns:
        The unknowns, and the energy before the first step and after each. A step judges itself by the correspondences
        it was made with, so where these change the energy may rise from one entry to the next.
    """
    config = fitter.config
    damping = None if config.lagged_laplacian else solvers.ADAPTIVE

    first = _first_point(fitter, photos, start, at_rest=at_rest)
    direct = is_direct(*photos.landmarks.shape[:2])
    distant = None
    if config.iterations == 0 or not direct:
        landmarks, point = _correspond(fitter, neutral, photos, first)
        if config.iterations == 0:
            return start, _energy(fitter, photos, landmarks, point, private=private)[None]
        sizes = _sizes(photos, start, _positions(landmarks, point))
        distant = make_distant(fitter.correction.fixed, sizes[0])

    def iterate(
        state: tuple[_Point, Float[Array, ""]], _: None
    ) -> tuple[tuple[_Point, Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
        point, mu = state
        landmarks, point = _correspond(fitter, neutral, photos, point)

        def energy(at: _Point) -> Float[Array, ""]:
            return _energy(fitter, photos, landmarks, at, private=private)

        def propose(at: _Point, mu: Float[Array, ""]) -> _Point:
            return _propose(fitter, photos, landmarks, at, mu, distant, private=private)

        before = solvers.State(point, energy(point), mu)
        after = solvers.step(energy, propose, before, damping=damping)
        return (after.point, after.damping), (before.energy, after.energy)

    begin = (first, jnp.zeros((), fitter.mean.dtype))
    (last, _), (before, after) = lax.scan(iterate, begin, None, length=config.iterations)
    return last.unknowns, jnp.concatenate([before[:1], after])


def _sizes(photos: Photos, unknowns: Unknowns, positions: Float[Array, "w k 3"]) -> Float[Array, "w k"]:
    """Residual by millimetre at the landmarks.

    The geometric mean of the derivative's singular values, which are ``f / z`` and, along the image's radius,
    ``f |p| / z^2``.
    """

    def one(photo: Photos, of: Unknowns, positions: Float[Array, "k 3"]) -> Float[Array, " k"]:
        camera = camera_of(photo.focal_px, photo.principal_point_px, of)
        points = camera_points(camera, positions)
        return photo.scale * camera.focal_px * jnp.sqrt(jnp.linalg.norm(points, axis=1) / points[:, 2] ** 3)

    return jax.vmap(one, (0, PHOTO_AXES, 0))(photos, unknowns, positions)


def _first_point(fitter: Fitter, photos: Photos, start: Unknowns, *, at_rest: bool) -> _Point:
    """The start with its field at the fixed landmarks; those of the contour follow in :func:`_correspond`."""
    count, k = photos.landmarks.shape[:2]
    zero = jnp.zeros((count, k, 3), fitter.mean.dtype)
    if at_rest:
        return _Point(start, zero, jnp.zeros((), fitter.mean.dtype))
    price = field_energy(fitter.correction, start.multipliers)
    if fitter.lagged is not None:
        price += lagged_price(fitter.lagged, start.change)
    fixed = field_at_fixed(fitter.correction, start.multipliers)
    return _Point(start, zero.at[:, : len(fixed)].add(fixed[None]), price)


def _correspond(fitter: Fitter, neutral: Neutral, photos: Photos, point: _Point) -> tuple[_Landmarks, _Point]:
    """Freeze what the landmarks of every photo are on the head, and read the field there."""
    count, n = photos.landmarks.shape[0], fitter.fixed_count
    lagged = None if fitter.lagged is None else fitter.lagged.points
    repeat = lambda table: jnp.broadcast_to(table[None, :n], (count, n, *table.shape[1:]))  # noqa: E731
    base, modes = repeat(neutral.points), repeat(fitter.points.modes)
    lag = None if lagged is None else repeat(lagged)
    contour, field, unknowns = fitter.contour, fitter.correction, point.unknowns
    if contour is None or neutral.candidates is None:
        return _Landmarks(base, modes, lag, None), point
    candidates = neutral.candidates
    places = candidates.points.reshape(-1, 3)

    def one(photo: Photos, of: Unknowns) -> tuple[Choice, Float[Array, "c 3"]]:
        """Silhouettes of the lines under the present pose and shape, and the contour's landmarks among them."""
        camera = camera_of(photo.focal_px, photo.principal_point_px, of)
        index = silhouettes(camera, candidates)
        raised = field_at_candidates(field, unknowns.multipliers, index)
        free = raised
        if lagged is not None:
            free -= jnp.einsum("lxe,e->lx", lagged[n:][index], unknowns.change, precision=Precision.HIGHEST)
        moved = jnp.einsum("lxu,u->lx", contour.modes[index], of.coefficients, precision=Precision.HIGHEST)
        outline = project(camera, places[index] + (moved + free))
        found = nearest_on_outline(outline, photo.landmarks[n:], closed=fitter.closed_contour)
        share = found.share[:, None]
        there = (1.0 - share) * raised[found.first] + share * raised[found.second]
        return Choice(index[found.first], index[found.second], found.share), there

    choice, there = jax.vmap(one, (0, PHOTO_AXES))(photos, unknowns)
    landmarks = _Landmarks(
        jnp.concatenate([base, blend(places, choice)], axis=1),
        jnp.concatenate([modes, blend(contour.modes, choice)], axis=1),
        None if lag is None or lagged is None else jnp.concatenate([lag, blend(lagged[n:], choice)], axis=1),
        choice,
    )
    return landmarks, point._replace(field=jnp.concatenate([point.field[:, :n], there], axis=1))


def _positions(landmarks: _Landmarks, point: _Point) -> Float[Array, "w k 3"]:
    """The landmarks on the head, expression, identity and correction included [mm]."""
    unknowns = point.unknowns
    moved = jnp.einsum("wkxu,wu->wkx", landmarks.modes, unknowns.coefficients, precision=Precision.HIGHEST)
    if landmarks.lagged is not None:
        moved -= jnp.einsum("wkxe,e->wkx", landmarks.lagged, unknowns.change, precision=Precision.HIGHEST)
    return landmarks.base + (moved + point.field)


def _beyond(coefficients: Float[Array, "w u"]) -> Float[Array, "w u"]:
    """How far a coefficient is beyond [0, 1], with sign."""
    return coefficients - jnp.clip(coefficients, 0.0, 1.0)


def _own(fitter: Fitter, photos: int, private: bool) -> Float[Array, "w u"]:
    """1 where a photo's coefficient is an unknown of its own, or the first photo's that all share; 0 for its copies."""
    u, e = fitter.precision.shape[0], fitter.expressions.shape[0]
    first = (jnp.arange(photos) == 0)[:, None]
    return jnp.where(first | (private & (jnp.arange(u) < e))[None], 1.0, 0.0).astype(fitter.mean.dtype)


def _energy(fitter: Fitter, photos: Photos, landmarks: _Landmarks, point: _Point, *, private: bool) -> Float[Array, ""]:
    """E of Eq. 1 to 3."""
    config, unknowns = fitter.config, point.unknowns

    def seen(photo: Photos, of: Unknowns, positions: Float[Array, "k 3"]) -> Float[Array, "k 2"]:
        return project(camera_of(photo.focal_px, photo.principal_point_px, of), positions)

    image = jax.vmap(seen, (0, PHOTO_AXES, 0))(photos, unknowns, _positions(landmarks, point))
    scale = photos.scale[..., None]
    residual = jnp.where(scale > 0.0, scale * (image - photos.landmarks), 0.0)
    coefficients = unknowns.coefficients
    held = fitter.precision[None] * (coefficients - photos.coefficient_mean) ** 2
    bounded = fitter.bound_precision[None] * _beyond(coefficients) ** 2
    return (
        jnp.sum(residual**2)
        + point.price
        + jnp.sum(_own(fitter, len(coefficients), private) * (held + bounded))
        + config.omega_r * config.lambda_q * jnp.sum(unknowns.quaternion[:, 1:] ** 2)
        + jnp.sum(photos.focal_precision * unknowns.log_focal_scale**2)
    )


def _propose(
    fitter: Fitter,
    photos: Photos,
    landmarks: _Landmarks,
    point: _Point,
    damping: Float[Array, ""],
    distant: Distant | None,
    *,
    private: bool,
) -> _Point:
    """The Gauss-Newton step of all unknowns at once."""
    unknowns, field = point.unknowns, fitter.correction
    gram = coupling(field, landmarks.choice)
    model = _linearised(fitter, photos, landmarks, point, private=private)
    present = point.field
    if landmarks.lagged is not None:  # the field that is free, e = dP + C u, starts where u = 0: at dP
        present -= jnp.einsum("wkxe,e->wkx", landmarks.lagged, unknowns.change, precision=Precision.HIGHEST)
    if distant is None:
        increment, forces = direct_step(gram, present, model, damping)
    else:
        increment, forces = conjugate_step(gram, present, model, damping, distant)
    raised, price = damped_field(gram, present, point.price, forces, damping)
    moved = _moved(fitter, unknowns, increment, private=private)
    if fitter.lagged is not None:
        change = increment[: len(unknowns.change)]
        moved = moved._replace(change=change)
        price += lagged_price(fitter.lagged, change)
    forces = gather_forces(field, landmarks.choice, forces)
    multipliers = (forces + damping * unknowns.multipliers) / (1.0 + damping)
    return _Point(moved._replace(multipliers=multipliers), raised, price)


def _shared_count(fitter: Fitter, photos: int, private: bool) -> int:
    """How many coefficients, the first ones of a step, belong to all photos."""
    u, e = fitter.precision.shape[0], fitter.expressions.shape[0]
    return u - e if private and photos > 1 else u


def _moved(fitter: Fitter, unknowns: Unknowns, increment: Float[Array, " m"], *, private: bool) -> Unknowns:
    """The unknowns of every photo after a step, but for the field."""
    count = len(unknowns.coefficients)
    shared = _shared_count(fitter, count, private)
    own = increment[shared:].reshape(count, -1)
    common = jnp.broadcast_to(increment[None, :shared], (count, shared))
    coefficients, pose = jnp.concatenate([own[:, :-7], common], axis=1), own[:, -7:]
    return unknowns._replace(
        coefficients=unknowns.coefficients + coefficients,
        quaternion=jax.vmap(compose)(pose[:, :3], unknowns.quaternion),
        translation=unknowns.translation + pose[:, 3:6],
        log_focal_scale=unknowns.log_focal_scale + pose[:, 6],
    )


def _linearised(fitter: Fitter, photos: Photos, landmarks: _Landmarks, point: _Point, *, private: bool) -> LinearModel:
    """Residuals and priors about a point."""
    unknowns = point.unknowns
    count, k = photos.landmarks.shape[:2]
    shared = _shared_count(fitter, count, private)

    def one(
        photo: Photos, of: Unknowns, positions: Float[Array, "k 3"]
    ) -> tuple[Float[Array, "k 2"], Float[Array, "k 2 3"], Float[Array, "k 2 7"]]:
        return linearise(
            lambda increment: camera_of(photo.focal_px, photo.principal_point_px, of, increment=increment), positions
        )

    axes = (0, PHOTO_AXES, 0)
    image, by_point, by_pose = jax.vmap(one, axes)(photos, unknowns, _positions(landmarks, point))
    scale = photos.scale[..., None]
    by_point, by_pose = scale[..., None] * by_point, scale[..., None] * by_pose
    modes = landmarks.modes
    if landmarks.lagged is not None:  # what moves with the expressions is B - C: the rest is the free field's
        modes = modes.at[..., : landmarks.lagged.shape[3]].add(-landmarks.lagged)
    by_coefficient = jnp.einsum("wkax,wkxu->wkau", by_point, modes, precision=Precision.HIGHEST)
    own = modes.shape[3] - shared
    of_one = jnp.concatenate([by_coefficient[..., :own], by_pose], axis=3)
    of_each = of_one[:, :, :, None, :] * jnp.eye(count, dtype=of_one.dtype)[:, None, None, :, None]
    jacobian = jnp.concatenate([by_coefficient[..., own:], of_each.reshape(count, k, 2, -1)], axis=3)
    gradient, hessian = _priors(fitter, photos, unknowns, private=private)
    rows = count * k
    return LinearModel(
        residual=(scale * (image - photos.landmarks)).reshape(rows, 2),
        by_point=by_point.reshape(rows, 2, 3),
        by_unknown=jacobian.reshape(rows, 2, -1),
        gradient=gradient,
        hessian=hessian,
    )


def _priors(
    fitter: Fitter, photos: Photos, unknowns: Unknowns, *, private: bool
) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
    """Half the gradient and half the Gauss-Newton Hessian of the priors, in the order of a step's unknowns."""
    config, dtype = fitter.config, fitter.mean.dtype
    count = len(unknowns.coefficients)
    shared = _shared_count(fitter, count, private)
    stiff = config.omega_r * config.lambda_q
    beyond = _beyond(unknowns.coefficients)
    bounds = jnp.where(beyond == 0.0, 0.0, fitter.bound_precision[None])
    by_coefficient = fitter.precision[None] * (unknowns.coefficients - photos.coefficient_mean) + bounds * beyond
    curvature = fitter.precision[None] + bounds

    def turned(quaternion: Float[Array, " 4"]) -> Float[Array, "3 3"]:
        """An increment on the left moves the quaternion's vector part by ``(w I - [vector]x) / 2``."""
        w, vector = quaternion[0], quaternion[1:]
        return 0.5 * (w * jnp.eye(3, dtype=dtype) + jnp.cross(jnp.eye(3, dtype=dtype), vector[None]).T)

    turns = jax.vmap(turned)(unknowns.quaternion)
    of_turn = stiff * jnp.sum(unknowns.quaternion[:, 1:, None] * turns, axis=1)
    of_focal = photos.focal_precision * unknowns.log_focal_scale
    own = by_coefficient.shape[1] - shared
    still = jnp.zeros((count, 3), dtype)
    of_one = jnp.concatenate([by_coefficient[:, :own], of_turn, still, of_focal[:, None]], axis=1)
    gradient = jnp.concatenate([by_coefficient[0, own:], of_one.reshape(-1)])

    blocks = stiff * jnp.sum(turns[:, :, :, None] * turns[:, :, None, :], axis=1)
    nothing = jnp.zeros((count, 6), dtype)
    diagonals = jnp.concatenate([curvature[:, :own], nothing, photos.focal_precision[:, None]], axis=1)
    diagonal = jnp.concatenate([curvature[0, own:], diagonals.reshape(-1)])
    around = [jnp.pad(block, ((own, 4), (own, 4))) for block in blocks]
    hessian = jnp.diag(diagonal) + jnp.pad(jsl.block_diag(*around), ((shared, 0), (shared, 0)))
    if fitter.lagged is not None:
        e = fitter.lagged.quadratic.shape[0]
        hessian = hessian.at[:e, :e].add(fitter.lagged.quadratic)
    return gradient, hessian
