"""The energy of a fit once more, in NumPy and SciPy, float64: the referee of steps and minima, and random problems.

Written from the equations (see :mod:`digitaltwin.fitting._fit`) to share no code and no idea with the library's
solver: the correction field is 3v plain unknowns beside all others, and a step is one sparse LU factorisation of the
whole normal matrix. Only the head's arrays and its cotangents come from the library.

Letters: v vertices, k landmarks, c coefficients (expressions, then identity if fitted), m = c + 7 the unknowns beside
the field: coefficients, a rotation vector on the left [rad], translation [mm], log focal scale.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.spatial.transform import Rotation

from benchmarks.refinement import refine
from digitaltwin.fitting import mesh_points_of
from digitaltwin.geometry import SurfacePoints, cotangent_stiffness, lumped_mass
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.geometry._topology import edges
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import (
    CONTOUR,
    LANDMARK_COUNT,
    LEFT_EYE_OUTER,
    MESH_LEFT_EYE,
    MESH_OVAL,
    MESH_RIGHT_EYE,
    RIGHT_EYE_OUTER,
)

FLIP = np.array([1.0, -1.0, -1.0])
IMAGE_SIZE = (480, 640)
_FRONTAL_COSINE = 0.3  # a pose turned further than this gives no scale that could be trusted
_POSE = 7


class Layout(NamedTuple):
    """Where landmarks lie on the skin, and what each is worth."""

    rows: sp.csr_array
    """[k v]; a landmark is any linear combination of vertices, so a frozen sliding contour fits in."""
    weights: np.ndarray
    """[k]."""
    eyes: tuple[int, int]
    """The two outer eye corners."""
    beside: tuple[np.ndarray, np.ndarray] | None = None
    """What landmarks beside the skin (the irises) add to their rows of it: [k 3] on the mean head, and [k 3 i] by each
    identity coefficient. Only the head's size counts them: their weights are 0 here."""

    def on_shape(self, head: HeadModel, shape: np.ndarray) -> np.ndarray:
        """The landmarks on a neutral shape [k 3]."""
        points = self.rows @ shape
        if self.beside is None:
            return points
        rest, modes = self.beside
        moved = shape - np.asarray(head.mean, np.float64)
        return points + rest + modes @ np.tensordot(np.asarray(head.identity, np.float64), moved, 2)


class State(NamedTuple):
    """Where a fit stands."""

    coefficients: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    log_focal_scale: float
    field: np.ndarray
    """dP [v 3], mm."""


class Photo(NamedTuple):
    """What was seen of a random person, and where a fit may start."""

    landmarks: np.ndarray
    """[k 2] px; NaN where the weight is 0."""
    weights: np.ndarray
    """[k]."""
    scores: np.ndarray
    """[e]."""
    shape: np.ndarray
    """P [v 3]: the person's neutral shape but for its detail, or the mean head."""
    focal_px: float | None
    start_rotation: np.ndarray
    start_translation: np.ndarray


class Lines(NamedTuple):
    """Candidates for the points of a sliding contour, on lines across it."""

    rows: sp.csr_array
    """[l j v] flattened to [lj v]."""
    count: int
    """Lines l."""
    landmarks: np.ndarray
    """Which landmarks slide."""
    closed: bool
    """Whether the last line neighbours the first."""


def landmark_layout(head: HeadModel, contour_weight: float) -> Layout:
    """The 104 landmarks."""
    weights = np.ones(len(head.landmarks.faces))
    weights[CONTOUR] = contour_weight
    return Layout(_rows(head, head.landmarks), weights, (LEFT_EYE_OUTER, RIGHT_EYE_OUTER))


