"""One selfie in, a textured, animatable full-head avatar out: a JAX toolkit of pure functions."""

__version__ = "0.1.0"
