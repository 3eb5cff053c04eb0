"""The parametric head: the model, its landmarks, its file."""

from digitaltwin.head.model import (
    Anchors,
    HeadModel,
    Regions,
    anchor_points,
    express,
    landmark_points,
    load_head,
    neutral_shape,
    parts_vertices,
    save_head,
)

__all__ = [
    "Anchors",
    "HeadModel",
    "Regions",
    "anchor_points",
    "express",
    "landmark_points",
    "load_head",
    "neutral_shape",
    "parts_vertices",
    "save_head",
]
