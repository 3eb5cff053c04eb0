"""Pictures of textured meshes: smooth normals, soft lights, antialiased by averaging in linear light.

A picture is shaded tile by tile, and a tile that no mesh covers costs nothing. Within a tile colours, normals and
points lie component by component, not pixel by pixel, so that a CPU works on many pixels at once.

Letters: v vertices, f faces, t texture coordinates, m meshes, l lights, h w rows and columns of the picture, s samples
of a pixel, n samples of a tile.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry._normals import face_normals, vertex_normals
from digitaltwin.io._programs import FEWER_FUSIONS, stored_program
from digitaltwin.render._colour import decode_srgb, encode_srgb
from digitaltwin.render._zbuffer import screen_points, visible_faces
from digitaltwin.types import Mesh


class Lighting(NamedTuple):
    """Distant lights and light from all around."""

    directions: Float[Array, "l 3"] | Float[np.ndarray, "l 3"]
    """Unit vectors towards the lights, camera frame (-y is up, -z is towards the camera)."""
    linear_colours: Float[Array, "l 3"] | Float[np.ndarray, "l 3"]
    """Light reflected by a white surface that faces the light."""
    linear_above: Float[Array, " 3"] | Float[np.ndarray, " 3"]
    """Light that a surface facing up receives from all around."""
    linear_below: Float[Array, " 3"] | Float[np.ndarray, " 3"]
    """Light that a surface facing down receives from all around."""


class Picture(NamedTuple):
    """A rendered picture."""

    colour: Float[Array, "h w 3"]
    """Colour over the background, sRGB in [0, 1]."""
    alpha: Float[Array, "h w"]
    """Share of each pixel that the meshes cover, in [0, 1]."""


SKIN_GLOSS = 0.04
"""Strength of the mirror-like part of the skin's reflection; a wet eye has 0.5."""
WRAP = 0.35
"""How far light reaches round the terminator: lamps are large, and skin scatters."""
SHININESS = 40
"""Exponent of the Blinn-Phong highlight."""
# Four samples of a pixel on a turned grid: no two share a row or a column, which serves near-level edges best.
_SAMPLES = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_TILE = 32  # edge of a tile [px]


def portrait_lighting() -> Lighting:
    """Light a portrait: a large warm key light from the upper left, a weak cool fill from the right, grey surroundings.

    Returns:
        Two lights and the surroundings.

    Example:
        >>> portrait_lighting().linear_colours.shape
        (2, 3)
    """
    directions = np.array([[-0.5, -0.55, -0.8], [0.8, -0.1, -0.6]])
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    colours = np.array([[0.62, 0.60, 0.57], [0.15, 0.16, 0.18]], np.float32)
    above, below = np.array([[0.42, 0.42, 0.43], [0.24, 0.23, 0.22]], np.float32)
    return Lighting(directions, colours, above, below)


def flat_lighting() -> Lighting:
    """Light everything alike, which shows a texture as it is; a photo's texture brings its own shading along.

    Returns:
        Surroundings of white light, and no lamp that shines.

    Example:
        >>> flat_lighting().linear_above.tolist()
        [1.0, 1.0, 1.0]
    """
    white = np.ones(3, np.float32)
    return Lighting(np.array([[0.0, 0.0, -1.0]], np.float32), np.zeros((1, 3), np.float32), white, white)


