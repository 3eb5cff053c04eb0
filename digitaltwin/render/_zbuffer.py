"""A z-buffer: which face, and which point of it, each pixel of a pinhole image sees.

The screen is cut into blocks of 64 samples: 8 x 8 pixels of one sample, or 4 x 4 pixels of four. Every pair (face,
block under the face's bounding box) becomes one entry of a stream, which a loop works off in portions of constant size;
the loop's length, not its memory, follows the number and size of the faces, so a face may be as large as it likes and
shapes stay static. A pair updates its whole block at once, which keeps the scatter's index arithmetic out of the inner
loop.

Letters: v vertices, f faces, h w rows and columns of the image, s samples of a pixel, m pairs in a portion, k samples
of a block.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry._camera import project_camera_points

BLOCK = 8
"""Edge of a block of one sample a pixel [px], of four half that: a larger one wastes more of a small face's box, a
smaller one costs more scatters."""
PORTION = 16384
"""Pairs per turn of the loop: a million samples, about 20 MB of intermediate values."""


class Fragments(NamedTuple):
    """The nearest face under the centre of each pixel, and the point of it that is seen there."""

    face: Int[Array, "h w"]
    """Index of the nearest face, -1 where there is none."""
    barycentric: Float[Array, "h w 3"]
    """Weights of that face's corners at the seen point, on the surface and not on the screen; 0 without a face."""
    depth: Float[Array, "h w"]
    """Depth z of the seen point in the unit of the vertices; infinite without a face."""


def screen_points(
    vertices: Float[Array, "v 3"],
    focal_px: Float[Array, ""] | Float[np.ndarray, ""] | np.floating | float,
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"],
) -> Float[Array, "v 3"]:
    """Project camera-frame points, and keep the depth that a z-buffer needs: ``(f x / z + c_x, f y / z + c_y, z)``.

    Args:
        vertices: Points [v 3] in the camera frame [mm], z forward.
        focal_px: Focal length [px].
        principal_point_px: (c_x, c_y) [px], x first.

    Returns:
        (x [px], y [px], depth [mm]) of each point; x and y mean nothing where depth <= 0.

    Example:
        >>> screen_points(jnp.array([[1.0, 2.0, 4.0]]), 8.0, jnp.array([10.0, 20.0])).tolist()
        [[12.0, 24.0, 4.0]]
    """
    depth = vertices[:, 2:]
    in_front = jnp.concatenate([vertices[:, :2], jnp.where(depth > 0, depth, 1)], axis=1)
    pixels = project_camera_points(in_front, jnp.asarray(focal_px), principal_point_px)
    return jnp.concatenate([pixels, depth], axis=1)


@partial(jax.jit, static_argnames=("image_hw", "near", "cull"))
def rasterize(
    screen_px: Float[Array, "v 3"],
    faces: Int[Array, "f 3"],
    *,
    image_hw: tuple[int, int],
    near: float = 1e-3,
    cull: bool = False,
) -> Fragments:
    """Find the nearest face under every pixel's centre.

    A pixel lies in a face if an odd number of the face's edges crosses the pixel's row at or left of its centre. The
    predicate belongs to the edge, computed from its lower to its higher vertex index, so both faces on an edge get
    the same answer to the last bit; summed over a patch of faces the inner edges cancel, and a pixel inside the
    patch's outline is covered by an odd number of its faces: no holes, whatever the rounding. A pixel exactly on an
    edge goes to one side only.

    Coverage itself has no gradient; barycentric weights and depth do, for the face that was found.

    Args:
        screen_px: (x [px], y [px], depth > 0) of each vertex, see :func:`screen_points`. Constant depth gives an
            orthographic picture.
        faces: Vertex indices.
        image_hw: Rows and columns of the image.
        near: Faces with a corner nearer than this are left out (there is no clipping), as are non-finite ones.
        cull: Leave out faces seen from behind, whose corners run clockwise to the eye.

    Returns:
        The fragments; ties in depth go to the higher face index.

    Example:
        >>> corners = jnp.array([[0.0, 0.0, 5.0], [4.0, 0.0, 5.0], [0.0, 4.0, 5.0]])
        >>> rasterize(corners, jnp.array([[0, 1, 2]]), image_hw=(3, 3)).face.tolist()
        [[0, 0, 0], [0, 0, -1], [0, -1, -1]]
    """
    face = visible_faces(jax.lax.stop_gradient(screen_px), faces, image_hw=image_hw, near=near, cull=cull)[0]
    height, width = image_hw
    corners = screen_px[faces[jnp.maximum(face, 0)]]
    x, y = jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5)
    on_screen = _screen_barycentric(corners, x, y)
    weights = on_screen / corners[..., 2]
    inverse_depth = jnp.sum(weights, axis=-1)
    hit = face >= 0
    inverse_depth = jnp.where(hit, inverse_depth, 1)
    barycentric = jnp.where(hit[..., None], weights / inverse_depth[..., None], 0)
    return Fragments(face, barycentric, jnp.where(hit, 1 / inverse_depth, jnp.inf))


