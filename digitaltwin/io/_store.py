"""A store on disk for what is made once and serves the next process: arrays, and compiled programs.

Everything lies in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``) under ``digitaltwin``, in a folder
that only the user can write to. Every entry is one file, written under a temporary name and renamed, that names what
it holds (kind, key, version and sources of this package) and carries a SHA-256 digest of its bytes. An entry that is
missing, truncated, damaged or stale is made anew and never believed; a folder that cannot be written to only costs
time. Nothing here raises because of the disk, nothing is locked, and no pickle is read or written.

The folder is bounded: a process looks at its size at its first write, and again after every :data:`_LOOK_BYTES` it has
written; the entries that were not used for longest go first.
"""

import contextlib
import functools
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from digitaltwin._version import __version__
from digitaltwin.io._files import write_bytes
from digitaltwin.types import InputError

MAX_BYTES = 2_000_000_000
"""Size of the folder, above which the entries that were not used for longest are removed."""
_LOOK_BYTES = MAX_BYTES // 10
_MAGIC = b"dtstore1"
_DIGEST_BYTES = 32
_ALIGN = 64  # bytes: XLA takes a NumPy array that is so aligned without copying it
_ABANDONED_S = 3600.0  # a temporary file older than this belongs to a process that was killed
_SUFFIX = ".entry"
_KINDS = "biufc"  # of dtypes whose bytes say everything


def digest(*parts: Any) -> str:
    """SHA-256 digest of values, for use as a key: the same values give the same digest in every process.

    Args:
        *parts: Arrays (dtype, shape and bytes count), strings, bytes, numbers, booleans, None, and sequences,
            mappings, NamedTuples and dataclasses of these.

    Returns:
        The digest, 64 hexadecimal digits.

    Raises:
        TypeError: A value is of another type, or an array holds Python objects.

    Example:
        >>> digest("layout", np.arange(3), 2048) == digest("layout", np.arange(3), 2048)
        True
        >>> digest(("a", "b")) == digest(("ab",))
        False
    """
    total = hashlib.sha256()
    _add(total, parts)
    return total.hexdigest()


def stored_arrays(kind: str, key: str, make: Callable[[], Mapping[str, ArrayLike]]) -> dict[str, np.ndarray]:
    """Arrays that take longer to make than to read: from disk if they are there, whole and right, else made and kept.

    Args:
        kind: What they are, a word for file names: ``"texture-layout"``.
        key: What they were made from, see :func:`digest`. The code that makes them needs no mention: entries of other
            sources of this package are not read.
        make: Makes them; called only if they are not on disk.

    Returns:
        The arrays by name, read-only.

    Example:
        >>> squares = stored_arrays("example", digest(4), lambda: {"squares": np.arange(4) ** 2})
        >>> squares["squares"].tolist()
        [0, 1, 4, 9]
    """
    entry = load_entry(kind, key)
    if entry is not None:
        arrays = _unpack(*entry)
        if arrays is not None:
            return arrays
    arrays = {}
    for name, array in make().items():
        array = np.asarray(array).view()
        array.flags.writeable = False
        arrays[name] = array
    if all(array.dtype.kind in _KINDS for array in arrays.values()):
        save_entry(kind, key, *_pack(arrays))
    return arrays


def store_folder(base: str | None = None) -> Path | None:
    """The folder that entries are kept in, made if it is missing; None if there is none that could be trusted.

    It has to belong to the user alone: programs that are read from it are run.

    Args:
        base: The folder it lies in; the user's cache folder by default.
    """
    base = base or os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "digitaltwin"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return folder


def load_entry(kind: str, key: str, *, base: str | None = None) -> tuple[dict[str, Any], np.ndarray] | None:
    """Read one entry.

    Args:
        kind: What it is.
        key: What it was made from.
        base: As for :func:`store_folder`.

    Returns:
        Its description and its bytes (uint8, read-only, aligned), or None if it is not there, not whole or not right.
    """
    path = _path(kind, key, base)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Read, not mapped: a mapped file that somebody truncates kills the process.
            room = np.empty(size + _ALIGN, np.uint8)
            start = -room.ctypes.data % _ALIGN
            whole = room[start : start + size]
            if file.readinto(whole.data) != size:
                return None
        head = len(_MAGIC) + _DIGEST_BYTES
        if whole[: len(_MAGIC)].tobytes() != _MAGIC:
            return None
        if hashlib.sha256(whole[head:].data).digest() != whole[len(_MAGIC) : head].tobytes():
            return None
        length = int.from_bytes(whole[head : head + 8].tobytes(), "little")
        description = json.loads(whole[head + 8 : head + 8 + length].tobytes())
        if description.pop("entry") != _names(kind, key):
            return None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    with contextlib.suppress(OSError):  # of a folder that can only be read
        os.utime(path)  # the last use, by which entries are removed
    whole.flags.writeable = False
    return description, whole[_aligned(head + 8 + length) :]


def save_entry(
    kind: str, key: str, description: Mapping[str, Any], parts: Sequence[Any], *, base: str | None = None
) -> None:
    """Keep one entry if the disk allows it.

    Args:
        kind: What it is.
        key: What it was made from.
        description: What JSON can hold, returned with the bytes.
        parts: Its bytes, in order.
        base: As for :func:`store_folder`.
    """
    path = _path(kind, key, base)
    if path is None:
        return
    text = json.dumps({**description, "entry": _names(kind, key)}).encode()
    head = len(_MAGIC) + _DIGEST_BYTES + 8 + len(text)
    body = b"".join([len(text).to_bytes(8, "little"), text, bytes(_aligned(head) - head), *parts])
    try:
        write_bytes(path, b"".join([_MAGIC, hashlib.sha256(body).digest(), body]))
    except InputError:
        return
    _bound.wrote(path.parent, len(body))


