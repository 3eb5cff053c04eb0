"""Scoring any method's meshes on any scans, from folders.

    scans/NAME.obj            one scan a subject, in millimetres; .ply, .stl, .off, .glb likewise
    scans/NAME.csv            its seven landmarks: a row ``landmark,x,y,z`` for each of LANDMARKS
    predictions/NAME.obj      what a method predicts of that subject, of any topology, turned and placed anyhow;
    predictions/NAME/*.obj    or several, of one photo each
    predictions/NAME.csv      their landmarks likewise; predictions/landmarks.csv serves all that have no own, for
                              methods of one topology: rows ``landmark,vertex``
    groups.csv                rows ``NAME,group``, for instance an ethnicity; without it all are one group

A prediction without a scan, or without landmarks, ends the run before it starts: scores of those that happened to work
are no scores. The folders of published challenges: :mod:`digitaltwin.evaluation._layouts`.

Letters: d crops.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from digitaltwin.evaluation._config import ProtocolConfig
from digitaltwin.evaluation._dense_correspondence import corresponding_points
from digitaltwin.evaluation._face_region import face_region
from digitaltwin.evaluation._metrics import Comparison, Complexity, compare_trees, rms_both_ways, root_mean_square
from digitaltwin.geometry import SurfaceTree
from digitaltwin.io import read_landmarks
from digitaltwin.io._files import FilePath
from digitaltwin.io._landmark_files import CHALLENGE_LANDMARKS, csv_rows
from digitaltwin.io.meshes import FORMATS, read_surface
from digitaltwin.types import InputError

EVERYBODY = "all"
"""The group of those without one, and of everybody together."""


@dataclass(frozen=True)
class Pair:
    """A prediction and the scan it is scored on."""

    subject: str
    """Whose head it is."""
    name: str
    """``subject`` or, of several, ``subject/prediction``."""
    group: str
    """For instance an ethnicity."""
    prediction: Path
    """Its mesh."""
    prediction_landmarks: Path
    """The landmarks of the prediction."""
    scan: Path
    """The scan's mesh."""
    scan_landmarks: Path
    """The landmarks of the scan."""


class PairErrors(NamedTuple):
    """Errors of one prediction, for each crop [mm]."""

    armse: Float[np.ndarray, " d"]
    """The mean of the next two [mm]."""
    prediction_to_scan: Float[np.ndarray, " d"]
    """Root mean square distance of the prediction's vertices from the scan [mm]."""
    scan_to_prediction: Float[np.ndarray, " d"]
    """Root mean square distance of the scan's vertices from the prediction [mm]."""
    median: Float[np.ndarray, " d"]
    """Median of the distances of the scan's vertices from the prediction, as NoW has it [mm]."""
    mean: Float[np.ndarray, " d"]
    """Their mean [mm]."""
    deviation: Float[np.ndarray, " d"]
    """Their standard deviation [mm]."""
    dense_correspondence: Float[np.ndarray, " d"]
    """Root mean square distance of the prediction's vertices from the points that correspond to them, by non-rigid
    registration at the largest crop [mm]; NaN if not asked for."""

    @property
    def bent(self) -> Float[np.ndarray, " d"]:
        """The former name of :attr:`dense_correspondence`."""
        warnings.warn("PairErrors.bent is dense_correspondence now", DeprecationWarning, stacklevel=2)
        return self.dense_correspondence


class PairScore(NamedTuple):
    """The scores of one prediction on one scan."""

    errors: PairErrors
    """For each crop [mm]."""
    complexity: Complexity
    """The prediction's complexity, for each crop."""
    comparison: Comparison
    """At the largest crop, for pictures."""


class GroupErrors(NamedTuple):
    """Errors of the subjects of a group, each of whose predictions are averaged first."""

    subjects: int
    """How many there are."""
    mean: Float[np.ndarray, " d"]
    """Mean of ARMSE, or of what was asked for [mm]."""
    margin: Float[np.ndarray, " d"]
    """1.96 standard errors of it [mm]; NaN of a single subject."""


