"""``python -m experiments.accuracy``, as its users call it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from digitaltwin.evaluation._cases import choose_subjects
from digitaltwin.head import load_subjects
from digitaltwin.io._files import write_json
from digitaltwin.synthesis import SceneConfig

ROOT = Path(__file__).parents[1]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.accuracy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_one_subject_from_the_front_and_the_folder_is_kept(tmp_path):
    out = tmp_path / "accuracy"
    first = run("--quick", "--workers=1", f"--out={out}")
    assert first.returncode == 0, first.stderr
    name = f"subject-{choose_subjects(load_subjects(), 1)[0]}"
    for file in ("accuracy.md", "accuracy.csv", "accuracy.json", "accuracy.png", f"pictures/{name}-front.png"):
        assert (out / file).stat().st_size > 100, file
    assert first.stdout == (out / "accuracy.md").read_text() + "\n"
    with (out / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    predictions = ("front", "mean", "group", "training", "basis")
    assert {(row["prediction"], row["alignment"]) for row in rows} == {
        (prediction, alignment) for prediction in predictions for alignment in ("rigid", "similarity")
    }
    armse = {(row["prediction"], row["alignment"]): float(row["armse_mm"]) for row in rows}
    assert armse["basis", "rigid"] < min(armse["front", "rigid"], armse["mean", "rigid"]) < 6.0
    summary = json.loads((out / "accuracy.json").read_text())
    assert summary["armse"]["rigid"]["front"]["mm"][0][0] == pytest.approx(armse["front", "rigid"], rel=1e-3)
    assert summary["corresponding points"]["basis"]["rms"][0] == pytest.approx(SceneConfig.residual_mm, abs=0.05)
    with (out / "correspondences.csv").open() as file:
        assert {row["prediction"] for row in csv.DictReader(file)} == set(predictions)
    assert json.loads((out / "reports" / f"{name}-front.json").read_text())["truth"]["focal_px"] > 0.0

    # The same folder again, begun under former names of the settings: what is done is not done again.
    settings = json.loads((out / "settings.json").read_text())
    former = {"residual_mm": "remainder_mm", "rigid_motion_free": "still"}
    write_json(out / "settings.json", {former.get(key, key): value for key, value in settings.items()})
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/**/*.*") if path.suffix != ".csv"}
    again = run("--quick", "--workers=1", f"--out={out}")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.slow
def test_a_folder_of_other_settings_is_refused_in_one_line(tmp_path):
    write_json(tmp_path / "settings.json", {"seed": 5})
    found = run("--quick", f"--out={tmp_path}")
    assert found.returncode == 2
    assert "seed" in found.stderr
    assert "name another" in found.stderr
    assert "Traceback" not in found.stderr
