"""The folder of ``python -m experiments.accuracy``: pictures, avatars, guesses and scores, made where they are missing.

Without its flags, so that tests and other programs may call it.
"""

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
from digitaltwin.avatar import make_workshop
from digitaltwin.head import HeadModel, Subjects, landmark_points, load_head, load_subjects, neutral_shape
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import write_image
from digitaltwin.io._files import make_folder, write_bytes, write_json
from digitaltwin.perception import load_perception
from digitaltwin.synthesis import SceneConfig, SubjectAppearance
from digitaltwin.types import InputError
from experiments.causes import fit_steps, look
from experiments.likeness import (
    BASELINES,
    BASIS,
    CROP_MM,
    CounterpartErrors,
    as_json,
    draw_sheet,
    rows_of_scores,
    score_counterparts,
    score_sizes,
    write_causes,
    write_tables,
)
from experiments.scores import write_csv, write_surface
from experiments.sitters import (
    Shot,
    Sitter,
    choose_subjects,
    frame_subject,
    mean_of_kin,
    seat_scan,
    seat_subject,
    shoot_scan,
    shoot_subject,
    subject_name,
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
    """Take the pictures, make the avatars, score them, write everything; what the folder holds is not made anew.

    Args:
        out: the folder; it exists.
        config: of the pictures, their number included.
        views: some of :data:`experiments.sitters.VIEWS`.
        crops_mm: distances from the nose tip, :data:`experiments.likeness.CROP_MM` among them.
        only_subjects: whether the scan and the causes are left out.
        executor: what scores side by side.

    Returns:
        The tables.

    Raises:
        InputError: the folder was begun with another config.
    """
    check_settings(out, config)
    head, subjects = load_head(), load_subjects()
    sitters, shoot = seat(head, subjects, config, with_scan=not only_subjects)
    for sitter in sitters:
        write_guesses(head, subjects, sitter, out)
    make_avatars(head, sitters, shoot, views, out)
    scores = score_sizes(out, sitters, views, crops_mm, executor)
    counterparts = score_counterparts(head, out, sitters, (*views, *BASELINES, BASIS))
    causes = {} if only_subjects else find_causes(head, subjects, config, out, views)
    reports = read_reports(out, sitters, views)
    refused = {
        f"{name}-{view}": report["refused"]
        for name, of_views in reports.items()
        for view, report in of_views.items()
        if "refused" in report
    }
    tables = write_tables(scores, counterparts, crops_mm, views, refused) + write_causes(causes)
    write_bytes(out / "accuracy.md", tables.encode())
    write_csv(out / "accuracy.csv", rows_of_scores(scores, sitters, crops_mm))
    write_json(out / "accuracy.json", as_json(scores, counterparts, sitters, crops_mm, reports, causes))
    crop = crops_mm.index(CROP_MM)
    write_bytes(out / "accuracy.png", draw_sheet(out, sitters, scores, reports, views, crop))
    return tables


def check_settings(out: Path, config: SceneConfig) -> None:
    """Note the pictures' settings in the folder, or see that they are those it was begun with."""
    path, wanted = out / "settings.json", asdict(config)
    wanted.pop("count")  # more people are a continuation
    if path.exists():
        found = json.loads(path.read_text())
        if found != wanted:
            raise InputError(f"{path}: the folder was begun with {found}, not {wanted}; name another one.")
    write_json(path, wanted)


def seat(
    head: HeadModel, subjects: Subjects, config: SceneConfig, *, with_scan: bool
) -> tuple[list[Sitter], Callable[[int, str], Shot]]:
    """The sitters, and a camera: what takes the picture of one of them, by number and view."""
    chosen = [int(subject) for subject in choose_subjects(subjects, config.count)]
    sitters = [seat_subject(head, subjects, subject, number, config) for number, subject in enumerate(chosen)]
    dressers: list[SubjectAppearance] = []  # made for the first picture; where all are there, never

    def shoot(number: int, view: str) -> Shot:
        if number == len(chosen):
            return shoot_scan(head, view)
        if not dressers:
            dressers.append(SubjectAppearance(head, subjects))
        return shoot_subject(head, subjects, dressers[0], chosen[number], number, view, config)

    return sitters + [seat_scan()] * with_scan, shoot


def write_guesses(head: HeadModel, subjects: Subjects, sitter: Sitter, folder: Path) -> None:
    """The scan to be scored on, and the predictions that need no picture, unless they are there."""
    scan = make_folder(folder / "scans") / f"{sitter.name}.ply"
    if not scan.exists():
        write_surface(scan, sitter.vertices, sitter.faces, sitter.landmarks)
    group = head.group_names.index(sitter.group)
    guesses = {
        "mean": head.mean,
        "group": neutral_shape(head, head.group_identity[group]),
        "kin": mean_of_kin(head, subjects, sitter.group),
        BASIS: sitter.within,
    }
    for name, vertices in guesses.items():
        if vertices is not None:
            _write_prediction(head, folder / "predictions" / sitter.name / f"{name}.ply", vertices)


def _write_prediction(head: HeadModel, path: Path, vertices: Array | np.ndarray) -> None:
    if not path.exists():
        make_folder(path.parent)
        landmarks = np.asarray(landmark_points(head, jnp.asarray(vertices)))[ALIGNMENT]
        write_surface(path, vertices, head.faces, landmarks)


def make_avatars(
    head: HeadModel, sitters: Sequence[Sitter], shoot: Callable[[int, str], Shot], views: Sequence[str], folder: Path
) -> None:
    """Pictures, avatars and their reports, unless they are there.

    A picture that the chain refuses has a report that says why, and no prediction.
    """
    pictures, reports = make_folder(folder / "pictures"), make_folder(folder / "reports")
    workshop = None
    for number, sitter in enumerate(tqdm(sitters, desc="avatars", unit=" people")):
        for view in views:
            report = reports / f"{sitter.name}-{view}.json"
            if report.exists():
                continue
            shot = shoot(number, view)
            picture = pictures / f"{sitter.name}-{view}.png"
            write_image(picture, shot.pixels)
            truth = {
                "angles_deg": list(shot.angles_deg),
                "focal_px": float(shot.camera.focal_px),
                "distance_mm": float(shot.camera.translation[2]),
            }
            workshop = make_workshop(head, texture_size=512) if workshop is None else workshop
            try:
                avatar = create_avatar(picture, workshop=workshop)
            except InputError as error:
                write_json(report, {"truth": truth, "refused": str(error)})
                continue
            _write_prediction(head, folder / "predictions" / sitter.name / f"{view}.ply", avatar.neutral)
            write_json(report, {"truth": truth, "report": avatar.report})  # last: where it stands, all do


def find_causes(
    head: HeadModel, subjects: Subjects, config: SceneConfig, folder: Path, views: Sequence[str]
) -> dict[str, dict[str, list[CounterpartErrors]]]:
    """By view, the errors of every step of :mod:`experiments.causes` on the subjects' pictures that were not refused.

    Fits of all pictures at once take less than a minute: they are made anew each time.
    """
    perception, table = load_perception(), {}
    for view in views:
        seen = []
        for number, subject in enumerate(map(int, choose_subjects(subjects, config.count))):
            name = f"{subject_name(subject)}-{view}"
            if "refused" not in json.loads((folder / "reports" / f"{name}.json").read_text()):
                scene = frame_subject(head, subjects, subject, number, view, config)
                seen.append(look(head, perception, scene, folder / "pictures" / f"{name}.png"))
        if seen:
            table[view] = fit_steps(head, seen)
    return table


def read_reports(folder: Path, sitters: Sequence[Sitter], views: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By person and view: true and found camera, residuals, or why the picture was refused."""
    table: dict[str, dict[str, Any]] = {}
    for sitter in sitters:
        for view in views:
            found = json.loads((folder / "reports" / f"{sitter.name}-{view}.json").read_text())
            table.setdefault(sitter.name, {})[view] = found
    return table
