"""Long jobs that may be stopped anywhere and go on where they were.

A job is made of *parts*. What is done is told by the disk alone, since whatever is written appears whole or not at all:
a part is complete where its file stands. Beside the parts lie the job's *settings*, all that decides what the parts
hold; a folder of other settings is refused rather than mixed up, and a lock keeps a second run away.

* :class:`ResumableJob`: a folder with one file a part. Used where each part is of use on its own: scenes, new heads,
  scores.
* :class:`ResumableArrays`: one ``.npz`` larger than memory, whose parts are ranges of rows. They are collected in a
  hidden folder beside the output, ``.NAME.parts``: one ``.npy`` an array, at its full length from the start, and
  ``finished``, the numbers of the parts that are written and on the disk, one a line. When all are there they become
  one ``.npz``, which appears whole under its name, and the folder goes.

The same settings give the same bytes, however often a job was stopped.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike

from digitaltwin.io._arrays import METADATA, load_arrays, save_arrays, zip_entry
from digitaltwin.io._files import TEMPORARY, FilePath, make_folder, reason, write_json
from digitaltwin.io._members import UNPACKED
from digitaltwin.types import InputError

_PART_SETTINGS = "part_settings"
_BLOCK = 1 << 22


class ResumableJob:
    """A folder that is filled part by part, and continued where a run was stopped.

    Args:
        folder: Where the parts lie; made by :meth:`begin` if it is missing.
        settings: All that decides what the parts hold, as JSON can hold it. Tuples count as lists.
        settings_name: The file that keeps the settings.
        parts: A pattern of the parts' names, such as ``"heads-*.npz"``: a folder that holds some, but no settings, is
            refused.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for _ in range(2):
        ...     job = ResumableJob(folder, {"seed": 0})
        ...     with job.begin():
        ...         for part in job.missing(["a.npz", "b.npz"]):
        ...             print(part)
        ...             job.save(part, {"x": np.zeros(3)})
        a.npz
        b.npz
    """

    def __init__(
        self,
        folder: FilePath,
        settings: Mapping[str, Any],
        *,
        settings_name: str = "settings.json",
        parts: str | None = None,
    ):
        self.folder = Path(folder)
        self.settings = _as_json(settings)
        self._settings_path = self.folder / settings_name
        self._parts_pattern = parts

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Hold the folder, note the settings in it or compare them, and clear away what a killed run has left.

        Raises:
            InputError: The folder is another job's, another run is at it, or it cannot be written.
        """
        make_folder(self.folder)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(f"{self._name}: another run is writing it; wait for it, or name another.") from error
        try:
            self._open()
            yield
        finally:
            # Before it is released, so that whoever opens it from now on opens another; who holds this one open
            # does not wait for it.
            (self.folder / ".lock").unlink(missing_ok=True)
            lock.release()

    def is_complete(self, part: str, settings: Mapping[str, Any] | None = None) -> bool:
        """Whether a part is there and whole, and was made under these settings of its own, if it has any."""
        path = self.folder / part
        return path.is_file() if path.suffix != ".npz" else self.load(part, settings) is not None

    def missing(self, parts: Iterable[str]) -> list[str]:
        """Those of the parts that are yet to be made."""
        return [part for part in parts if not self.is_complete(part)]

    def load(
        self, part: str, settings: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read a part that :meth:`save` wrote; None if it is yet to be made.

        Args:
            part: Name of its file.
            settings: What decides this part alone. A part that was made under others is to be made anew.

        Returns:
            Arrays and metadata, or None where the file is missing, damaged or stale.
        """
        if not (self.folder / part).is_file():
            return None
        try:
            arrays, metadata = load_arrays(self.folder / part)
        except InputError:  # files appear whole or not at all, but disks and copies fail
            return None
        if metadata.get(_PART_SETTINGS) != (None if settings is None else _as_json(settings)):
            return None
        return arrays, metadata

    def save(
        self,
        part: str,
        arrays: Mapping[str, ArrayLike],
        metadata: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        compress: bool = True,
    ) -> None:
        """Write a part whole.

        Args:
            part: Name of its file, an ``.npz``.
            arrays: What it holds.
            metadata: What JSON can hold, besides.
            settings: As for :meth:`load`.
            compress: As for :func:`~digitaltwin.io.save_arrays`.

        Raises:
            InputError: The file cannot be written.
        """
        metadata = dict(metadata or {})
        if settings is not None:
            metadata[_PART_SETTINGS] = _as_json(settings)
        save_arrays(self.folder / part, arrays, metadata, compress=compress)

    @property
    def _name(self) -> Path:
        """What messages call the job's output."""
        return self.folder

    def _open(self) -> None:
        """Compare or note the settings, and remove temporary files; the lock is held."""
        for file in self.folder.glob(".*"):
            if not TEMPORARY.fullmatch(file.name):
                continue
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)
        path = self._settings_path
        if not self.settings:
            return
        if path.is_file():
            try:
                found = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path}: says nothing of how the files here were made ({error}); remove it."
                ) from error
            self._compare(found, f"{self.folder}: belongs to a run of")
        elif self._parts_pattern and any(self.folder.glob(self._parts_pattern)):
            raise InputError(
                f"{self.folder}: holds {self._parts_pattern}, but no {path.name} says how they were made; name another."
            )
        else:
            write_json(path, self.settings)

    def _compare(self, found: Any, what: str) -> None:
        found = found if isinstance(found, dict) else {}
        differing = [name for name in sorted(self.settings) if found.get(name) != self.settings[name]]
        if differing:
            raise InputError(f"{what} other input or flags ({', '.join(differing)}); name another --out, or remove it.")


