"""The dense-correspondence error: distances between points that correspond after non-rigid registration.

Closest points flatter. A nose that is too narrow has the cheek near by, a chin that is too low the neck; what is
closest is not what should have been there, and so the distances after ICP say less of a face's true error than they
seem to. Deformed onto the scan by non-rigid ICP (:func:`digitaltwin.registration.nonrigid_icp`), the landmarks held, a
prediction's vertices come to lie where they belong, as far as a smooth deformation can tell; and the distance from
where the prediction had them is its error.

Letters: v vertices of the prediction, k landmarks.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from digitaltwin.evaluation._metrics import Comparison
from digitaltwin.geometry import SurfaceTree
from digitaltwin.registration import NonRigidConfig, nonrigid_icp


def corresponding_points(
    comparison: Comparison,
    faces: Int[np.ndarray, "f 3"],
    scan: SurfaceTree,
    landmarks: tuple[Float[Any, "k 3"], Float[Any, "k 3"]],
    *,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Find where a prediction's vertices belong on a scan, by non-rigid ICP.

    Args:
        comparison: Prediction and scan, aligned and cropped, by :func:`digitaltwin.evaluation.compare_trees`.
        faces: The prediction's triangles.
        scan: The scan [mm].
        landmarks: The same points on prediction and scan, each in its own frame; the more, the better. Where either
            is not finite, both are left out.
        config: The configuration of the non-rigid ICP.

    Returns:
        For every vertex, in the scan's frame [mm]. A second or two for some thousand vertices.

    Raises:
        InputError: Too few points of the two correspond.
    """
    placed = np.asarray(comparison.vertices, np.float64)
    template = SurfaceTree(placed, faces, name="prediction")
    source, target = (np.asarray(points, np.float64) for points in landmarks)
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    _, marked = template.closest(comparison.scan_from_prediction.apply(source[known]))
    constraints = (marked, target[known])
    return nonrigid_icp(placed, template.faces, scan, landmarks=constraints, config=config)


def dense_correspondence_errors(
    comparison: Comparison,
    faces: Int[np.ndarray, "f 3"],
    scan: SurfaceTree,
    landmarks: tuple[Float[Any, "k 3"], Float[Any, "k 3"]],
    *,
    config: NonRigidConfig | None = None,
) -> Float[np.ndarray, " v"]:
    """Measure how far a prediction's vertices are from the points of a scan that correspond to them.

    The prediction is deformed onto the scan by non-rigid ICP, its landmarks held; the error of a vertex is the length
    of its way. Closest points flatter, as what is closest is not what should have been there.

    Args:
        comparison: Prediction and scan, aligned and cropped, by :func:`digitaltwin.evaluation.compare_trees`.
        faces: The prediction's triangles [f 3].
        scan: The scan [mm].
        landmarks: The same points on prediction and scan, each in its own frame; the more, the better. Where either
            is not finite, both are left out.
        config: The configuration of the non-rigid ICP.

    Returns:
        Distances [v] in millimetres; NaN where the comparison does not count a vertex. It takes a second or two for
        some thousand vertices.

    Raises:
        InputError: Too few points of the two correspond.

    Example:
        >>> import trimesh
        >>> from digitaltwin.evaluation import compare_trees
        >>> from digitaltwin.geometry import SurfaceTree
        >>> ball = trimesh.creation.icosphere(subdivisions=2, radius=80.0)
        >>> prediction, scan = (SurfaceTree(size * ball.vertices, ball.faces) for size in (1.0, 1.03))
        >>> landmarks = (ball.vertices[:7], 1.03 * ball.vertices[:7])
        >>> errors_mm = dense_correspondence_errors(compare_trees(prediction, scan), ball.faces, scan, landmarks)
        >>> round(float(errors_mm.mean()), 1)
        2.4
    """
    goal = corresponding_points(comparison, faces, scan, landmarks, config=config)
    counts = np.isfinite(comparison.prediction_mm)
    return np.where(counts, np.linalg.norm(goal - comparison.vertices, axis=1), np.nan)
