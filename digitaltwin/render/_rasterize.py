"""A z-buffer: which face, and which point of it, each pixel of a pinhole image sees.

The screen is cut into blocks of 8 x 8 pixels. Every pair (face, block under the face's bounding box) becomes one entry
of a stream, which a loop works off in portions of constant size; the loop's length, not its memory, follows the
number and size of the faces, so a face may be as large as it likes and shapes stay static. A pair updates its whole
block at once, which keeps the scatter's index arithmetic out of the inner loop.

Letters: v vertices, f faces, h w rows and columns of the image, m pairs in a portion, r c rows and columns of a block.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry._camera import project_camera_points

BLOCK = 8
"""Edge of a block [px]: a larger one wastes more of a small face's box, a smaller one costs more scatters."""
PORTION = 8192
"""Pairs per turn of the loop: half a million pixels, about 10 MB of intermediate values."""


class Fragments(NamedTuple):
    """What each pixel's centre sees."""

    face: Int[Array, "h w"]
    """Index of the nearest face, -1 where there is none."""
    barycentric: Float[Array, "h w 3"]
    """Weights of that face's corners at the seen point, on the surface and not on the screen; 0 without a face."""
    depth: Float[Array, "h w"]
    """z of the seen point in the unit of the vertices; infinite without a face."""


def project(
    vertices: Float[Array, "v 3"], focal_px: Float[Array, ""] | float, principal_point_px: Float[Array, " 2"]
) -> Float[Array, "v 3"]:
    """Screen position of camera-frame points: ``(f x / z + c_x, f y / z + c_y, z)``.

    The image point of :func:`digitaltwin.geometry._camera.project_camera_points`, with the depth a z-buffer needs.

    Args:
        vertices: camera frame [mm], z forward.
        focal_px: focal length [px].
        principal_point_px: (c_x, c_y) [px], x first.

    Returns:
        (x [px], y [px], depth [mm]); x and y mean nothing where depth <= 0.
    """
    depth = vertices[:, 2:]
    in_front = jnp.concatenate([vertices[:, :2], jnp.where(depth > 0, depth, 1)], axis=1)
    pixels = project_camera_points(in_front, jnp.asarray(focal_px), principal_point_px)
    return jnp.concatenate([pixels, depth], axis=1)


@partial(jax.jit, static_argnames=("height", "width", "near", "cull"))
def rasterize(
    screen: Float[Array, "v 3"],
    faces: Int[Array, "f 3"],
    *,
    height: int,
    width: int,
    near: float = 1e-3,
    cull: bool = False,
) -> Fragments:
    """Nearest face under every pixel's centre.

    A pixel lies in a face if an odd number of the face's edges crosses the pixel's row at or left of its centre. The
    predicate belongs to the edge, computed from its lower to its higher vertex index, so both faces on an edge get
    the same answer to the last bit; summed over a patch of faces the inner edges cancel, and a pixel inside the
    patch's outline is covered by an odd number of its faces: no holes, whatever the rounding. A pixel exactly on an
    edge goes to one side only.

    Coverage itself has no gradient; barycentric weights and depth do, for the face that was found.

    Args:
        screen: (x [px], y [px], depth > 0), see :func:`project`. Constant depth gives an orthographic picture.
        faces: vertex indices.
        height: rows of the image.
        width: columns of the image.
        near: faces with a corner nearer than this are left out (there is no clipping), as are non-finite ones.
        cull: leave out faces seen from behind, whose corners run clockwise to the eye.

    Returns:
        The fragments; ties in depth go to the higher face index.

    Example:
        >>> import jax.numpy as jnp
        >>> corners = jnp.array([[0.0, 0.0, 5.0], [4.0, 0.0, 5.0], [0.0, 4.0, 5.0]])
        >>> rasterize(corners, jnp.array([[0, 1, 2]]), height=3, width=3).face.tolist()
        [[0, 0, 0], [0, 0, -1], [0, -1, -1]]
    """
    face = _visible_faces(jax.lax.stop_gradient(screen), faces, height, width, near, cull)
    corners = screen[faces[jnp.maximum(face, 0)]]
    x, y = jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5)
    on_screen = _screen_barycentric(corners, x, y)
    weights = on_screen / corners[..., 2]
    inverse_depth = jnp.sum(weights, axis=-1)
    hit = face >= 0
    inverse_depth = jnp.where(hit, inverse_depth, 1)
    barycentric = jnp.where(hit[..., None], weights / inverse_depth[..., None], 0)
    return Fragments(face, barycentric, jnp.where(hit, 1 / inverse_depth, jnp.inf))


