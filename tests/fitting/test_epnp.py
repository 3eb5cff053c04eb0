import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitStatus, epnp
from digitaltwin.head import landmark_points

FLIP = np.diag([1.0, -1.0, -1.0])
ROOM = 468  # every set is padded to this many points, of weight 0, so that one compilation serves all


@jax.jit
def weighted(points, image, weights):
    return epnp(points, image, weights=weights)


together = jax.jit(jax.vmap(lambda points, image, weights: epnp(points, image, weights=weights)))


def padded(points, image, weights=None):
    missing = ROOM - len(points)
    weights = np.ones(len(points)) if weights is None else weights
    shapes = ((points, ((0, missing), (0, 0))), (image, ((0, missing), (0, 0))), (weights, (0, missing)))
    return tuple(jnp.float32(np.pad(part, width)) for part, width in shapes)


def solve(points, image, weights=None):
    return weighted(*padded(points, image, weights))


def look(points, rng, depth, *, turn=0.0, noise=0.0):
    """Image of points before the camera; noise is relative to the size in the image."""
    angles = [turn, *rng.uniform(-0.3, 0.3, 2)]
    rotation = FLIP @ Rotation.from_euler("yxz", angles).as_matrix()
    translation = np.array([*(0.15 * depth * rng.uniform(-1, 1, 2)), depth])
    seen = points @ rotation.T + translation
    image = seen[:, :2] / seen[:, 2:]
    return image + noise * np.linalg.norm(image.std(axis=0)) * rng.normal(size=image.shape), rotation, translation


def cloud(rng, count, thickness=40.0):
    return rng.normal(size=(count, 3)) * [45.0, 55.0, thickness]


def opencv(points, image):
    _, vector, shift = cv2.solvePnP(points, image, np.eye(3), None, flags=cv2.SOLVEPNP_EPNP)
    return cv2.Rodrigues(vector)[0], shift.ravel()


def angle(found, truth):
    return Rotation.from_matrix(np.asarray(found, np.float64) @ np.asarray(truth).T).magnitude()


def error_of(points, image, rotation, translation):
    seen = points @ np.asarray(rotation, np.float64).T + np.asarray(translation, np.float64)
    return np.sqrt(np.mean(np.sum((seen[:, :2] / seen[:, 2:] - image) ** 2, axis=1)))


@pytest.mark.parametrize("depth", [250.0, 600.0, 2000.0])
@pytest.mark.parametrize("thickness", [40.0, 2.0, 0.0])
@pytest.mark.parametrize("count", [6, 104])
def test_the_truth_is_recovered_without_noise(count, thickness, depth):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        points = cloud(rng, count, thickness) @ Rotation.random(rng=rng).as_matrix().T
        image, rotation, translation = look(points, rng, depth)
        pose = solve(points, image)
        assert pose.status == FitStatus.OK
        assert angle(pose.rotation, rotation) < 2e-4
        np.testing.assert_allclose(pose.translation, translation, atol=1e-5 * depth)
        assert pose.error < 2e-6


def test_the_truth_is_recovered_to_1e_9_in_double_precision():
    with jax.enable_x64(True):
        for seed, thickness in enumerate([40.0, 40.0, 0.0]):
            rng = np.random.default_rng(seed)
            points = cloud(rng, 30, thickness)
            image, rotation, translation = look(points, rng, 500.0)
            pose = jax.jit(epnp)(jnp.asarray(points), jnp.asarray(image))
            assert pose.translation.dtype == jnp.float64
            assert angle(pose.rotation, rotation) < 1e-9
            np.testing.assert_allclose(pose.translation, translation, rtol=1e-9)


