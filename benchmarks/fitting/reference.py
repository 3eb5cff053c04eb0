"""The reference implementation of the fit: its energy, derivatives, step and minimum, in NumPy and SciPy, float64.

It is written from the equations (see :mod:`digitaltwin.fitting`) and shares no code and no idea with the library's
solver: the correction field is 3v plain unknowns beside all others, and a step is one sparse LU factorisation of the
whole normal matrix. Only the head's arrays, its landmarks and its cotangents come from the library.

Letters: v vertices, k landmarks, c coefficients (expressions, then identity if fitted), m = c + 7 the unknowns beside
the field: coefficients, a rotation vector on the left [rad], translation [mm], log focal scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

from benchmarks.fitting.problem import FLIP, IMAGE_SIZE, Photo, State
from benchmarks.linear_algebra import factorised
from digitaltwin.fitting import FitConfig
from digitaltwin.fitting._points import FacePoints
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.geometry._laplacian import cotangent_stiffness, lumped_mass
from digitaltwin.geometry._topology import edges
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import LANDMARK_COUNT

_FRONTAL_COSINE = 0.3  # a pose turned further than this gives no scale that could be trusted


class Model:
    """Modes, priors and the field's quadratic form ``omega_c (L'WL + lambda W)``, which all photos share.

    The paper's configuration has the graph Laplacian D - Adjacency, W = I and the field in decimetres, 25 and 4;
    100 / W_eye outside the square; expressions about 0 without bounds. Of the modes, expressions first, ``lagged`` many
    are seen by the field's L beside the field, relative to where the step starts; with 0 all steps have one energy.
    """

    def __init__(self, head: HeadModel, config: FitConfig, points: FacePoints, *, paper: bool = False, lagged: int = 0):
        self.points, self.config, self.paper, self.lagged = points, config, paper, lagged
        self.mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
        expressions, self.identity = np.asarray(head.expressions, np.float64), np.asarray(head.identity, np.float64)
        self.modes = np.concatenate([expressions, self.identity]) if config.fit_identity else expressions
        self.expressions, extra = len(expressions), len(self.modes) - len(expressions)
        # A landmark is any linear combination of vertices, so a frozen sliding contour fits in; irises are not seen.
        self.rows = interpolation_matrix(points.corners, points.weights, len(self.mean))
        self.weights = np.where(np.any(points.rest, axis=1), 0.0, points.landmark_weights)
        self.weights[points.contour.landmarks] *= config.contour_weight

        # Where irises are among the points, they and not the detected expression say where the eyes look.
        gaze = np.array([name.startswith("eyeLook") for name in head.expression_names])
        gaze &= len(self.weights) > LANDMARK_COUNT
        stiff = config.omega_r / np.where(gaze, config.gaze_deviation, config.expression_deviation) ** 2
        deviation = np.asarray(head.identity_std, np.float64)[:extra]
        bound = np.r_[np.zeros_like(stiff) if paper else stiff, np.zeros(extra)]
        precisions = (np.r_[stiff, config.omega_i / deviation**2], bound, config.omega_r * config.lambda_q)
        self.roots = tuple(np.sqrt(precision) for precision in precisions)

        if paper:
            i, j = edges(faces).T
            adjacency = sp.coo_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=2 * (len(self.mean),))
            laplacian, mass = sp.diags_array(adjacency.sum(axis=1)) - adjacency, np.ones(len(self.mean))
            omega_c, ridge = 25.0 / 100.0**2, 4.0  # the field is in mm here
        else:
            area = lumped_mass(self.mean, faces)
            mass, ridge = area / area.mean(), area.mean() ** 2 / config.correction_length_mm**4
            laplacian = sp.diags_array(1.0 / mass) @ cotangent_stiffness(self.mean, faces)
            omega_c = config.correction_weight * area.mean() / ridge
        root = np.sqrt(omega_c * mass)
        self.rough, self.plain = sp.csr_array(sp.diags_array(root) @ laplacian), np.sqrt(ridge) * root
        self.field = sp.csr_array(self.rough.T @ self.rough + sp.diags_array(self.plain**2))
        # The field's residuals, linear in all unknowns: L d, to which lagged modes add what they have changed, and d.
        rough, plain, self.field3 = (
            sp.csc_array(sp.kron(part, sp.eye_array(3)))
            for part in (self.rough, sp.diags_array(self.plain), self.field)
        )
        moved = sp.csr_array(rough @ self.modes[:lagged].reshape(lagged, self.mean.size).T)
        rest = sp.csr_array((self.mean.size, len(self.modes) + 7 - lagged))
        self.constant_rows = sp.csr_array(sp.block_array([[rough, moved, rest], [plain, None, None]]))
        self.constant_square = sp.csc_array(self.constant_rows.T @ self.constant_rows)

    def landmarks_on(self, shape: np.ndarray) -> np.ndarray:
        """Return the landmarks on a neutral shape [k 3]: carried by the skin, but for the irises' own modes."""
        identity = np.tensordot(self.identity, shape - self.mean, 2)
        beyond = shape - np.tensordot(identity, self.identity, 1)
        return self.rows @ beyond + self.points.rest + self.points.identity @ identity


