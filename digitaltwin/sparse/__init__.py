"""Sparse symmetric matrices as dense blocks, and their factorisation by nested dissection, under jit, vmap and grad."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
