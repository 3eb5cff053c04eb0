"""Calibration to the surveys: published moments, the least change, and who is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.head import load_subjects, neutral_shape
from digitaltwin.head._anthropometry import Measurements, measure, published
from digitaltwin.head._calibration import MEAN_TOLERANCE, STD_TOLERANCE, calibrate, credible, measure_all


@pytest.fixture(scope="module")
def strangers(head):
    """Subjects of the head's own normal distribution about the mean of a group that they are not yet calibrated to."""
    rng = np.random.default_rng(3)
    spread = rng.normal(size=(160, len(head.identity_std))) * np.asarray(head.identity_std)
    return np.asarray(head.group_identity[4], np.float64) + spread


@pytest.fixture(scope="module")
def calibrated(head, strangers):
    return calibrate(head, strangers, "male-asian")


def test_calibrated_subjects_come_within_the_tolerances_and_no_further(head, strangers, calibrated):
    rows = [published(name, "male-asian") for name in Measurements._fields]
    before, after = measure_all(head, strangers), measure_all(head, calibrated)
    for name, mean, tolerance, close in (
        ("mean_mm", np.mean, 1 + MEAN_TOLERANCE, 0.002),
        ("std_mm", lambda values, axis: np.std(values, axis, ddof=1), STD_TOLERANCE, 0.05),
    ):
        wanted = np.array([getattr(row, name) for row in rows])
        nearest = np.clip(
            mean(before, 0), wanted * (2 - tolerance if close < 0.01 else 1 / tolerance), wanted * tolerance
        )
        np.testing.assert_allclose(mean(after, 0), nearest, rtol=close)
        assert (np.abs(mean(before, 0) - nearest) > close * wanted).any(), "some had to be moved"
        assert (np.abs(mean(before, 0) - nearest) < close * wanted).any(), "and some had not"


def test_calibration_keeps_order_symmetry_and_what_is_right_already(head, strangers, calibrated):
    before, after = measure_all(head, strangers), measure_all(head, calibrated)
    for column in range(before.shape[1]):
        assert np.corrcoef(before[:, column], after[:, column])[0, 1] > 0.99
    mirrored = np.asarray(head.identity)[:, np.asarray(head.mirror)] * np.array([-1, 1, 1], np.float32)
    odd = np.einsum("ivx,ivx->i", np.asarray(head.identity), mirrored) < 0
    assert 0.1 < odd.mean() < 0.6
    np.testing.assert_array_equal(calibrated[:, odd], strangers[:, odd])
    again = calibrate(head, calibrated, "male-asian")
    assert np.abs(again - calibrated).max() < 0.05 * np.abs(calibrated - strangers).max()


def test_calibration_changes_as_little_as_it_can(head, strangers, calibrated):
    """Against autodiff: the change is of the form C J' a, so C^-1-orthogonal to all that leaves the measures alone."""
    jacobian = jax.jit(jax.jacrev(lambda identity: jnp.stack(measure(head, neutral_shape(head, identity)))))
    at_mean = np.asarray(jacobian(jnp.asarray(strangers.mean(0), jnp.float32)), np.float64)
    span = np.cov(strangers.T) @ at_mean.T
    change = calibrated - strangers
    even = np.abs(change).max(0) > 0
    fitted = span[even] @ np.linalg.lstsq(span[even], change[:, even].T, rcond=None)[0]
    # Widths are not quite linear: another vertex may become the widest.
    assert np.linalg.norm(fitted.T - change[:, even]) < 0.4 * np.linalg.norm(change)
    random = np.random.default_rng(0).normal(size=(even.sum(), span.shape[1]))
    unrelated = random @ np.linalg.lstsq(random, change[:, even].T, rcond=None)[0]
    assert np.linalg.norm(unrelated.T - change[:, even]) > 0.8 * np.linalg.norm(change)


def test_credible_refuses_who_is_far_off(head):
    identity = np.asarray(load_subjects().identity)
    assert credible(head, identity).all()
    assert not credible(head, 2 * identity).any()
    spike = np.zeros((1, len(head.identity_std)))
    spike[0, 50] = 5 * float(head.identity_std[50])
    assert not credible(head, spike)[0]
