"""The avatar as files other programs read, and as a picture to judge it by."""

from digitaltwin.export.gltf import Material, Primitive, write_glb
from digitaltwin.export.head import head_primitives
from digitaltwin.export.preview import preview, turned

__all__ = ["Material", "Primitive", "head_primitives", "preview", "turned", "write_glb"]
