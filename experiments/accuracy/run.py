"""The command's folder: pictures, avatars, baselines and scores, made where they are missing."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from digitaltwin import create_avatar
from digitaltwin.avatar import make_pipeline
from digitaltwin.evaluation._accuracy import BASELINES, BASIS, CROP_MM, summarise, write_tables
from digitaltwin.evaluation._cases import (
    EvaluationSubject,
    Render,
    choose_subjects,
    make_scan,
    make_subject,
    render_scan,
    render_subject,
    subject_name,
    subject_scene,
    training_mean,
    views_of,
)
from digitaltwin.evaluation._scored_pairs import write_surface
from digitaltwin.evaluation._statistics import CorrespondenceErrors
from digitaltwin.head import HeadModel, landmark_points, load_head, load_subjects, neutral_shape
from digitaltwin.head._population import Subjects
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io._files import format_json, make_folder, write_bytes, write_csv, write_json
from digitaltwin.io._images import write_image
from digitaltwin.io._resumable import ResumableJob
from digitaltwin.perception import load_perception
from digitaltwin.synthesis import SceneConfig, SubjectAppearance
from digitaltwin.synthesis._config import FORMER_SETTINGS
from digitaltwin.types import InputError
from experiments.accuracy.ablation import detect, fit_steps
from experiments.accuracy.figures import draw_sheet
from experiments.accuracy.metrics import (
    compare_neutrals,
    rows_of_correspondences,
    rows_of_scores,
    score_correspondences,
    score_predictions,
)


def measure(
    out: Path,
    config: SceneConfig,
    *,
    views: Sequence[str],
    crops_mm: tuple[float, ...],
    only_subjects: bool,
    executor: Executor,
) -> str:
    """Render the pictures, make the avatars, score them, write everything; what the folder holds is not made anew.

    Args:
        out: The folder; it exists.
        config: Configuration of the pictures, their number included.
        views: Some of :data:`digitaltwin.evaluation._cases.VIEWS`.
        crops_mm: Distances from the nose tip, :data:`digitaltwin.evaluation._accuracy.CROP_MM` among them.
        only_subjects: Whether the scan and the error ablation are left out.
        executor: Executor of the scores.

    Returns:
        The tables.

    Raises:
        InputError: The folder was begun with another configuration.
    """
    with resumable_job(out, config).begin():
        head, subjects = load_head(), load_subjects()
        people, take = make_subjects(head, subjects, config, with_scan=not only_subjects)
        for person in people:
            write_baselines(head, subjects, person, out)
        make_avatars(head, people, take, views, out)
        scores = score_predictions(out, people, views, crops_mm, executor)
        correspondences = score_correspondences(head, out, people, (*views, *BASELINES, BASIS))
        ablation = {} if only_subjects else ablate(head, subjects, config, out, views)
        reports = read_reports(out, people, views)
        refused = {
            f"{name}-{view}": report["refused"]
            for name, of_views in reports.items()
            for view, report in of_views.items()
            if "refused" in report
        }
        neutrals = compare_neutrals(head, out, people, views)
        summary = summarise(scores, correspondences, crops_mm, views, ablation, refused, neutrals)
        tables = write_tables(summary)
        write_bytes(out / "accuracy.md", tables.encode())
        write_csv(out / "accuracy.csv", rows_of_scores(scores, people, crops_mm))
        write_csv(out / "correspondences.csv", rows_of_correspondences(correspondences))
        write_bytes(out / "accuracy.json", format_json(summary).encode())
        crop = crops_mm.index(CROP_MM)
        write_bytes(out / "accuracy.png", draw_sheet(out, people, scores, reports, views, crop))
        return tables


def resumable_job(out: Path, config: SceneConfig) -> ResumableJob:
    """Return the folder's job, whose settings are those of the pictures; a folder may have them under former names."""
    path, settings = out / "settings.json", asdict(config)
    settings.pop("count")  # more people are a continuation
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        renamed = {FORMER_SETTINGS.get(name, name): value for name, value in found.items()}
        if renamed != found:
            write_json(path, renamed)
    return ResumableJob(out, settings)


