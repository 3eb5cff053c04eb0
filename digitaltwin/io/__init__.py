"""Files in and out: photos, arrays, JSON, the shipped assets. Whatever is written appears whole or not at all."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
