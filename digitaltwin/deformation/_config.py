"""Constants of polar sampling; they need no JAX, so that commands can read the defaults of their flags quickly."""

from dataclasses import dataclass
from math import pi

from digitaltwin.types import InputError


@dataclass(frozen=True)
class PolarConfig:
    """Constants of polar sampling; the defaults are the paper's.

    Raises:
        InputError: Less than one subject, or a range whose ends are out of order.

    Example:
        >>> PolarConfig(radius=(1.0, 1.0)).subjects
        5
    """

    subjects: int = 5
    """Number m of subjects in a mixture."""
    radius: tuple[float, float] = (0.6, 1.3)
    """Range of r, from which it is drawn uniformly."""
    angle_rad: tuple[float, float] = (0.0, pi / 2)
    """Range of each t [rad], from which it is drawn uniformly."""

    def __post_init__(self) -> None:
        """Refuse ranges that are none."""
        if self.subjects < 1 or not 0 <= self.radius[0] <= self.radius[1]:
            raise InputError(f"PolarConfig: {self}; subjects must be 1 or more, radius a range (low, high) from 0.")
