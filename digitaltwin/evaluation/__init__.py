"""How good a head is: alignment with a scan, and errors in definitions that are stated."""

from digitaltwin.evaluation.metrics import Comparison, armse, compare_surfaces, root_mean_square
from digitaltwin.evaluation.protocol import (
    LANDMARKS,
    GroupErrors,
    Pair,
    PairErrors,
    ProtocolConfig,
    evaluate_pair,
    find_pairs,
    group_errors,
    read_landmarks,
)
from digitaltwin.geometry.icp import IcpConfig, IcpResult, Placement, align_closest_points, rough_alignment

__all__ = [
    "LANDMARKS",
    "Comparison",
    "GroupErrors",
    "IcpConfig",
    "IcpResult",
    "Pair",
    "PairErrors",
    "Placement",
    "ProtocolConfig",
    "align_closest_points",
    "armse",
    "compare_surfaces",
    "evaluate_pair",
    "find_pairs",
    "group_errors",
    "read_landmarks",
    "root_mean_square",
    "rough_alignment",
]
