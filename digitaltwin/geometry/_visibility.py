"""Which vertices of a surface nothing outside can see: eyeballs behind lids, the inside of a mouth.

Letters: v vertices, n of them that are asked about.
"""

import igl.embree
import numpy as np
from jaxtyping import Bool, Float, Int

from digitaltwin.geometry._surface_tree import SurfaceTree

DIRECTIONS = 192
"""Directions over the whole sphere; about half of them lie on a vertex's own side."""
OFFSET = 1e-4
"""Where rays start off the surface, as a share of its size."""
WIDEST_DEG = 85.0
"""Angle from the normal up to which rays are sent; the neighbours stop flatter ones."""


def hidden_vertices(surface: SurfaceTree, asked: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Find vertices that no ray from outside reaches.

    Rays leave each vertex along its normal and, until one gets away, in directions that are spread evenly over the half
    space of its normal, always the same ones. A vertex that no ray leaves is hidden.

    Args:
        surface: The surface, its faces counter-clockwise seen from outside.
        asked: Vertices to be tested.

    Returns:
        A mask over them.

    Example:
        >>> import numpy as np
        >>> import trimesh
        >>> from digitaltwin.geometry import SurfaceTree
        >>> inner, outer = (trimesh.creation.icosphere(subdivisions=2, radius=radius) for radius in (1.0, 2.0))
        >>> both = trimesh.util.concatenate([inner, outer])
        >>> hidden = hidden_vertices(SurfaceTree(both.vertices, both.faces), np.arange(len(both.vertices)))
        >>> int(hidden.sum()) == len(inner.vertices)
        True
    """
    size = float(np.linalg.norm(np.ptp(surface.vertices, axis=0)))
    rays = igl.embree.EmbreeIntersector()
    rays.init(surface.vertices.astype(np.float32), surface.faces.astype(np.int32))
    normals = surface.vertex_normals[asked].astype(np.float32)
    starts = (surface.vertices[asked] + OFFSET * size * normals).astype(np.float32)
    spread = _sphere_directions(DIRECTIONS)
    hidden = np.zeros(len(asked), bool)
    for row, (start, normal) in enumerate(zip(starts, normals)):
        if normal.any() and rays.intersectRay_first(start, normal)[0] >= 0:
            directions = spread[spread @ normal > np.cos(np.deg2rad(WIDEST_DEG))]
            hidden[row] = all(rays.intersectRay_first(start, direction)[0] >= 0 for direction in directions)
    return hidden


def _sphere_directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Directions spread evenly over the sphere: a Fibonacci lattice."""
    number = np.arange(count) + 0.5
    height, turn = 1.0 - 2.0 * number / count, np.pi * (1.0 + np.sqrt(5.0)) * number
    around = np.sqrt(1.0 - height**2)
    return np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1).astype(np.float32)
