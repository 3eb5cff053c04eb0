"""Random fitting problems: where landmarks lie on the skin, photos of random people, states of a fit.

Letters: v vertices, k landmarks, e expressions, i identity coefficients.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.spatial.transform import Rotation

from digitaltwin.fitting._points import FacePoints, landmark_points_of, mesh_points_of
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.head import HeadModel

FLIP = np.array([1.0, -1.0, -1.0])  # head axes to camera axes; not the library's, which the reference verifies
IMAGE_SIZE = (480, 640)


class Layout(NamedTuple):
    """Where landmarks lie on the skin, and the weight of each."""

    rows: sp.csr_array
    """[k v]; a landmark is any linear combination of vertices, so a frozen sliding contour fits in."""
    weights: np.ndarray
    """[k]; 0 for landmarks beside the skin, the irises, which are never seen here."""
    eyes: tuple[int, int]
    """The two outer eye corners."""
    rest: np.ndarray
    """Offsets from the skin on the mean head [k 3], mm."""
    modes: np.ndarray
    """Their change by each identity coefficient [k 3 i]."""

    def on_shape(self, head: HeadModel, shape: np.ndarray) -> np.ndarray:
        """Return the landmarks on a neutral shape [k 3]."""
        moved = shape - np.asarray(head.mean, np.float64)
        coefficients = np.tensordot(np.asarray(head.identity, np.float64), moved, 2)
        return self.rows @ shape + self.rest + self.modes @ coefficients


class State(NamedTuple):
    """All unknowns of a fit."""

    coefficients: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    log_focal_scale: float
    field: np.ndarray
    """The correction dP [v 3], mm."""

    def moved(self, increment: np.ndarray) -> "State":
        """Return the state after an increment of all unknowns: field, coefficients, rotation, translation, zoom."""
        field, change, turn, shift, zoom = np.split(
            increment, len(increment) - np.array([len(self.coefficients) + 7, 7, 4, 1])
        )
        return State(
            coefficients=self.coefficients + change,
            rotation=Rotation.from_rotvec(turn).as_matrix() @ self.rotation,
            translation=self.translation + shift,
            log_focal_scale=float(self.log_focal_scale + zoom[0]),
            field=self.field + field.reshape(-1, 3),
        )


class Photo(NamedTuple):
    """Detected landmarks of a random person, and a start."""

    landmarks: np.ndarray
    """[k 2] px; NaN where the weight is 0."""
    weights: np.ndarray
    """[k]."""
    scores: np.ndarray
    """Detected expression coefficients [e]."""
    shape: np.ndarray
    """P [v 3]: the person's neutral shape but for its detail, or the mean head."""
    focal_px: float | None
    start_rotation: np.ndarray
    start_translation: np.ndarray


def points_of(head: HeadModel, *, mesh: bool) -> FacePoints:
    """Return the landmarks on a head: the 478 points of the face mesh, or the 104."""
    return (mesh_points_of if mesh else landmark_points_of)(head)


def make_layout(head: HeadModel, points: FacePoints, contour_weight: float) -> Layout:
    """Lay out a set of landmarks, the 104 or the 478 points of the face mesh, as the reference reads it."""
    rows = interpolation_matrix(points.corners, points.weights, len(head.mean))
    carried = np.einsum("kj,ikjx->kxi", points.weights, np.asarray(head.identity, np.float64)[:, points.corners])
    beside = np.any(points.rest, axis=1)
    weights = np.where(beside, 0.0, points.landmark_weights)
    weights[points.contour.landmarks] *= contour_weight
    modes = np.where(beside[:, None, None], points.identity - carried, 0.0)
    return Layout(rows, weights, points.eye_corners, points.rest, modes)


def make_photo(
    head: HeadModel, layout: Layout, seed: int, *,
    known_shape: bool = False, missing: float = 0.0, weighted: bool = False, known_focal: bool = False,
) -> Photo:  # fmt: skip
    """Draw landmarks of a random person, within what the priors expect, whose head is turned.

    Args:
        head: The head model.
        layout: The landmarks.
        seed: Seed of everything random; the landmarks' noise has a deviation of 1 % of the eye distance.
        known_shape: Whether P is the person's, but for its detail; otherwise P is the mean head.
        missing: Share of the landmarks that were not seen (NaN, weight 0), drawn at random.
        weighted: Whether landmarks get weights between 0.2 and 2.
        known_focal: Whether the focal length is given, some per cent off.
    """
    rng = np.random.default_rng(seed)
    beta = np.clip(0.3 * rng.normal(size=len(head.expressions)), 0.0, 1.0)
    identity = np.clip(rng.normal(size=len(head.identity)), -2.0, 2.0) * np.asarray(head.identity_std)
    mean = np.asarray(head.mean, np.float64)
    person = mean + np.tensordot(identity, np.asarray(head.identity, np.float64), 1)
    detail = np.zeros_like(mean)
    for bump in (layout.rows @ mean)[rng.integers(len(layout.weights), size=8)]:
        near = np.exp(-np.sum((mean - bump) ** 2, axis=1) / (2.0 * 15.0**2))
        detail += 1.5 * near[:, None] * rng.normal(size=3)
    points = layout.rows @ (person + detail + np.tensordot(beta, np.asarray(head.expressions, np.float64), 1))

    rotation = Rotation.from_rotvec(0.28 * rng.normal(size=3)).as_matrix()
    focal = max(IMAGE_SIZE) * np.exp(0.1 * rng.normal())
    translation = np.r_[15.0 * rng.normal(size=2), rng.uniform(400.0, 700.0)]
    seen = (points @ rotation.T) * FLIP + translation
    landmarks = focal * seen[:, :2] / seen[:, 2:] + np.array(IMAGE_SIZE[::-1]) / 2.0
    eyes = np.linalg.norm(landmarks[layout.eyes[0]] - landmarks[layout.eyes[1]])
    landmarks += 0.01 * eyes * rng.normal(size=landmarks.shape)

    weights = rng.uniform(0.2, 2.0, len(landmarks)) if weighted else np.ones(len(landmarks))
    weights[(rng.random(len(landmarks)) < missing) | (layout.weights == 0.0)] = 0.0
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
