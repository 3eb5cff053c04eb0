"""The smooth step, by which one thing gives way to another."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def ramp(value: Float[Array, "*n"], low: float, high: float) -> Float[Array, "*n"]:
    """0 below low, 1 above high, between them ``t^2 (3 - 2 t)`` with ``t = (value - low) / (high - low)``.

    Example:
        >>> ramp(jnp.array([0.0, 1.0, 2.0, 3.0, 4.0]), 1.0, 3.0).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    t = jnp.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
