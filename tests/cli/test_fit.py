"""``digitaltwin fit`` as its users meet it: what it writes, resuming after a kill, and what it refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.cli import main
from digitaltwin.fitting import FitConfig, Unknowns, fit_batch, make_fitter
from digitaltwin.fitting._file import fit_file
from digitaltwin.geometry import Camera, project
from digitaltwin.head import landmark_points
from digitaltwin.io import load_arrays
from digitaltwin.io._members import map_member
from digitaltwin.types import InputError

ROOT = Path(__file__).parents[2]
COUNT, CHUNK = 10, 4


@pytest.fixture(scope="module")
def given(head):
    """Landmarks with noise, of which one photo's are spoilt."""
    rng = np.random.default_rng(0)
    camera = Camera(jnp.eye(3), jnp.array([10.0, 5.0, 500.0]), jnp.array(700.0), jnp.array([320.0, 240.0]))
    points = np.asarray(project(camera, landmark_points(head, head.mean)))
    landmarks = points + np.float32(rng.normal(size=(COUNT, *points.shape)))
    landmarks[5] = np.nan
    scores = np.float32(rng.uniform(0.0, 0.2, size=(COUNT, len(head.expressions))))
    return {"landmarks": landmarks, "image_size": np.array([480, 640]), "scores": scores}


@pytest.fixture(scope="module")
def source(given, tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "landmarks.npz"
    np.savez(path, **given)
    return path


def start(source, out, *flags):
    arguments = [f"--landmarks={source}", f"--out={out}", f"--chunk={CHUNK}", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "digitaltwin", "fit", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, expect=0):
    with start(*arguments) as process:
        out, errors = process.communicate(timeout=300)
    assert process.returncode == expect, errors
    return out, errors


def call(source, out, *, config=None, points="landmarks", part="0/1", vertices=False):
    """The command within this process."""
    config = config or FitConfig()
    return fit_file(source, out, chunk=CHUNK, config=config, points=points, part=part, vertices=vertices, quick=False)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "fits.npz"
    assert call(source, path) == f"{path}: {COUNT} heads, {COUNT} of them new"
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing else is left"
    return path


def test_the_output_holds_the_fits_and_all_that_follows_from_them(head, given, whole):
    fits, metadata = load_arrays(whole)
    assert metadata["settings"]["rows"] == [0, COUNT]
    assert fits["status"].tolist() == [0] * 5 + [1] + [0] * 4
    assert fits["expression"].shape == (COUNT, len(metadata["expression_names"]))
    unknowns = Unknowns(**{name: fits[f"unknowns_{name}"] for name in Unknowns._fields})
    numbers = [given["landmarks"], given["image_size"]]
    again = fit_batch(
        make_fitter(head, FitConfig(iterations=0)), head.mean, *numbers, scores=given["scores"], init=unknowns
    )
    direct = fit_batch(make_fitter(head, FitConfig()), head.mean, *numbers, scores=given["scores"])
    np.testing.assert_allclose(direct.vertices, again.vertices, atol=2e-3)
    np.testing.assert_allclose(fits["rotation"], again.rotation, atol=1e-5)
    # Before the energy is taken again the contour slides once more.
    np.testing.assert_allclose(fits["energy"], again.energies[:, -1], rtol=0.05)
    for name in ("expression", "identity", "translation", "focal_scale"):
        np.testing.assert_allclose(fits[name], getattr(direct, name), rtol=1e-3, atol=2e-2)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(source, tmp_path):
    whole = tmp_path / "whole.npz"
    said, errors = run(source, whole)
    assert said == f"{whole}: {COUNT} heads, {COUNT} of them new\n"
    assert str(whole) in errors.splitlines()[0], "it says at once what it does"
    assert "heads/s" not in errors, "no bar where stderr is no terminal"
    out, parts = tmp_path / "fits.npz", tmp_path / ".fits.npz.parts"
    process = start(source, out)
    while process.poll() is None and not (parts / "finished").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    with (parts / "finished").open("a") as journal:
        journal.write("7")  # half a line, of a machine that lost its power
    done = (parts / "finished").read_text().split("\n")[:-1]
    assert done
    inputs = map_member(source, "landmarks", tmp_path)
    assert (np.load(parts / "energy.npy")[:CHUNK] > 0).all()
    new = len(inputs) - min(CHUNK * len(done), len(inputs))
    assert f"{new} of them new" in run(source, out)[0]
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_finished_work_is_neither_repeated_nor_overwritten(source, whole):
    before = whole.read_bytes(), whole.stat().st_mtime_ns
    assert "none of them new" in call(source, whole)
    with pytest.raises(InputError, match=r"landmarks is float32 \(10, 104, 2\).*\(10, 478, 2\)"):
        call(source, whole, points="mesh")
    for flags in ({"config": FitConfig(iterations=2)}, {"vertices": True}, {"part": "0/2"}):
        with pytest.raises(InputError, match="holds results of other input or flags .*name another --out"):
            call(source, whole, **flags)
    assert (whole.read_bytes(), whole.stat().st_mtime_ns) == before


def test_parts_and_compressed_input_and_vertices(head, given, whole, tmp_path):
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, **given, shape=np.asarray(head.mean), something_else=np.zeros(3))
    for number in range(2):
        call(packed, tmp_path / f"fits-{number}.npz", vertices=True, part=f"{number}/2")
    fits = [load_arrays(tmp_path / f"fits-{number}.npz")[0] for number in range(2)]
    expected = load_arrays(whole)[0]
    assert "unknowns_multipliers" not in fits[0]
    for name in ("status", "energy", "expression"):
        np.testing.assert_allclose(np.concatenate([part[name] for part in fits]), expected[name], rtol=1e-3, atol=1e-3)
    vertices = np.concatenate([part["vertices"] for part in fits])
    assert vertices.shape == (COUNT, *head.mean.shape)
    assert np.abs(vertices - np.asarray(head.mean)).max() < 30.0


