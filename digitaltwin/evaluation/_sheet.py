"""The sheet of an evaluation: table, curves over the crop, bars by group, heat maps, one page.

matplotlib draws it, which is no dependency of the package: it is imported where something is drawn.
"""

import html
import io
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from digitaltwin.evaluation._config import ProtocolConfig
from digitaltwin.evaluation._layouts import find_now_pairs, find_stirling_pairs
from digitaltwin.evaluation._metrics import Complexity
from digitaltwin.evaluation._protocol import (
    GroupErrors,
    Pair,
    PairErrors,
    find_pairs,
    group_complexities,
    group_errors,
)
from digitaltwin.evaluation._scored_pairs import score_file, score_pairs, worker_pool, write_surface
from digitaltwin.io import load_arrays
from digitaltwin.io._files import make_folder, write_bytes, write_csv
from digitaltwin.io._landmark_files import read_landmarks
from digitaltwin.io.meshes import read_surface
from digitaltwin.types import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

SATURATED_MM = 5.0
"""Where the heat maps' colours end; the paper's."""
SHOWN = 24
"""Heat maps on the sheet."""
NAMES = {"armse": "ARMSE", "median": "median of the scan's distances", "scan_to_prediction": "RMSE of the scan"}
"""What axes call the errors that layouts average."""
LAYOUTS = ("folders", "now", "stirling")


class Sheet(NamedTuple):
    """What :func:`evaluate_folders` found."""

    rows: list[list[Any]]
    """table.csv: a heading, then one row for each group and crop."""
    together: str
    """The distances of all scans' vertices together, in a sentence."""


def pyplot() -> ModuleType:
    """Import pyplot, to draw into files.

    Raises:
        InputError: It is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("matplotlib: is not installed, and this draws with it; pip install matplotlib.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def find_layout(
    layout: str, predictions: Path | str, scans: Path | str, *, groups: Path | str | None, images: Path | str | None
) -> tuple[list[Pair], ProtocolConfig, str]:
    """Find the pairs of a layout, its rules, and the error that its tables average.

    Args:
        layout: One of :data:`LAYOUTS`.
        predictions: Folder of the predictions.
        scans: Folder of the scans, or of the challenge's data.
        groups: File of rows ``NAME,group``, for the layout "folders".
        images: The list of NoW's photos.

    Raises:
        InputError: The folders do not hold what the layout says.
    """
    if layout == "now":
        return find_now_pairs(predictions, scans, images=images), ProtocolConfig.now(), "median"
    if layout == "stirling":
        return find_stirling_pairs(predictions, scans), ProtocolConfig.fg2018(), "scan_to_prediction"
    return find_pairs(predictions, scans, groups=groups), ProtocolConfig(), "armse"


def evaluate_folders(
    out: Path,
    pairs: list[Pair],
    config: ProtocolConfig,
    measure: str,
    *,
    workers: int,
    quiet: bool | None = None,
) -> Sheet:
    """Score all pairs and write errors.csv, table.csv, curves.png, groups.png, heatmaps.png and index.html.

    Args:
        out: Folder for the results. Scores that an earlier run left in ``out/scored`` are used.
        pairs: Predictions and scans.
        config: The protocol.
        measure: The error that the table averages, a field of :class:`PairErrors`.
        workers: Processes side by side.
        quiet: Whether to show no progress; None shows it where stderr is a terminal.

    Returns:
        The table, ready to be printed.

    Raises:
        InputError: A file cannot be used, or matplotlib is not installed.
    """
    scored = make_folder(out / "scored")
    with worker_pool(workers) as executor:
        found = score_pairs(pairs, config, scored, executor, quiet=quiet)
    errors, complexities = [errors for errors, _ in found], [complexity for _, complexity in found]
    table = group_errors(pairs, errors, measure=measure)
    rows = rows_of_table(table, group_complexities(pairs, complexities), config, measure)
    distances = ", ".join(f"{name} {value:.3f} mm" for name, value in pooled(pairs, scored).items())
    together = f"All scans' distances together: {distances}."
    write_csv(out / "errors.csv", rows_of_errors(pairs, errors, complexities, config))
    write_csv(out / "table.csv", rows)
    write_bytes(out / "curves.png", draw_curves(table, config, measure))
    write_bytes(out / "groups.png", draw_groups(table, config, measure))
    write_bytes(out / "heatmaps.png", draw_heat_maps(pairs, config, scored))
    write_bytes(out / "index.html", page(rows, config, len(pairs), together))
    return Sheet(rows, together)


def draw_curves(table: dict[str, GroupErrors], config: ProtocolConfig, measure: str) -> bytes:
    """Draw the error over the crop, one curve for each group."""
    plt = pyplot()
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
    """Draw the error of every group at the largest crop."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(1.2 + 1.1 * len(table), 4), layout="constrained")
    means, margins = (np.array([getattr(group, part)[-1] for group in table.values()]) for part in ("mean", "margin"))
    axis.bar(list(table), means, yerr=margins, capsize=4, color="#2b6cb0")
    within = f"within {config.crop_names[-1]} mm of the nose tip"
    axis.set(ylabel=f"{NAMES[measure]}, mm", title=within if config.face_factor is None else "within the face")
    axis.tick_params(axis="x", rotation=30)
    return png(figure)


