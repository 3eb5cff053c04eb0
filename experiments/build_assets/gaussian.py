"""Normal distributions of target coefficients, and what is known of some functions of them put in.

Letters: n coefficients, m observed functions.
"""

from typing import NamedTuple

import numpy as np

FLOOR = 1e-9  # added to variances, so that a Cholesky factor exists


class Gaussian(NamedTuple):
    """A normal distribution."""

    mean: np.ndarray  # [n]
    covariance: np.ndarray  # [n n]

    def factor(self) -> np.ndarray:
        """Compute rows [n n] whose products, transposed and plain, sum to the covariance: its principal axes."""
        values, axes = np.linalg.eigh(self.covariance)
        return (axes * np.sqrt(np.maximum(values, 0.0))).T


def fit_coefficients(rows: np.ndarray, covariance: np.ndarray, observed: np.ndarray, noise: float) -> np.ndarray:
    """Find the most probable coefficients of observations ``rows' c + noise``: a ridge regression.

    ``c = S R (R' S R + noise^2)^-1 y``, computed as ``L (1 + L' R R' L / noise^2)^-1 L' R y / noise^2``, ``S = L L'``.

    Args:
        rows: Observed functions [n m] of the coefficients.
        covariance: S [n n], of coefficients with mean 0.
        observed: y [*k m].
        noise: Standard deviation of an observation.

    Returns:
        Coefficients [*k n].
    """
    root, inner = _root_and_inner(rows, covariance, noise)
    return (root @ np.linalg.solve(inner, root.T @ (rows @ observed.T) / noise**2)).T


def replace_marginal(known: Gaussian, rows: np.ndarray, noise: float, observed: Gaussian) -> Gaussian:
    """Give functions of the coefficients another distribution, and leave all that they do not determine as it was.

    Of all distributions with ``observed`` as that of ``rows' c``, it is the one of least relative entropy to ``known``
    (Jeffrey's rule): conditional on the functions nothing changes.

    Args:
        known: Distribution of the coefficients.
        rows: The functions [n m].
        noise: Standard deviation of what the functions cannot follow; without, differences too small to matter would
            be explained by large coefficients.
        observed: A distribution of coefficients that has the functions' distribution; what else it says is ignored.
    """
    root, inner = _root_and_inner(rows, known.covariance, noise)
    modes = fit_coefficients(rows, known.covariance, observed.factor() @ rows, noise)
    mean = known.mean + fit_coefficients(rows, known.covariance, (observed.mean - known.mean) @ rows, noise)
    left = root @ np.linalg.solve(inner, root.T)
    return Gaussian(mean, modes.T @ modes + (left + left.T) / 2)


def rescale_functions(known: Gaussian, rows: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Gaussian:
    """Give few functions [n m] of the coefficients another mean [m] and standard deviation [m], as above.

    Their correlations stay.
    """
    covariance = rows.T @ known.covariance @ rows
    gain = np.linalg.solve(covariance, rows.T @ known.covariance)
    factor = std / np.sqrt(np.diag(covariance))
    change = covariance * np.outer(factor, factor) - covariance
    return Gaussian(known.mean + (mean - known.mean @ rows) @ gain, known.covariance + gain.T @ change @ gain)


def limit_shares(rows: np.ndarray, covariance: np.ndarray, largest: float) -> np.ndarray:
    """Shrink offsets [k n] where their products take more than a share of the variance.

    In coordinates in which the covariance is 1 the sum of the products ``R' R`` has principal axes; along an axis where
    it is more than ``largest`` the offsets are scaled to it.
    """
    root = np.linalg.cholesky(covariance + FLOOR * np.eye(len(covariance)))
    left, values, axes = np.linalg.svd(np.linalg.solve(root, rows.T).T, full_matrices=False)
    return (left * np.minimum(values, np.sqrt(largest))) @ axes @ root.T


def _root_and_inner(rows: np.ndarray, covariance: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    root = np.linalg.cholesky(covariance + FLOOR * np.eye(len(covariance)))
    rooted = root.T @ rows
    return root, np.eye(len(root)) + rooted @ rooted.T / noise**2
