"""The shipped skins (``assets/skins``): CC0 pictures of the whole head without eyebrows or hair, in its atlas."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image

from digitaltwin.io.assets import asset_path
from digitaltwin.render.colour import lab_from_linear, linear_from_srgb
from digitaltwin.texture.completion import face_colour
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
    size = projection.weight.shape[0]
    paths = skin_paths()
    small = 256
    seen = projection.weight[..., None]
    while seen.shape[0] > small:
        seen = halve(seen)
    target = lab_from_linear(face_colour(projection))
    candidates = [load_skin(path, size=small).pixels for path in paths]
    tones = jnp.stack(
        [lab_from_linear(face_colour(Projection(linear_from_srgb(jnp.asarray(c)), seen[..., 0]))) for c in candidates]
    )
    nearest = int(jnp.argmin(jnp.sum((tones - target[None]) ** 2, axis=1)))
    return load_skin(paths[nearest], size=size)