def draw_heat_maps(pairs: list[Pair], config: ProtocolConfig, folder: Path) -> bytes:
    """Draw predictions from the front, coloured by how far they stand out of the scan."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int))]
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    plt = pyplot()
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
    """Return the rows of errors.csv: one for each prediction and crop."""
    heading = ["name", "group", "crop_mm", *(f"{name}_mm" for name in PairErrors._fields), *Complexity._fields]
    return [heading] + [
        [pair.name, pair.group, crop, *(f"{values[i]:.4f}" for values in error), *_counts(complexity, i)]
        for pair, error, complexity in zip(pairs, errors, complexities)
        for i, crop in enumerate(config.crop_names)
    ]


def rows_of_table(
    table: dict[str, GroupErrors], complexities: Mapping[str, Complexity], config: ProtocolConfig, measure: str
) -> list[list[Any]]:
    """Return the rows of table.csv: one for each group and crop."""
    return [["group", "subjects", "crop_mm", f"{measure}_mm", "margin_mm", *Complexity._fields]] + [
        [name, group.subjects, crop, f"{group.mean[i]:.3f}", f"{group.margin[i]:.3f}", *_counts(complexities[name], i)]
        for name, group in table.items()
        for i, crop in enumerate(config.crop_names)
    ]


def _counts(complexity: Complexity, crop: int) -> list[str]:
    """Format numbers of vertices and faces, and the edges' length, at one crop."""
    *counts, edge_mm = (values[crop] for values in complexity)
    return [*(f"{count:.0f}" for count in counts), f"{edge_mm:.2f}"]


def pooled(pairs: list[Pair], folder: Path) -> dict[str, float]:
    """Compute statistics [mm] of all scans' distances together, at the largest crop: what NoW publishes."""
    distances = np.concatenate([load_arrays(score_file(pair, folder))[0]["scan_mm"] for pair in pairs])
    return {"median": float(np.median(distances)), "mean": float(distances.mean()), "deviation": float(distances.std())}


def page(rows: list[list[Any]], config: ProtocolConfig, count: int, together: str) -> bytes:
    """Write the text of index.html."""
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
    """Make folders in the layout: eight test subjects as scans, the mean head as the prediction of each."""
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


def draw_heat_map(axis: "Axes", pair: Pair, config: ProtocolConfig, folder: Path) -> "PolyCollection":
    """Draw one prediction from the front, coloured by how far it stands out of the scan.

    Args:
        axis: What is drawn on.
        pair: The prediction, and the scan that says where the front is.
        config: Configuration of :func:`score_pair`; of its landmarks, those of eyes and mouth are used.
        folder: Folder of :func:`score_pair`.

    Returns:
        What the colour bar needs.
    """
    plt = pyplot()
    from matplotlib.collections import PolyCollection

    arrays, _ = load_arrays(score_file(pair, folder))
    faces = read_surface(pair.prediction)[1]
    landmarks = read_landmarks(pair.scan_landmarks, read_surface(pair.scan)[0], names=config.landmarks)
    seen = arrays["vertices"] @ _upright(dict(zip(config.landmarks, landmarks)))
    corners, values = seen[faces], arrays["signed_mm"][faces].mean(axis=1)
    front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0.0
    order = np.flatnonzero(front)[np.argsort(corners[front][:, :, 2].mean(axis=1))]
    drawn = PolyCollection(
        list(corners[order][:, :, :2]), array=np.ma.masked_invalid(values[order]),
        cmap=plt.colormaps["coolwarm"].with_extremes(bad="0.85"),
        clim=(-SATURATED_MM, SATURATED_MM), edgecolors="face", linewidths=0.2,
    )  # fmt: skip
    axis.add_collection(drawn)
    axis.autoscale()
    axis.set_aspect("equal")
    return drawn


def _upright(by_name: dict[str, np.ndarray]) -> np.ndarray:
    """Return the subject's left, up, and out of the face as columns, from the scan's landmarks."""
    left = by_name["left_eye_outer"] - by_name["right_eye_outer"]
    mouth = 0.5 * (by_name["mouth_left"] + by_name["mouth_right"])
    up = 0.5 * (by_name["left_eye_outer"] + by_name["right_eye_outer"]) - mouth
    left /= np.linalg.norm(left)
    up -= (up @ left) * left
    up /= np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def png(figure: "Figure") -> bytes:
    """Encode a figure as a file's content; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    pyplot().close(figure)
    return buffer.getvalue()
