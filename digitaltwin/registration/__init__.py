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
from digitaltwin.registration.transfer import transfer_texture
from digitaltwin.registration.views import View, colours_at, find_landmarks, from_front, look

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
    "View",
    "adopt_head",
    "colours_at",
    "find_landmarks",
    "fit_identity",
    "from_front",
    "guess_unit",
    "lay_over",
    "look",
    "load_gnm_head",
    "load_ict_head",
    "register_scan",
    "scan_distances",
    "transfer_texture",
]
