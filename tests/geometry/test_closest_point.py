import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from digitaltwin.geometry import closest_barycentric, closest_points


def brute_force(point, triangle, steps=400):
    """The closest of a grid of the triangle's points, corners and sides among them."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    kept = i + j <= steps
    weights = np.stack([i[kept], j[kept], steps - i[kept] - j[kept]], axis=1) / steps
    return np.linalg.norm(weights @ triangle - point, axis=1).min()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
def test_no_point_of_the_triangle_is_closer(seed, height):
    """Triangles of all shapes, slivers and such without area among them, and points all around."""
    rng = np.random.default_rng(seed)
    triangle = rng.normal(size=(3, 3)) * 10.0 ** rng.uniform(-2, 2, size=(1, 3))
    if seed % 5 == 0:
        triangle[2] = triangle[0] + rng.uniform(-1.0, 2.0) * (triangle[1] - triangle[0])
    point = rng.dirichlet([0.5] * 3) @ triangle + height * rng.normal(size=3)
    with jax.enable_x64(True):
        weights = np.asarray(closest_barycentric(jnp.asarray(point), jnp.asarray(triangle)))
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    found = np.linalg.norm(weights @ triangle - point)
    size = np.abs(triangle).max()
    assert found <= brute_force(point, triangle) + 1e-9 * size
    assert found >= brute_force(point, triangle) - 0.01 * size


@pytest.fixture(scope="module")
def near_the_head(head):
    rng = np.random.default_rng(0)
    corners = np.asarray(head.mean)[np.asarray(head.faces)]
    chosen = rng.integers(len(corners), size=3000)
    on = np.einsum("nk,nkx->nx", rng.dirichlet([1.0] * 3, size=3000), corners[chosen])
    return on + rng.normal(size=on.shape) * 10.0 ** rng.uniform(-3, 2, size=(3000, 1))


def test_it_agrees_with_trimesh_on_a_head(head, near_the_head):
    mesh = trimesh.Trimesh(np.asarray(head.mean, np.float64), np.asarray(head.faces), process=False)
    expected, distances, _ = trimesh.proximity.closest_point(mesh, near_the_head)
    found = closest_points(jnp.float32(near_the_head), head.mean, head.faces)
    np.testing.assert_allclose(found.distances, distances, atol=1e-4)
    # From the medial axis two points are equally close: then either will do.
    apart = np.linalg.norm(np.asarray(found.points) - expected, axis=1)
    assert np.mean(apart < 1e-3) > 0.995
    there = np.einsum("nk,nkx->nx", found.barycentric, np.asarray(head.mean)[np.asarray(head.faces)[found.faces]])
    np.testing.assert_allclose(there, found.points, atol=1e-4)


def test_blocks_change_nothing(head, near_the_head):
    points = jnp.float32(near_the_head[:257])
    whole = closest_points(points, head.mean, head.faces, points_at_once=257, faces_at_once=len(head.faces))
    cut = closest_points(points, head.mean, head.faces, points_at_once=100, faces_at_once=77)
    assert np.array_equal(whole.faces, cut.faces)
    assert np.array_equal(whole.points, cut.points)


def test_derivatives_are_those_of_the_distance(head, near_the_head):
    """By the point it is the unit vector away from the mesh; and a translation of both changes nothing."""
    points = jnp.float32(near_the_head[:200])
    distances = lambda points, vertices: jnp.sum(closest_points(points, vertices, head.faces).distances)  # noqa: E731
    by_point, by_vertex = jax.grad(distances, (0, 1))(points, head.mean)
    found = closest_points(points, head.mean, head.faces)
    clear = np.asarray(found.distances) > 0.1
    away = np.asarray(points - found.points) / np.maximum(np.asarray(found.distances), 1e-9)[:, None]
    np.testing.assert_allclose(np.asarray(by_point)[clear], away[clear], atol=2e-3)
    np.testing.assert_allclose(by_point.sum(axis=0) + by_vertex.sum(axis=0), np.zeros(3), atol=1e-3)
    assert np.isfinite(jax.grad(distances)(head.mean[:5], head.mean)).all(), "a point on the mesh has one, too"


def test_it_is_batched_with_vmap(head, near_the_head):
    points = jnp.float32(near_the_head[:40])
    shapes = jnp.stack([head.mean, head.mean + 3.0])
    both = jax.vmap(lambda shape: closest_points(points, shape, head.faces).distances)(shapes)
    for shape, distances in zip(shapes, both):
        np.testing.assert_allclose(distances, closest_points(points, shape, head.faces).distances, atol=1e-5)
