"""Arrays larger than memory: read from an ``.npz`` without loading it, and written chunk by chunk into another.

A job keeps what it has done in a hidden folder beside its output, ``.NAME.parts``: one ``.npy`` an array, at its full
length from the start; ``settings.json``, what the job was to do; and ``finished``, the chunks that are written and on
the disk, one number a line. A job that was killed finds its chunks there, and only the last one is made twice. When all
are there they become one ``.npz``, which appears whole under its name, and the folder goes.
"""

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from digitaltwin.io._files import make_folder, reason, write_json
from digitaltwin.types import InputError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # as digitaltwin.io.arrays: the same arrays give the same bytes
_METADATA = "metadata.json"
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and extra field after 26 other bytes
_BLOCK = 1 << 22
_UNPACKED = "unpacked-"


class Member(NamedTuple):
    """One array of an ``.npz``, not loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fingerprint: list[int]
    """Checksum and length of its bytes, from the archive's directory; JSON knows no tuples."""


def read_members(path: Path) -> dict[str, Member]:
    """What an ``.npz`` holds, by name.

    Raises:
        InputError: no such file, or not a whole ``.npz`` of plain arrays.
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
        InputError: it cannot be read, or there is no room to unpack it.
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
    target = scratch / f"{_UNPACKED}{info.filename}"
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


class Job:
    """The chunks of one output file; see the module."""

    def __init__(self, out: Path, settings: Mapping[str, Any], count: int, chunk: int):
        self.out, self.count, self.chunk = out, count, chunk
        self.settings = json.loads(json.dumps(settings))  # JSON knows no tuples
        self.folder = out.with_name(f".{out.name}.parts")
        self.finished: set[int] = set()

    def is_done(self) -> bool:
        """Whether the output is there already.

        Raises:
            InputError: a file is there that is not this job's.
        """
        if not self.out.exists():
            return False
        try:
            with zipfile.ZipFile(self.out) as archive:
                found = json.loads(archive.read(_METADATA))["settings"]
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
            raise InputError(f"--out={self.out}: is there, and not this command's; name another.") from error
        self._compare(found, f"--out={self.out}: holds results of")
        return True

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Hold the folder, and find what an earlier run has left in it.

        Raises:
            InputError: it is another job's, another run is at it, or it cannot be written.
        """
        make_folder(self.folder)
        try:
            with FileLock(self.folder / "lock", timeout=0):
                self._resume()
                yield
        except Timeout as error:
            raise InputError(f"--out={self.out}: another run is writing it; wait for it, or name another.") from error

    def missing(self) -> list[int]:
        """Numbers of the chunks that are yet to be made."""
        return [number for number in range(-(-self.count // self.chunk)) if number not in self.finished]

    def rows(self, number: int) -> slice:
        """The rows of a chunk."""
        return slice(number * self.chunk, min((number + 1) * self.chunk, self.count))

    def length(self, numbers: Iterable[int]) -> int:
        """How many rows some chunks have."""
        return sum(self.rows(number).stop - self.rows(number).start for number in numbers)

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Put a chunk in its place, and note that it is there.

        With plain writes: where a disk is full, a memory map ends the process without a word.

        Raises:
            InputError: the disk is full or fails.
        """
        left = self.count - self.rows(number).start
        with self._disk():
            for name, rows in arrays.items():
                path = self.folder / f"{name}.npy"
                if not path.exists():
                    _make(path, (self.count, *rows.shape[1:]), rows.dtype)
                with path.open("r+b") as file:
                    file.seek(path.stat().st_size - left * rows[0].nbytes)
                    file.write(np.ascontiguousarray(rows).data)
                    _settle(file)
            with (self.folder / "finished").open("ab") as journal:
                journal.write(f"{number}\n".encode())
                _settle(journal)
        self.finished.add(number)

    def assemble(self, metadata: Mapping[str, Any], *, compress: Container[str] = ()) -> None:
        """Make the output of the parts, and remove them.

        Args:
            metadata: What JSON can hold, besides the settings.
            compress: Arrays that shrink: full of zeros, say. The others stay as they are, fast and mappable.

        Raises:
            InputError: the disk is full or fails.
        """
        whole = self.folder / "whole"
        with self._disk():
            with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
                described = json.dumps({**metadata, "settings": self.settings}, sort_keys=True)
                archive.writestr(_entry(_METADATA), described)
                for path in sorted(self._parts()):
                    entry = _entry(path.name)
                    entry.compress_type = zipfile.ZIP_DEFLATED if path.stem in compress else zipfile.ZIP_STORED
                    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, _BLOCK)
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            whole.replace(self.out)
        self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Writing, its troubles as one line."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"--out={self.out}: cannot be written ({reason(error)}); make room, and start again: it goes on there."
            ) from error

    def _parts(self) -> list[Path]:
        return [path for path in self.folder.glob("*.npy") if not path.name.startswith(_UNPACKED)]

    def _resume(self) -> None:
        path, journal = self.folder / "settings.json", self.folder / "finished"
        if path.is_file():
            try:
                found = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise InputError(f"{self.folder}: cannot be continued ({error}); remove it.") from error
            self._compare(found, f"{self.folder}: belongs to an unfinished run of")
        else:
            write_json(path, self.settings)
        written = journal.read_text() if journal.is_file() else ""
        whole_lines = written[: written.rfind("\n") + 1]
        if whole_lines != written:  # the machine stopped in the middle of a line
            journal.write_text(whole_lines)
        self.finished = {int(line) for line in whole_lines.split()}
        if not self.finished:  # then the arrays themselves may be half made
            for part in self._parts():
                part.unlink()

    def _compare(self, found: Any, what: str) -> None:
        names = sorted(self.settings)
        differing = [name for name in names if not isinstance(found, dict) or found.get(name) != self.settings[name]]
        if differing:
            raise InputError(f"{what} other input or flags ({', '.join(differing)}); name another --out, or remove it.")


def _settle(file: BinaryIO) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _make(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """An ``.npy`` of zeros that takes no room yet."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, wherever it is written
    return entry
