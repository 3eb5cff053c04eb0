"""What ``report.json`` holds: every fitted value, residuals, seconds of each stage, versions."""

import platform
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from digitaltwin.fitting import FitResult, outer_eye_distance_px, relative_rms, reprojection_errors_px
from digitaltwin.head import HeadModel, anchor_points, landmark_points
from digitaltwin.head.markup import MESH_OVAL, MESH_POINT_COUNT
from digitaltwin.io.images import Photo
from digitaltwin.perception import FaceLandmarks
from digitaltwin.perception.landmarks import load_landmark_table
from digitaltwin.version import __version__


def make_report(
    head: HeadModel,
    photo: Photo,
    face: FaceLandmarks,
    result: FitResult,
    choices: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Plain numbers, lists and strings, ready for JSON.

    Args:
        head: the model.
        photo: the photo that was fitted.
        face: what was read off it.
        result: the fit.
        choices: "start" of the fit, "skin" and "iris" of the texture.
        seconds: of each stage, by name.
    """
    camera = result.camera
    eye_px = outer_eye_distance_px(face.landmarks_px)
    landmark_error = reprojection_errors_px(camera, landmark_points(head, result.vertices), face.landmarks_px)
    mesh = anchor_points(head.mesh_points, head.faces, result.vertices)
    mesh_error = reprojection_errors_px(camera, mesh, face.mesh_px[:MESH_POINT_COUNT, :2])
    correction = np.linalg.norm(result.correction, axis=1)

    def percent(errors_px: Float[Array, " n"]) -> float:
        return round(100 * float(relative_rms(errors_px, eye_px)), 3)

    def rounded(values: Any, digits: int = 4) -> Any:
        return np.round(np.asarray(values, np.float64), digits).tolist()

    height, width = photo.pixels.shape[:2]
    packages = ("jax", "jaxlib", "numpy", "scipy", "pillow", "pygltflib")
    return {
        "photo": {
            "height_px": height,
            "width_px": width,
            "original_height_px": photo.original_size[0],
            "original_width_px": photo.original_size[1],
            "focal_px": photo.focal_px,
            "notes": list(photo.notes),
        },
        "face": {
            "count": face.face_count,
            "used": "the largest",
            "box_px": rounded(face.box, 2),
            "confidence": round(face.confidence, 4),
            "outer_eye_distance_px": round(float(eye_px), 2),
            "scores": dict(zip(head.expression_names, rounded(face.scores))),
            "landmarks_px": rounded(face.landmarks_px, 2),
        },
        "fit": {
            "start": choices["start"],
            "status": int(result.status),
            "energies": rounded(result.energies, 3),
            "expression": dict(zip(head.expression_names, rounded(result.expression))),
            "identity_mm": rounded(result.identity, 3),
            "rotation": rounded(result.rotation, 6),
            "translation_mm": rounded(result.translation, 3),
            "focal_scale": round(float(result.focal_scale), 4),
            "focal_scale_note": "given" if photo.focal_px else "weakly determined: one photo hardly tells it",
            "focal_px": round(float(camera.focal_px), 2),
            "principal_point_px": rounded(camera.principal_point_px, 2),
        },
        "residuals": {
            "unit": "percent of the outer eye distance, root mean square",
            "landmarks": percent(landmark_error),
            "held_out_mesh_points": percent(mesh_error[held_out_points()]),
            "face_oval": percent(mesh_error[np.array(MESH_OVAL)]),
            "landmarks_px": rounded(landmark_error, 3),
            "correction_p95_mm": round(float(np.percentile(correction, 95)), 3),
            "correction_max_mm": round(float(correction.max()), 3),
        },
        "texture": {"skin": choices["skin"], "iris_srgb": rounded(choices["iris"], 3)},
        "seconds": seconds,
        "versions": {
            "digitaltwin": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


def held_out_points() -> np.ndarray:
    """Mesh points that no landmark is read off, the face oval left out: they judge a fit that did not see them."""
    points, weights = load_landmark_table()
    used = set(points[weights > 0].tolist()) | set(MESH_OVAL)
    return np.array([i for i in range(MESH_POINT_COUNT) if i not in used])
