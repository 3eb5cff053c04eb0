"""The eliminated step against the full-size sparse one: a referee in NumPy and SciPy, float64, that shares no code."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitConfig, Unknowns, fit, make_fitter
from digitaltwin.fitting.elimination import field_stiffness
from digitaltwin.geometry.laplacian import cotangent_stiffness, lumped_mass

SIZE = (480, 640)
FLIP = np.array([1.0, -1.0, -1.0])
CONFIG = FitConfig()


class Referee:
    """Energy, derivatives and step of one photo, with the field as 3v plain unknowns.

    The state is (u [c], rotation, t [3], s, d [v 3]); increments are (u, rotation vector on the left, t, s, d).
    """

    def __init__(self, head, config, landmarks, scores):
        self.mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
        self.config, self.landmarks = config, np.asarray(landmarks, np.float64)
        expressions, identity = np.asarray(head.expressions, np.float64), np.asarray(head.identity, np.float64)
        self.modes = np.concatenate([expressions, identity]) if config.fit_identity else expressions
        corners, weights = faces[np.asarray(head.landmarks.faces)], np.asarray(head.landmarks.barycentric, np.float64)
        rows = np.repeat(np.arange(len(corners)), 3)
        self.rows = sp.csr_array((weights.ravel(), (rows, corners.ravel())), shape=(len(corners), len(self.mean)))
        self.landmark_modes = np.stack([self.rows @ mode for mode in self.modes], axis=2)
        count, extra = len(expressions), len(self.modes) - len(expressions)
        deviation = np.asarray(head.identity_deviation, np.float64)[:extra]
        stiff = config.omega_r / config.expression_deviation**2
        self.precision = np.r_[np.full(count, stiff), config.omega_i / deviation**2]
        self.bound = np.r_[np.full(count, stiff), np.zeros(extra)]
        self.mu = np.r_[np.asarray(scores, np.float64), np.zeros(extra)]
        mass, stiffness = lumped_mass(self.mean, faces), cotangent_stiffness(self.mean, faces)
        smoothness = stiffness @ sp.diags_array(1.0 / mass) @ stiffness
        self.field = config.correction_weight * (sp.diags_array(mass) + config.correction_length_mm**4 * smoothness)
        self.weights = np.where(np.arange(104) < 17, config.contour_weight, 1.0)
        self.focal, self.centre = max(SIZE), np.array(SIZE[::-1]) / 2.0

    def scale(self, rotation):
        eyes = np.linalg.norm(self.landmarks[27] - self.landmarks[47]) / np.hypot(rotation[0, 0], rotation[1, 0])
        return 100.0 / eyes * np.sqrt(self.weights)

    def pose(self, u):
        """OpenCV's EPnP."""
        points, image = self.points(u, 0.0 * self.mean), (self.landmarks - self.centre) / self.focal
        _, vector, translation = cv2.solvePnP(points, image, np.eye(3), None, flags=cv2.SOLVEPNP_EPNP)
        return FLIP[:, None] * cv2.Rodrigues(vector)[0], translation.ravel()

    def points(self, u, d):
        return self.rows @ (self.mean + d) + self.landmark_modes @ u

    def residual(self, scale, points, rotation, t, s):
        seen = (points @ rotation.T) * FLIP + t
        image = self.focal * np.exp(s) * seen[:, :2] / seen[:, 2:] + self.centre
        return scale[:, None] * (image - self.landmarks)

    def hinge(self, u):
        return np.where(self.bound > 0, np.maximum(u - 1.0, 0.0) + np.minimum(u, 0.0), 0.0)

    def energy(self, scale, u, rotation, t, s, d):
        x, y, z, _ = Rotation.from_matrix(rotation).as_quat()
        weight = self.config.omega_r
        return (
            np.sum(self.residual(scale, self.points(u, d), rotation, t, s) ** 2)
            + np.sum(d * (self.field @ d))
            + self.precision @ (u - self.mu) ** 2
            + self.bound @ self.hinge(u) ** 2
            + weight * (self.config.lambda_q * (x * x + y * y + z * z) + self.config.lambda_f * s**2)
        )

    def step(self, scale, u, rotation, t, s, d):
        """One plain Gauss-Newton step of all 3v + c + 7 unknowns at once."""
        points, count, k = self.points(u, d), len(u), len(self.weights)
        residual = self.residual(scale, points, rotation, t, s)
        turned = points @ rotation.T
        seen = turned * FLIP + t
        gain = scale * self.focal * np.exp(s) / seen[:, 2]
        by_seen = np.zeros((k, 2, 3))
        by_seen[:, 0, 0] = by_seen[:, 1, 1] = gain
        by_seen[:, :, 2] = -gain[:, None] * seen[:, :2] / seen[:, 2:]
        by_point = (by_seen * FLIP) @ rotation
        # An increment w on the left moves R p by w x R p, the columns of which are e_a x R p.
        crossed = np.stack([np.cross(axis, turned) for axis in np.eye(3)], axis=2)
        by_turn = (by_seen * FLIP) @ crossed
        by_zoom = gain[:, None, None] * seen[:, :2, None]
        jacobian = np.concatenate([by_point @ self.landmark_modes, by_turn, by_seen, by_zoom], axis=2).reshape(
            2 * k, -1
        )
        wide = np.kron(np.eye(k), np.ones((2, 3))).astype(bool)
        block = np.zeros((2 * k, 3 * k))
        block[wide] = by_point.reshape(2 * k, 3).ravel()
        field_jacobian = sp.csc_array(sp.csr_array(block) @ sp.kron(self.rows, sp.eye_array(3)))

        w, vector = (lambda q: (q[3], q[:3]) if q[3] >= 0 else (-q[3], -q[:3]))(
            Rotation.from_matrix(rotation).as_quat()
        )
        by_rotation = 0.5 * np.stack([w * axis + np.cross(axis, vector) for axis in np.eye(3)], axis=1)
        stiff_q = self.config.omega_r * self.config.lambda_q
        stiff_f = self.config.omega_r * self.config.lambda_f
        active = np.where(self.hinge(u) != 0.0, self.bound, 0.0)
        hessian = np.diag(np.r_[self.precision + active, np.zeros(6), stiff_f])
        hessian[count : count + 3, count : count + 3] = stiff_q * by_rotation.T @ by_rotation
        gradient = np.r_[
            self.precision * (u - self.mu) + active * self.hinge(u),
            stiff_q * by_rotation.T @ vector, np.zeros(3), stiff_f * s,
        ]  # fmt: skip

        big = sp.kron(self.field, sp.eye_array(3)) + field_jacobian.T @ field_jacobian
        system = sp.bmat(
            [[big, field_jacobian.T @ jacobian], [(field_jacobian.T @ jacobian).T, jacobian.T @ jacobian + hessian]]
        ).tocsc()
        right = np.r_[
            field_jacobian.T @ residual.ravel() + (self.field @ d).ravel(), jacobian.T @ residual.ravel() + gradient
        ]
        change = -spl.splu(system).solve(right)
        d = d + change[: d.size].reshape(-1, 3)
        small = change[d.size :]
        turn = Rotation.from_rotvec(small[count : count + 3]).as_matrix()
        return u + small[:count], turn @ rotation, t + small[count + 3 : count + 6], s + small[-1], d

    def vertices(self, u, d):
        return self.mean + np.tensordot(u, self.modes, 1) + d

    def gauge(self, u, d):
        """What the fit scales its result by: the landmarks' spread on the mean over that on the fitted neutral."""
        if not self.config.fit_identity:
            return 1.0
        still = np.r_[np.zeros(52), u[52:]]
        given, fitted = self.rows @ self.mean, self.points(still, d)
        return np.sqrt(np.var(given, axis=0).sum() / np.var(fitted, axis=0).sum())


