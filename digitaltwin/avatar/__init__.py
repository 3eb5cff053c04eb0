"""Photo to avatar, the whole chain: :func:`create_avatar`."""

import warnings

from lazy_loader import attach_stub

_attached, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """The names of ``__init__.pyi``, and a former one with a warning."""
    if name == "make_workshop":
        warnings.warn(f"{__name__}.make_workshop is now make_pipeline.", DeprecationWarning, stacklevel=2)
        return _attached("make_pipeline")
    return _attached(name)
