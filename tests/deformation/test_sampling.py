"""Laws of the sampling: polar coefficients, groups, quotas, reproducibility, and the two ablations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.deformation import PolarConfig
from digitaltwin.deformation._sampling import (
    Mixture,
    assign_groups,
    group_components,
    group_shares,
    mix,
    polar_coefficients,
    polar_mixture,
    sample_components,
    single_subject,
)
from digitaltwin.types import InputError

NAMES = tuple(
    f"{gender}-{ethnicity}" for gender in ("female", "male") for ethnicity in ("african", "asian", "caucasian")
)
GROUPS = jnp.asarray(np.repeat(np.arange(6), [5, 164, 45, 8, 178, 82]))
"""Those of the paper's 482 subjects."""
KEYS = jax.random.split(jax.random.key(0), 4000)


@pytest.fixture(scope="module")
def coefficients():
    return np.asarray(jax.vmap(polar_coefficients)(KEYS))


def test_coefficients_are_polar_coordinates_in_the_positive_orthant(coefficients):
    radius = np.linalg.norm(coefficients, axis=1)
    assert coefficients.shape == (4000, 5)
    assert (coefficients >= 0).all()
    assert radius.min() >= 0.6 - 1e-6
    assert radius.max() <= 1.3 + 1e-6
    # r and the angles, recovered, are uniform: mean and variance within four standard errors.
    angles = [np.arctan2(np.linalg.norm(coefficients[:, k + 1 :], axis=1), coefficients[:, k]) for k in range(4)]
    for value, low, high in [(radius, 0.6, 1.3), *((angle, 0, np.pi / 2) for angle in angles)]:
        unit = (value - low) / (high - low)
        assert abs(unit.mean() - 1 / 2) < 4 / np.sqrt(12 * 4000)
        assert abs(unit.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 4000)


def test_the_sum_of_the_coefficients_exaggerates_as_documented(coefficients):
    assert abs(coefficients.sum(axis=1).mean() - 1.55) < 0.05


def test_other_ranges():
    config = PolarConfig(subjects=3, radius=(2.0, 2.0), angle_rad=(0.0, 0.0))
    np.testing.assert_allclose(polar_coefficients(KEYS[0], config=config), [2, 0, 0], atol=1e-7)


@pytest.mark.parametrize("group", range(6))
def test_subjects_of_a_mixture_are_different_members_of_its_group(group):
    mixtures = jax.vmap(polar_mixture, in_axes=(0, None, None))(KEYS[:500], jnp.asarray(group), GROUPS)
    subjects = np.asarray(mixtures.subjects)
    assert (np.asarray(GROUPS)[subjects] == group).all()
    assert all(len(set(chosen)) == 5 for chosen in subjects)
    members = int((GROUPS == group).sum())
    uses = np.bincount(subjects.ravel(), minlength=482)[np.asarray(GROUPS) == group]
    expected = 2500 / members  # of each member
    assert abs(uses - expected).max() < 5 * np.sqrt(expected) + 1e-9
    assert mixtures.coefficients.shape == (500, 5)


def test_excluded_subjects_are_never_chosen():
    groups = GROUPS.at[jnp.arange(0, 482, 2)].set(-1)
    keys = KEYS[:300]
    mixtures = jax.vmap(polar_mixture, in_axes=(0, None, None))(keys, jnp.asarray(1), groups)
    assert (np.asarray(mixtures.subjects) % 2 == 1).all()
    singles = jax.vmap(single_subject, in_axes=(0, None, None))(keys, jnp.asarray(1), groups)
    assert (np.asarray(singles.subjects) % 2 == 1).all()
    np.testing.assert_array_equal(singles.coefficients, 1.0)


def test_a_group_too_small_repeats_a_member_and_stays_unmixed():
    mixture = polar_mixture(KEYS[0], jnp.asarray(0), GROUPS, config=PolarConfig(subjects=9))
    assert sorted(set(np.asarray(mixture.subjects).tolist())) == [0, 1, 2, 3, 4]
    assert 0.6 <= np.linalg.norm(mixture.coefficients) <= 1.3


def test_a_mixture_of_more_subjects_than_there_are_is_refused():
    with pytest.raises(ValueError, match="482"):
        polar_mixture(KEYS[0], jnp.asarray(0), GROUPS, config=PolarConfig(subjects=483))


