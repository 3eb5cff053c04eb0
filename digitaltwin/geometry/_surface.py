"""Whether arrays are an oriented manifold surface, with the vertices or faces named where they are not."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Shaped
from scipy.sparse.csgraph import connected_components

from digitaltwin.types import InputError

_FLAT = 1e-10  # of the longest side's square: the area below which the triangle's angles are rounding
_NAMED = 5  # how many offenders a message lists


def check_surface(vertices: Float[np.ndarray, "..."], faces: Shaped[np.ndarray, "..."]) -> None:
    """Check that a mesh is an oriented manifold, with or without boundary.

    Args:
        vertices: Positions [v 3].
        faces: Triangles [f 3].

    Raises:
        InputError: naming the problem, the first vertices or faces that have it, and the remedy: arrays of other
            shapes, faces that are no integers, indices out of range, positions that are not finite, vertices without a
            face, faces that repeat a vertex, duplicate faces, faces without area, edges of more than two faces,
            neighbouring faces of opposite orientation, vertices where surfaces only touch.
    """
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3 or not len(array):
            raise InputError(f"{name}: has shape {array.shape}, not (n, 3); give points, and triangles between them.")
    if not np.issubdtype(faces.dtype, np.integer):
        raise InputError(f"faces: are {faces.dtype}; give the indices of vertices, as integers.")
    count = len(vertices)
    outside = np.any((faces < 0) | (faces >= count), axis=1)
    refuse_where("faces", outside, f"name vertices outside [0, {count})", "correct the indices")
    refuse_where("vertices", ~np.all(np.isfinite(vertices), axis=1), "are not finite", "correct or remove them")
    unused = np.bincount(faces.ravel(), minlength=count) == 0
    refuse_where("vertices", unused, "belong to no face", "remove them and renumber the faces")
    a, b, c = faces.T
    refuse_where("faces", (a == b) | (b == c) | (c == a), "name one vertex twice", "remove them")
    refuse_where("faces", _later_copies(np.sort(faces, axis=1)), "repeat the vertices of another face", "remove them")
    corner = vertices[faces]
    sides = corner - np.roll(corner, 1, axis=1)
    area = np.linalg.norm(np.cross(sides[:, 1], sides[:, 2]), axis=1)
    longest = np.max(np.sum(sides**2, axis=2), axis=1)
    refuse_where("faces", area <= _FLAT * longest, "have no area", "remove them, or move their vertices apart")

    directed = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    face_of = np.repeat(np.arange(len(faces)), 3)
    _, edge, uses = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    crowded = np.isin(np.arange(len(faces)), face_of[uses[edge] > 2])
    refuse_where("faces", crowded, "share an edge with more than one other", "remove all but two faces at each edge")
    turned = np.zeros(len(faces), bool)
    turned[face_of[_later_copies(directed)]] = True
    refuse_where(
        "faces", turned, "are oriented against a neighbour", "reverse their order, if the surface has two sides"
    )
    refuse_where("vertices", _fans(faces, directed, count) > 1, "join surfaces that only touch there", "duplicate them")


def _fans(faces: np.ndarray, directed: np.ndarray, count: int) -> np.ndarray:
    """In how many fans, connected across edges, the faces around each vertex lie.

    Corner k of face f is node 3f + k; the corners of one vertex in two faces are joined if these share an edge at it.
    """
    start = 3 * np.arange(len(faces))[:, None] + np.arange(3)
    end = np.roll(start, -1, axis=1).ravel()
    start = start.ravel()
    there = {(int(i), int(j)): side for side, (i, j) in enumerate(directed)}
    pairs = [(side, there[j, i]) for (i, j), side in there.items() if i < j and (j, i) in there]
    one, other = np.array(pairs, int).reshape(-1, 2).T
    links = np.concatenate([np.stack([start[one], end[other]]), np.stack([end[one], start[other]])], axis=1)
    graph = sp.coo_array((np.ones(links.shape[1]), tuple(links)), shape=(faces.size, faces.size))
    label = connected_components(graph, directed=False)[1]
    fans = np.unique(np.stack([faces.ravel(), label], axis=1), axis=0)
    return np.bincount(fans[:, 0], minlength=count)


def _later_copies(rows: np.ndarray) -> np.ndarray:
    """Mask of the rows that an earlier row equals."""
    mask = np.ones(len(rows), bool)
    mask[np.unique(rows, axis=0, return_index=True)[1]] = False
    return mask


def refuse_where(kind: str, offending: Bool[np.ndarray, " n"], problem: str, remedy: str) -> None:
    """Refuse a mesh some of whose parts have a fault.

    Args:
        kind: "vertices" or "faces".
        offending: Mask of those that have it.
        problem: What they are or do: "belong to no face".
        remedy: What to do about it.

    Raises:
        InputError: any has; the first of them are named.
    """
    found = np.flatnonzero(offending)
    if len(found):
        named = ", ".join(map(str, found[:_NAMED])) + (", ..." if len(found) > _NAMED else "")
        raise InputError(f"{kind}: {len(found)} of {len(offending)} {problem} ({named}); {remedy}.")