def make_photo(head, seed):
    """Landmarks of a random head with 1 % noise, and the scores a network might give."""
    rng = np.random.default_rng(seed)
    beta = np.clip(rng.normal(size=52) * 0.3, 0, 1)
    identity = rng.normal(size=len(head.identity)) * np.asarray(head.identity_deviation)
    vertices = np.asarray(head.mean) + np.tensordot(beta, np.asarray(head.expressions), 1)
    vertices = vertices + np.tensordot(0.5 * identity, np.asarray(head.identity), 1)
    corners = np.asarray(head.faces)[np.asarray(head.landmarks.faces)]
    points = np.einsum("kj,kjx->kx", np.asarray(head.landmarks.barycentric), vertices[corners])
    rotation = Rotation.from_rotvec(rng.normal(size=3) * 0.2).as_matrix()
    seen = (points @ rotation.T) * FLIP + [15.0, -10.0, 550.0]
    landmarks = 900.0 * seen[:, :2] / seen[:, 2:] + [320.0, 240.0]
    eyes = np.linalg.norm(landmarks[27] - landmarks[47])
    return landmarks + 0.01 * eyes * rng.normal(size=(104, 2)), np.clip(beta + 0.1 * rng.normal(size=52), 0, 1)


def state_of(result):
    start = result.unknowns
    gauge = np.linalg.norm(result.translation) / np.linalg.norm(start.translation)
    return (
        np.asarray(start.coefficients, np.float64), np.asarray(result.rotation, np.float64),
        np.asarray(start.translation, np.float64), float(start.log_focal_scale),
        np.asarray(result.correction, np.float64) / gauge,
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance_mm"), [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_every_step_is_the_full_size_sparse_step(head, dtype, tolerance_mm):
    with jax.enable_x64(dtype == np.float64):
        fitter = make_fitter(head, FitConfig(iterations=1), dtype=dtype)
        for seed in range(2):
            landmarks, scores = make_photo(head, seed)
            referee = Referee(head, CONFIG, landmarks, scores)
            coefficients = np.r_[scores, np.zeros(len(head.identity))]
            rotation, translation = referee.pose(coefficients)
            still = np.zeros((len(head.mean), 3))
            state = (coefficients, rotation, translation, 0.0, still)
            quaternion = Rotation.from_matrix(rotation).as_quat(scalar_first=True, canonical=True)
            start = (coefficients, quaternion, translation, 0.0, np.zeros((104, 3)))
            start = Unknowns(*(jnp.asarray(part, dtype) for part in start))
            inputs = (jnp.asarray(part, dtype) for part in (head.mean, landmarks))
            arguments = (fitter, *inputs, SIZE)
            for _ in range(5):
                result = fit(*arguments, scores=jnp.asarray(scores, dtype), init=start)
                scale = referee.scale(state[1])
                expected = referee.step(scale, *state)
                precision = 1e-9 if dtype == np.float64 else 1e-3
                assert float(result.energies[0]) == pytest.approx(referee.energy(scale, *state), rel=precision)
                assert float(result.energies[1]) == pytest.approx(referee.energy(scale, *expected), rel=precision)
                gauge = referee.gauge(expected[0], expected[4])
                vertices = gauge * referee.vertices(expected[0], expected[4])
                np.testing.assert_allclose(result.vertices, vertices, atol=tolerance_mm)
                np.testing.assert_allclose(result.correction, gauge * expected[4], atol=tolerance_mm)
                np.testing.assert_allclose(result.translation, gauge * expected[2], atol=10.0 * tolerance_mm)
                np.testing.assert_allclose(result.rotation, expected[1], atol=1e-2 * tolerance_mm)
                start, state = result.unknowns, state_of(result)


def test_the_minimum_is_scipys(head):
    """Converged, on the exact reduced problem: the optimal field lies in the span of ``A^-1 Pi'``."""
    landmarks, scores = make_photo(head, 3)
    config = FitConfig(iterations=40, fit_identity=False)
    referee = Referee(head, config, landmarks, scores)
    with jax.enable_x64(True):
        result = fit(
            make_fitter(head, config, dtype=np.float64), jnp.asarray(head.mean, jnp.float64), jnp.asarray(landmarks),
            SIZE, scores=jnp.asarray(scores),
        )  # fmt: skip
    u, rotation, t, s, d = state_of(result)
    # Its own scale comes from the start pose; recover it from the energy, which is affine in the squared scale.
    response = spl.splu(sp.csc_array(referee.field)).solve(referee.rows.T.toarray())
    values, basis = np.linalg.eigh(referee.rows @ response)  # singular: some landmarks lie between others
    kept = values > 1e-9 * values[-1]
    basis = basis[:, kept] / np.sqrt(values[kept])
    shape = response @ basis  # d = shape z, and tr(d'Ad) = |z|^2
    root = referee.rows @ shape
    without = referee.energy(np.zeros(104), u, rotation, t, s, d)
    with_unit = referee.energy(np.sqrt(referee.weights), u, rotation, t, s, d)
    scale = np.sqrt((float(result.energies[-1]) - without) / (with_unit - without) * referee.weights)

    def unpack(x):
        turn = Rotation.from_rotvec(x[52:55]).as_matrix()
        return x[:52], turn @ rotation, t + x[55:58], s + x[58], x[59:].reshape(-1, 3)

    def residuals(x):
        v, turned, moved, zoom, z = unpack(x)
        points = referee.rows @ referee.mean + referee.landmark_modes @ v + root @ z
        quaternion = Rotation.from_matrix(turned).as_quat()[:3]
        return np.r_[
            referee.residual(scale, points, turned, moved, zoom).ravel(), z.ravel(),
            np.sqrt(referee.precision) * (v - referee.mu), np.sqrt(referee.bound) * referee.hinge(v),
            np.sqrt(config.omega_r * config.lambda_q) * quaternion, np.sqrt(config.omega_r * config.lambda_f) * zoom,
        ]  # fmt: skip

    start = np.r_[referee.mu, np.zeros(7), np.zeros(3 * root.shape[1])]
    best = scipy.optimize.least_squares(residuals, start, x_scale="jac", xtol=1e-12, ftol=1e-13, gtol=1e-10)
    found = unpack(best.x)
    assert float(result.energies[-1]) == pytest.approx(2.0 * best.cost, rel=1e-8)
    np.testing.assert_allclose(u, found[0], atol=1e-4)
    np.testing.assert_allclose(d, shape @ found[4], atol=1e-3)

    # And there no direction of the full space, however rough, goes downhill.
    rng = np.random.default_rng(0)
    for _ in range(5):
        du, dt, ds, dd = rng.normal(size=52) * 0.1, rng.normal(size=3), rng.normal() * 0.01, rng.normal(size=d.shape)
        turn = rng.normal(size=3) * 0.01

        def along(h, du=du, turn=turn, dt=dt, ds=ds, dd=dd):
            moved = Rotation.from_rotvec(h * turn).as_matrix() @ rotation
            return referee.energy(scale, u + h * du, moved, t + h * dt, s + h * ds, d + h * dd)

        slope, curvature = (along(1e-3) - along(-1e-3)) / 2e-3, (along(1e-3) - 2 * along(0) + along(-1e-3)) / 1e-6
        assert abs(slope) < 1e-4 * curvature


def test_the_stiffness_is_that_of_equation_2(head):
    vertices, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    mass, stiffness = lumped_mass(vertices, faces), cotangent_stiffness(vertices, faces)
    expected = 2.4e-4 * (sp.diags_array(mass) + 12.0**4 * (stiffness @ sp.diags_array(1.0 / mass) @ stiffness))
    assert abs(field_stiffness(vertices, faces, 2.4e-4, 12.0) - expected).max() < 1e-12 * abs(expected).max()