@partial(jax.jit, static_argnames=("image_hw",))
def render_mesh(
    meshes: tuple[Mesh, ...],
    focal_px: Float[Array, ""] | float,
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"],
    *,
    image_hw: tuple[int, int],
    lighting: Lighting,
    background: Float[Array, " 3"] | Float[Array, "h w 3"] | Float[np.ndarray, " 3"] | Float[np.ndarray, "h w 3"],
    gloss: Sequence[float | Array] | Float[Array, " m"] | Float[np.ndarray, " m"] | None = None,
) -> Picture:
    """Render meshes that hide one another, four samples a pixel.

    Both sides of a face are drawn and lit, so that an open neck or mouth shows its inside. Light is reflected as
    ``albedo (ambient(n) + sum_l c_l max(0, (n.l + w) / (1 + w))) + gloss sum_l c_l (n.h)^s``: wrapped Lambert,
    surroundings and Blinn-Phong highlights, h halfway between light and eye, w :data:`WRAP`, s :data:`SHININESS`.
    Colours have gradients; the outlines have none.

    Args:
        meshes: Meshes in the camera frame [mm], each with texture coordinates and an sRGB texture; one colour is a
            texture of one texel.
        focal_px: Focal length of the picture [px].
        principal_point_px: (c_x, c_y) [px], x first.
        image_hw: Rows and columns of the picture.
        lighting: Lights, see :func:`portrait_lighting`.
        background: One colour or a picture, sRGB in [0, 1].
        gloss: Strength of each mesh's highlights; that of skin if left out.

    Returns:
        The picture.

    Example:
        >>> corners = jnp.array([[-1.0, -1.0, 2.0], [3.0, -1.0, 2.0], [-1.0, 3.0, 2.0]])
        >>> face, red = jnp.array([[0, 2, 1]]), jnp.array([[[1.0, 0.0, 0.0]]])
        >>> mesh = Mesh(corners, face, corners[:, :2], face, red)
        >>> options = {"image_hw": (4, 4), "lighting": flat_lighting(), "background": jnp.zeros(3), "gloss": [0.0]}
        >>> render_mesh((mesh,), 4.0, jnp.array([2.0, 2.0]), **options).colour[1, 1].round(3).tolist()
        [1.0, 0.0, 0.0]

    Source: Blinn, "Models of light reflection for computer synthesized pictures" (1977).
    """
    scene = _scene(meshes, gloss)
    height, width = image_hw
    behind = decode_srgb(jnp.broadcast_to(jnp.asarray(background, jnp.float32), (height, width, 3)))
    points = jnp.concatenate([mesh.vertices for mesh in meshes])
    focal_px, principal_point_px = jnp.asarray(focal_px, jnp.float32), jnp.asarray(principal_point_px, jnp.float32)
    which = jnp.arange(len(meshes))
    linear, alpha = _draw(scene, points, focal_px, principal_point_px, lighting, behind, which)
    return Picture(encode_srgb(linear), alpha)


@partial(stored_program, static_argnames=("image_hw",), options=FEWER_FUSIONS)
def render_views(
    meshes: tuple[Mesh, ...],
    vertices: tuple[Float[Array, "w _ 3"], ...],
    focal_px: Float[Array, " w"] | Float[np.ndarray, " w"],
    principal_point_px: Float[Array, "w 2"] | Float[np.ndarray, "w 2"],
    *,
    image_hw: tuple[int, int],
    lighting: Lighting,
    background: Float[Array, " 3"] | Float[np.ndarray, " 3"],
    gloss: Sequence[float | Array] | Float[Array, " m"] | Float[np.ndarray, " m"] | None = None,
    plain: Float[Array, " 3"] | Float[np.ndarray, " 3"],
    is_plain: Bool[Array, " w"] | Bool[np.ndarray, " w"],
) -> Picture:
    """Render several views of the same meshes in one program, one after the other; see :func:`render_mesh`.

    Args:
        meshes: Faces, texture coordinates and textures; their vertices are not looked at.
        vertices: Vertices of each mesh in the camera frame of each view [mm].
        focal_px: Focal length of each view [px].
        principal_point_px: (c_x, c_y) of each view [px].
        image_hw: Rows and columns of every view.
        lighting: Lights.
        background: sRGB.
        gloss: Strength of each mesh's highlights.
        plain: sRGB of the views without a texture.
        is_plain: Which views these are.

    Returns:
        The pictures, views first.
    """
    scene = _scene((*meshes, Mesh(meshes[0].vertices, meshes[0].faces, texture=jnp.asarray(plain)[None, None])), gloss)
    height, width = image_hw
    behind = decode_srgb(jnp.broadcast_to(jnp.asarray(background, jnp.float32), (height, width, 3)))

    def view(placed: tuple[Array, ...]) -> Picture:
        points, focal, principal_point, without = placed
        which = jnp.where(without, len(meshes), jnp.arange(len(meshes)))
        linear, alpha = _draw(scene, points, focal, principal_point, lighting, behind, which)
        return Picture(encode_srgb(linear), alpha)

    return jax.lax.map(view, (jnp.concatenate(vertices, axis=1), focal_px, principal_point_px, is_plain))