def find_pairs(predictions: FilePath, scans: FilePath, *, groups: FilePath | None = None) -> list[Pair]:
    """Find all predictions of a folder, by name, with their scans.

    Args:
        predictions: Folder of the predictions: a mesh ``NAME.obj`` (.ply, .stl, .off, .glb) for each subject, or a
            folder ``NAME`` of several. Landmarks lie beside a mesh as a .csv of its name, or in one ``landmarks.csv``
            for meshes of one topology.
        scans: Folder of the scans: a mesh for each subject, in millimetres, and its landmarks ``NAME.csv``.
        groups: File of rows ``NAME,group``; without it all are one group.

    Returns:
        The pairs.

    Raises:
        InputError: There are none, a prediction has no scan, or one of both no landmarks or group; names those.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for file in ("scans/anna.ply", "scans/anna.csv", "predictions/anna.obj", "predictions/anna.csv"):
        ...     (folder / file).parent.mkdir(exist_ok=True)
        ...     (folder / file).touch()
        >>> [pair.name for pair in find_pairs(folder / "predictions", folder / "scans")]
        ['anna']
    """
    predictions, scans = Path(predictions), Path(scans)
    found = find_predictions(predictions)
    of_subject, belongs = meshes_of(scans), {} if groups is None else _read_groups(Path(groups))
    common, pairs, missing = predictions / "landmarks.csv", [], []
    for name, path in found.items():
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
    refuse_missing(missing, len(found))
    return pairs


def find_predictions(folder: FilePath) -> dict[str, Path]:
    """The meshes of a folder and of those in it.

    Args:
        folder: The predictions'.

    Returns:
        Files by ``name`` or ``folder/name``, in this order.

    Raises:
        InputError: There are none, or two of one name.
    """
    folder = Path(folder)
    found = meshes_of(folder)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        found |= {f"{inner.name}/{name}": path for name, path in meshes_of(inner).items()}
    if not found:
        raise InputError(f"{folder}: holds no meshes ({', '.join(FORMATS)}), nor do its folders.")
    return dict(sorted(found.items()))


