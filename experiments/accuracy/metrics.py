"""How near predictions come to sitters: errors by the protocol and of true counterparts, tables, a sheet of heat maps.

What ``python -m experiments.accuracy`` computes and writes, of folders that it has filled.

Letters: v vertices.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from PIL import Image

from digitaltwin.evaluation import Pair, PairErrors, ProtocolConfig, find_pairs
from digitaltwin.geometry import IcpConfig, procrustes_alignment
from digitaltwin.head import HeadModel
from digitaltwin.io._files import make_folder
from digitaltwin.io.meshes import read_surface
from experiments.plotting import plt
from experiments.scores import draw_heat_map, png, score_all, write_csv
from experiments.sitters import SCAN, Sitter

BASELINES = ("mean", "group", "kin")
"""Guesses that need no picture."""
BASIS = "basis"
"""The truth without the remainder: nobody who stays in the identity basis is nearer, but for the alignment."""
TITLES = {
    "front": "avatar, from the front",
    "turned": "avatar, turned",
    "mean": "mean head",
    "group": "the head's mean of the group",
    "kin": "mean of the group's training people",
    "basis": "truth within the basis",
}
SIZES = {"kept": False, "free": True}
"""Whether a prediction's size is fitted to the truth's."""
CROP_MM = 95.0
"""The crop at which one number stands for all."""
SHOWN_GUESSES = ("mean", "group")
SHOWN = 5
"""Subjects on the sheet."""

Scores = dict[str, dict[str, dict[str, PairErrors]]]
"""By size, person, prediction."""


class CounterpartErrors(NamedTuple):
    """Distances [mm] of the face's vertices from their true counterparts, after an alignment on those vertices."""

    rms: float
    mean: float
    median: float
    rms_scaled: float
    """With the size aligned too."""
    scale: float
    """By which the prediction is enlarged then."""


# Errors


def score_sizes(
    folder: Path, sitters: Sequence[Sitter], views: Sequence[str], crops_mm: tuple[float, ...], executor: Executor
) -> Scores:
    """Every prediction of the sitters by the protocol, size kept and size free."""
    write_csv(folder / "groups.csv", [[sitter.name, sitter.group] for sitter in sitters])
    names = {sitter.name for sitter in sitters}
    kinds = (*views, *BASELINES, BASIS)
    pairs = [pair for pair in _pairs(folder) if pair.subject in names and _prediction(pair) in kinds]
    scores: Scores = {}
    for size, with_scale in SIZES.items():
        config = ProtocolConfig(crops_mm=crops_mm, icp=IcpConfig(with_scale=with_scale))
        scored = score_all(pairs, config, make_folder(folder / f"size-{size}"), executor)
        table = scores.setdefault(size, {sitter.name: {} for sitter in sitters})
        for pair, (error, _) in zip(pairs, scored):
            table[pair.subject][_prediction(pair)] = error
    return scores


def _pairs(folder: Path) -> list[Pair]:
    return find_pairs(folder / "predictions", folder / "scans")


def _prediction(pair: Pair) -> str:
    return pair.name.split("/")[1]


def score_counterparts(
    head: HeadModel, folder: Path, sitters: Sequence[Sitter], predictions: Sequence[str]
) -> dict[str, dict[str, CounterpartErrors]]:
    """Errors of true counterparts, by person and prediction, of those who have the head's topology."""
    table: dict[str, dict[str, CounterpartErrors]] = {}
    for sitter in sitters:
        if sitter.within is None:
            continue
        for name in predictions:
            path = folder / "predictions" / sitter.name / f"{name}.ply"
            if path.exists():
                found = jnp.asarray(read_surface(path)[0], jnp.float32)
                errors = compare_counterparts(found, jnp.asarray(sitter.vertices), head.regions.face)
                table.setdefault(sitter.name, {})[name] = CounterpartErrors(*map(float, errors))
    return table


