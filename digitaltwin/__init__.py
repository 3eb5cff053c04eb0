"""One selfie in, a textured, animatable full-head avatar out: a JAX toolkit of pure functions."""

from digitaltwin.avatar import Avatar, Workshop, create_avatar, make_workshop
from digitaltwin.version import __version__

__all__ = ["Avatar", "Workshop", "__version__", "create_avatar", "make_workshop"]
