"""Square, rotated regions of an image, and sampling them without aliasing.

A *region* has coordinates of its own, continuous like the image's, in which it is the unit square, x first. Letters:
h w image rows and columns, n points, d their dimensions, l levels and m pixels
of a pyramid, s samples along a region's side.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

LEVEL_COUNT = 14
"""Levels of a pyramid: the last halves an image of 8192 px to one pixel."""


class Region(NamedTuple):
    """A square region of an image, of NumPy arrays or JAX arrays; of several, all have a leading axis r."""

    centre: Float[Array, "*r 2"] | Float[np.ndarray, "*r 2"]
    """In image pixels."""
    side: Float[Array, "*r"] | Float[np.ndarray, "*r"] | np.floating
    """In image pixels."""
    angle: Float[Array, "*r"] | Float[np.ndarray, "*r"] | np.floating
    """Direction of its x axis in the image [rad], positive from +x to +y, that is clockwise to the eye."""


class Pyramid(NamedTuple):
    """An image and its halvings, one behind the other in one array, so that a level can be chosen under jit."""

    pixels: Float[Array, "m 3"]
    levels: Int[Array, "l 3"]
    """First pixel, rows and columns of each level. Values, not static shapes: see :func:`make_pyramid`."""


def make_pyramid(image: Float[Array | np.ndarray, "h w 3"], *, min_length: int = 1 << 20) -> Pyramid:
    """Halve an image by 2 x 2 means, ``LEVEL_COUNT - 1`` times.

    A pixel of level l covers 2^l x 2^l pixels of the image; what is missing from an odd row or column repeats the edge.
    The pixel array is padded to one of a few lengths, so that what is compiled for one photo serves for others as well,
    whatever their format. No sample ever shows the padding.

    Args:
        image: sRGB in [0, 1]. Of a NumPy array the pyramid is made by NumPy, so that nothing is compiled for its size.
        min_length: Least length of the pixel array.

    Returns:
        The pyramid, of JAX arrays in both cases.

    Example:
        >>> make_pyramid(np.ones((4, 6, 3), np.float32)).levels[:4].tolist()
        [[0, 4, 6], [24, 2, 3], [30, 1, 2], [32, 1, 1]]
    """
    xp = np if isinstance(image, np.ndarray) else jnp
    levels, parts, start = [], [], 0
    for _ in range(LEVEL_COUNT):
        height, width = image.shape[:2]
        levels.append((start, height, width))
        parts.append(image.reshape(height * width, 3))
        start += height * width
        even = xp.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        image = (even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]) / 4
    length = max(_padded_length(start), min_length)
    if xp is jnp:
        return Pyramid(jnp.concatenate([*parts, jnp.zeros((length - start, 3))]), jnp.array(levels))
    # Aligned, because JAX then takes the array without copying it; the padding costs nothing but its addresses.
    room = np.zeros(3 * length + 16, np.float32)
    first = -(room.ctypes.data // 4) % 16
    pixels = room[first : first + 3 * length].reshape(length, 3)
    np.concatenate(parts, out=pixels[:start])
    return Pyramid(*jax.device_put((pixels, np.array(levels, np.int32))))


def _padded_length(length: int) -> int:
    """The next integer of the form i 2^j, i = 4 to 7, from 2^20 on: at most a quarter more, four lengths an octave."""
    unit = 1 << max(18, length.bit_length() - 3)
    return max(-(-length // unit), 4) * unit


def image_from_region(region: Region, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Map region coordinates to image pixels: ``centre + side R(angle) (u - 1/2)``; a depth only by the side.

    Example:
        >>> region = Region(jnp.array([50.0, 40.0]), jnp.array(20.0), jnp.array(0.0))
        >>> image_from_region(region, jnp.array([[1.0, 0.5]])).tolist()
        [[60.0, 40.0]]
    """
    cosine, sine = jnp.cos(region.angle), jnp.sin(region.angle)
    x, y = points[:, 0] - 0.5, points[:, 1] - 0.5
    plane = jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)
    return jnp.concatenate([region.centre[None] + region.side * plane, region.side * points[:, 2:]], axis=1)


def region_from_image(region: Region, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The inverse of :func:`image_from_region`."""
    cosine, sine = jnp.cos(region.angle), jnp.sin(region.angle)
    x, y = jnp.moveaxis(points[:, :2] - region.centre[None], 1, 0)
    plane = jnp.stack([cosine * x + sine * y, cosine * y - sine * x], axis=1)
    return jnp.concatenate([plane / region.side + 0.5, points[:, 2:] / region.side], axis=1)


def sample_region(pyramid: Pyramid, region: Region, size: int, *, black_outside: bool = False) -> Float[Array, "s s 3"]:
    """Resample a region to ``size x size`` pixels.

    Each pixel is the mean of 2 x 2 bilinear samples, taken from the level on which they lie 1/2 to 1 pixels apart, so
    that detail finer than the result is averaged away, not folded back into it.

    Args:
        pyramid: The image.
        region: What to resample.
        size: Pixels along its side.
        black_outside: Beyond the image there is black; else the image's edge repeats.
    """
    level = jnp.clip(jnp.floor(jnp.log2(region.side / size)).astype(jnp.int32), 0, LEVEL_COUNT - 1)
    start, height, width = pyramid.levels[level]
    extent = pyramid.levels[0, :0:-1]  # width, height

    def pixels(row, column):
        return pyramid.pixels[start + jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)]

    def bilinear(positions):
        points = positions / 2.0**level - 0.5  # in steps between pixel centres
        corner = jnp.floor(points)
        fraction = points - corner
        column, row = jnp.moveaxis(corner.astype(jnp.int32), 1, 0)
        right, below = fraction[:, :1], fraction[:, 1:]
        above_row = (1 - right) * pixels(row, column) + right * pixels(row, column + 1)
        below_row = (1 - right) * pixels(row + 1, column) + right * pixels(row + 1, column + 1)
        samples = (1 - below) * above_row + below * below_row
        if black_outside:
            inside = jnp.all((positions >= 0) & (positions < extent[None]), axis=1, keepdims=True)
            samples = jnp.where(inside, samples, 0.0)
        return samples

    # A sum of four, not a mean over an axis: XLA fuses that with the gathers and takes four times as long on a CPU.
    offsets = [jnp.array([[x, y]]) / (4 * size) for y in (-1.0, 1.0) for x in (-1.0, 1.0)]
    parts = [bilinear(image_from_region(region, _grid(size) + offset)) for offset in offsets]
    return (functools.reduce(jnp.add, parts) / len(parts)).reshape(size, size, 3)


def _grid(size: int) -> Float[Array, "n 2"]:
    """Centres of ``size x size`` pixels in region coordinates, row by row."""
    y, x = jnp.meshgrid(*[(jnp.arange(size) + 0.5) / size] * 2, indexing="ij")
    return jnp.stack([x.ravel(), y.ravel()], axis=1)
