"""From a raw scan to the head's topology and texture."""

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
    "FittedIdentity",
    "IdentityConfig",
    "Landmarks",
    "NonRigidConfig",
    "Registration",
    "RegistrationConfig",
    "Round",
    "ScanDistances",
    "View",
    "colours_at",
    "find_landmarks",
    "fit_identity",
    "from_front",
    "guess_unit",
    "lay_over",
    "look",
    "register_scan",
    "scan_distances",
    "transfer_texture",
]
