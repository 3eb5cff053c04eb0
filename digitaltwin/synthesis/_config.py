"""Settings of a set of scenes; they need no JAX, so that commands can read the defaults of their flags quickly."""

from dataclasses import dataclass

from digitaltwin.types import InputError

FORMER_SETTINGS = {"remainder_mm": "residual_mm", "still": "rigid_motion_free"}
"""Present names of settings by the former ones, which files may hold."""


@dataclass(frozen=True)
class SceneConfig:
    """Settings of a set of scenes: each depends on the seed and its own number, not on how many there are.

    Raises:
        InputError: A negative count, seed or size.

    Example:
        >>> SceneConfig(count=8).residual_mm
        0.8
    """

    count: int = 120
    """Scenes; every other one shows a test subject."""
    seed: int = 0
    """Seed of everything that is drawn at random."""
    residual_mm: float = 0.8
    """Root mean square over the face of the out-of-basis residual: what the identity basis lacks of a person."""
    rigid_motion_free: bool = False
    """Whether the residual is freed of the face's rigid motion, which makes up half of it and which no comparison of
    shapes counts."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for name in ("count", "seed", "residual_mm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"SceneConfig: {name} is {getattr(self, name)}; it must be 0 or more.")
