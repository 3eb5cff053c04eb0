"""The numbers of the fit, each with its symbol and equation; see :mod:`digitaltwin.fitting._fit` for the energy."""

from dataclasses import dataclass

from digitaltwin.types import InputError


@dataclass(frozen=True)
class GraphPrior:
    """Eq. 2 as the paper prints it: L the plain graph Laplacian (degree minus adjacency), W = I."""

    omega_c: float = 25.0
    """Weight of the whole of Eq. 2."""
    lambda_delta: float = 4.0
    """Weight of the displacements themselves beside their Laplacian."""
    unit_mm: float = 100.0
    """Unit of the displacements, which the paper does not name. In millimetres its numbers move no vertex by more than
    0.04 mm; in decimetres the field is alive."""

    def __post_init__(self) -> None:
        _require_positive(self, "omega_c", "lambda_delta", "unit_mm")


@dataclass(frozen=True)
class FitConfig:
    """Hyper-parameters of the fit; hashable, so a static argument under jit.

    Raises:
        InputError: A value is out of its range: deviations and the correction's numbers are positive, all others not
            negative.
    """

    iterations: int = 5
    """Gauss-Newton steps n."""
    fit_identity: bool = True
    """Whether the identity coefficients are unknowns beside the expressions, as in a classical 3D morphable model fit.
    False when the neutral shape comes from elsewhere, such as a trained decoder."""

    correction_weight: float = 0.02
    """``omega_c lambda / a`` [mm^-4], Eq. 2: the penalty of a displacement of the correction field."""
    correction_length_mm: float = 12.0
    """``l`` in ``lambda = a^2 / l^4``, Eq. 2: the width of the bump that follows one landmark."""
    graph_prior: GraphPrior | None = None
    """Eq. 2 as printed, instead of the two above."""
    lagged_laplacian: bool = False
    """Whether Eq. 2's first term holds last iteration's expressions, ``|L (P_F - P - sum beta_prev B)|^2``, as printed.
    The steps then minimise no single energy, and are taken without asking whether one falls."""

    omega_r: float = 10.0
    """Weight of Eq. 3: expressions, rotation and focal scale."""
    expression_deviation: float = 0.2
    """``sigma`` of Eq. 3, about the expression coefficients detected in the photo."""
    gaze_deviation: float = 1.5
    """``sigma`` of the units that turn the eyes, where the irises are seen (the face mesh): they tell it better
    than the scores, and the correction must not move the eye instead."""
    expression_scores: bool = True
    """Whether ``mu`` of Eq. 3 are the scores; 0 otherwise, as printed."""
    expression_bounds: bool = True
    """Whether expressions beyond [0, 1] cost ``omega_r hinge(beta)^2 / sigma^2`` besides."""
    omega_i: float = 16.0
    """Weight of ``sum ((z - z_0) / sigma_z)^2``, z the identity coefficients in millimetres, ``z_0`` those of the given
    shape, ``sigma_z`` their deviations in the population. In the units of Eq. 1 the likeliest identity has the variance
    of a landmark here: 16 for an error of 4 % of the eye distance. Landmarks are off by half of that, but not one by
    one: neighbours err alike, and what they say together is worth less. At 4 avatars are 2 % nearer on average, but two
    pictures of one person differ half as much again, and more avatars are worse than the mean head."""
    lambda_q: float = 5.0
    """Weight of ``|q|^2``, q the vector part of the absolute rotation's quaternion, Eq. 3."""
    lambda_f: float = 5.0
    """Weight of ``s^2 = log^2 f_s`` when nothing is known of the focal length, Eq. 3 (printed there: ``log^2 f``)."""
    lambda_f_known: float = 500.0
    """The same when ``focal_px`` is given. EXIF rounds the focal length to whole millimetres, 2 % at a phone's 26 mm:
    at 500 a scale that is off by 1.4 % costs as much as one landmark that is off by 1 % of the eye distance."""

    squared_eye_scale: bool = True
    """Whether Eq. 1 is scaled by ``(100 / W_eye)^2``, free of the image's resolution; ``100 / W_eye``, as printed,
    otherwise."""
    sliding_contour: bool = True
    """Whether the contour landmarks slide over the skin as the head turns; at fixed anchors otherwise."""
    contour_reach_mm: float = 8.0
    """How far into the face a contour landmark may slide. The face mesh's network follows the visible outline up to
    some 20 degrees of turn and the anatomy beyond: it is fitted best at 6 to 12, and better than at fixed anchors at
    any turn. Landmarks that follow the outline throughout are fitted better still at 24 to 50 once a head is turned
    more than 20 degrees."""
    contour_weight: float = 0.125
    """Weight of the contour landmarks, which are the least sure of their place; 1 for all others."""

    def __post_init__(self) -> None:
        _require_positive(self, "correction_weight", "correction_length_mm", "expression_deviation", "gaze_deviation")
        others = ("iterations", "omega_r", "omega_i", "lambda_q", "lambda_f", "lambda_f_known")
        for name in (*others, "contour_reach_mm", "contour_weight"):
            if not getattr(self, name) >= 0.0:
                raise InputError(f"FitConfig: {name} is {getattr(self, name)}; it must not be negative.")

    @classmethod
    def paper(cls) -> "FitConfig":
        """The paper's own energy: Eq. 1 to 3 as printed, units apart, with a neutral shape that is given.

        Returns:
            The configuration.
        """
        return cls(
            fit_identity=False,
            graph_prior=GraphPrior(),
            lagged_laplacian=True,
            expression_deviation=0.35,
            expression_scores=False,
            expression_bounds=False,
            squared_eye_scale=False,
            contour_reach_mm=50.0,
            contour_weight=1.0,
        )


def _require_positive(config: FitConfig | GraphPrior, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0.0:
            raise InputError(f"{type(config).__name__}: {name} is {getattr(config, name)}; it must be positive.")
