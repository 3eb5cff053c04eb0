import hashlib
import json
import zipfile

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.types import InputError

DTYPES = hnp.scalar_dtypes() | hnp.unicode_string_dtypes()


@settings(max_examples=50, deadline=None)
@given(array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=5)))
def test_arrays_come_back_bit_by_bit(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    save_arrays(path, {"a": array, "nested/name": array}, {"unit": "mm", "names": ["é", "b"]})
    arrays, metadata = load_arrays(path)
    assert set(arrays) == {"a", "nested/name"}
    assert arrays["a"].dtype == array.dtype
    assert arrays["a"].shape == array.shape
    assert arrays["a"].tobytes() == array.tobytes()
    assert metadata == {"unit": "mm", "names": ["é", "b"]}


def test_same_arrays_give_same_bytes_whatever_their_order(tmp_path):
    save_arrays(tmp_path / "1.npz", {"a": np.eye(3), "b": jnp.arange(4)}, {"x": 1, "y": 2})
    save_arrays(tmp_path / "2.npz", {"b": np.arange(4, dtype=np.int32), "a": np.eye(3)}, {"y": 2, "x": 1})
    first, second = ((tmp_path / name).read_bytes() for name in ("1.npz", "2.npz"))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    with zipfile.ZipFile(tmp_path / "1.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_reads_ours_and_we_read_numpys(tmp_path):
    save_arrays(tmp_path / "ours.npz", {"a": np.arange(5)}, {"k": 1})
    np.savez(tmp_path / "theirs.npz", a=np.arange(5))
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["a"], np.arange(5))
        assert json.loads(file["metadata.json"]) == {"k": 1}
    arrays, metadata = load_arrays(tmp_path / "theirs.npz")
    np.testing.assert_array_equal(arrays["a"], np.arange(5))
    assert metadata == {}


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays(tmp_path / "a.npz", {"a": np.array([{}, []], dtype=object)}, {})
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "pickled.npz", a=np.array([{}, []], dtype=object))
    with pytest.raises(InputError, match=r"pickled\.npz: not a whole"):
        load_arrays(tmp_path / "pickled.npz")


def test_broken_files_are_named(tmp_path):
    whole = tmp_path / "whole.npz"
    save_arrays(whole, {"a": np.random.default_rng(0).normal(size=1000)}, {})
    data = whole.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    for name, broken in {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello", "flipped": flipped}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(broken)
        with pytest.raises(InputError, match=f"{name}.npz: not a whole"):
            load_arrays(path)
    with pytest.raises(InputError, match=r"absent\.npz: cannot be read \(no such file"):
        load_arrays(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="cannot be read"):
        load_arrays(tmp_path)
