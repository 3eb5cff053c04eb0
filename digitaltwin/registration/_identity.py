"""A head of the model laid over a surface: identity coefficients and pose, by closest points.

Each round finds the small motion T and the coefficients c of the head's identity basis B that minimise

    int (n . (T (m + B c) - q))^2 / (a sigma^2)  +  sum_l |T (m + B c)_l - y_l|^2 / sigma_l^2  +  sum_j (c_j / s_j)^2

with m the mean head, q the surface's closest point and n its normal there, y landmarks, s the population's deviations,
sigma what the model lacks of a surface, and a the area that one independent piece of it covers: neighbouring points
err alike. The reach, up to which surfaces correspond, shrinks from round to round.

On the host, in float64. Letters: v vertices, i identity components, k landmarks, n points that correspond.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, SurfaceTree, lumped_mass
from digitaltwin.head import HeadModel
from digitaltwin.registration._nonrigid import Landmarks, correspondence
from digitaltwin.types import InputError, check_ranges


@dataclass(frozen=True)
class IdentityConfig:
    """How a head of the model is laid over a surface."""

    iterations: int = 25
    first_reach_mm: float = 25.0
    last_reach_mm: float = 5.0
    most_turned_deg: float = 60.0
    noise_mm: float = 1.0
    """sigma."""
    patch_mm2: float = 200.0
    """a."""
    landmark_noise_mm: float = 2.0
    """sigma_l."""

    def __post_init__(self) -> None:
        positive = ("first_reach_mm", "last_reach_mm", "noise_mm", "patch_mm2", "landmark_noise_mm")
        check_ranges(
            self,
            ("iterations", self.iterations >= 1, "be 1 or more"),
            ("most_turned_deg", 0.0 < self.most_turned_deg <= 180.0, "lie in (0, 180]"),
            *((name, getattr(self, name) > 0.0, "be positive") for name in positive),
        )


class FittedIdentity(NamedTuple):
    """A head of the model, and where it stands."""

    neutral: Float[np.ndarray, "v 3"]
    """The skin in the head frame [mm]."""
    identity: Float[np.ndarray, " i"]
    """c [mm]."""
    placement: Similarity
    """From the head frame to the surface's."""


def fit_identity(
    head: HeadModel,
    surface: SurfaceTree,
    start: Similarity,
    *,
    weights: Float[np.ndarray, " v"] | None = None,
    landmarks: Landmarks | None = None,
    config: IdentityConfig | None = None,
) -> FittedIdentity:
    """Lay a head of the model over a surface.

    Args:
        head: The model.
        surface: A scan of a head [mm].
        start: Roughly where the head stands; its scale is kept.
        weights: How much the surface counts at each vertex, 0 to 1; by default 1 everywhere.
        landmarks: Points of the skin that are known on the surface.
        config: Numbers of the iteration.

    Returns:
        Shape and place.

    Raises:
        InputError: Fewer than ten points correspond.
    """
    config = IdentityConfig() if config is None else config
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    basis = np.asarray(head.identity, np.float64).transpose(1, 2, 0)  # v 3 i
    deviation = np.asarray(head.identity_std, np.float64)
    areas = lumped_mass(mean, faces) * (1.0 if weights is None else weights)
    known = None if landmarks is None else landmarks.finite()
    at_landmarks = None if known is None else (known.rows @ basis.reshape(len(mean), -1)).reshape(-1, *basis.shape[1:])

    placement, found, neutral = start, np.zeros(len(deviation)), mean
    for reach in np.geomspace(config.first_reach_mm, config.last_reach_mm, config.iterations):
        moved = placement.apply(neutral)
        template = SurfaceTree(moved, faces, name="head")
        to = correspondence(moved, template.vertex_normals, surface, reach, config.most_turned_deg)
        if np.count_nonzero(to.weights * areas) < 10:
            raise InputError("scan: hardly any point of it lies near the head; check the landmarks and the unit.")
        weight = to.weights * areas / (config.patch_mm2 * config.noise_mm**2)
        middle = moved.mean(axis=0)
        turned = placement.scale * placement.rotation
        rows = _derivatives(moved - middle, turned @ basis, to.planes[:, None, :])[:, 0]
        normal, right = rows.T @ (weight[:, None] * rows), rows.T @ (weight * to.gaps)
        if known is not None and at_landmarks is not None:
            places = placement.apply(known.rows @ neutral)
            axes = np.broadcast_to(np.eye(3), (len(places), 3, 3))
            rows = _derivatives(places - middle, turned @ at_landmarks, axes).reshape(3 * len(places), -1)
            rows /= config.landmark_noise_mm
            normal += rows.T @ rows
            right += rows.T @ (known.positions - places).ravel() / config.landmark_noise_mm
        normal[6:, 6:] += np.diag(1.0 / deviation**2)
        right[6:] -= found / deviation**2
        step = np.linalg.lstsq(normal, right, rcond=1e-12)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        placement = placement.then(Similarity(1.0, turn, middle + step[3:6] - turn @ middle))
        found = found + step[6:]
        neutral = mean + basis @ found
    return FittedIdentity(neutral, found, placement)


def _derivatives(
    arms: Float[np.ndarray, "n 3"], modes: Float[np.ndarray, "n 3 i"], axes: Float[np.ndarray, "n d 3"]
) -> Float[np.ndarray, "n d 6+i"]:
    """Of points along axes, by the rotation vector about the arms' origin, the translation, and the coefficients."""
    return np.concatenate([np.cross(arms[:, None], axes), axes, axes @ modes], axis=2)
