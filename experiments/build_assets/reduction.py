"""Mirror-paired half-edge collapse: fewer vertices, the survivors unmoved, the mesh still symmetric.

Because the result is a subset of the original vertices, every blendshape transfers by indexing. The error of a
collapse is the quadric (Garland and Heckbert 1997) summed over the shapes the mesh will take, so that an expression
which bends a flat region protects it.
"""

import heapq

import numpy as np

MIN_NORMAL_COSINE = 0.5
MIN_TRIANGLE_QUALITY = 0.12  # twice the area over the squared longest edge


def plane_quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted quadrics [n 4 4] of the planes around each vertex."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    double_area = np.linalg.norm(normal, axis=1)
    normal /= np.maximum(double_area, 1e-12)[:, None]
    plane = np.concatenate([normal, -np.sum(normal * a, 1, keepdims=True)], 1)
    quadric = 0.5 * double_area[:, None, None] * plane[:, :, None] * plane[:, None, :]
    result = np.zeros((len(vertices), 4, 4))
    for corner in range(3):
        np.add.at(result, faces[:, corner], quadric)
    return result


class _Surface:
    """Faces with adjacency, and collapses that can be undone."""

    def __init__(self, faces: np.ndarray, corners: np.ndarray, shapes: np.ndarray):
        self.faces = {i: tuple(map(int, f)) for i, f in enumerate(faces)}
        self.corners = {i: tuple(map(int, c)) for i, c in enumerate(corners)}
        self.around: list[set[int]] = [set() for _ in range(shapes.shape[1])]
        for i, face in self.faces.items():
            for v in face:
                self.around[v].add(i)
        self.shapes = shapes

    def ring(self, v: int) -> set[int]:
        return {w for i in self.around[v] for w in self.faces[i]} - {v}

    def allows(self, a: int, b: int) -> bool:
        if b not in self.ring(a) or len(self.ring(a) & self.ring(b)) != 2:
            return False
        moved = [self.faces[i] for i in self.around[a] - self.around[b]]
        if not moved:
            return False
        before = self.shapes[:, np.array(moved)]
        after = self.shapes[:, np.array([[b if v == a else v for v in face] for face in moved])]
        old, new = (np.cross(x[..., 1, :] - x[..., 0, :], x[..., 2, :] - x[..., 0, :]) for x in (before, after))
        old_length, new_length = np.linalg.norm(old, axis=-1), np.linalg.norm(new, axis=-1)
        longest = np.max(np.sum((after - np.roll(after, 1, axis=-2)) ** 2, -1), -1)
        flat = np.any(np.sum(old * new, -1) < MIN_NORMAL_COSINE * old_length * new_length)
        return not (flat or np.any(new_length[0] < MIN_TRIANGLE_QUALITY * longest[0]))

    def collapse(self, a: int, b: int) -> list[tuple[int, tuple, tuple]]:
        """Moves ``a`` onto ``b``; returns what undo needs. ``a`` lies inside one chart, so b's corner is unique."""
        touched = [(i, self.faces[i], self.corners[i]) for i in self.around[a]]
        corner = next(c[f.index(b)] for _, f, c in touched if b in f)
        for i, face, corners in touched:
            for v in face:
                self.around[v].discard(i)
            if b in face:
                del self.faces[i], self.corners[i]
                continue
            self.faces[i] = tuple(b if v == a else v for v in face)
            self.corners[i] = tuple(corner if v == a else c for v, c in zip(face, corners))
            for v in self.faces[i]:
                self.around[v].add(i)
        return touched

    def undo(self, touched: list[tuple[int, tuple, tuple]]) -> None:
        for i, face, corners in touched:
            for v in self.faces.get(i, ()):
                self.around[v].discard(i)
            self.faces[i], self.corners[i] = face, corners
            for v in face:
                self.around[v].add(i)


def reduce_mirrored(
    faces: np.ndarray,
    corners: np.ndarray,
    shapes: np.ndarray,
    mirror: np.ndarray,
    locked: np.ndarray,
    importance: np.ndarray,
    target: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse vertices in left-right pairs until at most ``target`` remain.

    Args:
        faces: [f 3] vertex indices.
        corners: [f 3] texture coordinate indices.
        shapes: [s n 3] positions, the neutral one first [mm].
        mirror: [n] left-right partner.
        locked: [n] vertices that must stay (borders, seams, feature loops).
        importance: [n] factor on the cost of removing a vertex.
        target: Number of vertices to reach.

    Returns:
        Faces and corners that remain, with the original indices.
    """
    quadrics = np.stack([plane_quadrics(shape, faces) for shape in shapes], 1)
    homogeneous = np.concatenate([shapes, np.ones(shapes.shape[:2] + (1,))], 2).transpose(1, 0, 2)
    surface = _Surface(faces, corners, shapes)
    alive = np.zeros(shapes.shape[1], bool)
    alive[faces] = True
    version = np.zeros(len(alive), int)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(a: int) -> None:
        if locked[a]:
            return
        for b in surface.ring(a):
            if mirror[a] == a and mirror[b] != b:
                continue
            error = np.einsum("si,sij,sj->s", homogeneous[b], quadrics[a] + quadrics[b], homogeneous[b])
            length = np.sum((shapes[0, a] - shapes[0, b]) ** 2)
            cost = importance[a] * (error[0] + error.max() + 1e-4 * length)
            heapq.heappush(heap, (float(cost), a, b, int(version[a]), int(version[b])))

    for a in np.flatnonzero(alive):
        push(int(a))
    while alive.sum() > target and heap:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if not (alive[a] and alive[b]) or version[a] != version_a or version[b] != version_b:
            continue
        pairs = [(a, b)]
        if mirror[a] != a:
            if mirror[a] in surface.ring(a):
                continue
            pairs.append((int(mirror[a]), int(mirror[b])))
        done = []
        for one, other in pairs:
            if not surface.allows(one, other):
                break
            done.append(surface.collapse(one, other))
        if len(done) < len(pairs):
            for touched in reversed(done):
                surface.undo(touched)
            continue
        changed = set()
        for one, other in pairs:
            alive[one] = False
            quadrics[other] += quadrics[one]
            changed |= surface.ring(other) | {other}
        for v in changed:
            version[v] += 1
        for v in changed:
            push(v)
    order = sorted(surface.faces)
    return np.array([surface.faces[i] for i in order]), np.array([surface.corners[i] for i in order])
