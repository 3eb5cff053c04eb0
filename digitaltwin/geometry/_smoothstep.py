"""The smoothstep function, by which one thing gives way to another."""

from typing import Any

from jaxtyping import Float

from digitaltwin.geometry._namespace import namespace


def smoothstep(value: Float[Any, "*n"], low: float, high: float) -> Float[Any, "*n"]:
    """Rise smoothly from 0 to 1: ``t^2 (3 - 2 t)`` with ``t = (value - low) / (high - low)``, clipped to [0, 1].

    Args:
        value: Numbers of any shape, of NumPy or JAX.
        low: Where the rise begins.
        high: Where it ends, above ``low``.

    Returns:
        Numbers in [0, 1] of the same shape.

    Example:
        >>> import numpy as np
        >>> smoothstep(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 1.0, 3.0).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    t = namespace(value).clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
