"""The subjects' command: what it prints and writes, its exit codes; and the calibration that made the subjects."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from digitaltwin.head import Measurements, load_subjects, measure, neutral_shape, published
from experiments.build_assets.subjects import calibrate, credible, measure_all

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_command_prints_the_table_and_writes_sheet_and_numbers(tmp_path):
    result = run("-m", "experiments.subjects", f"--out={tmp_path / 'new'}", "--quick")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"subjects.png", "calipers.png", "subjects.json"}
    assert "| all | 482 | 30 |" in result.stdout
    assert result.stdout.count("| pass |") == 2 * len(Measurements._fields)
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


@pytest.fixture(scope="module")
def strangers(head):
    """People of the head's own normal distribution about the mean of a group that they are not yet calibrated to."""
    rng = np.random.default_rng(3)
    spread = rng.normal(size=(160, 100)) * np.asarray(head.identity_deviation)
    return np.asarray(head.group_identity[4], np.float64) + spread


@pytest.fixture(scope="module")
def calibrated(head, strangers):
    return calibrate(head, strangers, "male-asian")


def test_calibrated_people_have_the_published_moments(head, calibrated):
    measured = measure_all(head, calibrated)
    rows = [published(name, "male-asian") for name in Measurements._fields]
    np.testing.assert_allclose(measured.mean(0), [row.mean_mm for row in rows], atol=0.15)
    np.testing.assert_allclose(measured.std(0, ddof=1), [row.std_mm for row in rows], rtol=0.05)


def test_calibration_keeps_order_symmetry_and_what_is_right_already(head, strangers, calibrated):
    before, after = measure_all(head, strangers), measure_all(head, calibrated)
    for column in range(before.shape[1]):
        assert np.corrcoef(before[:, column], after[:, column])[0, 1] > 0.99
    mirrored = np.asarray(head.identity)[:, np.asarray(head.mirror)] * np.array([-1, 1, 1], np.float32)
    odd = np.einsum("ivx,ivx->i", np.asarray(head.identity), mirrored) < 0
    assert 10 < odd.sum() < 90
    np.testing.assert_array_equal(calibrated[:, odd], strangers[:, odd])
    again = calibrate(head, calibrated, "male-asian")
    assert np.abs(again - calibrated).max() < 0.05 * np.abs(calibrated - strangers).max()


def test_calibration_changes_as_little_as_it_can(head, strangers, calibrated):
    """Against autodiff: the change is of the form C J' a, so C^-1-orthogonal to all that leaves the measures alone."""
    jacobian = jax.jacrev(lambda identity: jnp.stack(measure(head, neutral_shape(head, identity))))
    at_mean = np.asarray(jacobian(jnp.asarray(strangers.mean(0), jnp.float32)), np.float64)
    span = np.cov(strangers.T) @ at_mean.T
    change = calibrated - strangers
    even = np.abs(change).max(0) > 0
    fitted = span[even] @ np.linalg.lstsq(span[even], change[:, even].T, rcond=None)[0]
    # Widths are not quite linear: another vertex may become the widest.
    assert np.linalg.norm(fitted.T - change[:, even]) < 0.2 * np.linalg.norm(change)
    random = np.random.default_rng(0).normal(size=(even.sum(), span.shape[1]))
    unrelated = random @ np.linalg.lstsq(random, change[:, even].T, rcond=None)[0]
    assert np.linalg.norm(unrelated.T - change[:, even]) > 0.8 * np.linalg.norm(change)


def test_credible_refuses_who_is_far_off(head):
    identity = np.asarray(load_subjects().identity)
    assert credible(head, identity).all()
    assert not credible(head, 2 * identity).any()
    spike = np.zeros((1, 100))
    spike[0, 50] = 5 * float(head.identity_deviation[50])
    assert not credible(head, spike)[0]
