import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import _rotations as rotations

jitted = {name: jax.jit(getattr(rotations, name)) for name in (
    "quaternion_from_rotation_vector", "rotation_vector_from_quaternion", "multiply", "compose",
    "matrix_from_quaternion", "matrix_from_rotation_vector", "quaternion_from_matrix", "rotate")}  # fmt: skip

components = st.floats(-1.75, 1.75, width=32)
vectors = st.tuples(components, components, components).map(lambda v: np.array(v, np.float32))
laws = settings(max_examples=60, deadline=None)


def reference(vector):
    return Rotation.from_rotvec(np.array(vector, np.float64)).as_matrix()


@laws
@given(vectors)
def test_matrix_agrees_with_scipy(vector):
    np.testing.assert_allclose(jitted["matrix_from_rotation_vector"](vector), reference(vector), atol=1e-6)


@laws
@given(vectors)
def test_vector_to_quaternion_and_back(vector):
    vector = vector * np.float32(min(1.0, 3.1 / max(np.linalg.norm(vector), 1e-9)))
    quaternion = jitted["quaternion_from_rotation_vector"](vector)
    assert abs(np.linalg.norm(quaternion) - 1.0) < 1e-6
    np.testing.assert_allclose(jitted["rotation_vector_from_quaternion"](quaternion), vector, atol=2e-5)
    np.testing.assert_allclose(jitted["rotation_vector_from_quaternion"](-quaternion), vector, atol=2e-5)


@laws
@given(vectors, vectors)
def test_an_increment_turns_after_the_rotation(increment, vector):
    quaternion = jitted["quaternion_from_rotation_vector"](vector)
    both = jitted["compose"](increment, quaternion)
    assert both[0] >= 0.0
    np.testing.assert_allclose(
        jitted["matrix_from_quaternion"](both), reference(increment) @ reference(vector), atol=2e-6
    )


@laws
@given(vectors, vectors, vectors)
def test_multiplication_is_associative(a, b, c):
    a, b, c = (jitted["quaternion_from_rotation_vector"](v) for v in (a, b, c))
    multiply = jitted["multiply"]
    np.testing.assert_allclose(multiply(multiply(a, b), c), multiply(a, multiply(b, c)), atol=1e-6)


@laws
@given(vectors)
def test_matrix_to_quaternion_and_back(vector):
    matrix = reference(vector).astype(np.float32)
    quaternion = jitted["quaternion_from_matrix"](matrix)
    np.testing.assert_allclose(jitted["matrix_from_quaternion"](quaternion), matrix, atol=1e-6)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0.6, 0, -0.8), (1, -2, 3)])
def test_half_turns_have_a_quaternion(axis):
    # A quaternion read off the trace alone divides by zero here, where an axis flip would put every frontal face.
    matrix = reference(np.pi * np.array(axis) / np.linalg.norm(axis)).astype(np.float32)
    quaternion = jitted["quaternion_from_matrix"](matrix)
    np.testing.assert_allclose(jitted["matrix_from_quaternion"](quaternion), matrix, atol=1e-6)


def test_derivative_at_no_rotation_is_the_generators():
    # Rodrigues' formula written with the angle is 0 / 0 here, and its gradient NaN even where the value is patched.
    jacobian = jax.jacfwd(rotations.matrix_from_rotation_vector)(jnp.zeros(3))
    reverse = jax.jacrev(rotations.matrix_from_rotation_vector)(jnp.zeros(3))
    generators = np.stack([np.cross(np.eye(3)[axis], np.eye(3)).T for axis in range(3)], axis=2)
    np.testing.assert_allclose(jacobian, generators, atol=1e-7)
    np.testing.assert_allclose(reverse, generators, atol=1e-7)
    back = jax.jacfwd(rotations.rotation_vector_from_quaternion)(jnp.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(back[:, 1:], 2.0 * np.eye(3), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 9.9e-4, 1.01e-3, 0.1])
def test_series_and_closed_form_meet_in_double_precision(angle):
    with jax.enable_x64(True):
        vector = jnp.array([0.6, 0.0, -0.8]) * angle
        quaternion = rotations.quaternion_from_rotation_vector(vector)
        np.testing.assert_allclose(rotations.matrix_from_quaternion(quaternion), reference(vector), atol=1e-14)
        np.testing.assert_allclose(rotations.rotation_vector_from_quaternion(quaternion), vector, rtol=1e-12)


def test_rotate_turns_every_point():
    matrix, points = reference([0.3, -0.2, 0.1]), np.random.default_rng(0).normal(size=(7, 3))
    turned = jitted["rotate"](jnp.float32(matrix), jnp.float32(points))
    np.testing.assert_allclose(turned, points @ matrix.T, atol=1e-6)
