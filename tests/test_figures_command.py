"""``python -m experiments.figures``: the table, the pictures of a bend and of the landmarks; its former names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_table_the_bend_and_the_landmarks(tmp_path):
    command = [sys.executable, "-m", "experiments.figures", "--quick", f"--out={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("| a tube"))
    mean, most, single, double = (float(cell.removesuffix(" mm ").strip()) for cell in row.split("|")[2:-1])
    assert 0.01 < mean < 0.2
    assert mean < most < 2.0
    assert single < 0.01
    assert double < 1e-6
    with Image.open(tmp_path / "deformation-bend.png") as picture:
        pixels = np.asarray(picture.convert("L"), float)
    # Two rows of a tube: half-way, blended features show at least as much of it as at the end, blended positions less.
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 5
    covered = [
        [(pixels[row * height + 30 : (row + 1) * height, k * width : (k + 1) * width] < 200).sum() for k in (2, 4)]
        for row in (0, 1)
    ]
    assert covered[0][0] > 0.9 * covered[0][1]
    assert covered[1][0] < 0.8 * covered[1][1]
    with Image.open(tmp_path / "landmarks.png") as picture:
        assert picture.size == (1800, 900)


@pytest.mark.parametrize(("former", "only"), [("pictures", "heads"), ("deformation", "deformation")])
def test_former_names_forward_with_a_warning(former, only):
    command = [sys.executable, "-m", f"experiments.{former}", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"python -m experiments.figures --only={only}" in result.stderr
    assert "--only" in result.stdout
