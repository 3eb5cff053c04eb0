"""Fitting a head to the landmarks of a photo."""

from digitaltwin.fitting.batch import fit_batch, gather_batch, own_heads
from digitaltwin.fitting.config import FitConfig, GraphPrior
from digitaltwin.fitting.energy import Unknowns
from digitaltwin.fitting.epnp import Pose, epnp
from digitaltwin.fitting.fit import FitResult, GroupFit, fit, fit_groups, fit_views, predict_landmarks
from digitaltwin.fitting.fitter import Fitter, make_fitter
from digitaltwin.fitting.points import FacePoints, landmark_points_of, mesh_points_of
from digitaltwin.fitting.residuals import outer_eye_distance_px, relative_rms, reprojection_errors_px
from digitaltwin.fitting.status import BEHIND_CAMERA, DEGENERATE, DIVERGED, NON_FINITE_INPUT, OK

__all__ = [
    "BEHIND_CAMERA",
    "DEGENERATE",
    "DIVERGED",
    "NON_FINITE_INPUT",
    "OK",
    "FacePoints",
    "FitConfig",
    "FitResult",
    "Fitter",
    "GraphPrior",
    "GroupFit",
    "Pose",
    "Unknowns",
    "epnp",
    "fit",
    "fit_batch",
    "fit_groups",
    "fit_views",
    "gather_batch",
    "landmark_points_of",
    "make_fitter",
    "mesh_points_of",
    "outer_eye_distance_px",
    "own_heads",
    "predict_landmarks",
    "relative_rms",
    "reprojection_errors_px",
]
