"""Files of landmarks of scans and other meshes.

    NAME.csv    rows ``landmark,x,y,z`` or ``landmark,vertex``, in any order
    NAME.pp     points picked in MeshLab, in the order that is asked for; so in the following
    NAME.lnd    rows ``number x y z``, numbered from 1
    NAME.txt    rows ``x y z``
    NAME.npy    an array [n 3]

Letters: n landmarks, v vertices.
"""

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from digitaltwin.io._files import FilePath, reason
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
CHALLENGE_LANDMARKS = tuple("nose_bottom" if name == "nose_tip" else name for name in LANDMARKS)
"""Those of NoW and of the FG2018 challenge, in their order: where the septum meets the upper lip, not the tip."""
LANDMARK_FORMATS = (".csv", ".pp", ".lnd", ".txt", ".npy")


def read_landmarks(
    path: FilePath, vertices: Float[np.ndarray, "v 3"], *, names: Sequence[str] = LANDMARKS
) -> Float[np.ndarray, "n 3"]:
    """Read the landmarks of a mesh.

    Args:
        path: A file as above; of a .csv a first row of other names is a heading.
        vertices: The mesh's vertices, for files that name them by number.
        names: Those wanted. A file without names holds just these in their order.

    Returns:
        Positions, in the order of the names.

    Raises:
        InputError: The file cannot be read, a landmark is missing or no position, or their number is another.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "nose.csv"
        >>> _ = path.write_text("nose_tip,1.0,2.0,3.0")
        >>> read_landmarks(path, np.zeros((1, 3)), names=["nose_tip"])
        array([[1., 2., 3.]])
    """
    source = Path(path)
    readers = {".pp": _read_picked, ".lnd": _read_numbered, ".txt": _read_rows, ".npy": _read_array}
    if source.suffix.lower() == ".csv":
        return _read_named(source, vertices, names)
    if source.suffix.lower() not in readers:
        raise InputError(f"{source}: is not one of {', '.join(LANDMARK_FORMATS)}; convert it.")
    try:
        found = np.asarray(readers[source.suffix.lower()](source), np.float64)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)}).") from error
    except (ValueError, TypeError, EOFError, ElementTree.ParseError) as error:
        raise InputError(f"{source}: holds no landmarks ({error}); give x, y and z of {', '.join(names)}.") from error
    if found.shape != (len(names), 3):
        raise InputError(f"{source}: has shape {found.shape}, not ({len(names)}, 3); give {', '.join(names)}.")
    if not np.isfinite(found).all():
        raise InputError(f"{source}: is not all finite; give x, y and z of {', '.join(names)}.")
    return found


def _read_named(path: Path, vertices: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Rows ``landmark,x,y,z`` or ``landmark,vertex``."""
    rows = {row[0].strip(): row[1:] for row in csv_rows(path) if row}
    lacking = [name for name in names if name not in rows]
    if lacking:
        raise InputError(f"{path}: has no {', '.join(lacking)}; give a row for each of {', '.join(names)}.")
    found = []
    for name in names:
        values = rows[name]
        try:
            position = [int(values[0])] if len(values) == 1 else [float(x) for x in values]
        except ValueError:
            position = []
        if len(position) == 1:
            index = int(position[0])
            if not 0 <= index < len(vertices):
                raise InputError(f"{path}: {name} is vertex {index} of a mesh of {len(vertices)}.")
            position = vertices[index]
        elif len(position) != 3:
            raise InputError(f"{path}: {name} is {','.join(values)}; give x,y,z or the number of a vertex.")
        found.append(position)
    return np.array(found, np.float64)


def _read_picked(path: Path) -> list[list[float]]:
    points = list(ElementTree.parse(path).getroot().iter("point"))
    unset = [str(point.get("name")) for point in points if point.get("active") == "0"]
    if unset:
        raise ValueError(f"{', '.join(unset)} not picked")
    return [[float(str(point.get(axis))) for axis in "xyz"] for point in points]


def _read_numbered(path: Path) -> list[list[float]]:
    rows = sorted(_read_rows(path))
    if [row[0] for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("rows are not numbered from 1")
    return [row[1:] for row in rows]


def _read_rows(path: Path) -> list[list[float]]:
    lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
    return [[float(value) for value in line.split()] for line in lines if line.strip()]


def _read_array(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def csv_rows(path: Path) -> list[list[str]]:
    """Rows of a file of comma-separated values.

    Args:
        path: The file.

    Returns:
        The cells of each.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
