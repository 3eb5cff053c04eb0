"""Errors of predictions, scored side by side in processes, kept in a folder and found there again."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh
from jaxtyping import Float
from numpy.typing import ArrayLike
from tqdm import tqdm

from digitaltwin.evaluation._config import ProtocolConfig
from digitaltwin.evaluation._metrics import Complexity
from digitaltwin.evaluation._protocol import Pair, PairErrors, evaluate_pair
from digitaltwin.io._files import signals_blocked, write_bytes, write_csv
from digitaltwin.io._landmark_files import LANDMARKS
from digitaltwin.io._resumable import ResumableJob


def score_pair(pair: Pair, config: ProtocolConfig, folder: Path) -> tuple[PairErrors, Complexity]:
    """Score a prediction, or read what an earlier run has found.

    Args:
        pair: Prediction and scan.
        config: The protocol.
        folder: Where the scores are kept. Those of files or settings that have changed since are made anew.

    Returns:
        Errors and complexity at each crop.
    """
    job, part = ResumableJob(folder, {}), score_file(pair, folder).name
    files = (pair.prediction, pair.prediction_landmarks, pair.scan, pair.scan_landmarks)
    settings: dict[str, Any] = {
        "config": asdict(config),
        "files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    }
    kept = job.load(part, settings)
    if kept is not None:
        arrays, _ = kept
        return (
            PairErrors(*(arrays[name] for name in PairErrors._fields)),
            Complexity(*(arrays[f"mesh_{name}"] for name in Complexity._fields)),
        )
    scored = evaluate_pair(pair, config)
    vertices, signed, scan = scored.comparison.vertices, scored.comparison.signed_mm, scored.comparison.scan_mm
    heat = {"vertices": vertices, "signed_mm": signed, "scan_mm": scan[np.isfinite(scan)]}
    heat = {name: values.astype(np.float32) for name, values in heat.items()}
    counts = {f"mesh_{name}": values for name, values in scored.complexity._asdict().items()}
    job.save(part, {**scored.errors._asdict(), **counts, **heat}, settings=settings)
    return scored.errors, scored.complexity


def score_file(pair: Pair, folder: Path) -> Path:
    """Name the file of :func:`score_pair`: errors and complexity at each crop, and the heat map at the largest."""
    return folder / f"{pair.name.replace('/', '__')}.npz"


def score_pairs(
    pairs: Sequence[Pair], config: ProtocolConfig, folder: Path, executor: Executor, *, quiet: bool | None = None
) -> list[tuple[PairErrors, Complexity]]:
    """Score many predictions side by side; one that cannot be used ends the run, what was done before is kept.

    Args:
        pairs: Predictions and scans.
        config: The protocol.
        folder: Folder of :func:`score_pair`; held by one run at a time.
        executor: Any executor of :mod:`concurrent.futures`; :func:`worker_pool` makes one.
        quiet: Whether to show no progress; None shows it where stderr is a terminal.

    Returns:
        Errors and complexity of each pair.
    """
    with ResumableJob(folder, {}).begin():
        with signals_blocked(signal.SIGINT):  # a terminal's Ctrl-C goes to the workers too
            results = executor.map(partial(score_pair, config=config, folder=folder), pairs)
        return list(tqdm(results, total=len(pairs), desc="evaluate", unit=" predictions", disable=quiet))


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[Executor]:
    """Give a pool of processes that ends at once where the block raises, an interrupt included."""
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    others = {child.pid for child in multiprocessing.active_children()}
    try:
        yield executor
    except BaseException:
        for child in multiprocessing.active_children():
            if child.pid not in others:
                child.terminate()
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


def write_surface(path: Path, vertices: ArrayLike, faces: ArrayLike, landmarks: Float[np.ndarray, "7 3"]) -> None:
    """Write a mesh as PLY, and beside it a table of its seven landmarks, as :func:`find_pairs` asks.

    The mesh comes last: where it stands, both do.
    """
    write_csv(path.with_suffix(".csv"), [[name, *map(float, point)] for name, point in zip(LANDMARKS, landmarks)])
    mesh = trimesh.Trimesh(np.asarray(vertices), np.asarray(faces), process=False)
    write_bytes(path, cast(bytes, mesh.export(file_type="ply")))
