"""The contents of ``report.json``: every fitted value, residuals, seconds of each stage, versions."""

import functools
import math
import platform
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Float

from digitaltwin._version import __version__
from digitaltwin.avatar._fit_stage import FittedFace
from digitaltwin.fitting import FitResult
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import LEFT_EYE_OUTER, MESH_OVAL, MESH_POINT_COUNT, RIGHT_EYE_OUTER
from digitaltwin.io._images import Photo
from digitaltwin.perception._detection import FaceLandmarks
from digitaltwin.perception._landmarks import load_landmark_table

MAX_TURN_DEGREES = 45.0
"""A face turned further hides half of itself."""
DOUBTFUL_PERCENT = 3.0
"""The largest held-out residual of a good fit."""
UNUSABLE_PERCENT = 8.0
"""The largest held-out residual of a fit that is of any use."""


def residuals(fitted: FittedFace) -> dict[str, Any]:
    """Say how well a fit explains what was detected in the photo.

    Root mean squares in percent of the outer eye distance: over the 104 landmarks, the contour's against the head's
    outline; over the mesh points from which no landmark is read, which judge a fit that did not see them; over the face
    oval, which slides on the skin. And the size of the correction field [mm].

    Args:
        fitted: The fit.

    Returns:
        The numbers, ready for JSON.
    """
    correction = np.linalg.norm(np.asarray(fitted.result.correction), axis=1)

    def percent(errors_px: Float[np.ndarray, " n"]) -> float:
        return round(100 * float(np.sqrt(np.mean(errors_px.astype(np.float64) ** 2))) / fitted.eye_distance_px, 3)

    return {
        "unit": "percent of the outer eye distance, root mean square",
        "landmarks": percent(fitted.landmark_errors_px),
        "held_out_mesh_points": percent(fitted.mesh_errors_px[held_out_points()]),
        "face_oval": percent(fitted.mesh_errors_px[np.array(MESH_OVAL)]),
        "landmarks_px": _rounded(fitted.landmark_errors_px, 3),
        "correction_p95_mm": round(float(np.percentile(correction, 95)), 3),
        "correction_max_mm": round(float(correction.max()), 3),
    }


def doubts(result: FitResult, measured: dict[str, Any]) -> list[str]:
    """Say what a reader of the result should know.

    Args:
        result: The fit.
        measured: Its :func:`residuals`.

    Returns:
        One sentence for each doubt; none for a good fit.
    """
    sentences = []
    turn = math.degrees(math.acos(min(1.0, float(np.asarray(result.rotation)[2, 2]))))
    if turn > MAX_TURN_DEGREES:
        sentences.append(
            f"the face is turned away by {turn:.0f} degrees: the far side is guessed; a photo from the front shows both"
        )
    if measured["held_out_mesh_points"] > DOUBTFUL_PERCENT:
        sentences.append(
            f"the fit is off by {measured['held_out_mesh_points']:.1f} % of the eye distance where it was not led, "
            f"more than the {DOUBTFUL_PERCENT:.0f} % of a good one: look at preview.png"
        )
    return sentences


def make_report(
    head: HeadModel,
    photo: Photo,
    face: FaceLandmarks,
    result: FitResult,
    measured: dict[str, Any],
    choices: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Collect what ``report.json`` holds: plain numbers, lists and strings.

    Args:
        head: The head model.
        photo: The photo that was fitted.
        face: The face that was detected in it.
        result: The fit.
        measured: Its :func:`residuals`.
        choices: "start" of the fit, "skin" and "iris" of the texture.
        seconds: Wall time [s] of each stage, by name.

    Returns:
        The report, ready for JSON.
    """
    camera = result.camera
    left, right = np.asarray(face.landmarks_px)[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER]]
    eye_px = np.linalg.norm(left - right)
    height, width = photo.pixels.shape[:2]
    packages = ("jax", "jaxlib", "numpy", "scipy", "pillow", "pygltflib")
    return {
        "photo": {
            "height_px": height,
            "width_px": width,
            "original_height_px": photo.original_hw[0],
            "original_width_px": photo.original_hw[1],
            "focal_px": photo.focal_px,
            "notes": list(photo.notes),
        },
        "face": {
            "count": face.face_count,
            "used": "the largest",
            "box_px": _rounded(face.box, 2),
            "confidence": round(face.confidence, 4),
            "outer_eye_distance_px": round(float(eye_px), 2),
            "scores": dict(zip(head.expression_names, _rounded(face.scores))),
            "landmarks_px": _rounded(face.landmarks_px, 2),
        },
        "fit": {
            "start": choices["start"],
            "status": int(result.status),
            "energies": _rounded(result.energies, 3),
            "expression": dict(zip(head.expression_names, _rounded(result.expression))),
            "identity_mm": _rounded(result.identity, 3),
            "rotation": _rounded(result.rotation, 6),
            "translation_mm": _rounded(result.translation, 3),
            "focal_scale": round(float(result.focal_scale), 4),
            "focal_scale_note": "given" if photo.focal_px else "weakly determined: one photo hardly tells it",
            "focal_px": round(float(camera.focal_px), 2),
            "principal_point_px": _rounded(camera.principal_point_px, 2),
        },
        "residuals": measured,
        "warnings": doubts(result, measured),
        "texture": {"skin": choices["skin"], "iris_srgb": _rounded(choices["iris"], 3)},
        "seconds": seconds,
        "versions": {
            "digitaltwin": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


def _rounded(values: Any, digits: int = 4) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()


@functools.cache
def held_out_points() -> np.ndarray:
    """Mesh points that judge a fit which did not see them: no landmark is read from them, nor are they on the oval."""
    points, weights = load_landmark_table()
    used = set(points[weights > 0].tolist()) | set(MESH_OVAL)
    return np.array([i for i in range(MESH_POINT_COUNT) if i not in used])