BAD_INPUTS = {
    "holds no landmarks": {"landmarks": None},
    "holds no image_size": {"image_size": None},
    "holds no head": {"landmarks": np.zeros((0, 104, 2))},
    r"landmarks is float64 \(10, 68, 2\); it has to be numbers, \(10, 104, 2\)": {"landmarks": np.zeros((10, 68, 2))},
    r"scores is float64 \(3, 52\); .* \(10, 52\), or \(52,\) for all": {"scores": np.zeros((3, 52))},
    "weights is <U1": {"weights": np.full(104, "a")},
    "holds Python objects": {"names": np.array([{}], object)},
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_bad_input_is_named(given, tmp_path, message):
    arrays = {name: value for name, value in {**given, **BAD_INPUTS[message]}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        call(tmp_path / "bad.npz", tmp_path / "fits.npz")
    assert not (tmp_path / ".fits.npz.parts").exists()


def test_files_that_are_none_are_named(source, tmp_path):
    half = tmp_path / "half.npz"
    half.write_bytes(source.read_bytes()[:-100])
    for path, message in ((tmp_path / "none.npz", "no such file"), (half, "not a whole .npz")):
        with pytest.raises(InputError, match=message):
            call(path, tmp_path / "fits.npz")
    with pytest.raises(InputError, match="--out=.*no folder"):
        call(source, tmp_path / "nowhere" / "fits.npz")
    for part in ("2/2", "0/0", "half", "0/11"):
        with pytest.raises(InputError, match=f"--part={part}"):
            call(source, tmp_path / "fits.npz", part=part)


@pytest.mark.parametrize("flag", ["--chunk=0", "--iterations=-1", "--nosuch=1"])
def test_wrong_flags_end_with_2(source, tmp_path, flag, capsys):
    assert main(["fit", f"--landmarks={source}", f"--out={tmp_path / 'fits.npz'}", flag]) == 2
    errors = capsys.readouterr().err
    assert flag.split("=")[0].strip("-") in errors
    assert errors.count("\n") == 1