SETS = {
    "landmarks": (104, 0.0, 1.0),
    "landmarks turned": (104, 0.9, 1.0),
    "half of them missing": (104, 0.0, 0.5),
    "turned and half missing": (104, -1.1, 0.5),
    "face mesh": (468, 0.3, 1.0),
    "face mesh turned": (468, -0.8, 1.0),
}


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("name", SETS)
def test_it_agrees_with_opencv_on_heads(head, name, noise):
    count, turn, kept = SETS[name]
    face = np.asarray(landmark_points(head, head.mean), np.float64)
    if count > len(face):
        vertices = np.asarray(head.mean, np.float64)
        front = vertices[vertices[:, 2] > np.median(vertices[:, 2])]
        face = front[:: len(front) // count][:count]
    scenes = []
    for seed, depth in enumerate([250.0, 350.0, 600.0, 600.0, 1000.0, 2000.0]):
        rng = np.random.default_rng(seed)
        points = face[rng.permutation(len(face))[: int(kept * len(face))]]
        # People differ; and of a mirror image of itself, OpenCV's axes have no definite sign.
        points = points + 3.0 * rng.normal(size=points.shape)
        image, _, _ = look(points, rng, depth + points[:, 2].mean(), turn=turn, noise=noise)
        scenes.append((points, image))
    poses = together(*map(jnp.stack, zip(*(padded(*scene) for scene in scenes), strict=True)))
    for i, (points, image) in enumerate(scenes):
        rotation, translation = opencv(points, image)
        assert poses.status[i] == FitStatus.OK
        assert angle(poses.rotation[i], rotation) < 1e-4
        assert np.linalg.norm(poses.translation[i] - translation) < 1e-4 * np.linalg.norm(translation)


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_on_planes_it_is_right_where_opencv_is_and_where_it_is_not(noise):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        points = cloud(rng, 40, 0.0) @ Rotation.random(rng=rng).as_matrix().T
        image, _, _ = look(points, rng, [300.0, 800.0][seed % 2], noise=noise)
        pose = solve(points, image)
        ours, theirs = (error_of(points, image, *p) for p in ((pose.rotation, pose.translation), opencv(points, image)))
        assert ours < 1.001 * theirs + 1e-7


def test_the_error_it_reports_is_the_images():
    rng = np.random.default_rng(5)
    points = cloud(rng, 104)
    image, _, _ = look(points, rng, 400.0, noise=0.02)
    pose = solve(points, image)
    assert float(pose.error) == pytest.approx(error_of(points, image, pose.rotation, pose.translation), rel=1e-3)


def test_a_point_of_weight_two_is_two_points_and_one_of_weight_zero_is_none():
    rng = np.random.default_rng(6)
    points = cloud(rng, 50)
    image, _, _ = look(points, rng, 400.0, noise=0.02)
    repeated = solve(np.concatenate([points, points[:10]]), np.concatenate([image, image[:10]]))
    absent = np.full((3, 3), np.nan)
    pose = solve(
        np.concatenate([points, absent]),
        np.concatenate([image, absent[:, :2]]),
        np.concatenate([2.0 * np.ones(10), np.ones(40), np.zeros(3)]),
    )
    np.testing.assert_allclose(pose.rotation, repeated.rotation, atol=2e-6)
    np.testing.assert_allclose(pose.translation, repeated.translation, rtol=2e-5)


def poisoned():
    """A scene for each kind of trouble, and the status it must have."""
    rng = np.random.default_rng(7)
    points = cloud(rng, 104)
    image, _, _ = look(points, rng, 500.0)
    line = np.linspace(-50, 50, 104)[:, None] * [[1.0, 0.5, 0.2]]
    behind = points + [0.0, 0.0, 20.0]
    spoilt, infinite = image.copy(), points.copy()
    spoilt[3, 1], infinite[5, 0] = np.nan, np.inf
    few = (np.arange(104) < 3).astype(float)
    return {
        "a nan in the image": ((points, spoilt), FitStatus.NON_FINITE_INPUT),
        "an infinite point": ((infinite, image), FitStatus.NON_FINITE_INPUT),
        "a nan weight": ((points, image, np.where(few, np.nan, 1.0)), FitStatus.NON_FINITE_INPUT),
        "a negative weight": ((points, image, 1.0 - 2.0 * few), FitStatus.NON_FINITE_INPUT),
        "on a line": ((line, (line[:, :2] + 3.0) / (line[:, 2:] + 500.0)), FitStatus.DEGENERATE),
        "one point": ((0.0 * points, image), FitStatus.DEGENERATE),
        "seen as one": ((points, 0.0 * image + 0.1), FitStatus.DEGENERATE),
        "three points": ((points, image, few), FitStatus.DEGENERATE),
        "no points": ((points, image, 0.0 * few), FitStatus.DEGENERATE),
        "around the camera": ((behind, behind[:, :2] / behind[:, 2:]), FitStatus.BEHIND_CAMERA),
    }


@pytest.mark.parametrize("name", poisoned())
def test_trouble_has_a_status_and_no_nan(name):
    scene, status = poisoned()[name]
    pose = solve(*scene)
    assert pose.status == status
    assert np.isposinf(pose.error)
    np.testing.assert_array_equal(pose.rotation, np.eye(3))
    np.testing.assert_array_equal(pose.translation, 0.0)


def test_trouble_leaves_the_rest_of_a_batch_bit_identical():
    rng = np.random.default_rng(8)
    points = cloud(rng, 104)
    good = [padded(points, look(points, rng, depth, noise=0.01)[0]) for depth in (300.0, 500.0, 900.0)]
    for scene, _ in poisoned().values():
        bad = padded(*scene)
        healthy = together(*map(jnp.stack, zip(*good, strict=True)))
        mixed = together(*map(jnp.stack, zip(good[0], bad, good[2], strict=True)))
        for whole, part in zip(healthy, mixed, strict=True):
            np.testing.assert_array_equal(whole[::2], part[::2])
    for i, scene in enumerate(good):
        alone = weighted(*scene)
        np.testing.assert_allclose(healthy.rotation[i], alone.rotation, atol=1e-5)
        np.testing.assert_allclose(healthy.translation[i], alone.translation, rtol=1e-4)


def test_every_product_is_in_full_precision_and_the_derivative_is_zero():
    rng = np.random.default_rng(9)
    points = cloud(rng, 104)
    scene = padded(points, look(points, rng, 500.0)[0])
    text = str(jax.make_jaxpr(weighted)(*scene))
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 0
    slope = jax.grad(lambda image: jnp.sum(weighted(scene[0], image, scene[2]).translation))(scene[1])
    np.testing.assert_array_equal(slope, 0.0)
