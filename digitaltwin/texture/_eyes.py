"""The eyeballs, which no photo shows well: a texture by formula.

An eye's texture is azimuthal equidistant about the gaze: the distance from its centre is ``theta / (2 pi)`` of its
edge, theta the angle from straight ahead. Letters: s edge of the texture.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.geometry._smoothstep import smoothstep
from digitaltwin.io._programs import FEWER_FUSIONS, UNOPTIMIZED, stored_program
from digitaltwin.render._colour import linear_from_srgb, srgb_from_linear
from digitaltwin.types import InputError

HAZEL = (0.36, 0.25, 0.16)
"""sRGB of an iris nobody saw."""

# On an adult eyeball of 12.2 mm radius the iris is 11.7 mm wide and the pupil, in a bright room, 3.6.
_IRIS = float(np.arcsin(5.85 / 12.2))
_PUPIL = float(np.arcsin(1.8 / 12.2))

_SOFT = 0.05  # how far the iris fades into the white
_WAVES = 12

_MIN_IRIS_PX = 2.5  # a smaller iris is no more than a blur of lid, white and lashes
_OPEN_EYE = 0.5  # blink score below which the iris is seen
# Points of the face mesh: an iris's centre, then four on its rim.
_LEFT_IRIS = (473, 474, 475, 476, 477)
_RIGHT_IRIS = (468, 469, 470, 471, 472)


def eye_texture(
    key: Array | int,
    *,
    iris: Float[Array, " 3"] | Float[np.ndarray, " 3"] | tuple[float, float, float] = HAZEL,
    size: int = 512,
) -> Float[Array, "s s 3"]:
    """Paint an eyeball: pupil, fibrous iris with a dark rim, off-white sclera that reddens and veins backwards.

    Args:
        key: Random key, or a seed of one, of the fibres and veins.
        iris: Mean colour of the iris, sRGB in [0, 1].
        size: Edge of the texture [texels].

    Returns:
        sRGB texture.

    Example:
        >>> texture = eye_texture(jax.random.key(0), size=64)
        >>> bool(texture[32, 32].max() < 0.1)
        True
    """
    if isinstance(key, int):
        # The data of jax.random.key(key), without the programs that would make it; in 32 bits the upper half is 0.
        upper = key >> 32 & 0xFFFFFFFF if jax.dtypes.canonicalize_dtype(int).itemsize == 8 else 0
        data: Any = np.array([upper, key & 0xFFFFFFFF], np.uint32)
    else:
        data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    fibres, veins = _draw_waves(data)
    colour = iris if isinstance(iris, Array) else np.asarray(iris, np.float32)
    return _paint_eye(fibres, veins, colour, size=size)


class _Waves(NamedTuple):
    """Periodic noise of an angle, about in [-1, 1]: waves of random whole frequencies and phases."""

    frequencies: Int[Array, " w"]
    phases: Float[Array, " w"]

    def at(self, angle: Float[Array, "r c"]) -> Float[Array, "r c"]:
        waves = jax.vmap(lambda frequency, phase: jnp.sin(frequency * angle + phase))(*self)
        return jnp.sum(waves, axis=0) / np.sqrt(2 * len(self.frequencies))


@functools.partial(stored_program, options=UNOPTIMIZED)
def _draw_waves(key_data: Array | np.ndarray) -> tuple[_Waves, _Waves]:
    """Draw the waves of the fibres and of the veins; a key's data, as no stored program could take the key."""

    def draw(key: Array, low: int, high: int) -> _Waves:
        frequency_key, phase_key = jax.random.split(key)
        frequencies = jax.random.randint(frequency_key, (_WAVES,), low, high)
        return _Waves(frequencies, jax.random.uniform(phase_key, (_WAVES,), maxval=2 * jnp.pi))

    fibre_key, vein_key = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key_data), impl="threefry2x32"))
    return draw(fibre_key, 24, 90), draw(vein_key, 7, 40)


