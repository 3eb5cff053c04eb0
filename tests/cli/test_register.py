"""``digitaltwin register`` as its users meet it, on the real scan."""

import json
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from digitaltwin.cli import main
from digitaltwin.io import load_arrays


def run(*arguments):
    command = [sys.executable, "-m", "digitaltwin", "register", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
def test_the_real_scan_is_registered_as_well_as_is_claimed(tmp_path, head):
    out = tmp_path / "registered"
    done = run("--quick", f"--out={out}")
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["scan"]["unit"] == "m"
    assert report["warnings"] == []
    assert report["face_mm"]["vertices"] > 1000
    assert report["face_mm"]["mean"] < 0.5
    assert report["face_mm"]["largest"] < 3.0
    assert report["landmarks_mm"]["count"] >= 80
    assert report["landmarks_mm"]["mean"] < 2.0
    arrays, metadata = load_arrays(out / "registration.npz")
    assert metadata["unit"] == "m"
    assert arrays["vertices"].shape == head.mean.shape
    assert np.ptp(arrays["vertices_in_scan"], axis=0).max() < 0.5, "metres"
    assert arrays["valid"].sum() == report["face_mm"]["vertices"]
    assert np.array_equal(arrays["judged"], arrays["valid"]), "the former name"
    scene = trimesh.load(out / "head.glb")
    assert len(scene.geometry) >= 3
    assert {path.name for path in out.iterdir()} == {
        "head.glb", "texture.png", "picture.png", "registration.npz", "report.json"
    }  # fmt: skip
    for name in ("texture.png", "picture.png"):
        assert (out / name).stat().st_size > 10_000, name


def test_what_cannot_be_used_ends_with_one_line_and_no_folder(tmp_path, capsys):
    empty, out = tmp_path / "empty.obj", tmp_path / "out"
    empty.write_bytes(b"")
    (tmp_path / "stands").mkdir()
    (tmp_path / "stands" / "head.glb").write_bytes(b"of an earlier run")
    for arguments, words in (
        ([f"--scan={tmp_path / 'none.obj'}"], "none.obj"),
        ([f"--scan={empty}"], "is empty"),
        (["--quick", f"--landmarks={tmp_path / 'none.csv'}"], "none.csv"),
        (["--quick", f"--out={tmp_path / 'stands'}"], "add --overwrite"),
        ([], "--scan: name one scan"),
    ):
        assert main(["register", f"--out={out}", *arguments]) == 2
        errors = capsys.readouterr().err
        assert words in errors
        assert errors.count("\n") == 1
        assert not out.exists()
