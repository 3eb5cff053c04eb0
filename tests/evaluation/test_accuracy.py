"""Evaluation subjects, and the summary of avatars beside baselines with its tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.evaluation._accuracy import SCAN, summarise, write_tables
from digitaltwin.evaluation._cases import (
    POSE_JITTER_DEG,
    TURN_DEG,
    VIEWS,
    choose_subjects,
    make_scan,
    make_subject,
    subject_scene,
    view_angles,
)
from digitaltwin.evaluation._protocol import PairErrors
from digitaltwin.evaluation._statistics import CorrespondenceErrors, correspondence_errors
from digitaltwin.fitting import FitConfig, fit, make_fitter
from digitaltwin.head import load_subjects
from digitaltwin.io._files import format_json
from digitaltwin.synthesis import SceneConfig
from digitaltwin.synthesis._pictures import oracle_detections


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


def test_subjects_turn_as_they_are_told():
    for number in range(6):
        (front, pitch, roll), (turned, *others), smiling = (view_angles(view, number, 0) for view in VIEWS)
        assert smiling == (front, pitch, roll)
        assert max(abs(front), abs(pitch), abs(roll)) <= POSE_JITTER_DEG
        assert abs(turned - front) == pytest.approx(TURN_DEG)
        assert others == [pitch, roll]


def test_subjects_are_in_millimetres(head):
    number = int(choose_subjects(load_subjects(), 1)[0])
    for subject in (make_subject(head, load_subjects(), number, 0, SceneConfig()), make_scan()):
        right, _, _, left, nose, *_ = subject.landmarks
        assert 80.0 < np.linalg.norm(left - right) < 105.0
        assert np.linalg.norm(subject.vertices - nose, axis=1).min() < 3.0
        assert subject.group in head.group_names


def test_a_fit_of_true_landmarks_is_nearer_than_the_mean_head(head):
    """With the focal length and a neutral face known: the last step of the error ablation."""
    subjects = load_subjects()
    subject = int(choose_subjects(subjects, 1)[0])
    scene = oracle_detections(head, subject_scene(head, subjects, subject, 0, "front", SceneConfig(residual_mm=0.0)))
    assert not scene.expression.any()
    fitter = make_fitter(head, FitConfig(expression_deviation=0.02, sliding_contour=False))
    given = (jnp.asarray(scene.landmarks_px), tuple(int(side) for side in scene.image_size))
    options = {"scores": jnp.asarray(scene.detected_expression), "focal_px": jnp.asarray(scene.camera.focal_px)}
    found = fit(fitter, fitter.mean, *given, **options).neutral
    errors, mean = (
        jax.jit(correspondence_errors)(shape, jnp.asarray(scene.neutral), head.regions.face)
        for shape in (found, head.mean)
    )
    assert float(errors.rms_scaled) < 0.7 * float(mean.rms_scaled)


def errors(armse):
    return PairErrors(*np.full((len(PairErrors._fields), 1), armse))


def test_tables_name_what_was_refused_and_keep_the_scan_apart():
    names = ("front", "mean", "group", "training")
    same = CorrespondenceErrors(1.0, 1.0, 1.0, 1.0, 1.0)
    correspondences = {"a": dict.fromkeys(names, same), "b": dict.fromkeys(names[1:], same)}
    people = {
        "a": {"front": errors(1.0), "mean": errors(3.0), "group": errors(2.0), "training": errors(1.5)},
        "b": {"mean": errors(4.0), "group": errors(2.0), "training": errors(1.5)},
        SCAN: dict.fromkeys(names, errors(7.0)),
    }
    scores, refused = {"rigid": people, "similarity": people}, {"b-front": "image: shows no face."}
    ablation = {"front": {"the fit again": [same, same._replace(rms=3.0)]}}
    summary = summarise(scores, correspondences, [95.0], ["front"], ablation, refused, {"front to turned": [0.3, 0.5]})
    text = write_tables(summary)
    assert "| avatar, from the front | 1 | 1.00 |" in text
    assert "| mean head | 2 | 3.50 ± 0.98 |" in text
    assert "| avatar, from the front against the head's mean of the group | 1.00 (1 of 1) |" in text
    assert "| avatar, from the front | 7.00 | 7.00 | 7.00 |" in text
    assert "| the fit again | front | 2.00 ± 1.96 |" in text
    assert "Refused: b-front: image: shows no face." in text
    assert "Error ablation" not in write_tables(summarise(scores, correspondences, [95.0], ["front"], {}, {}, {}))
    assert format_json(summary).count("\n") < 100