@jax.jit
def compare_counterparts(
    found: Float[Array, "v 3"], true: Float[Array, "v 3"], region: Bool[Array, " v"]
) -> tuple[Array, Array, Array, Array, Array]:
    """The fields of :class:`CounterpartErrors` over a region's vertices, a mask; aligned on those, rigidly."""
    weights = region.astype(found.dtype)

    def distances(*, with_scale: bool) -> tuple[Array, Array]:
        move = procrustes_alignment(found, true, weights=weights, with_scale=with_scale)
        away = jnp.linalg.norm(move.apply(found) - true, axis=1)
        return jnp.where(region, away, jnp.nan), move.scale

    rigid, _ = distances(with_scale=False)
    scaled, scale = distances(with_scale=True)
    rms, rms_scaled = (jnp.sqrt(jnp.nanmean(away**2)) for away in (rigid, scaled))
    return rms, jnp.nanmean(rigid), jnp.nanmedian(rigid), rms_scaled, scale


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """Mean of some people's numbers, and 1.96 standard errors of it; NaN of a single one."""
    array = np.asarray(values, np.float64)
    margin = 1.96 * array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(margin)


def paired(first: dict[str, float], second: dict[str, float]) -> tuple[tuple[float, float], int, int]:
    """How much smaller the second error is than the first, over the people who have both.

    Args:
        first: errors by person.
        second: likewise.

    Returns:
        Mean and margin of first minus second, how many people's second is the smaller, and of how many.
    """
    gains = [first[name] - second[name] for name in first if name in second]
    return mean_and_margin(gains), sum(gain > 0 for gain in gains), len(gains)


# Tables


def write_tables(
    scores: Scores,
    counterparts: dict[str, dict[str, CounterpartErrors]],
    crops_mm: Sequence[float],
    views: Sequence[str],
    refused: dict[str, str],
) -> str:
    """All tables as Markdown.

    Args:
        scores: by size, person and prediction; the person named :data:`SCAN` has tables of his own.
        counterparts: by person and prediction.
        crops_mm: of the scores.
        views: which avatars there are.
        refused: why pictures were, by their name.
    """
    subjects = {size: {who: row for who, row in table.items() if who != SCAN} for size, table in scores.items()}
    scan = {size: {who: row for who, row in table.items() if who == SCAN} for size, table in scores.items()}
    headings = " | ".join(f"{crop:g} mm" for crop in crops_mm)
    parts = []
    for size in SIZES:
        parts.append(f"ARMSE of the subjects, size {size}, mm\n")
        parts += _table(f"| | people | {headings} |", _armse_rows(subjects[size], views))
        parts.append(f"What an avatar gains on a guess of the same person, size {size}: ARMSE, mm (people who gain)\n")
        parts += _table(f"| | {headings} |", _gain_rows(subjects[size], views))
    at = list(crops_mm).index(CROP_MM)
    parts.append(f"Truth to prediction, within {CROP_MM:g} mm, size kept; and true counterparts over the face, mm\n")
    heading = "| | median | mean | counterparts, RMS | mean | median | RMS, size free | enlarged by |"
    parts += _table(heading, _distance_rows(subjects["kept"], counterparts, views, at))
    gained = []
    for view in views:
        for guess in BASELINES:
            columns = [
                {who: getattr(row[name], field) for who, row in counterparts.items() if name in row}
                for field in ("rms", "rms_scaled")
                for name in (guess, view)
            ]
            both = [paired(*columns[i : i + 2]) for i in (0, 2)]
            cells = [f"{_plus(*gain)} ({better} of {people})" for gain, better, people in both]
            gained.append([f"{TITLES[view]} against {TITLES[guess]}", *cells])
    parts.append("What an avatar gains on a guess in true counterparts, RMS, mm (people who gain)\n")
    parts += _table("| | size kept | size free |", gained)
    if scan["kept"]:
        for size in SIZES:
            parts.append(f"ARMSE of the scan, size {size}, mm\n")
            rows = [row[:1] + row[2:] for row in _armse_rows(scan[size], views)]
            errors = scan[size][SCAN]
            extra = [[f"{getattr(errors[name], field)[at]:.2f}" for field in ("median", "mean")]
                     for name in _names(scan[size], views)]  # fmt: skip
            heading = f"| | {headings} | median, {CROP_MM:g} mm | mean, {CROP_MM:g} mm |"
            parts += _table(heading, [row + more for row, more in zip(rows, extra)])
    parts += [f"Refused: {name}: {why}\n" for name, why in refused.items()]
    return "\n".join(parts)