@functools.partial(stored_program, static_argnames=("size",), options=FEWER_FUSIONS)
def _paint_eye(
    fibres: _Waves, veins: _Waves, iris: Float[Array, " 3"] | Float[np.ndarray, " 3"], *, size: int
) -> Float[Array, "s s 3"]:
    """See :func:`eye_texture`."""
    axis = (jnp.arange(size) + 0.5) / size - 0.5
    theta, phi = _polar(axis)
    back = smoothstep(theta, _IRIS, 1.5)
    white = _mix(jnp.array([0.69, 0.66, 0.62]), jnp.array([0.50, 0.33, 0.29]), back)
    vein = jnp.exp(-jnp.abs(veins.at(phi + 0.25 * jnp.sin(5 * theta))) / 0.04) * back
    white *= 1 - vein[..., None] * jnp.array([0.05, 0.22, 0.22])[None, None]

    # Iris and pupil in the middle of the texture alone, a fortieth of it.
    half = min(math.ceil((_IRIS + _SOFT) / (2 * math.pi) * size) + 1, size // 2)
    middle = slice(size // 2 - half, size - size // 2 + half)
    theta, phi = _polar(axis[middle])
    across = jnp.clip((theta - _PUPIL) / (_IRIS - _PUPIL), 0, 1)
    fibre = fibres.at(phi + 0.06 * jnp.sin(9 * across))
    # Lighter collarette round the pupil, darker limbal ring: what makes an iris read as one from afar.
    tone = 1 + 0.30 * fibre * jnp.sin(jnp.pi * across) + 0.35 * jnp.exp(-(((across - 0.25) / 0.15) ** 2))
    tone *= 1 - 0.75 * smoothstep(across, 0.72, 1.0)
    colour = linear_from_srgb(jnp.asarray(iris, jnp.float32))[None, None] * tone[..., None]

    # The borders are soft by a few texels of the real eye's own blur, which also keeps them from aliasing.
    pupil = jnp.full(colour.shape, 0.004)
    colour = _mix_pictures(pupil, colour, smoothstep(theta, _PUPIL - 0.03, _PUPIL + 0.03))
    colour = _mix_pictures(colour, white[middle, middle], smoothstep(theta, _IRIS - 0.03, _IRIS + _SOFT))
    return srgb_from_linear(white.at[middle, middle].set(colour))


def _polar(axis: Float[Array, " n"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """The angle from straight ahead, and the one around it, of the texels of a square of the texture."""
    x, y = axis[None, :], -axis[:, None]
    return 2 * jnp.pi * jnp.hypot(x, y), jnp.arctan2(y, x)


def seen_iris_colour(
    image: Float[np.ndarray, "h w 3"],
    mesh_px: Float[np.ndarray, "478 xy"],
    *,
    left_blink: float,
    right_blink: float,
) -> Float[np.ndarray, " 3"]:
    """Measure the colour of the better seen iris of a face; :data:`HAZEL` where neither can be made out.

    The larger one counts, of those whose eye is open, that lie wholly in the photo, and that are more than a blur.

    Args:
        image: The photo, sRGB.
        mesh_px: Points of the face mesh [px], irises included; what follows x and y is ignored.
        left_blink: How far the left eye is closed, in [0, 1], as the expression coefficient ``eyeBlinkLeft`` says.
        right_blink: Likewise, of the right eye.

    Returns:
        Colour in sRGB, in [0, 1].

    Raises:
        InputError: Image and points are of different photos.

    Example:
        >>> unseen = np.full((478, 2), -100.0)
        >>> colour = seen_iris_colour(np.zeros((80, 80, 3)), unseen, left_blink=0.0, right_blink=0.0)
        >>> [round(float(value), 2) for value in colour]
        [0.36, 0.25, 0.16]
    """
    size = np.array([image.shape[1], image.shape[0]])
    seen = []
    for iris, blink in ((_LEFT_IRIS, left_blink), (_RIGHT_IRIS, right_blink)):
        centre, *rim = np.asarray(mesh_px)[list(iris), :2]
        radius = float(np.mean(np.linalg.norm(rim - centre, axis=1)))
        inside = np.all(centre >= radius) and np.all(centre + radius <= size)
        if inside and blink < _OPEN_EYE and radius >= _MIN_IRIS_PX:
            seen.append((radius, tuple(centre)))
    if not seen:
        return np.array(HAZEL, np.float32)
    radius, centre = max(seen)
    return iris_colour(image, np.array(centre), radius)


def iris_colour(
    image: Float[np.ndarray, "h w 3"], centre_px: Float[np.ndarray, " 2"], radius_px: float
) -> Float[np.ndarray, " 3"]:
    """Measure the colour of an iris in a photo: the median over the lower half of its ring.

    The upper half lies in the lid's shadow and often behind the lid; pupil, rim and highlights are left out by place
    and by the median.

    Args:
        image: The photo, sRGB.
        centre_px: Centre of the iris [px], x first.
        radius_px: Radius of the iris [px].

    Returns:
        sRGB in [0, 1].

    Raises:
        InputError: The ring lies outside the photo.

    Example:
        >>> iris_colour(np.full((40, 40, 3), 0.25), np.array([20.0, 20.0]), 8.0).tolist()
        [0.25, 0.25, 0.25]
    """
    low = np.maximum(np.floor(centre_px - radius_px).astype(int), 0)
    high = np.maximum(np.ceil(centre_px + radius_px).astype(int), 0)
    iris = image[low[1] : high[1], low[0] : high[0]]
    row, column = np.indices(iris.shape[:2]) + 0.5
    x, y = (column + low[0] - centre_px[0]) / radius_px, (row + low[1] - centre_px[1]) / radius_px
    distance = np.hypot(x, y)
    ring = (distance > 0.4) & (distance < 0.85) & (y > -0.1) & (y < 0.6)
    if not ring.any():
        raise InputError(f"image: no iris at {np.round(centre_px, 1)} px, radius {radius_px:.1f}; check the landmarks.")
    return np.median(iris[ring], axis=0).astype(np.float32)


def _mix(a: Float[Array, " 3"], b: Float[Array, " 3"], share: Float[Array, "s s"]) -> Float[Array, "s s 3"]:
    return a[None, None] + share[..., None] * (b - a)[None, None]


def _mix_pictures(
    a: Float[Array, "s s 3"], b: Float[Array, "s s 3"], share: Float[Array, "s s"]
) -> Float[Array, "s s 3"]:
    return a + share[..., None] * (b - a)