def mesh_layout(head: HeadModel, contour_weight: float) -> Layout:
    """The 478 points of the face mesh: 468 on the skin, and those of the irises, which are never seen here.

    The whole weighs as much as the 104 landmarks.
    """
    points = mesh_points_of(head)
    count = len(points.weights)
    rows = interpolation_matrix(points.corners, points.weights, len(head.mean))
    carried = np.einsum("kj,ikjx->kxi", points.weights, np.asarray(head.identity, np.float64)[:, points.corners])
    on_skin = len(head.mesh_points.faces)
    weights = np.r_[np.full(on_skin, LANDMARK_COUNT / on_skin), np.zeros(count - on_skin)]
    weights[np.array(MESH_OVAL)] *= contour_weight
    eyes = (MESH_LEFT_EYE[0], MESH_RIGHT_EYE[0])
    return Layout(rows, weights, eyes, (points.rest, points.identity - carried))


def _rows(head: HeadModel, anchors: SurfacePoints) -> sp.csr_array:
    corners = np.asarray(head.faces)[np.asarray(anchors.faces)]
    weights = np.asarray(anchors.barycentric, np.float64)
    rows = np.repeat(np.arange(len(corners)), 3)
    return sp.csr_array((weights.ravel(), (rows, corners.ravel())), shape=(len(corners), len(head.mean)))


class Model:
    """What all photos share: modes, priors, and the field's quadratic form ``omega_c (L'WL + lambda W)``.

    Args:
        head: The head.
        config: Weights, a :class:`digitaltwin.fitting.FitConfig`.
        layout: The landmarks; by default the 104.
        paper: The paper's configuration: graph Laplacian D - Adjacency, W = I and the field in decimetres, 25 and 4;
            100 / W_eye outside the square; expressions about 0 without bounds.
        lagged: How many of the modes (expressions come first) the field's L sees beside the field, relative to where
            the step starts. 0 gives one energy for all steps.
    """

    def __init__(
        self, head: HeadModel, config: Any, *, layout: Layout | None = None, paper: bool = False, lagged: int = 0
    ):
        self.head = head
        self.layout = landmark_layout(head, config.contour_weight) if layout is None else layout
        self.mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
        expressions, identity = np.asarray(head.expressions, np.float64), np.asarray(head.identity, np.float64)
        self.modes = np.concatenate([expressions, identity]) if config.fit_identity else expressions
        self.expressions, extra = len(expressions), len(self.modes) - len(expressions)
        self.paper, self.config, self.fit_identity = paper, config, config.fit_identity

        # Where irises are among the points, they and not the scores say where the eyes look.
        looks = np.array([name.startswith("eyeLook") for name in head.expression_names])
        looks &= len(self.layout.weights) > LANDMARK_COUNT
        stiff = config.omega_r / np.where(looks, config.gaze_deviation, config.expression_deviation) ** 2
        deviation = np.asarray(head.identity_std, np.float64)[:extra]
        self.precision = np.r_[stiff, config.omega_i / deviation**2]
        self.bound = np.r_[(0.0 if paper else 1.0) * stiff, np.zeros(extra)]
        self.rotation_precision = config.omega_r * config.lambda_q

        if paper:
            self.laplacian, self.mass = _graph_laplacian(faces, len(self.mean)), np.ones(len(self.mean))
            self.omega_c, self.ridge = 25.0 / 100.0**2, 4.0  # the field is in mm here
        else:
            area = lumped_mass(self.mean, faces)
            stiffness = cotangent_stiffness(self.mean, faces)
            self.laplacian = sp.csr_array(sp.diags_array(area.mean() / area) @ stiffness)
            self.mass = area / area.mean()
            self.ridge = area.mean() ** 2 / config.correction_length_mm**4
            self.omega_c = config.correction_weight * area.mean() / self.ridge
        self.smoothness = sp.csr_array(self.laplacian.T @ sp.diags_array(self.mass) @ self.laplacian)
        self.field = sp.csr_array(self.omega_c * (self.smoothness + self.ridge * sp.diags_array(self.mass)))
        self.field3 = sp.csc_array(sp.kron(self.field, sp.eye_array(3)))

        flat = self.modes[:lagged].reshape(lagged, self.mean.size).T
        self.lagged = lagged
        self.lagged_coupling = np.asarray(self.omega_c * (sp.kron(self.smoothness, sp.eye_array(3)) @ flat))
        self.lagged_corner = flat.T @ self.lagged_coupling


