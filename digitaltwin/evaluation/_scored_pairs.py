"""Scores of predictions, kept in a folder and found there again, and what is drawn and written of them.

The parts that the commands which score share: :mod:`experiments.evaluate`, :mod:`experiments.accuracy`.
"""

import csv
import io
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh
from jaxtyping import Float
from numpy.typing import ArrayLike
from tqdm import tqdm

from digitaltwin.evaluation import (
    LANDMARKS,
    Complexity,
    Pair,
    PairErrors,
    ProtocolConfig,
    evaluate_pair,
    read_landmarks,
)
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io._files import write_bytes
from digitaltwin.io.meshes import read_surface
from experiments.plotting import Axes, Figure, PolyCollection, colormaps, plt

SATURATED_MM = 5.0
"""Where the heat maps' colours end; the paper's."""


def score(pair: Pair, config: ProtocolConfig, folder: Path) -> tuple[PairErrors, Complexity]:
    """Score a prediction, or read what an earlier run has found."""
    path = score_file(pair, folder)
    files = (pair.prediction, pair.prediction_landmarks, pair.scan, pair.scan_landmarks)
    settings: dict[str, Any] = {
        "config": asdict(config),
        "files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    }
    if path.exists():
        arrays, found = load_arrays(path)
        if _as_json(found.get("settings")) == _as_json(settings):
            return (
                PairErrors(*(arrays[name] for name in PairErrors._fields)),
                Complexity(*(arrays[f"mesh_{name}"] for name in Complexity._fields)),
            )
    scored = evaluate_pair(pair, config)
    vertices, signed, scan = scored.comparison.vertices, scored.comparison.signed_mm, scored.comparison.scan_mm
    heat = {"vertices": vertices, "signed_mm": signed, "scan_mm": scan[np.isfinite(scan)]}
    heat = {name: values.astype(np.float32) for name, values in heat.items()}
    counts = {f"mesh_{name}": values for name, values in scored.complexity._asdict().items()}
    arrays = {**scored.errors._asdict(), **counts, **heat}
    save_arrays(path, arrays, {"settings": settings})
    return scored.errors, scored.complexity


def score_file(pair: Pair, folder: Path) -> Path:
    """Where :func:`score` keeps what it found: errors and complexity a crop, and the heat map at the largest."""
    return folder / f"{pair.name.replace('/', '__')}.npz"


def _as_json(value: Any) -> Any:
    """Tuples as the lists they come back as."""
    if isinstance(value, dict):
        return {key: _as_json(part) for key, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value


def score_all(
    pairs: list[Pair], config: ProtocolConfig, folder: Path, executor: Executor
) -> list[tuple[PairErrors, Complexity]]:
    """All of them, side by side; whichever cannot be used ends the run, what was done before is kept."""
    jobs = executor.map(partial(score, config=config, folder=folder), pairs)
    return list(tqdm(jobs, total=len(pairs), desc="evaluate", unit=" predictions"))


def draw_heat_map(axis: Axes, pair: Pair, config: ProtocolConfig, folder: Path) -> PolyCollection:
    """One prediction from the front, coloured by how far it stands out of the scan.

    Args:
        axis: what is drawn on.
        pair: the prediction, and the scan that says where the front is.
        config: of :func:`score`; of its landmarks, those of eyes and mouth are used.
        folder: of :func:`score`.

    Returns:
        What the colour bar needs.
    """
    arrays, _ = load_arrays(score_file(pair, folder))
    faces = read_surface(pair.prediction)[1]
    landmarks = read_landmarks(pair.scan_landmarks, read_surface(pair.scan)[0], names=config.landmarks)
    seen = arrays["vertices"] @ _upright(dict(zip(config.landmarks, landmarks)))
    corners, values = seen[faces], arrays["signed_mm"][faces].mean(axis=1)
    front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0.0
    order = np.flatnonzero(front)[np.argsort(corners[front][:, :, 2].mean(axis=1))]
    drawn = PolyCollection(
        list(corners[order][:, :, :2]), array=np.ma.masked_invalid(values[order]),
        cmap=colormaps["coolwarm"].with_extremes(bad="0.85"),
        clim=(-SATURATED_MM, SATURATED_MM), edgecolors="face", linewidths=0.2,
    )  # fmt: skip
    axis.add_collection(drawn)
    axis.autoscale()
    axis.set_aspect("equal")
    return drawn


def _upright(by_name: dict[str, np.ndarray]) -> np.ndarray:
    """Columns: the subject's left, up, and out of the face, from the scan's landmarks."""
    left = by_name["left_eye_outer"] - by_name["right_eye_outer"]
    mouth = 0.5 * (by_name["mouth_left"] + by_name["mouth_right"])
    up = 0.5 * (by_name["left_eye_outer"] + by_name["right_eye_outer"]) - mouth
    left /= np.linalg.norm(left)
    up -= (up @ left) * left
    up /= np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def png(figure: Figure) -> bytes:
    """A figure as a file's content; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    """Whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_surface(path: Path, vertices: ArrayLike, faces: ArrayLike, landmarks: Float[np.ndarray, "7 3"]) -> None:
    """A mesh as PLY, and beside it a table of its seven landmarks, as :func:`digitaltwin.evaluation.find_pairs` asks.

    The mesh comes last: where it stands, both do.
    """
    write_csv(path.with_suffix(".csv"), [[name, *map(float, point)] for name, point in zip(LANDMARKS, landmarks)])
    mesh = trimesh.Trimesh(np.asarray(vertices), np.asarray(faces), process=False)
    write_bytes(path, cast(bytes, mesh.export(file_type="ply")))
