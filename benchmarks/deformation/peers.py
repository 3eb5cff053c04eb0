"""The deformation representation by NumPy and SciPy, one mesh at a time in float64: reference implementation and peer.

Written from the equations alone, with libraries' own parts (SVD, SuperLU, SciPy's rotations), to share no code and no
idea of speed with :mod:`digitaltwin.deformation`. What is quick in SciPy is used: the right-hand side is a sparse
product, the system is factored once with a fill-reducing ordering. ``decode_refactoring`` does what published code for
this representation does, and builds and factors the system anew for every mesh.
"""

import numpy as np
import scipy.sparse as sp
from scipy.spatial.transform import Rotation

from benchmarks.linear_algebra import factorised

WEIGHT_FLOOR, NORMAL_WEIGHT = 0.05, 0.1


def weights(vertices: np.ndarray, faces: np.ndarray) -> sp.csr_array:
    """Return symmetric cotangent weights c_ij, at least ``WEIGHT_FLOOR``."""
    count = len(vertices)
    total = sp.csr_array((count, count))
    for k in range(3):
        i, j, o = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        a, b = vertices[i] - vertices[o], vertices[j] - vertices[o]
        angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.sum(a * b, axis=1))
        half = 0.5 / np.tan(angle)
        total = total + sp.coo_array((half, (i, j)), (count, count)) + sp.coo_array((half, (j, i)), (count, count))
    total = sp.csr_array(total)
    total.data = np.maximum(total.data, WEIGHT_FLOOR)
    return total


class SparsePeer:
    """A reference mesh, prefactored with SuperLU; vertex ``held`` keeps its place. The mesh has one component."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, held: int = 0):
        self.vertices, self.faces, self.held = np.asarray(vertices, np.float64), np.asarray(faces), held
        self.free = np.delete(np.arange(len(vertices)), held)
        self.operators = self.assemble()
        self.factor = factorised(self.operators[0])

    def assemble(self) -> tuple[sp.csc_array, sp.csr_array]:
        """Assemble A over the free vertices, and the right-hand side's matrix K [v 3v] of Eq. 8."""
        c = weights(self.vertices, self.faces).tocoo()
        self.i, self.j, self.c = c.row, c.col, c.data
        self.edge = self.vertices[self.i] - self.vertices[self.j]
        count = len(self.vertices)
        stiffness = sp.diags_array(np.bincount(self.i, self.c)) - c
        columns = np.concatenate([3 * self.i[:, None] + np.arange(3), 3 * self.j[:, None] + np.arange(3)])
        values = np.tile(0.5 * self.c[:, None] * self.edge, (2, 1))
        rows = np.repeat(np.tile(self.i, 2), 3)
        right = sp.coo_array((values.ravel(), (rows, columns.ravel())), (count, 3 * count)).tocsr()
        return sp.csc_array(sp.csr_array(stiffness)[self.free][:, self.free]), right

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Sum the faces' normals around each vertex."""
        a, b, c = np.moveaxis(vertices[self.faces], 1, 0)
        normal, total = np.cross(b - a, c - a), np.zeros_like(vertices)
        for k in range(3):
            np.add.at(total, self.faces[:, k], normal)
        return total

    def gradients(self, vertices: np.ndarray) -> np.ndarray:
        """Return T [v 3 3] of Eq. 5."""
        edge = vertices[self.i] - vertices[self.j]
        before, after = self.normals(self.vertices), self.normals(vertices)
        areas_before, areas_after = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        unit = before / areas_before[:, None]
        target = after / np.sqrt(areas_after * areas_before)[:, None]
        moment, mixed = np.zeros((2, len(vertices), 3, 3))
        np.add.at(moment, self.i, self.c[:, None, None] * self.edge[:, :, None] * self.edge[:, None])
        np.add.at(mixed, self.i, self.c[:, None, None] * edge[:, :, None] * self.edge[:, None])
        share = NORMAL_WEIGHT * np.trace(moment, axis1=1, axis2=2)[:, None, None] / 2
        moment += share * unit[:, :, None] * unit[:, None]
        mixed += share * target[:, :, None] * unit[:, None]
        return mixed @ np.linalg.inv(moment)

    def encode(self, vertices: np.ndarray) -> np.ndarray:
        """Encode a mesh as a feature [v 9], with principal logarithms."""
        t = self.gradients(np.asarray(vertices, np.float64))
        u, _, vt = np.linalg.svd(t)
        u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
        rotation = u @ vt
        stretch = np.swapaxes(rotation, 1, 2) @ t - np.eye(3)
        upper = stretch[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        return np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), upper], axis=1)

    def right_hand_side(self, feature: np.ndarray, right: sp.csr_array) -> np.ndarray:
        """Return ``K T`` over the free vertices, for the displacement from the reference."""
        xx, yy, zz, xy, xz, yz = np.asarray(feature[:, 3:], np.float64).T
        stretch = np.array([[1 + xx, xy, xz], [xy, 1 + yy, yz], [xz, yz, 1 + zz]]).transpose(2, 0, 1)
        t = Rotation.from_rotvec(feature[:, :3]).as_matrix() @ stretch - np.eye(3)
        return (right @ t.transpose(0, 2, 1).reshape(-1, 3))[self.free]

    def decode(self, feature: np.ndarray) -> np.ndarray:
        """Decode a feature to positions [v 3], with the factorisation made before."""
        vertices = self.vertices.copy()
        vertices[self.free] += self.factor.solve(self.right_hand_side(feature, self.operators[1]))
        return vertices

    def decode_refactoring(self, feature: np.ndarray) -> np.ndarray:
        """Decode with A and K assembled and A factored for this one mesh."""
        stiffness, right = self.assemble()
        vertices = self.vertices.copy()
        vertices[self.free] += factorised(stiffness).solve(self.right_hand_side(feature, right))
        return vertices
