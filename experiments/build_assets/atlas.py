"""The head's texture atlas: MakeHuman's islands upright, the face magnified, laid over the unit square."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph

from experiments.build_assets.source import Source


@dataclass(frozen=True)
class Island:
    """One chart of the new atlas: ``body = offset + matrix @ unbend(new)``."""

    box: np.ndarray  # [2 2] its bounding box in the new atlas, low and high corner
    matrix: np.ndarray  # [2 2]
    offset: np.ndarray  # [2]
    bend: np.ndarray  # [2] magnification of the middle along u and v; 0 leaves an axis alone
    focus: np.ndarray  # [2] what is magnified, in [-1, 1] of the straight box

    def bend_unit(self, t: np.ndarray) -> np.ndarray:
        """Monotone map of [-1, 1] onto itself, steepest at the focus."""
        k, c = np.where(self.bend > 0, self.bend, 1e-6), self.focus
        low, high = np.arctan(k * (-1 - c)), np.arctan(k * (1 - c))
        return 2 * (np.arctan(k * (t - c)) - low) / (high - low) - 1

    def unbend_unit(self, t: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`bend_unit`."""
        k, c = np.where(self.bend > 0, self.bend, 1e-6), self.focus
        low, high = np.arctan(k * (-1 - c)), np.arctan(k * (1 - c))
        return c + np.tan(low + (t + 1) / 2 * (high - low)) / k

    def from_body(self, uv: np.ndarray) -> np.ndarray:
        """New coordinates of a point of the body atlas."""
        straight = np.linalg.solve(self.matrix, (uv - self.offset).T).T
        return self.box.mean(0) + self.bend_unit(straight) * np.ptp(self.box, axis=0) / 2

    def to_body(self, uv: np.ndarray) -> np.ndarray:
        """Body atlas coordinates of a point of this island."""
        unit = np.clip((uv - self.box.mean(0)) / (np.ptp(self.box, axis=0) / 2), -1.02, 1.02)
        return self.unbend_unit(unit) @ self.matrix.T + self.offset


@dataclass
class Atlas:
    """New texture coordinates, and the way back to the body atlas they came from."""

    uv: np.ndarray  # [m 2] new coordinates, indexed like the source's
    islands: list[Island]

    def body_uv(self, uv: np.ndarray) -> np.ndarray:
        """Body atlas coordinates [... 2] of points [... 2] of the new atlas, by the nearest island."""
        gap = np.stack([np.max(np.maximum(i.box[0] - uv, uv - i.box[1]), -1) for i in self.islands])
        nearest = gap.argmin(0)
        result = np.zeros_like(uv)
        for number, island in enumerate(self.islands):
            result[nearest == number] = island.to_body(uv[nearest == number])
        return result


def lay_atlas(source: Source, corners: dict[str, np.ndarray]) -> Atlas:
    """Lays the head's islands over the unit square.

    The face-and-scalp island lies on its side in the body atlas: it is turned upright, takes the upper 70 %, and is
    bent so that the face gets nearly twice the resolution of an even scale. Throat, mouth sock and eye sockets share
    the strip below.
    """
    used = np.concatenate([corners["skin"], corners["interior"]])
    graph = sp.coo_matrix((np.ones(2 * len(used)), used[:, [0, 1, 1, 2]].reshape(-1, 2).T), (len(source.uv),) * 2)
    label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    indices = np.unique(used)
    groups = [indices[label[indices] == k] for k in np.unique(label[indices])]
    groups.sort(key=lambda i: -float(np.prod(np.ptp(source.uv[i], axis=0))))
    margin, split = 0.008, 0.30
    strip_width = sum(float(np.ptp(source.uv[i, 0])) for i in groups[1:])
    new, islands, left = np.zeros_like(source.uv), [], margin
    for number, group in enumerate(groups):
        low, high = source.uv[group].min(0), source.uv[group].max(0)
        half = (high - low) / 2
        if number == 0:
            box = np.array([[margin, split], [1 - margin, 1 - margin]])
            matrix = np.array([[0.0, -half[0]], [half[1], 0.0]])  # a quarter turn: the face stands upright
            bend, focus = np.array([2.0, 1.6]), np.array([0.0, -0.3])
        else:
            width = (1 - margin * len(groups)) * (high - low)[0] / strip_width
            box = np.array([[left, margin], [left + width, split - 2 * margin]])
            left += width + margin
            matrix, bend, focus = np.diag(half), np.zeros(2), np.zeros(2)
        island = Island(box, matrix, (low + high) / 2, bend, focus)
        new[group] = island.from_body(source.uv[group])
        islands.append(island)
    return Atlas(new, islands)
