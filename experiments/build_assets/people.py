"""Real people's faces, measured on a model of scans: mean and covariance in coefficients of the head's own targets.

What is kept are figures, ``people.npz`` beside this module: no shape and no mode of the model, but how strongly each of
MakeHuman's targets is present in people's faces, on average and together. They were measured on ICT-FaceKit's light
model, whose licence stands beside them; ``build_assets --people=`` measures them again.

Only the face counts: a model's skull, ears and neck may be guesses.

Letters: n targets, v skin vertices, m modes, f face vertices.
"""

from pathlib import Path

import numpy as np

from digitaltwin.io import load_arrays, save_arrays
from experiments._shared.people import Faces, rigid_motion
from experiments.build_assets.gaussian import Gaussian, fit_coefficients
from experiments.build_assets.targets import Targets

FIGURES = Path(__file__).with_name("people.npz")
NOISE_MM = 0.3  # of a coordinate: what the targets cannot follow; less, and coefficients grow without a gain
SOURCE = (
    "ICT-FaceKit light model (ICT-VGL/ICT-FaceKit, FaceXModel), MIT, (c) 2020 USC Institute for Creative Technologies"
)


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
