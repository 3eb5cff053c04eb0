import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import align, transform

RNG = np.random.default_rng(3)
ROTATION = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_known_map_is_recovered(with_scale):
    source = RNG.normal(size=(40, 3)) * 60
    scale = 1.3 if with_scale else 1.0
    target = scale * source @ ROTATION.T + [5.0, -200.0, 40.0]
    found = align(jnp.float32(source), jnp.float32(target), with_scale=with_scale)
    assert float(found.scale) == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(found.rotation, ROTATION, atol=1e-5)
    np.testing.assert_allclose(transform(found, jnp.float32(source)), target, atol=1e-3)


def test_agrees_with_scipy_on_noisy_weighted_points():
    source = RNG.normal(size=(40, 3))
    target = source @ ROTATION.T + 0.3 * RNG.normal(size=(40, 3))
    weights = RNG.uniform(size=40)
    centre, target_centre = (np.average(points, axis=0, weights=weights) for points in (source, target))
    expected, _ = Rotation.align_vectors(target - target_centre, source - centre, weights)
    found = align(jnp.float32(source), jnp.float32(target), weights=jnp.float32(weights))
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-5)


def test_a_mirror_image_is_not_a_rotation():
    # Without the determinant's sign the least-squares "rotation" of these points would be the reflection itself.
    source = RNG.normal(size=(40, 3))
    found = align(jnp.float32(source), jnp.float32(source * [-1.0, 1.0, 1.0]))
    assert np.linalg.det(np.asarray(found.rotation)) == pytest.approx(1.0, abs=1e-5)


def test_a_point_without_weight_has_no_say():
    source, target = RNG.normal(size=(10, 3)), RNG.normal(size=(10, 3))
    weights = np.r_[np.ones(9), 0.0]
    far = np.r_[target[:9], [[1e3, 0, 0]]]
    first, second = (align(jnp.float32(source), jnp.float32(t), weights=jnp.float32(weights)) for t in (target, far))
    np.testing.assert_allclose(first.rotation, second.rotation, atol=1e-5)
