"""Scoring any method's meshes on any scans, from folders.

    scans/NAME.obj            one scan a subject, in millimetres; .ply, .stl, .off, .glb likewise
    scans/NAME.csv            its seven landmarks: a row ``landmark,x,y,z`` for each of LANDMARKS
    predictions/NAME.obj      what a method predicts of that subject, of any topology, turned and placed anyhow;
    predictions/NAME/*.obj    or several, of one photo each
    predictions/NAME.csv      their landmarks likewise; predictions/landmarks.csv serves all that have no own, for
                              methods of one topology: rows ``landmark,vertex``
    groups.csv                rows ``NAME,group``, for instance an ethnicity; without it all are one group

A prediction without a scan, or without landmarks, ends the run before it starts: scores of those that happened to work
are no scores.

Letters: d crops.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from digitaltwin.evaluation.metrics import Comparison, compare_surfaces, root_mean_square
from digitaltwin.geometry.icp import IcpConfig
from digitaltwin.io.files import FilePath
from digitaltwin.io.meshes import FORMATS, read_surface
from digitaltwin.types import InputError

LANDMARKS = (
    "right_eye_outer",
    "right_eye_inner",
    "left_eye_inner",
    "left_eye_outer",
    "nose_tip",
    "mouth_right",
    "mouth_left",
)
"""Left and right are the subject's; the order is that of :data:`digitaltwin.head.markup.ALIGNMENT`."""
NOSE_TIP = LANDMARKS.index("nose_tip")
EVERYBODY = "all"
"""The group of those without one, and of everybody together."""


@dataclass(frozen=True)
class ProtocolConfig:
    """What is measured."""

    crops_mm: tuple[float, ...] = (80.0, 90.0, 95.0, 100.0, 110.0)
    """Distances from the nose tip up to which vertices count; the paper's."""
    by_area: bool = False
    """Whether a vertex counts by its faces' areas."""
    icp: IcpConfig = field(default_factory=IcpConfig)


@dataclass(frozen=True)
class Pair:
    """A prediction and the scan it is scored on."""

    subject: str
    name: str
    """``subject`` or, of several, ``subject/prediction``."""
    group: str
    prediction: Path
    prediction_landmarks: Path
    scan: Path
    scan_landmarks: Path


class PairErrors(NamedTuple):
    """Of one prediction, for each crop [mm]."""

    armse: Float[np.ndarray, " d"]
    prediction_to_scan: Float[np.ndarray, " d"]
    """Root mean square."""
    scan_to_prediction: Float[np.ndarray, " d"]
    median: Float[np.ndarray, " d"]
    """Of the distances of the scan's vertices from the prediction, as NoW has it, ..."""
    mean: Float[np.ndarray, " d"]
    deviation: Float[np.ndarray, " d"]
    """... with their standard deviation."""


class GroupErrors(NamedTuple):
    """Of the subjects of a group, each of whose predictions are averaged first."""

    subjects: int
    mean: Float[np.ndarray, " d"]
    """Of ARMSE [mm]."""
    margin: Float[np.ndarray, " d"]
    """1.96 standard errors of it; NaN of a single subject."""


