"""The points of a triangle mesh closest to given points, exactly, in JAX: for batches, derivatives and accelerators.

Every point is compared with every face, blocks of both at a time, so that the memory is bounded whatever their numbers.
That is the fastest way where arithmetic is cheap; a CPU alone does better with a tree over the faces.

Letters: n points, v vertices, f faces.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from digitaltwin.geometry._barycentric import interpolate

POINTS_AT_ONCE, FACES_AT_ONCE = 1024, 1024
"""Block of pairs: some 20 numbers of 4 bytes are held of each."""


class ClosestPoints(NamedTuple):
    """Where on a mesh the closest points are."""

    points: Float[Array, "n 3"]
    faces: Int[Array, " n"]
    """Index of the face each lies on; of several that share it (a vertex, an edge), the first."""
    barycentric: Float[Array, "n 3"]
    """Its weights of that face's corners."""
    distances: Float[Array, " n"]
    """To the given points; the square root's derivative is that of 0 where they coincide."""


def closest_barycentric(point: Float[Array, " 3"], triangle: Float[Array, "3 3"]) -> Float[Array, " 3"]:
    """Barycentric coordinates of the point of a triangle closest to a point.

    The foot of the perpendicular if it lies within, else the closest of the three sides' closest points. A triangle
    without area is its sides.

    Args:
        point: Anywhere.
        triangle: Corners, one a row.

    Returns:
        Three weights, none negative, of sum 1.

    Example:
        >>> import jax.numpy as jnp
        >>> triangle = jnp.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
        >>> closest_barycentric(jnp.array([1.0, 1.0, 5.0]), triangle).tolist()
        [0.5, 0.25, 0.25]
        >>> closest_barycentric(jnp.array([2.0, -3.0, 0.0]), triangle).tolist()
        [0.5, 0.5, 0.0]
    """
    candidates, squared = _candidates(triangle - point[None])
    return candidates[jnp.argmin(squared)]


def closest_points(
    points: Float[Array, "n 3"],
    vertices: Float[Array, "v 3"],
    faces: Int[Array, "f 3"],
    *,
    points_at_once: int = POINTS_AT_ONCE,
    faces_at_once: int = FACES_AT_ONCE,
) -> ClosestPoints:
    """The closest point of a mesh to every given point.

    Args:
        points: Anywhere, finite.
        vertices: Of the mesh.
        faces: Its triangles.
        points_at_once: Points in a block; static.
        faces_at_once: Faces in a block; static.

    Returns:
        The closest points. Derivatives are those at the faces and sides found.

    Example:
        >>> import jax.numpy as jnp
        >>> square = jnp.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
        >>> found = closest_points(jnp.array([[1.5, 0.5, 3.0]]), square, jnp.array([[0, 1, 2], [0, 2, 3]]))
        >>> found.points.tolist(), found.faces.tolist(), found.distances.tolist()
        ([[1.5, 0.5, 0.0]], [0], [3.0])
    """
    count, triangles = len(points), vertices[faces]
    point_blocks = _blocks(lax.stop_gradient(points), points_at_once)
    face_blocks = _blocks(lax.stop_gradient(triangles), faces_at_once)
    firsts = jnp.arange(len(face_blocks)) * face_blocks.shape[1]

    def nearest(block: Float[Array, "m 3"]) -> Int[Array, " m"]:
        def compare(
            best: tuple[Float[Array, " m"], Int[Array, " m"]], given: tuple[Float[Array, "j 3 3"], Int[Array, ""]]
        ) -> tuple[tuple[Float[Array, " m"], Int[Array, " m"]], None]:
            some, first = given
            squared = jax.vmap(lambda point: jax.vmap(lambda triangle: _squared(triangle - point[None]))(some))(block)
            index = jnp.argmin(squared, axis=1)
            least = jnp.min(squared, axis=1)
            closer = least < best[0]
            return (jnp.where(closer, least, best[0]), jnp.where(closer, first + index, best[1])), None

        start = (jnp.full(len(block), jnp.inf, block.dtype), jnp.zeros(len(block), jnp.int32))
        return lax.scan(compare, start, (face_blocks, firsts.astype(jnp.int32)))[0][1]

    index = jnp.minimum(lax.map(nearest, point_blocks).reshape(-1)[:count], len(faces) - 1)
    weights = jax.vmap(closest_barycentric)(points, triangles[index])
    found = interpolate(vertices, faces[index], weights)
    squared = jnp.sum((found - points) ** 2, axis=1)
    distances = jnp.where(squared > 0.0, jnp.sqrt(jnp.where(squared > 0.0, squared, 1.0)), 0.0)
    return ClosestPoints(found, index, weights, distances)


def _candidates(corners: Float[Array, "3 3"]) -> tuple[Float[Array, "4 3"], Float[Array, " 4"]]:
    """Barycentric coordinates of the closest points to the origin within a triangle and on its sides, and distances.

    The squared distance of the first is infinite where the perpendicular's foot lies outside.
    """
    a, b, c = corners
    first, second, third = b - a, c - a, c - b
    aa, ab, bb, cc = (jnp.sum(x * y) for x, y in ((first, first), (first, second), (second, second), (third, third)))
    along_first, along_second, along_third = -jnp.sum(first * a), -jnp.sum(second * a), -jnp.sum(third * b)
    area = aa * bb - ab * ab
    flat = area <= 0.0
    safe = jnp.where(flat, 1.0, area)
    v, w = (bb * along_first - ab * along_second) / safe, (aa * along_second - ab * along_first) / safe
    outside = flat | (v < 0.0) | (w < 0.0) | (v + w > 1.0)

    def share(along: Float[Array, ""], length: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.clip(along / jnp.where(length > 0.0, length, 1.0), 0.0, 1.0)

    p, q, r = share(along_first, aa), share(along_second, bb), share(along_third, cc)
    zero = jnp.zeros_like(p)
    weights = jnp.stack(
        [
            jnp.stack([1.0 - v - w, v, w]),
            jnp.stack([1.0 - p, p, zero]),
            jnp.stack([1.0 - q, zero, q]),
            jnp.stack([zero, 1.0 - r, r]),
        ]
    )
    places = weights[:, :1] * a[None] + weights[:, 1:2] * b[None] + weights[:, 2:] * c[None]
    squared = jnp.sum(places**2, axis=1)
    return weights, squared.at[0].set(jnp.where(outside, jnp.inf, squared[0]))


def _squared(corners: Float[Array, "3 3"]) -> Float[Array, ""]:
    """Squared distance of a triangle from the origin."""
    return jnp.min(_candidates(corners)[1])


def _blocks(array: Float[Array, "n ..."], size: int) -> Float[Array, "blocks m ..."]:
    """Cut into blocks of equal size; the last row fills the last one."""
    size = min(size, len(array))
    count = -(-len(array) // size)
    index = jnp.minimum(jnp.arange(count * size), len(array) - 1)
    return array[index].reshape(count, size, *array.shape[1:])