class _Pool(NamedTuple):
    """Textures of any sizes, one after the other, so that one lookup serves all."""

    texels: Float[Array, "n 3"]
    start: Int[Array, " m"]
    rows: Int[Array, " m"]
    columns: Int[Array, " m"]


class _Scene(NamedTuple):
    """All meshes as one, but for where they are."""

    faces: Int[Array, "f 3"]
    mesh_of_face: Int[Array, " f"]
    uv_corners: Float[Array, "f 6"]
    """u and v of the three corners."""
    gloss: Float[Array, " m"]
    pool: _Pool


def _scene(meshes: tuple[Mesh, ...], gloss: Any) -> _Scene:
    """Join meshes; those without texture coordinates lend their texture alone."""
    drawn = [mesh for mesh in meshes if mesh.uv is not None]
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in drawn)])
    uv_faces = [mesh.faces if mesh.uv_faces is None else mesh.uv_faces for mesh in drawn]
    uv_corners = [jnp.asarray(mesh.uv)[corners].reshape(-1, 6) for mesh, corners in zip(drawn, uv_faces)]
    owner = np.concatenate([np.full(len(mesh.faces), number) for number, mesh in enumerate(drawn)])
    gloss = [SKIN_GLOSS] * len(drawn) if gloss is None else gloss
    return _Scene(
        jnp.concatenate([mesh.faces + start for mesh, start in zip(drawn, starts.tolist())]),
        jnp.asarray(owner),
        jnp.concatenate(uv_corners),
        jnp.stack([jnp.asarray(value, jnp.float32) for value in gloss]),
        _pool([jnp.asarray(mesh.texture, jnp.float32) for mesh in meshes]),
    )


def _pool(textures: list[Float[Array, "_ _ 3"]]) -> _Pool:
    shapes = np.array([texture.shape[:2] for texture in textures])
    sizes = shapes[:, 0] * shapes[:, 1]
    texels = jnp.concatenate([texture.reshape(-1, 3) for texture in textures])
    return _Pool(texels, *(jnp.asarray(a) for a in (np.cumsum(sizes) - sizes, shapes[:, 0], shapes[:, 1])))


