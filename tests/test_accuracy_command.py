"""``python -m experiments.accuracy``, as its users call it, and the parts whose answers are known."""

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.evaluation import PairErrors
from digitaltwin.geometry import project
from digitaltwin.head import landmark_points, load_subjects
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.synthesis import SceneConfig
from experiments import causes
from experiments.causes import Seen
from experiments.gallery import measure
from experiments.likeness import (
    CROP_MM,
    CounterpartErrors,
    compare_counterparts,
    mean_and_margin,
    paired,
    write_causes,
    write_tables,
)
from experiments.sitters import (
    SCAN,
    TURN_DEG,
    UNSTEADY_DEG,
    VIEWS,
    choose_subjects,
    frame_subject,
    seat_scan,
    seat_subject,
    view_angles,
)


def run(*arguments):
    command = [sys.executable, "-m", "experiments.accuracy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_one_subject_from_the_front_and_the_folder_is_kept(tmp_path):
    # In this process, where other tests have compiled most of the chain; the command then continues the folder.
    out = make_folder(tmp_path / "accuracy")
    with ThreadPoolExecutor(1) as executor:
        config, crops_mm = SceneConfig(count=1, rigid_motion_free=True), (CROP_MM,)
        tables = measure(out, config, views=VIEWS[:1], crops_mm=crops_mm, only_subjects=True, executor=executor)
    name = f"subject-{choose_subjects(load_subjects(), 1)[0]}"
    for file in ("accuracy.md", "accuracy.csv", "accuracy.json", "accuracy.png", f"pictures/{name}-front.png"):
        assert (out / file).stat().st_size > 100, file
    assert (out / "accuracy.md").read_text() == tables
    with (out / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["prediction"], row["size"]) for row in rows} == {
        (prediction, size) for prediction in ("front", "mean", "group", "kin", "basis") for size in ("kept", "free")
    }
    armse = {(row["prediction"], row["size"]): float(row["armse_mm"]) for row in rows}
    assert armse["basis", "kept"] < min(armse["front", "kept"], armse["mean", "kept"]) < 6.0
    person = json.loads((out / "accuracy.json").read_text())["people"][name]
    assert person["counterparts"]["basis"]["rms"] == pytest.approx(SceneConfig.residual_mm, abs=0.05)
    assert person["avatars"]["front"]["truth"]["focal_px"] > 0.0

    # The same folder again: what is done is not done again.
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/**/*.*") if path.suffix != ".csv"}
    again = run("--quick", "--workers=1", f"--out={out}")
    assert again.returncode == 0, again.stderr
    assert again.stdout == tables + "\n"
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_subjects_are_held_out_ones_of_all_groups_in_turn():
    subjects = load_subjects()
    chosen = choose_subjects(subjects, 20)
    assert len(set(chosen.tolist())) == 20
    assert np.asarray(subjects.test)[chosen].all()
    counts = np.bincount(np.asarray(subjects.group)[chosen], minlength=6)
    assert counts.min() >= 3
    assert counts.max() <= 4
    np.testing.assert_array_equal(choose_subjects(subjects, 7), chosen[:7])
    everybody = choose_subjects(subjects, len(subjects.age_years))
    assert len(set(everybody.tolist())) == len(subjects.age_years)


def test_sitters_turn_as_they_are_told():
    for number in range(6):
        (front, pitch, roll), (turned, *others) = (view_angles(view, number, 0) for view in VIEWS)
        assert max(abs(front), abs(pitch), abs(roll)) <= UNSTEADY_DEG
        assert abs(turned - front) == pytest.approx(TURN_DEG)
        assert others == [pitch, roll]


def test_sitters_are_in_millimetres(head):
    subject = int(choose_subjects(load_subjects(), 1)[0])
    for sitter in (seat_subject(head, load_subjects(), subject, 0, SceneConfig()), seat_scan()):
        right, _, _, left, nose, *_ = sitter.landmarks
        assert 80.0 < np.linalg.norm(left - right) < 105.0
        assert np.linalg.norm(sitter.vertices - nose, axis=1).min() < 3.0
        assert sitter.group in head.group_names


