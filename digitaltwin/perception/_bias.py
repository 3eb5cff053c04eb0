"""The network's bias: how far it puts each point from where the head model has it, by the head's direction.

The face mesh's network misses the head's anchors not only at random: a nose's wing lies lower for it, a brow's end
further out, and each is drawn along as the head turns. Over people the mean of what it misses by is a smooth function
of yaw and pitch, measured on renders (``experiments.build_assets.bias``), and is taken off here. Points on the outline
are left as they are: which skin they mean changes with the view, and the fit's sliding contour sees to them.

Letters: n features, p points.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from digitaltwin.head.markup import (
    MESH_LEFT_EYE,
    MESH_POINT_COUNT,
    MESH_RIGHT_EYE,
    MOUTH_LEFT,
    MOUTH_RIGHT,
)
from digitaltwin.io import load_arrays
from digitaltwin.io.assets import asset_path
from digitaltwin.perception._landmarks import landmarks_from_mesh

LARGEST_YAW, LARGEST_PITCH = 0.75, 0.45
"""Directions [rad] up to which the bias was measured; beyond, it is that of the border."""


class Direction(NamedTuple):
    """Where a face looks, read off its mesh alone, and how large and how upright it is in the picture."""

    yaw: float
    """Turn to the subject's left [rad]."""
    pitch: float
    """Turn upwards [rad]."""
    axes: Float[np.ndarray, "2 2"]
    """Rows: directions in the picture of the subject's left and of down, seen upright."""
    size_px: float
    """Distance of the outer eye corners, depth included [px]."""


class Bias(NamedTuple):
    """Coefficients of the polynomials, in units of the distance of the outer eye corners, picture upright."""

    landmarks: Float[np.ndarray, "n 104 2"]
    mesh_points: Float[np.ndarray, "n 468 2"]


@functools.cache
def load_bias() -> Bias:
    """Read the shipped table (once in a process)."""
    arrays, _ = load_arrays(asset_path("networks/landmark_bias.npz"))
    return Bias(*(arrays[name].astype(np.float32) for name in Bias._fields))


def direction_of_mesh(mesh: Float[np.ndarray, "478 3"]) -> Direction:
    """Read the direction of a face off its mesh.

    Its axes are spanned by the outer eye corners and the middle of the mouth's; the network's depth of points is rough,
    but of these, over a whole face, good to a few degrees.

    Args:
        mesh: Points of the face mesh [px], z away from the camera.
    """
    mouth = landmarks_from_mesh(mesh)[[MOUTH_LEFT, MOUTH_RIGHT]].mean(axis=0)
    left, right = mesh[MESH_LEFT_EYE[0]], mesh[MESH_RIGHT_EYE[0]]
    across, down = left - right, mouth - (left + right) / 2
    size = float(np.linalg.norm(across))
    x = across / size
    down = down - (down @ x) * x
    y = down / np.linalg.norm(down)
    ahead = np.cross(y, x)  # to the camera of a face seen from the front: -z
    roll = np.arctan2(across[1], across[0])
    axes = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    sideways, downwards = axes @ ahead[:2]
    return Direction(
        float(np.arctan2(sideways, -ahead[2])), float(-np.arcsin(np.clip(downwards, -1.0, 1.0))), axes, size
    )


def direction_features(yaw: Float[np.ndarray, " *m"], pitch: Float[np.ndarray, " *m"]) -> Float[np.ndarray, "*m n"]:
    """The monomials of yaw and pitch up to the second degree, kept within the directions that were measured."""
    yaw, pitch = np.clip(yaw, -LARGEST_YAW, LARGEST_YAW), np.clip(pitch, -LARGEST_PITCH, LARGEST_PITCH)
    return np.stack([np.ones_like(yaw), yaw, pitch, yaw**2, pitch**2, yaw * pitch], axis=-1)


def remove_bias(mesh: Float[np.ndarray, "478 3"]) -> tuple[Float[np.ndarray, "478 3"], Float[np.ndarray, "104 2"]]:
    """Move a face's points to where the head model has them, as far as the bias goes.

    Args:
        mesh: Points of the face mesh, as the network has them [px].

    Returns:
        The mesh, and the 104 landmarks [px].
    """
    bias, direction = load_bias(), direction_of_mesh(mesh)
    features = direction_features(np.array(direction.yaw), np.array(direction.pitch))

    def offsets(table: np.ndarray) -> np.ndarray:
        return direction.size_px * np.tensordot(features, table, 1) @ direction.axes

    moved = np.array(mesh, np.float32)
    landmarks = landmarks_from_mesh(moved[:, :2]) - offsets(bias.landmarks)
    moved[:MESH_POINT_COUNT, :2] -= offsets(bias.mesh_points)
    return moved, np.asarray(landmarks, np.float32)