def make_subjects(
    head: HeadModel, subjects: Subjects, config: SceneConfig, *, with_scan: bool
) -> tuple[list[EvaluationSubject], Callable[[int, str], Render]]:
    """Make the evaluation subjects, and a function that renders one of them, by number and view."""
    chosen = [int(subject) for subject in choose_subjects(subjects, config.count)]
    people = [make_subject(head, subjects, subject, number, config) for number, subject in enumerate(chosen)]
    appearances: list[SubjectAppearance] = []  # made for the first picture; where all are there, never

    def take(number: int, view: str) -> Render:
        if number == len(chosen):
            return render_scan(head, view)
        if not appearances:
            appearances.append(SubjectAppearance(head, subjects))
        return render_subject(head, subjects, appearances[0], chosen[number], number, view, config)

    return people + [make_scan()] * with_scan, take


def write_baselines(head: HeadModel, subjects: Subjects, subject: EvaluationSubject, folder: Path) -> None:
    """Write the true shape to be scored on, and the predictions that need no picture, unless they are there."""
    scan = make_folder(folder / "scans") / f"{subject.name}.ply"
    if not scan.exists():
        write_surface(scan, subject.vertices, subject.faces, subject.landmarks)
    group = head.group_names.index(subject.group)
    baselines = {
        "mean": head.mean,
        "group": neutral_shape(head, head.group_identity[group]),
        "training": training_mean(head, subjects, subject.group),
        BASIS: subject.within,
    }
    for name, vertices in baselines.items():
        if vertices is not None:
            _write_prediction(head, folder / "predictions" / subject.name / f"{name}.ply", vertices)


def _write_prediction(head: HeadModel, path: Path, vertices: Array | np.ndarray) -> None:
    if not path.exists():
        make_folder(path.parent)
        landmarks = np.asarray(landmark_points(head, jnp.asarray(vertices)))[ALIGNMENT]
        write_surface(path, vertices, head.faces, landmarks)


def make_avatars(
    head: HeadModel,
    people: Sequence[EvaluationSubject],
    take: Callable[[int, str], Render],
    views: Sequence[str],
    folder: Path,
) -> None:
    """Make pictures, avatars and their reports, unless they are there.

    A picture that the chain refuses has a report that says why, and no prediction.
    """
    pictures, reports = make_folder(folder / "pictures"), make_folder(folder / "reports")
    pipeline = None
    for number, subject in enumerate(tqdm(people, desc="avatars", unit=" people", disable=None)):
        for view in views_of(subject.name, views):
            report = reports / f"{subject.name}-{view}.json"
            if report.exists():
                continue
            render = take(number, view)
            picture = pictures / f"{subject.name}-{view}.png"
            write_image(picture, render.pixels)
            truth = {
                "angles_deg": list(render.angles_deg),
                "focal_px": float(render.camera.focal_px),
                "distance_mm": float(render.camera.translation[2]),
            }
            pipeline = make_pipeline(head, texture_size=512) if pipeline is None else pipeline
            try:
                avatar = create_avatar(picture, pipeline=pipeline)
            except InputError as error:
                write_json(report, {"truth": truth, "refused": str(error)})
                continue
            _write_prediction(head, folder / "predictions" / subject.name / f"{view}.ply", avatar.neutral)
            write_json(report, {"truth": truth, "report": avatar.report})  # last: where it stands, all do


def ablate(
    head: HeadModel, subjects: Subjects, config: SceneConfig, folder: Path, views: Sequence[str]
) -> dict[str, dict[str, list[CorrespondenceErrors]]]:
    """Fit the subjects' pictures that were not refused with oracle inputs: errors by view and step.

    Fits of all pictures at once take less than a minute: they are made anew each time.
    """
    perception, table = load_perception(), {}
    for view in (view for view in views if view != "smiling"):  # oracle inputs are of faces without expression
        seen = []
        for number, subject in enumerate(map(int, choose_subjects(subjects, config.count))):
            name = f"{subject_name(subject)}-{view}"
            if "refused" not in json.loads((folder / "reports" / f"{name}.json").read_text()):
                scene = subject_scene(head, subjects, subject, number, view, config)
                seen.append(detect(head, perception, scene, folder / "pictures" / f"{name}.png"))
        if seen:
            table[view] = fit_steps(head, seen)
    return table


def read_reports(folder: Path, people: Sequence[EvaluationSubject], views: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the reports by person and view: true camera and the chain's report, or why the picture was refused."""
    table: dict[str, dict[str, Any]] = {}
    for subject in people:
        for view in views_of(subject.name, views):
            found = json.loads((folder / "reports" / f"{subject.name}-{view}.json").read_text())
            table.setdefault(subject.name, {})[view] = found
    return table
