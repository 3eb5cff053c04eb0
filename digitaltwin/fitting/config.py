"""The numbers of the fit, each with its symbol and equation; see :mod:`digitaltwin.fitting.fit` for the energy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitConfig:
    """Weights and counts; hashable, so a static argument under jit."""

    iterations: int = 5
    """Gauss-Newton steps n."""
    fit_identity: bool = True
    """Whether the identity coefficients are unknowns beside the expressions, as in a classical 3D morphable model fit.
    False when the neutral shape comes from elsewhere, such as a trained decoder."""

    correction_weight: float = 2.4e-4
    """``omega_c lambda / a`` [mm^-4], Eq. 2: how dear a displacement of the correction field is."""
    correction_length_mm: float = 12.0
    """``l`` in ``lambda = a^2 / l^4``, Eq. 2: the width of the bump that follows one landmark."""

    omega_r: float = 10.0
    """Weight of Eq. 3: expressions, rotation and focal scale."""
    expression_deviation: float = 0.35
    """``sigma`` of Eq. 3, about the scores read off the photo."""
    omega_i: float = 4.0
    """Weight of ``sum ((z - z_0) / sigma_z)^2``, z the identity coefficients in millimetres, ``z_0`` those of the given
    shape, ``sigma_z`` their deviations in the population. In the units of Eq. 1 the likeliest identity has the variance
    of a landmark here: 4 for an error of 2 % of the eye distance, network and anchors together."""
    lambda_q: float = 5.0
    """Weight of ``|q|^2``, q the vector part of the absolute rotation's quaternion, Eq. 3."""
    lambda_f: float = 5.0
    """Weight of ``s^2 = log^2 f_s`` when nothing is known of the focal length, Eq. 3 (printed there: ``log^2 f``)."""
    lambda_f_known: float = 500.0
    """The same when ``focal_px`` is given. EXIF rounds the focal length to whole millimetres, 2 % at a phone's 26 mm:
    at 500 a scale that is off by 1.4 % costs as much as one landmark that is off by 1 % of the eye distance."""

    contour_weight: float = 0.5
    """Weight of the 17 contour landmarks, which slide over the skin as the head turns; 1 for all others."""
