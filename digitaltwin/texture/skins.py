"""The shipped skins (``assets/skins``): CC0 pictures of the whole head without eyebrows or hair, in its atlas."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image

from digitaltwin.io.assets import asset_path
from digitaltwin.render.colour import lab_from_linear, linear_from_srgb
from digitaltwin.texture.completion import face_colour
from digitaltwin.texture.layout import COARSE
from digitaltwin.texture.projection import Projection
from digitaltwin.texture.pyramid import halve


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


def nearest_skin(projection: Projection) -> Skin:
    """The skin whose face is nearest in colour (CIE Lab) to what a photo shows of one.

    Every skin is averaged over the very texels that the photo coloured, so that shadows of the nose or a turned head
    do not count.

    Args:
        projection: of :func:`digitaltwin.texture.projection.project_texture`.

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
