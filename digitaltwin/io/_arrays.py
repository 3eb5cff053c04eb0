"""Named arrays with a JSON description, in one ``.npz`` file that NumPy reads too.

The same arrays always give the same bytes (fixed order and time stamps), so a rebuilt asset can be compared by its
hash. No pickle is ever written or loaded.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from digitaltwin.io._files import FilePath, reason, write_bytes
from digitaltwin.types import InputError

METADATA = "metadata.json"
"""Name of the description among the members of an ``.npz``."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment a zip file can name


def save_arrays(
    path: FilePath, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, Any], *, compress: bool = True
) -> None:
    """Write named arrays and their description as an ``.npz``, atomically.

    Args:
        path: The file to write.
        arrays: Arrays by name, of any shapes and dtypes but ``object``.
        metadata: What JSON can hold: names, units, provenance.
        compress: Whether to compress as much as can be; without, gigabytes of measured numbers, which hardly shrink,
            are written as fast as the disk takes them.

    Raises:
        InputError: The file cannot be written.
        ValueError: An array holds Python objects, or a number in the metadata is not finite.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "line.npz"
        >>> save_arrays(path, {"x": np.arange(3)}, {"unit": "mm"})
        >>> load_arrays(path)
        ({'x': array([0, 1, 2])}, {'unit': 'mm'})
    """
    entries = {METADATA: json.dumps(metadata, sort_keys=True, allow_nan=False).encode()}
    for name in sorted(arrays):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(arrays[name]), allow_pickle=False)
        entries[f"{name}.npy"] = buffer.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(
                zip_entry(name), data, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED, compresslevel=9
            )
    write_bytes(path, file.getvalue())


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Describe a member of an archive, whenever and wherever it is written, in the same bytes."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix
    return entry


def load_arrays(path: FilePath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote, or any ``.npz`` without Python objects (its metadata is then empty).

    Args:
        path: The file.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        InputError: There is no such file, or it is not a whole ``.npz`` file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "line.npz"
        >>> np.savez(path, x=np.arange(3))
        >>> load_arrays(path)
        ({'x': array([0, 1, 2])}, {})
    """
    source = Path(path)
    arrays, metadata = {}, {}
    try:
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                data = archive.read(name)
                if name == METADATA:
                    metadata = json.loads(data)
                else:
                    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
                    arrays[name.removesuffix(".npy")] = array
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)}); check the path.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise InputError(
            f"{source}: not a whole .npz file of plain arrays ({error}); write or copy it anew."
        ) from error
    return arrays, metadata
