import numpy as np
import pytest
import trimesh

from digitaltwin.geometry.surface_tree import SurfaceTree
from digitaltwin.io import meshes
from digitaltwin.io.meshes import read_surface
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
    middle = tree.closest(np.array([[1.0, 0.5, 3.0], [2.5, 0.5, 0.0], [0.5, 0.5, 1.0]]))
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
