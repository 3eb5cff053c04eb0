"""The value of the sliding contour: its settings beside one another, by yaw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from digitaltwin.evaluation._statistics import mean_and_margin
from digitaltwin.fitting import FitConfig
from digitaltwin.head import HeadModel
from digitaltwin.synthesis._outline import outline_landmarks
from digitaltwin.synthesis._scene import Scene
from experiments.tune.sweeps import CONTOUR_NOISE_PERCENT, Errors, by_yaw, judge

CONTOURS = {
    "without contour": FitConfig(contour_weight=0.0),
    "fixed": FitConfig(sliding_contour=False),
    "sliding": FitConfig(sliding_contour=True),
    "sliding far": FitConfig(sliding_contour=True, contour_reach_mm=FitConfig.paper().contour_reach_mm),
}
"""Settings to compare: no contour, fixed anchors, anchors that slide as far as the default lets them, and further."""


def compare_contours(
    head: HeadModel, truth: Scene, starts: tuple[str, ...], seed: int, *, settings: Sequence[str] = (*CONTOURS,)
) -> dict[str, Any]:
    """Measure settings, "fixed" among them, with the network's contour landmarks and with landmarks on the outline.

    The paired difference of sliding minus fixed is averaged over the renders of each bin, with 1.96 standard errors.
    """
    bins = truth.yaw_bins()
    outline = outline_landmarks(head, truth, noise_percent=CONTOUR_NOISE_PERCENT, seed=seed)
    table: dict[str, Any] = {}
    for source, landmarks in (("network", truth.landmarks_px), ("outline", outline)):
        for start in starts:
            errors = {name: judge(head, CONTOURS[name], truth, start=start, landmarks=landmarks) for name in settings}
            entry: dict[str, Any] = {name: by_yaw(values, bins) for name, values in errors.items()}
            for name in (name for name in settings if name.startswith("sliding")):
                entry[f"{name} - fixed"] = _paired(errors[name], errors["fixed"], bins)
            table.setdefault(source, {})[start] = entry
    return table


def _paired(a: Errors, b: Errors, bins: Int[np.ndarray, " n"]) -> dict[str, list[list[float]]]:
    """Average a - b of each error over each bin: ``[mean, 1.96 standard errors]`` of every bin."""
    table: dict[str, list[list[float]]] = {}
    for name in Errors._fields:
        differences = getattr(a, name) - getattr(b, name)
        kept = [differences[(bins == k) & np.isfinite(differences)] for k in np.unique(bins)]
        table[name] = [list(mean_and_margin(difference)) if len(difference) > 1 else [] for difference in kept]
    return table


def contour_table(table: dict[str, Any], yaws: Sequence[str]) -> str:
    """Format the contour's comparison as Markdown."""
    shown = ("held_out_percent", "true_points_percent", "face_mm", "neutral_mm", "neutral_scaled_mm", "rotation_deg")
    lines = [
        "| contour landmarks | start | setting | yaw | " + " | ".join(shown) + " |",
        "|---" * (4 + len(shown)) + "|",
    ]
    for source, by_start in table.items():
        for start, settings in by_start.items():
            for name, entry in settings.items():
                for number, yaw in enumerate(yaws):
                    cells = [_cell(entry[column][number]) for column in shown]
                    lines.append(f"| {source} | {start} | {name} | {yaw} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | list[float] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{value[0]:+.2f} ± {value[1]:.2f}" if value else ""
    return f"{value:.2f}"
