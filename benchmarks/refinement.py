"""Refined copies of a mesh, for benchmarks at other sizes: the same surface and shapes with more vertices."""

import numpy as np
import scipy.sparse as sp

from digitaltwin.geometry._topology import edges


def refine(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[sp.csr_array, np.ndarray]:
    """Split edges in the middle until a mesh has a number of vertices.

    All edges at once while that leaves fewer than asked for, then the longest, no two of one face at a time.

    Args:
        vertices: [v 3].
        faces: [f 3].
        count: Vertices wanted, at least v.

    Returns:
        The new vertices as a matrix [count v] on the old, which refines every other shape alike, and the new faces.
    """
    matrix = sp.csr_array(sp.eye_array(len(vertices)))
    points = vertices
    while len(points) < count:
        sides = edges(faces)
        if len(sides) > count - len(points):
            sides = _longest_apart(points, faces, sides, count - len(points))
        middle = sp.csr_array(
            (np.full(2 * len(sides), 0.5), (np.repeat(np.arange(len(sides)), 2), sides.ravel())),
            shape=(len(sides), len(points)),
        )
        faces = _split(faces, sides, len(points))
        matrix = sp.csr_array(sp.vstack([matrix, middle @ matrix]))
        points = matrix @ vertices
    return matrix, faces


def _longest_apart(points: np.ndarray, faces: np.ndarray, sides: np.ndarray, most: int) -> np.ndarray:
    """Up to ``most`` edges, longest first, no two of which belong to one face."""
    faces_of: dict[tuple[int, int], list[int]] = {}
    for number, face in enumerate(faces.tolist()):
        for a, b in zip(face, face[1:] + face[:1]):
            faces_of.setdefault((min(a, b), max(a, b)), []).append(number)
    length = np.linalg.norm(points[sides[:, 0]] - points[sides[:, 1]], axis=1)
    taken, chosen = set(), []
    for side in sides[np.argsort(-length, kind="stable")].tolist():
        beside = faces_of[side[0], side[1]]
        if len(chosen) < most and taken.isdisjoint(beside):
            taken.update(beside)
            chosen.append(side)
    return np.array(chosen)


def _split(faces: np.ndarray, sides: np.ndarray, first: int) -> np.ndarray:
    """Faces after the edges ``sides`` got middle vertices, numbered from ``first``: one, two or four for each."""
    middle = {(a, b): first + number for number, (a, b) in enumerate(sides.tolist())}
    result = []
    for face in faces.tolist():
        between = [middle.get((min(a, b), max(a, b))) for a, b in zip(face, face[1:] + face[:1])]
        if all(between):
            (a, b, c), (ab, bc, ca) = face, between
            result += [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        elif any(between):
            k = next(k for k in range(3) if between[k])
            a, b, c = face[k], face[(k + 1) % 3], face[(k + 2) % 3]
            result += [[a, between[k], c], [between[k], b, c]]
        else:
            result.append(face)
    return np.array(result)
