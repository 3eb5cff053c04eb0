import jax.numpy as jnp
import numpy as np

from digitaltwin.geometry import SurfacePoints
from digitaltwin.geometry._barycentric import interpolate, interpolation_matrix


def test_matrix_and_interpolation_agree(head):
    corners = np.asarray(head.faces)[np.asarray(head.landmarks.faces)]
    matrix = interpolation_matrix(corners, np.asarray(head.landmarks.barycentric), len(head.mean))
    points = interpolate(head.mean, jnp.asarray(corners), head.landmarks.barycentric)
    np.testing.assert_allclose(points, matrix @ np.asarray(head.mean, np.float64), atol=1e-4)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)


def test_a_vertex_shared_by_corners_counts_each_time():
    matrix = interpolation_matrix(np.array([[1, 1, 2]]), np.array([[0.25, 0.25, 0.5]]), 3)
    assert matrix.toarray().tolist() == [[0.0, 0.5, 0.5]]


def test_affine_maps_pass_through():
    rng = np.random.default_rng(0)
    values, map_, shift = rng.normal(size=(9, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    corners, weights = jnp.array([[0, 4, 8], [2, 3, 5]]), jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    before = interpolate(jnp.float32(values), corners, weights)
    after = interpolate(jnp.float32(values @ map_ + shift), corners, weights)
    np.testing.assert_allclose(before @ map_ + shift[None], after, atol=1e-5)


def test_surface_points_interpolate_alike_on_the_host_in_jax_and_as_a_matrix(head):
    faces, values = np.asarray(head.faces), np.asarray(head.mean, np.float64)
    on_host = SurfacePoints(*(np.asarray(part) for part in head.landmarks))
    expected = on_host.interpolate(values, faces)
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(head.landmarks.interpolate(head.mean, head.faces), expected, atol=1e-4)
    np.testing.assert_allclose(on_host.matrix(faces, len(values)) @ values, expected, atol=1e-12)
