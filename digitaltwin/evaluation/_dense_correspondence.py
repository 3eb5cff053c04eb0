"""An error between points that belong together: the prediction is bent over the scan, and each vertex's way is counted.

Closest points flatter. A nose that is too narrow has the cheek near by, a chin that is too low the neck; what is
closest is not what should have been there, and so the distances after ICP say less of a face's true error than they
seem to. Laid over the scan by non-rigid ICP (:func:`digitaltwin.registration.lay_over`), the landmarks held, a
prediction's vertices come to lie where they belong, as far as a smooth deformation can tell; and the distance from
where the prediction had them is its error.

Letters: v vertices of the prediction, k landmarks.
"""

import numpy as np
from jaxtyping import Float, Int

from digitaltwin.evaluation._metrics import Comparison
from digitaltwin.geometry import SurfaceTree
from digitaltwin.registration import Landmarks, NonRigidConfig, lay_over


def corresponding_points(
    comparison: Comparison,
    faces: Int[np.ndarray, "f 3"],
    scan: SurfaceTree,
    landmarks: tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k 3"]],
    *,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Where a prediction's vertices belong on a scan, by non-rigid ICP.

    Args:
        comparison: Of the two, aligned and cropped, by :func:`digitaltwin.evaluation.compare_trees`.
        faces: The prediction's triangles.
        scan: The scan [mm].
        landmarks: The same points on prediction and scan, each in its own frame; the more, the better. Where either
            is not finite, both are left out.
        config: Of the non-rigid ICP.

    Returns:
        For every vertex, in the scan's frame [mm]. A second or two for some thousand vertices.

    Raises:
        InputError: Too few points of the two correspond.
    """
    placed = np.asarray(comparison.vertices, np.float64)
    template = SurfaceTree(placed, faces, name="prediction")
    known = np.isfinite(landmarks[0]).all(axis=1) & np.isfinite(landmarks[1]).all(axis=1)
    _, marked = template.closest(comparison.placement.apply(landmarks[0][known]))
    rows = marked.matrix(template.faces, len(placed))
    return lay_over(placed, faces, scan, landmarks=Landmarks(rows, landmarks[1][known]), config=config)


def bent_distances(
    comparison: Comparison,
    faces: Int[np.ndarray, "f 3"],
    scan: SurfaceTree,
    landmarks: tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k 3"]],
    *,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, " v"]:
    """Distances [mm] of a prediction's vertices from the points of a scan that correspond to them.

    Args:
        comparison: As for :func:`corresponding_points`, which finds the points.
        faces: Likewise.
        scan: Likewise.
        landmarks: Likewise.
        config: Likewise.

    Returns:
        NaN where the comparison does not count a vertex.

    Raises:
        InputError: Too few points of the two correspond.
    """
    bent = corresponding_points(comparison, faces, scan, landmarks, config=config)
    counts = np.isfinite(comparison.prediction_mm)
    return np.where(counts, np.linalg.norm(bent - comparison.vertices, axis=1), np.nan)