def test_mixing_is_linear_about_its_origin():
    rng = np.random.default_rng(0)
    features, origin = rng.normal(size=(7, 11, 9)), rng.normal(size=(11, 9))
    mixture = Mixture(jnp.array([4, 0, 6]), jnp.array([0.2, 0.7, 0.4]))
    expected = 0.2 * features[4] + 0.7 * features[0] + 0.4 * features[6]
    device = jnp.asarray(features, jnp.float32)
    np.testing.assert_allclose(mix(mixture, device), expected, atol=1e-5)
    about = mix(mixture, device, origin=jnp.asarray(origin, jnp.float32))
    np.testing.assert_allclose(about, expected - 0.3 * origin, atol=1e-5)
    # A subject alone is itself, whatever the origin.
    alone = mix(Mixture(jnp.array([4]), jnp.ones(1)), device, origin=jnp.asarray(origin, jnp.float32))
    np.testing.assert_allclose(alone, features[4], atol=1e-6)


def test_quotas_are_met_exactly():
    shares = group_shares(NAMES)
    groups = np.asarray(assign_groups(jax.random.key(1), shares, count=10_000))
    assert np.bincount(groups).tolist() == [250, 3250, 1500, 250, 3250, 1500]
    assert len(set(groups[:200])) == 6  # in random order
    assert np.array_equal(groups, assign_groups(jax.random.key(1), shares, count=10_000))


@pytest.mark.parametrize("count", [1, 7, 101])
def test_quotas_of_other_counts_are_as_near_as_whole_numbers_allow(count):
    shares = group_shares(NAMES)
    counts = np.bincount(assign_groups(jax.random.key(1), shares, count=count), minlength=6)
    assert counts.sum() == count
    assert np.abs(counts - shares * count).max() < 1


def test_the_same_key_gives_the_same_head():
    one, again, other = (polar_mixture(jax.random.key(seed), jnp.asarray(1), GROUPS) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.subjects, again.subjects)
    np.testing.assert_array_equal(one.coefficients, again.coefficients)
    assert not np.array_equal(one.coefficients, other.coefficients)


def test_categorised_pca_has_each_groups_mean_and_covariance():
    rng = np.random.default_rng(0)
    shapes = rng.normal(size=(40, 4, 3)) @ rng.normal(size=(3, 3)) + np.repeat([0, 50], 20)[:, None, None]
    groups = np.repeat([0, 1], 20)
    groups[[0, 20]] = -1
    components = group_components(shapes, groups, count=2, components=12)
    keys = jax.random.split(jax.random.key(5), 20_000)
    for group in (0, 1):
        drawn = np.asarray(jax.vmap(sample_components, in_axes=(0, None, None))(keys, jnp.asarray(group), components))
        members = shapes[groups == group].reshape(19, -1)
        np.testing.assert_allclose(drawn.reshape(20_000, -1).mean(0), members.mean(0), atol=0.1)
        expected = np.cov(members.T)
        np.testing.assert_allclose(np.cov(drawn.reshape(20_000, -1).T), expected, atol=0.05 * expected.max())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PolarConfig(subjects=0), "subjects"),
        (lambda: PolarConfig(radius=(1.3, 0.6)), "radius"),
        (lambda: assign_groups(KEYS[0], np.array([1.0, 1.0]), count=10), "sum to one"),
        (lambda: group_shares(("female-martian",)), "female-martian"),
        (lambda: group_components(np.zeros((3, 4, 3)), np.array([0, 2, 2]), count=3), "group 1"),
    ],
)
def test_wrong_settings_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_float64_features_are_mixed_in_float64():
    with jax.enable_x64(True):
        features = jnp.asarray(np.random.default_rng(0).normal(size=(482, 3, 9)))
        for dtype in (jnp.float32, jnp.float64):
            mixture = polar_mixture(jax.random.key(0), jnp.asarray(1), GROUPS)
            assert mix(mixture, features.astype(dtype)).dtype == dtype


def test_components_are_no_more_than_coordinates():
    components = group_components(np.random.default_rng(0).normal(size=(20, 2, 3)), np.zeros(20, int), count=1)
    assert (np.asarray(components.std[0]) > 0).sum() == 6


def test_small_groups_have_fewer_components():
    components = group_components(np.random.default_rng(0).normal(size=(8, 5, 3)), np.repeat([0, 1], [5, 3]), count=2)
    assert [(np.asarray(components.std[g]) > 0).sum() for g in (0, 1)] == [4, 2]