class _Bound:
    """Keeps the folder within its size, looking at it seldom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[Path, int] = {}  # bytes since the last look

    def wrote(self, folder: Path, count: int) -> None:
        with self._lock:
            total = self._written.get(folder, _LOOK_BYTES) + count
            look = total > _LOOK_BYTES
            self._written[folder] = 0 if look else total
        if look:
            trim(folder, MAX_BYTES)


_bound = _Bound()


def trim(folder: Path, max_bytes: int) -> None:
    """Remove the entries that were not used for longest, until the rest has at most so many bytes.

    Only files of this module are touched. Another process may remove or write entries meanwhile.

    Args:
        folder: As :func:`store_folder` returns it.
        max_bytes: Bound on the sum of the sizes.
    """
    entries = []
    try:
        for file in os.scandir(folder):
            try:
                status = file.stat(follow_symlinks=False)
                if file.name.endswith(_SUFFIX):
                    entries.append((status.st_mtime, status.st_size, file.path))
                elif f"{_SUFFIX}." in file.name and status.st_mtime < time.time() - _ABANDONED_S:
                    os.unlink(file.path)
            except OSError:
                continue
    except OSError:
        return
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= max_bytes:
            return
        try:
            os.unlink(path)
        except OSError:
            continue
        total -= size


def remove_entry(kind: str, key: str, *, base: str | None = None) -> None:
    """Remove one entry, if it is there and can be."""
    path = _path(kind, key, base)
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def programs_stored() -> bool:
    """Whether an avatar's compiled programs are on disk, of this package and this JAX.

    Cheap, and without importing JAX: commands say by it whether they will compile. It may be wrong where somebody has
    removed programs, uses another device or makes avatars in another way than before.
    """
    return _is_avatar_made(os.environ.get("JAX_COMPILATION_CACHE_DIR"))


def note_avatar_made(base: str | None) -> None:
    """Say that an avatar's programs have been stored, for :func:`programs_stored`.

    Args:
        base: Where they are, as for :func:`store_folder`.
    """
    if not _is_avatar_made(base):
        save_entry("avatar-made", _jax_version(), {}, (), base=base)


def _is_avatar_made(base: str | None) -> bool:
    path = _path("avatar-made", _jax_version(), base)
    return path is not None and path.exists()


def _jax_version() -> str:
    return f"{metadata.version('jax')} {metadata.version('jaxlib')}"


def _path(kind: str, key: str, base: str | None = None) -> Path | None:
    folder = store_folder(base)
    return None if folder is None else folder / f"{kind}-{digest(_names(kind, key))[:32]}{_SUFFIX}"


def _names(kind: str, key: str) -> dict[str, str]:
    return {"kind": kind, "key": key, "package": package_sources()}


@functools.cache
def package_sources() -> str:
    """The version of this package and a digest of its sources: what is stored by one is not read by another.

    The sources count because a version lasts for many changes, and so do size and time of the assets, which compiled
    programs hold as constants. Reading them takes some milliseconds; where they cannot be read (a zipped package) the
    version alone counts.
    """
    root = Path(__file__).parents[1]
    try:
        sources: dict[str, Any] = {
            str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.py"))
        }
        for path in sorted(root.glob("assets/**/*.*")):
            status = path.stat()
            sources[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns)
    except OSError:
        sources = {}
    return f"{__version__} {digest(sources)[:32]}"


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _pack(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], list[Any]]:
    """The description of arrays and their bytes, each array aligned."""
    listing, parts = {}, []
    for name, array in arrays.items():
        listing[name] = [array.dtype.str, array.shape, array.nbytes]
        parts += [np.ascontiguousarray(array).tobytes(), bytes(_aligned(array.nbytes) - array.nbytes)]
    return {"arrays": listing}, parts


def _unpack(description: dict[str, Any], whole: np.ndarray) -> dict[str, np.ndarray] | None:
    """The inverse of :func:`_pack`; None if the description is none of its."""
    arrays, start = {}, 0
    try:
        for name, (dtype, shape, size) in description["arrays"].items():
            arrays[name] = whole[start : start + size].view(np.dtype(dtype)).reshape(shape)
            start += _aligned(size)
    except (KeyError, TypeError, ValueError):
        return None
    return arrays


def _add(total: Any, value: Any) -> None:
    """Add one value to a digest, its type and length before it, so that no two values share a stream of bytes."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        data = value if isinstance(value, bytes) else repr(value).encode()
        total.update(f"{type(value).__name__} {len(data)} ".encode())
        total.update(data)
    elif isinstance(value, Mapping):
        total.update(f"mapping {len(value)} ".encode())
        for key in value:
            _add(total, key)
            _add(total, value[key])
    elif is_dataclass(value) and not isinstance(value, type):
        _add(total, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, (tuple, list)):
        total.update(f"sequence {len(value)} ".encode())
        for item in value:
            _add(total, item)
    elif hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of Python objects has no digest")
        total.update(f"array {array.dtype.str} {array.dtype.name} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array).data if array.dtype.kind in _KINDS else array.tobytes())
    else:
        raise TypeError(f"a value of type {type(value).__name__} has no digest")
