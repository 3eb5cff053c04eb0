"""An open tube that can be bent like a finger: the shape on which a deformation's rotations can be large, and known."""

from typing import NamedTuple

import numpy as np


class Tube(NamedTuple):
    """A tube around +y, its lower end at the origin."""

    vertices: np.ndarray  # [v 3] mm
    faces: np.ndarray  # [f 3]
    radius: float
    length: float

    def bent(self, degrees: float | int, *, share: float = 0.8) -> np.ndarray:
        """Bend the vertices evenly about +z over the middle ``share`` of the length; the axis keeps its length."""
        low, high = self.length * (1 - share) / 2, self.length * (1 + share) / 2
        along = np.linspace(0, self.length, 20_001)
        angle = np.deg2rad(degrees) * (np.clip(along, low, high) - low) / (high - low)
        tangent = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
        steps = (tangent[1:] + tangent[:-1]) / 2 * (self.length / 20_000)
        axis = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        x, height, z = self.vertices.T
        turn, axis_x, axis_y = (np.interp(height, along, value) for value in (angle, *axis.T))
        return np.stack([axis_x + np.cos(turn) * x, axis_y + np.sin(turn) * x, z], axis=1)


def make_tube(radius: float | int, length: float | int, *, around: int, along: int) -> Tube:
    """Make a tube of ``along`` rings of ``around`` vertices each; lengths in mm."""
    angle = 2 * np.pi * np.arange(around) / around
    ring = np.stack([radius * np.cos(angle), np.zeros(around), radius * np.sin(angle)], axis=1)
    vertices = (ring[None] + np.linspace(0, length, along)[:, None, None] * [0, 1, 0]).reshape(-1, 3)
    row, column = np.divmod(np.arange((along - 1) * around), around)
    here, beside = row * around + column, row * around + (column + 1) % around
    lower = np.stack([here, here + around, beside], axis=1)
    upper = np.stack([beside, here + around, beside + around], axis=1)
    return Tube(vertices, np.concatenate([lower, upper]), radius, length)
