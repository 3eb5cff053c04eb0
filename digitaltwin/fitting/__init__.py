"""Fitting a head to the landmarks of a photo."""

import warnings

from lazy_loader import attach_stub

_attached, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """The names of ``__init__.pyi``, and former ones with a warning."""
    if name in ("OK", "NON_FINITE_INPUT", "DEGENERATE", "BEHIND_CAMERA", "DIVERGED"):
        warnings.warn(f"{__name__}.{name} is now FitStatus.{name}.", DeprecationWarning, stacklevel=2)
        return getattr(_attached("FitStatus"), name)
    return _attached(name)
