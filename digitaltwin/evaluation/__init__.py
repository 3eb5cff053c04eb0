"""How good a head is: alignment with a scan, and errors in definitions that are stated."""

from digitaltwin.evaluation.bending import bent_distances, corresponding_points
from digitaltwin.evaluation.landmarks import CHALLENGE_LANDMARKS, LANDMARKS, face_region, read_landmarks
from digitaltwin.evaluation.layouts import find_now_pairs, find_stirling_pairs
from digitaltwin.evaluation.metrics import (
    Comparison,
    Complexity,
    armse,
    compare_surfaces,
    compare_trees,
    mesh_complexity,
    root_mean_square,
)
from digitaltwin.evaluation.protocol import (
    GroupErrors,
    Pair,
    PairErrors,
    PairScore,
    ProtocolConfig,
    evaluate_pair,
    find_pairs,
    group_complexities,
    group_errors,
)
from digitaltwin.geometry.icp import IcpConfig, IcpResult, Placement, align_closest_points, rough_alignment

__all__ = [
    "CHALLENGE_LANDMARKS",
    "LANDMARKS",
    "Comparison",
    "Complexity",
    "GroupErrors",
    "IcpConfig",
    "IcpResult",
    "Pair",
    "PairErrors",
    "PairScore",
    "Placement",
    "ProtocolConfig",
    "align_closest_points",
    "armse",
    "bent_distances",
    "compare_surfaces",
    "corresponding_points",
    "compare_trees",
    "evaluate_pair",
    "face_region",
    "find_now_pairs",
    "find_pairs",
    "find_stirling_pairs",
    "group_complexities",
    "group_errors",
    "mesh_complexity",
    "read_landmarks",
    "root_mean_square",
    "rough_alignment",
]
