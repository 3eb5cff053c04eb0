"""Score any method's meshes on scans: a table, curves over the crop, bars by group, heat maps, one page.

    python -m experiments.evaluate --predictions=predictions --scans=scans --groups=groups.csv --out=scores

The folders' layout stands in :mod:`digitaltwin.evaluation.protocol`; ``--quick`` makes such folders of eight subjects,
predicts the mean head for all of them, and scores that. Predictions are scored side by side in processes; a run that
was stopped goes on where it was. Writes errors.csv (a row for each prediction and crop), table.csv (each group and
crop, with 1.96 standard errors), curves.png, groups.png, heatmaps.png, and index.html with all of them.
"""

import html
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from absl import flags

from digitaltwin.evaluation import GroupErrors, IcpConfig, Pair, PairErrors, ProtocolConfig, find_pairs, group_errors
from digitaltwin.io.files import make_folder, write_bytes
from digitaltwin.types import InputError
from experiments import command
from experiments.scores import draw_heat_map, png, score_all, write_csv, write_surface

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend is chosen before it is loaded)

_PREDICTIONS = flags.DEFINE_string("predictions", None, "Folder of the predictions.")
_SCANS = flags.DEFINE_string("scans", None, "Folder of the scans.")
_GROUPS = flags.DEFINE_string("groups", None, "File of rows NAME,group; one group without.")
_OUT = flags.DEFINE_string("out", "out/evaluation", "Folder for the results; made if it is missing.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes side by side.", lower_bound=1)
_WITH_SCALE = flags.DEFINE_bool("with_scale", False, "Whether a prediction's size is fitted to the scan's.")
_BY_AREA = flags.DEFINE_bool("by_area", False, "Whether vertices count by the areas of their faces.")
_QUICK = flags.DEFINE_bool("quick", False, "Score the mean head on eight subjects of the shipped database.")

SHOWN = 24
"""Heat maps on the sheet."""


def draw_curves(table: dict[str, GroupErrors], crops_mm: tuple[float, ...]) -> bytes:
    """ARMSE over the crop, a curve a group."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, group in table.items():
        axis.errorbar(crops_mm, group.mean, group.margin, marker="o", capsize=3, label=f"{name} ({group.subjects})")
    axis.set(xlabel="distance from the nose tip, mm", ylabel="ARMSE, mm", ylim=(0, None))
    axis.legend()
    return png(figure)


def draw_groups(table: dict[str, GroupErrors], crops_mm: tuple[float, ...]) -> bytes:
    """ARMSE of every group at the largest crop."""
    figure, axis = plt.subplots(figsize=(1.2 + 1.1 * len(table), 4), layout="constrained")
    means, margins = (np.array([getattr(group, part)[-1] for group in table.values()]) for part in ("mean", "margin"))
    axis.bar(list(table), means, yerr=margins, capsize=4, color="#2b6cb0")
    axis.set(ylabel="ARMSE, mm", title=f"within {crops_mm[-1]:g} mm of the nose tip")
    axis.tick_params(axis="x", rotation=30)
    return png(figure)


def draw_heat_maps(pairs: list[Pair], folder: Path) -> bytes:
    """Predictions from the front, coloured by how far they stand out of the scan."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int))]
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns + 0.8, 2.5 * rows), squeeze=False,
                                layout="constrained")  # fmt: skip
    drawn = None
    for axis, pair in zip(axes.flat, chosen):
        drawn = draw_heat_map(axis, pair, folder)
        axis.set_title(pair.name, fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="prediction outside the scan, mm")
    return png(figure)


def rows_of_errors(pairs: list[Pair], errors: list[PairErrors], crops_mm: tuple[float, ...]) -> list[list[Any]]:
    """errors.csv."""
    heading = ["name", "group", "crop_mm", *(f"{name}_mm" for name in PairErrors._fields)]
    return [heading] + [
        [pair.name, pair.group, f"{crop:g}", *(f"{values[i]:.4f}" for values in error)]
        for pair, error in zip(pairs, errors)
        for i, crop in enumerate(crops_mm)
    ]


def rows_of_table(table: dict[str, GroupErrors], crops_mm: tuple[float, ...]) -> list[list[Any]]:
    """table.csv."""
    return [["group", "subjects", "crop_mm", "armse_mm", "margin_mm"]] + [
        [name, group.subjects, f"{crop:g}", f"{group.mean[i]:.3f}", f"{group.margin[i]:.3f}"]
        for name, group in table.items()
        for i, crop in enumerate(crops_mm)
    ]


def page(rows: list[list[Any]], config: ProtocolConfig, count: int) -> bytes:
    """index.html."""
    cells = "\n".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th"] + ["td"] * len(rows), rows)
    )
    counted = "its faces' areas" if config.by_area else "one vertex"
    size = "free" if config.icp.with_scale else "kept"
    return f"""<!doctype html><meta charset="utf-8"><title>Evaluation</title>
<style>body{{font:15px sans-serif;max-width:60em;margin:2em auto}}td,th{{padding:.2em .8em;text-align:right}}</style>
<h1>{count} predictions</h1>
<p>ARMSE: the mean of RMSE(prediction to scan) and RMSE(scan to prediction), closest points of the surfaces, those on a
border left out, each vertex counted as {counted}; aligned by seven landmarks and trimmed point-to-plane ICP, size
{size}. Margins are 1.96 standard errors over subjects.</p>
<table>{cells}</table>
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


def main() -> None:
    """Score, print the table, write everything."""
    out = make_folder(_OUT.value)
    if _QUICK.value:
        predictions, scans, groups = make_example(make_folder(out / "example"))
    elif _PREDICTIONS.value is None or _SCANS.value is None:
        raise InputError("--predictions and --scans: name both folders, or use --quick for an example.")
    else:
        predictions, scans, groups = _PREDICTIONS.value, _SCANS.value, _GROUPS.value
    config = ProtocolConfig(by_area=_BY_AREA.value, icp=IcpConfig(with_scale=_WITH_SCALE.value))
    pairs, scored = find_pairs(predictions, scans, groups=groups), make_folder(out / "scored")
    with ProcessPoolExecutor(_WORKERS.value, mp_context=get_context("spawn")) as executor:
        errors = score_all(pairs, config, scored, executor)
    table = group_errors(pairs, errors)
    rows = rows_of_table(table, config.crops_mm)
    for row in rows:
        print("".join(f"{cell!s:>16}" for cell in row))
    write_csv(out / "errors.csv", rows_of_errors(pairs, errors, config.crops_mm))
    write_csv(out / "table.csv", rows)
    write_bytes(out / "curves.png", draw_curves(table, config.crops_mm))
    write_bytes(out / "groups.png", draw_groups(table, config.crops_mm))
    write_bytes(out / "heatmaps.png", draw_heat_maps(pairs, scored))
    write_bytes(out / "index.html", page(rows, config, len(pairs)))


if __name__ == "__main__":
    command.run(main)
