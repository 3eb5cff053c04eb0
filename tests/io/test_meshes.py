import numpy as np
import pytest
import trimesh
from PIL import Image

from digitaltwin.geometry import SurfaceTree
from digitaltwin.io import meshes
from digitaltwin.io.meshes import read_scan, read_surface
from digitaltwin.types import InputError


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".glb", ".off"])
def test_what_was_written_is_read(tmp_path, suffix):
    box = trimesh.creation.box((10.0, 20.0, 30.0))
    box.export(tmp_path / f"box{suffix}")
    vertices, faces = read_surface(tmp_path / f"box{suffix}")
    assert len(faces) == 12
    assert SurfaceTree(vertices, faces).areas.sum() == pytest.approx(2200.0)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), [10.0, 20.0, 30.0], rtol=1e-6)


def test_quadrilaterals_negative_indices_and_seams_of_an_obj(tmp_path):
    (tmp_path / "two.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 0 0\nv 2 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvt 0.5 0\nvt 0.5 1\n"
        "f 1/1 2/2 3/3 4/4\nf -5/5 -2/2 -1/3 -4/6\n"
    )
    vertices, faces = read_surface(tmp_path / "two.obj")
    tree = SurfaceTree(vertices, faces)
    assert tree.areas.sum() == pytest.approx(2.0)
    _, middle = tree.closest(np.array([[1.0, 0.5, 3.0], [2.5, 0.5, 0.0], [0.5, 0.5, 1.0]]))
    assert tree.on_rim(middle).tolist() == [False, True, False], "a seam is no border"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scan.xyz", b"0 0 0", "is not one of .*; convert it"),
        ("empty.obj", b"", "is empty"),
        ("points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "cloud of points"),
        ("broken.ply", b"ply\nformat ascii 1.0\nelement vertex 900\nend_header\n1 2", "cannot be read|holds no faces"),
        ("photo.glb", b"\x89PNG\r\n\x1a\n" + bytes(64), "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_surface(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        read_surface(tmp_path / "nowhere.ply")
    monkeypatch.setattr(meshes, "LARGEST_BYTES", 10)
    (tmp_path / "large.ply").write_bytes(bytes(11))
    with pytest.raises(InputError, match="more than"):
        read_surface(tmp_path / "large.ply")


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_a_texture_comes_along_the_right_way_up(tmp_path, suffix):
    picture = np.zeros((8, 4, 3), np.uint8)
    picture[0, 3] = [255, 128, 0]  # upper right: u and v near 1
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], image=Image.fromarray(picture))
    square.export(tmp_path / f"square{suffix}")
    scan = read_scan(tmp_path / f"square{suffix}")
    assert scan.texture is not None
    assert scan.uv is not None
    np.testing.assert_allclose(scan.texture[0, 3], [1.0, 128 / 255, 0.0], atol=0.02)
    np.testing.assert_allclose(scan.uv, scan.vertices[:, :2], atol=1e-6)


def test_colours_of_vertices_come_along_and_a_lost_texture_does_not_matter(tmp_path):
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.tile([[200, 100, 50, 255]], (8, 1))
    box.export(tmp_path / "box.ply")
    scan = read_scan(tmp_path / "box.ply")
    assert scan.texture is None
    assert scan.colours is not None
    np.testing.assert_allclose(scan.colours[0], np.array([200, 100, 50]) / 255)
    (tmp_path / "lost.obj").write_text("mtllib none.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl a\nf 1/1 2/1 3/1\n")
    assert read_scan(tmp_path / "lost.obj").texture is None
