"""Means with margins, gains of the same people, errors between corresponding points."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.evaluation._statistics import correspondence_errors, mean_and_margin, paired_gain


def test_corresponding_points_are_aligned_before_they_are_compared():
    rng = np.random.default_rng(0)
    true = 100.0 * rng.normal(size=(50, 3))
    region = jnp.arange(50) < 40
    turn = Rotation.from_euler("xyz", [20.0, -100.0, 40.0], degrees=True).as_matrix()
    moved = (true + [5.0, 6.0, 7.0]) @ turn.T
    moved[45] += 1000.0  # not of the region
    same = correspondence_errors(jnp.float32(moved), jnp.float32(true), region)
    np.testing.assert_allclose(same, [0.0, 0.0, 0.0, 0.0, 1.0], atol=1e-3)
    small = correspondence_errors(jnp.float32(0.8 * moved), jnp.float32(true), region)
    assert float(small.scale) == pytest.approx(1.25, rel=1e-4)
    assert float(small.rms_scaled) < 1e-3
    centred = true[:40] - true[:40].mean(axis=0)
    assert float(small.rms) == pytest.approx(0.2 * np.sqrt((centred**2).sum(axis=1).mean()), rel=1e-3)
    assert float(small.mean) == pytest.approx(0.2 * np.linalg.norm(centred, axis=1).mean(), rel=1e-3)
    assert float(small.median) == pytest.approx(0.2 * np.median(np.linalg.norm(centred, axis=1)), rel=1e-3)


def test_means_and_gains_of_people():
    mean, margin = mean_and_margin([1.0, 2.0, 3.0])
    assert (mean, margin) == (2.0, pytest.approx(1.96 / np.sqrt(3.0)))
    assert np.isnan(mean_and_margin([1.0])[1])
    gain = paired_gain({"a": 3.0, "b": 2.0, "c": 9.0}, {"a": 1.0, "b": 2.5})
    assert gain.mean == pytest.approx(0.75)
    assert (gain.gaining, gain.people) == (1, 2), "who has no avatar has no gain"
