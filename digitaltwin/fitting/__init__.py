"""Fitting a head to the landmarks of a photo."""

from digitaltwin.fitting.batch import fit_batch, gather_batch, own_heads
from digitaltwin.fitting.config import FitConfig
from digitaltwin.fitting.epnp import Pose, epnp
from digitaltwin.fitting.fit import FitResult, Fitter, GroupFit, Unknowns, fit, fit_groups, make_fitter
from digitaltwin.fitting.residuals import outer_eye_distance_px, relative_rms, reprojection_errors_px

__all__ = [
    "FitConfig",
    "FitResult",
    "Fitter",
    "GroupFit",
    "Pose",
    "Unknowns",
    "epnp",
    "fit",
    "fit_batch",
    "fit_groups",
    "gather_batch",
    "make_fitter",
    "outer_eye_distance_px",
    "own_heads",
    "relative_rms",
    "reprojection_errors_px",
]
