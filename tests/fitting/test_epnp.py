import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import epnp


@jax.jit
def weighted(points, image, weights):
    return epnp(points, image, weights=weights)


def solve(points, image, *, weights=None):
    return weighted(points, image, jnp.ones(len(points)) if weights is None else weights)


FLIP = np.diag([1.0, -1.0, -1.0])


def scene(seed, count, flatness, depth, noise=0.0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3)) * [45.0, 55.0, 40.0 * flatness]
    rotation = FLIP @ Rotation.from_rotvec(rng.normal(size=3) * 0.4).as_matrix()
    translation = np.array([20.0, -10.0, depth])
    seen = points @ rotation.T + translation
    return points, seen[:, :2] / seen[:, 2:] + noise * rng.normal(size=(count, 2)), rotation, translation


def angle_deg(found, truth):
    return np.rad2deg(Rotation.from_matrix(np.asarray(found, np.float64) @ truth.T).magnitude())


def error_of(points, image, rotation, translation):
    seen = points @ np.asarray(rotation, np.float64).T + np.asarray(translation, np.float64)
    return np.sqrt(np.mean(np.sum((seen[:, :2] / seen[:, 2:] - image) ** 2, axis=1)))


@pytest.mark.parametrize("depth", [250.0, 600.0, 2000.0])
@pytest.mark.parametrize("flatness", [1.0, 0.05, 0.0])
@pytest.mark.parametrize("count", [6, 104])
def test_the_truth_is_recovered_without_noise(count, flatness, depth):
    for seed in range(4):
        points, image, rotation, translation = scene(seed, count, flatness, depth)
        pose = solve(jnp.float32(points), jnp.float32(image))
        assert angle_deg(pose.rotation, rotation) < 0.05
        np.testing.assert_allclose(pose.translation, translation, atol=2e-4 * depth)
        assert pose.error < 1e-5


@pytest.mark.parametrize("depth", [250.0, 600.0])
def test_no_worse_than_opencv_on_noisy_points(depth):
    ours, theirs = [], []
    for seed in range(12):
        points, image, rotation, _ = scene(seed, 104, 1.0, depth, noise=0.002)
        pose = solve(jnp.float32(points), jnp.float32(image))
        _, vector, shift = cv2.solvePnP(points, image, np.eye(3), None, flags=cv2.SOLVEPNP_EPNP)
        matrix, _ = cv2.Rodrigues(vector)
        assert angle_deg(pose.rotation, matrix) < 1.0
        ours.append(error_of(points, image, pose.rotation, pose.translation))
        theirs.append(error_of(points, image, matrix, shift.ravel()))
    assert np.mean(ours) < 1.02 * np.mean(theirs)


def test_the_error_it_reports_is_the_images():
    points, image, _, _ = scene(5, 104, 1.0, 400.0, noise=0.003)
    pose = solve(jnp.float32(points), jnp.float32(image))
    assert float(pose.error) == pytest.approx(error_of(points, image, pose.rotation, pose.translation), rel=1e-3)


def test_points_without_weight_have_no_say():
    points, image, rotation, _ = scene(6, 104, 1.0, 400.0)
    weights = np.ones(104)
    weights[:8] = 0.0
    image[:8] += 5.0
    pose = solve(jnp.float32(points), jnp.float32(image), weights=jnp.float32(weights))
    assert angle_deg(pose.rotation, rotation) < 0.05


def test_a_batch_is_its_items():
    scenes = [scene(seed, 104, 1.0, 500.0, noise=0.002) for seed in range(3)]
    points, images = (jnp.float32(np.stack([s[i] for s in scenes])) for i in (0, 1))
    batch = jax.jit(jax.vmap(epnp))(points, images)
    for i in range(3):
        np.testing.assert_allclose(batch.rotation[i], solve(points[i], images[i]).rotation, atol=1e-4)


def test_points_on_a_line_have_no_pose_and_no_nan():
    points = np.outer(np.linspace(-50, 50, 104), [1.0, 0.5, 0.2])
    seen = points + [0, 0, 500.0]
    pose = solve(jnp.float32(points), jnp.float32(seen[:, :2] / seen[:, 2:]))
    assert not np.isnan(pose.error)
