from ._detection import FaceLandmarks as FaceLandmarks
from ._detection import Perception as Perception
from ._detection import detect_landmarks as detect_landmarks
from ._detection import load_perception as load_perception
