"""The polar decomposition against SciPy's, its derivative against finite differences, and where it is singular."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from digitaltwin.geometry._polar import polar_quaternion, stretch
from digitaltwin.geometry._rotations import matrix_from_quaternion


@jax.jit
def decompose(matrix):
    quaternion = polar_quaternion(matrix)
    return matrix_from_quaternion(quaternion), stretch(quaternion, matrix)


def random_matrix(seed, reflects=False):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(3, 3))
    return matrix * (-1 if (np.linalg.det(matrix) < 0) != reflects else 1)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_scipy_on_proper_matrices(seed):
    with jax.enable_x64(True):
        matrix = random_matrix(seed)
        rotation, symmetric = decompose(jnp.asarray(matrix))
        expected, expected_stretch = scipy.linalg.polar(matrix)
        np.testing.assert_allclose(rotation, expected, atol=1e-12)
        np.testing.assert_allclose(symmetric, expected_stretch, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), reflects=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_product_is_the_matrix_in_float32(seed, reflects):
    matrix = random_matrix(seed, reflects)
    rotation, symmetric = decompose(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=2e-6)
    assert np.linalg.det(np.asarray(rotation, np.float64)) > 0
    gap = np.linalg.svd(matrix)[1][1:] @ [1, -1 if reflects else 1]
    np.testing.assert_allclose(np.asarray(rotation @ symmetric), matrix, atol=2e-6 + 2e-6 / gap)


@pytest.mark.parametrize("seed", range(5))
def test_a_reflection_keeps_a_proper_rotation_and_one_negative_stretch(seed):
    with jax.enable_x64(True):
        matrix = random_matrix(seed, reflects=True)
        rotation, symmetric = decompose(jnp.asarray(matrix))
        u, singular, vt = np.linalg.svd(matrix)
        np.testing.assert_allclose(rotation, u @ np.diag([1, 1, -1]) @ vt, atol=1e-12)
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(symmetric)), np.sort(singular * [1, 1, -1]), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, np.pi - 1e-9, np.pi])
@pytest.mark.parametrize("stretches", [(1, 1, 1), (2, 2, 0.5), (1, 1, -0.3), (3, 0.7, 0.7)])
def test_turning_a_stretched_shape_gives_that_turn(angle, stretches):
    with jax.enable_x64(True):
        turn = Rotation.from_rotvec(angle * np.array([0.6, 0.0, 0.8])).as_matrix()
        rotation, symmetric = decompose(jnp.asarray(turn @ np.diag(stretches)))
        np.testing.assert_allclose(rotation, turn, atol=1e-9)
        np.testing.assert_allclose(symmetric, np.diag(stretches), atol=1e-9)


CASES = {
    "identity": np.eye(3),
    "repeated singular values": np.diag([2.0, 2.0, 0.5]),
    "general": random_matrix(3),
    "reflection": random_matrix(4, reflects=True),
    "half turn": np.diag([-1.0, -1.0, 1.0]) @ np.diag([1.2, 1.0, 0.9]),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_finite_differences(name):
    with jax.enable_x64(True):
        matrix, rng = CASES[name], np.random.default_rng(0)
        weights = rng.normal(size=(2, 3, 3))

        def value(m):
            rotation, symmetric = decompose(m)
            return jnp.sum(weights[0] * rotation + weights[1] * symmetric)

        gradient = jax.grad(value)(jnp.asarray(matrix))
        for _ in range(3):
            direction, step = rng.normal(size=(3, 3)), 1e-5
            ahead, behind = (value(jnp.asarray(matrix + s * direction)) for s in (step, -step))
            np.testing.assert_allclose(
                np.sum(gradient * direction), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize("least", [-1.0, -0.99999, -0.9999, -0.999])
def test_near_mirror_images_the_product_stays_the_matrix(least):
    turns = Rotation.random(400, rng=np.random.default_rng(0)).as_matrix()
    matrices = jnp.asarray(turns[:200] @ np.diag([1, 1, least]) @ turns[200:], jnp.float32)
    rotation, symmetric = jax.vmap(decompose)(matrices)
    np.testing.assert_allclose(np.asarray(rotation) @ np.asarray(symmetric), matrices, atol=2e-4)


def test_tiny_and_huge_matrices_have_their_rotation():
    matrix = random_matrix(3)
    for scale in (1e-30, 1e-18, 1e18, 1e30):
        found = polar_quaternion(jnp.asarray(scale * matrix, jnp.float32))
        np.testing.assert_allclose(found, polar_quaternion(jnp.asarray(matrix, jnp.float32)), atol=1e-6)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([1.0, 0, 0]), np.diag([1.0, 1, -1]), -np.eye(3)])
def test_where_the_rotation_is_undetermined_all_stays_finite(matrix):
    matrix = jnp.asarray(matrix, jnp.float32)
    rotation, symmetric = decompose(matrix)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(rotation @ symmetric, matrix, atol=1e-5)
    assert np.isfinite(jax.jacobian(polar_quaternion)(matrix)).all()
    assert np.isfinite(jax.jacfwd(polar_quaternion)(matrix)).all()
