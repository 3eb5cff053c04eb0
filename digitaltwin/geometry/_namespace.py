"""One formula for both kinds of array: NumPy on the host in float64, JAX under transformations."""

from typing import Any

import numpy as np


def on_host(*arrays: Any) -> bool:
    """Whether all are NumPy's or plain numbers, so that nothing has to be compiled, nor JAX imported."""
    return all(isinstance(array, (np.ndarray, np.generic, float, int)) for array in arrays)


def namespace(*arrays: Any) -> Any:
    """``numpy`` if all arrays are on the host, else ``jax.numpy``.

    Args:
        arrays: What a function was given.

    Returns:
        The module.
    """
    if on_host(*arrays):
        return np
    import jax.numpy as jnp

    return jnp


def product(formula: str, *arrays: Any) -> Any:
    """``einsum`` at full precision on every device, by whichever module the arrays belong to.

    Args:
        formula: As ``numpy.einsum`` takes it.
        arrays: The factors.

    Returns:
        The sum of products.
    """
    if on_host(*arrays):
        return np.einsum(formula, *arrays)
    import jax.numpy as jnp
    from jax.lax import Precision

    return jnp.einsum(formula, *arrays, precision=Precision.HIGHEST)
