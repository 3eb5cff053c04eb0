"""The skin's colours: what the photo shows, completed by a shipped skin."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