def _draw(
    scene: _Scene,
    points: Float[Array, "v 3"],
    focal_px: Float[Array, ""],
    principal_point_px: Float[Array, " 2"],
    lighting: Lighting,
    behind: Float[Array, "h w 3"],
    which: Int[Array, " m"],
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w"]]:
    """Linear light and alpha of one picture; ``which`` texture of the pool each mesh has."""
    height, width = behind.shape[:2]
    screen = screen_points(points, focal_px, principal_point_px)
    faces = scene.faces
    winner = visible_faces(jax.lax.stop_gradient(screen), faces, image_hw=(height, width), offsets_px=_SAMPLES)
    # A vertex belongs to one mesh, so that the normals of all are those of each.
    normals = vertex_normals(points, faces)
    # The side is the flat face's: smooth normals lean over the outline, and turned round would flash there.
    side = jnp.where(jnp.sum(face_normals(points, faces) * points[faces[:, 0]], axis=1) > 0, -1.0, 1.0)
    table = jnp.concatenate(
        [screen[faces].reshape(-1, 9), (side[:, None, None] * normals[faces]).reshape(-1, 9), scene.uv_corners], axis=1
    )
    eye = jnp.concatenate([1 / focal_px[None], principal_point_px])

    rows, columns = -(-height // _TILE), -(-width // _TILE)

    def tiled(picture: Array, fill: int) -> Array:
        """[h w c] to [tiles, pixels of a tile, c]."""
        channels = picture.shape[2]
        padding = ((0, rows * _TILE - height), (0, columns * _TILE - width), (0, 0))
        padded = jnp.pad(picture, padding, constant_values=fill)
        blocks = padded.reshape(rows, _TILE, columns, _TILE, channels).transpose(0, 2, 1, 3, 4)
        return blocks.reshape(rows * columns, _TILE * _TILE, channels)

    top_left = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2) * _TILE
    tiles = (tiled(winner.transpose(1, 2, 0), -1).transpose(0, 2, 1), tiled(behind, 0), jnp.asarray(top_left))

    def tile(inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        seen, background, corner = inputs
        covered = partial(_shade_tile, scene, table, eye, lighting, which)
        return jax.lax.cond(jnp.any(seen >= 0), covered, lambda s, b, _: (b, jnp.zeros(s.shape[1])), *inputs)

    linear, alpha = jax.lax.map(tile, tiles)

    def joined(blocks: Array) -> Array:
        channels = blocks.shape[2]
        picture = blocks.reshape(rows, columns, _TILE, _TILE, channels).transpose(0, 2, 1, 3, 4)
        return picture.reshape(rows * _TILE, columns * _TILE, channels)[:height, :width]

    return joined(linear), joined(alpha[..., None])[..., 0]


def _shade_tile(
    scene: _Scene,
    table: Float[Array, "f 24"],
    eye: Float[Array, " 3"],
    lighting: Lighting,
    which: Int[Array, " m"],
    seen: Int[Array, "s p"],
    behind: Float[Array, "p 3"],
    corner: Int[Array, " 2"],
) -> tuple[Float[Array, "p 3"], Float[Array, " p"]]:
    """Linear light and alpha of one tile of a picture."""
    face = jnp.maximum(seen.reshape(-1), 0)
    hit = seen.reshape(-1) >= 0
    column = table[face].T
    screen, normals, uv = column[:9], column[9:18], column[18:]
    row, col = np.divmod(np.arange(seen.shape[1]), _TILE)
    offset = np.repeat(np.array(_SAMPLES, np.float32), seen.shape[1], axis=0)
    x, y = (jnp.asarray(np.tile(a, len(seen)) + 0.5, jnp.float32) + c for a, c in ((col, corner[1]), (row, corner[0])))

    # Relative to the sample, so that the products are small where precision matters: in small faces.
    dx = [screen[k] - offset[:, 0] - x for k in (0, 3, 6)]
    dy = [screen[k] - offset[:, 1] - y for k in (1, 4, 7)]
    areas = [dx[j] * dy[k] - dx[k] * dy[j] for j, k in ((1, 2), (2, 0), (0, 1))]
    sign = jnp.sign(areas[0] + areas[1] + areas[2])
    areas = [jnp.maximum(area * sign, 0) for area in areas]
    total = areas[0] + areas[1] + areas[2]
    safe = jnp.where(total > 0, total, 1)
    weights = [jnp.where(total > 0, area / safe, 1 / 3) / screen[k] for area, k in zip(areas, (2, 5, 8))]
    inverse_depth = jnp.where(hit, weights[0] + weights[1] + weights[2], 1)
    weights = [weight / inverse_depth for weight in weights]

    def interpolated(corners: Float[Array, "_ n"]) -> list[Float[Array, " n"]]:
        size = len(corners) // 3
        return [sum(weights[k] * corners[k * size + i] for k in range(3)) for i in range(size)]  # pyright: ignore

    u, v = interpolated(uv)
    mesh = scene.mesh_of_face[face]
    # Decoded after the lookup: a picture has fewer pixels than its textures texels.
    albedo = [decode_srgb(channel) for channel in _sample_pool(scene.pool, which[mesh], u, v)]
    depth = 1 / inverse_depth
    point = [depth * (x + offset[:, 0] - eye[1]) * eye[0], depth * (y + offset[:, 1] - eye[2]) * eye[0], depth]
    light = shade(albedo, interpolated(normals), point, scene.gloss[mesh], lighting)
    samples = hit.reshape(seen.shape)
    linear = [
        jnp.sum(jnp.where(samples, channel.reshape(seen.shape), behind[None, :, c]), axis=0)
        for c, channel in enumerate(light)
    ]
    return jnp.stack(linear, axis=-1) / len(seen), jnp.mean(samples.astype(jnp.float32), axis=0)


def shade(
    linear_albedo: list[Float[Array, " n"]],
    normal: list[Float[Array, " n"]],
    point: list[Float[Array, " n"]],
    gloss: Float[Array, " n"],
    lighting: Lighting,
) -> list[Float[Array, " n"]]:
    """Linear light that points reflect to the camera; the formula is that of :func:`render_mesh`.

    Colours and vectors come and go as lists of their three components.

    Args:
        linear_albedo: Colour of the surface.
        normal: Of any length, on the side that is seen.
        point: Camera frame [mm].
        gloss: Strength of the highlights.
        lighting: The lights.
    """
    to_eye = _unit([-component for component in point])
    normal = _unit(normal)
    upward = 0.5 - 0.5 * normal[1]
    below, above = jnp.asarray(lighting.linear_below), jnp.asarray(lighting.linear_above)
    diffuse = [below[c] + upward * (above[c] - below[c]) for c in range(3)]
    mirrored = [jnp.zeros_like(gloss)] * 3
    for direction, colour in zip(jnp.asarray(lighting.directions), jnp.asarray(lighting.linear_colours)):
        facing = _dot(normal, direction)
        halfway = _unit([direction[c] + to_eye[c] for c in range(3)])
        # The floor keeps the power's gradient finite where the surface faces away.
        highlight = jnp.where(facing > 0, jnp.maximum(_dot(halfway, normal), 1e-3) ** SHININESS, 0)
        wrapped = jnp.maximum((facing + WRAP) / (1 + WRAP), 0)
        diffuse = [light + wrapped * colour[c] for c, light in enumerate(diffuse)]
        mirrored = [light + highlight * colour[c] for c, light in enumerate(mirrored)]
    return [linear_albedo[c] * diffuse[c] + gloss * mirrored[c] for c in range(3)]


def _dot(a: Sequence[Array] | Array, b: Sequence[Array] | Array) -> Array:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vector: list[Float[Array, " n"]]) -> list[Float[Array, " n"]]:
    squared = _dot(vector, vector)
    # The inner where keeps the square root's infinite slope at zero out of the gradient.
    length = jnp.sqrt(jnp.where(squared > 0, squared, 1))
    return [component / length for component in vector]


def sample_texture(
    texture: Float[Array, "rows columns 3"] | Float[np.ndarray, "rows columns 3"], uv: Float[Array, "*n 2"]
) -> Float[Array, "*n 3"]:
    """Look colours of a texture up, bilinearly; beyond its border the outermost texels go on.

    Args:
        texture: Row 0 is at the top, that is, at v = 1.
        uv: Texture coordinates, v upward.

    Returns:
        Colours, in the encoding of the texture.

    Example:
        >>> texture = jnp.array([[[0.0] * 3, [1.0] * 3]])
        >>> sample_texture(texture, jnp.array([0.5, 0.5])).tolist()
        [0.5, 0.5, 0.5]
    """
    pool, index = _pool([jnp.asarray(texture)]), jnp.zeros(uv.shape[:-1], int)
    return jnp.stack(_sample_pool(pool, index, uv[..., 0], uv[..., 1]), axis=-1)


def _sample_pool(
    pool: _Pool, index: Int[Array, "*n"], u: Float[Array, "*n"], v: Float[Array, "*n"]
) -> list[Float[Array, "*n"]]:
    """Colours of the texture with some index, channel by channel."""
    start, rows, columns = pool.start[index], pool.rows[index], pool.columns[index]
    x = jnp.clip(u * columns - 0.5, 0, columns - 1)
    y = jnp.clip((1 - v) * rows - 0.5, 0, rows - 1)
    left, top = jnp.floor(x).astype(int), jnp.floor(y).astype(int)
    right, bottom = jnp.minimum(left + 1, columns - 1), jnp.minimum(top + 1, rows - 1)
    to_right, down = x - left, y - top
    corners = [(top, left), (top, right), (bottom, left), (bottom, right)]
    a, b, c, d = (pool.texels[start + row * columns + column] for row, column in corners)
    colours = []
    for channel in range(3):
        above = a[..., channel] * (1 - to_right) + b[..., channel] * to_right
        below = c[..., channel] * (1 - to_right) + d[..., channel] * to_right
        colours.append(above * (1 - down) + below * down)
    return colours
