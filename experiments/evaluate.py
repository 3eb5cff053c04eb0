"""Score any method's meshes on scans: a table, curves over the crop, bars by group, heat maps, one page.

    python -m experiments.evaluate --predictions=predictions --scans=scans --groups=groups.csv --out=scores
    python -m experiments.evaluate --layout=now --predictions=predictions --scans=NoW_Dataset/final_release_version

The folders' layout stands in :mod:`digitaltwin.evaluation._protocol`, those of challenges, which ``--layout`` names and
scores as they do, in :mod:`digitaltwin.evaluation._layouts`; ``--quick`` makes such folders of eight subjects, predicts
the mean head for all of them, and scores that. Predictions are scored side by side in processes; a run that was stopped
goes on where it was. Writes errors.csv (a row for each prediction and crop), table.csv (each group and crop, with 1.96
standard errors, and how fine the meshes are), curves.png, groups.png, heatmaps.png, and index.html with all of them.
"""

import html
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from digitaltwin.evaluation import (
    Complexity,
    GroupErrors,
    Pair,
    PairErrors,
    ProtocolConfig,
    find_now_pairs,
    find_pairs,
    find_stirling_pairs,
    group_complexities,
    group_errors,
)
from digitaltwin.io import load_arrays
from digitaltwin.io._files import make_folder, write_bytes
from digitaltwin.types import InputError
from experiments import command
from experiments.plotting import plt
from experiments.scores import draw_heat_map, png, score_all, score_file, write_csv, write_surface

_PREDICTIONS = flags.DEFINE_string("predictions", None, "Folder of the predictions.")
_SCANS = flags.DEFINE_string("scans", None, "Folder of the scans, or of the challenge's data.")
_LAYOUT = flags.DEFINE_enum("layout", "folders", ["folders", "now", "stirling"], "Whose folders and rules these are.")
_IMAGES = flags.DEFINE_string("images", None, "The list of NoW's photos; its validation set by default.")
_GROUPS = flags.DEFINE_string("groups", None, "File of rows NAME,group; one group without.")
_OUT = flags.DEFINE_string("out", "out/evaluation", "Folder for the results; made if it is missing.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes side by side.", lower_bound=1)
_WITH_SCALE = flags.DEFINE_bool(
    "with_scale", None, "Whether a prediction's size is fitted; by default as the layout's."
)
_UNIT_MM = flags.DEFINE_float("unit_mm", 1.0, "Millimetres in the predictions' unit: 1000 for metres.")
_BENT = flags.DEFINE_bool("bent", False, "Bend predictions over the scans too, for errors between what corresponds.")
_BY_AREA = flags.DEFINE_bool("by_area", False, "Whether vertices count by the areas of their faces.")
_QUICK = flags.DEFINE_bool("quick", False, "Score the mean head on eight subjects of the shipped database.")

SHOWN = 24
"""Heat maps on the sheet."""
NAMES = {"armse": "ARMSE", "median": "median of the scan's distances", "scan_to_prediction": "RMSE of the scan"}
"""What axes call the errors that layouts average."""


def draw_curves(table: dict[str, GroupErrors], config: ProtocolConfig, measure: str) -> bytes:
    """The error over the crop, a curve a group."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    crops = config.crops_mm if config.face_factor is None else config.crop_names
    for name, group in table.items():
        axis.errorbar(crops, group.mean, group.margin, marker="o", capsize=3, label=f"{name} ({group.subjects})")
    axis.set(xlabel="distance from the nose tip, mm", ylabel=f"{NAMES[measure]}, mm", ylim=(0, None))
    if config.face_factor is not None:
        axis.set_xlabel("")
    axis.legend()
    return png(figure)


def draw_groups(table: dict[str, GroupErrors], config: ProtocolConfig, measure: str) -> bytes:
    """The error of every group at the largest crop."""
    figure, axis = plt.subplots(figsize=(1.2 + 1.1 * len(table), 4), layout="constrained")
    means, margins = (np.array([getattr(group, part)[-1] for group in table.values()]) for part in ("mean", "margin"))
    axis.bar(list(table), means, yerr=margins, capsize=4, color="#2b6cb0")
    within = f"within {config.crop_names[-1]} mm of the nose tip"
    axis.set(ylabel=f"{NAMES[measure]}, mm", title=within if config.face_factor is None else "within the face")
    axis.tick_params(axis="x", rotation=30)
    return png(figure)


def draw_heat_maps(pairs: list[Pair], config: ProtocolConfig, folder: Path) -> bytes:
    """Predictions from the front, coloured by how far they stand out of the scan."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int))]
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns + 0.8, 2.5 * rows), squeeze=False,
                                layout="constrained")  # fmt: skip
    drawn = None
    for axis, pair in zip(axes.flat, chosen):
        drawn = draw_heat_map(axis, pair, config, folder)
        axis.set_title(pair.name, fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="prediction outside the scan, mm")
    return png(figure)