@jax.jit
def interpolate_fragments(
    fragments: Fragments, attribute: Float[Array, "a n"], corners: Int[Array, "f 3"]
) -> Float[Array, "h w n"]:
    """Interpolate something known at the faces' corners at each pixel: ``sum_k b_k a_k``, b the barycentric weights.

    Args:
        fragments: What the pixels see, see :func:`rasterize`.
        attribute: Values [a n], one row for each thing that ``corners`` counts: vertices, or texture coordinates.
        corners: Indices [f 3] of the faces into ``attribute``, in the order of the faces that were rasterised.

    Returns:
        Values [h w n] at the pixels; 0 where no face is seen.

    Example:
        >>> corners, face = jnp.array([[0.0, 0.0, 5.0], [4.0, 0.0, 5.0], [0.0, 4.0, 5.0]]), jnp.array([[0, 1, 2]])
        >>> seen = rasterize(corners, face, image_hw=(1, 2))
        >>> values = interpolate_fragments(seen, corners[:, :1], face)[0, :, 0]
        >>> [round(float(value), 3) for value in values]
        [0.5, 1.5]
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


def visible_faces(
    screen: Float[Array, "v 3"],
    faces: Int[Array, "f 3"],
    *,
    image_hw: tuple[int, int],
    offsets_px: tuple[tuple[float, float], ...] = ((0.0, 0.0),),
    near: float = 1e-3,
    cull: bool = False,
) -> Int[Array, "s h w"]:
    """Index of the nearest face under each sample of each pixel, -1 where there is none; see :func:`rasterize`.

    Args:
        screen: See :func:`rasterize`.
        faces: Vertex indices.
        image_hw: Rows and columns of the image.
        offsets_px: Of each sample from a pixel's centre, x first.
        near: See :func:`rasterize`.
        cull: Likewise.
    """
    samples = len(offsets_px)
    edge = BLOCK if samples == 1 else BLOCK // 2
    height, width = image_hw
    rows, columns = -(-height // edge), -(-width // edge)
    corners = screen[faces]
    kept = jnp.all(jnp.isfinite(corners), axis=(1, 2)) & jnp.all(corners[..., 2] >= near, axis=1)
    if cull:
        kept &= _twice_area(corners) < 0
    # A rejected face must not bring its NaN into the arithmetic below.
    corners = jnp.where(kept[:, None, None], corners, 1)

    limit = jnp.array([[columns, rows]])
    lowest, highest = (np.array([bound(axis) for axis in zip(*offsets_px)], np.float32)[None] for bound in (min, max))
    first = jnp.floor((jnp.min(corners[..., :2], axis=1) - highest - 0.5) / edge)
    last = jnp.floor((jnp.max(corners[..., :2], axis=1) - lowest - 0.5) / edge)
    first, last = jnp.clip(first, 0, limit).astype(int), jnp.clip(last, -1, limit - 1).astype(int)
    extent = jnp.maximum(last - first + 1, 0)
    blocks_of_face = jnp.where(kept, extent[:, 0] * extent[:, 1], 0)
    ends = jnp.cumsum(blocks_of_face)
    total = ends[-1]
    table = corners.reshape(-1, 9)

    def turn(state):
        start, inverse_depth, winner = state
        pair = start + jnp.arange(PORTION)
        face = jnp.minimum(jnp.searchsorted(ends, pair, side="right"), len(faces) - 1)
        row, column = jnp.divmod(pair - (ends[face] - blocks_of_face[face]), jnp.maximum(extent[face, 0], 1))
        row, column = row + first[face, 1], column + first[face, 0]
        # Pairs past the end of the stream go to an index that does not exist, which scatters drop.
        block = jnp.where(pair < total, row * columns + column, rows * columns)
        covered, nearness = _cover(table[face], faces[face], column * edge, row * edge, edge, offsets_px)
        # Materialised: the comparison below must see the very numbers that were scattered.
        nearness = jax.lax.optimization_barrier(jnp.where(covered, nearness, 0))

        before = inverse_depth.at[block].get(mode="fill", fill_value=0)
        inverse_depth = inverse_depth.at[block].max(nearness, mode="drop")
        after = inverse_depth.at[block].get(mode="fill", fill_value=0)
        # Where this portion brought something nearer the old winner is out; then the highest index among equals wins.
        remaining = jnp.where(after > before, -1, winner.at[block].get(mode="fill", fill_value=-1))
        candidate = jnp.where((nearness > 0) & (nearness >= after), face[:, None], -1)
        winner = winner.at[block].set(remaining, mode="drop").at[block].max(candidate, mode="drop")
        return start + PORTION, inverse_depth, winner

    shape = (rows * columns, samples * edge * edge)
    initial = (jnp.zeros((), ends.dtype), jnp.zeros(shape, screen.dtype), jnp.full(shape, -1, ends.dtype))
    *_, winner = jax.lax.while_loop(lambda state: state[0] < total, turn, initial)
    image = winner.reshape(rows, columns, samples, edge, edge).transpose(2, 0, 3, 1, 4)
    return image.reshape(samples, rows * edge, columns * edge)[:, :height, :width]


def _cover(
    corners: Float[Array, "m 9"],
    names: Int[Array, "m 3"],
    left: Int[Array, " m"],
    top: Int[Array, " m"],
    edge: int,
    offsets_px: tuple[tuple[float, float], ...],
) -> tuple[Bool[Array, "m k"], Float[Array, "m k"]]:
    """Which samples of its block each face covers, and the inverse depth of the face's plane there.

    The k samples of a block lie in the last axis, which a CPU works off with its vector instructions.
    """
    steps = np.arange(edge) + 0.5
    offset, row, column = (a.reshape(-1) for a in np.meshgrid(np.arange(len(offsets_px)), steps, steps, indexing="ij"))
    shift = np.array(offsets_px, np.float32)[offset.astype(int)]
    x = left[:, None] + jnp.asarray(column, jnp.float32)[None]
    y = top[:, None] + jnp.asarray(row, jnp.float32)[None]
    # The face moves under the samples, so that each sees the numbers of a picture of its own.
    shift_x, shift_y = (jnp.asarray(component)[None] for component in shift.T)
    points = [(corners[:, k : k + 1] - shift_x, corners[:, k + 1 : k + 2] - shift_y) for k in (0, 3, 6)]
    covered = jnp.zeros(x.shape, bool)
    for j, k in ((0, 1), (1, 2), (2, 0)):
        swap = (names[:, j] > names[:, k])[:, None]
        (p_x, p_y), (q_x, q_y) = (
            tuple(jnp.where(swap, b, a) for a, b in zip(points[first], points[second]))
            for first, second in ((j, k), (k, j))
        )
        rise = q_y - p_y
        slope = (q_x - p_x) / jnp.where(rise == 0, 1, rise)
        # Half-open in y: a row through a vertex counts it once. (A level edge is crossed by no row.)
        spans = (p_y <= y) != (q_y <= y)
        covered ^= spans & (p_x + (y - p_y) * slope <= x)

    # 1/z is affine on the screen. Weights may leave [0, 1] by rounding, on slivers by much: hence the clip.
    (a_x, a_y), (b_x, b_y), (c_x, c_y) = points
    twice_area = (b_x - a_x) * (c_y - a_y) - (b_y - a_y) * (c_x - a_x)
    safe = jnp.where(twice_area == 0, 1, twice_area)
    weight_b = ((x - a_x) * (c_y - a_y) - (y - a_y) * (c_x - a_x)) / safe
    weight_c = ((b_x - a_x) * (y - a_y) - (b_y - a_y) * (x - a_x)) / safe
    a, b, c = (1 / corners[:, k : k + 1] for k in (2, 5, 8))
    low, high = jnp.minimum(jnp.minimum(a, b), c), jnp.maximum(jnp.maximum(a, b), c)
    return covered, jnp.clip(a + weight_b * (b - a) + weight_c * (c - a), low, high)


def _twice_area(corners: Float[Array, "f 3 3"]) -> Float[Array, " f"]:
    """Signed; negative for corners that run counter-clockwise to the eye, because the screen's y points down."""
    ab, ac = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
    return ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