def _graph_laplacian(faces: np.ndarray, count: int) -> sp.csr_array:
    i, j = edges(faces).T
    adjacency = sp.coo_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(count, count))
    return sp.csr_array(sp.diags_array(adjacency.sum(axis=1)) - adjacency)


class Referee:
    """Energy, derivatives, step and minimum of one photo.

    Args:
        model: What all photos share.
        photo: One photo.
        rows: Where the landmarks lie, if not where the model's layout says: a contour, frozen where it slid to.
    """

    def __init__(self, model: Model, photo: Photo, *, rows: sp.csr_array | None = None):
        self.model, self.photo = model, photo
        self.rows = model.layout.rows if rows is None else rows
        self.point_modes = np.stack([self.rows @ mode for mode in model.modes], axis=2)
        self.shape_points = self.rows @ photo.shape
        self.weights = photo.weights * model.layout.weights
        self.landmarks = np.where(self.weights[:, None] > 0.0, photo.landmarks, 0.0)
        extra = len(model.modes) - model.expressions
        self.mu = np.r_[np.zeros(model.expressions) if model.paper else photo.scores, np.zeros(extra)]
        self.centre = np.array(IMAGE_SIZE[::-1]) / 2.0
        self.focal = float(max(IMAGE_SIZE)) if photo.focal_px is None else photo.focal_px
        config = model.config
        self.focal_precision = config.omega_r * (config.lambda_f if photo.focal_px is None else config.lambda_f_known)

    def start(self) -> State:
        """The photo's own start: the scores' expression, a pose some degrees and per cent off."""
        photo = self.photo
        return State(self.mu, photo.start_rotation, photo.start_translation, 0.0, np.zeros_like(self.model.mean))

    def scale(self, start: State) -> np.ndarray:
        """``(100 / W_eye) sqrt(w)`` [k], W_eye freed from the start pose's foreshortening."""
        left, right = self.model.layout.eyes
        seen = self.landmarks
        if not (self.weights[left] > 0.0 and self.weights[right] > 0.0):
            seen = self.project(self.shape_points, start)
        cosine = max(np.hypot(start.rotation[0, 0], start.rotation[1, 0]), _FRONTAL_COSINE)
        per_px = 100.0 * cosine / np.linalg.norm(seen[left] - seen[right])
        return np.sqrt((per_px if self.model.paper else per_px**2) * self.weights)

    def scale_of(self, energy: float, state: State) -> np.ndarray:
        """The scale with which a state has an energy: for a fit whose start pose, and so W_eye's, is not known."""
        prior = self.energy(np.zeros_like(self.weights), state)
        unit = self.energy(np.sqrt(self.weights), state) - prior
        return np.sqrt((energy - prior) / unit * self.weights)

    def points(self, state: State) -> np.ndarray:
        """The landmarks on the head [k 3]."""
        return self.shape_points + self.rows @ state.field + self.point_modes @ state.coefficients

    def project(self, points: np.ndarray, state: State) -> np.ndarray:
        """Their images [px]."""
        seen = (points @ state.rotation.T) * FLIP + state.translation
        return self.focal * np.exp(state.log_focal_scale) * seen[:, :2] / seen[:, 2:] + self.centre

    def image_residual(self, scale: np.ndarray, state: State) -> np.ndarray:
        """[k 2]."""
        return scale[:, None] * (self.project(self.points(state), state) - self.landmarks)

    def hinge(self, coefficients: np.ndarray) -> np.ndarray:
        """How far expressions are beyond [0, 1]."""
        beyond = np.maximum(coefficients - 1.0, 0.0) + np.minimum(coefficients, 0.0)
        return np.where(self.model.bound > 0.0, beyond, 0.0)

    def residuals(self, scale: np.ndarray, state: State, *, change: np.ndarray | None = None) -> np.ndarray:
        """All residuals, the squares of which sum to the energy: image, L d, d, coefficients, bounds, rotation, zoom.

        Args:
            scale: Of the image residual.
            state: Where.
            change: With a lagged term, what the step that led here changed the lagged coefficients by; none at its
                start.

        Returns:
            One vector.
        """
        model = self.model
        root, rough = np.sqrt(model.omega_c * model.mass)[:, None], state.field
        if change is not None:
            rough = rough + np.tensordot(change[: model.lagged], model.modes[: model.lagged], 1)
        return np.r_[
            self.image_residual(scale, state).ravel(),
            (root * (model.laplacian @ rough)).ravel(),
            (np.sqrt(model.ridge) * root * state.field).ravel(),
            self.prior_residuals(state),
        ]

    def prior_residuals(self, state: State) -> np.ndarray:
        """Those of coefficients, bounds, rotation and zoom."""
        model = self.model
        return np.r_[
            np.sqrt(model.precision) * (state.coefficients - self.mu),
            np.sqrt(model.bound) * self.hinge(state.coefficients),
            np.sqrt(model.rotation_precision) * _quaternion(state.rotation)[1],
            np.sqrt(self.focal_precision) * state.log_focal_scale,
        ]

    def energy(self, scale: np.ndarray, state: State, *, change: np.ndarray | None = None) -> float:
        """E of Eq. 1 to 3."""
        return float(np.sum(self.residuals(scale, state, change=change) ** 2))

    def image_jacobians(self, scale: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the image residual by the landmarks' positions [k 2 3] and by the other unknowns [k 2 m]."""
        turned = self.points(state) @ state.rotation.T
        seen = turned * FLIP + state.translation
        gain = scale * self.focal * np.exp(state.log_focal_scale) / seen[:, 2]
        by_seen = np.zeros((len(scale), 2, 3))
        by_seen[:, 0, 0] = by_seen[:, 1, 1] = gain
        by_seen[:, :, 2] = -gain[:, None] * seen[:, :2] / seen[:, 2:]
        by_point = (by_seen * FLIP) @ state.rotation
        # An increment w on the left moves R p by w x R p, the columns of which are e_a x R p.
        crossed = np.stack([np.cross(axis, turned) for axis in np.eye(3)], axis=2)
        by_turn = (by_seen * FLIP) @ crossed
        by_zoom = gain[:, None, None] * seen[:, :2, None]
        return by_point, np.concatenate([by_point @ self.point_modes, by_turn, by_seen, by_zoom], axis=2)

    def field_jacobian(self, by_point: np.ndarray) -> sp.csc_array:
        """Derivative of the image residual by the field [2k 3v]."""
        k = len(by_point)
        index = np.arange(2 * k + 1) * 3
        columns = (3 * np.arange(k)[:, None, None] + np.zeros((1, 2, 1), int) + np.arange(3)).ravel()
        blocks = sp.csr_array((by_point.ravel(), columns, index), shape=(2 * k, 3 * k))
        return sp.csc_array(blocks @ sp.kron(self.rows, sp.eye_array(3)))

    def prior_jacobian(self, state: State) -> np.ndarray:
        """Derivatives of :meth:`prior_residuals` by the other unknowns [2c + 4, m]."""
        model, c = self.model, len(self.mu)
        result = np.zeros((2 * c + 4, c + _POSE))
        result[:c, :c] = np.diag(np.sqrt(model.precision))
        result[c : 2 * c, :c] = np.diag(np.where(self.hinge(state.coefficients) != 0.0, np.sqrt(model.bound), 0.0))
        w, vector = _quaternion(state.rotation)
        by_turn = 0.5 * np.stack([w * axis + np.cross(axis, vector) for axis in np.eye(3)], axis=1)
        result[2 * c : 2 * c + 3, c : c + 3] = np.sqrt(model.rotation_precision) * by_turn
        result[-1, -1] = np.sqrt(self.focal_precision)
        return result

    def jacobian(self, scale: np.ndarray, state: State) -> sp.csr_array:
        """Derivative of :meth:`residuals` by all unknowns, the field first [r 3v + m]."""
        model = self.model
        by_point, by_other = self.image_jacobians(scale, state)
        root = np.sqrt(model.omega_c * model.mass)
        rough = sp.kron(sp.diags_array(root) @ model.laplacian, sp.eye_array(3))
        moved = np.zeros((model.mean.size, by_other.shape[2]))
        moved[:, : model.lagged] = rough @ model.modes[: model.lagged].reshape(model.lagged, model.mean.size).T
        plain = sp.kron(sp.diags_array(np.sqrt(model.ridge) * root), sp.eye_array(3))
        blocks = [
            [self.field_jacobian(by_point), sp.csr_array(by_other.reshape(2 * len(scale), -1))],
            [rough, sp.csr_array(moved)],
            [plain, None],
            [None, sp.csr_array(self.prior_jacobian(state))],
        ]
        return sp.csr_array(sp.block_array(blocks))

    def normal_matrix(
        self, scale: np.ndarray, state: State, damping: float = 0.0
    ) -> tuple[sp.csc_array, np.ndarray, np.ndarray]:
        """The normal equations of a step: ``(J'J + damping, J'r)`` with the field first, and the undamped J'J's corner.

        Damping mu adds ``mu A`` to the field's block, and to the others' mu times the diagonal of what is left of
        their block when the field has been eliminated.
        """
        model, lagged = self.model, self.model.lagged
        by_point, by_other = self.image_jacobians(scale, state)
        by_field, by_other = self.field_jacobian(by_point), by_other.reshape(2 * len(scale), -1)
        residual, prior = self.image_residual(scale, state).ravel(), self.prior_jacobian(state)

        block = sp.csc_array((1.0 + damping) * model.field3 + by_field.T @ by_field)
        coupling = np.asarray(by_field.T @ by_other)
        coupling[:, :lagged] += model.lagged_coupling
        corner = by_other.T @ by_other + prior.T @ prior
        corner[:lagged, :lagged] += model.lagged_corner
        gradient = by_other.T @ residual + prior.T @ self.prior_residuals(state)
        gradient[:lagged] += model.lagged_coupling.T @ state.field.ravel()
        if damping > 0.0:
            reduced = corner - coupling.T @ factorised(block).solve(coupling)
            corner = corner + damping * np.diag(np.diag(reduced))
        coupling = sp.csc_array(coupling)
        system = sp.csc_array(sp.block_array([[block, coupling], [coupling.T, sp.csc_array(corner)]]))
        right = np.r_[by_field.T @ residual + (model.field @ state.field).ravel(), gradient]
        return system, right, corner

    def step(self, scale: np.ndarray, state: State, *, damping: float = 0.0) -> State:
        """One Gauss-Newton step of all 3v + m unknowns at once."""
        system, right, _ = self.normal_matrix(scale, state, damping)
        return self.moved(state, -factorised(system).solve(right))

    def moved(self, state: State, increment: np.ndarray) -> State:
        """The state after an increment of all unknowns, the field first."""
        c, split = len(self.mu), state.field.size
        other = increment[split:]
        return State(
            coefficients=state.coefficients + other[:c],
            rotation=Rotation.from_rotvec(other[c : c + 3]).as_matrix() @ state.rotation,
            translation=state.translation + other[c + 3 : c + 6],
            log_focal_scale=float(state.log_focal_scale + other[-1]),
            field=state.field + increment[:split].reshape(-1, 3),
        )

    def run(self, scale: np.ndarray, state: State, steps: int, *, tolerance: float = 0.0) -> tuple[State, list[float]]:
        """Steps that may not raise the energy: a rejected one damps the next, by 1/100 and then ten times more.

        With a lagged term there is no one energy to fall, and every step is taken.

        Args:
            scale: Of the image residual.
            state: Start.
            steps: At most so many.
            tolerance: Stop when a taken step lowers the energy by less than this share.

        Returns:
            The last state, and the energy before the first and after each step.
        """
        energies, damping = [self.energy(scale, state)], 0.0
        for _ in range(steps):
            proposed = self.step(scale, state, damping=damping)
            energy = self.energy(scale, proposed, change=proposed.coefficients - state.coefficients)
            if self.model.lagged or energy <= energies[-1] * (1.0 + 1e-14):
                state, damping = proposed, 0.0 if damping < 1e-3 else damping / 10.0
                done = energies[-1] - energy <= tolerance * energy
                energies.append(energy)
                if done:
                    break
            else:
                damping = max(10.0 * damping, 1e-2)
                energies.append(energies[-1])
        return state, energies

    def vertices(self, state: State) -> np.ndarray:
        """The head [v 3] with identity, expression and correction, at the solver's own size."""
        return self.photo.shape + np.tensordot(state.coefficients, self.model.modes, 1) + state.field

    def gauge(self, state: State) -> float:
        """What a fit of identity scales its result by: the landmarks' size on P over that on the fitted neutral."""
        if not self.model.fit_identity:
            return 1.0
        layout, head, extra = self.model.layout, self.model.head, self.model.expressions
        grown = np.tensordot(state.coefficients[extra:], self.model.modes[extra:], 1) + state.field
        given, fitted = (layout.on_shape(head, shape) for shape in (self.photo.shape, self.photo.shape + grown))
        return float(np.sqrt(np.var(given, axis=0).sum() / np.var(fitted, axis=0).sum()))


def frozen_contour(referee: Referee, lines: Lines, state: State) -> tuple[sp.csr_array, float]:
    """The landmarks' rows with the contour where it slid to.

    On each line that is the candidate seen most nearly edge-on, or an end where the line is seen from one side only;
    of the polyline through these, the point nearest to the landmark in the image.

    Args:
        referee: Of any rows.
        lines: The candidates.
        state: Pose and shape that the contour is looked for under.

    Returns:
        Rows [k v], and by how much the choice on the least decided line was decided (squared cosines).
    """
    shape = referee.photo.shape
    points = (lines.rows @ shape).reshape(lines.count, -1, 3)
    beside, places = np.arange(-1, lines.count + 1), np.arange(-1, points.shape[1] + 1)
    across = points[beside % lines.count if lines.closed else np.clip(beside, 0, lines.count - 1)]
    along = points[:, np.clip(places, 0, points.shape[1] - 1)]
    normals = np.cross(across[2:] - across[:-2], along[:, 2:] - along[:, :-2])
    length = np.linalg.norm(normals, axis=2)
    sight = points + state.rotation.T @ (FLIP * state.translation)
    cosine = np.sum(normals * sight, axis=2) / np.maximum(length, 1e-30) / np.linalg.norm(sight, axis=2)
    cosine *= np.sign(np.sum(normals * (points - points.mean(axis=(0, 1)))))  # of the outward normal
    choice, decided = zip(*(_silhouette(*line) for line in zip(cosine, length > 0.0)))
    chosen = lines.rows[np.arange(lines.count) * points.shape[1] + np.array(choice)]

    outline = referee.project(chosen @ referee.vertices(state), state)
    following = (np.arange(lines.count) + 1) % lines.count
    count = lines.count if lines.closed else lines.count - 1
    best = []
    for landmark in referee.landmarks[lines.landmarks]:
        side = outline[following] - outline
        share = np.clip(np.sum((landmark - outline) * side, axis=1) / np.sum(side**2, axis=1), 0.0, 1.0)
        away = np.linalg.norm(outline + share[:, None] * side - landmark, axis=1)[:count]
        best.append((np.argmin(away), share[np.argmin(away)]))
    index, share = np.array(best).T
    first, second = index.astype(int), following[index.astype(int)]
    slid = sp.diags_array(1.0 - share) @ chosen[first] + sp.diags_array(share) @ chosen[second]
    anchors = referee.model.layout.rows
    held = np.ones(len(referee.weights))
    held[lines.landmarks] = 0.0
    place = sp.csr_array((np.ones(len(index)), (lines.landmarks, np.arange(len(index)))), (len(held), len(index)))
    return sp.csr_array(sp.diags_array(held) @ anchors + place @ slid), float(min(decided))


def _silhouette(cosine: np.ndarray, real: np.ndarray) -> tuple[int, float]:
    """The candidate of one line, and by how much it was decided.

    Args:
        cosine: Between outward normals and the directions they are seen in.
        real: False where the line has ended.

    Returns:
        Its index, and the least change of a squared cosine that would make it another.
    """
    places = np.flatnonzero(real)
    cosine = cosine[places]
    squared = cosine**2
    weakest, second = np.argsort(squared)[:2]
    others = np.delete(cosine, weakest)
    if not (np.all(others < 0.0) or np.all(others > 0.0)):
        return int(places[weakest]), float(squared[second] - squared[weakest])
    # One side throughout, but for the weakest perhaps: its sign decides between itself and the end.
    end = 0 if others[0] < 0.0 else len(places) - 1
    by_sign = np.inf if end == weakest else float(squared[weakest])
    if cosine[weakest] * others[0] < 0.0:
        return int(places[weakest]), min(float(squared[second] - squared[weakest]), by_sign)
    return int(places[end]), by_sign


def factorised(matrix: sp.csc_array | sp.csc_matrix) -> spl.SuperLU:
    """Sparse LU of a symmetric positive definite matrix, ordered to stay sparse."""
    options = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
    return spl.splu(sp.csc_matrix(matrix), permc_spec="MMD_AT_PLUS_A", options=options)


def _quaternion(rotation: np.ndarray) -> tuple[float, np.ndarray]:
    """Real and vector part of R's unit quaternion, the real one not negative."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    sign = 1.0 if w >= 0.0 else -1.0
    return sign * w, sign * np.array([x, y, z])


def make_photo(
    head: HeadModel,
    layout: Layout,
    seed: int,
    *,
    known_shape: bool = False,
    missing: float = 0.0,
    weighted: bool = False,
    known_focal: bool = False,
    noise: float = 0.01,
) -> Photo:
    """Landmarks of a random person, within what the priors expect, whose head is turned.

    Args:
        head: The head model.
        layout: The landmarks.
        seed: Of everything random.
        known_shape: Whether P is the person's, but for its detail; else P is the mean head.
        missing: Share of the landmarks that were not seen (NaN, weight 0), drawn at random.
        weighted: Whether landmarks get weights between 0.2 and 2.
        known_focal: Whether the focal length is given, some per cent off.
        noise: Standard deviation of the landmarks, as a share of the eye distance.

    Returns:
        The photo.
    """
    rng = np.random.default_rng(seed)
    beta = np.clip(0.3 * rng.normal(size=len(head.expressions)), 0.0, 1.0)
    identity = np.clip(rng.normal(size=len(head.identity)), -2.0, 2.0) * np.asarray(head.identity_std)
    mean = np.asarray(head.mean, np.float64)
    person = mean + np.tensordot(identity, np.asarray(head.identity, np.float64), 1)
    detail = np.zeros_like(mean)
    for bump in (layout.rows @ mean)[rng.integers(len(layout.weights), size=8)]:
        near = np.exp(-np.sum((mean - bump) ** 2, axis=1) / (2.0 * 15.0**2))
        detail += 1.5 * near[:, None] * rng.normal(size=3)
    points = layout.rows @ (person + detail + np.tensordot(beta, np.asarray(head.expressions, np.float64), 1))

    rotation = Rotation.from_rotvec(0.28 * rng.normal(size=3)).as_matrix()
    focal = max(IMAGE_SIZE) * np.exp(0.1 * rng.normal())
    translation = np.r_[15.0 * rng.normal(size=2), rng.uniform(400.0, 700.0)]
    seen = (points @ rotation.T) * FLIP + translation
    landmarks = focal * seen[:, :2] / seen[:, 2:] + np.array(IMAGE_SIZE[::-1]) / 2.0
    eyes = np.linalg.norm(landmarks[layout.eyes[0]] - landmarks[layout.eyes[1]])
    landmarks += noise * eyes * rng.normal(size=landmarks.shape)

    weights = rng.uniform(0.2, 2.0, len(landmarks)) if weighted else np.ones(len(landmarks))
    weights[(rng.random(len(landmarks)) < missing) | (layout.weights == 0.0)] = 0.0
    landmarks[weights == 0.0] = np.nan
    given = focal * np.exp(0.014 * rng.normal())
    assumed = given if known_focal else max(IMAGE_SIZE)
    pushed = np.r_[1.0, 1.0, assumed / focal] * translation * (1.0 + 0.03 * rng.normal())
    return Photo(
        landmarks=landmarks,
        weights=weights,
        scores=np.clip(beta + 0.1 * rng.normal(size=len(beta)), 0.0, 1.0),
        shape=person if known_shape else mean,
        focal_px=float(given) if known_focal else None,
        start_rotation=Rotation.from_rotvec(0.05 * rng.normal(size=3)).as_matrix() @ rotation,
        start_translation=pushed,
    )


def refined_head(head: HeadModel, count: int) -> HeadModel:
    """A head with more vertices on the same surface: positions, modes, anchors, regions; no texture or mirror image."""
    mean = np.asarray(head.mean, np.float64)
    matrix, faces = refine(mean, np.asarray(head.faces), count)

    def finer(field: Any) -> jnp.ndarray:
        flat = np.moveaxis(np.asarray(field, np.float64), -2, 0).reshape(len(mean), -1)
        shape = (count, *np.shape(field)[:-2], 3)
        return jnp.asarray(np.moveaxis((matrix @ flat).reshape(shape), 0, -2), jnp.float32)

    def moved(anchors: SurfacePoints) -> SurfacePoints:
        return _finer_anchors(anchors, np.asarray(head.faces), sp.csc_array(matrix), faces)

    return replace(
        head,
        mean=finer(head.mean),
        faces=jnp.asarray(faces, jnp.int32),
        uv_faces=jnp.zeros(faces.shape, jnp.int32),
        mirror=jnp.arange(count, dtype=jnp.int32),
        regions=type(head.regions)(*(jnp.asarray(matrix @ np.asarray(mask, float) > 0.5) for mask in head.regions)),
        expressions=finer(head.expressions),
        other_expressions=finer(head.other_expressions),
        identity=finer(head.identity),
        landmarks=moved(head.landmarks),
        mesh_points=moved(head.mesh_points),
    )


def _finer_anchors(anchors: SurfacePoints, faces: np.ndarray, matrix: sp.csc_array, finer: np.ndarray) -> SurfacePoints:
    """The same points on the new faces: those that the old one was split into are looked through."""
    chosen, weights = [], []
    for face, old in zip(np.asarray(anchors.faces), np.asarray(anchors.barycentric, np.float64)):
        local = matrix[:, faces[face]].toarray()  # the new vertices within the old face, in its coordinates
        inside = np.flatnonzero((local.sum(axis=1) > 1.0 - 1e-9)[finer].all(axis=1))
        new = np.linalg.solve(
            np.swapaxes(local[finer[inside]], 1, 2), np.broadcast_to(old[:, None], (len(inside), 3, 1))
        )
        best = np.argmax(new[:, :, 0].min(axis=1))
        chosen.append(inside[best])
        weights.append(np.maximum(new[best, :, 0], 0.0))
    weights = np.stack(weights)
    return SurfacePoints(
        jnp.asarray(np.array(chosen), jnp.int32),
        jnp.asarray(weights / weights.sum(axis=1, keepdims=True), jnp.float32),
    )
