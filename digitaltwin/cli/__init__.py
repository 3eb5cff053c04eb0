"""The console script ``digitaltwin``, and what other programs' commands share with it: flags, exit codes, signals."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
