"""From a raw scan to the head's topology and texture."""

from digitaltwin.registration.adopt import OtherHead, adopt_head
from digitaltwin.registration.head_models import ICT_LIGHT, IctLayout, load_gnm_head, load_ict_head
from digitaltwin.registration.identity import FittedIdentity, IdentityConfig, fit_identity
from digitaltwin.registration.nonrigid import Landmarks, NonRigidConfig, Round, lay_over
from digitaltwin.registration.register import (
    Registration,
    RegistrationConfig,
    ScanDistances,
    guess_unit,
    register_scan,
    scan_distances,
)
from digitaltwin.registration.views import colours_at, find_landmarks

__all__ = [
    "ICT_LIGHT",
    "FittedIdentity",
    "IctLayout",
    "IdentityConfig",
    "Landmarks",
    "NonRigidConfig",
    "OtherHead",
    "Registration",
    "RegistrationConfig",
    "Round",
    "ScanDistances",
    "adopt_head",
    "colours_at",
    "find_landmarks",
    "fit_identity",
    "guess_unit",
    "lay_over",
    "load_gnm_head",
    "load_ict_head",
    "register_scan",
    "scan_distances",
]
