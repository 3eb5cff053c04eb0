"""The folders of published challenges, read as they are: what is scored on what.

NoW (https://now.is.tue.mpg.de, https://github.com/soubhiksanyal/now_evaluation)::

    DATASET/imagepathsvalidation.txt            a line SUBJECT/CHALLENGE/IMAGE.jpg for each photo
    DATASET/scans/SUBJECT/*.obj                 a scan in millimetres
    DATASET/scans_lmks_onlypp/SUBJECT/*.pp      its landmarks, picked in MeshLab
    PREDICTIONS/SUBJECT/CHALLENGE/IMAGE.obj     or .ply: what a method makes of that photo
    PREDICTIONS/SUBJECT/CHALLENGE/IMAGE.npy     or .txt: its landmarks

Stirling/ESRC in the FG2018 challenge (https://github.com/patrikhuber/fg2018-competition)::

    DATASET/F_3D_N/F1008_N.obj, M_3D_N/...      neutral scans in millimetres, of women and men
    DATASET/annotations/F_3D_N/F1008_N.lnd      their landmarks
    PREDICTIONS/HQ/F1008_*.obj, LQ/...          what a method makes of a photo of good or low quality
    PREDICTIONS/HQ/F1008_*.npy                  or .txt, .lnd: its landmarks

The landmarks of both are ``CHALLENGE_LANDMARKS`` of :mod:`digitaltwin.io._landmark_files`. How the challenges align and
crop: :meth:`ProtocolConfig.now` and :meth:`ProtocolConfig.fg2018`.
"""

from collections.abc import Iterable
from pathlib import Path

from digitaltwin.evaluation._protocol import EVERYBODY, Pair, find_predictions, refuse_missing
from digitaltwin.io._files import FilePath, reason
from digitaltwin.io._landmark_files import LANDMARK_FORMATS
from digitaltwin.types import InputError

NOW_IMAGES = "imagepathsvalidation.txt"


def find_now_pairs(predictions: FilePath, dataset: FilePath, *, images: FilePath | None = None) -> list[Pair]:
    """Find the photos of the NoW challenge, with predictions and scans; groups are its four kinds of photos.

    Args:
        predictions: Folder of the predictions, laid out as the challenge asks.
        dataset: Folder of the challenge's data.
        images: The list of the photos; the dataset's of the validation set by default.

    Returns:
        The pairs, in the list's order.

    Raises:
        InputError: The list cannot be read, or one of its photos lacks a prediction, a scan or landmarks; names those.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / NOW_IMAGES).write_text("anna/selfie/one.jpg")
        19
        >>> files = ("scans/anna/a.obj", "scans_lmks_onlypp/anna/a.pp", "anna/selfie/one.obj", "anna/selfie/one.npy")
        >>> for file in files:
        ...     (folder / file).parent.mkdir(parents=True, exist_ok=True)
        ...     (folder / file).touch()
        >>> [(pair.name, pair.group) for pair in find_now_pairs(folder, folder)]
        [('anna/selfie/one', 'selfie')]

    Source: Sanyal et al., Learning to regress 3D face shape and expression from an image without 3D supervision, CVPR
    2019.
    """
    predictions, dataset = Path(predictions), Path(dataset)
    listed = dataset / NOW_IMAGES if images is None else Path(images)
    try:
        lines = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{listed}: cannot be read ({reason(error)}); name the list of the photos.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{listed}: is no text in UTF-8; save it as that.") from error
    if not lines:
        raise InputError(f"{listed}: names no photos.")
    pairs, missing = [], []
    for line in lines:
        parts = Path(line).parts[-3:]
        if len(parts) != 3:
            raise InputError(f"{listed}: {line!r} is not SUBJECT/CHALLENGE/IMAGE; correct the list.")
        subject, challenge, stem = parts[0], parts[1], Path(parts[2]).stem
        place = predictions / subject / challenge
        mesh = _first(place / f"{stem}{suffix}" for suffix in (".obj", ".ply"))
        landmarks = _first(place / f"{stem}{suffix}" for suffix in (".npy", ".txt"))
        scan = _only(dataset / "scans" / subject, ".obj")
        scan_landmarks = _only(dataset / "scans_lmks_onlypp" / subject, ".pp")
        name = f"{subject}/{challenge}/{stem}"
        if mesh is None:
            missing.append(f"{name}: neither {place / stem}.obj nor .ply")
        elif landmarks is None:
            missing.append(f"{name}: neither {place / stem}.npy nor .txt")
        elif scan is None:
            missing.append(f"{name}: not one .obj in {dataset / 'scans' / subject}")
        elif scan_landmarks is None:
            missing.append(f"{name}: not one .pp in {dataset / 'scans_lmks_onlypp' / subject}")
        else:
            pairs.append(Pair(subject, name, challenge, mesh, landmarks, scan, scan_landmarks))
    refuse_missing(missing, len(lines))
    return pairs


