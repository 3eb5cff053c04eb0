"""Projection of a photo onto the skin: which texels it shows, in what colour, and how far it is to be trusted there.

Letters: v vertices, f faces, n texels a photo may colour, s edge of the texture, h w rows and columns of the photo.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry._normals import vertex_normals
from digitaltwin.geometry._smoothstep import smoothstep
from digitaltwin.io._programs import LIGHT, stored_program
from digitaltwin.render import rasterize
from digitaltwin.render._colour import lab_from_linear
from digitaltwin.render._shading import sample_texture
from digitaltwin.render._window import linear_window
from digitaltwin.render._zbuffer import screen_points
from digitaltwin.texture._layout import SMALLEST, TextureLayout
from digitaltwin.texture._pyramid import blur, double, halve
from digitaltwin.types import InputError

LARGEST_VIEW = 2048
"""Edge of the largest window cut out of a photo [px]; that of a small texture has the texture's own edge."""
_DEPTH = 1024  # edge of the picture of depths that decides what is visible [px]
_DEPTH_SLACK_MM = 0.7
_FEATHER = 6  # radius over which visibility ends, in texels of the smallest texture: about 1 mm on the face


class Projection(NamedTuple):
    """The colours that a photo shows of the skin, and the trust in them."""

    linear_colour: Float[Array, "s s 3"]
    """Colours in the photo, linear light; 0 where ``weight`` is."""
    weight: Float[Array, "s s"]
    """Trust in them, in [0, 1]."""


class View(NamedTuple):
    """A square window of a photo, of a size of its own, and its camera; on the host until a program takes it."""

    linear: Float[Array, "n n 3"] | Float[np.ndarray, "n n 3"]
    """Linear light."""
    focal_px: Float[Array, ""] | np.float32
    """Focal length [px] of the window."""
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"]
    """(c_x, c_y) [px] in the window."""
    low_px: Float[Array, " 2"] | Float[np.ndarray, " 2"]
    """The photo's upper left corner in the window, x first: beyond it ``linear`` is made up."""
    high_px: Float[Array, " 2"] | Float[np.ndarray, " 2"]
    """The photo's lower right corner in the window, likewise."""


def project_texture(
    image: Float[np.ndarray, "h w 3"] | Float[Array, "h w 3"],
    vertices: Float[Array, "v 3"],
    faces: Int[Array, "f 3"],
    layout: TextureLayout,
    *,
    focal_px: float | Float[Array, ""],
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"],
) -> Projection:
    """Project a photo onto the texels of the skin that it shows.

    The weight is the product of: visibility by the z-buffer, feathered inward; the cosine between normal and line of
    sight, from nothing at 0.25 to full at 0.6; the place on the face, ending about the oval; and, outside the oval,
    just within it and high on the forehead, likeness to the skin of the face, which keeps hair, hats, background and
    collars off the head.

    Args:
        image: The photo [h w 3], sRGB in [0, 1]; photos of all sizes share one program.
        vertices: The posed skin [v 3], camera frame [mm].
        faces: Faces of the skin [f 3].
        layout: Texels of the head, see :func:`digitaltwin.texture.make_layout`.
        focal_px: Focal length [px] of the photo.
        principal_point_px: (c_x, c_y) [px], x first.

    Returns:
        Colours [s s 3] in linear light, and the weight [s s] of each.

    Raises:
        InputError: No part of the face lies in the photo.

    Example:
        >>> from digitaltwin.head import load_head
        >>> from digitaltwin.texture import make_layout
        >>> head = load_head()
        >>> posed = head.mean * jnp.array([[1.0, -1.0, -1.0]]) + jnp.array([[0.0, 0.0, 800.0]])
        >>> photo, layout = np.full((200, 200, 3), 0.5, np.float32), make_layout(head, size=512)
        >>> options = {"focal_px": 500.0, "principal_point_px": np.array([100.0, 100.0])}
        >>> round(float(project_texture(photo, posed, head.faces, layout, **options).linear_colour.max()), 3)
        0.214
    """
    corners = np.asarray(faces)
    used = np.zeros(len(corners), bool)
    used[np.asarray(layout.face)] = True
    region = np.unique(corners[used])
    texture_size = layout.covered.shape[0]
    view = cut_view(
        np.asarray(image),
        np.asarray(vertices, np.float64)[region],
        float(focal_px),
        np.asarray(principal_point_px, np.float64),
        # A texel of the face is one to two pixels wide then: sampling skips none, and no more is compiled than
        # one function for each size of texture.
        size=min(texture_size, LARGEST_VIEW),
    )
    return project_view(view, vertices, faces, layout, size=texture_size)


