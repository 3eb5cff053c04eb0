"""Similarity maps and Procrustes alignment: the same laws on the host in float64 and under JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, procrustes_alignment
from digitaltwin.types import InputError

RNG = np.random.default_rng(3)
ROTATION = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
ON_HOST, IN_JAX = np.float64, jnp.float32
KINDS = pytest.mark.parametrize("kind", [ON_HOST, IN_JAX])


@KINDS
@pytest.mark.parametrize("with_scale", [False, True])
def test_a_known_map_is_recovered(with_scale, kind):
    source = RNG.normal(size=(40, 3)) * 60
    scale = 1.3 if with_scale else 1.0
    target = scale * source @ ROTATION.T + [5.0, -200.0, 40.0]
    found = procrustes_alignment(kind(source), kind(target), with_scale=with_scale)
    assert float(found.scale) == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(found.rotation, ROTATION, atol=1e-5)
    np.testing.assert_allclose(found.apply(kind(source)), target, atol=1e-3)


@KINDS
def test_agrees_with_scipy_on_noisy_weighted_points(kind):
    source = RNG.normal(size=(40, 3))
    target = source @ ROTATION.T + 0.3 * RNG.normal(size=(40, 3))
    weights = RNG.uniform(size=40)
    centre, target_centre = (np.average(points, axis=0, weights=weights) for points in (source, target))
    expected, _ = Rotation.align_vectors(target - target_centre, source - centre, weights)
    found = procrustes_alignment(kind(source), kind(target), weights=kind(weights))
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-5)


@KINDS
def test_a_mirror_image_is_not_a_rotation(kind):
    # Without the determinant's sign the least-squares "rotation" of these points would be the reflection itself.
    source = RNG.normal(size=(40, 3))
    found = procrustes_alignment(kind(source), kind(source * [-1.0, 1.0, 1.0]))
    assert np.linalg.det(np.asarray(found.rotation)) == pytest.approx(1.0, abs=1e-5)


@KINDS
def test_a_point_without_weight_has_no_say(kind):
    source, target = RNG.normal(size=(10, 3)), RNG.normal(size=(10, 3))
    weights = np.r_[np.ones(9), 0.0]
    far = np.r_[target[:9], [[1e3, 0, 0]]]
    first, second = (procrustes_alignment(kind(source), kind(t), weights=kind(weights)) for t in (target, far))
    np.testing.assert_allclose(first.rotation, second.rotation, atol=1e-5)


def test_the_host_keeps_float64_and_refuses_what_gives_no_map():
    corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    found = procrustes_alignment(corners, corners + 1e6)
    assert isinstance(found.scale, float)
    assert {part.dtype for part in found[1:]} == {np.dtype(np.float64)}
    np.testing.assert_allclose(found.apply(corners), corners + 1e6, rtol=1e-15)
    for wrong in (corners[:2], corners * [1.0, 0.0, 0.0], np.where(corners == 2.0, np.nan, corners)):
        with pytest.raises(InputError, match="landmarks"):
            procrustes_alignment(wrong, wrong)


@KINDS
def test_similarities_are_a_group(kind):
    def made(scale, vector, shift):
        return Similarity(kind(scale), kind(Rotation.from_rotvec(vector).as_matrix()), kind(shift))

    first, second = made(2.0, [0.3, -1.0, 0.2], [3.0, 4.0, -5.0]), made(0.5, [1.3, 0.1, 0.9], [-1.0, 2.0, 7.0])
    points = kind(RNG.normal(size=(5, 3)))
    tight = {"atol": 1e-12 if kind is ON_HOST else 1e-5}
    np.testing.assert_allclose(first.then(second).apply(points), second.apply(first.apply(points)), **tight)
    np.testing.assert_allclose(first.inverse().apply(first.apply(points)), points, **tight)
    np.testing.assert_allclose(Similarity.identity().apply(points), points, **tight)
    for made_of_two in (first.then(first.inverse()), first.inverse().then(first)):
        np.testing.assert_allclose(made_of_two.rotation, np.eye(3), **tight)
        np.testing.assert_allclose(made_of_two.translation, np.zeros(3), **tight)


def test_a_long_chain_stays_a_rotation():
    turn = Similarity(np.float32(1.0), np.float32(ROTATION), np.zeros(3, np.float32))
    chain = turn
    for _ in range(1000):
        chain = chain.then(turn)
    np.testing.assert_allclose(chain.rotation @ chain.rotation.T, np.eye(3), atol=1e-6)


def test_it_goes_through_jit_and_vmap():
    source = jnp.float32(RNG.normal(size=(4, 20, 3)))
    target = source + jnp.arange(4.0)[:, None, None]
    found = jax.jit(jax.vmap(procrustes_alignment))(source, target)
    np.testing.assert_allclose(jax.vmap(Similarity.apply)(found, source), target, atol=1e-5)