def rows_of_errors(
    pairs: list[Pair], errors: list[PairErrors], complexities: list[Complexity], config: ProtocolConfig
) -> list[list[Any]]:
    """errors.csv."""
    heading = ["name", "group", "crop_mm", *(f"{name}_mm" for name in PairErrors._fields), *Complexity._fields]
    return [heading] + [
        [pair.name, pair.group, crop, *(f"{values[i]:.4f}" for values in error), *_counts(complexity, i)]
        for pair, error, complexity in zip(pairs, errors, complexities)
        for i, crop in enumerate(config.crop_names)
    ]


def rows_of_table(
    table: dict[str, GroupErrors], complexities: Mapping[str, Complexity], config: ProtocolConfig, measure: str
) -> list[list[Any]]:
    """table.csv."""
    return [["group", "subjects", "crop_mm", f"{measure}_mm", "margin_mm", *Complexity._fields]] + [
        [name, group.subjects, crop, f"{group.mean[i]:.3f}", f"{group.margin[i]:.3f}", *_counts(complexities[name], i)]
        for name, group in table.items()
        for i, crop in enumerate(config.crop_names)
    ]


def _counts(complexity: Complexity, crop: int) -> list[str]:
    """Numbers of vertices and faces, and the edges' length, at one crop."""
    *counts, edge_mm = (values[crop] for values in complexity)
    return [*(f"{count:.0f}" for count in counts), f"{edge_mm:.2f}"]


def pooled(pairs: list[Pair], folder: Path) -> dict[str, float]:
    """Of the distances of all scans' vertices together, at the largest crop: what NoW publishes [mm]."""
    distances = np.concatenate([load_arrays(score_file(pair, folder))[0]["scan_mm"] for pair in pairs])
    return {"median": float(np.median(distances)), "mean": float(distances.mean()), "deviation": float(distances.std())}


def page(rows: list[list[Any]], config: ProtocolConfig, count: int, together: str) -> bytes:
    """index.html."""
    cells = "\n".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th"] + ["td"] * len(rows), rows)
    )
    counted = "its faces' areas" if config.by_area else "one vertex"
    size = "free" if config.icp.with_scale else "kept"
    borders = "counted" if config.count_borders else "left out"
    if not config.icp.iterations:
        then = ""
    elif config.icp.from_scan:
        then = " and least squares of the distances of the scan's points"
    else:
        then = " and trimmed point-to-plane ICP"
    region = "the face's ball" if config.face_factor is not None else "a distance from the nose tip"
    return f"""<!doctype html><meta charset="utf-8"><title>Evaluation</title>
<style>body{{font:15px sans-serif;max-width:75em;margin:2em auto}}td,th{{padding:.2em .8em;text-align:right}}</style>
<h1>{count} predictions</h1>
<p>ARMSE is the mean of RMSE(prediction to scan) and RMSE(scan to prediction) within {region}: closest points of the
surfaces, those on a border {borders}, each vertex counted as {counted}; aligned by {len(config.landmarks)}
landmarks{then}, size {size}. Margins are 1.96 standard errors over subjects. Vertices, faces and the mean length of
edges (within the crop, mm) are means over the predictions.</p>
<table>{cells}</table>
<p>{together}</p>
<p><img src="curves.png"><img src="groups.png"></p><p><img src="heatmaps.png" style="max-width:100%"></p>
""".encode()


