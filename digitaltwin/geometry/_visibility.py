"""Which vertices of a surface nothing outside can see: eyeballs behind lids, the inside of a mouth.

Letters: v vertices, n of them that are asked about.
"""

import igl.embree
import numpy as np
from jaxtyping import Bool, Float, Int

DIRECTIONS = 192
"""Directions over the whole sphere; about half of them lie on a vertex's own side."""
OFFSET = 1e-4
"""Where rays start off the surface, as a share of its size."""
WIDEST_DEG = 85.0
"""Angle from the normal up to which rays are sent; the neighbours stop flatter ones."""


class Visibility:
    """A surface prepared for that question; what was asked once is known.

    Rays leave each vertex along its normal and, until one gets away, in directions that are spread evenly over the half
    space of its normal, always the same ones. A vertex that no ray leaves is hidden.
    """

    def __init__(
        self,
        vertices: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        normals: Float[np.ndarray, "v 3"],
    ) -> None:
        """Prepare a surface.

        Args:
            vertices: Its vertices.
            faces: Its triangles, counter-clockwise seen from outside.
            normals: Unit normals at the vertices; zero where there is none, and such a vertex is not hidden.
        """
        size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
        self._rays = igl.embree.EmbreeIntersector()
        self._rays.init(vertices.astype(np.float32), faces.astype(np.int32))
        self._normals = normals.astype(np.float32)
        self._starts = (vertices + OFFSET * size * self._normals).astype(np.float32)
        self._spread = _sphere_directions(DIRECTIONS)
        self._asked, self._hidden = np.zeros((2, len(vertices)), bool)

    def hidden(self, asked: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Find vertices that no ray from outside reaches.

        Args:
            asked: Vertices to be tested.

        Returns:
            A mask over them.

        Example:
            >>> import trimesh
            >>> from digitaltwin.geometry import SurfaceTree
            >>> inner, outer = (trimesh.creation.icosphere(subdivisions=2, radius=radius) for radius in (1.0, 2.0))
            >>> both = trimesh.util.concatenate([inner, outer])
            >>> hidden = SurfaceTree(both.vertices, both.faces).visibility.hidden(np.arange(len(both.vertices)))
            >>> int(hidden.sum()) == len(inner.vertices)
            True
        """
        first = self._rays.intersectRay_first
        for vertex in asked[~self._asked[asked]]:
            start, normal = self._starts[vertex], self._normals[vertex]
            if normal.any() and first(start, normal)[0] >= 0:
                directions = self._spread[self._spread @ normal > np.cos(np.deg2rad(WIDEST_DEG))]
                self._hidden[vertex] = all(first(start, direction)[0] >= 0 for direction in directions)
        self._asked[asked] = True
        return self._hidden[asked]


def _sphere_directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Directions spread evenly over the sphere: a Fibonacci lattice."""
    number = np.arange(count) + 0.5
    height, turn = 1.0 - 2.0 * number / count, np.pi * (1.0 + np.sqrt(5.0)) * number
    around = np.sqrt(1.0 - height**2)
    return np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1).astype(np.float32)
