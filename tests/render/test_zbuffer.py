import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from digitaltwin.render import rasterize
from digitaltwin.render._zbuffer import interpolate_fragments, screen_points

FOCAL = 300.0
CENTRE = np.array([64.0, 48.0])
HEIGHT, WIDTH = 96, 128


@functools.partial(jax.jit, static_argnames=("height", "width", "cull"))
def raster(screen, faces, height=HEIGHT, width=WIDTH, cull=False):
    return rasterize(screen, faces, image_hw=(height, width), cull=cull)


def screen_of(vertices):
    return screen_points(jnp.asarray(vertices, jnp.float32), FOCAL, jnp.asarray(CENTRE, jnp.float32))


def reference(vertices, faces, height=HEIGHT, width=WIDTH):
    """Float64 rays through every pixel's centre against every face (Möller-Trumbore), by brute force."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(x - CENTRE[0]) / FOCAL, (y - CENTRE[1]) / FOCAL, np.ones_like(x)], axis=-1).reshape(-1, 3)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    best = np.full(len(rays), np.inf)
    face, weights = np.full(len(rays), -1), np.zeros((len(rays), 3))
    for index, (origin, ab, ac) in enumerate(zip(a, b - a, c - a)):
        across = np.cross(rays, ac)
        determinant = across @ ab
        with np.errstate(divide="ignore", invalid="ignore"):
            u = across @ -origin / determinant
            v = rays @ np.cross(-origin, ab) / determinant
            depth = ac @ np.cross(-origin, ab) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0) & (depth < best)
        best[hit], face[hit] = depth[hit], index
        weights[hit] = np.stack([1 - u - v, u, v], axis=1)[hit]
    return face.reshape(height, width), weights.reshape(height, width, 3), best.reshape(height, width)


@pytest.fixture(scope="module")
def torus():
    """Occludes itself, and lies aslant so that perspective matters."""
    mesh = trimesh.creation.torus(60.0, 25.0, 24, 12)
    mesh.apply_transform(trimesh.transformations.euler_matrix(1.0, 0.4, 0.2))
    return mesh.vertices + [0.0, 0.0, 400.0], mesh.faces


def test_agrees_with_ray_casting_in_float64(torus):
    vertices, faces = torus
    seen = raster(screen_of(vertices), jnp.asarray(faces))
    face, weights, depth = reference(vertices, faces)
    # An edge that passes within rounding of a pixel's centre may decide otherwise.
    assert np.mean(seen.face != face) < 1e-3
    same = np.asarray((seen.face == face) & (face >= 0))
    assert same.sum() > 2000
    np.testing.assert_allclose(np.asarray(seen.depth)[same], depth[same], rtol=2e-6)
    np.testing.assert_allclose(np.asarray(seen.barycentric)[same], weights[same], atol=2e-3)


def test_seen_points_project_back_to_their_pixels(torus):
    vertices, faces = torus
    seen = raster(screen_of(vertices), jnp.asarray(faces))
    points = interpolate_fragments(seen, jnp.asarray(vertices, jnp.float32), jnp.asarray(faces))
    hit = np.asarray(seen.face >= 0)
    pixels = screen_of(np.asarray(points)[hit])[:, :2]
    rows, columns = np.nonzero(hit)
    # Slivers seen edge-on keep the looser half of the bound.
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=1) + 0.5, atol=5e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), snap=st.sampled_from([0.0, 0.5, 1.0]), reach=st.sampled_from([1.0, 30.0, 3000.0]))
def test_a_tessellated_patch_has_no_holes(seed, snap, reach):
    """Points anywhere, also exactly on pixel centres and far outside the screen."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([[[-9, -9], [73, -9], [-9, 73], [73, 73]], rng.uniform(-9, 73, (36, 2))])
    points = np.round(points / snap) * snap if snap else points
    points[:4] = (points[:4] - 32) * reach + 32
    points = np.unique(points, axis=0)
    from scipy.spatial import Delaunay

    faces = Delaunay(points).simplices
    screen = jnp.asarray(np.column_stack([points, rng.uniform(1.0, 2.0, len(points))]), jnp.float32)
    padded = np.zeros((128, 3), int)  # one shape, one compilation; repeated vertices cover nothing
    padded[: len(faces)] = faces
    screen = jnp.concatenate([screen, jnp.ones((48 - len(screen), 3))])
    seen = raster(screen, jnp.asarray(padded), height=64, width=64)
    assert np.all(seen.face >= 0)
    assert np.all(np.isfinite(seen.depth))
    np.testing.assert_allclose(np.sum(seen.barycentric, axis=-1), 1, atol=1e-5)


