"""The subjects' command: what it prints and writes, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitaltwin.head._anthropometry import Measurements

DEPTHS = ("nose protrusion", "inner eye distance", "brow depth", "chin depth")

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_command_prints_the_table_and_writes_sheet_and_numbers(tmp_path):
    result = run("-m", "experiments.subjects", f"--out={tmp_path / 'new'}", "--quick")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "subjects.png",
        "calipers.png",
        "subjects.json",
        "people.json",
    }
    assert "| all | 482 | 30 |" in result.stdout
    assert result.stdout.count("| pass |") == 2 * len(Measurements._fields) + 3 + len(DEPTHS)
    assert "FAIL" not in result.stdout
    for source in ("NIOSH", "ANSUR II"):
        assert source in result.stdout

    report = json.loads((tmp_path / "new" / "subjects.json").read_text())
    assert report["counts"]["male-asian"] == [178, 5]
    for row in report["measurements"]:
        assert row["passes"] == (abs(row["off_percent"]) < 5 and 1 / 1.5 < row["ratio"] < 1.5)
        assert row["off_percent"] == pytest.approx(100 * (row["mean_mm"] / row["published_mean_mm"] - 1))
    with Image.open(tmp_path / "new" / "subjects.png") as sheet:
        pixels = np.asarray(sheet, np.float64) / 255
    people = np.split(pixels, 6, axis=1)
    background = pixels[0, 0]
    for person in people:
        seen = (np.abs(person - background) > 0.02).any(2).mean()
        assert 0.25 < seen < 0.8
    brightness = [np.median(person[40:60, 30:65]) for person in people]
    assert max(brightness[0], brightness[3]) < min(brightness[1], brightness[2], brightness[4], brightness[5])


def test_command_refuses_a_folder_it_cannot_write(tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = run("-m", "experiments.subjects", f"--out={tmp_path / 'taken'}", "--quick")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "taken" in result.stderr
