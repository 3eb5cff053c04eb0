"""The accuracy of avatars beside baselines: errors by person, their summary over people, and its tables in Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from digitaltwin.evaluation._cases import SCAN
from digitaltwin.evaluation._protocol import PairErrors
from digitaltwin.evaluation._statistics import CorrespondenceErrors, mean_and_margin, paired_gain

BASELINES = ("mean", "group", "training")
"""Predictions that need no picture: mean head, the head model's group mean, group mean of the training set."""
BASIS = "basis"
"""The truth without its out-of-basis residual: nobody who stays in the identity basis is nearer, but for the
alignment."""
ALIGNMENTS = {"rigid": False, "similarity": True}
"""Alignments of predictions with the truth, and whether they scale."""
CROP_MM = 95.0
"""The crop at which one number stands for all."""

WORSE = 0.02
"""Relative difference from which on an avatar counts as worse than the mean head."""

Scores = dict[str, dict[str, dict[str, PairErrors]]]
"""Errors by alignment, person and prediction."""
Correspondences = dict[str, dict[str, CorrespondenceErrors]]
"""Errors between corresponding points by person and prediction."""
TITLES = {
    "front": "avatar, from the front",
    "turned": "avatar, turned",
    "smiling": "avatar, smiling",
    "mean": "mean head",
    "group": "the head's mean of the group",
    "training": "group mean of the training set",
    "basis": "truth within the basis",
}


def summarise(
    scores: Scores,
    correspondences: Correspondences,
    crops_mm: Sequence[float],
    views: Sequence[str],
    ablation: dict[str, dict[str, list[CorrespondenceErrors]]],
    refused: dict[str, str],
    neutrals: dict[str, list[float]],
) -> dict[str, Any]:
    """Summarise the errors over people: means, each with 1.96 standard errors.

    Args:
        scores: By alignment, person and prediction; the person named :data:`SCAN` is listed apart.
        correspondences: By person and prediction.
        crops_mm: Crops of the scores.
        views: Names of the avatars.
        ablation: Errors by view and step, one a picture.
        refused: Reasons for refused pictures, by their name.
        neutrals: How far a person's neutral skins of two views lie apart, one number a person, by views.

    Returns:
        Everything that the tables show, ready for JSON; lists over crops, ``[mean, margin]`` with a margin of None for
        one person, gains as ``[mean, margin, people who gain, people]``.
    """
    subjects = {a: {who: row for who, row in table.items() if who != SCAN} for a, table in scores.items()}
    at = list(crops_mm).index(CROP_MM)
    first = subjects["rigid"]
    predictions = [n for n in (*views, *BASELINES, BASIS) if any(n in row for row in first.values())]
    summary: dict[str, Any] = {"unit": "mm", "crops_mm": list(crops_mm), "crop_mm": CROP_MM, "armse": {}, "gain": {}}
    for alignment, people in subjects.items():
        armse = {
            name: [{who: float(row[name].armse[crop]) for who, row in people.items() if name in row}
                   for crop in range(len(crops_mm))]
            for name in predictions
        }  # fmt: skip
        summary["armse"][alignment] = {
            name: {"people": len(columns[0]), "mm": [_mean_json(list(column.values())) for column in columns]}
            for name, columns in armse.items()
        }
        summary["gain"][alignment] = {
            f"{view} against {baseline}": [_gain_json(*both) for both in zip(armse[baseline], armse[view])]
            for view in views for baseline in BASELINES if view in armse
        }  # fmt: skip
        summary.setdefault("beside the mean head", {})[alignment] = {
            view: _beside(armse["mean"][at], armse[view][at]) for view in views if view in armse
        }
    summary["neutrals"] = {name: _mean_json(values) for name, values in neutrals.items()}
    summary["distances"] = {
        name: {field: _mean_json([float(getattr(row[name], field)[at]) for row in first.values() if name in row])
               for field in ("median", "mean")}
        for name in predictions
    }  # fmt: skip
    summary["corresponding points"] = {
        name: _correspondences([row[name] for row in correspondences.values() if name in row]) for name in predictions
    }

    def column(name: str, field: str) -> dict[str, float]:
        return {who: float(getattr(row[name], field)) for who, row in correspondences.items() if name in row}

    summary["gain in corresponding points"] = {
        f"{view} against {baseline}": {
            field: _gain_json(column(baseline, field), column(view, field)) for field in ("rms", "rms_scaled")
        }
        for view in views for baseline in BASELINES if view in predictions
    }  # fmt: skip
    summary["scan"] = {
        alignment: {
            name: {"armse": errors.armse.tolist(), "median": float(errors.median[at]), "mean": float(errors.mean[at])}
            for name, errors in table.get(SCAN, {}).items()
        }
        for alignment, table in scores.items()
    }
    summary["oracle ablation"] = {
        view: {title: _correspondences(errors) for title, errors in steps.items()} for view, steps in ablation.items()
    }
    return {**summary, "refused": refused}


def _beside(mean_head: dict[str, float], avatar: dict[str, float]) -> dict[str, float]:
    """The ratio of the mean errors, and the share of pictures in which the avatar is worse than the mean head."""
    ratios = np.array([avatar[who] / mean_head[who] for who in avatar])
    ratio = np.mean(list(avatar.values())) / np.mean([mean_head[who] for who in avatar])
    return {"ratio": float(ratio), "worse_percent": float(100 * np.mean(ratios > 1 + WORSE)), "pictures": len(ratios)}