def cut_view(
    image: Float[np.ndarray, "h w 3"],
    points: Float[np.ndarray, "m 3"],
    focal_px: float,
    principal_point_px: Float[np.ndarray, " 2"],
    *,
    size: int,
) -> View:
    """The square window of a photo around points, resampled in linear light (antialiased) to a size of its own.

    Args:
        image: The photo, sRGB.
        points: Points [m 3] in the camera frame [mm].
        focal_px: Focal length [px] of the photo.
        principal_point_px: (c_x, c_y) [px].
        size: Edge of the window in its own pixels.

    Raises:
        InputError: The points do not lie in front of the camera and within the photo.
    """
    height, width = image.shape[:2]
    depth = points[:, 2:]
    in_front = bool(np.all(depth > 0))
    screen = focal_px * points[:, :2] / np.where(depth > 0, depth, 1) + principal_point_px
    low, high = screen.min(axis=0), screen.max(axis=0)
    if not (in_front and np.all(high > 0) and np.all(low < [width, height])):
        raise InputError("image: the fitted face lies outside the photo; check the landmarks the fit was given.")
    edge = 1.04 * (high - low).max()
    corner = (low + high - edge) / 2
    scale = size / edge

    return View(
        linear_window(image, corner, float(edge), size),
        np.float32(focal_px * scale),
        np.asarray((principal_point_px - corner) * scale, np.float32),
        np.asarray(-corner * scale, np.float32),
        np.asarray((np.array([width, height]) - corner) * scale, np.float32),
    )


