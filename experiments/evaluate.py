"""Score any method's meshes on scans: a table, curves over the crop, bars by group, heat maps, one page.

    python -m experiments.evaluate --predictions=predictions --scans=scans --groups=groups.csv --out=scores

The folders' layout stands in :mod:`digitaltwin.evaluation.protocol`; ``--quick`` makes such folders of eight subjects,
predicts the mean head for all of them, and scores that. Predictions are scored side by side in processes; a run that
was stopped goes on where it was. Writes errors.csv (a row for each prediction and crop), table.csv (each group and
crop, with 1.96 standard errors), curves.png, groups.png, heatmaps.png, and index.html with all of them.
"""

import csv
import html
import io
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from absl import flags
from tqdm import tqdm

from digitaltwin.evaluation import (
    LANDMARKS,
    GroupErrors,
    IcpConfig,
    Pair,
    PairErrors,
    ProtocolConfig,
    evaluate_pair,
    find_pairs,
    group_errors,
    read_landmarks,
)
from digitaltwin.io.arrays import load_arrays, save_arrays
from digitaltwin.io.files import make_folder, write_bytes
from digitaltwin.io.meshes import read_surface
from digitaltwin.types import InputError
from experiments import command

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend is chosen before it is loaded)
from matplotlib.collections import PolyCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

_PREDICTIONS = flags.DEFINE_string("predictions", None, "Folder of the predictions.")
_SCANS = flags.DEFINE_string("scans", None, "Folder of the scans.")
_GROUPS = flags.DEFINE_string("groups", None, "File of rows NAME,group; one group without.")
_OUT = flags.DEFINE_string("out", "out/evaluation", "Folder for the results; made if it is missing.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes side by side.", lower_bound=1)
_WITH_SCALE = flags.DEFINE_bool("with_scale", False, "Whether a prediction's size is fitted to the scan's.")
_BY_AREA = flags.DEFINE_bool("by_area", False, "Whether vertices count by the areas of their faces.")
_QUICK = flags.DEFINE_bool("quick", False, "Score the mean head on eight subjects of the shipped database.")

SATURATED_MM = 5.0
"""Where the heat maps' colours end; the paper's."""
SHOWN = 24
"""Heat maps on the sheet."""


