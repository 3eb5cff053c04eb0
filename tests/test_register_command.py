"""`python -m experiments.register`, as its users call it, on the real scan."""

import json
import subprocess
import sys

import numpy as np
import trimesh

from digitaltwin.io import load_arrays


def run(*arguments):
    command = [sys.executable, "-m", "experiments.register", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


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
    scene = trimesh.load(out / "head.glb")
    assert len(scene.geometry) >= 3
    for name in ("texture.png", "picture.png"):
        assert (out / name).stat().st_size > 10_000, name


def test_what_cannot_be_used_ends_with_one_line(tmp_path):
    empty = tmp_path / "empty.obj"
    empty.write_bytes(b"")
    for arguments, words in (
        ([f"--scan={tmp_path / 'none.obj'}"], "none.obj"),
        ([f"--scan={empty}"], "is empty"),
        ([f"--landmarks={tmp_path / 'none.csv'}"], "none.csv"),
    ):
        done = run("--quick", f"--out={tmp_path / 'out'}", *arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.strip().splitlines()[-1]