def skin_likeness(linear: Float[Array, "*n 3"], weight: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """How much each colour looks like the bulk of the weighted ones, from 0 to 1.

    In Lab the skin of one face is a compact cloud; lips, brows, eyes and beard are its outliers. Centre and widths are
    found in three rounds, each weighing by the likeness of the last: ``exp(-max(0, d^2 - 2))``, d the distance
    in widths.
    """
    lab = lab_from_linear(linear)
    channels = [lab[..., channel].reshape(-1) for channel in range(3)]
    trust = weight.reshape(-1)
    likeness = jnp.ones_like(trust)
    for _ in range(3):
        share = trust * likeness
        share = share / jnp.maximum(jnp.sum(share), 1e-9)
        squared = jnp.zeros_like(trust)
        # Widths never below what shading and pores do to one colour of skin, so that an even face keeps its shadows.
        for channel, least in zip(channels, (8.0, 4.0, 5.0)):
            offset = channel - jnp.sum(share * channel)
            width = jnp.sqrt(jnp.sum(share * offset**2))
            squared += (offset / jnp.maximum(width, least)) ** 2
        likeness = jnp.exp(-jnp.maximum(squared - 2, 0))
    return likeness.reshape(weight.shape)


@partial(stored_program, static_argnames=("size",), options=LIGHT)
def project_view(
    view: View, vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"], layout: TextureLayout, *, size: int
) -> Projection:
    view_size = len(view.linear)
    depth_scale = _DEPTH / view_size
    margin = 2 / depth_scale
    screen = screen_points(vertices, depth_scale * view.focal_px, depth_scale * view.principal_point_px)
    nearest = rasterize(screen, faces, image_hw=(_DEPTH, _DEPTH)).depth
    # The nearest surface within a pixel: what borders on an occluder counts as hidden, for the photo mixes both there.
    nearest = -jax.lax.reduce_window(-nearest, -jnp.inf, jax.lax.max, (3, 3), (1, 1), "SAME")

    # Component by component, which a CPU works off with its vector instructions. Sums, not matrix products: those an
    # accelerator rounds by more than the depth's slack.
    corners = jnp.concatenate(
        [vertices[faces].reshape(-1, 9), vertex_normals(vertices, faces)[faces].reshape(-1, 9)], 1
    )
    of_texel = corners[layout.face]
    at = [sum(layout.barycentric[:, k] * of_texel[:, 3 * k + i] for k in range(3)) for i in (0, 1, 2, 9, 10, 11)]
    point, normal = at[:3], at[3:]
    dot = sum(n * p for n, p in zip(normal, point))
    lengths = jnp.sqrt(sum(n**2 for n in normal)) * jnp.sqrt(sum(p**2 for p in point))
    cosine = -dot / jnp.maximum(lengths, 1e-20)
    x, y = (view.focal_px * point[i] / point[2] + view.principal_point_px[i] for i in range(2))
    column, row = (jnp.clip(jnp.floor(depth_scale * p), 0, _DEPTH - 1).astype(int) for p in (x, y))
    # Within that pixel a slanted surface itself comes nearer by its slope.
    slope = jnp.sqrt(jnp.maximum(1 - cosine**2, 0)) / jnp.maximum(cosine, 0.1)
    slack = _DEPTH_SLACK_MM + 2 * slope * point[2] / (depth_scale * view.focal_px)
    seen = (cosine > 0) & (point[2] <= nearest[row, column] + slack)
    for pixel, low, high in zip((x, y), view.low_px, view.high_px):
        seen &= (pixel > low + margin) & (pixel < high - margin)
    colour = sample_texture(view.linear, jnp.stack([x / view_size, 1 - y / view_size], axis=-1))

    visible = feather(texture_image(seen[:, None].astype(jnp.float32), layout.texel, size=size), layout.covered)
    weight = jnp.where(seen, visible.reshape(-1)[layout.texel], 0) * smoothstep(cosine, 0.25, 0.6)
    weight *= smoothstep(layout.oval_mm, -10.0, 8.0) * skin_mask(colour, weight, layout, size=size)
    return Projection(
        texture_image(jnp.where(weight[:, None] > 0, colour, 0), layout.texel, size=size),
        texture_image(weight[:, None], layout.texel, size=size)[..., 0],
    )


def skin_mask(
    linear: Float[Array, "n 3"], weight: Float[Array, " n"], layout: TextureLayout, *, size: int
) -> Float[Array, " n"]:
    """How far colours that something shows of a head are skin's, or lie where nothing else is to be expected.

    Args:
        linear: Of the layout's texels.
        weight: Trust in them.
        layout: Of the head.
        size: Edge of the texture.

    Returns:
        1 on the face, beard and brows included; outside the oval, just within it and high on the forehead the likeness
        to the skin of the face, which keeps hair, hats and collars off the head.
    """
    likeness = skin_likeness(linear, weight * smoothstep(layout.oval_mm, 0.0, 20.0))
    likeness = 1 - _dilate(texture_image(1 - likeness[:, None], layout.texel, size=size)).reshape(-1)[layout.texel]
    inside = smoothstep(layout.bare_mm, 4.0, 22.0)
    return inside + (1 - inside) * likeness


def texture_image(values: Float[Array, "n c"], texel: Int[Array, " n"], *, size: int) -> Float[Array, "s s c"]:
    """Values of some texels as a texture, 0 elsewhere."""
    channels = values.shape[1]
    return jnp.zeros((size * size, channels)).at[texel].set(values).reshape(size, size, channels)


def _dilate(strangeness: Float[Array, "s s 1"]) -> Float[Array, "s s 1"]:
    """The greatest value around each texel: a hair's soft outline is neither hair nor skin, and has to go too."""

    def widen(picture: Float[Array, "c c 1"]) -> Float[Array, "c c 1"]:
        return blur(jax.lax.reduce_window(picture, -jnp.inf, jax.lax.max, (7, 7, 1), (1, 1, 1), "SAME"), 4)

    return _at_reduced_size(widen, strangeness)


def feather(mask: Float[Array, "s s 1"], covered: Bool[Array, "s s"]) -> Float[Array, "s s 1"]:
    """Full well inside a mask, falling smoothly to nothing at its border.

    What lies between the islands is neither in nor out: the lids and the lips keep their colours up to their edges.
    """

    def soften(both: Float[Array, "c c 2"]) -> Float[Array, "c c 1"]:
        mean = blur(both, _FEATHER)
        return jnp.clip(2 * mean[..., :1] / jnp.maximum(mean[..., 1:], 1e-3) - 1, 0, 1)

    return _at_reduced_size(soften, jnp.concatenate([mask, covered[..., None].astype(jnp.float32)], axis=-1))


def _at_reduced_size(function: Callable[[Array], Array], picture: Float[Array, "s s c"]) -> Array:
    """Apply something at the one size at which its radii are meant, that of the smallest texture."""
    times = (picture.shape[0] // SMALLEST).bit_length() - 1
    for _ in range(times):
        picture = halve(picture)
    picture = function(picture)
    for _ in range(times):
        picture = double(picture)
    return picture
