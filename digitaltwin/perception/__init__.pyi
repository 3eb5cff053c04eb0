from ._detection import detect_landmarks as detect_landmarks
from ._detection import load_perception as load_perception
