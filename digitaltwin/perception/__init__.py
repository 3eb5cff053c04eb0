"""What is read off a photo: the face mesh, the 104 landmarks, the expression. Plain JAX, weights as plain arrays."""

from digitaltwin.perception.detection import (
    FaceLandmarks,
    Perception,
    detect_faces,
    detect_landmarks,
    load_perception,
    read_face,
)
from digitaltwin.perception.landmarks import landmarks_from_mesh
from digitaltwin.perception.region import make_pyramid

__all__ = [
    "FaceLandmarks",
    "Perception",
    "detect_faces",
    "detect_landmarks",
    "landmarks_from_mesh",
    "load_perception",
    "make_pyramid",
    "read_face",
]
