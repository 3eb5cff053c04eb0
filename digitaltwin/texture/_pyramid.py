"""Pictures at half and double size, and what they are good for: smoothing, and filling holes.

Letters: h w rows and columns (even), c channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_FEW = 256  # rows and columns of a picture that takes no time, however it is doubled


def halve(picture: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
    """Mean of each 2 x 2 square."""
    # Four strided slices: on a CPU a tenth of the time of a mean over reshaped axes.
    top, bottom = picture[0::2], picture[1::2]
    return (top[:, 0::2] + top[:, 1::2] + bottom[:, 0::2] + bottom[:, 1::2]) * 0.25


def halve_to(picture: Float[Array, "h w c"], size: int) -> Float[Array, "size size c"]:
    """Means of the squares that leave a picture of some edge."""
    while picture.shape[0] > size:
        picture = halve(picture)
    return picture


def double(picture: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
    """Twice the size, bilinear between centres, borders continued."""
    for axis in (0, 1):
        size = picture.shape[axis]
        if size <= _FEW:
            # Each pixel twice, then the mean (1 2 1) / 4 of neighbours: the same, slower to run, quicker to compile.
            twice = jnp.take(picture, np.clip(np.arange(-1, 2 * size + 1) // 2, 0, size - 1), axis=axis, mode="clip")
            first, second, third = (jax.lax.slice_in_dim(twice, k, k + 2 * size, axis=axis) for k in range(3))
            picture = 0.25 * (first + third) + 0.5 * second
            continue
        part = functools.partial(jax.lax.slice_in_dim, picture, axis=axis)
        before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis=axis)
        after = jnp.concatenate([part(1, size), part(size - 1, size)], axis=axis)
        pair = jnp.stack([0.25 * before + 0.75 * picture, 0.75 * picture + 0.25 * after], axis=axis + 1)
        picture = pair.reshape(*picture.shape[:axis], 2 * size, *picture.shape[axis + 1 :])
    return picture


def fill(
    picture: Float[Array, "h w c"], weight: Float[Array, "h w 1"], fallback: Float[Array, " c"], *, levels: int
) -> Float[Array, "h w c"]:
    """Continue a picture smoothly to where its weight is nothing (push-pull).

    A hole takes its colour from the finest of the halved pictures that knows one there; partly trusted places mix.

    Args:
        picture: Any values; ignored where the weight is 0.
        weight: Trust in each, in [0, 1].
        fallback: The colour of what is farther than about ``2^levels`` from anything known.
        levels: How often to halve.

    Example:
        >>> known = jnp.zeros((4, 4, 1)).at[0, 0].set(1.0)
        >>> fill(7.0 * known, known, jnp.zeros(1), levels=2)[..., 0].min().item()
        7.0
    """
    if levels == 0:
        return weight * picture + (1 - weight) * fallback[None, None]
    # Barriers between the levels: the compiler would compute each of them anew wherever it is used.
    halved = jax.lax.optimization_barrier(halve(jnp.concatenate([weight * picture, weight], axis=-1)))
    smaller, total = halved[..., :-1], halved[..., -1:]
    # One known texel of four makes the square known.
    colour, known = jax.lax.optimization_barrier((smaller / jnp.maximum(total, 1e-12), jnp.minimum(4 * total, 1)))
    rest = jax.lax.optimization_barrier(fill(colour, known, fallback, levels=levels - 1))
    return weight * picture + (1 - weight) * double(rest)


def blur(picture: Float[Array, "h w c"], radius: int) -> Float[Array, "h w c"]:
    """Mean over a window with the weights ``1 + cos(pi d / (radius + 1))`` in both directions, borders continued."""
    offsets = np.arange(-radius, radius + 1)
    kernel = 1 + np.cos(np.pi * offsets / (radius + 1))
    kernel = (kernel / kernel.sum()).tolist()
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(picture, padding, mode="edge")
        length = picture.shape[axis]
        windows = [jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(2 * radius + 1)]
        picture = functools.reduce(jnp.add, [weight * window for weight, window in zip(kernel, windows)])
    return picture
