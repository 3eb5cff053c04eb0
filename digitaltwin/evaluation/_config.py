"""What the evaluation protocol measures; nothing here needs JAX."""

from dataclasses import dataclass, field

from digitaltwin.geometry import IcpConfig
from digitaltwin.io import LANDMARKS
from digitaltwin.io._landmark_files import CHALLENGE_LANDMARKS
from digitaltwin.types import check_ranges


@dataclass(frozen=True)
class ProtocolConfig:
    """The protocol's configuration: what is measured, and how surfaces are aligned.

    Raises:
        InputError: A value is out of its range.
    """

    crops_mm: tuple[float, ...] = (80.0, 90.0, 95.0, 100.0, 110.0)
    """Distances from the nose tip up to which vertices count, ascending; the paper's."""
    face_factor: float | None = None
    """Factor of the challenges' ball around the face, then the only crop: its radius is ``factor (e + h) / 2``,
    e the distance between the outer corners of the eyes, h that from the nose's bottom to the middle of the inner."""
    landmarks: tuple[str, ...] = LANDMARKS
    """Those that a prediction is aligned by. A nose tip among the scan's, or the challenges' seven, gives the crop."""
    unit_mm: float = 1.0
    """Millimetres in the unit of the predictions and their landmarks."""
    by_area: bool = False
    """Whether vertices are weighted by the areas of their faces."""
    count_borders: bool = False
    """Whether distances count whose closest point lies on a border, in the alignment too."""
    dense_correspondence: bool = False
    """Whether the error after non-rigid registration is measured too, which takes some seconds."""
    icp: IcpConfig = field(default_factory=IcpConfig)
    """The alignment after the landmarks'."""

    def __post_init__(self) -> None:
        ascending = all(0.0 < a < b for a, b in zip((1e-300, *self.crops_mm), self.crops_mm))
        check_ranges(
            self,
            ("crops_mm", len(self.crops_mm) > 0 and ascending, "be positive distances that ascend"),
            ("face_factor", self.face_factor is None or self.face_factor > 0.0, "be positive, or None"),
            ("landmarks", len(set(self.landmarks)) == len(self.landmarks) >= 3, "be three different names or more"),
            ("unit_mm", self.unit_mm > 0.0, "be positive"),
        )

    @classmethod
    def now(cls) -> "ProtocolConfig":
        """Make the NoW challenge's protocol: a similarity aligns all scan points in its region with the prediction.

        Returns:
            The configuration.
        """
        icp = IcpConfig(with_scale=True, from_scan=True, trimmed=0.0, max_normal_angle_deg=180.0)
        return cls(face_factor=1.4, landmarks=CHALLENGE_LANDMARKS, count_borders=True, icp=icp)

    @classmethod
    def fg2018(cls) -> "ProtocolConfig":
        """Make the protocol of the FG2018 challenge on the Stirling/ESRC scans: a similarity aligns landmarks alone.

        Returns:
            The configuration.
        """
        icp = IcpConfig(with_scale=True, iterations=0)
        return cls(face_factor=1.2, landmarks=CHALLENGE_LANDMARKS, count_borders=True, icp=icp)

    @property
    def crop_names(self) -> tuple[str, ...]:
        """What tables call the crops: their distances, or ``face``."""
        return tuple(f"{crop:g}" for crop in self.crops_mm) if self.face_factor is None else ("face",)
