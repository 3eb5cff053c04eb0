"""Deformation of meshes: a representation of nine numbers a vertex, and new heads mixed in it."""

from digitaltwin.deformation.representation import (
    Reference,
    decode,
    deformation_gradients,
    encode,
    make_reference,
)

__all__ = ["Reference", "decode", "deformation_gradients", "encode", "make_reference"]
