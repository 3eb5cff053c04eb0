"""Calibration of synthetic subjects to surveys: a population's measurements come near the published ones.

Letters: n subjects, i identity components, m measures.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from digitaltwin.head._anthropometry import Measurements, measure, published
from digitaltwin.head._model import HeadModel, neutral_shape
from digitaltwin.head._population import DISTANCE_BOUND, distance

ROUNDS = 4
"""Rounds of the correction: the widest place of a region may change, else one would do."""
MEAN_TOLERANCE = 0.025
"""How far a population's mean may stay from the published one, relative: surveys differ by as much."""
STD_TOLERANCE = 1.25
"""By what factor its standard deviation may: theirs holds errors of measuring, ours does not."""
COEFFICIENT_BOUND = 4.0
"""Largest identity coefficient of a credible subject, in standard deviations."""


def calibrate(head: HeadModel, coefficients: Float[np.ndarray, "n i"], group: str) -> Float[np.ndarray, "n i"]:
    """Match subjects of one group to its published measurements with the least change.

    Each subject's measures are moved to ``target = m* + (s* / s) (measured - m)``, m and s the mean and standard
    deviation of these subjects, m* and s* the nearest to them that are within the tolerances of the published ones: a
    broad nose stays a broad one, and what agrees with the surveys stays as it is. Of all shapes with the target
    measures the most probable one in the subjects' own normal distribution of covariance C is

        x + C J' (J C J')^-1 (target - measured),          J = d measures / d x,

    and for measures linear in x, as distances nearly are, C J' is the covariance of coefficients and measures, and
    J C J' that of the measures: both are taken from the subjects themselves. So one linear regression replaces a
    Gauss-Newton iteration on each subject, and it is repeated :data:`ROUNDS` times. Only components that are even under
    the mirror are moved, since the measures cannot tell left from right.

    Args:
        head: The model.
        coefficients: Identity coefficients of at least some hundred subjects [mm].
        group: The group, one of ``head.group_names``.

    Returns:
        Calibrated coefficients [mm].
    """
    mirrored = np.asarray(head.identity)[:, np.asarray(head.mirror)] * np.array([-1, 1, 1], np.float32)
    even = np.einsum("ivx,ivx->i", np.asarray(head.identity), mirrored) > 0
    rows = [published(name, group) for name in Measurements._fields]
    mean, std = np.array([row.mean_mm for row in rows]), np.array([row.std_mm for row in rows])

    measured = measure_all(head, coefficients)
    wanted_mean = np.clip(measured.mean(0), (1 - MEAN_TOLERANCE) * mean, (1 + MEAN_TOLERANCE) * mean)
    wanted_std = np.clip(measured.std(0, ddof=1), std / STD_TOLERANCE, STD_TOLERANCE * std)
    n = len(coefficients) - 1
    centred, spread = coefficients - coefficients.mean(0), measured - measured.mean(0)
    gain = np.linalg.solve(spread.T @ spread / n, spread.T @ centred / n) * even
    target = wanted_mean + spread * (wanted_std / spread.std(0, ddof=1))
    for _ in range(ROUNDS):
        coefficients = coefficients + (target - measured) @ gain
        measured = measure_all(head, coefficients)
    return coefficients


def measure_all(head: HeadModel, coefficients: Float[np.ndarray, "n i"]) -> Float[np.ndarray, "n m"]:
    """Measure many subjects [mm]."""
    return np.stack(_measure_many(head, jnp.asarray(coefficients, jnp.float32)), axis=1).astype(np.float64)


@jax.jit
def _measure_many(head: HeadModel, coefficients: Float[Array, "n i"]) -> Measurements:
    return jax.vmap(lambda identity: measure(head, neutral_shape(head, identity)))(coefficients)


def credible(head: HeadModel, coefficients: Float[np.ndarray, "n i"]) -> Bool[np.ndarray, " n"]:
    """Find the subjects near enough to the population's mean, as a whole and in every component."""
    largest = np.abs(np.asarray(coefficients) / np.asarray(head.identity_std)).max(axis=1)
    return (distance(head, coefficients) < DISTANCE_BOUND) & (largest < COEFFICIENT_BOUND)
