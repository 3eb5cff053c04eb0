"""Statistics over people: a mean with its margin, what one method gains on another for the same people."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from digitaltwin.geometry import procrustes_alignment


class PairedGain(NamedTuple):
    """How much smaller a second error is than a first, over the people who have both."""

    mean: float
    """Mean of first minus second."""
    margin: float
    """1.96 standard errors of it; NaN of a single person."""
    gaining: int
    """Number of people whose second error is the smaller."""
    people: int


class CorrespondenceErrors(NamedTuple):
    """Distances [mm] between corresponding vertices of a region, after an alignment on those vertices."""

    rms: Float[Array, "*n"] | float
    """Root mean square after a rigid alignment."""
    mean: Float[Array, "*n"] | float
    median: Float[Array, "*n"] | float
    rms_scaled: Float[Array, "*n"] | float
    """Root mean square after a similarity alignment."""
    scale: Float[Array, "*n"] | float
    """Scale that the similarity alignment gives the prediction."""


def mean_and_margin(values: Sequence[float] | Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Average the numbers of some people.

    Args:
        values: One number a person.

    Returns:
        Mean, and 1.96 standard errors of it; the margin of a single number is NaN.

    Example:
        >>> mean, margin = mean_and_margin([1.0, 2.0, 3.0])
        >>> round(mean, 3), round(margin, 3)
        (2.0, 1.132)
    """
    array = np.asarray(values, np.float64)
    margin = 1.96 * array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(margin)


def paired_gain(first: Mapping[str, float], second: Mapping[str, float]) -> PairedGain:
    """Compare two errors of the same people.

    Args:
        first: Errors by person.
        second: Errors by person; people without one are left out.

    Returns:
        Mean and margin of first minus second, and how many people gain.

    Example:
        >>> gain = paired_gain({"a": 3.0, "b": 2.0, "c": 9.0}, {"a": 1.0, "b": 2.5})
        >>> gain.mean, gain.gaining, gain.people
        (0.75, 1, 2)
    """
    gains = [first[name] - second[name] for name in first if name in second]
    return PairedGain(*mean_and_margin(gains), sum(gain > 0 for gain in gains), len(gains))


@jax.jit
def correspondence_errors(
    found: Float[Array, "v 3"], true: Float[Array, "v 3"], region: Bool[Array, " v"]
) -> CorrespondenceErrors:
    """Measure the distances between corresponding vertices of two shapes of one topology.

    Args:
        found: Predicted positions [mm].
        true: True positions [mm].
        region: Vertices to align and to measure.

    Returns:
        Errors, as scalars; under ``vmap`` one of each for every shape.

    Example:
        >>> import jax.numpy as jnp
        >>> square = jnp.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]])
        >>> errors = correspondence_errors(0.5 * square, square, jnp.ones(4, bool))
        >>> round(float(errors.rms), 3), round(float(errors.scale), 3)
        (0.707, 2.0)
    """
    weights = region.astype(found.dtype)

    def distances(*, with_scale: bool) -> tuple[Array, Array]:
        move = procrustes_alignment(found, true, weights=weights, with_scale=with_scale)
        return jnp.where(region, jnp.linalg.norm(move.apply(found) - true, axis=1), jnp.nan), jnp.asarray(move.scale)

    rigid, _ = distances(with_scale=False)
    scaled, scale = distances(with_scale=True)
    rms, rms_scaled = (jnp.sqrt(jnp.nanmean(away**2)) for away in (rigid, scaled))
    return CorrespondenceErrors(rms, jnp.nanmean(rigid), jnp.nanmedian(rigid), rms_scaled, scale)