def project(points: Any, rotation: Any, translation: Any, focal: Any) -> Any:
    """Project points of the head [... 3], in arrays of NumPy or JAX, to pixels from the image's centre."""
    seen = points @ (FLIP[:, None] * rotation).T + translation
    return focal * seen[..., :2] / seen[..., 2:]


def prior_residuals(coefficients: Any, mu: Any, vector: Any, zoom: Any, roots: Sequence[Any]) -> list[Any]:
    """Return the residuals of coefficients about mu, of their bounds, rotation and zoom, in arrays of NumPy or JAX.

    The rotation is its quaternion's vector part, zoom the log focal scale; roots are those of each part's precision.
    """
    deviations = (coefficients - mu, coefficients - coefficients.clip(0.0, 1.0), vector, zoom)
    return [root * deviation for root, deviation in zip(roots, deviations)]


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion of a rotation matrix, the real part first and not negative."""
    return Rotation.from_matrix(rotation).as_quat(scalar_first=True, canonical=True)


class Reference:
    """Energy, derivatives, step and minimum of one photo.

    Args:
        model: Modes and priors.
        photo: One photo.
        start: Where the fit starts; by default at the detected expression, and a pose some degrees and per cent off.
        scale: Scale of the image residual [k]; by default that of the start.
        rows: Positions of the landmarks if they are not the layout's: a contour, frozen where it slid to.
    """

    def __init__(
        self, model: Model, photo: Photo, *,
        start: State | None = None, scale: np.ndarray | None = None, rows: sp.csr_array | None = None,
    ):  # fmt: skip
        self.model, self.photo = model, photo
        self.rows = model.rows if rows is None else rows
        self.rows3 = sp.csr_array(sp.kron(self.rows, sp.eye_array(3)))
        self.point_modes = np.stack([self.rows @ mode for mode in model.modes], axis=2)
        self.shape_points = self.rows @ photo.shape
        self.weights = photo.weights * model.weights
        self.landmarks = np.where(self.weights[:, None] > 0.0, photo.landmarks, 0.0)
        extra = len(model.modes) - model.expressions
        self.mu = np.r_[np.zeros(model.expressions) if model.paper else photo.scores, np.zeros(extra)]
        self.centre = np.array(IMAGE_SIZE[::-1]) / 2.0
        self.focal = float(max(IMAGE_SIZE)) if photo.focal_px is None else photo.focal_px
        config = model.config
        zoom = config.omega_r * (config.lambda_f if photo.focal_px is None else config.lambda_f_known)
        self.roots = (*model.roots, np.sqrt(zoom))
        detected = State(self.mu, photo.start_rotation, photo.start_translation, 0.0, np.zeros_like(model.mean))
        self.start = detected if start is None else start
        self.scale = self.scale_at(self.start) if scale is None else scale

    def units(self) -> np.ndarray:
        """Return one over the root of the curvature at the start, for each of all unknowns."""
        return 1.0 / np.sqrt(self.normal_equations(self.start)[0].diagonal())

    def scale_at(self, start: State) -> np.ndarray:
        """Return ``(100 / W_eye) sqrt(w)`` [k], W_eye corrected for the start pose's foreshortening."""
        left, right = self.model.points.eye_corners
        seen = self.landmarks
        if not (self.weights[left] > 0.0 and self.weights[right] > 0.0):
            seen = self.project(self.shape_points, start)
        cosine = max(np.hypot(start.rotation[0, 0], start.rotation[1, 0]), _FRONTAL_COSINE)
        per_px = 100.0 * cosine / np.linalg.norm(seen[left] - seen[right])
        return np.sqrt((per_px if self.model.paper else per_px**2) * self.weights)

    def scale_of(self, energy: float, state: State) -> np.ndarray:
        """Return the scale that gives a state an energy, for a fit whose start pose, and so W_eye, is not known."""
        errors = self.project(self.points(state), state) - self.landmarks
        rest = self.energy(state) - np.sum(self.image_residual(state) ** 2)
        return np.sqrt((energy - rest) / np.sum(self.weights[:, None] * errors**2) * self.weights)

    def points(self, state: State) -> np.ndarray:
        """Return the landmarks on the head [k 3]."""
        return self.shape_points + self.rows @ state.field + self.point_modes @ state.coefficients

    def project(self, points: np.ndarray, state: State) -> np.ndarray:
        """Project points of the head [... 3] to pixels [... 2]."""
        focal = self.focal * np.exp(state.log_focal_scale)
        return project(points, state.rotation, state.translation, focal) + self.centre

    def image_residual(self, state: State, which: Any = slice(None), points: np.ndarray | None = None) -> np.ndarray:
        """Return the weighted reprojection errors [k 2] of all landmarks or of some, at their points or at others."""
        points = self.points(state)[which] if points is None else points
        return self.scale[which, None] * (self.project(points, state) - self.landmarks[which])

    def prior_residuals(self, state: State) -> np.ndarray:
        """Return the residuals of coefficients, bounds, rotation and zoom."""
        vector = quaternion_of(state.rotation)[1:]
        parts = prior_residuals(state.coefficients, self.mu, vector, state.log_focal_scale, self.roots)
        return np.concatenate([np.ravel(part) for part in parts])

    def photo_residuals(self, state: State) -> np.ndarray:
        """Return the residuals of image and priors, which are not linear."""
        return np.r_[self.image_residual(state).ravel(), self.prior_residuals(state)]

    def residuals(self, state: State, *, change: np.ndarray | None = None) -> np.ndarray:
        """Return all residuals, whose squares sum to the energy: image, coefficients, bounds, rotation, zoom, L d, d.

        A lagged term sees the change of the coefficients by the step that led to the state; at its start there is none.
        """
        change = np.zeros_like(self.mu) if change is None else change
        field = self.model.constant_rows @ np.r_[state.field.ravel(), change, np.zeros(7)]
        return np.r_[self.photo_residuals(state), field]

    def energy(self, state: State, *, change: np.ndarray | None = None) -> float:
        """Return E of Eq. 1 to 3."""
        return float(np.sum(self.residuals(state, change=change) ** 2))

    def image_jacobians(
        self, state: State, which: Any = slice(None), points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Differentiate :meth:`image_residual` by the landmarks' points [k 2 3] and by the other unknowns [k 2 m]."""
        turned = (self.points(state)[which] if points is None else points) @ state.rotation.T
        seen = turned * FLIP + state.translation
        gain = self.scale[which] * self.focal * np.exp(state.log_focal_scale) / seen[..., 2]
        by_seen = np.zeros((*turned.shape[:-1], 2, 3))
        by_seen[..., 0, 0] = by_seen[..., 1, 1] = gain
        by_seen[..., 2] = -gain[..., None] * seen[..., :2] / seen[..., 2:]
        by_turned = by_seen * FLIP
        by_point = by_turned @ state.rotation
        # An increment w on the left moves R p by w x R p; its product with a row is that of w with R p x row.
        by_turn = np.cross(turned[..., None, :], by_turned)
        by_zoom = gain[..., None, None] * seen[..., :2, None]
        return by_point, np.concatenate([by_point @ self.point_modes[which], by_turn, by_seen, by_zoom], axis=-1)

    def prior_jacobian(self, state: State) -> np.ndarray:
        """Differentiate :meth:`prior_residuals` by the other unknowns [2c + 4, m]."""
        precision, bound, rotation, zoom = self.roots
        outside = (state.coefficients < 0.0) | (state.coefficients > 1.0)
        w, *vector = quaternion_of(state.rotation)
        by_turn = 0.5 * (w * np.eye(3) + np.cross(np.eye(3), vector).T)
        by_coefficients = np.concatenate([np.diag(precision), np.diag(bound * outside)])
        by_pose = block_diag(rotation * by_turn, np.zeros((0, 3)), zoom)
        return np.asarray(block_diag(by_coefficients, by_pose))

    def photo_jacobian(self, state: State) -> sp.csr_array:
        """Differentiate :meth:`photo_residuals` by all unknowns, the field first."""
        by_point, by_other = self.image_jacobians(state)
        places = np.arange(len(by_point) + 1)
        by_field = sp.bsr_array((by_point, places[:-1], places)).tocsr() @ self.rows3
        by_other, of_priors = (sp.csr_array(part) for part in (np.concatenate(by_other), self.prior_jacobian(state)))
        return sp.csr_array(sp.block_array([[by_field, by_other], [None, of_priors]]))

    def jacobian(self, state: State) -> sp.csr_array:
        """Differentiate :meth:`residuals` by all unknowns, the field first [r 3v + m]."""
        return sp.csr_array(sp.vstack([self.photo_jacobian(state), self.model.constant_rows]))

    def normal_equations(self, state: State, damping: float = 0.0) -> tuple[sp.csc_array, np.ndarray]:
        """Return ``(J'J + damping, J'r)``, the field first.

        Damping mu adds ``mu A`` to the field's block, and to the others' mu times the diagonal of what is left of
        their block when the field has been eliminated.
        """
        jacobian, split = self.photo_jacobian(state), state.field.size
        system = sp.csc_array(self.model.constant_square + jacobian.T @ jacobian)
        if damping > 0.0:
            block = sp.csc_array(system[:split, :split] + damping * self.model.field3)
            coupling = system[:split, split:].toarray()
            reduced = system[split:, split:].toarray() - coupling.T @ factorised(block).solve(coupling)
            weighted = sp.diags_array(damping * np.diag(reduced))
            system = sp.csc_array(system + sp.block_diag([damping * self.model.field3, weighted]))
        right = jacobian.T @ self.photo_residuals(state)
        return system, right + self.model.constant_square @ np.r_[state.field.ravel(), np.zeros(len(right) - split)]

    def step(self, state: State, damping: float = 0.0) -> np.ndarray:
        """Return the increment of one Gauss-Newton step of all 3v + m unknowns at once."""
        system, right = self.normal_equations(state, damping)
        return -factorised(system).solve(right)

    def run(self, state: State, steps: int, *, tolerance: float = 0.0) -> tuple[State, list[float]]:
        """Take steps that may not raise the energy: a rejected one damps the next, by 1/100 and then ten times more.

        With a lagged term there is no one energy to fall, and every step is taken. A step that lowers the energy by no
        more than the tolerance, relative, is the last. Returned are the state, and the energies before and after steps.
        """
        energies, damping = [self.energy(state)], 0.0
        for _ in range(steps):
            proposed = state.moved(self.step(state, damping))
            energy = self.energy(proposed, change=proposed.coefficients - state.coefficients)
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
        """Return the head [v 3] with identity, expression and correction, at the solver's own size."""
        return self.photo.shape + np.tensordot(state.coefficients, self.model.modes, 1) + state.field

    def gauge(self, state: State) -> float:
        """Return the scale of a fit of identity: the landmarks' size on P over that on the fitted neutral shape."""
        if not self.model.config.fit_identity:
            return 1.0
        first = self.model.expressions
        grown = np.tensordot(state.coefficients[first:], self.model.modes[first:], 1) + state.field
        given, fitted = (self.model.landmarks_on(self.photo.shape + moved) for moved in (0.0, grown))
        return float(np.sqrt(np.var(given, axis=0).sum() / np.var(fitted, axis=0).sum()))


def frozen_contour(
    reference: Reference, corners: np.ndarray, weights: np.ndarray, state: State
) -> tuple[sp.csr_array, float]:
    """Return the landmarks' rows [k v] with the contour frozen where it slid to, seen in a state.

    Candidates are means of three vertices with weights, j on each of l lines across the contour [l j 3]. The silhouette
    of each line is the candidate seen most nearly edge-on, or an end where the line is seen from one side only; a
    landmark lies at the nearest point, in the image, of the polyline through these. The second value is the margin of
    the choice on the least decided line (squared cosines).
    """
    model, lines = reference.model, np.arange(len(corners))
    contour, candidates = model.points.contour, np.einsum("ljn,ljnx->ljx", weights, reference.photo.shape[corners])
    across = np.pad(candidates, ((1, 1), (0, 0), (0, 0)), mode="wrap" if contour.closed else "edge")
    along = np.pad(candidates, ((0, 0), (1, 1), (0, 0)), mode="edge")
    normals = np.cross(across[2:] - across[:-2], along[:, 2:] - along[:, :-2])
    length = np.linalg.norm(normals, axis=2)
    sight = candidates + state.rotation.T @ (FLIP * state.translation)
    cosine = np.sum(normals * sight, axis=2) / np.maximum(length, 1e-30) / np.linalg.norm(sight, axis=2)
    cosine *= np.sign(np.sum(normals * (candidates - candidates.mean(axis=(0, 1)))))  # of the outward normal
    choice, decided = zip(*(_silhouette(*line) for line in zip(cosine, length > 0.0)))

    corners, weights = corners[lines, choice], weights[lines, choice]
    outline = reference.project(np.einsum("ln,lnx->lx", weights, reference.vertices(state)[corners]), state)
    side = np.roll(outline, -1, axis=0) - outline
    toward = reference.landmarks[contour.landmarks][:, None] - outline
    share = np.clip(np.sum(toward * side, axis=2) / np.sum(side**2, axis=1), 0.0, 1.0)
    away = np.linalg.norm(toward - share[..., None] * side, axis=2)
    first = np.argmin(away if contour.closed else away[:, :-1], axis=1)
    share, second = share[np.arange(len(first)), first, None], (first + 1) % len(lines)
    weights = np.hstack([(1.0 - share) * weights[first], share * weights[second]])
    rows = sp.lil_array(model.rows)
    rows[contour.landmarks] = interpolation_matrix(
        np.hstack([corners[first], corners[second]]), weights, len(model.mean)
    )
    return sp.csr_array(rows), float(min(decided))


def _silhouette(cosine: np.ndarray, real: np.ndarray) -> tuple[int, float]:
    """Return the candidate of one line, and the least change of a squared cosine that would make it another.

    The cosines are those between outward normals and the directions they are seen in; the line ends where none is real.
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
