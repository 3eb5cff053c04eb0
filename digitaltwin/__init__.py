"""One selfie in, a textured, animatable full-head avatar out: a JAX toolkit of pure functions."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
