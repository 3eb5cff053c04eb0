"""Generic, vmap-safe least squares: Gauss-Newton with damping per lane, and its linear algebra; no heads here."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
