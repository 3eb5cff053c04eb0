"""New heads: laws of mixing, decoding and placing them; the test subjects stay out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.deformation import augment, encode, make_population, training_population
from digitaltwin.deformation._augmentation import closest_subject, mixed_head
from digitaltwin.deformation._sampling import Mixture
from digitaltwin.head import load_head, neutral_shape
from digitaltwin.types import InputError


@pytest.fixture(scope="module")
def shapes(head):
    rng = np.random.default_rng(0)
    identity = rng.normal(size=(40, len(head.identity_std))) * np.asarray(head.identity_std) * 0.8
    return jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, jnp.asarray(identity, jnp.float32))


GROUPS = np.array([0, 1, -1, 1] * 10)


@pytest.fixture(scope="module")
def population(head, shapes):
    return make_population(shapes, head.faces, jnp.asarray(GROUPS), aligned_on=head.regions.face)


def test_the_reference_is_the_mean_of_those_that_may_be_mixed(population, shapes):
    expected = np.asarray(shapes, np.float64)[GROUPS >= 0].mean(0)
    np.testing.assert_allclose(population.reference.vertices, expected, atol=1e-4)
    for subject in (0, 39):  # of the first portion and of the last
        feature = jax.jit(encode)(population.reference, shapes[subject])
        np.testing.assert_allclose(population.features[subject], feature, atol=1e-5)


def test_one_subject_alone_comes_back_where_it_stood(head, population, shapes):
    mixture = Mixture(jnp.array([5]), jnp.ones(1))
    found = jax.jit(mixed_head)(population, mixture, jnp.asarray(1))
    error = np.linalg.norm(found - shapes[5], axis=1)
    assert error[np.asarray(head.regions.face)].mean() < 0.7  # the plain round trip, and its alignment
    assert error.max() < 5


def test_about_its_group_a_mixture_of_nothing_is_the_groups_mean(head, population, shapes):
    about = make_population(shapes, head.faces, jnp.asarray(GROUPS), about_group=True, aligned_on=head.regions.face)
    nothing = Mixture(jnp.array([1]), jnp.zeros(1))
    mean = np.asarray(shapes)[GROUPS == 1].mean(0)
    error = np.linalg.norm(jax.jit(mixed_head)(about, nothing, jnp.asarray(1)) - mean, axis=1)
    assert error.mean() < 0.5
    of_all = jax.jit(mixed_head)(population, nothing, jnp.asarray(1))
    np.testing.assert_allclose(of_all, population.reference.vertices, atol=1e-3)


def test_the_closest_subject_is_the_nearest_of_the_group(population, shapes):
    rng = np.random.default_rng(1)
    found = jax.jit(closest_subject)
    for subject in (1, 7, 21):
        near = shapes[subject] + jnp.asarray(rng.normal(size=shapes[0].shape), jnp.float32)
        assert int(found(population, near, jnp.asarray(1))) == subject
        distance = np.sum((np.asarray(shapes, np.float64) - np.asarray(near, np.float64)) ** 2, axis=(1, 2))
        members = np.flatnonzero(GROUPS == 0)
        assert int(found(population, near, jnp.asarray(0))) == members[distance[members].argmin()]


def test_shipped_subjects_turn_by_less_than_half_a_turn():
    # A ring that is folded over must not lead its neighbours to rotation vectors of another turn.
    population = training_population(load_head(), about_group=False)
    angle = np.linalg.norm(population.features[np.asarray(population.groups) >= 0, :, :3], axis=2)
    assert angle.max() < 4.0  # a handful of folded rings themselves, at lids and lips
    assert (angle > np.pi).sum() < 10
    assert (angle > 2).mean() < 2e-4


@pytest.mark.parametrize("groups", [[0, 2] * 20, [-1] * 40])
def test_groups_with_gaps_or_without_members_are_refused(head, shapes, groups):
    with pytest.raises(InputError, match="groups"):
        make_population(shapes, head.faces, jnp.asarray(groups))


def test_new_heads_are_of_one_group_reproducible_and_compiled_once(population):
    traced = chex.assert_max_traces(augment, n=1)
    run = jax.jit(jax.vmap(traced, in_axes=(0, 0, None)))
    keys, groups = jax.random.split(jax.random.key(0), 6), jnp.array([0, 1, 0, 1, 1, 1])
    heads, mixtures = run(keys, groups, population)
    again, _ = run(keys, groups, population)
    np.testing.assert_array_equal(heads.vertices, again.vertices)
    assert (GROUPS[np.asarray(mixtures.subjects)] == np.asarray(groups)[:, None]).all()
    assert (GROUPS[np.asarray(heads.closest)] == np.asarray(groups)).all()
    assert np.isfinite(heads.vertices).all()
    moved = np.asarray(heads.vertices) - np.asarray(population.reference.vertices)
    assert np.linalg.norm(moved, axis=2).mean() < 10
