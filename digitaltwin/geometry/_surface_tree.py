"""A triangle mesh ready to be asked for closest points, on the host: a tree of boxes over its faces (libigl's).

Letters: n points, v vertices, f faces.
"""

from functools import cached_property

import igl
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from trimesh.triangles import points_to_barycentric

from digitaltwin.geometry._barycentric import SurfacePoints
from digitaltwin.geometry._similarity import Similarity
from digitaltwin.geometry._surface import refuse_where
from digitaltwin.geometry._visibility import Visibility
from digitaltwin.types import InputError


class _Boxes:
    """The tree itself, built when it is first asked; surfaces that are moved copies of one another share it."""

    def __init__(self, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]):
        """Keep what the tree will be built of.

        Args:
            vertices: Positions.
            faces: Triangles.
        """
        self._mesh = vertices, faces

    @cached_property
    def _tree(self) -> igl.AABB:
        tree = igl.AABB()
        tree.init(*self._mesh)
        return tree

    def closest(self, points: Float[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
        """Index of the closest face, and the closest point on it, for each of some points."""
        points = np.ascontiguousarray(points)
        _, index, found = map(np.asarray, self._tree.squared_distance(*self._mesh, points))
        return index.astype(np.int64), found


class SurfaceTree:
    """A mesh of any kind (holes, several parts, edges of many faces) that can be asked for closest points.

    Attributes:
        vertices: [v 3], float64.
        faces: [f 3].
        normals: Unit normals of the faces [f 3], by their corners' order.
        areas: Areas of the faces [f].
    """

    def __init__(self, vertices: Shaped[np.ndarray, "..."], faces: Shaped[np.ndarray, "..."], *, name: str = "mesh"):
        """Check the mesh, and drop faces without area; the tree is built when it is first asked.

        Args:
            vertices: Positions.
            faces: Triangles.
            name: Name of the mesh, for messages.

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
        normals, areas = _normals_and_areas(vertices, faces)
        kept = areas > 0.0
        if not kept.any():
            raise InputError(f"{name} faces: none has an area; is this a cloud of points?")
        self.vertices = np.ascontiguousarray(np.where(used[:, None], vertices, 0.0))
        self.faces = np.ascontiguousarray(faces[kept], dtype=np.int64)
        self.normals, self.areas = normals[kept], areas[kept]
        # Files repeat vertices along seams of their textures; these are no border.
        _, self._places = np.unique(self.vertices, axis=0, return_inverse=True)
        self._rim = _on_one_face(self._places[self.faces], len(vertices))
        self._given = np.flatnonzero(kept)  # the faces' numbers before some were dropped
        self._flipped = False
        self._boxes = _Boxes(self.vertices, self.faces)
        self._from_boxes = Similarity.identity()

    def moved(self, motion: Similarity) -> "SurfaceTree":
        """Move the surface by a similarity; its tree stays, and is asked in the frame that it was built in.

        Args:
            motion: From where the surface is to where it shall be.

        Returns:
            The moved surface.

        Example:
            >>> import numpy as np
            >>> from digitaltwin.geometry import Similarity
            >>> tree = SurfaceTree(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[0, 1, 2]]))
            >>> higher = tree.moved(Similarity(2.0, np.eye(3), np.array([0.0, 0.0, 1.0])))
            >>> higher.closest(np.array([[0.5, 0.5, 9.0]]))[0].tolist(), float(higher.areas[0])
            ([[0.5, 0.5, 1.0]], 2.0)
        """
        surface = self._copy()
        surface.vertices = motion.apply(self.vertices)
        surface.normals = self.normals @ motion.rotation.T
        surface.areas = motion.scale**2 * self.areas
        surface._from_boxes = self._from_boxes.then(motion)
        return surface

    def flipped(self) -> "SurfaceTree":
        """Let all faces look the other way; the tree stays.

        Returns:
            The flipped surface, its normals negated.
        """
        surface = self._copy()
        surface.faces, surface.normals = np.ascontiguousarray(self.faces[:, ::-1]), -self.normals
        surface._rim = self._rim[:, [1, 0, 2]]  # the edges 01, 12, 20 are 21, 10, 02 of the former corners
        surface._flipped = not self._flipped
        return surface

    def deformed(self, vertices: Float[np.ndarray, "v 3"]) -> "SurfaceTree":
        """Keep the faces, their borders and seams, but move the vertices; a tree is built when it is first asked.

        Args:
            vertices: The vertices' positions [v 3].

        Returns:
            The deformed surface.
        """
        surface = self._copy()
        surface.vertices = np.ascontiguousarray(vertices, dtype=np.float64)
        surface.normals, surface.areas = _normals_and_areas(surface.vertices, self.faces)
        surface._boxes, surface._from_boxes = _Boxes(surface.vertices, self.faces), Similarity.identity()
        return surface

    def _copy(self) -> "SurfaceTree":
        surface = object.__new__(SurfaceTree)
        cached = ("vertex_normals", "vertex_areas", "visibility")
        surface.__dict__.update({name: value for name, value in self.__dict__.items() if name not in cached})
        return surface

    @cached_property
    def vertex_normals(self) -> Float[np.ndarray, "v 3"]:
        """Unit normals by the areas of the faces around, across seams of a texture; zero where there is none."""
        weighted = np.repeat(self.normals * self.areas[:, None], 3, axis=0)
        corners, count = self._places[self.faces].ravel(), len(self.vertices)
        normals = np.stack([np.bincount(corners, column, count) for column in weighted.T], axis=1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return (normals / np.where(length > 0.0, length, 1.0))[self._places]

    @cached_property
    def vertex_areas(self) -> Float[np.ndarray, " v"]:
        """A third of the areas of the vertices' faces; zero where there is none."""
        return np.bincount(self.faces.ravel(), np.repeat(self.areas, 3), len(self.vertices)) / 3.0

    @cached_property
    def visibility(self) -> Visibility:
        """What of the surface can be seen from outside."""
        return Visibility(self.vertices, self.faces, self.vertex_normals)

    @property
    def places(self) -> Int[np.ndarray, " v"]:
        """A number for each vertex that those at the same position share, as along the seams of a texture."""
        return self._places

    def closest(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 3"], SurfacePoints]:
        """Find the surface's closest point to each of some points, exactly.

        Args:
            points: Points [n 3], anywhere, finite.

        Returns:
            The closest points' positions, and the same as faces and barycentric coordinates.

        Raises:
            InputError: A point is not finite.

        Example:
            >>> import numpy as np
            >>> square = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
            >>> tree = SurfaceTree(square, np.array([[0, 1, 2], [0, 2, 3]]))
            >>> tree.closest(np.array([[1.5, 0.5, 3.0]]))[0].tolist()
            [[1.5, 0.5, 0.0]]
        """
        given = np.ascontiguousarray(points, dtype=np.float64)
        if not np.isfinite(given).all():
            raise InputError("points: are not all finite; leave out those that are not.")
        index, found = self._boxes.closest(self._from_boxes.inverse().apply(given))
        found = self._from_boxes.apply(found)
        weights = np.clip(points_to_barycentric(self.vertices[self.faces[index]], found, method="cramer"), 0.0, 1.0)
        return found, SurfacePoints(index, weights / weights.sum(axis=1, keepdims=True))

    def on_given_faces(self, points: SurfacePoints) -> SurfacePoints:
        """Express points by the faces that the surface was made of: those without area included, none flipped.

        Whatever else is known of these faces and their corners, such as texture coordinates, is looked up by them.

        Args:
            points: Points of this surface.

        Returns:
            The same points.
        """
        weights = points.barycentric[:, ::-1] if self._flipped else points.barycentric
        return SurfacePoints(self._given[points.faces], weights)

    def smooth_normals(self, points: SurfacePoints) -> Float[np.ndarray, "n 3"]:
        """Interpolate unit normals between those of the vertices, so that they turn without jumps from face to face.

        Args:
            points: Points of this surface.

        Returns:
            Unit normals [n 3]; a face's own where those of its corners cancel.
        """
        corners = self.vertex_normals[self.faces[points.faces]]
        normals = np.einsum("nk,nkd->nd", points.barycentric, corners)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.where(length > 1e-6, normals / np.maximum(length, 1e-6), self.normals[points.faces])

    def on_rim(self, points: SurfacePoints) -> Bool[np.ndarray, " n"]:
        """Tell which points lie on the border, where what is closest says nothing of how far two surfaces are.

        Args:
            points: Points of this surface.

        Returns:
            A mask: true on an edge that only one face has.
        """
        opposite = points.barycentric[:, [2, 0, 1]]  # of the corner facing the edges 01, 12, 20
        return np.any(self._rim[points.faces] & (opposite < 1e-9), axis=1)


def _normals_and_areas(
    vertices: Float[np.ndarray, "v 3"], faces: Shaped[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, " f"]]:
    """Unit normals of the faces, zero for those without area, and their areas."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(cross, axis=1)
    return cross / np.where(twice > 0.0, twice, 1.0)[:, None], 0.5 * twice


def _on_one_face(faces: Int[np.ndarray, "f 3"], count: int) -> Bool[np.ndarray, "f 3"]:
    """Of each face's edges 01, 12 and 20, whether no other face has it; faces that a file repeats are one."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
    keys = edges[..., 0] * count + edges[..., 1]  # one number an edge
    _, number = np.unique(keys, return_inverse=True)
    number = number.reshape(faces.shape)
    uses = np.bincount(number[_distinct(faces)].ravel())
    return uses[number] == 1


def _distinct(faces: Int[np.ndarray, "f 3"]) -> Bool[np.ndarray, " f"]:
    """One of all faces with the same corners, in whatever order."""
    corners = np.sort(faces, axis=1)
    order = np.lexsort(corners.T)
    mask = np.ones(len(faces), bool)
    mask[order[1:]] = np.any(np.diff(corners[order], axis=0) != 0, axis=1)
    return mask
