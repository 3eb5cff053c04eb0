"""Refined copies of meshes and heads, for benchmarks at other sizes: the same surface and shapes with more vertices."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from digitaltwin.geometry import SurfacePoints
from digitaltwin.geometry._topology import edges
from digitaltwin.head import HeadModel


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
            sides = _longest_disjoint(points, faces, sides, count - len(points))
        middle = sp.csr_array(
            (np.full(2 * len(sides), 0.5), (np.repeat(np.arange(len(sides)), 2), sides.ravel())),
            shape=(len(sides), len(points)),
        )
        faces = _split(faces, sides, len(points))
        matrix = sp.csr_array(sp.vstack([matrix, middle @ matrix]))
        points = matrix @ vertices
    return matrix, faces


def _longest_disjoint(points: np.ndarray, faces: np.ndarray, sides: np.ndarray, most: int) -> np.ndarray:
    """Choose up to ``most`` edges, longest first, no two of which belong to one face."""
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
    """Split faces at the edges ``sides``, whose middles are numbered from ``first``: into one, two or four each."""
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


def refined_head(head: HeadModel, count: int) -> HeadModel:
    """Refine a head: positions, modes, anchors and regions; it has no texture coordinates or mirror map."""
    mean = np.asarray(head.mean, np.float64)
    matrix, faces = refine(mean, np.asarray(head.faces), count)

    def finer(field: Any) -> jnp.ndarray:
        flat = np.moveaxis(np.asarray(field, np.float64), -2, 0).reshape(len(mean), -1)
        shape = (count, *np.shape(field)[:-2], 3)
        return jnp.asarray(np.moveaxis((matrix @ flat).reshape(shape), 0, -2), jnp.float32)

    def moved(anchors: SurfacePoints) -> SurfacePoints:
        return _finer_anchors(anchors, np.asarray(head.faces), sp.csc_array(matrix), faces)

    return replace(
        head,
        mean=finer(head.mean),
        faces=jnp.asarray(faces, jnp.int32),
        uv_faces=jnp.zeros(faces.shape, jnp.int32),
        mirror=jnp.arange(count, dtype=jnp.int32),
        regions=type(head.regions)(*(jnp.asarray(matrix @ np.asarray(mask, float) > 0.5) for mask in head.regions)),
        expressions=finer(head.expressions),
        other_expressions=finer(head.other_expressions),
        identity=finer(head.identity),
        landmarks=moved(head.landmarks),
        mesh_points=moved(head.mesh_points),
    )


def _finer_anchors(anchors: SurfacePoints, faces: np.ndarray, matrix: sp.csc_array, finer: np.ndarray) -> SurfacePoints:
    """Find the same points on the new faces, among those that the old face was split into."""
    chosen, weights = [], []
    for face, old in zip(np.asarray(anchors.faces), np.asarray(anchors.barycentric, np.float64)):
        local = matrix[:, faces[face]].toarray()  # new vertices in the old face's coordinates
        inside = np.flatnonzero((local.sum(axis=1) > 1.0 - 1e-9)[finer].all(axis=1))
        new = np.linalg.solve(
            np.swapaxes(local[finer[inside]], 1, 2), np.broadcast_to(old[:, None], (len(inside), 3, 1))
        )
        best = np.argmax(new[:, :, 0].min(axis=1))
        chosen.append(inside[best])
        weights.append(np.maximum(new[best, :, 0], 0.0))
    weights = np.stack(weights)
    return SurfacePoints(
        jnp.asarray(np.array(chosen), jnp.int32),
        jnp.asarray(weights / weights.sum(axis=1, keepdims=True), jnp.float32),
    )
