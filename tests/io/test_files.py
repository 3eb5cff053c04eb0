import json
import os

import numpy as np
import pytest

from digitaltwin.io import save_arrays
from digitaltwin.io._files import format_json, make_folder, whole_folder, write_bytes, write_json
from digitaltwin.types import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(InputError, match=r"report\.json: cannot be written \(no space left on device\)"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_order_and_letters_and_refuses_what_is_not_json(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"z": "é", "a": [1.5, None]})
    assert path.read_text(encoding="utf-8") == '{\n  "z": "é",\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})


def test_folders_under_a_file_cannot_be_made(tmp_path):
    # Works for the superuser too, whom permission bits do not stop.
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="out: cannot write into this folder"):
        make_folder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="file: cannot write into this folder"):
        make_folder(tmp_path / "file")
    for write in (lambda p: write_bytes(p, b""), lambda p: save_arrays(p, {"a": np.zeros(1)}, {})):
        with pytest.raises(InputError, match="cannot be written"):
            write(tmp_path / "file" / "a.npz")
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_a_summary_is_json_in_few_lines():
    rows = [{"ms": 1.23456789, "calls": 7, "quartiles": [1.0, 2.0]} for _ in range(100)]
    value = {"name": "x", "rows": rows, "nested": {"a": {"b": {}}, "c": []}, "flag": True, "none": None}
    text = format_json(value)
    found = json.loads(text)
    assert found["rows"][0] == {"ms": 1.2346, "calls": 7, "quartiles": [1.0, 2.0]}
    assert {**found, "rows": []} == {**value, "rows": []}
    assert text.count("\n") < 110
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json({"x": float("nan")})


def test_what_killed_runs_left_of_a_folder_goes_after_an_hour(tmp_path):
    others = [tmp_path / name for name in (".out.0123456789abcdef", ".other.0123456789abcdef", ".out.mine")]
    killed = tmp_path / ".out.fedcba9876543210"
    for folder in (*others, killed):
        folder.mkdir()
        (folder / "avatar.glb").write_text("half")
        if folder != others[0]:  # which a run may be filling now
            os.utime(folder, (0.0, 0.0))
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "avatar.glb").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *(folder.name for folder in others)}
