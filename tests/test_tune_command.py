"""``python -m experiments.tune``, as its users call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from digitaltwin.head import load_subjects
from digitaltwin.synthesis import SceneConfig
from digitaltwin.synthesis._drawing import draw_scene, draw_subjects
from digitaltwin.synthesis._pictures import oracle_detections
from digitaltwin.synthesis._scenes import save_scene

ROOT = Path(__file__).parents[1]
CONFIG = SceneConfig(count=8, residual_mm=0.0)


@pytest.mark.slow
def test_command_judges_the_fit_and_draws_the_curves(head, tmp_path):
    """On renders that were never rendered, with what networks without errors would detect; by its former name."""
    subjects = load_subjects()
    for number, subject in enumerate(draw_subjects(subjects, CONFIG)):
        scene = oracle_detections(head, draw_scene(head, subjects, int(subject), number, CONFIG))
        save_scene(tmp_path / f"render-{number:03d}.npz", scene, number, CONFIG)
    command = [sys.executable, "-m", "experiments.weights", "--quick", "--residual_mm=0", f"--renders={tmp_path}"]
    command += [f"--out={tmp_path}", f"--results={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "experiments.weights is now experiments.tune" in result.stderr
    report = json.loads((tmp_path / "fit-hyperparameters.json").read_text())
    errors = report["default"]["given"]["test people"]
    assert errors["renders"] == 4
    assert errors["failed"] == 0
    # Landmarks without errors, the true expression detected: what is left is the bias of the priors.
    assert 0.0 < errors["true_points_percent"] < 3.0
    assert 0.0 < errors["neutral_scaled_mm"] < 2.5
    columns = report["sweeps"]["omega_i"]["given"]
    assert columns["value"] == sorted(columns["value"])
    # A larger penalty of identity, and the fit stays nearer to the shape that was given.
    assert columns["correction_p95_mm"][0] < columns["correction_p95_mm"][-1]
    assert "| network | given | fixed |" in result.stdout
    for name in ("fit-weights-given", "fit-contour"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 800


def test_the_former_name_has_the_flags_it_had():
    command = [sys.executable, "-m", "experiments.weights", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "experiments.weights is now experiments.tune" in result.stderr
    for flag in ("count", "only", "out", "quick", "remainder_mm", "renders", "results", "seed", "sliding"):
        assert flag in result.stdout