def find_pairs(predictions: FilePath, scans: FilePath, *, groups: FilePath | None = None) -> list[Pair]:
    """All predictions of a folder, by name, with their scans.

    Args:
        predictions: Folder as above.
        scans: Folder as above.
        groups: File as above.

    Returns:
        The pairs.

    Raises:
        InputError: There are none, a prediction has no scan, or one of both no landmarks or group; names those.
    """
    predictions, scans = Path(predictions), Path(scans)
    found = _meshes(predictions)
    for folder in sorted(path for path in predictions.iterdir() if path.is_dir()) if predictions.is_dir() else ():
        found |= {f"{folder.name}/{name}": path for name, path in _meshes(folder).items()}
    if not found:
        raise InputError(f"{predictions}: holds no meshes ({', '.join(FORMATS)}), nor do its folders.")
    of_subject, belongs = _meshes(scans), {} if groups is None else _read_groups(Path(groups))
    common, pairs, missing = predictions / "landmarks.csv", [], []
    for name, path in sorted(found.items()):
        subject = name.split("/")[0]
        own = path.with_suffix(".csv")
        scan = of_subject.get(subject)
        landmarks = own if own.exists() else common
        if scan is None:
            missing.append(f"{name}: no scan {scans / subject}.*")
        elif not scan.with_suffix(".csv").exists():
            missing.append(f"{name}: no {scan.with_suffix('.csv')}")
        elif not landmarks.exists():
            missing.append(f"{name}: neither {own} nor {common}")
        elif groups is not None and subject not in belongs:
            missing.append(f"{name}: no row in {groups}")
        else:
            group = belongs.get(subject, EVERYBODY)
            pairs.append(Pair(subject, name, group, path, landmarks, scan, scan.with_suffix(".csv")))
    if missing:
        shown = "; ".join(missing[:5]) + (f"; and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"predictions: {len(missing)} of {len(found)} cannot be scored ({shown}).")
    return pairs


def evaluate_pair(pair: Pair, config: ProtocolConfig) -> tuple[PairErrors, Comparison]:
    """Score one prediction.

    Args:
        pair: From :func:`find_pairs`.
        config: What is measured.

    Returns:
        Its errors, and the comparison at the largest crop, for pictures.

    Raises:
        InputError: One of its files cannot be used; names it.
    """
    vertices, faces = read_surface(pair.prediction)
    scan_vertices, scan_faces = read_surface(pair.scan)
    scan_landmarks = read_landmarks(pair.scan_landmarks, scan_vertices)
    landmarks = (read_landmarks(pair.prediction_landmarks, vertices), scan_landmarks)
    rows, last = [], None
    for crop_mm in sorted(config.crops_mm):
        try:
            last = compare_surfaces(
                vertices,
                faces,
                scan_vertices,
                scan_faces,
                landmarks=landmarks,
                nose_tip=scan_landmarks[NOSE_TIP],
                crop_mm=crop_mm,
                icp=config.icp,
            )
        except InputError as error:
            raise InputError(f"{pair.name}, within {crop_mm:g} mm: {error}") from error
        areas = (last.prediction_areas, last.scan_areas) if config.by_area else (None, None)
        there, back = (
            root_mean_square(values, weights) for values, weights in zip((last.prediction_mm, last.scan_mm), areas)
        )
        distances = last.scan_mm[np.isfinite(last.scan_mm)]
        rows.append((0.5 * (there + back), there, back, np.median(distances), distances.mean(), distances.std()))
    assert last is not None, "ProtocolConfig has a crop"
    return PairErrors(*np.array(rows).T), last


def group_errors(pairs: Sequence[Pair], errors: Sequence[PairErrors]) -> dict[str, GroupErrors]:
    """Means over the subjects of every group, and of everybody.

    Args:
        pairs: What was scored.
        errors: Of each.

    Returns:
        By group, everybody last.
    """
    by_subject: dict[tuple[str, str], list[np.ndarray]] = {}
    for pair, error in zip(pairs, errors):
        by_subject.setdefault((pair.group, pair.subject), []).append(error.armse)
    means = {key: np.mean(values, axis=0) for key, values in by_subject.items()}
    names = [name for name in sorted({group for group, _ in means}) if name != EVERYBODY]
    table = {}
    for name in [*names, EVERYBODY]:
        values = np.array([value for (group, _), value in means.items() if name == EVERYBODY or name == group])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
        table[name] = GroupErrors(len(values), values.mean(axis=0), 1.96 * spread / np.sqrt(len(values)))
    return table


def read_landmarks(path: FilePath, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "7 3"]:
    """The seven landmarks of a mesh, in the order of :data:`LANDMARKS`.

    Args:
        path: Rows ``landmark,x,y,z`` or ``landmark,vertex``; a first row of other names is a heading.
        vertices: Of the mesh.

    Returns:
        Positions.

    Raises:
        InputError: The file cannot be read, or a landmark is missing or no position.
    """
    rows = {row[0].strip(): row[1:] for row in _rows(Path(path)) if row}
    lacking = [name for name in LANDMARKS if name not in rows]
    if lacking:
        raise InputError(f"{path}: has no {', '.join(lacking)}; give a row for each of {', '.join(LANDMARKS)}.")
    found = []
    for name in LANDMARKS:
        values: Any = rows[name]
        try:
            if len(values) == 1:
                index = int(values[0])
                if not 0 <= index < len(vertices):
                    raise InputError(f"{path}: {name} is vertex {index} of a mesh of {len(vertices)}.")
                found.append(vertices[index])
            else:
                x, y, z = map(float, values)
                found.append(np.array([x, y, z]))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{path}: {name} is {','.join(values)}; give x,y,z or the number of a vertex.") from error
    return np.array(found, np.float64)


def _meshes(folder: Path) -> dict[str, Path]:
    """The meshes of a folder by their names without suffix."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in FORMATS:
            if path.stem in found:
                raise InputError(f"{path}: {found[path.stem].name} has the same name; remove one of them.")
            found[path.stem] = path
    return found


def _read_groups(path: Path) -> dict[str, str]:
    return {row[0].strip(): row[1].strip() for row in _rows(path) if len(row) >= 2}


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
