"""Scenes whose truth is known: subjects, expressions, cameras and light drawn at random, and their pictures."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