def write_causes(causes: dict[str, dict[str, list[CounterpartErrors]]]) -> str:
    """The steps of :mod:`experiments.causes` as a Markdown table.

    Args:
        causes: by view and the step's title, one a picture; without any there is no table.
    """
    if not causes:
        return ""
    rows = [
        [title, view, *(_plus(*mean_and_margin([getattr(error, field) for error in errors]))
                        for field in ("rms", "rms_scaled", "scale"))]
        for view, steps in causes.items()
        for title, errors in steps.items()
    ]  # fmt: skip
    heading = "| fit | view | RMS, size kept | size free | enlarged by |"
    return "\n".join(["\nTrue counterparts of fits that are told more at each step, mm\n", *_table(heading, rows)])


def _table(heading: str, rows: list[list[str]]) -> list[str]:
    columns = heading.count("|") - 1
    return [heading, "|---" * columns + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _plus(mean: float, margin: float) -> str:
    return f"{mean:.2f}" if np.isnan(margin) else f"{mean:.2f} ± {margin:.2f}"


def _names(people: dict[str, dict[str, Any]], views: Sequence[str]) -> list[str]:
    """The predictions that somebody has, avatars first."""
    return [name for name in (*views, *BASELINES, BASIS) if any(name in row for row in people.values())]


def _armse(people: dict[str, dict[str, PairErrors]], name: str, crop: int) -> dict[str, float]:
    return {who: float(row[name].armse[crop]) for who, row in people.items() if name in row}


def _armse_rows(people: dict[str, dict[str, PairErrors]], views: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in _names(people, views):
        errors = np.array([row[name].armse for row in people.values() if name in row])
        cells = [_plus(*mean_and_margin(column)) for column in errors.T]
        rows.append([TITLES[name], str(len(errors)), *cells])
    return rows


def _gain_rows(people: dict[str, dict[str, PairErrors]], views: Sequence[str]) -> list[list[str]]:
    rows = []
    crops = len(next(iter(next(iter(people.values())).values())).armse)
    for view in views:
        for guess in BASELINES:
            found = [paired(_armse(people, guess, crop), _armse(people, view, crop)) for crop in range(crops)]
            cells = [f"{_plus(*gain)} ({better} of {people})" for gain, better, people in found]
            rows.append([f"{TITLES[view]} against {TITLES[guess]}", *cells])
    return rows


def _distance_rows(
    people: dict[str, dict[str, PairErrors]],
    counterparts: dict[str, dict[str, CounterpartErrors]],
    views: Sequence[str],
    crop: int,
) -> list[list[str]]:
    rows = []
    for name in _names(people, views):
        near = [[row[name].median[crop], row[name].mean[crop]] for row in people.values() if name in row]
        true = [row[name] for row in counterparts.values() if name in row]
        columns = [*np.transpose(near), *np.transpose(true)]
        cells = [_plus(*mean_and_margin(column)) for column in columns[:-1]]
        scale = columns[-1]
        rows.append([TITLES[name], *cells, f"{scale.mean():.3f} ({scale.min():.3f} to {scale.max():.3f})"])
    return rows


def rows_of_scores(scores: Scores, sitters: Sequence[Sitter], crops_mm: Sequence[float]) -> list[list[Any]]:
    """accuracy.csv."""
    rows: list[list[Any]] = [
        ["person", "group", "prediction", "size", "crop_mm", *(f"{f}_mm" for f in PairErrors._fields)]
    ]
    for size, people in scores.items():
        for sitter in sitters:
            for name, errors in people[sitter.name].items():
                for i, crop in enumerate(crops_mm):
                    numbers = [f"{values[i]:.4f}" for values in errors]
                    rows.append([sitter.name, sitter.group, name, size, f"{crop:g}", *numbers])
    return rows


def _told(report: dict[str, Any]) -> dict[str, Any]:
    """What of an avatar's report may tell why it is as it is; or why there is none."""
    if "refused" in report:
        return report
    fit, residuals = report["report"]["fit"], report["report"]["residuals"]
    return {
        "truth": report["truth"],
        "start": fit["start"],
        "focal_px": fit["focal_px"],
        "distance_mm": fit["translation_mm"][2],
        "expression_rms": round(float(np.sqrt(np.mean(np.square(list(fit["expression"].values()))))), 4),
        "held_out_mesh_points_percent": residuals["held_out_mesh_points"],
        "correction_p95_mm": residuals["correction_p95_mm"],
    }


def as_json(
    scores: Scores,
    counterparts: dict[str, dict[str, CounterpartErrors]],
    sitters: Sequence[Sitter],
    crops_mm: Sequence[float],
    reports: dict[str, dict[str, Any]],
    causes: dict[str, dict[str, list[CounterpartErrors]]],
) -> dict[str, Any]:
    """accuracy.json: every number by person, what the avatars' reports tell of them, and the steps of the causes."""

    def rounded(errors: PairErrors) -> dict[str, list[float]]:
        measured = {field: values for field, values in errors._asdict().items() if not np.isnan(values).all()}
        return {field: [round(float(value), 4) for value in values] for field, values in measured.items()}

    return {
        "unit": "mm",
        "crops_mm": list(crops_mm),
        "people": {
            sitter.name: {
                "group": sitter.group,
                "sizes": {
                    size: {name: rounded(errors) for name, errors in people[sitter.name].items()}
                    for size, people in scores.items()
                },
                "counterparts": {
                    name: {field: round(value, 4) for field, value in errors._asdict().items()}
                    for name, errors in counterparts.get(sitter.name, {}).items()
                },
                "avatars": {view: _told(report) for view, report in reports[sitter.name].items()},
            }
            for sitter in sitters
        },
        "causes": {
            view: {title: [{field: round(value, 4) for field, value in error._asdict().items()} for error in errors]
                   for title, errors in steps.items()}
            for view, steps in causes.items()
        },
    }  # fmt: skip


# The sheet


def draw_sheet(
    folder: Path,
    sitters: Sequence[Sitter],
    scores: Scores,
    reports: dict[str, dict[str, Any]],
    views: Sequence[str],
    crop: int,
) -> bytes:
    """A row a person: each picture with its avatar's heat map, then those of the guesses; the scan last.

    Above each heat map the ARMSE at one of the crops, size kept.
    """
    pairs = {pair.name: pair for pair in _pairs(folder)}
    subjects = sorted((s for s in sitters if s.within is not None), key=lambda s: s.group)
    shown = [subjects[i] for i in np.unique(np.linspace(0, len(subjects) - 1, SHOWN).round().astype(int))]
    shown += [sitter for sitter in sitters if sitter.within is None]
    columns = 2 * len(views) + len(SHOWN_GUESSES)
    figure, axes = plt.subplots(
        len(shown), columns, figsize=(2 * columns + 0.8, 2.5 * len(shown)), squeeze=False, layout="constrained"
    )
    drawn = None
    for line, sitter in zip(axes, shown):
        errors = scores["kept"][sitter.name]
        for axis, view in zip(line[::2], views):
            picture = Image.open(folder / "pictures" / f"{sitter.name}-{view}.png")
            axis.imshow(_near_the_face(picture, reports[sitter.name][view]))
            axis.set_title(sitter.name if view == views[0] else view, fontsize=8)
        for axis, name in zip([*line[1 : 2 * len(views) : 2], *line[2 * len(views) :]], (*views, *SHOWN_GUESSES)):
            if name in errors:
                drawn = draw_heat_map(axis, pairs[f"{sitter.name}/{name}"], ProtocolConfig(), folder / "size-kept")
            said = f"{errors[name].armse[crop]:.2f} mm" if name in errors else "refused"
            axis.set_title(f"{TITLES[name]}: {said}", fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.4, label="prediction outside the truth, mm")
    return png(figure)


def _near_the_face(picture: Image.Image, report: dict[str, Any]) -> Image.Image:
    """A square about the face that was found; all of a picture that was refused."""
    if "refused" in report:
        return picture
    left, top, right, bottom = report["report"]["face"]["box_px"]
    middle, reach = np.array([left + right, top + bottom]) / 2, 1.1 * (bottom - top)
    reach = min(reach, *middle, *(picture.size - middle))
    corners = np.concatenate([middle - reach, middle + reach]).round().astype(int)
    return picture.crop(tuple(corners.tolist()))
