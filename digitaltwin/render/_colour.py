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


@jax.jit
def linear_from_srgb(srgb: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Decode sRGB to linear light, [0, 1] to [0, 1].

    Example:
        >>> round(float(linear_from_srgb(jnp.full(3, 0.5))[0]), 4)
        0.214
    """
    # Both branches stay finite outside the other's range, so that gradients do too.
    return jnp.where(srgb <= 0.04045, srgb / 12.92, ((jnp.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


@jax.jit
def srgb_from_linear(linear: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Encode linear light as sRGB; what lies outside [0, 1] is clipped.

    Example:
        >>> round(float(srgb_from_linear(jnp.full(3, 0.214))[0]), 2)
        0.5
    """
    clipped = jnp.clip(linear, 0, 1)
    return jnp.where(
        clipped <= 0.0031308, clipped * 12.92, 1.055 * jnp.maximum(clipped, 0.0031308) ** (1 / 2.4) - 0.055
    )


def lab_from_linear(linear: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """CIE L*a*b* of linear sRGB, white D65: L* in [0, 100]; distances are about equally visible everywhere.

    Example:
        >>> [round(float(x), 1) for x in lab_from_linear(jnp.ones(3))]
        [100.0, 0.0, 0.0]
    """
    relative = jnp.einsum("...j,kj->...k", linear, _XYZ_FROM_LINEAR / _WHITE_XYZ[:, None], precision="highest")
    edge = 6 / 29
    root = jnp.where(relative > edge**3, jnp.cbrt(jnp.maximum(relative, edge**3)), relative / (3 * edge**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
