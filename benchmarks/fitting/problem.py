"""Random fitting problems: photos of people, and states of a fit. Letters: v vertices, k landmarks, e expressions."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from digitaltwin.fitting._points import FacePoints, landmark_points_of, mesh_points_of
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.head import HeadModel

FLIP = np.array([1.0, -1.0, -1.0])  # head axes to camera axes; not the library's, which the reference verifies
IMAGE_SIZE = (480, 640)


class State(NamedTuple):
    """All unknowns of a fit."""

    coefficients: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    log_focal_scale: float
    field: np.ndarray  # [v 3] mm, the correction dP

    def moved(self, increment: np.ndarray) -> "State":
        """Return the state after an increment of all unknowns: field, coefficients, rotation, translation, zoom."""
        ends = len(increment) - np.array([len(self.coefficients) + 7, 7, 4, 1])
        field, change, turn, shift, zoom = np.split(increment, ends)
        return State(
            coefficients=self.coefficients + change,
            rotation=Rotation.from_rotvec(turn).as_matrix() @ self.rotation,
            translation=self.translation + shift,
            log_focal_scale=float(self.log_focal_scale + zoom[0]),
            field=self.field + field.reshape(-1, 3),
        )


class Photo(NamedTuple):
    """Detected landmarks of a random person, and a start."""

    landmarks: np.ndarray  # [k 2] px; NaN where the weight is 0
    weights: np.ndarray  # [k]
    scores: np.ndarray  # [e], detected expression coefficients
    shape: np.ndarray  # P [v 3] mm: the person's neutral shape but for its detail, or the mean head
    focal_px: float | None
    start_rotation: np.ndarray
    start_translation: np.ndarray


def points_of(head: HeadModel, *, mesh: bool) -> FacePoints:
    """Return the landmarks on a head: the 478 points of the face mesh, or the 104."""
    return (mesh_points_of if mesh else landmark_points_of)(head)


def make_photo(
    head: HeadModel, points: FacePoints, seed: int, *,
    known_shape: bool = False, missing: float = 0.0, weighted: bool = False, known_focal: bool = False,
) -> Photo:  # fmt: skip
    """Draw landmarks of a random person, within what the priors expect, whose head is turned.

    The landmarks' noise has a standard deviation of 1 % of the eye distance. P is the person's shape but for its detail
    if that is known, otherwise the mean head. Irises are not seen, and a share of the other landmarks is missing (NaN,
    weight 0); their weights are 1 or, if weighted, between 0.2 and 2. A known focal length is given some per cent off.
    """
    rng = np.random.default_rng(seed)
    beta = np.clip(0.3 * rng.normal(size=len(head.expressions)), 0.0, 1.0)
    identity = np.clip(rng.normal(size=len(head.identity)), -2.0, 2.0) * np.asarray(head.identity_std)
    mean = np.asarray(head.mean, np.float64)
    person = mean + np.tensordot(identity, np.asarray(head.identity, np.float64), 1)
    detail, rows = np.zeros_like(mean), interpolation_matrix(points.corners, points.weights, len(mean))
    for bump in (rows @ mean)[rng.integers(len(points.rest), size=8)]:
        near = np.exp(-np.sum((mean - bump) ** 2, axis=1) / (2.0 * 15.0**2))
        detail += 1.5 * near[:, None] * rng.normal(size=3)
    posed = rows @ (person + detail + np.tensordot(beta, np.asarray(head.expressions, np.float64), 1))

    rotation = Rotation.from_rotvec(0.28 * rng.normal(size=3)).as_matrix()
    focal = max(IMAGE_SIZE) * np.exp(0.1 * rng.normal())
    translation = np.r_[15.0 * rng.normal(size=2), rng.uniform(400.0, 700.0)]
    seen = (posed @ rotation.T) * FLIP + translation
    landmarks = focal * seen[:, :2] / seen[:, 2:] + np.array(IMAGE_SIZE[::-1]) / 2.0
    left, right = landmarks[list(points.eye_corners)]
    landmarks += 0.01 * np.linalg.norm(left - right) * rng.normal(size=landmarks.shape)

    weights = rng.uniform(0.2, 2.0, len(landmarks)) if weighted else np.ones(len(landmarks))
    weights[(rng.random(len(landmarks)) < missing) | np.any(points.rest, axis=1)] = 0.0
    landmarks[weights == 0.0] = np.nan
    given = focal * np.exp(0.014 * rng.normal())
    assumed = given if known_focal else max(IMAGE_SIZE)
    pushed = np.r_[1.0, 1.0, assumed / focal] * translation * (1.0 + 0.03 * rng.normal())
    return Photo(
        landmarks=landmarks,
        weights=weights,
        scores=np.clip(beta + 0.1 * rng.normal(size=len(beta)), 0.0, 1.0),
        shape=person if known_shape else mean,
        focal_px=float(given) if known_focal else None,
        start_rotation=Rotation.from_rotvec(0.05 * rng.normal(size=3)).as_matrix() @ rotation,
        start_translation=pushed,
    )
