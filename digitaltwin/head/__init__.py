"""The parametric head: the model, its landmarks, its file; the subjects, and how heads are measured."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
