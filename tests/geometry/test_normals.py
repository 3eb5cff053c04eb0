import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from digitaltwin.geometry._normals import face_normals, normalize, vertex_normals


@pytest.fixture(scope="module")
def sphere():
    return trimesh.creation.icosphere(4, radius=80.0)


def test_vertex_normals_of_a_sphere_point_outward(sphere):
    normals = vertex_normals(jnp.asarray(sphere.vertices, jnp.float32), jnp.asarray(sphere.faces))
    np.testing.assert_allclose(normals, sphere.vertices / 80.0, atol=1e-2)


def test_face_normals_agree_with_trimesh(sphere):
    normals = face_normals(jnp.asarray(sphere.vertices, jnp.float32), jnp.asarray(sphere.faces))
    np.testing.assert_allclose(normals, sphere.face_normals * 2 * sphere.area_faces[:, None], atol=2e-3)


def test_normals_turn_with_the_mesh(sphere):
    turn = trimesh.transformations.rotation_matrix(0.7, [1.0, 2.0, 3.0])[:3, :3]
    stretched = sphere.vertices * [1.0, 1.3, 0.8]
    faces = jnp.asarray(sphere.faces)
    before = vertex_normals(jnp.asarray(stretched, jnp.float32), faces)
    after = vertex_normals(jnp.asarray(stretched @ turn.T, jnp.float32), faces)
    np.testing.assert_allclose(after, np.asarray(before) @ turn.T, atol=1e-5)


def test_lone_vertices_have_no_normal_and_a_finite_gradient():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    faces = jnp.array([[0, 1, 2]])
    assert not np.any(vertex_normals(vertices, faces)[3])
    gradient = jax.grad(lambda x: jnp.sum(vertex_normals(x, faces) ** 2 * x))(vertices)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(normalize(x)))(jnp.zeros((2, 3)))))
