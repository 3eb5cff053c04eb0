"""The region of a face in which challenges compare, from its landmarks."""

import numpy as np
from jaxtyping import Float


def face_region(landmarks: Float[np.ndarray, "7 3"], *, factor: float) -> tuple[Float[np.ndarray, " 3"], float]:
    """The ball in which NoW and the FG2018 challenge compare faces, from a scan's landmarks.

    With b the nose's bottom and m the middle of the inner corners of the eyes, its centre is ``b + 0.3 (m - b)`` and
    its radius ``factor (e + |m - b|) / 2``, e the distance of the outer corners of the eyes.

    Args:
        landmarks: In the order of ``CHALLENGE_LANDMARKS`` of :mod:`digitaltwin.io._landmark_files` [mm].
        factor: 1.4 in NoW, 1.2 in the FG2018 challenge.

    Returns:
        Centre and radius [mm].

    Example:
        >>> import numpy as np
        >>> eyes = [[-45.0, 0.0, 0.0], [-15.0, 0.0, 0.0], [15.0, 0.0, 0.0], [45.0, 0.0, 0.0]]
        >>> centre, radius_mm = face_region(np.array([*eyes, [0, -50, 0], [-25, -80, 0], [25, -80, 0]]), factor=1.4)
        >>> centre.tolist(), round(radius_mm, 3)
        ([0.0, -35.0, 0.0], 98.0)
    """
    bottom, middle = landmarks[4], 0.5 * (landmarks[1] + landmarks[2])
    apart, height = (float(np.linalg.norm(side)) for side in (landmarks[0] - landmarks[3], middle - bottom))
    return bottom + 0.3 * (middle - bottom), 0.5 * factor * (apart + height)
