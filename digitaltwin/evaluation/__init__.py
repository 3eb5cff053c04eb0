"""How good a head is: alignment with a scan, and errors in definitions that are stated."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
