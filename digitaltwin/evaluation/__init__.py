"""How good a head is: alignment with a scan, and errors in definitions that are stated."""

from digitaltwin.evaluation.alignment import IcpConfig, IcpResult, Placement, align_closest_points, rough_alignment
from digitaltwin.evaluation.metrics import Comparison, armse, compare_surfaces

__all__ = [
    "Comparison",
    "IcpConfig",
    "IcpResult",
    "Placement",
    "align_closest_points",
    "armse",
    "compare_surfaces",
    "rough_alignment",
]
