"""Writing files so that a reader, or a run that was killed, never sees half of one."""

import json
import os
import secrets
from collections.abc import Mapping
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
        InputError: the folder cannot be made or written to.
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


def write_bytes(path: FilePath, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it into place in one step.

    Raises:
        InputError: the file cannot be written (no such folder, no permission, disk full).
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
        InputError: the file cannot be written.
        ValueError: a number is not finite; such a file would not be JSON.
    """
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