def score(pair: Pair, config: ProtocolConfig, folder: Path) -> PairErrors:
    """Score a prediction, or read what an earlier run has found."""
    path = folder / f"{pair.name.replace('/', '__')}.npz"
    files = (pair.prediction, pair.prediction_landmarks, pair.scan, pair.scan_landmarks)
    settings: dict[str, Any] = {
        "config": asdict(config),
        "files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    }
    if path.exists():
        arrays, found = load_arrays(path)
        if _as_json(found.get("settings")) == _as_json(settings):
            return PairErrors(*(arrays[name] for name in PairErrors._fields))
    errors, comparison = evaluate_pair(pair, config)
    heat = {"vertices": comparison.vertices.astype(np.float32), "signed_mm": comparison.signed_mm.astype(np.float32)}
    save_arrays(path, {**errors._asdict(), **heat}, {"settings": settings})
    return errors


def _as_json(value: Any) -> Any:
    """Tuples as the lists they come back as."""
    if isinstance(value, dict):
        return {key: _as_json(part) for key, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value


def score_all(pairs: list[Pair], config: ProtocolConfig, folder: Path, executor: Executor) -> list[PairErrors]:
    """All of them, side by side; whichever cannot be used ends the run, what was done before is kept."""
    jobs = executor.map(partial(score, config=config, folder=folder), pairs)
    return list(tqdm(jobs, total=len(pairs), desc="evaluate", unit=" predictions"))


def draw_curves(table: dict[str, GroupErrors], crops_mm: tuple[float, ...]) -> bytes:
    """ARMSE over the crop, a curve a group."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, group in table.items():
        axis.errorbar(crops_mm, group.mean, group.margin, marker="o", capsize=3, label=f"{name} ({group.subjects})")
    axis.set(xlabel="distance from the nose tip, mm", ylabel="ARMSE, mm", ylim=(0, None))
    axis.legend()
    return _png(figure)


def draw_groups(table: dict[str, GroupErrors], crops_mm: tuple[float, ...]) -> bytes:
    """ARMSE of every group at the largest crop."""
    figure, axis = plt.subplots(figsize=(1.2 + 1.1 * len(table), 4), layout="constrained")
    means, margins = (np.array([getattr(group, part)[-1] for group in table.values()]) for part in ("mean", "margin"))
    axis.bar(list(table), means, yerr=margins, capsize=4, color="#2b6cb0")
    axis.set(ylabel="ARMSE, mm", title=f"within {crops_mm[-1]:g} mm of the nose tip")
    axis.tick_params(axis="x", rotation=30)
    return _png(figure)


def draw_heat_maps(pairs: list[Pair], folder: Path) -> bytes:
    """Predictions from the front, coloured by how far they stand out of the scan."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int))]
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns + 0.8, 2.5 * rows), squeeze=False,
                                layout="constrained")  # fmt: skip
    drawn = None
    for axis, pair in zip(axes.flat, chosen):
        arrays, _ = load_arrays(folder / f"{pair.name.replace('/', '__')}.npz")
        faces = read_surface(pair.prediction)[1]
        seen = arrays["vertices"] @ _upright(read_landmarks(pair.scan_landmarks, read_surface(pair.scan)[0]))
        corners, values = seen[faces], arrays["signed_mm"][faces].mean(axis=1)
        front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0.0
        order = np.flatnonzero(front)[np.argsort(corners[front][:, :, 2].mean(axis=1))]
        drawn = PolyCollection(
            list(corners[order][:, :, :2]), array=np.ma.masked_invalid(values[order]), cmap="coolwarm",
            clim=(-SATURATED_MM, SATURATED_MM), edgecolors="face", linewidths=0.2,
        )  # fmt: skip
        drawn.get_cmap().set_bad("0.85")
        axis.add_collection(drawn)
        axis.autoscale()
        axis.set_aspect("equal")
        axis.set_title(pair.name, fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="prediction outside the scan, mm")
    return _png(figure)


def _upright(landmarks: np.ndarray) -> np.ndarray:
    """Columns: the subject's left, up, and out of the face, from the scan's landmarks."""
    by_name = dict(zip(LANDMARKS, landmarks))
    left = by_name["left_eye_outer"] - by_name["right_eye_outer"]
    mouth = 0.5 * (by_name["mouth_left"] + by_name["mouth_right"])
    up = 0.5 * (by_name["left_eye_outer"] + by_name["right_eye_outer"]) - mouth
    left /= np.linalg.norm(left)
    up -= (up @ left) * left
    up /= np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    return buffer.getvalue()


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


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    """Whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


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
    import trimesh

    from digitaltwin.head import landmark_points, load_head, load_subjects, neutral_shape
    from digitaltwin.head.markup import ALIGNMENT

    head, subjects = load_head(), load_subjects()
    predictions, scans = make_folder(folder / "predictions"), make_folder(folder / "scans")
    chosen = np.flatnonzero(np.asarray(subjects.test))[:: max(1, int(np.sum(np.asarray(subjects.test))) // 8)][:8]

    def write(place: Path, vertices: Any) -> None:
        mesh = trimesh.Trimesh(np.asarray(vertices), np.asarray(head.faces), process=False)
        write_bytes(place, cast(bytes, mesh.export(file_type="ply")))
        points = np.asarray(landmark_points(head, jnp.asarray(vertices)))[ALIGNMENT]
        write_csv(place.with_suffix(".csv"), [[name, *map(float, p)] for name, p in zip(LANDMARKS, points)])

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
