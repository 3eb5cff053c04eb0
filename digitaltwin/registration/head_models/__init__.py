"""Other head models as the head model of this package: ICT-FaceKit, GNM Head v3, or any linear one."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
