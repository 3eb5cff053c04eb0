"""The subjects that ship: as many as Table 1 asks for, of adult measurements, each with a fitting skin; their file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from digitaltwin.geometry import procrustes_alignment
from digitaltwin.head import _file, load_head, load_subjects, neutral_shape, select_subjects
from digitaltwin.head._anthropometry import Measurements, measure, published, published_mixture
from digitaltwin.head._calibration import MEAN_TOLERANCE
from digitaltwin.head._population import (
    DISTANCE_BOUND,
    ETHNICITIES,
    GENDERS,
    TABLE_1,
    distance,
    draw_identities,
    save_subjects,
    within_groups,
)
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError


@pytest.fixture(scope="module")
def subjects():
    return load_subjects()


@pytest.fixture(scope="module")
def shapes(head, subjects):
    return np.asarray(jax.jit(jax.vmap(lambda identity: neutral_shape(head, identity)))(subjects.identity))


@pytest.fixture(scope="module")
def measured(head, shapes):
    return jax.jit(jax.vmap(lambda shape: measure(head, shape)))(jnp.asarray(shapes))


def skin_words(subjects):
    return [subjects.skin_names[k].split("-") for k in np.asarray(subjects.skin)]


# Who they are


def test_there_are_as_many_of_each_group_as_table_1_says(head, subjects):
    assert subjects.group_names == head.group_names
    assert sum(train for train, _ in TABLE_1.values()) == 482
    assert sum(test for _, test in TABLE_1.values()) == 30
    for number, name in enumerate(subjects.group_names):
        mine = np.asarray(subjects.group) == number
        test = np.asarray(subjects.test)
        assert ((mine & ~test).sum(), (mine & test).sum()) == TABLE_1[name]


def test_gender_and_ethnicity_are_those_of_the_group(subjects):
    for number, group in enumerate(np.asarray(subjects.group)):
        pair = GENDERS[int(subjects.gender[number])], ETHNICITIES[int(subjects.ethnicity[number])]
        assert "-".join(pair) == subjects.group_names[group]


def test_they_are_adults_of_all_ages(subjects):
    age = np.asarray(subjects.age_years)
    assert age.min() >= 18
    assert age.max() <= 80
    training = age[~np.asarray(subjects.test)]
    assert np.quantile(training, 0.1) < 25
    assert np.quantile(training, 0.9) > 50
    assert 30 < training.mean() < 45


def test_nobody_is_there_twice(subjects):
    identity = np.asarray(subjects.identity)
    apart = np.linalg.norm(identity[:, None] - identity[None], axis=2) + 1e6 * np.eye(len(identity))
    assert apart.min() / np.sqrt(2699) > 1.0  # mm, root mean square over the vertices


# Their shapes


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize("name", Measurements._fields)
def test_training_people_have_published_measurements(subjects, measured, gender, name):
    mine = (np.asarray(subjects.gender) == GENDERS.index(gender)) & ~np.asarray(subjects.test)
    values = np.asarray(getattr(measured, name))[mine]
    counts = {group: train for group, (train, _) in TABLE_1.items() if group.startswith(f"{gender}-")}
    mean, deviation = published_mixture(name, counts)
    assert values.mean() == pytest.approx(mean, rel=0.05)
    assert 1 / 1.5 < values.std() / deviation < 1.5
    # Of the survey as a whole, too, whose mixture is another.
    assert values.mean() == pytest.approx(published(name, gender).mean_mm, rel=0.05)


@pytest.mark.parametrize("group", TABLE_1)
def test_each_group_has_its_own_measurements(subjects, measured, group):
    mine = np.asarray(subjects.group) == list(TABLE_1).index(group)
    for name in Measurements._fields:
        values, row = np.asarray(getattr(measured, name))[mine], published(name, group)
        error = row.std_mm / np.sqrt(mine.sum())
        assert abs(values.mean() - row.mean_mm) < 3 * error + (MEAN_TOLERANCE + 0.01) * row.mean_mm


def test_nobody_is_a_caricature(head, subjects):
    distances = distance(head, subjects.identity)
    assert distances.max() < DISTANCE_BOUND
    assert 0.9 < np.median(distances) < 1.2
    assert np.abs(np.asarray(subjects.identity) / np.asarray(head.identity_std)).max() < 4.1


def test_faces_are_nearly_symmetric_and_not_quite(head, shapes):
    mirrored = shapes[:, np.asarray(head.mirror)] * [-1, 1, 1]
    lopsided = np.sqrt(np.mean(np.sum(((mirrored - shapes) / 2) ** 2, axis=2), axis=1))
    assert lopsided.min() > 0.1
    assert lopsided.max() < 2.6
    mean = shapes.mean(0)
    assert np.abs(mean[np.asarray(head.mirror)] * [-1, 1, 1] - mean).max() < 0.5


def test_faces_are_aligned(head, shapes):
    face = np.asarray(head.regions.face)
    mean = jnp.asarray(shapes.mean(0)[face])
    motions = jax.vmap(lambda points: procrustes_alignment(points, mean))(jnp.asarray(shapes[:, face]))
    turned = np.degrees(np.arccos(np.clip((np.trace(np.asarray(motions.rotation), axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert turned.max() < 0.7
    assert np.linalg.norm(shapes[:, face].mean(1) - shapes[:, face].mean((0, 1)), axis=1).max() < 0.7


def test_a_group_is_told_by_its_shape(subjects):
    """The held-out people are nearest to their own group's mean, in the metric of the spread inside groups."""
    identity, group, test = (np.asarray(x) for x in (subjects.identity, subjects.group, subjects.test))
    means = np.stack([identity[(group == number) & ~test].mean(0) for number in range(6)])
    inside = identity[~test] - means[group[~test]]
    covariance = inside.T @ inside / len(inside)
    count = len(covariance)
    precision = np.linalg.inv(covariance + 0.01 * np.trace(covariance) / count * np.eye(count))
    offset = identity[test][:, None] - means[None]
    nearest = np.einsum("ngi,ij,ngj->ng", offset, precision, offset).argmin(1)
    assert (nearest == group[test]).mean() > 0.75  # people of a group vary more than groups do


