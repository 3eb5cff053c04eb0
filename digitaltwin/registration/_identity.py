"""The head of the model nearest to a surface: identity coefficients and pose, by closest points.

Each iteration finds the small motion T and the coefficients c of the head's identity basis B that minimise

    int (n . (T (m + B c) - q))^2 / (a sigma^2)  +  sum_l |T (m + B c)_l - y_l|^2 / sigma_l^2  +  sum_j (c_j / s_j)^2

with m the mean head, q the surface's closest point and n its normal there, y landmarks, s the population's standard
deviations, sigma what the model lacks of a surface, and a the area that one independent piece of it covers:
neighbouring points err alike. The reach, up to which surfaces correspond, shrinks from iteration to iteration.

Closest points are sought anew in every iteration, by a tree on the host, so each iteration is one linear least-squares
problem: no step is ever repeated, damped or rejected, and the loop of :mod:`digitaltwin.solvers`, which is compiled and
in float32, has nothing to add.

On the host, in float64. Letters: v vertices, i identity components, k landmarks, n points that correspond.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, SurfacePoints, SurfaceTree
from digitaltwin.geometry._laplacian import lumped_mass
from digitaltwin.head import HeadModel
from digitaltwin.registration._config import IdentityConfig
from digitaltwin.registration._nonrigid import correspondence, known_landmarks
from digitaltwin.types import InputError


class FittedIdentity(NamedTuple):
    """A head of the model, and its pose."""

    neutral: Float[np.ndarray, "v 3"]
    """The skin in the head frame [mm]."""
    identity: Float[np.ndarray, " i"]
    """c [mm]."""
    surface_from_head: Similarity
    """From the head frame to the surface's."""


def fit_identity(
    head: HeadModel,
    surface: SurfaceTree,
    start: Similarity,
    *,
    weights: Float[np.ndarray, " v"] | None = None,
    landmarks: tuple[SurfacePoints, Float[np.ndarray, "k 3"]] | None = None,
    template: SurfaceTree | None = None,
    config: IdentityConfig | None = None,
) -> FittedIdentity:
    """Fit identity coefficients and pose of a head model to a surface.

    Args:
        head: The model.
        surface: A scan of a head [mm].
        start: The pose to begin with; its scale is kept.
        weights: Weight of the surface at each vertex, 0 to 1; by default 1 everywhere.
        landmarks: Points of the skin, and where they are on the surface [mm]; those not finite are left out.
        template: The mean head as a surface, if it has been made already.
        config: Numbers of the iteration.

    Returns:
        Shape and pose.

    Raises:
        InputError: Fewer than ten points correspond.
    """
    config = IdentityConfig() if config is None else config
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    basis = np.asarray(head.identity, np.float64).transpose(1, 2, 0)  # v 3 i
    deviation = np.asarray(head.identity_std, np.float64)
    areas = lumped_mass(mean, faces) * (1.0 if weights is None else weights)
    template = SurfaceTree(mean, faces, name="head") if template is None else template
    rows_of, targets = known_landmarks(landmarks, faces, len(mean))
    at_landmarks = (rows_of @ basis.reshape(len(mean), -1)).reshape(-1, *basis.shape[1:])

    pose, found, neutral = start, np.zeros(len(deviation)), mean
    for reach in np.geomspace(config.first_reach_mm, config.last_reach_mm, config.iterations):
        moved = pose.apply(neutral)
        to = correspondence(moved, template.deformed(moved).vertex_normals, surface, reach, config.max_normal_angle_deg)
        if np.count_nonzero(to.weights * areas) < 10:
            raise InputError("scan: hardly any point of it lies near the head; check the landmarks and the unit.")
        weight = to.weights * areas / (config.patch_mm2 * config.noise_mm**2)
        middle = moved.mean(axis=0)
        turn = pose.scale * pose.rotation
        rows = _derivatives(moved - middle, turn @ basis, to.planes[:, None, :])[:, 0]
        normal, right = rows.T @ (weight[:, None] * rows), rows.T @ (weight * to.gaps)
        if len(targets):
            points = pose.apply(rows_of @ neutral)
            axes = np.broadcast_to(np.eye(3), (len(points), 3, 3))
            rows = _derivatives(points - middle, turn @ at_landmarks, axes).reshape(3 * len(points), -1)
            rows /= config.landmark_noise_mm
            normal += rows.T @ rows
            right += rows.T @ (targets - points).ravel() / config.landmark_noise_mm
        normal[6:, 6:] += np.diag(1.0 / deviation**2)
        right[6:] -= found / deviation**2
        step = np.linalg.lstsq(normal, right, rcond=1e-12)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        pose = pose.then(Similarity(1.0, turn, middle + step[3:6] - turn @ middle))
        found = found + step[6:]
        neutral = mean + basis @ found
    return FittedIdentity(neutral, found, pose)


def _derivatives(
    arms: Float[np.ndarray, "n 3"], modes: Float[np.ndarray, "n 3 i"], axes: Float[np.ndarray, "n d 3"]
) -> Float[np.ndarray, "n d 6+i"]:
    """Of points along axes, by the rotation vector about the arms' origin, the translation, and the coefficients."""
    return np.concatenate([np.cross(arms[:, None], axes), axes, axes @ modes], axis=2)
