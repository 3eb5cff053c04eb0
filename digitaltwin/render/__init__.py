"""Pictures of meshes by a z-buffer in JAX."""

from digitaltwin.render.colour import lab_from_linear, linear_from_srgb, srgb_from_linear
from digitaltwin.render.head import HeadPieces, head_pieces, head_surfaces
from digitaltwin.render.rasterize import Fragments, interpolate, project, rasterize
from digitaltwin.render.shading import (
    Lighting,
    Picture,
    Surface,
    flat_lighting,
    portrait_lighting,
    render_mesh,
    sample_texture,
)

__all__ = [
    "Fragments",
    "HeadPieces",
    "Lighting",
    "Picture",
    "Surface",
    "flat_lighting",
    "head_pieces",
    "head_surfaces",
    "interpolate",
    "lab_from_linear",
    "linear_from_srgb",
    "portrait_lighting",
    "project",
    "rasterize",
    "render_mesh",
    "sample_texture",
    "srgb_from_linear",
]