def test_counterparts_are_aligned_before_they_are_compared():
    rng = np.random.default_rng(0)
    true = 100.0 * rng.normal(size=(50, 3))
    region = jnp.arange(50) < 40
    turn = Rotation.from_euler("xyz", [20.0, -100.0, 40.0], degrees=True).as_matrix()
    moved = (true + [5.0, 6.0, 7.0]) @ turn.T
    moved[45] += 1000.0  # not of the region
    same = CounterpartErrors(*map(float, compare_counterparts(jnp.float32(moved), jnp.float32(true), region)))
    np.testing.assert_allclose(same, [0.0, 0.0, 0.0, 0.0, 1.0], atol=1e-3)
    small = CounterpartErrors(*map(float, compare_counterparts(jnp.float32(0.8 * moved), jnp.float32(true), region)))
    assert small.scale == pytest.approx(1.25, rel=1e-4)
    assert small.rms_scaled < 1e-3
    centred = true[:40] - true[:40].mean(axis=0)
    assert small.rms == pytest.approx(0.2 * np.sqrt((centred**2).sum(axis=1).mean()), rel=1e-3)
    assert small.mean == pytest.approx(0.2 * np.linalg.norm(centred, axis=1).mean(), rel=1e-3)


def test_means_and_gains_of_people():
    mean, margin = mean_and_margin([1.0, 2.0, 3.0])
    assert (mean, margin) == (2.0, pytest.approx(1.96 / np.sqrt(3.0)))
    assert np.isnan(mean_and_margin([1.0])[1])
    gain, better, people = paired({"a": 3.0, "b": 2.0, "c": 9.0}, {"a": 1.0, "b": 2.5})
    assert gain[0] == pytest.approx(0.75)
    assert (better, people) == (1, 2), "who has no avatar has no gain"


def test_a_fit_of_true_landmarks_is_nearer_than_the_mean_head(head, monkeypatch):
    subjects = load_subjects()
    subject = int(choose_subjects(subjects, 1)[0])
    scene = frame_subject(head, subjects, subject, 0, "front", SceneConfig(residual_mm=0.0))
    assert not scene.expression.any()
    camera = jax.tree.map(jnp.asarray, scene.camera)
    true = np.asarray(project(camera, landmark_points(head, jnp.asarray(scene.vertices))))
    seen = Seen(true + 30.0, true, scene.scores, scene.image_size, scene.camera.focal_px, scene.neutral)
    monkeypatch.setattr(causes, "STEPS", causes.STEPS[-1:])
    (step,) = causes.STEPS
    (error,) = causes.fit_steps(head, [seen])[step.title]
    mean = CounterpartErrors(*map(float, compare_counterparts(head.mean, scene.neutral, head.regions.face)))
    assert error.rms_scaled < 0.7 * mean.rms_scaled
    assert step.title in write_causes({"front": {step.title: [error]}})
    assert write_causes({}) == ""


def errors(armse):
    return PairErrors(*np.full((len(PairErrors._fields), 1), armse))


def test_tables_name_what_was_refused_and_keep_the_scan_apart():
    names = ("front", "mean", "group", "kin")
    counterparts = {"a": dict.fromkeys(names, CounterpartErrors(1.0, 1.0, 1.0, 1.0, 1.0))}
    people = {
        "a": {"front": errors(1.0), "mean": errors(3.0), "group": errors(2.0), "kin": errors(1.5)},
        "b": {"mean": errors(4.0), "group": errors(2.0), "kin": errors(1.5)},
        SCAN: dict.fromkeys(names, errors(7.0)),
    }
    text = write_tables(
        {"kept": people, "free": people}, counterparts, [95.0], ["front"], {"b-front": "image: shows no face."}
    )
    assert "| avatar, from the front | 1 | 1.00 |" in text
    assert "| mean head | 2 | 3.50 ± 0.98 |" in text
    assert "| avatar, from the front against the head's mean of the group | 1.00 (1 of 1) |" in text
    assert "| avatar, from the front | 7.00 | 7.00 | 7.00 |" in text
    assert "Refused: b-front: image: shows no face." in text


def test_a_folder_of_other_settings_is_refused_in_one_line(tmp_path):
    write_json(tmp_path / "settings.json", {"seed": 5})
    found = run("--quick", f"--out={tmp_path}")
    assert found.returncode == 2
    assert "name another one" in found.stderr
    assert "Traceback" not in found.stderr