def make_example(folder: Path) -> tuple[Path, Path, Path]:
    """Folders in the layout: eight test subjects as scans, the mean head as the prediction of each."""
    import jax.numpy as jnp

    from digitaltwin.head import landmark_points, load_head, load_subjects, neutral_shape
    from digitaltwin.head.markup import ALIGNMENT

    head, subjects = load_head(), load_subjects()
    predictions, scans = make_folder(folder / "predictions"), make_folder(folder / "scans")
    chosen = np.flatnonzero(np.asarray(subjects.test))[:: max(1, int(np.sum(np.asarray(subjects.test))) // 8)][:8]

    def write(place: Path, vertices: Any) -> None:
        points = np.asarray(landmark_points(head, jnp.asarray(vertices)))[ALIGNMENT]
        write_surface(place, vertices, head.faces, points)

    groups = []
    for number in chosen:
        name = f"subject-{number:03}"
        write(scans / f"{name}.ply", neutral_shape(head, subjects.identity[number]))
        write(predictions / f"{name}.ply", head.mean)
        groups.append([name, subjects.group_names[int(subjects.group[number])].split("-")[1]])
    write_csv(folder / "groups.csv", groups)
    return predictions, scans, folder / "groups.csv"


def pairs_and_config(out: Path) -> tuple[list[Pair], ProtocolConfig, str]:
    """What is scored, by which rules, and which error the table averages."""
    if _QUICK.value:
        predictions, scans, groups = make_example(make_folder(out / "example"))
        return find_pairs(predictions, scans, groups=groups), ProtocolConfig(), "armse"
    predictions, scans = _PREDICTIONS.value, _SCANS.value
    if predictions is None or scans is None:
        raise InputError("--predictions and --scans: name both folders, or use --quick for an example.")
    if _LAYOUT.value == "now":
        return find_now_pairs(predictions, scans, images=_IMAGES.value), ProtocolConfig.now(), "median"
    if _LAYOUT.value == "stirling":
        return find_stirling_pairs(predictions, scans), ProtocolConfig.fg2018(), "scan_to_prediction"
    return find_pairs(predictions, scans, groups=_GROUPS.value), ProtocolConfig(), "armse"


def main() -> None:
    """Score, print the table, write everything."""
    out = make_folder(_OUT.value)
    pairs, config, measure = pairs_and_config(out)
    config = replace(config, by_area=_BY_AREA.value, bent=_BENT.value, unit_mm=_UNIT_MM.value)
    if _WITH_SCALE.value is not None:
        config = replace(config, icp=replace(config.icp, with_scale=_WITH_SCALE.value))
    scored = make_folder(out / "scored")
    with ProcessPoolExecutor(_WORKERS.value, mp_context=get_context("spawn")) as executor:
        errors, complexities = (list(part) for part in zip(*score_all(pairs, config, scored, executor)))
    table = group_errors(pairs, errors, measure=measure)
    rows = rows_of_table(table, group_complexities(pairs, complexities), config, measure)
    widths = [max(len(str(cell)) for cell in column) + 2 for column in zip(*rows)]
    for row in rows:
        print("".join(f"{cell!s:>{width}}" for cell, width in zip(row, widths)))
    distances = ", ".join(f"{name} {value:.3f} mm" for name, value in pooled(pairs, scored).items())
    together = f"All scans' distances together: {distances}."
    print(together)
    write_csv(out / "errors.csv", rows_of_errors(pairs, errors, complexities, config))
    write_csv(out / "table.csv", rows)
    write_bytes(out / "curves.png", draw_curves(table, config, measure))
    write_bytes(out / "groups.png", draw_groups(table, config, measure))
    write_bytes(out / "heatmaps.png", draw_heat_maps(pairs, config, scored))
    write_bytes(out / "index.html", page(rows, config, len(pairs), together))


if __name__ == "__main__":
    command.run(main)