def find_stirling_pairs(predictions: FilePath, dataset: FilePath) -> list[Pair]:
    """Find predictions of the FG2018 challenge, and the Stirling/ESRC scans of their subjects; groups are folders.

    A prediction's subject is what stands before the first underscore of its name. Upper and lower case are one, since
    the published files mix them.

    Args:
        predictions: Folder of the predictions; meshes may lie in it or in its folders. One ``landmarks.csv`` in it,
            rows ``landmark,vertex``, serves those that have no own landmarks.
        dataset: Folder of the scans and their annotations.

    Returns:
        The pairs, by name.

    Raises:
        InputError: There are no predictions, or one has no neutral scan or landmarks; names those.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for file in ("data/F1_N.obj", "data/F1_N.lnd", "mine/HQ/F1_a.obj", "mine/HQ/F1_a.npy"):
        ...     (folder / file).parent.mkdir(parents=True, exist_ok=True)
        ...     (folder / file).touch()
        >>> [(pair.name, pair.group) for pair in find_stirling_pairs(folder / "mine", folder / "data")]
        [('HQ/F1_a', 'HQ')]

    Source: Feng et al., Evaluation of dense 3D reconstruction from 2D face images in the wild, FG 2018.
    """
    predictions, dataset = Path(predictions), Path(dataset)
    found = find_predictions(predictions)
    scans, annotations = (_by_stem(dataset, suffix) for suffix in (".obj", ".lnd"))
    common, pairs, missing = predictions / "landmarks.csv", [], []
    for name, path in found.items():
        subject = path.stem.split("_")[0].upper()
        neutral = f"{subject}_N".upper()
        own = _first(path.with_suffix(suffix) for suffix in LANDMARK_FORMATS)
        landmarks = own or _first([common])
        if neutral not in scans:
            missing.append(f"{name}: no scan {neutral}.obj in {dataset}")
        elif neutral not in annotations:
            missing.append(f"{name}: no {neutral}.lnd in {dataset}")
        elif landmarks is None:
            missing.append(f"{name}: neither landmarks beside it ({', '.join(LANDMARK_FORMATS)}) nor {common}")
        else:
            group = name.split("/")[0] if "/" in name else EVERYBODY
            pairs.append(Pair(subject, name, group, path, landmarks, scans[neutral], annotations[neutral]))
    refuse_missing(missing, len(found))
    return pairs


def _first(paths: Iterable[Path]) -> Path | None:
    """The first that exists."""
    return next((path for path in paths if path.is_file()), None)


def _only(folder: Path, suffix: str) -> Path | None:
    """The file of a folder that ends so, if there is one and no other."""
    found = [path for path in folder.glob("*") if path.suffix.lower() == suffix] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Files at any depth by their names in upper case."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == suffix:
            if path.stem.upper() in found:
                raise InputError(f"{path}: {found[path.stem.upper()]} has the same name; remove one of them.")
            found[path.stem.upper()] = path
    return found
