"""Scenes: who is shown and how, and the folder they are kept in."""

import types

import jax
import numpy as np
import pytest

from digitaltwin.head import load_subjects
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.synthesis import SceneConfig, _scenes, make_scenes
from digitaltwin.synthesis._drawing import NEUTRAL_SHARE, draw_expression, draw_scene, draw_subjects
from digitaltwin.synthesis._pictures import oracle_detections
from digitaltwin.synthesis._scene import YAW_BINS_DEG
from digitaltwin.types import InputError


def test_groups_come_evenly_and_no_subject_is_both_tuning_and_test():
    subjects = load_subjects()
    config = SceneConfig(count=120)
    chosen = draw_subjects(subjects, config)
    test = np.asarray(subjects.test)[chosen]
    np.testing.assert_array_equal(test, np.arange(120) % 2 == 1)
    for half in (chosen[test], chosen[~test]):
        assert (np.bincount(np.asarray(subjects.group)[half], minlength=6) == 10).all()
    assert len(np.unique(chosen[test])) == 30
    np.testing.assert_array_equal(chosen[:50], draw_subjects(subjects, SceneConfig(count=50)))


def test_scenes_show_the_face_turned_as_they_say(head, scenes):
    for scene in scenes:
        nose = np.asarray(scene.camera.rotation)[:, 2]
        assert np.sign(nose[0]) == np.sign(scene.angles_deg[0])
        seen = oracle_detections(head, scene).landmarks_px
        assert ((seen > 0) & (seen < scene.image_size[::-1])).all()
    yaws = np.abs([scene.angles_deg[0] for scene in scenes])
    for number, yaw in enumerate(yaws):
        low, high = YAW_BINS_DEG[number // 2 % 4], YAW_BINS_DEG[number // 2 % 4 + 1]
        assert low <= yaw <= high


def test_expressions_are_few_units_within_bounds(head):
    rng = np.random.default_rng(0)
    drawn = np.array([draw_expression(head.expression_names, rng) for _ in range(400)])
    used = (drawn > 0).sum(1)
    assert np.mean(used == 0) == pytest.approx(NEUTRAL_SHARE, abs=0.06)
    assert used.max() <= 8
    assert drawn[drawn > 0].min() >= 0.3 - 1e-6
    assert drawn.max() <= 0.9 + 1e-6


def test_renders_of_other_settings_are_refused(head, folder):
    with pytest.raises(InputError, match="seed"):
        make_scenes(head, folder, SceneConfig(count=8, residual_mm=0.0, seed=1))


def test_what_is_given_leaves_what_is_drawn_after_it_as_it_was(head, config, scenes):
    rest = np.zeros(len(head.expression_names), np.float32)
    subject = int(scenes[1].subject)
    given = draw_scene(head, load_subjects(), subject, 1, config, angles_deg=(3.0, 2.0, 1.0), expression=rest)
    np.testing.assert_array_equal(given.image_size, scenes[1].image_size)
    np.testing.assert_array_equal(given.camera.focal_px, scenes[1].camera.focal_px)
    np.testing.assert_array_equal(given.neutral, scenes[1].neutral)
    np.testing.assert_allclose(given.vertices, given.neutral, atol=1e-4)


def test_a_folder_gives_back_the_scenes_it_was_given(head, folder, config, scenes):
    found = make_scenes(head, folder, config)
    for stacked, each in zip(
        jax.tree.leaves(found), zip(*(jax.tree.leaves(oracle_detections(head, s)) for s in scenes))
    ):
        np.testing.assert_array_equal(stacked, np.stack(each))


def test_files_with_the_former_names_are_read(head, folder, config, tmp_path):
    former = {"residual_mm": "remainder_mm", "rigid_motion_free": "still", "detected_expression": "scores"}
    for path in sorted(folder.glob("*.npz")):
        arrays, metadata = load_arrays(path)
        arrays = {former.get(name, name): value for name, value in arrays.items()}
        save_arrays(tmp_path / path.name, arrays, {former.get(name, name): value for name, value in metadata.items()})
    for new, old in zip(*(jax.tree.leaves(make_scenes(head, each, config)) for each in (folder, tmp_path))):
        np.testing.assert_array_equal(new, old)


def test_settings_that_cannot_be_drawn_are_refused():
    with pytest.raises(InputError, match="residual_mm"):
        SceneConfig(residual_mm=-1.0)


def test_a_damaged_file_is_made_anew_and_the_others_are_kept(head, folder, config, tmp_path, monkeypatch):
    for path in folder.glob("*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "render-002.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    monkeypatch.setattr(
        _scenes, "SubjectAppearance", lambda *_: types.SimpleNamespace(textures=lambda *_: (None, None))
    )
    monkeypatch.setattr(_scenes, "render_scene", lambda *_: np.full((8, 8, 3), 0.5, np.float32))
    monkeypatch.setattr(_scenes, "detect_scene", lambda scene, _: oracle_detections(head, scene))
    for new, old in zip(*(jax.tree.leaves(make_scenes(head, each, config)) for each in (tmp_path, folder))):
        np.testing.assert_array_equal(new, old)
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz", ".png"}
