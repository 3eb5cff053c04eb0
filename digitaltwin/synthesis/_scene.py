"""The record of a scene: what is true of it, and what was detected in its picture.

Letters: n scenes, v vertices, e expressions, k landmarks.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from digitaltwin.geometry import Camera

YAW_BINS_DEG = (0.0, 10.0, 20.0, 30.0, 45.0)
"""Borders of the bins over which the yaw of the heads is spread, to either side [degrees]."""


class Scene(NamedTuple):
    """The truth of a scene, and what was detected in its picture; one scene, or many in a leading axis.

    Arrays live on the host: scenes are many and small.
    """

    neutral: Float[np.ndarray, "*n v 3"]
    """The person without expression, in the head frame [mm]."""
    vertices: Float[np.ndarray, "*n v 3"]
    """The person with the expression, in the head frame [mm]."""
    expression: Float[np.ndarray, "*n e"]
    """Expression coefficients."""
    camera: Camera
    """Pose and intrinsics, NumPy arrays."""
    angles_deg: Float[np.ndarray, "*n 3"]
    """Yaw (positive: to the subject's left), then pitch, then roll."""
    image_size: Int[np.ndarray, "*n 2"]
    """Height and width [px]."""
    subject: Int[np.ndarray, "*n"]
    """Index into the subjects."""
    group: Int[np.ndarray, "*n"]
    """Index of the subject's group."""
    test: Bool[np.ndarray, "*n"]
    """Whether the subject is held out for tests; the others are for tuning."""
    found: Bool[np.ndarray, "*n"]
    """Whether a face was detected in the picture; the fields below are 0 where none was."""
    landmarks_px: Float[np.ndarray, "*n k 2"]
    """The 104 landmarks as detected [px]."""
    mesh_px: Float[np.ndarray, "*n 478 2"]
    """The face mesh as detected [px]."""
    detected_expression: Float[np.ndarray, "*n e"]
    """Expression coefficients as detected."""

    def take(self, chosen: np.ndarray) -> "Scene":
        """Take some of many scenes.

        Args:
            chosen: A mask over them, or indices; a single index takes one scene, without the leading axis.

        Returns:
            Those scenes.
        """
        return jax.tree.map(lambda part: part[chosen], self)

    def yaw_bins(self) -> Int[np.ndarray, " n"]:
        """Find the bin of each scene's yaw, of many scenes.

        Returns:
            Indices of bins between the borders ``YAW_BINS_DEG``, 0 for the first.
        """
        return np.digitize(np.abs(self.angles_deg[:, 0]), YAW_BINS_DEG[1:-1])


def camera_on_host(parts: Iterable[Any]) -> Camera:
    """Make a camera of NumPy arrays."""
    return Camera(*(np.asarray(part, np.float32) for part in parts))  # pyright: ignore[reportArgumentType]
