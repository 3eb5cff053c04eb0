"""``python -m experiments.weights``."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from PIL import Image

from digitaltwin.fitting import FitConfig, fit, make_fitter
from digitaltwin.head import load_subjects
from digitaltwin.synthesis import SceneConfig, draw_scene, draw_subjects
from digitaltwin.synthesis._pictures import oracle_detections
from digitaltwin.synthesis._scenes import save_scene
from experiments.weights import IN_ARRAYS

ROOT = Path(__file__).parents[1]
CONFIG = SceneConfig(count=8, residual_mm=0.0)


@pytest.fixture(scope="module")
def scenes(head):
    subjects = load_subjects()
    people = draw_subjects(subjects, CONFIG)
    return [draw_scene(head, subjects, int(people[n]), n, CONFIG) for n in range(CONFIG.count)]


@pytest.fixture(scope="module")
def renders(head, scenes, tmp_path_factory):
    """A folder of renders that were never rendered."""
    folder = tmp_path_factory.mktemp("renders")
    for number, scene in enumerate(scenes):
        save_scene(folder / f"render-{number:03d}.npz", oracle_detections(head, scene), number, CONFIG)
    return folder


def test_weights_in_arrays_are_not_read_by_the_fit_itself(head, scenes):
    """Else a sweep over them would move them half."""
    seen = oracle_detections(head, scenes[0])

    def program(fitter):
        return str(
            jax.make_jaxpr(fit)(fitter, fitter.mean, seen.landmarks_px, (640, 512), scores=seen.detected_expression)
        )

    default = program(make_fitter(head, FitConfig()))
    config = dataclasses.replace(FitConfig(), **{name: 1.7 * getattr(FitConfig(), name) for name in IN_ARRAYS})
    assert program(make_fitter(head, config)) == default
    other = dataclasses.replace(FitConfig(), omega_r=17.0)
    assert program(make_fitter(head, other)) != default


def test_command_judges_the_fit_and_draws_the_curves(renders, tmp_path):
    command = [sys.executable, "-m", "experiments.weights", "--quick", "--remainder_mm=0", f"--renders={renders}"]
    command += [f"--out={tmp_path}", f"--results={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "fit-weights.json").read_text())
    errors = report["default"]["given"]["test people"]
    assert errors["renders"] == 4
    assert errors["failed"] == 0
    # Landmarks without errors, scores that are true: what is left is what the priors cost.
    assert 0.0 < errors["all"]["true_points_percent"] < 3.0
    assert 0.0 < errors["all"]["neutral_scaled_mm"] < 2.5
    rows = report["weights"]["omega_i"]["given"]
    assert [row["value"] for row in rows] == sorted(row["value"] for row in rows)
    # A dearer identity, and the fit stays nearer to the shape that was given.
    assert rows[0]["all"]["correction_p95_mm"] < rows[-1]["all"]["correction_p95_mm"]
    assert "| network | given | fixed |" in result.stdout
    for name in ("fit-weights-given", "fit-contour"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 800
