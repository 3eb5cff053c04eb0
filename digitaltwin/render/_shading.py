"""Pictures of textured surfaces: smooth normals, soft lights, antialiased by averaging in linear light.

Letters: v vertices, f faces, t texture coordinates, l lights, h w rows and columns of the picture.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from digitaltwin.geometry import vertex_normals
from digitaltwin.geometry._normals import face_normals, normalize
from digitaltwin.render._colour import linear_from_srgb, srgb_from_linear
from digitaltwin.render._rasterize import interpolate, project, rasterize


class Surface(NamedTuple):
    """A textured mesh of one material."""

    vertices: Float[Array, "v 3"]
    """Camera frame [mm]."""
    faces: Int[Array, "f 3"]
    """Counter-clockwise seen from outside."""
    uv: Float[Array, "t 2"]
    """Texture coordinates, v upward."""
    uv_faces: Int[Array, "f 3"]
    texture: Float[Array, "rows columns 3"]
    """sRGB. One colour is a texture of one texel."""
    gloss: Float[Array, ""] | float = 0.04
    """Strength of the mirror-like part of the reflection: 0.04 for skin, 0.5 for a wet eye."""


class Lighting(NamedTuple):
    """Distant lights and light from all around."""

    directions: Float[Array, "l 3"]
    """Unit vectors towards the lights, camera frame (-y is up, -z is towards the camera)."""
    linear_colours: Float[Array, "l 3"]
    """Light reflected by a white surface that faces the light."""
    linear_above: Float[Array, " 3"]
    """Light that a surface facing up receives from all around ..."""
    linear_below: Float[Array, " 3"]
    """... and one facing down."""


class Picture(NamedTuple):
    """A rendered picture."""

    colour: Float[Array, "h w 3"]
    """sRGB, over the background."""
    alpha: Float[Array, "h w"]
    """Share of each pixel that the surfaces cover."""


WRAP = 0.35
"""How far light reaches round the terminator: lamps are large, and skin scatters."""
SHININESS = 40.0
"""Exponent of the Blinn-Phong highlight."""
# Four samples of a pixel on a turned grid: no two share a row or a column, which serves near-level edges best.
_SAMPLES = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))


def portrait_lighting() -> Lighting:
    """A large warm key light from the upper left, a weak cool fill from the right, light grey surroundings."""
    directions = jnp.array([[-0.5, -0.55, -0.8], [0.8, -0.1, -0.6]])
    colours = jnp.array([[0.62, 0.60, 0.57], [0.15, 0.16, 0.18]])
    return Lighting(normalize(directions), colours, jnp.array([0.42, 0.42, 0.43]), jnp.array([0.24, 0.23, 0.22]))


def flat_lighting() -> Lighting:
    """The same light from everywhere: shows the texture as it is, for a photo brought its own shading along."""
    return Lighting(jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros((1, 3)), jnp.ones(3), jnp.ones(3))


@partial(jax.jit, static_argnames=("height", "width"))
def render_mesh(
    surfaces: tuple[Surface, ...],
    focal_px: Float[Array, ""] | float,
    principal_point_px: Float[Array, " 2"],
    *,
    height: int,
    width: int,
    lighting: Lighting,
    background: Float[Array, " 3"] | Float[Array, "h w 3"],
) -> Picture:
    """Picture of surfaces that hide one another, four samples a pixel.

    Both sides of a face are drawn and lit, so that an open neck or mouth shows its inside.

    Args:
        surfaces: what is seen; see :class:`Surface`.
        focal_px: focal length of the picture [px].
        principal_point_px: (c_x, c_y) [px].
        height: rows.
        width: columns.
        lighting: see :func:`portrait_lighting`.
        background: sRGB, one colour or a picture.

    Returns:
        The picture.
    """
    vertices, faces, owner = _join([surface.vertices for surface in surfaces], [surface.faces for surface in surfaces])
    uv, uv_faces, _ = _join([surface.uv for surface in surfaces], [surface.uv_faces for surface in surfaces])
    normals = jnp.concatenate([vertex_normals(surface.vertices, surface.faces) for surface in surfaces])
    gloss = jnp.stack([jnp.asarray(surface.gloss, jnp.float32) for surface in surfaces])
    pool = _pool([surface.texture for surface in surfaces])
    screen = project(vertices, focal_px, principal_point_px)
    behind = jnp.broadcast_to(linear_from_srgb(background), (height, width, 3))

    from_behind = jnp.sum(face_normals(vertices, faces) * vertices[faces[:, 0]], axis=1) > 0

    def per_pixel(function: Callable[..., Array]) -> Callable[..., Array]:
        return jax.vmap(jax.vmap(function))

    def add_sample(total: tuple[Array, Array], offset: Float[Array, " 2"]) -> tuple[tuple[Array, Array], None]:
        moved = screen.at[:, :2].add(-offset[None])
        fragments = rasterize(moved, faces, height=height, width=width)
        of = owner[jnp.maximum(fragments.face, 0)]
        # Decoded after the lookup: a picture has fewer pixels than its textures texels.
        albedo = linear_from_srgb(per_pixel(partial(_sample_pool, pool))(of, interpolate(fragments, uv, uv_faces)))
        # The side is the flat face's: smooth normals lean over the outline, and turned round would flash there.
        side = jnp.where(from_behind[jnp.maximum(fragments.face, 0)], -1.0, 1.0)[..., None]
        light = per_pixel(partial(shade, lighting=lighting))(
            albedo, side * interpolate(fragments, normals, faces), interpolate(fragments, vertices, faces), gloss[of]
        )
        hit = (fragments.face >= 0)[..., None]
        return (total[0] + jnp.where(hit, light, behind), total[1] + hit[..., 0]), None

    start = (jnp.zeros((height, width, 3)), jnp.zeros((height, width)))
    offsets = jnp.array(_SAMPLES)
    (linear, alpha), _ = jax.lax.scan(add_sample, start, offsets)
    return Picture(srgb_from_linear(linear / len(offsets)), alpha / len(offsets))


def shade(
    linear_albedo: Float[Array, " 3"],
    normal: Float[Array, " 3"],
    point: Float[Array, " 3"],
    gloss: Float[Array, ""],
    lighting: Lighting,
) -> Float[Array, " 3"]:
    """Linear light that one point reflects to the camera: wrapped Lambert, surroundings, Blinn-Phong highlights.

    ``albedo (ambient(n) + sum_l c_l max(0, (n.l + w) / (1 + w))) + gloss sum_l c_l (n.h)^s``, h halfway between light
    and eye, w :data:`WRAP`, s :data:`SHININESS`.

    Args:
        linear_albedo: colour of the surface.
        normal: of any length, on the side that is seen.
        point: camera frame [mm].
        gloss: see :class:`Surface`.
        lighting: the lights.
    """
    to_eye = normalize(-point)
    normal = normalize(normal)
    upward = 0.5 - 0.5 * normal[1]
    ambient = lighting.linear_below + upward * (lighting.linear_above - lighting.linear_below)
    facing = lighting.directions @ normal
    halfway = jax.vmap(normalize)(lighting.directions + to_eye[None])
    # The floor keeps the power's gradient finite where the surface faces away.
    mirrored = jnp.where(facing > 0, jnp.maximum(halfway @ normal, 1e-3) ** SHININESS, 0)
    wrapped = jnp.maximum((facing + WRAP) / (1 + WRAP), 0)
    return linear_albedo * (ambient + wrapped @ lighting.linear_colours) + gloss * (mirrored @ lighting.linear_colours)


def sample_texture(texture: Float[Array, "rows columns 3"], uv: Float[Array, " 2"]) -> Float[Array, " 3"]:
    """Colour of a texture at one point, bilinear; beyond its border the outermost texels go on.

    Args:
        texture: row 0 at the top, that is, at v = 1.
        uv: texture coordinates, v upward.

    Example:
        >>> texture = jnp.array([[[0.0] * 3, [1.0] * 3]])
        >>> sample_texture(texture, jnp.array([0.5, 0.5])).tolist()
        [0.5, 0.5, 0.5]
    """
    return _sample_pool(_pool([texture]), jnp.zeros((), int), uv)


class _Pool(NamedTuple):
    """Textures of any sizes, one after the other, so that one lookup serves all."""

    texels: Float[Array, "n 3"]
    start: Int[Array, " s"]
    rows: Int[Array, " s"]
    columns: Int[Array, " s"]


def _pool(textures: list[Float[Array, "_ _ 3"]]) -> _Pool:
    shapes = jnp.array([texture.shape[:2] for texture in textures])
    sizes = shapes[:, 0] * shapes[:, 1]
    texels = jnp.concatenate([texture.reshape(-1, 3) for texture in textures])
    return _Pool(texels, jnp.cumsum(sizes) - sizes, shapes[:, 0], shapes[:, 1])


def _sample_pool(pool: _Pool, index: Int[Array, ""], uv: Float[Array, " 2"]) -> Float[Array, " 3"]:
    start, rows, columns = pool.start[index], pool.rows[index], pool.columns[index]
    x = jnp.clip(uv[0] * columns - 0.5, 0, columns - 1)
    y = jnp.clip((1 - uv[1]) * rows - 0.5, 0, rows - 1)
    left, top = jnp.floor(x).astype(int), jnp.floor(y).astype(int)
    right, bottom = jnp.minimum(left + 1, columns - 1), jnp.minimum(top + 1, rows - 1)

    def texel(row: Int[Array, ""], column: Int[Array, ""]) -> Float[Array, " 3"]:
        return pool.texels[start + row * columns + column]

    above = texel(top, left) * (left + 1 - x) + texel(top, right) * (x - left)
    below = texel(bottom, left) * (left + 1 - x) + texel(bottom, right) * (x - left)
    return above * (top + 1 - y) + below * (y - top)


def _join(points: list[Array], corners: list[Array]) -> tuple[Array, Array, Array]:
    """Several index lists over their own points as one, and which list each row came from."""
    counts = [len(array) for array in points]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    joined = jnp.concatenate([array + start for array, start in zip(corners, starts)])
    owner = jnp.concatenate([jnp.full(len(array), i) for i, array in enumerate(corners)])
    return jnp.concatenate(points), joined, owner