def meshes_of(folder: FilePath) -> dict[str, Path]:
    """The meshes of a folder by their names without suffix.

    Args:
        folder: Where they are.

    Returns:
        Their files.

    Raises:
        InputError: It is no folder, or two have one name.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: is no folder.")
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in FORMATS:
            if path.stem in found:
                raise InputError(f"{path}: {found[path.stem].name} has the same name; remove one of them.")
            found[path.stem] = path
    return found


def refuse_missing(missing: Sequence[str], count: int) -> None:
    """End before anything is scored if something cannot be.

    Args:
        missing: What each lacks.
        count: Predictions in all.

    Raises:
        InputError: There is one; the first are named.
    """
    if missing:
        shown = "; ".join(missing[:5]) + (f"; and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"predictions: {len(missing)} of {count} cannot be scored ({shown}).")


def evaluate_pair(pair: Pair, config: ProtocolConfig) -> PairScore:
    """Score one prediction on its scan, at every crop.

    Args:
        pair: The pair, from :func:`find_pairs` or of files named one by one.
        config: The protocol: what is measured.

    Returns:
        Its errors and complexity at every crop, and the comparison at the largest.

    Raises:
        InputError: One of its files cannot be used; names it.

    Example:
        >>> import csv, pathlib, tempfile
        >>> import trimesh
        >>> from digitaltwin.io import LANDMARKS
        >>> folder, ball = pathlib.Path(tempfile.mkdtemp()), trimesh.creation.icosphere(subdivisions=4, radius=100.0)
        >>> for name, size in (("scan", 1.0), ("prediction", 1.02)):
        ...     _ = trimesh.Trimesh(size * ball.vertices, ball.faces, process=False).export(folder / f"{name}.ply")
        ...     with (folder / f"{name}.csv").open("w") as file:
        ...         csv.writer(file).writerows(zip(LANDMARKS, range(7)))
        >>> files = [folder / name for name in ("prediction.ply", "prediction.csv", "scan.ply", "scan.csv")]
        >>> score = evaluate_pair(Pair("anna", "anna", "all", *files), ProtocolConfig(crops_mm=(80.0,)))
        >>> score.errors.armse.round(1).tolist()  # closest points have moved the larger ball until they touch
        [0.6]
    """
    vertices, faces = read_surface(pair.prediction)
    scan_vertices, scan_faces = read_surface(pair.scan)
    landmarks = (
        config.unit_mm * read_landmarks(pair.prediction_landmarks, vertices, names=config.landmarks),
        read_landmarks(pair.scan_landmarks, scan_vertices, names=config.landmarks),
    )
    try:
        prediction = SurfaceTree(config.unit_mm * vertices, faces, name="prediction")
        scan = SurfaceTree(scan_vertices, scan_faces, name="scan")
    except InputError as error:
        raise InputError(f"{pair.name}: {error}") from error
    rows, found = [], []
    for centre, crop_mm in _crops(pair, scan_vertices, config):
        try:
            last = compare_trees(
                prediction,
                scan,
                landmarks=landmarks,
                nose_tip=centre,
                crop_mm=crop_mm,
                icp=config.icp,
                count_borders=config.count_borders,
            )
        except InputError as error:
            raise InputError(f"{pair.name}, within {crop_mm:g} mm: {error}") from error
        there, back = rms_both_ways(last, by_area=config.by_area)
        distances = last.scan_mm[np.isfinite(last.scan_mm)]
        rows.append((0.5 * (there + back), there, back, np.median(distances), distances.mean(), distances.std()))
        found.append(last)
    dense = np.full(len(found), np.nan)
    if config.dense_correspondence:
        goal = corresponding_points(found[-1], prediction.faces, scan, landmarks)
        for i, comparison in enumerate(found):
            counts = np.isfinite(comparison.prediction_mm)
            away = np.where(counts, np.linalg.norm(goal - comparison.vertices, axis=1), np.nan)
            dense[i] = root_mean_square(away, comparison.prediction_areas if config.by_area else None)
    complexities = np.array([comparison.complexity for comparison in found])
    errors = PairErrors._make((*np.array(rows).T, dense))
    return PairScore(errors, Complexity(*complexities.T), found[-1])


def _crops(pair: Pair, vertices: np.ndarray, config: ProtocolConfig) -> list[tuple[np.ndarray, float]]:
    """Centre and radius of each."""
    # A file without names holds the landmarks of the alignment and no others, so all of these are asked for.
    of_region = config.landmarks if "nose_tip" in config.landmarks else ("nose_tip",)
    names = of_region if config.face_factor is None else CHALLENGE_LANDMARKS
    found = read_landmarks(pair.scan_landmarks, vertices, names=names)
    if config.face_factor is not None:
        return [face_region(found, factor=config.face_factor)]
    return [(found[names.index("nose_tip")], crop_mm) for crop_mm in config.crops_mm]


def group_errors(
    pairs: Sequence[Pair], errors: Sequence[PairErrors], *, measure: str = "armse"
) -> dict[str, GroupErrors]:
    """Average errors over the subjects of every group, and of everybody.

    Args:
        pairs: The pairs that were scored.
        errors: The errors of each.
        measure: Which of :class:`PairErrors` is averaged.

    Returns:
        By group, everybody last.

    Raises:
        InputError: There is no such measure.

    Example:
        >>> import pathlib
        >>> import numpy as np
        >>> pairs = [Pair(name, name, "all", *[pathlib.Path()] * 4) for name in ("anna", "ben")]
        >>> errors = [PairErrors(*np.full((7, 1), value)) for value in (1.0, 3.0)]
        >>> group_errors(pairs, errors)["all"].mean.tolist()
        [2.0]
    """
    if measure not in PairErrors._fields:
        raise InputError(f"measure: is {measure!r}; give one of {', '.join(PairErrors._fields)}.")
    table = {}
    for name in groups_of(pairs):
        by_subject: dict[str, list[np.ndarray]] = {}
        for pair, error in zip(pairs, errors):
            if name in (EVERYBODY, pair.group):
                by_subject.setdefault(pair.subject, []).append(getattr(error, measure))
        values = np.array([np.mean(several, axis=0) for several in by_subject.values()])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
        table[name] = GroupErrors(len(values), values.mean(axis=0), 1.96 * spread / np.sqrt(len(values)))
    return table


def group_complexities(pairs: Sequence[Pair], complexities: Sequence[Complexity]) -> Mapping[str, Complexity]:
    """Means over the predictions of every group, and of everybody: how fine a method's meshes are.

    Args:
        pairs: What was scored.
        complexities: Of each.

    Returns:
        By group, everybody last.
    """
    return {
        name: Complexity(
            *np.mean([values for pair, values in zip(pairs, complexities) if name in (EVERYBODY, pair.group)], axis=0)
        )
        for name in groups_of(pairs)
    }


def groups_of(pairs: Sequence[Pair]) -> list[str]:
    """The groups' names in order, everybody last."""
    return [*sorted({pair.group for pair in pairs} - {EVERYBODY}), EVERYBODY]


def _read_groups(path: Path) -> dict[str, str]:
    return {row[0].strip(): row[1].strip() for row in csv_rows(path) if len(row) >= 2}
