"""The store gives back what was put in, and whatever happens to the disk, right arrays."""

import os
import time

import numpy as np
import pytest

from digitaltwin.io import _store
from digitaltwin.io._store import digest, store_folder, stored_arrays, trim


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return store_folder()


class Maker:
    """Counts how often arrays are made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {
            "points": np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32),
            "mask": np.array([True, False, True]),
            "count": np.array(5),
            "none": np.zeros((0, 3), np.int64),
        }


def assert_right(arrays):
    expected = Maker()()
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        assert not arrays[name].flags.writeable


def test_arrays_are_made_once_and_come_back_as_they_were(folder):
    make = Maker()
    for _ in range(3):
        assert_right(stored_arrays("test", "key", make))
    assert make.calls == 1
    (entry,) = folder.iterdir()
    assert entry.name.startswith("test-")
    assert stored_arrays("test", "key", make)["points"].ctypes.data % 64 == 0


def test_a_folder_that_can_only_be_read_is_read(folder, monkeypatch):
    make = Maker()
    stored_arrays("test", "key", make)

    def refuse(*_):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(_store.os, "utime", refuse)
    assert_right(stored_arrays("test", "key", make))
    assert make.calls == 1


def test_another_key_kind_or_version_is_made_anew(folder, monkeypatch):
    make = Maker()
    stored_arrays("test", "key", make)
    stored_arrays("test", "other key", make)
    stored_arrays("other", "key", make)
    monkeypatch.setattr(_store, "package_sources", lambda: "other")
    assert_right(stored_arrays("test", "key", make))
    assert make.calls == 4


def test_no_damage_is_believed(folder):
    """Whichever byte is changed and wherever the file ends: the arrays are right, and made anew."""
    make = Maker()
    stored_arrays("test", "key", make)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    damaged = [whole[:length] for length in (0, 1, 8, 39, 48, 200, len(whole) - 1)] + [whole + b"\0"]
    for place in (0, 10, 41, 60, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        damaged.append(bytes(changed))
    for data in damaged:
        calls = make.calls
        entry.write_bytes(data)
        assert_right(stored_arrays("test", "key", make))
        assert make.calls == calls + 1
        assert entry.read_bytes() == whole


def test_an_entry_put_in_the_place_of_another_is_not_believed(folder):
    stored_arrays("test", "other", lambda: {"points": np.zeros(3)})
    (other,) = folder.iterdir()
    make = Maker()
    stored_arrays("test", "key", make)
    (entry,) = set(folder.iterdir()) - {other}
    entry.write_bytes(other.read_bytes())
    assert_right(stored_arrays("test", "key", make))


def test_a_disk_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_right(stored_arrays("test", "key", Maker()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = store_folder()
    assert folder is not None
    entry_name = _store._path("test", "key")
    assert entry_name is not None
    entry_name.mkdir()  # nothing can be renamed to a folder's name
    (entry_name / "in the way").touch()
    assert_right(stored_arrays("test", "key", Maker()))


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_a_folder_that_others_can_write_to_is_not_used(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert store_folder() is None
    assert_right(stored_arrays("test", "key", Maker()))
    assert not list(folder.iterdir())


def test_the_longest_unused_entries_go_first(folder):
    for i in range(4):
        stored_arrays("test", str(i), lambda: {"data": np.zeros(1000)})
        path = _store._path("test", str(i))
        assert path is not None
        os.utime(path, (1000 + i, 1000 + i))
    stored_arrays("test", "0", Maker())  # used now
    (folder / "foreign file").touch()
    old = folder / ".test-0123.entry.99"
    old.touch()
    os.utime(old, (0, 0))
    fresh = folder / ".test-0123.entry.98"
    fresh.touch()
    trim(folder, 17_000)
    assert {path.name for path in folder.iterdir()} == {
        *(_store._path("test", key).name for key in ("0", "3")),  # pyright: ignore[reportOptionalMemberAccess]
        "foreign file",
        fresh.name,
    }


def test_the_bound_is_kept_while_writing(folder, monkeypatch):
    monkeypatch.setattr(_store, "MAX_BYTES", 50_000)
    monkeypatch.setattr(_store, "_LOOK_BYTES", 5_000)
    for i in range(20):
        stored_arrays("test", str(i), lambda: {"data": np.zeros(1000)})
        assert sum(path.stat().st_size for path in folder.iterdir()) < 60_000


def test_digest_tells_values_apart():
    values = [
        None, True, 1, 1.0, "1", b"1", (), (1,), [1, 2], ((1,), 2), (1, (2,)), {"a": 1}, {"b": 1}, "ab", ("a", "b"),
        np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.zeros((1, 2)), np.int64(1), np.array([1, 2]),
    ]  # fmt: skip
    digests = [digest(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digests == [digest(value) for value in values]
    assert digest(1, 2) == digest(1, 2) != digest((1, 2))
    with pytest.raises(TypeError, match="no digest"):
        digest(object())


def test_reading_is_fast(folder):
    stored_arrays("test", "large", lambda: {"data": np.ones(2_000_000)})
    start = time.process_time()
    stored_arrays("test", "large", lambda: {})
    assert time.process_time() - start < 0.5  # 16 MB; it takes 0.01 s
