"""The landmark table, checked on the canonical face it was measured on."""

import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.head import markup
from digitaltwin.perception import _task_file as networks
from digitaltwin.perception._landmarks import landmarks_from_mesh, load_landmark_table

# Left-right partners: contour and brows run from right to left, the eyes are two loops of one order.
MIRROR = np.concatenate([
    np.arange(17)[::-1], np.arange(17, 27)[::-1], np.arange(47, 67), np.arange(27, 47),
    np.arange(67, 73), np.arange(73, 82)[::-1], [83, 82],
    [90, 89, 88, 87, 86, 85, 84, 95, 94, 93, 92, 91], [100, 99, 98, 97, 96, 103, 102, 101],
])  # fmt: skip


@pytest.fixture(scope="module")
def canonical(task_file):
    with zipfile.ZipFile(task_file) as task:
        return networks.read_canonical_face(task.read(networks.CANONICAL_FACE))[0]


def test_landmarks_are_between_two_mesh_points():
    points, weights = load_landmark_table()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.min() >= 0
    assert points.min() >= 0
    assert points.max() < markup.MESH_POINT_COUNT


def test_corners_chin_and_tip_are_mesh_points():
    mesh = jnp.arange(478.0)[:, None]
    landmarks = landmarks_from_mesh(mesh)[:, 0]
    expected = {
        markup.LEFT_EYE_OUTER: 263,
        markup.LEFT_EYE_INNER: 362,
        markup.RIGHT_EYE_OUTER: 33,
        markup.RIGHT_EYE_INNER: 133,
        markup.NOSE_TIP: 4,
        markup.MOUTH_RIGHT: 61,
        markup.MOUTH_LEFT: 291,
        0: 234,
        8: 152,
        16: 454,
    }
    for landmark, point in expected.items():
        np.testing.assert_allclose(landmarks[landmark], point, atol=1e-3)


def test_the_layout_is_symmetric(canonical):
    landmarks = np.asarray(landmarks_from_mesh(jnp.asarray(canonical, jnp.float32)))
    assert sorted(MIRROR) == list(range(104))
    np.testing.assert_allclose(landmarks[MIRROR] * [-1, 1, 1], landmarks, atol=0.02)  # cm; the model itself to 0.01
    assert np.all(landmarks[markup.LEFT_EYE, 0] > 0)  # the subject's left


def test_lids_and_jaw_are_evenly_spaced(canonical):
    landmarks = np.asarray(landmarks_from_mesh(jnp.asarray(canonical, jnp.float32)))
    for line in (landmarks[27:38], landmarks[47:58], landmarks[:9], landmarks[8:17]):
        steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
        assert steps.min() > 0.85 * steps.max()  # chords cut the polyline's bends a little


def test_the_nose_tip_is_the_foremost_point(canonical):
    assert canonical[:, 2].argmax() == markup.MESH_NOSE[markup.NOSE_TIP - markup.NOSE[0]]


def test_landmarks_follow_an_affine_map():
    rng = np.random.default_rng(0)
    mesh, matrix, shift = rng.normal(size=(478, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    mapped = landmarks_from_mesh(jnp.asarray(mesh @ matrix + shift, jnp.float32))
    expected = np.asarray(landmarks_from_mesh(jnp.asarray(mesh, jnp.float32))) @ matrix + shift
    np.testing.assert_allclose(mapped, expected, atol=1e-5)
