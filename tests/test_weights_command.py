"""``python -m experiments.weights`` and its renders with known truth."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from digitaltwin.fitting import FitConfig, fit, make_fitter
from digitaltwin.geometry import project
from digitaltwin.head import anchor_points, landmark_points, load_subjects
from digitaltwin.head.markup import CONTOUR
from digitaltwin.synthesis._scenes import (
    NEUTRAL_SHARE,
    YAW_BINS_DEG,
    Truth,
    TruthConfig,
    cast,
    draw_expression,
    draw_remainder,
    draw_scene,
    make_truth,
    outline_landmarks,
    save_render,
    yaw_bin,
)
from experiments.weights import IN_ARRAYS

ROOT = Path(__file__).parents[1]
CONFIG = TruthConfig(count=8, remainder_mm=0.0)


def seen_perfectly(head, scene: Truth) -> Truth:
    """A scene as networks without errors would read it."""
    camera = jax.tree.map(jnp.asarray, scene.camera)
    vertices = jnp.asarray(scene.vertices)
    mesh = np.zeros((478, 2), np.float32)
    mesh[:468] = project(camera, anchor_points(head.mesh_points, head.faces, vertices))
    landmarks = np.asarray(project(camera, landmark_points(head, vertices)))
    return scene._replace(found=np.array(True), landmarks_px=landmarks, mesh_px=mesh, scores=scene.expression)


@pytest.fixture(scope="module")
def scenes(head):
    subjects = load_subjects()
    people = cast(subjects, CONFIG)
    return [draw_scene(head, subjects, int(people[n]), n, CONFIG) for n in range(CONFIG.count)]


@pytest.fixture(scope="module")
def renders(head, scenes, tmp_path_factory):
    """A folder of renders that were never rendered."""
    folder = tmp_path_factory.mktemp("renders")
    for number, scene in enumerate(scenes):
        save_render(folder / f"render-{number:03d}.npz", seen_perfectly(head, scene), number, CONFIG)
    return folder


def test_people_turn_evenly_and_nobody_is_both_tuning_and_test():
    subjects = load_subjects()
    config = TruthConfig(count=120)
    people = cast(subjects, config)
    test = np.asarray(subjects.test)[people]
    np.testing.assert_array_equal(test, np.arange(120) % 2 == 1)
    for half in (people[test], people[~test]):
        assert (np.bincount(np.asarray(subjects.group)[half], minlength=6) == 10).all()
    assert len(np.unique(people[test])) == 30
    np.testing.assert_array_equal(people[:50], cast(subjects, TruthConfig(count=50)))


def test_scenes_show_the_face_turned_as_they_say(head, scenes):
    for scene in scenes:
        nose = np.asarray(scene.camera.rotation)[:, 2]
        assert np.sign(nose[0]) == np.sign(scene.angles_deg[0])
        seen = seen_perfectly(head, scene).landmarks_px
        assert ((seen > 0) & (seen < scene.image_size[::-1])).all()
    yaws = np.abs([scene.angles_deg[0] for scene in scenes])
    for number, yaw in enumerate(yaws):
        low, high = YAW_BINS_DEG[number // 2 % 4], YAW_BINS_DEG[number // 2 % 4 + 1]
        assert low <= yaw <= high


def test_the_remainder_is_of_its_size_and_outside_the_basis(head):
    field = draw_remainder(head, np.random.default_rng(0), 1.5)
    face = np.asarray(head.regions.face)
    assert np.sqrt((field[face] ** 2).sum(1).mean()) == pytest.approx(1.5)
    along = np.einsum("ivx,vx->i", np.asarray(head.identity, np.float64), field)
    assert np.abs(along).max() < 1e-6 * np.linalg.norm(field)


def test_a_still_remainder_neither_moves_nor_turns_the_face(head):
    field = draw_remainder(head, np.random.default_rng(0), 1.5, still=True)
    face, mean = np.asarray(head.regions.face), np.asarray(head.mean, np.float64)
    assert np.sqrt((field[face] ** 2).sum(1).mean()) == pytest.approx(1.5)
    along = np.einsum("ivx,vx->i", np.asarray(head.identity, np.float64), field)
    assert np.abs(along).max() < 1e-6 * np.linalg.norm(field)
    arms = mean[face] - mean[face].mean(axis=0)
    assert np.abs(field[face].mean(axis=0)).max() < 1e-6
    assert np.abs(np.cross(arms, field[face]).mean(axis=0)).max() < 1e-5
    border = np.asarray(head.faces)[face[np.asarray(head.faces)].sum(axis=1) == 1]
    assert np.linalg.norm(field[border] - field[border[:, [1, 2, 0]]], axis=2).max() < 3.0, "torn at the face's border"


def test_expressions_are_few_units_within_bounds(head):
    rng = np.random.default_rng(0)
    drawn = np.array([draw_expression(head.expression_names, rng) for _ in range(400)])
    used = (drawn > 0).sum(1)
    assert np.mean(used == 0) == pytest.approx(NEUTRAL_SHARE, abs=0.06)
    assert used.max() <= 8
    assert drawn[drawn > 0].min() >= 0.3 - 1e-6
    assert drawn.max() <= 0.9 + 1e-6


def test_outline_moves_hidden_contour_points_outwards_only(head, renders):
    truth = make_truth(head, renders, CONFIG)
    moved = outline_landmarks(head, truth, noise_percent=0.0, seed=0) - truth.landmarks_px
    np.testing.assert_array_equal(np.delete(moved, CONTOUR, axis=1), 0.0)
    far = np.where(truth.angles_deg[:, :1] > 0, CONTOUR[12:], CONTOUR[4::-1])  # beside the cheek, towards the ear
    outwards = np.sign(truth.angles_deg[:, :1]) * np.take_along_axis(moved[..., 0], far, axis=1)
    turned = yaw_bin(truth) >= 2
    assert (outwards[turned] > -1.0).all()
    assert np.median(outwards[turned]) > 3.0
    near = np.where(truth.angles_deg[:, :1] > 0, CONTOUR[4:0:-1], CONTOUR[12:16])
    assert np.abs(np.take_along_axis(moved, near[..., None], axis=1)[turned]).max() < 1e-3


def test_renders_of_other_settings_are_refused(head, renders):
    with pytest.raises(ValueError, match="seed"):
        make_truth(head, renders, TruthConfig(count=8, remainder_mm=0.0, seed=1))


def test_weights_in_arrays_are_not_read_by_the_fit_itself(head, scenes):
    """Else a sweep over them would move them half."""
    seen = seen_perfectly(head, scenes[0])

    def program(fitter):
        return str(jax.make_jaxpr(fit)(fitter, fitter.mean, seen.landmarks_px, (640, 512), scores=seen.scores))

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
