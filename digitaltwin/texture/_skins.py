"""The shipped skins (``assets/skins``): CC0 pictures of the whole head without eyebrows or hair, in its atlas."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from digitaltwin.io._programs import FEWER_FUSIONS, stored_program
from digitaltwin.io.assets import asset_path
from digitaltwin.render._colour import lab_from_linear, linear_from_srgb, srgb_from_linear
from digitaltwin.texture._completion import coarse_projection, face_colours
from digitaltwin.texture._layout import COARSE
from digitaltwin.texture._projection import Projection

# Absorption in red, green and blue light (about 600, 545 and 460 nm) relative to green. Melanin's falls with the
# wavelength to the power -3.33 (Jacques 1998, Skin Optics); blood takes green and blue and lets red pass.
_MELANIN = (0.73, 1.0, 1.76)
_BLOOD = (0.0, 1.0, 0.8)


class Skin(NamedTuple):
    """One of the shipped skins."""

    name: str
    """Gender, group and age, as in ``female-african-young``."""
    pixels: Float[np.ndarray, "s s 3"]
    """Colours in sRGB, in [0, 1]."""


def skin_paths() -> tuple[Path, ...]:
    """Find the files of the shipped skins.

    Returns:
        Their paths, sorted by name; a name says gender, group and age.

    Example:
        >>> skin_paths()[0].stem
        'female-african-middleage'
    """
    return tuple(sorted(asset_path("skins/female-african-young.jpg").parent.glob("*.jpg")))


def load_skin(path: Path, *, size: int) -> Skin:
    """Read a skin at a texture's size, resampled by Lanczos' filter.

    Args:
        path: One of :func:`skin_paths`.
        size: Edge of the texture [texels].

    Returns:
        Name and pixels.

    Example:
        >>> load_skin(skin_paths()[0], size=64).pixels.shape
        (64, 64, 3)
    """
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
        pixels: Skin in sRGB, such as ``nearest_skin(projection).pixels``.
        tone: Lightness and redness, some tenths at most; ``Subjects.tone`` holds one for everybody.

    Returns:
        sRGB; what lies outside [0, 1] is clipped.

    Example:
        >>> grey = jnp.full((1, 1, 3), 0.5)
        >>> [round(float(c), 2) for c in apply_tone(grey, jnp.array([0.2, 0.0]))[0, 0]]
        [0.53, 0.55, 0.59]

    Source: Jacques, "Skin Optics" (1998).
    """
    absorbed = tone[0] * jnp.array(_MELANIN) - tone[1] * jnp.array(_BLOOD)
    return srgb_from_linear(linear_from_srgb(pixels) * jnp.exp(absorbed)[None, None])


def nearest_skin(projection: Projection) -> Skin:
    """Choose the skin whose face is nearest in colour (CIE Lab) to what a photo shows of one.

    Every skin is averaged over the very texels that the photo coloured, so that shadows of the nose or a turned head
    do not count.

    Args:
        projection: What the photo shows, see :func:`digitaltwin.texture.project_texture`.

    Returns:
        The skin, at the projection's size.

    Example:
        >>> seen = Projection(jnp.full((128, 128, 3), 0.03), jnp.ones((128, 128)))
        >>> nearest_skin(seen).name.split("-")[1]
        'african'
    """
    paths = skin_paths()
    distances = skin_distances(coarse_projection(projection), np.stack([_thumbnail(path) for path in paths]))
    return load_skin(paths[int(np.argmin(np.asarray(distances)))], size=projection.weight.shape[0])


@functools.partial(stored_program, options=FEWER_FUSIONS)
def skin_distances(
    seen: Projection, thumbnails: Float[Array, "m c c 3"] | Float[np.ndarray, "m c c 3"]
) -> Float[Array, " m"]:
    """Squared distances in Lab between the colour of a coarse face and that of each skin, sRGB, at the same texels."""
    pictures = jnp.concatenate([linear_from_srgb(jnp.asarray(thumbnails)), seen.linear_colour[None]])
    lab = lab_from_linear(face_colours(pictures, seen.weight))
    return jnp.sum((lab[:-1] - lab[-1:]) ** 2, axis=1)


def _thumbnail(path: Path) -> Float[np.ndarray, "c c 3"]:
    with Image.open(path) as picture:
        # The decoder leaves the fine frequencies out, which takes a tenth of the time.
        picture.draft("RGB", (COARSE, COARSE))
        return np.asarray(picture.resize((COARSE, COARSE), Image.Resampling.BOX), np.float32) / 255
