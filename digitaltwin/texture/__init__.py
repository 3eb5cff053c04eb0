"""The skin's colours: what the photo shows, completed by a shipped skin."""

from digitaltwin.texture.completion import complete_texture, face_colour
from digitaltwin.texture.eyes import eye_texture, iris_colour, seen_iris_colour
from digitaltwin.texture.layout import TextureLayout, make_layout
from digitaltwin.texture.projection import Projection, project_texture
from digitaltwin.texture.skins import Skin, apply_tone, load_skin, nearest_skin, skin_paths

__all__ = [
    "Projection",
    "Skin",
    "TextureLayout",
    "apply_tone",
    "complete_texture",
    "eye_texture",
    "face_colour",
    "iris_colour",
    "load_skin",
    "make_layout",
    "nearest_skin",
    "project_texture",
    "seen_iris_colour",
    "skin_paths",
]
