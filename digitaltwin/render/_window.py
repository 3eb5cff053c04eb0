"""Square windows of photos, at a size of their own.

Code that is compiled for one size of picture looks at photos of all sizes through these. Letters: h w rows and columns
of the photo, n edge of the window.
"""

import numpy as np
from jaxtyping import Float
from PIL import Image

from digitaltwin.render._colour import linear_from_srgb_on_host

_PORTION = 2**16  # values decoded at a time


def linear_window(
    image: Float[np.ndarray, "h w 3"], corner_px: Float[np.ndarray, " 2"], edge_px: float, size: int
) -> Float[np.ndarray, "n n 3"]:
    """A square window of a photo, resampled in linear light with antialiasing.

    Args:
        image: The photo, sRGB.
        corner_px: The window's upper left corner, x first; may lie outside the photo, whose border is continued.
        edge_px: The window's edge in the photo.
        size: The window's edge in its own pixels.

    Returns:
        Linear light; what overshoots at sharp edges is cut at black.

    Example:
        >>> linear_window(np.ones((6, 4, 3), np.float32), np.array([-2.0, 1.0]), 8.0, 2).tolist()[0][0]
        [1.0, 1.0, 1.0]
    """
    limit = np.array([image.shape[1], image.shape[0]])
    # The window's whole pixels, with two more that the filter may look at; then what of them the photo has.
    low, high = np.floor(corner_px).astype(int) - 2, np.ceil(corner_px + edge_px).astype(int) + 2
    first, last = np.clip(low, 0, limit - 1), np.clip(high, 1, limit)
    linear = _decoded(image[first[1] : last[1], first[0] : last[0]])
    before, after = np.maximum(first - low, 0).tolist(), np.maximum(high - last, 0).tolist()
    padding = np.array([[before[1], after[1]], [before[0], after[0]], [0, 0]])
    linear = np.pad(linear, padding, mode="edge")  # pyright: ignore[reportCallIssue, reportArgumentType]
    left, top = (float(x) for x in corner_px - np.minimum(low, first))
    box = (left, top, left + float(edge_px), top + float(edge_px))
    window = np.empty((size, size, 3), np.float32)
    for channel in range(3):
        picture = Image.fromarray(np.ascontiguousarray(linear[..., channel]))
        resized = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
        np.maximum(np.asarray(resized), 0, out=window[..., channel])
    return window


def _decoded(srgb: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Linear light, in portions that stay in the processor's cache."""
    pixels = np.ascontiguousarray(srgb, np.float32).reshape(-1)
    linear = np.empty_like(pixels)
    for start in range(0, len(pixels), _PORTION):
        portion = slice(start, start + _PORTION)
        linear[portion] = linear_from_srgb_on_host(pixels[portion])
    return linear.reshape(srgb.shape)
