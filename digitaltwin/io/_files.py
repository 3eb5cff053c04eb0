"""Writing files so that a reader, or a run that was killed, never sees half of one."""

import contextlib
import csv
import io
import json
import os
import re
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from digitaltwin.types import InputError

FilePath = str | os.PathLike[str]
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")
"""Names of what is not yet whole: that of the file or folder it is to become, and a random number."""
_ABANDONED_S = 3600.0  # what is older and not yet whole belongs to a run that was killed
_LINE_WIDTH = 240  # of a formatted result


def reason(error: OSError) -> str:
    """What the operating system said, without the path it repeats: ``"no such file or directory"``."""
    return (error.strerror or type(error).__name__).lower()


def make_folder(path: FilePath) -> Path:
    """Make a folder, with its parents, and check that files can be written into it.

    Long jobs call this before they start, so that nobody waits for results that have nowhere to go. Trying is the only
    honest test: permission bits tell nothing about full disks, read-only mounts or the superuser.

    Raises:
        InputError: The folder cannot be made or written to.
    """
    folder = Path(path)
    probe = folder / f".{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write into this folder ({reason(error)}); name another one.") from error
    return folder


def check_folder(path: FilePath) -> Path:
    """Check that a folder can be made and written to, as :func:`make_folder` does, and leave nothing behind.

    For work that may still be refused: it should not leave an empty folder.

    Raises:
        InputError: The folder cannot be made or written to.
    """
    folder = Path(path)
    standing = folder
    while not os.path.lexists(standing) and standing != standing.parent:
        standing = standing.parent
    probe = standing / f".{secrets.token_hex(8)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write into this folder ({reason(error)}); name another one.") from error
    return folder


@contextlib.contextmanager
def whole_folder(path: FilePath) -> Iterator[Path]:
    """Give a temporary folder, whose files appear in a folder at the end: all of them, or none.

    A folder that is not there yet appears by one renaming. In one that is there, files of the same names are replaced,
    in the order they were written, and all others stay. Where the block raises, an interrupt included, the temporary
    folder goes, and so do parents that were made for it. A run that is killed leaves it, and another run for the same
    folder removes it, an hour later at the earliest.

    Args:
        path: The folder that is to hold the files.

    Raises:
        InputError: The folder cannot be made or written to.
    """
    target = Path(path)
    made = []
    for parent in target.absolute().parents:
        if parent.exists():
            break
        made.append(parent)
    beside = target if target.is_dir() else target.parent
    temporary = beside / f".{target.name}.{secrets.token_hex(8)}"
    try:
        try:
            _remove_abandoned(beside, target.name)
            temporary.mkdir(parents=True)
            yield temporary
            with signals_blocked(signal.SIGINT, signal.SIGTERM):
                if not target.is_dir():
                    os.rename(temporary, target)
                else:
                    for file in sorted(temporary.iterdir(), key=lambda file: file.stat().st_mtime_ns):
                        os.replace(file, target / file.name)
                made.clear()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):  # somebody has put something in
                    parent.rmdir()
    except OSError as error:
        raise InputError(f"{target}: cannot write into this folder ({reason(error)}); name another one.") from error


def _remove_abandoned(folder: Path, name: str) -> None:
    """Remove temporary folders of runs that were killed while they filled the folder of a name."""
    for left in folder.glob(".*"):
        if TEMPORARY.fullmatch(left.name) and left.name[1:-17] == name and left.is_dir():
            with contextlib.suppress(OSError):  # another run was quicker
                if left.stat().st_mtime < time.time() - _ABANDONED_S:
                    shutil.rmtree(left)


@contextlib.contextmanager
def signals_blocked(*signals: signal.Signals) -> Iterator[None]:
    """Put signals off to the end of the block; processes that are started in it never get them.

    Where a system has no such mask, and in threads beside the main one, nothing is put off.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def write_bytes(path: FilePath, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it into place in one step.

    Raises:
        InputError: The file cannot be written (no such folder, no permission, disk full).
    """
    target = Path(path)
    # The same folder, because a rename is atomic only within one file system.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({reason(error)}); name another place.") from error


def write_json(path: FilePath, value: Mapping[str, Any]) -> None:
    """Write a JSON file: UTF-8, indented, in the order given.

    Raises:
        InputError: The file cannot be written.
        ValueError: A number is not finite; such a file would not be JSON.
    """
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_csv(path: FilePath, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as CSV: UTF-8, a line a row, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


def format_json(value: Any, *, digits: int = 5) -> str:
    """Format JSON in few lines, with few significant digits: for results that people read.

    What fits on a line of 240 characters stands on one; numbers and texts fill lines, nested parts stand on their own.

    Args:
        value: Dictionaries, lists, tuples, numbers, texts and None.
        digits: Significant digits of floating-point numbers.

    Returns:
        The text, with a line break at its end.

    Raises:
        ValueError: A number is not finite; such a text would not be JSON.

    Example:
        >>> print(format_json({"mm": 1.23456789, "crops": (80, 95)}), end="")
        {"mm": 1.2346, "crops": [80, 95]}
    """
    return _format_part(_rounded(value, digits), "", 0) + "\n"


def _rounded(value: Any, digits: int) -> Any:
    """Round the floating-point numbers of a tree."""
    if isinstance(value, Mapping):
        return {str(name): _rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part, digits) for part in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _format_part(value: Any, indent: str, taken: int) -> str:
    """Format a part that begins after ``taken`` characters of its line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or len(indent) + taken + len(flat) < _LINE_WIDTH:
        return flat
    inner = indent + "  "
    lines, filling = [], False
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        label = f"{json.dumps(name, ensure_ascii=False)}: " if isinstance(value, dict) else ""
        text = label + _format_part(part, inner, len(label) + 1)
        nested = isinstance(part, dict) or "\n" in text
        if filling and not nested and len(lines[-1]) + len(text) + 3 < _LINE_WIDTH:
            lines[-1] += f", {text}"
        else:
            lines.append(inner + text)
        filling = not nested
    opened, closed = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opened}\n" + ",\n".join(lines) + f"\n{indent}{closed}"