@jax.jit
def interpolate(
    fragments: Fragments, attribute: Float[Array, "a n"], corners: Int[Array, "f 3"]
) -> Float[Array, "h w n"]:
    """Value at each pixel of something known at the faces' corners.

    For single points of a mesh there is :func:`digitaltwin.geometry.interpolate`.

    Args:
        fragments: of :func:`rasterize`.
        attribute: one row for each thing that ``corners`` counts: vertices, or texture coordinates.
        corners: the faces' indices into ``attribute``, in the order of the faces that were rasterised.

    Returns:
        Weighted sums; 0 where no face is seen.
    """
    index = corners[jnp.maximum(fragments.face, 0)]
    weight = fragments.barycentric[..., None]
    # One corner after the other: a third of the memory of a single gather.
    a, b, c = (weight[..., corner, :] * attribute[index[..., corner]] for corner in range(3))
    return a + b + c


def _screen_barycentric(
    corners: Float[Array, "*n 3 3"], x: Float[Array, "*n"], y: Float[Array, "*n"]
) -> Float[Array, "*n 3"]:
    """Barycentric weights on the screen, within [0, 1] and summing to one even for a pixel on a rounded edge."""
    # Relative to the pixel, so that the products are small where precision matters: in small faces.
    dx, dy = corners[..., 0] - x[..., None], corners[..., 1] - y[..., None]
    areas = jnp.stack([dx[..., j] * dy[..., k] - dx[..., k] * dy[..., j] for j, k in ((1, 2), (2, 0), (0, 1))], axis=-1)
    areas = jnp.maximum(areas * jnp.sign(jnp.sum(areas, axis=-1, keepdims=True)), 0)
    total = jnp.sum(areas, axis=-1, keepdims=True)
    return jnp.where(total > 0, areas / jnp.where(total > 0, total, 1), 1 / 3)


