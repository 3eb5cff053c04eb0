"""Geometry of meshes, rotations and cameras: arrays in, arrays out; knows nothing of heads."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
