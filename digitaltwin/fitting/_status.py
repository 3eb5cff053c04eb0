"""How a fit, or a pose from points, went: the values of ``FitResult.status`` and ``Pose.status``."""

OK = 0
NON_FINITE_INPUT = 1
"""An input is NaN or infinite, or a weight negative."""
DEGENERATE = 2
"""Fewer than four points of positive weight, or all of them on a line."""
BEHIND_CAMERA = 3
"""Part of the head, or of the points, is not in front of the camera."""
DIVERGED = 4
"""The fit's energy is not finite, or the focal length has gone astray."""