def test_every_face_of_a_flat_patch_owns_its_pixels_alone():
    """Rasterised one by one, the faces of a planar patch partition it: no pixel twice, none missing."""
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2) * 8.0 + 0.5
    cells = np.array([[i, i + 1, i + 6, i + 5] for i in range(19) if i % 5 != 4])
    faces = np.concatenate([cells[:, [0, 1, 2]], cells[:, [0, 2, 3]]])
    screen = jnp.asarray(np.column_stack([grid, np.ones(25)]), jnp.float32)
    alone = jax.vmap(lambda face: raster(screen, face[None], height=40, width=40).face >= 0)(jnp.asarray(faces))
    counts = np.sum(alone, axis=0)
    assert counts.max() == 1
    assert counts.sum() == 32 * 32


def test_face_of_any_size_is_drawn():
    screen = jnp.array([[-1e5, -1e5, 5.0], [3e5, -1e5, 5.0], [-1e5, 3e5, 5.0], [10, 10, 1], [14, 10, 1], [10, 14, 1]])
    seen = raster(screen, jnp.array([[0, 1, 2], [3, 4, 5]]), height=500, width=700)
    assert np.all(seen.face >= 0)
    assert 4 <= np.sum(seen.face == 1) <= 12


def test_rejected_faces_leave_no_trace(torus):
    vertices, faces = torus
    good = screen_of(vertices)
    bad = jnp.array([[0.0, 0, -5], [100, 0, 5], [0, 100, 5], [jnp.nan, 0, 5], [jnp.inf, 3, 5], [20, 20, 5]])
    both = jnp.concatenate([good, bad])
    n = len(good)
    more = jnp.array([[n, n + 1, n + 2], [n + 1, n + 2, n + 3], [n + 2, n + 4, n + 5]])
    expected = raster(good, jnp.asarray(faces))
    chex.assert_trees_all_equal(raster(both, jnp.concatenate([jnp.asarray(faces), more])), expected)


def test_culling_keeps_the_side_that_faces_the_camera(torus):
    vertices, faces = torus
    screen = screen_of(vertices)
    # The camera frame looks along +z: a face seen from outside has its normal against the line of sight.
    culled = raster(screen, jnp.asarray(faces), cull=True)
    chex.assert_trees_all_equal(culled.face, raster(screen, jnp.asarray(faces)).face)
    inside = raster(screen, jnp.asarray(faces[:, ::-1]), cull=True)
    hit = np.asarray(inside.face >= 0)
    assert np.all(np.asarray(inside.depth)[hit] > np.asarray(culled.depth)[hit])


def test_vmap_equals_the_loop(torus):
    vertices, faces = torus
    screens = jnp.stack([screen_of(vertices * s) for s in (1.0, 0.7, 1.6)])
    batch = jax.vmap(lambda screen: rasterize(screen, jnp.asarray(faces), image_hw=(40, 56)))(screens)
    for index, screen in enumerate(screens):
        one = rasterize(screen, jnp.asarray(faces), image_hw=(40, 56))
        assert np.array_equal(batch.face[index], one.face)
        np.testing.assert_allclose(batch.barycentric[index], one.barycentric, atol=1e-5)


def test_depth_has_the_gradient_of_the_plane():
    faces = jnp.array([[0, 1, 2]])
    corners = jnp.array([[2.0, 2.0, 3.0], [30.0, 4.0, 5.0], [6.0, 28.0, 4.0]])

    def depth(z):
        return rasterize(corners.at[:, 2].set(z), faces, image_hw=(32, 32)).depth[10, 10]

    step = 1e-2
    numeric = [(depth(corners[:, 2] + step * e) - depth(corners[:, 2] - step * e)) / (2 * step) for e in jnp.eye(3)]
    np.testing.assert_allclose(jax.grad(depth)(corners[:, 2]), numeric, rtol=1e-2)


def test_compiles_once_per_shape(torus):
    vertices, faces = torus
    traced = jax.jit(chex.assert_max_traces(lambda s: rasterize(s, jnp.asarray(faces), image_hw=(16, 16)).face, n=1))
    for scale in (1.0, 1.1):
        traced(screen_of(vertices * scale))
