"""Pictures at half and double size, and what they are good for: smoothing, and filling holes.

Letters: h w rows and columns (even), c channels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def halve(picture: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
    """Mean of each 2 x 2 square."""
    rows, columns, channels = picture.shape
    return picture.reshape(rows // 2, 2, columns // 2, 2, channels).mean(axis=(1, 3))


def double(picture: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
    """Twice the size, bilinear between centres, borders continued."""
    for axis in (0, 1):
        picture = jnp.moveaxis(picture, axis, 0)
        before = jnp.concatenate([picture[:1], picture[:-1]])
        after = jnp.concatenate([picture[1:], picture[-1:]])
        pair = jnp.stack([0.25 * before + 0.75 * picture, 0.75 * picture + 0.25 * after], axis=1)
        picture = jnp.moveaxis(pair.reshape(2 * len(picture), *picture.shape[1:]), 0, axis)
    return picture


def fill(
    picture: Float[Array, "h w c"], weight: Float[Array, "h w 1"], fallback: Float[Array, " c"], *, levels: int
) -> Float[Array, "h w c"]:
    """Continue a picture smoothly to where its weight is nothing (push-pull).

    A hole takes its colour from the finest of the halved pictures that knows one there; partly trusted places mix.

    Args:
        picture: any values; ignored where the weight is 0.
        weight: trust in each, in [0, 1].
        fallback: the colour of what is farther than about ``2^levels`` from anything known.
        levels: how often to halve.

    Example:
        >>> known = jnp.zeros((4, 4, 1)).at[0, 0].set(1.0)
        >>> fill(7.0 * known, known, jnp.zeros(1), levels=2)[..., 0].min().item()
        7.0
    """
    if levels == 0:
        return weight * picture + (1 - weight) * fallback[None, None]
    total = halve(weight)
    smaller = halve(weight * picture) / jnp.maximum(total, 1e-12)
    # One known texel of four makes the square known.
    rest = fill(smaller, jnp.minimum(4 * total, 1), fallback, levels=levels - 1)
    return weight * picture + (1 - weight) * double(rest)


def blur(picture: Float[Array, "h w c"], radius: int) -> Float[Array, "h w c"]:
    """Mean over a window with the weights ``1 + cos(pi d / (radius + 1))`` in both directions, borders continued."""
    offsets = jnp.arange(-radius, radius + 1)
    kernel = 1 + jnp.cos(jnp.pi * offsets / (radius + 1))
    kernel = kernel / jnp.sum(kernel)
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(picture, padding, mode="edge")
        length = picture.shape[axis]
        windows = [jnp.moveaxis(jnp.moveaxis(padded, axis, 0)[k : k + length], 0, axis) for k in range(2 * radius + 1)]
        picture = sum((k * window for k, window in zip(kernel, windows)), jnp.zeros_like(picture))
    return picture
