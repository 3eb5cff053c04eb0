"""One selfie in, a textured, animatable full-head avatar out: a JAX toolkit of pure functions."""

__version__ = "0.1.0"

from digitaltwin.avatar import Avatar, Workshop, create_avatar, make_workshop

__all__ = ["Avatar", "Workshop", "__version__", "create_avatar", "make_workshop"]