class ResumableArrays(ResumableJob):
    """One ``.npz`` of many rows, written in ranges of rows; see the module.

    Args:
        out: The ``.npz``; its folder exists.
        settings: As for :class:`ResumableJob`; they are kept in the output's metadata.
        count: Rows in all.
        chunk: Rows in a part.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], count: int, chunk: int):
        super().__init__(out.with_name(f".{out.name}.parts"), settings)
        self.out, self.count, self.chunk = out, count, chunk
        self.finished: set[int] = set()

    def is_done(self) -> bool:
        """Whether the output is there already.

        Raises:
            InputError: A file is there that is not this job's.
        """
        if not self.out.exists():
            return False
        try:
            with zipfile.ZipFile(self.out) as archive:
                found = json.loads(archive.read(METADATA))["settings"]
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{self.out}: is there, and not this command's; name another --out.") from error
        self._compare(found, f"{self.out}: holds results of")
        return True

    def missing_chunks(self) -> list[int]:
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
            InputError: The disk is full or fails.
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
            InputError: The disk is full or fails.
        """
        whole = self.folder / "whole"
        with self._disk():
            with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
                described = json.dumps({**metadata, "settings": self.settings}, sort_keys=True)
                archive.writestr(zip_entry(METADATA), described)
                for path in sorted(self._arrays()):
                    entry = zip_entry(path.name)
                    entry.compress_type = zipfile.ZIP_DEFLATED if path.stem in compress else zipfile.ZIP_STORED
                    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, _BLOCK)
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            whole.replace(self.out)
        self.remove()

    def remove(self) -> None:
        """Remove the folder of the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Writing, its troubles as one line."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.out}: cannot be written ({reason(error)}); make room, and start again: it goes on there."
            ) from error

    @property
    def _name(self) -> Path:
        return self.out

    def _arrays(self) -> list[Path]:
        return [path for path in self.folder.glob("*.npy") if not path.name.startswith(UNPACKED)]

    def _open(self) -> None:
        super()._open()
        journal = self.folder / "finished"
        written = journal.read_text() if journal.is_file() else ""
        whole_lines = written[: written.rfind("\n") + 1]
        if whole_lines != written:  # the machine stopped in the middle of a line
            journal.write_text(whole_lines)
        self.finished = {int(line) for line in whole_lines.split()}
        if not self.finished:  # then the arrays themselves may be half made
            for part in self._arrays():
                part.unlink()


def _as_json(value: Any) -> Any:
    """As it comes back from a JSON file, which knows no tuples."""
    return json.loads(json.dumps(value))


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
