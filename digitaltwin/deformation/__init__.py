"""Deformation of meshes: a representation of nine numbers a vertex, and new heads mixed in it."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
