"""Real people's faces, measured on a model of scans: mean and covariance in coefficients of the head's own targets.

What is kept are figures, ``people.npz`` beside this module: no shape and no mode of the model, but how strongly each of
MakeHuman's targets is present in people's faces, on average and together. They were measured on ICT-FaceKit's light
model, whose licence stands beside them; ``build_assets --people=`` measures them again.

Only the face counts: a model's skull, ears and neck may be guesses.

Letters: n targets, v skin vertices, m modes, f face vertices.
"""

from dataclasses import dataclass
from pathlib import Path

import igl
import numpy as np
from absl import logging

from digitaltwin.head import HeadModel, landmark_points, load_head
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.registration import load_ict_head, register_scan
from experiments.build_assets.gaussian import Gaussian, fit_coefficients
from experiments.build_assets.targets import Targets, rigid_motion, without_rigid_motion

FIGURES = Path(__file__).with_name("people.npz")
NOISE_MM = 0.3  # of a coordinate: what the targets cannot follow; less, and coefficients grow without a gain
SOURCE = (
    "ICT-FaceKit light model (ICT-VGL/ICT-FaceKit, FaceXModel), MIT, (c) 2020 USC Institute for Creative Technologies"
)


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
    squared, face, closest = igl.point_mesh_squared_distance(skin, vertices, faces)
    weights = igl.barycentric_coordinates(closest, *(vertices[faces[face, k]] for k in range(3)))
    modes = np.asarray(model.identity, np.float64) * np.asarray(model.identity_std, np.float64)[:, None, None]
    modes = np.einsum("nk,mnkx->mnx", weights, modes[:, faces[face]])
    modes = modes @ laid.scan_from_head.rotation / laid.scan_from_head.scale
    seen = np.flatnonzero(np.asarray(head.regions.face))
    logging.info("people: our skin lies %.2f mm off the model's mean face", np.sqrt(squared)[seen].mean())
    return Faces(skin, without_rigid_motion(modes, skin, seen))


def measure_people(targets: Targets, faces: Faces, prior: Gaussian) -> Gaussian:
    """Express people in coefficients of the targets: of all that give a face the most probable under ``prior``.

    Returns:
        Mean and covariance of the coefficients; of the covariance, what the faces tell and nothing of the prior's.
    """
    reference = targets.reference[: targets.skin_count]
    rotation, shift = rigid_motion(faces.mean[targets.face], reference[targets.face])
    offset = faces.mean @ rotation.T + shift - reference
    face = targets.of_face
    mean = prior.mean + fit_coefficients(
        face, prior.covariance, offset[targets.face].ravel() - prior.mean @ face, NOISE_MM
    )
    modes = fit_coefficients(
        face, prior.covariance, faces.modes[:, targets.face].reshape(len(faces.modes), -1), NOISE_MM
    )
    return Gaussian(mean, modes.T @ modes)


def save_figures(path: Path, names: tuple[str, ...], people: Gaussian) -> None:
    """Write the figures, the covariance as its lower triangle."""
    rows, columns = np.tril_indices(len(names))
    arrays = {"mean": people.mean.astype(np.float32), "covariance": people.covariance[rows, columns].astype(np.float32)}
    metadata = {
        "source": SOURCE,
        "licence": "people-LICENSE.txt",
        "what": "mean, and lower triangle of the covariance by rows, of the coefficients of the targets named",
        "targets": list(names),
    }
    save_arrays(path, arrays, metadata)


def load_figures(names: tuple[str, ...], path: Path = FIGURES) -> Gaussian:
    """Read the figures.

    Raises:
        ValueError: They are of other targets.
    """
    arrays, metadata = load_arrays(path)
    if tuple(metadata["targets"]) != names:
        raise ValueError(f"{path}: holds figures of other targets than the source has; measure them anew by --people")
    covariance = np.zeros((len(names), len(names)))
    covariance[np.tril_indices(len(names))] = arrays["covariance"]
    return Gaussian(arrays["mean"].astype(np.float64), covariance + np.tril(covariance, -1).T)
