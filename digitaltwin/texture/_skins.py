"""The shipped skins (``assets/skins``): CC0 pictures of the whole head without eyebrows or hair, in its atlas."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from digitaltwin.io.assets import asset_path
from digitaltwin.render import lab_from_linear, linear_from_srgb, srgb_from_linear
from digitaltwin.texture._completion import face_colour
from digitaltwin.texture._layout import COARSE
from digitaltwin.texture._projection import Projection
from digitaltwin.texture._pyramid import halve

# Absorption in red, green and blue light (about 600, 545 and 460 nm) relative to green. Melanin's falls with the
# wavelength to the power -3.33 (Jacques 1998, Skin Optics); blood takes green and blue and lets red pass.
_MELANIN = (0.73, 1.0, 1.76)
_BLOOD = (0.0, 1.0, 0.8)


class Skin(NamedTuple):
    """One skin."""

    name: str
    """Gender, group and age, as in ``female-african-young``."""
    pixels: Float[np.ndarray, "s s 3"]
    """sRGB."""


def skin_paths() -> tuple[Path, ...]:
    """The files of the shipped skins, by name."""
    return tuple(sorted(asset_path("skins/female-african-young.jpg").parent.glob("*.jpg")))


def load_skin(path: Path, *, size: int) -> Skin:
    """Read a skin at a texture's size (Lanczos)."""
    with Image.open(path) as picture:
        resized = picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return Skin(path.stem, np.asarray(resized, np.float32) / 255)


@jax.jit
def apply_tone(pixels: Float[Array, "h w 3"], tone: Float[Array, " 2"]) -> Float[Array, "h w 3"]:
    """Give a skin another tone: a little more or less melanin and blood everywhere.

    In linear light ``c' = c exp(lightness m - redness b)``, m and b the absorption of melanin and blood in red, green
    and blue relative to green, so lightness and redness are natural logarithms of the change in green. Lips, mouth and
    what else the picture shows change with it.

    Args:
        pixels: sRGB, of :func:`load_skin`.
        tone: lightness and redness, some tenths at most; ``Subjects.tone`` holds one for everybody.

    Returns:
        sRGB; what lies outside [0, 1] is clipped.

    Example:
        >>> grey = jnp.full((1, 1, 3), 0.5)
        >>> [round(float(c), 2) for c in apply_tone(grey, jnp.array([0.2, 0.0]))[0, 0]]
        [0.53, 0.55, 0.59]
    """
    absorbed = tone[0] * jnp.array(_MELANIN) - tone[1] * jnp.array(_BLOOD)
    return srgb_from_linear(linear_from_srgb(pixels) * jnp.exp(absorbed)[None, None])


def nearest_skin(projection: Projection) -> Skin:
    """The skin whose face is nearest in colour (CIE Lab) to what a photo shows of one.

    Every skin is averaged over the very texels that the photo coloured, so that shadows of the nose or a turned head
    do not count.

    Args:
        projection: of :func:`digitaltwin.texture.project_texture`.

    Returns:
        The skin, at the projection's size.
    """
    paths = skin_paths()
    seen = projection.weight[..., None]
    while seen.shape[0] > COARSE:
        seen = halve(seen)
    small = linear_from_srgb(jnp.stack([_thumbnail(path) for path in paths]))
    tones = jax.vmap(lambda skin: face_colour(Projection(skin, seen[..., 0])))(small)
    distances = lab_from_linear(tones) - lab_from_linear(face_colour(projection))[None]
    nearest = int(jnp.argmin(jnp.sum(distances**2, axis=1)))
    return load_skin(paths[nearest], size=projection.weight.shape[0])


def _thumbnail(path: Path) -> Float[np.ndarray, "c c 3"]:
    with Image.open(path) as picture:
        # The decoder leaves the fine frequencies out, which takes a tenth of the time.
        picture.draft("RGB", (COARSE, COARSE))
        return np.asarray(picture.resize((COARSE, COARSE), Image.Resampling.BOX), np.float32) / 255
