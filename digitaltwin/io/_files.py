"""Writing files so that a reader, or a run that was killed, never sees half of one."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from digitaltwin.types import InputError

FilePath = str | os.PathLike[str]


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
    folder goes, and so do parents that were made for it.

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
    temporary = (target if target.is_dir() else target.parent) / f".{target.name}.{secrets.token_hex(8)}"
    try:
        try:
            temporary.mkdir(parents=True)
            yield temporary
            with _uninterrupted():
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


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put SIGINT and SIGTERM off to the end of the block."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
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
