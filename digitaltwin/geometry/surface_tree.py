"""A triangle mesh ready to be asked for closest points, on the host: a tree of boxes over its faces (libigl's).

The same question in JAX, for batches on accelerators and with derivatives: :mod:`digitaltwin.geometry.closest_point`.

Letters: n points, v vertices, f faces.
"""

from typing import NamedTuple

import igl
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from trimesh.triangles import points_to_barycentric

from digitaltwin.geometry.surface import refuse_where
from digitaltwin.types import InputError


class SurfacePoints(NamedTuple):
    """Points of a surface."""

    points: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, " n"]
    """Index of the face each lies on."""
    barycentric: Float[np.ndarray, "n 3"]
    """Its weights of that face's corners."""


class SurfaceTree:
    """A mesh of any kind (holes, several parts, edges of many faces), its faces in a tree.

    Attributes:
        vertices: [v 3], float64.
        faces: [f 3].
        normals: Unit normals of the faces [f 3], by their corners' order.
        areas: Of the faces [f].
        vertex_normals: Unit normals of the vertices [v 3], means over their faces weighted by area; 0 where a vertex
            has none.
        vertex_areas: A third of the faces around each vertex [v].
    """

    def __init__(self, vertices: Shaped[np.ndarray, "..."], faces: Shaped[np.ndarray, "..."], *, name: str = "mesh"):
        """Check the mesh, drop faces without area, and build the tree.

        Args:
            vertices: Positions.
            faces: Triangles.
            name: Of the mesh, for messages.

        Raises:
            InputError: Shapes other than [v 3] and [f 3], no face with an area, indices out of range, or positions
                that are not finite.
        """
        vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
        for part, array in (("vertices", vertices), ("faces", faces)):
            if array.ndim != 2 or array.shape[1] != 3 or not len(array):
                raise InputError(f"{name} {part}: has shape {array.shape}, not (n, 3); give points and triangles.")
        if not np.issubdtype(faces.dtype, np.integer):
            raise InputError(f"{name} faces: are {faces.dtype}; give the indices of vertices, as integers.")
        outside = np.any((faces < 0) | (faces >= len(vertices)), axis=1)
        refuse_where(f"{name} faces", outside, f"name vertices outside [0, {len(vertices)})", "correct the indices")
        used = np.zeros(len(vertices), bool)
        used[faces] = True
        infinite = used & ~np.all(np.isfinite(vertices), axis=1)
        refuse_where(f"{name} vertices", infinite, "are not finite", "correct or remove them")
        corners = vertices[faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        twice = np.linalg.norm(cross, axis=1)
        kept = twice > 0.0
        if not kept.any():
            raise InputError(f"{name} faces: none has an area; is this a cloud of points?")
        self.vertices = np.ascontiguousarray(np.where(used[:, None], vertices, 0.0))
        self.faces = np.ascontiguousarray(faces[kept], dtype=np.int64)
        self.normals = cross[kept] / twice[kept, None]
        self.areas = 0.5 * twice[kept]
        corners_of = self.faces.ravel()
        shares = np.repeat(self.areas, 3) / 3.0
        count = len(self.vertices)
        self.vertex_areas = np.bincount(corners_of, shares, minlength=count)
        sums = [np.bincount(corners_of, shares * np.repeat(axis, 3), minlength=count) for axis in self.normals.T]
        summed = np.stack(sums, axis=1)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        self.vertex_normals = summed / np.where(length > 0.0, length, 1.0)
        self._tree = igl.AABB()
        self._tree.init(self.vertices, self.faces)
        # Files repeat vertices along seams of their textures; these are no border.
        _, self._places = np.unique(self.vertices, axis=0, return_inverse=True)
        self._rim = _boundary_edges(self._places[self.faces], len(vertices))

    def closest(self, points: Float[np.ndarray, "n 3"]) -> SurfacePoints:
        """The surface's closest point to each of some points, exactly.

        Args:
            points: Anywhere, finite.

        Returns:
            Where they are.

        Example:
            >>> import numpy as np
            >>> square = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
            >>> tree = SurfaceTree(square, np.array([[0, 1, 2], [0, 2, 3]]))
            >>> tree.closest(np.array([[1.5, 0.5, 3.0]])).points.tolist()
            [[1.5, 0.5, 0.0]]
        """
        given = np.ascontiguousarray(points, dtype=np.float64)
        _, index, found = map(np.asarray, self._tree.squared_distance(self.vertices, self.faces, given))
        weights = np.clip(points_to_barycentric(self.vertices[self.faces[index]], found, method="cramer"), 0.0, 1.0)
        return SurfacePoints(found, index, weights / weights.sum(axis=1, keepdims=True))

    def on_rim(self, places: SurfacePoints) -> Bool[np.ndarray, " n"]:
        """Whether points lie on the surface's border, where what is closest says nothing of how far the surfaces are.

        Args:
            places: Points of this surface.

        Returns:
            A mask: true on an edge that only one face has.
        """
        edges = np.sort(self._places[self.faces[places.faces]][:, [[0, 1], [1, 2], [2, 0]]], axis=2)
        rim = np.isin(edges[..., 0] * len(self.vertices) + edges[..., 1], self._rim)
        opposite = places.barycentric[:, [2, 0, 1]]  # of the corner facing the edges 01, 12, 20
        return np.any(rim & (opposite < 1e-9), axis=1)


def _boundary_edges(faces: np.ndarray, count: int) -> np.ndarray:
    """Edges of one face only, each as one number: ``smaller index * count + larger index``."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    keys, uses = np.unique(edges[:, 0] * count + edges[:, 1], return_counts=True)
    return keys[uses == 1]