def _visible_faces(
    screen: Float[Array, "v 3"], faces: Int[Array, "f 3"], height: int, width: int, near: float, cull: bool
) -> Int[Array, "h w"]:
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    corners = screen[faces]
    kept = jnp.all(jnp.isfinite(corners), axis=(1, 2)) & jnp.all(corners[..., 2] >= near, axis=1)
    if cull:
        kept &= _twice_area(corners) < 0
    # A rejected face must not bring its NaN into the arithmetic below.
    corners = jnp.where(kept[:, None, None], corners, 1)

    limit = jnp.array([[columns, rows]])
    first = jnp.clip(jnp.floor((jnp.min(corners[..., :2], axis=1) - 0.5) / BLOCK), 0, limit).astype(int)
    last = jnp.clip(jnp.floor((jnp.max(corners[..., :2], axis=1) - 0.5) / BLOCK), -1, limit - 1).astype(int)
    extent = jnp.maximum(last - first + 1, 0)
    blocks_of_face = jnp.where(kept, extent[:, 0] * extent[:, 1], 0)
    ends = jnp.cumsum(blocks_of_face)
    total = ends[-1]

    def turn(state):
        start, inverse_depth, winner = state
        pair = start + jnp.arange(PORTION)
        face = jnp.minimum(jnp.searchsorted(ends, pair, side="right"), len(faces) - 1)
        row, column = jnp.divmod(pair - (ends[face] - blocks_of_face[face]), jnp.maximum(extent[face, 0], 1))
        row, column = row + first[face, 1], column + first[face, 0]
        # Pairs past the end of the stream go to an index that does not exist, which scatters drop.
        block = jnp.where(pair < total, row * columns + column, rows * columns)
        covered, nearness = _cover(corners[face], faces[face], column * BLOCK, row * BLOCK)
        # Materialised: the comparison below must see the very numbers that were scattered.
        nearness = jax.lax.optimization_barrier(jnp.where(covered, nearness, 0))

        before = inverse_depth.at[block].get(mode="fill", fill_value=0)
        inverse_depth = inverse_depth.at[block].max(nearness, mode="drop")
        after = inverse_depth.at[block].get(mode="fill", fill_value=0)
        # Where this portion brought something nearer the old winner is out; then the highest index among equals wins.
        remaining = jnp.where(after > before, -1, winner.at[block].get(mode="fill", fill_value=-1))
        candidate = jnp.where(covered & (nearness >= after), face[:, None, None], -1)
        winner = winner.at[block].set(remaining, mode="drop").at[block].max(candidate, mode="drop")
        return start + PORTION, inverse_depth, winner

    shape = (rows * columns, BLOCK, BLOCK)
    initial = (jnp.zeros((), ends.dtype), jnp.zeros(shape, screen.dtype), jnp.full(shape, -1, ends.dtype))
    *_, winner = jax.lax.while_loop(lambda state: state[0] < total, turn, initial)
    image = winner.reshape(rows, columns, BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(rows * BLOCK, columns * BLOCK)
    return image[:height, :width]


def _cover(
    corners: Float[Array, "m 3 3"], names: Int[Array, "m 3"], left: Int[Array, " m"], top: Int[Array, " m"]
) -> tuple[Bool[Array, "m r c"], Float[Array, "m r c"]]:
    """Which pixels of its block each face covers, and the inverse depth of the face's plane there."""
    steps = jnp.arange(BLOCK) + 0.5
    x, y = (left[:, None] + steps[None])[:, None, :], (top[:, None] + steps[None])[:, :, None]
    covered = jnp.zeros((len(corners), BLOCK, BLOCK), bool)
    for j, k in ((0, 1), (1, 2), (2, 0)):
        swap = (names[:, j] > names[:, k])[:, None]
        p, q = jnp.where(swap, corners[:, k], corners[:, j]), jnp.where(swap, corners[:, j], corners[:, k])
        rise = q[:, 1] - p[:, 1]
        slope = (q[:, 0] - p[:, 0]) / jnp.where(rise == 0, 1, rise)
        p, q, slope = p[:, :, None, None], q[:, :, None, None], slope[:, None, None]
        # Half-open in y: a row through a vertex counts it once. (A level edge is crossed by no row.)
        spans = (p[:, 1] <= y) != (q[:, 1] <= y)
        covered ^= spans & (p[:, 0] + (y - p[:, 1]) * slope <= x)

    # 1/z is affine on the screen. Weights may leave [0, 1] by rounding, on slivers by much: hence the clip.
    a, b, c = (corners[:, k, :, None, None] for k in range(3))
    twice_area = _twice_area(corners)[:, None, None]
    safe = jnp.where(twice_area == 0, 1, twice_area)
    weight_b = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / safe
    weight_c = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / safe
    inverse = 1 / corners[:, :, 2]
    low, high = (bound(inverse, axis=1)[:, None, None] for bound in (jnp.min, jnp.max))
    inverse = inverse[:, :, None, None]
    nearness = inverse[:, 0] + weight_b * (inverse[:, 1] - inverse[:, 0]) + weight_c * (inverse[:, 2] - inverse[:, 0])
    return covered, jnp.clip(nearness, low, high)


def _twice_area(corners: Float[Array, "m 3 3"]) -> Float[Array, " m"]:
    """Signed; negative for corners that run counter-clockwise to the eye, because the screen's y points down."""
    ab, ac = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
    return ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
