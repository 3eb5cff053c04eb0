"""Real people's faces: those of a model of scans, at the vertices of our skin.

Letters: v skin vertices, m modes, n points.
"""

from dataclasses import dataclass
from pathlib import Path

import igl
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from digitaltwin.geometry import procrustes_alignment
from digitaltwin.head import HeadModel, landmark_points, load_head
from digitaltwin.registration import load_ict_head, register_scan


@dataclass(frozen=True)
class Faces:
    """People's faces at the vertices of our skin: a mean and modes of one standard deviation, free of rigid motion."""

    mean: np.ndarray  # [v 3] mm
    modes: np.ndarray  # [m v 3] mm

    def symmetric(self, mirror: np.ndarray) -> "Faces":
        """Count everybody's mirror image as well."""
        flip = np.array([-1.0, 1.0, 1.0])
        mean = (self.mean + self.mean[mirror] * flip) / 2
        return Faces(mean, np.concatenate([self.modes, self.modes[:, mirror] * flip]) / np.sqrt(2))


def load_model(path: Path) -> HeadModel:
    """Load a model of scans: ICT-FaceKit's folder, or a head that ``save_head`` wrote."""
    return load_ict_head(path) if path.is_dir() else load_head(path)


def lay_on_skin(head: HeadModel, model: HeadModel) -> Faces:
    """Find a model's people at the vertices of our skin: its mean head is registered as a scan.

    A vertex has the place and the motion of the nearest point of the model's mean.

    Args:
        head: Our head, with its landmarks.
        model: The model of scans, with the same landmarks on its own skin.
    """
    surface = (np.asarray(model.mean, np.float64), np.asarray(model.faces))
    laid = register_scan(head, *surface, np.asarray(landmark_points(model, model.mean), np.float64))
    skin = np.asarray(laid.vertices, np.float64)
    vertices, faces = np.ascontiguousarray(laid.scan.vertices), np.ascontiguousarray(laid.scan.faces, np.int64)
    found = igl.point_mesh_squared_distance(skin, vertices, faces)
    squared, face, closest = (np.asarray(part) for part in found)
    corners = [np.ascontiguousarray(vertices[faces[face, k]]) for k in range(3)]
    weights = np.asarray(igl.barycentric_coordinates(np.ascontiguousarray(closest), *corners))
    modes = np.asarray(model.identity, np.float64) * np.asarray(model.identity_std, np.float64)[:, None, None]
    modes = np.einsum("nk,mnkx->mnx", weights, modes[:, faces[face]])
    modes = modes @ laid.scan_from_head.rotation / laid.scan_from_head.scale
    seen = np.flatnonzero(np.asarray(head.regions.face))
    logging.info("people: our skin lies %.2f mm off the model's mean face", np.sqrt(squared)[seen].mean())
    return Faces(skin, without_rigid_motion(modes, skin, seen))


@jax.jit
def _align(points: jax.Array, onto: jax.Array) -> tuple[jax.Array, jax.Array]:
    motion = procrustes_alignment(points, onto)
    return motion.rotation, motion.translation


def rigid_motion(points: np.ndarray, onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the rotation and translation that carry ``points`` closest to ``onto``."""
    # Centred on the host: the body's origin lies a metre below the head.
    centre = points.mean(0)
    rotation, shift = (
        np.asarray(x, np.float64) for x in _align(jnp.asarray(points - centre), jnp.asarray(onto - centre))
    )
    return rotation, shift + centre - rotation @ centre


def without_rigid_motion(displacements: np.ndarray, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Take small displacements' [n m 3] share of rigid motion away, as the points [m 3] numbered ``seen`` tell it.

    To first order: a displacement of a rotation by an angle ``a`` leaves ``a^2 / 2`` of the distance from the centre.
    """
    motions = _rigid_motions(points, seen)
    of_seen = motions[:, seen].reshape(6, -1)
    share = np.linalg.lstsq(of_seen.T, displacements[:, seen].reshape(len(displacements), -1).T, rcond=None)[0]
    return displacements - np.tensordot(share.T, motions, 1)


def _rigid_motions(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Displacements [6 m 3] of shifts along and small turns about each axis through the middle of what is seen."""
    motions, centred = [], points - points[seen].mean(0)
    for axis in np.eye(3):
        motions += [np.broadcast_to(axis, points.shape), np.cross(axis, centred)]
    return np.array(motions)
