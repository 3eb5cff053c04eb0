"""Colour spaces: sRGB as stored, linear light for sums and averages, CIE Lab for differences the eye sees.

All take and return the colour in the last axis and work on any number of leading axes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# sRGB's primaries and white point D65 (IEC 61966-2-1), rows X, Y, Z.
_XYZ_FROM_LINEAR = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
_WHITE_XYZ = _XYZ_FROM_LINEAR.sum(axis=1)


# The powers are taken as exp(p log x), which XLA vectorises on a CPU: half the time of a power, the same to 1e-7.


@jax.jit
def linear_from_srgb(srgb: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Decode sRGB to linear light.

    ``c / 12.92`` up to 0.04045, ``((c + 0.055) / 1.055)^2.4`` above.

    Args:
        srgb: Colours in [0, 1].

    Returns:
        Linear light in [0, 1].

    Example:
        >>> round(float(linear_from_srgb(jnp.full(3, 0.5))[0]), 4)
        0.214

    Source: IEC 61966-2-1.
    """
    return decode_srgb(srgb)


def decode_srgb(srgb: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Decode single values, whatever their axes mean; see :func:`linear_from_srgb`."""
    # Both branches stay finite outside the other's range, so that gradients do too.
    power = jnp.exp(2.4 * jnp.log((jnp.maximum(srgb, 0.04045) + 0.055) / 1.055))
    return jnp.where(srgb <= 0.04045, srgb / 12.92, power)


def linear_from_srgb_on_host(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Decode single values with NumPy: what a photo's size decides must not compile a program."""
    power = np.exp(np.float32(2.4) * np.log((np.maximum(srgb, 0.04045) + np.float32(0.055)) / np.float32(1.055)))
    return np.where(srgb <= 0.04045, srgb / np.float32(12.92), power).astype(np.float32)


@jax.jit
def srgb_from_linear(linear: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Encode linear light as sRGB.

    ``12.92 c`` up to 0.0031308, ``1.055 c^(1 / 2.4) - 0.055`` above.

    Args:
        linear: Linear light; what lies outside [0, 1] is clipped.

    Returns:
        sRGB in [0, 1].

    Example:
        >>> round(float(srgb_from_linear(jnp.full(3, 0.214))[0]), 2)
        0.5

    Source: IEC 61966-2-1.
    """
    return encode_srgb(linear)


def encode_srgb(linear: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Encode single values, whatever their axes mean; see :func:`srgb_from_linear`."""
    clipped = jnp.clip(linear, 0, 1)
    power = jnp.exp(jnp.log(jnp.maximum(clipped, 0.0031308)) / 2.4)
    return jnp.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * power - 0.055)


def srgb_from_linear_on_host(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Encode single values with NumPy; see :func:`srgb_from_linear`."""
    clipped = np.clip(linear, 0, 1).astype(np.float32)
    power = np.exp(np.log(np.maximum(clipped, np.float32(0.0031308))) / np.float32(2.4))
    return np.where(clipped <= 0.0031308, clipped * np.float32(12.92), np.float32(1.055) * power - np.float32(0.055))


def lab_from_linear(linear: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Convert linear sRGB to CIE L*a*b*, white D65: distances are about equally visible everywhere.

    Args:
        linear: Linear light in [0, 1].

    Returns:
        L* in [0, 100], a* (green to red) and b* (blue to yellow).

    Example:
        >>> [round(float(x), 1) for x in lab_from_linear(jnp.ones(3))]
        [100.0, 0.0, 0.0]

    Source: CIE 15:2004.
    """
    red, green, blue = (linear[..., channel] for channel in range(3))
    edge = 6 / 29
    roots = []
    # Sums, not a matrix product: those an accelerator rounds by more than the eye does.
    for r, g, b in (_XYZ_FROM_LINEAR / _WHITE_XYZ[:, None]).tolist():
        relative = r * red + g * green + b * blue
        root = jnp.exp(jnp.log(jnp.maximum(relative, edge**3)) / 3)
        roots.append(jnp.where(relative > edge**3, root, relative / (3 * edge**2) + 4 / 29))
    x, y, z = roots
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
