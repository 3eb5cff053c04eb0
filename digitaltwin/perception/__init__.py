"""Detection in photos: the face mesh, the 104 landmarks, the expression. Plain JAX, weights as plain arrays."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
