"""Errors of predictions: by the protocol, and between corresponding points."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from digitaltwin.evaluation import ProtocolConfig, find_pairs
from digitaltwin.evaluation._accuracy import ALIGNMENTS, BASELINES, BASIS, Correspondences, Scores
from digitaltwin.evaluation._cases import EvaluationSubject
from digitaltwin.evaluation._protocol import Pair, PairErrors
from digitaltwin.evaluation._scored_pairs import score_pairs
from digitaltwin.evaluation._statistics import CorrespondenceErrors, correspondence_errors
from digitaltwin.geometry import IcpConfig, procrustes_alignment
from digitaltwin.head import HeadModel
from digitaltwin.io._files import make_folder, write_csv
from digitaltwin.io.meshes import read_surface


def score_predictions(
    folder: Path,
    subjects: Sequence[EvaluationSubject],
    views: Sequence[str],
    crops_mm: tuple[float, ...],
    executor: Executor,
) -> Scores:
    """Score every prediction of the subjects by the protocol, after rigid and after similarity alignment."""
    write_csv(folder / "groups.csv", [[subject.name, subject.group] for subject in subjects])
    names = {subject.name for subject in subjects}
    kinds = (*views, *BASELINES, BASIS)
    pairs = [pair for pair in all_pairs(folder) if pair.subject in names and _prediction(pair) in kinds]
    scores: Scores = {}
    for alignment, with_scale in ALIGNMENTS.items():
        config = ProtocolConfig(crops_mm=crops_mm, icp=IcpConfig(with_scale=with_scale))
        scored = score_pairs(pairs, config, make_folder(folder / alignment), executor)
        table = scores.setdefault(alignment, {subject.name: {} for subject in subjects})
        for pair, (error, _) in zip(pairs, scored):
            table[pair.subject][_prediction(pair)] = error
    return scores


def all_pairs(folder: Path) -> list[Pair]:
    """Find the pairs of predictions and true shapes in a folder of the command."""
    return find_pairs(folder / "predictions", folder / "scans")


def _prediction(pair: Pair) -> str:
    return pair.name.split("/")[1]


def score_correspondences(
    head: HeadModel, folder: Path, subjects: Sequence[EvaluationSubject], predictions: Sequence[str]
) -> Correspondences:
    """Measure errors between corresponding points, for the subjects who have the head's topology."""
    table: Correspondences = {}
    for subject in subjects:
        if subject.within is None:
            continue
        for name in predictions:
            path = folder / "predictions" / subject.name / f"{name}.ply"
            if path.exists():
                found, true = jnp.asarray(read_surface(path)[0], jnp.float32), jnp.asarray(subject.vertices)
                errors = correspondence_errors(found, true, head.regions.face)
                table.setdefault(subject.name, {})[name] = CorrespondenceErrors(*map(float, errors))
    return table


def rows_of_scores(scores: Scores, subjects: Sequence[EvaluationSubject], crops_mm: Sequence[float]) -> list[list[Any]]:
    """Return the rows of accuracy.csv: every error by person, prediction, alignment and crop."""
    headings = ["person", "group", "prediction", "alignment", "crop_mm"]
    rows: list[list[Any]] = [[*headings, *(f"{field}_mm" for field in PairErrors._fields)]]
    for alignment, people in scores.items():
        for subject in subjects:
            for name, errors in people[subject.name].items():
                for i, crop in enumerate(crops_mm):
                    numbers = [f"{values[i]:.4f}" for values in errors]
                    rows.append([subject.name, subject.group, name, alignment, f"{crop:g}", *numbers])
    return rows


def rows_of_correspondences(correspondences: Correspondences) -> list[list[Any]]:
    """Return the rows of correspondences.csv: every error between corresponding points by person and prediction."""
    rows: list[list[Any]] = [["person", "prediction", *CorrespondenceErrors._fields]]
    for person, predictions in correspondences.items():
        rows += [[person, name, *(f"{value:.4f}" for value in errors)] for name, errors in predictions.items()]
    return rows


def compare_neutrals(
    head: HeadModel, folder: Path, subjects: Sequence[EvaluationSubject], views: Sequence[str]
) -> dict[str, list[float]]:
    """Measure how far a person's neutral skins of the first view and of each other one lie apart [mm].

    Mean distance of the face's vertices, the one moved onto the other and brought to its size: what a picture turned or
    smiling tells of the same person.
    """
    face, table = np.asarray(head.regions.face), {}
    for subject in subjects:
        paths = {view: folder / "predictions" / subject.name / f"{view}.ply" for view in views}
        skins = {view: read_surface(path)[0][face] for view, path in paths.items() if path.exists()}
        if views[0] not in skins or subject.within is None:
            continue
        for view in views[1:]:
            if view in skins:
                move = procrustes_alignment(skins[view], skins[views[0]], with_scale=True)
                apart = np.linalg.norm(move.apply(skins[view]) - skins[views[0]], axis=1)
                table.setdefault(f"{views[0]} to {view}", []).append(float(apart.mean()))
    return table
