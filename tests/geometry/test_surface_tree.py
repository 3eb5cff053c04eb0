"""A surface's tree is built once: what is moved, flipped or deformed answers as one built anew."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, SurfaceTree


@pytest.fixture(scope="module")
def half() -> SurfaceTree:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=80.0)
    used, faces = np.unique(ball.faces[ball.triangles_center[:, 2] > 0.0], return_inverse=True)
    return SurfaceTree(ball.vertices[used], faces.reshape(-1, 3))


def check_equal(one: SurfaceTree, anew: SurfaceTree) -> None:
    points = np.random.default_rng(0).normal(size=(200, 3)) * 90.0
    (found, places), (expected, expected_places) = one.closest(points), anew.closest(points)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(places.interpolate(one.vertices, one.faces), found, atol=1e-9)
    for name in ("vertices", "faces", "normals", "areas", "vertex_normals", "vertex_areas"):
        np.testing.assert_allclose(getattr(one, name), getattr(anew, name), atol=1e-9, err_msg=name)
    same = places.faces == expected_places.faces  # of the faces around a vertex, rounding chooses
    np.testing.assert_array_equal(one.on_rim(places)[same], anew.on_rim(expected_places)[same])
    assert same.mean() > 0.5
    assert one.on_rim(places).any()


def test_a_moved_surface_answers_as_one_built_there(half):
    motion = Similarity(0.4, Rotation.from_rotvec([0.3, -1.0, 0.2]).as_matrix(), np.array([5.0, -7.0, 20.0]))
    check_equal(half.moved(motion), SurfaceTree(motion.apply(half.vertices), half.faces))
    check_equal(half.moved(motion).moved(motion.inverse()), half)


def test_a_flipped_surface_answers_as_one_built_so(half):
    check_equal(half.flipped(), SurfaceTree(half.vertices, half.faces[:, ::-1]))


def test_a_deformed_surface_answers_as_one_built_so(half):
    stretched = half.vertices * [1.2, 0.9, 1.0]
    check_equal(
        half.moved(Similarity(2.0, np.eye(3), np.ones(3))).deformed(stretched), SurfaceTree(stretched, half.faces)
    )


def test_copies_share_one_tree(half, monkeypatch):
    surface, built = SurfaceTree(half.vertices, half.faces), []
    import igl

    class Counted(igl.AABB):
        def init(self, *mesh):
            built.append(1)
            return super().init(*mesh)

    monkeypatch.setattr(igl, "AABB", Counted)
    point = np.zeros((1, 3))
    for one in (surface, surface.moved(Similarity.identity()), surface.flipped()):
        one.closest(point)
    assert len(built) == 1