def test_shape_follows_age(head, subjects):
    """Along the direction in which the head's people grow older, by the metric of the spread inside groups."""
    mine = (np.asarray(subjects.group) == 4) & ~np.asarray(subjects.test)
    age_direction = np.array(load_arrays(asset_path("head.npz"))[1]["figures"]["identity_of_age"])
    old = np.asarray(subjects.identity)[mine] @ np.linalg.solve(within_groups(head), age_direction)
    assert np.corrcoef(old, np.asarray(subjects.age_years)[mine])[0, 1] > 0.25


# The population they are drawn from


def test_groups_together_have_the_heads_standard_deviations(head):
    """People drawn from equally weighted groups: mean 0, uncorrelated, of the head's deviations."""
    drawn = draw_identities(head, np.random.default_rng(0), np.arange(12_000) % 6) / np.asarray(head.identity_std)
    assert np.abs(drawn.mean(0)).max() < 0.05
    covariance = np.cov(drawn.T)
    assert np.abs(np.diag(covariance) - 1.0).max() < 0.08
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.06


def test_within_a_group_people_vary_less_but_in_every_direction(head):
    std = np.asarray(head.identity_std, np.float64)
    shares = np.linalg.eigvalsh(within_groups(head) / np.outer(std, std))
    assert shares.min() > 0.2, "no direction is all the groups'"
    assert shares.max() == pytest.approx(1.0, abs=1e-6)


# Their skins


def test_a_skin_is_of_its_wearers_group_and_age(subjects):
    for words, group, age, test in zip(skin_words(subjects), subjects.group, subjects.age_years, subjects.test):
        assert "-".join(words[:2]) == subjects.group_names[int(group)]
        assert words[2] == ("middleage" if test else "old" if age >= 52 else "young")


def test_no_test_person_wears_a_skin_of_the_training(subjects):
    skin, test = np.asarray(subjects.skin), np.asarray(subjects.test)
    held_out, worn = set(skin[test].tolist()), set(skin[~test].tolist())
    assert len(held_out) == 6
    assert not held_out & worn

    def picture(number):
        with Image.open(asset_path(f"skins/{subjects.skin_names[number]}.jpg")) as image:
            return np.asarray(image.convert("L").resize((64, 64)), np.float64)[:40]  # the skin, without the mouth

    # Nor the same picture under another name, as the second young Caucasian man's is the Asian's.
    for one in held_out:
        assert min(np.abs(picture(one) - picture(other)).mean() for other in worn) > 2.0


def test_every_skin_variant_is_another(subjects):
    variants = np.c_[np.asarray(subjects.skin), np.asarray(subjects.tone)]
    assert len(np.unique(variants, axis=0)) == len(variants)
    assert np.abs(np.asarray(subjects.tone)).max() <= 0.21
    assert np.asarray(subjects.tone).std(0) == pytest.approx([0.1, 0.06], rel=0.2)
    assert ((np.asarray(subjects.iris) > 0) & (np.asarray(subjects.iris) < 0.7)).all()


# Selection and the file


def test_select_takes_masks_and_indices(subjects):
    test = select_subjects(subjects, subjects.test)
    again = select_subjects(subjects, jnp.flatnonzero(subjects.test))
    for ours, theirs in zip(jax.tree.leaves(test), jax.tree.leaves(again)):
        np.testing.assert_array_equal(ours, theirs)
    assert bool(test.test.all())
    assert test.group_names == subjects.group_names
    assert jax.jit(lambda people: people)(test).skin_names == subjects.skin_names


def test_the_shipped_file_is_what_its_own_contents_are_written_as(tmp_path, subjects):
    _, metadata = load_arrays(asset_path("subjects.npz"))
    assert metadata["licence"] == "CC0-1.0"
    save_subjects(subjects, tmp_path / "subjects.npz", metadata=metadata)
    assert (tmp_path / "subjects.npz").read_bytes() == asset_path("subjects.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"skin": np.full(512, 20, np.uint8)}, r"skin points outside \[0, 20\)"),
        ({"age_years": np.zeros(3, np.float32)}, "age_years tells of 3 subjects"),
        ({"tone": np.full((512, 2), np.nan, np.float32)}, "tone is not finite"),
        ({"group": np.zeros(512, np.float32)}, "group has shape"),
        ({"iris": np.zeros((512, 4), np.float32)}, "iris has shape"),
        ({"identity": np.zeros(512, np.float32)}, "identity has shape"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, change, problem):
    arrays, metadata = load_arrays(asset_path("subjects.npz"))
    save_arrays(tmp_path / "subjects.npz", arrays | change, metadata)
    with pytest.raises(InputError, match=problem):
        load_subjects(tmp_path / "subjects.npz")


def test_files_that_hold_no_subjects_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no subjects"):
        load_subjects(asset_path("networks/landmark_table.npz"))
    with pytest.raises(InputError, match="cannot be read"):
        load_subjects(tmp_path / "absent.npz")


@pytest.mark.parametrize("load", [load_head, load_subjects])
def test_a_damaged_shipped_file_is_no_fault_of_the_input(tmp_path, monkeypatch, load):
    (tmp_path / "damaged.npz").write_bytes(b"half a file")
    monkeypatch.setattr(_file, "asset_path", lambda name: tmp_path / "damaged.npz")
    with pytest.raises(RuntimeError, match="is damaged .*; install digitaltwin anew"):
        load()
