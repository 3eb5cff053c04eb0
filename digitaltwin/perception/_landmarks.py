"""The 104 landmarks of :mod:`digitaltwin.head.markup`, read off the points of the face mesh."""

import functools

import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.io import load_arrays
from digitaltwin.io.assets import asset_path


@functools.cache
def load_landmark_table() -> tuple[Int[np.ndarray, "104 2"], Float[np.ndarray, "104 2"]]:
    """The two mesh points each landmark lies between, and their weights, which sum to one."""
    arrays, _ = load_arrays(asset_path("networks/landmark_table.npz"))
    return arrays["points"], arrays["weights"]


def landmarks_from_mesh(points: Float[Array | np.ndarray, "p d"]) -> Float[Array | np.ndarray, "104 d"]:
    """The 104 landmarks of a face mesh: ``y_k = sum_j w_kj x_(p_kj)``, j = 1, 2.

    Args:
        points: The mesh's 478 points, or its 468 on the skin; in image pixels or on a head.

    Returns:
        Landmarks in the same unit and dimension; of NumPy's points, computed by NumPy.

    Example:
        >>> import jax.numpy as jnp
        >>> landmarks_from_mesh(jnp.zeros((478, 2))).shape
        (104, 2)
    """
    indices, weights = load_landmark_table()
    return (points[indices] * weights[:, :, None]).sum(axis=1)
