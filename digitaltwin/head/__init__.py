"""The parametric head: the model, its landmarks, its file; the subjects, and how heads are measured."""

from digitaltwin.head.anthropometry import (
    Calipers,
    Measurements,
    PublishedMeasurement,
    measure,
    place_calipers,
    published,
    published_mixture,
)
from digitaltwin.head.database import Subjects, load_subjects, save_subjects, select
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
    "Calipers",
    "HeadModel",
    "Measurements",
    "PublishedMeasurement",
    "Regions",
    "Subjects",
    "anchor_points",
    "express",
    "landmark_points",
    "load_head",
    "load_subjects",
    "measure",
    "neutral_shape",
    "parts_vertices",
    "place_calipers",
    "published",
    "published_mixture",
    "save_head",
    "save_subjects",
    "select",
]
