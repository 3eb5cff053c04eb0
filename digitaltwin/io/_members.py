"""Arrays of an ``.npz`` read where they lie, so that files larger than memory can be worked through."""

import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digitaltwin.io._files import reason
from digitaltwin.types import InputError

UNPACKED = "unpacked-"
"""What names of files begin with that :func:`map_member` leaves in its scratch folder."""
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and extra field after 26 other bytes
_BLOCK = 1 << 22


class Member(NamedTuple):
    """One array of an ``.npz``, not loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fingerprint: list[int]
    """Checksum and length of its bytes, from the archive's directory; JSON knows no tuples."""


def read_members(path: Path) -> dict[str, Member]:
    """Read what an ``.npz`` holds, by name.

    Raises:
        InputError: No such file, or not a whole ``.npz`` of plain arrays.
    """
    with _opened(path) as archive:
        members = {}
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                shape, _, dtype, _ = _header(archive, info)
                name = info.filename.removesuffix(".npy")
                members[name] = Member(shape, dtype, [info.CRC, info.file_size])
    return members


def map_member(path: Path, name: str, scratch: Path) -> np.ndarray:
    """Map one array of an ``.npz`` into memory; what is compressed is first unpacked into a folder.

    Raises:
        InputError: It cannot be read, or there is no room to unpack it.
    """
    with _opened(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            return _unpacked(archive, info, scratch)
        shape, fortran, dtype, header = _header(archive, info)
        with path.open("rb") as file:
            file.seek(info.header_offset)
            start = info.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
        if 0 in shape or start + info.file_size > path.stat().st_size:
            raise ValueError(f"{name} has no bytes, or not all")
        return np.memmap(path, dtype, "r", start + header, shape, "F" if fortran else "C")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, scratch: Path) -> np.ndarray:
    target = scratch / f"{UNPACKED}{info.filename}"
    if not target.is_file():
        temporary = target.with_suffix(".tmp")
        with archive.open(info) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        temporary.replace(target)
    return np.load(target, mmap_mode="r", allow_pickle=False)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive, its troubles as one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise InputError(f"{path}: cannot be read or unpacked ({reason(error)}); check path and disk.") from error
    except (zipfile.BadZipFile, EOFError, ValueError, struct.error) as error:
        raise InputError(f"{path}: not a whole .npz of plain arrays ({error}); write or copy it anew.") from error


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and type of a member, and the length of its header."""
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{info.filename} is in version {version} of the format")
        shape, fortran, dtype = readers[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects")
        return shape, fortran, dtype, stream.tell()
