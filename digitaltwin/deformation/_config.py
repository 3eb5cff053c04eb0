"""Settings of sampling and of folders of new heads.

They need no JAX, so that commands can read the defaults of their flags quickly.
"""

from dataclasses import dataclass
from math import pi

from digitaltwin.types import InputError

METHOD_NAMES = ("polar", "pca", "none")
"""Ways to make new heads: polar mixing and, as ablations, categorised PCA and subjects as they are."""


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


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of a folder of new heads.

    Raises:
        InputError: A count below one, a negative seed, an unknown method, or an origin for a method that has none.

    Example:
        >>> AugmentConfig(count=200, chunk=100).method
        'polar'
    """

    count: int = 10_000
    """Heads to make."""
    chunk: int = 500
    """Heads in a file."""
    seed: int = 0
    """Seed of everything random."""
    method: str = "polar"
    """Polar mixing; or, as ablations, "pca" for categorised PCA or "none" for subjects as they are."""
    about_group: bool = False
    """Whether polar mixing is about each group's mean, instead of the mean of all subjects."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if self.count < 1 or self.chunk < 1 or self.seed < 0:
            raise InputError(f"AugmentConfig: {self}; count and chunk must be 1 or more, seed 0 or more.")
        if self.method not in METHOD_NAMES:
            raise InputError(f"method: {self.method!r} is none of {', '.join(METHOD_NAMES)}.")
        if self.about_group and self.method != "polar":
            raise InputError(f"origin: the group's mean has no meaning for the method {self.method}; leave it out.")
