"""Configurations of the registration; nothing here needs JAX.

The letters are those of :mod:`digitaltwin.registration._identity` and :mod:`digitaltwin.registration._nonrigid`.
"""

from dataclasses import dataclass, field

from digitaltwin.geometry import IcpConfig
from digitaltwin.types import check_ranges


@dataclass(frozen=True)
class IdentityConfig:
    """How identity and pose of the head model are fitted to a surface.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = 25
    """Gauss-Newton steps, each with closest points of its own."""
    first_reach_mm: float = 25.0
    """Distance up to which surfaces correspond in the first iteration; it shrinks geometrically."""
    last_reach_mm: float = 5.0
    """The same in the last."""
    max_normal_angle_deg: float = 60.0
    """Angle between the normals of corresponding points up to which they count."""
    noise_mm: float = 1.0
    """Standard deviation sigma of what the model lacks of a surface."""
    patch_mm2: float = 200.0
    """Area a that one independent piece of what it lacks covers."""
    landmark_noise_mm: float = 2.0
    """Standard deviation sigma_l of a landmark."""

    def __post_init__(self) -> None:
        positive = ("first_reach_mm", "last_reach_mm", "noise_mm", "patch_mm2", "landmark_noise_mm")
        check_ranges(
            self,
            ("iterations", self.iterations >= 1, "be 1 or more"),
            ("max_normal_angle_deg", 0.0 < self.max_normal_angle_deg <= 180.0, "lie in (0, 180]"),
            *((name, getattr(self, name) > 0.0, "be positive") for name in positive),
        )


@dataclass(frozen=True)
class Round:
    """Some iterations of non-rigid ICP at the same stiffness.

    Raises:
        InputError: A value is out of its range.
    """

    stiffness_mm: float
    """Size l of bump that the stiffness irons out."""
    reach_mm: float
    """Distance up to which surfaces correspond."""
    iterations: int = 4
    """How many, each with closest points of its own."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            ("stiffness_mm", self.stiffness_mm >= 0.0, "not be negative"),
            ("reach_mm", self.reach_mm > 0.0, "be positive"),
            ("iterations", self.iterations >= 1, "be 1 or more"),
        )


@dataclass(frozen=True)
class NonRigidConfig:
    """How non-rigid ICP deforms a template: from stiff to soft, by what correspondences.

    Raises:
        InputError: A value is out of its range.
    """

    rounds: tuple[Round, ...] = (
        Round(40.0, 15.0),
        Round(20.0, 10.0),
        Round(10.0, 6.0),
        Round(6.0, 5.0),
        Round(4.0, 4.0),
    )
    """The schedule, coarse to fine."""
    max_normal_angle_deg: float = 60.0
    """Angle between the normals of corresponding points up to which they count."""
    tangential: float = 0.05
    """Weight of a distance across the normal, relative to one along it."""
    landmarks_mm2: float = 2000.0
    """The area that all landmarks together count as."""
    landmark_mm2: float = 100.0
    """Area w that one landmark counts as, at most."""
    contact_mm2: float = 300.0
    """Area u that a contact pair counts as."""
    displacement_penalty: float = 1e-3
    """Weight m of the displacements themselves, relative to the distances."""
    most_points: int = 40_000
    """Points of the surface that constrain the template, spread evenly over its vertices near it."""

    def __post_init__(self) -> None:
        amounts = ("tangential", "landmarks_mm2", "landmark_mm2", "contact_mm2")
        check_ranges(
            self,
            ("rounds", len(self.rounds) > 0, "hold one or more"),
            ("max_normal_angle_deg", 0.0 < self.max_normal_angle_deg <= 180.0, "lie in (0, 180]"),
            *((name, getattr(self, name) >= 0.0, "not be negative") for name in amounts),
            ("displacement_penalty", self.displacement_penalty > 0.0, "be positive"),
            ("most_points", self.most_points >= 1, "be 1 or more"),
        )


@dataclass(frozen=True)
class RegistrationConfig:
    """How a scan is registered.

    Raises:
        InputError: A value is out of its range.
    """

    scalp: float = 0.0
    """Weight of the scan where hair usually grows, in [0, 1]: 1 for the bald, and those in a swimming cap."""
    icp: IcpConfig = field(default_factory=lambda: IcpConfig(iterations=30, trimmed=0.3, tolerance_mm=1e-2))
    """The rigid alignment of the mean head."""
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    """The nearest head of the model."""
    nonrigid: NonRigidConfig = field(default_factory=NonRigidConfig)
    """The deformation of that head."""

    def __post_init__(self) -> None:
        check_ranges(self, ("scalp", 0.0 <= self.scalp <= 1.0, "lie in [0, 1]"))
