"""The avatar as files other programs read, and as a picture to judge it by."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
