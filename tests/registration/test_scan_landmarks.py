import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, SurfacePoints
from digitaltwin.head.markup import ALIGNMENT, CONTOUR
from digitaltwin.io import read_landmarks
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan
from digitaltwin.registration import _scan_landmarks as views
from digitaltwin.registration import find_landmarks
from digitaltwin.registration._scan_landmarks import colours_at, front_camera, render_scan
from digitaltwin.types import InputError, Mesh


@pytest.fixture(scope="module")
def scan() -> Mesh:
    return read_scan(asset_path("scan.glb"))


@pytest.mark.slow
def test_the_landmarks_of_a_scan_that_lies_anyhow_are_where_people_set_them(head, scan):
    annotated = read_landmarks(asset_path("scan.csv"), scan.vertices)
    lying = Similarity(
        1000.0,
        Rotation.from_euler("xyz", [-95.0, 20.0, 170.0], degrees=True).as_matrix(),
        np.array([40.0, 900.0, -70.0]),
    )
    found = find_landmarks(head, scan._replace(vertices=lying.apply(scan.vertices)))
    known = np.isfinite(found).all(axis=1)
    assert known.sum() >= 80
    assert not known[CONTOUR].any(), "the outline is nowhere on the surface"
    off = np.linalg.norm(found[ALIGNMENT] - lying.apply(annotated), axis=1)
    assert np.median(off) < 2.5
    assert off.max() < 9.0, "the left eye's outer corner is in shadow"


def test_a_view_shows_what_is_in_front_in_the_scans_own_colours(scan):
    upright = Similarity(0.001, np.eye(3), np.array([-0.012, -0.01, 0.0]))
    camera = front_camera(upright, yaw_deg=0.0, size=64)
    view = render_scan(scan, camera, size=64)
    assert view.face.shape == (128, 128)
    hit = view.face >= 0
    seen = SurfacePoints(view.face[hit], view.barycentric[hit])
    points = seen.interpolate(scan.vertices, scan.faces)
    tip = read_landmarks(asset_path("scan.csv"), scan.vertices)[4]
    assert np.linalg.norm(points - tip, axis=1).min() < 0.002
    colours = colours_at(scan, seen)
    assert colours is not None
    red, green, blue = colours.mean(axis=0)
    assert red > green > blue, "skin"
    grey = render_scan(Mesh(scan.vertices, scan.faces), camera, size=64)
    assert np.ptp(grey.picture, axis=2).max() < 1e-12
    assert colours_at(Mesh(scan.vertices, scan.faces), seen) is None


def at(face: int, weights: list[list[float]]) -> SurfacePoints:
    return SurfacePoints(np.array([face]), np.array(weights))


def test_colours_of_vertices_and_texels_are_interpolated():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    texture = np.zeros((2, 2, 3))
    texture[0, 1] = [1.0, 0.5, 0.25]  # the upper right texel, in the corner of vertex 2
    textured = Mesh(square, faces, uv=square[:, :2], texture=texture)
    at_corner = colours_at(textured, at(0, [[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(at_corner, [[1.0, 0.5, 0.25]])
    middle = colours_at(textured, at(0, [[0.5, 0.0, 0.5]]))
    np.testing.assert_allclose(middle, [[0.25, 0.125, 0.0625]])
    beyond = colours_at(textured._replace(uv=square[:, :2] + [3.0, -2.0]), at(0, [[0.3, 0.3, 0.4]]))
    within = colours_at(textured, at(0, [[0.3, 0.3, 0.4]]))
    np.testing.assert_allclose(beyond, within, atol=1e-12, err_msg="textures repeat")
    coloured = Mesh(square, faces, colours=np.eye(4)[:, :3])
    np.testing.assert_allclose(colours_at(coloured, at(1, [[0.5, 0.25, 0.25]])), [[0.5, 0.0, 0.25]])


def test_what_has_no_face_is_refused(head, monkeypatch):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    monkeypatch.setattr(views, "_axes", lambda: [np.array([0.0, 0.0, 1.0])])
    monkeypatch.setattr(views, "_corners", list)
    with pytest.raises(InputError, match="no face is found"):
        find_landmarks(head, Mesh(np.asarray(ball.vertices), np.asarray(ball.faces)))
    broken = np.array(ball.vertices)
    broken[3] = np.inf
    with pytest.raises(InputError, match="not finite"):
        find_landmarks(head, Mesh(broken, np.asarray(ball.faces)))
