"""Curves of the sweeps, and bars of the contour's settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digitaltwin.evaluation._sheet import pyplot
from experiments.tune.sweeps import UNITS

plt = pyplot()  # now, so that nothing is measured in vain where it is not installed


def draw_sweep(table: dict[str, Any], defaults: Mapping[str, Any], start: str, path: Path) -> None:
    """Draw a panel a hyper-parameter: change of the errors against the default's, and the correction's size."""
    shown = {
        "held_out_percent": ("#1f77b4", "held-out mesh points"),
        "true_points_percent": ("#17becf", "true projections"),
        "face_mm": ("#d62728", "face with expression"),
        "neutral_mm": ("#ff7f0e", "neutral face"),
        "neutral_scaled_mm": ("#9467bd", "neutral face, similarity alignment"),
    }
    rows = -(-len(table) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(14, 3.6 * rows), squeeze=False, layout="constrained")
    for axis, (name, by_start) in zip(axes.flat, table.items()):
        columns = by_start[start]
        values = np.array(columns["value"], float)
        default = float(defaults[name])
        for error, (colour, label) in shown.items():
            means = np.array(columns[error])
            reference = np.interp(default, values, means)
            axis.plot(values, 100 * (means / reference - 1), "o-", color=colour, ms=3, label=label)
        axis.axvline(default, color="0.8", zorder=0)
        axis.axhline(0, color="0.8", zorder=0)
        axis.set_xscale("symlog", linthresh=values[values > 0].min())
        axis.set_xticks(values, [f"{value:.3g}" for value in values], fontsize=7, rotation=25)
        axis.minorticks_off()
        axis.set_xlabel(f"{name} (default {default:g})")
        axis.set_ylabel("error against the default's, %")
        axis.set_ylim(-13, 16)
        size = axis.twinx()
        size.plot(values, columns["correction_p95_mm"], ":", color="0.5")
        size.set_ylabel("correction, mm (dotted)", color="0.5")
        size.set_ylim(0, None)
    axes.flat[0].legend(fontsize=7)
    for axis in axes.flat[len(table) :]:
        axis.remove()
    figure.suptitle(
        "From the best group's mean" if start == "group" else "From a given shape, half-way to the group's mean"
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_contours(table: dict[str, Any], yaws: Sequence[str], start: str, path: Path) -> None:
    """Draw bars by yaw: a row for the source of the contour landmarks, a column for each error."""
    columns = ("neutral_scaled_mm", "face_mm", "true_points_percent", "rotation_deg")
    colours = {"without contour": "0.75", "fixed": "#1f77b4", "sliding": "#d62728", "sliding far": "#e8a0a0"}
    figure, axes = plt.subplots(len(table), len(columns), figsize=(15, 3.6 * len(table)), layout="constrained")
    for row, (source, by_start) in zip(axes, table.items()):
        settings = {name: entry for name, entry in by_start[start].items() if name in colours}
        for axis, column in zip(row, columns):
            for number, (name, entry) in enumerate(settings.items()):
                heights = np.array(entry[column], float)  # None, where every fit failed, is NaN
                at = np.arange(len(heights)) + 0.21 * (number - (len(settings) - 1) / 2)
                axis.bar(at, heights, 0.19, color=colours[name], label=name)
            axis.set_xticks(np.arange(len(yaws)), yaws)
            axis.set_xlabel("yaw, degrees")
            axis.set_title(UNITS[column], fontsize=9)
        row[0].set_ylabel(f"contour landmarks: {source}'s")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=90)
    plt.close(figure)
