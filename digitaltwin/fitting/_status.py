"""How a fit, or a pose from points, went: the values of ``FitResult.status`` and ``Pose.status``."""

from enum import IntEnum


class FitStatus(IntEnum):
    """How a fit, or a pose from points, went.

    Results hold it as an integer array, which compares with a member: ``result.status == FitStatus.OK``. On the host
    ``FitStatus(int(result.status)).message`` says it in words.

    Example:
        >>> FitStatus(2).name, FitStatus(2).message
        ('DEGENERATE', 'fewer than four landmarks were seen, or all of them lie on a line')
    """

    OK = 0
    """The fit is usable."""
    NON_FINITE_INPUT = 1
    """An input is NaN or infinite, or a weight is negative."""
    DEGENERATE = 2
    """Fewer than four points have a positive weight, or all of them lie on a line."""
    BEHIND_CAMERA = 3
    """Part of the head, or of the points, is not in front of the camera."""
    DIVERGED = 4
    """The fit's energy is not finite, or the focal length left its range."""

    @property
    def message(self) -> str:
        """The status as half a sentence, for a message to the user."""
        return _MESSAGES[self]


_MESSAGES = {
    FitStatus.OK: "the fit is usable",
    FitStatus.NON_FINITE_INPUT: "a landmark or another input is not finite, or a weight is negative",
    FitStatus.DEGENERATE: "fewer than four landmarks were seen, or all of them lie on a line",
    FitStatus.BEHIND_CAMERA: "part of the head would lie behind the camera",
    FitStatus.DIVERGED: "the fit did not converge",
}
