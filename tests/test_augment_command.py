"""``python -m experiments.augment`` as its users meet it: chunks, resuming, seeds, and what it refuses."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from digitaltwin.head import load_subjects
from digitaltwin.io import load_arrays

ROOT = Path(__file__).parents[1]
COUNT, CHUNK = 50, 20


def run(*flags, expect=0):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.augment", f"--count={COUNT}", f"--chunk={CHUNK}", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == expect, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads")
    run(f"--out={path}")
    return path


def files(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_chunks_hold_what_the_file_beside_them_says(folder, head):
    settings = json.loads((folder / "augment.json").read_text())
    assert settings["count"] == COUNT
    chunks = [load_arrays(path)[0] for path in sorted(folder.glob("heads-*.npz"))]
    assert [len(chunk["vertices"]) for chunk in chunks] == [20, 20, 10]
    heads = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    assert heads["vertices"].shape == (COUNT, *head.mean.shape)
    assert heads["vertices"].dtype == np.float32
    assert np.isfinite(heads["vertices"]).all()
    assert len(np.unique(heads["key"], axis=0)) == COUNT
    counts = np.bincount(heads["group"], minlength=6)
    assert np.abs(counts - np.array(settings["shares"]) * COUNT).max() < 1
    subjects = load_subjects()
    group = np.asarray(subjects.group)
    assert (group[heads["subjects"]] == heads["group"][:, None]).all()
    assert (group[heads["closest"]] == heads["group"]).all()
    assert not np.asarray(subjects.test)[heads["subjects"]].any()
    radius = np.linalg.norm(heads["coefficients"], axis=1)
    assert (radius > 0.599).all()
    assert (radius < 1.301).all()


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(folder, tmp_path):
    for name, data in files(folder).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "heads-00000.npz").unlink()  # never written
    whole = (tmp_path / "heads-00002.npz").read_bytes()
    (tmp_path / "heads-00002.npz").write_bytes(whole[: len(whole) // 2])  # cut off by a full disk, say
    kept = (tmp_path / "heads-00001.npz").stat().st_mtime_ns
    assert "2 of them new" in run(f"--out={tmp_path}").stdout
    assert files(tmp_path) == files(folder)
    assert (tmp_path / "heads-00001.npz").stat().st_mtime_ns == kept


def test_a_killed_run_goes_on_where_it_was(folder, tmp_path):
    command = [sys.executable, "-m", "experiments.augment", f"--count={COUNT}", f"--chunk={CHUNK}", f"--out={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "heads-00000.npz").exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    (tmp_path / ".heads-00002.npz.0123").write_bytes(b"half a file")
    first = (tmp_path / "heads-00000.npz").stat().st_mtime_ns
    run(f"--out={tmp_path}")
    assert files(tmp_path) == files(folder)
    assert (tmp_path / "heads-00000.npz").stat().st_mtime_ns == first


def test_heads_do_not_depend_on_the_size_of_the_chunks(folder, tmp_path):
    run(f"--out={tmp_path}", "--chunk=50")
    whole = load_arrays(tmp_path / "heads-00000.npz")[0]
    parts = [load_arrays(path)[0] for path in sorted(folder.glob("heads-*.npz"))]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in parts]))


def test_other_settings_are_refused_in_the_same_folder(folder):
    before = files(folder)
    for flag in ("--seed=1", "--method=pca"):
        message = run(f"--out={folder}", flag, expect=2).stderr
        assert "other settings" in message
        assert "Traceback" not in message
    assert files(folder) == before


@pytest.mark.parametrize("flag", ["--method=pca", "--method=none", "--origin=group"])
def test_other_methods_make_other_heads(folder, tmp_path, flag):
    run(f"--out={tmp_path}", "--count=20", flag)
    mine, other = (load_arrays(path / "heads-00000.npz")[0] for path in (tmp_path, folder))
    assert mine["vertices"].shape == other["vertices"].shape
    assert np.abs(mine["vertices"] - other["vertices"]).max() > 1
    assert np.linalg.norm(mine["vertices"] - other["vertices"].mean(0), axis=2).mean() < 15


@pytest.mark.parametrize(
    "flags", [["--count=0"], ["--method=magic"], ["--nosuch=1"], ["--origin=group", "--method=pca"]]
)
def test_wrong_flags_are_named(tmp_path, flags):
    message = run(f"--out={tmp_path}", *flags, expect=2).stderr
    assert flags[0].split("=")[0].strip("-") in message


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "augment.json").write_text("[]")
    assert "name another --out" in run(f"--out={tmp_path}", expect=2).stderr
    assert (tmp_path / "augment.json").read_text() == "[]"
