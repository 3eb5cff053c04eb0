"""The out-of-basis residual: what the identity basis lacks of a person.

Subjects lie in the span of the head's identity basis, and nobody real does. A fit that is judged on such subjects alone
looks better than it is. So each person gets a smooth random displacement field orthogonal to the basis.

Letters: v vertices, i identity components.
"""

import numpy as np
from jaxtyping import Float

from digitaltwin.head import HeadModel

_BUMPS = 60
_WIDTH_MM = (12.0, 35.0)


def draw_residual(
    head: HeadModel, rng: np.random.Generator, *, size_mm: float, rigid_motion_free: bool = False
) -> Float[np.ndarray, "v 3"]:
    """Draw a smooth displacement field that the identity basis does not hold.

    The field is a sum of 60 Gaussian bumps with centres on the face, less its projection on the basis. With
    ``rigid_motion_free`` the face as a whole is neither moved nor turned. The basis holds little of such motion, so
    without this about half of the field is one, and rigid alignment leaves 0.4 to 1.2 mm of 1.5.

    Args:
        head: The model.
        rng: Generator of the bumps.
        size_mm: Root mean square of the displacements over the face [mm].
        rigid_motion_free: Whether the face's rigid motion is taken out.

    Returns:
        Displacements of the skin's vertices in the head frame [mm].

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> field = draw_residual(head, np.random.default_rng(0), size_mm=1.5)
        >>> face = np.asarray(head.regions.face)
        >>> round(float(np.sqrt((field[face] ** 2).sum(axis=1).mean())), 6)
        1.5
    """
    mean, face = np.asarray(head.mean, np.float64), np.asarray(head.regions.face)
    centres = mean[rng.choice(np.flatnonzero(face), _BUMPS)]
    width, push = rng.uniform(*_WIDTH_MM, _BUMPS), rng.normal(size=(_BUMPS, 3))
    distance = np.linalg.norm(mean[:, None] - centres[None], axis=2)
    field = np.exp(-((distance / width) ** 2) / 2) @ push
    removed = measured = np.asarray(head.identity, np.float64).reshape(len(head.identity), -1)
    if rigid_motion_free:
        motions = _small_motions(mean, face)
        # Measured on the face, removed from the whole head: removed from the face alone they would tear its border.
        removed = np.concatenate([removed, motions.reshape(6, -1)])
        measured = np.concatenate([measured, (motions * face[:, None]).reshape(6, -1)])
    # Stored in half precision, the basis is not quite orthonormal; so its projection needs the Gram matrix.
    field -= (removed.T @ np.linalg.solve(measured @ removed.T, measured @ field.ravel())).reshape(field.shape)
    return field * (size_mm / np.sqrt(np.mean(np.sum(field[face] ** 2, axis=1))))


def _small_motions(points: np.ndarray, region: np.ndarray) -> Float[np.ndarray, "6 v 3"]:
    """Return three translations and three rotations about a region's middle, of like size in the region."""
    arms = points - points[region].mean(axis=0)
    arms /= np.sqrt(np.mean(np.sum(arms[region] ** 2, axis=1)))
    axes = np.broadcast_to(np.eye(3)[:, None], (3, *points.shape))
    return np.concatenate([axes, np.cross(axes, arms[None])])