def _mean_json(values: Sequence[float]) -> list[Any]:
    """Return ``[mean, margin]``; JSON knows no NaN."""
    mean, margin = mean_and_margin(values)
    return [mean, None if np.isnan(margin) else margin]


def _gain_json(baseline: dict[str, float], avatar: dict[str, float]) -> list[Any]:
    gain = paired_gain(baseline, avatar)
    return [gain.mean, None if np.isnan(gain.margin) else gain.margin, gain.gaining, gain.people]


def _correspondences(errors: Sequence[CorrespondenceErrors]) -> dict[str, Any]:
    columns = {name: [float(getattr(error, name)) for error in errors] for name in CorrespondenceErrors._fields}
    scale = columns.pop("scale")
    found: dict[str, Any] = {name: _mean_json(values) for name, values in columns.items()}
    return {**found, "scale": _mean_json(scale), "scale_range": [min(scale), max(scale)]}


def write_tables(summary: dict[str, Any]) -> str:
    """Format all tables as Markdown."""
    crops, crop = summary["crops_mm"], summary["crop_mm"]
    headings = " | ".join(f"{value:g} mm" for value in crops)
    parts = []
    for alignment, table in summary["armse"].items():
        parts.append(f"ARMSE of the subjects, {alignment} alignment, mm\n")
        rows = [[TITLES[name], str(row["people"]), *map(_mean, row["mm"])] for name, row in table.items()]
        parts += _table(f"| | people | {headings} |", rows)
        parts.append(f"Gain of an avatar on a baseline, {alignment} alignment: ARMSE, mm (people who gain)\n")
        rows = [[_title(name), *map(_gain, row)] for name, row in summary["gain"][alignment].items()]
        parts += _table(f"| | {headings} |", rows)
    parts.append(f"Avatars beside the mean head, ARMSE within {crop:g} mm\n")
    rows = [
        [TITLES[view], alignment, f"{row['ratio']:.3f}", f"{row['worse_percent']:.0f} % of {row['pictures']}"]
        for alignment, table in summary["beside the mean head"].items()
        for view, row in table.items()
    ]
    parts += _table(f"| | alignment | ratio of the means | worse by more than {100 * WORSE:g} % |", rows)
    if summary["neutrals"]:
        parts.append("Neutral skins of one person by two pictures, mean distance over the face, size normalised, mm\n")
        parts += _table("| | |", [[name, _mean(row)] for name, row in summary["neutrals"].items()])
    parts.append(
        f"Distances from the truth to the prediction within {crop:g} mm, rigid alignment; and errors between"
        " corresponding points of the face, mm\n"
    )
    rows = []
    for name, near in summary["distances"].items():
        true = summary["corresponding points"][name]
        cells = [*near.values(), *(true[field] for field in ("rms", "mean", "median", "rms_scaled"))]
        low, high = true["scale_range"]
        rows.append([TITLES[name], *map(_mean, cells), f"{true['scale'][0]:.3f} ({low:.3f} to {high:.3f})"])
    heading = "| | median | mean | corresponding points, RMS | mean | median | RMS, similarity alignment | scale |"
    parts += _table(heading, rows)
    parts.append("Gain of an avatar on a baseline in corresponding points, RMS, mm (people who gain)\n")
    gains = summary["gain in corresponding points"]
    rows = [[_title(name), *map(_gain, row.values())] for name, row in gains.items()]
    parts += _table("| | rigid alignment | similarity alignment |", rows)
    for alignment, table in summary["scan"].items():
        if table:
            parts.append(f"ARMSE of the scan, {alignment} alignment, mm\n")
            rows = [
                [TITLES[name], *(f"{value:.2f}" for value in (*row["armse"], row["median"], row["mean"]))]
                for name, row in _in_order(table)
            ]
            parts += _table(f"| | {headings} | median, {crop:g} mm | mean, {crop:g} mm |", rows)
    parts += [f"Refused: {name}: {why}\n" for name, why in summary["refused"].items()]
    if summary["oracle ablation"]:
        parts.append("Error ablation with oracle inputs, corresponding points, mm\n")
        rows = [
            [title, view, *(_mean(row[field]) for field in ("rms", "rms_scaled", "scale"))]
            for view, steps in summary["oracle ablation"].items()
            for title, row in steps.items()
        ]
        parts += _table("| fit | view | RMS, rigid alignment | similarity alignment | scale |", rows)
    return "\n".join(parts)


def _table(heading: str, rows: list[list[str]]) -> list[str]:
    columns = heading.count("|") - 1
    return [heading, "|---" * columns + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _title(gain: str) -> str:
    return " against ".join(TITLES[name] for name in gain.split(" against "))


def _in_order(table: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, table[name]) for name in TITLES if name in table]


def _mean(cell: Sequence[Any]) -> str:
    mean, margin = cell[:2]
    return f"{mean:.2f}" if margin is None else f"{mean:.2f} ± {margin:.2f}"


def _gain(cell: Sequence[Any]) -> str:
    return f"{_mean(cell)} ({cell[2]} of {cell[3]})"
