"""Jobs that are stopped anywhere go on where they were, refuse other settings, and keep a second run away."""

import json
import os
import zipfile

import numpy as np
import pytest

from digitaltwin.io import load_arrays
from digitaltwin.io._files import whole_folder
from digitaltwin.io._members import map_member, read_members
from digitaltwin.io._resumable import ResumableArrays, ResumableJob
from digitaltwin.types import InputError

PARTS = ["a.npz", "b.npz", "c.npz"]


def run(folder, settings, *, stop_after=3):
    """Make what is missing; returns the parts that were made."""
    job, made = ResumableJob(folder, settings, parts="*.npz"), []
    with job.begin():
        for part in job.missing(PARTS)[:stop_after]:
            job.save(part, {"x": np.full(3, ord(part[0]))}, {"unit": "mm"})
            made.append(part)
    return made


def test_a_stopped_folder_is_continued_and_holds_the_same_bytes(tmp_path):
    run(tmp_path / "whole", {"seed": 0})
    assert run(tmp_path / "stopped", {"seed": 0}, stop_after=1) == ["a.npz"]
    (tmp_path / "stopped" / ".b.npz.0123456789abcdef").write_bytes(b"half of it, of a run that was killed")
    (tmp_path / "stopped" / "a.npz").write_bytes(b"damaged")
    assert run(tmp_path / "stopped", {"seed": 0}) == PARTS
    assert run(tmp_path / "stopped", {"seed": 0}) == []
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "stopped")]
    assert files[0] == files[1]
    assert set(files[0]) == {*PARTS, "settings.json"}, "neither lock nor temporary files are left"


def test_a_folder_of_other_settings_is_refused_by_name(tmp_path):
    run(tmp_path, {"seed": 0, "sides": (1, 2)})
    assert run(tmp_path, {"seed": 0, "sides": (1, 2)}) == []
    with pytest.raises(InputError, match=r"other input or flags \(seed\)"):
        run(tmp_path, {"seed": 1, "sides": (1, 2)})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 0, "sides": [1, 2]}
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match="says nothing of how"):
        run(tmp_path, {"seed": 0})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(InputError, match="no settings.json says how"):
        run(tmp_path, {"seed": 0})


def test_a_second_run_is_kept_away_until_the_first_ends(tmp_path):
    with ResumableJob(tmp_path, {}).begin(), pytest.raises(InputError, match="another run"):
        run(tmp_path, {})
    assert run(tmp_path, {}) == PARTS


def test_a_part_of_its_own_settings_is_made_anew_when_they_change(tmp_path):
    job = ResumableJob(tmp_path, {})
    job.save("a.npz", {"x": np.zeros(2)}, settings={"files": (1, 2)})
    assert job.load("a.npz", {"files": (1, 2)}) is not None
    assert job.is_complete("a.npz", {"files": [1, 2]})
    assert not job.is_complete("a.npz", {"files": [1, 3]})
    assert not job.is_complete("a.npz")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "folder"

    def interrupted():
        with whole_folder(target) as temporary:
            (temporary / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with whole_folder(target) as temporary:
            (temporary / "a").write_text(text)
        (target / "of the user").write_text("kept")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "second", "of the user": "kept"}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into this folder"), whole_folder(tmp_path / "file" / "out"):
        pass


def test_arrays_of_another_run_or_other_settings_are_left_alone(tmp_path):
    out = tmp_path / "fits.npz"
    job = ResumableArrays(out, {"chunk": 1}, 3, 1)
    with job.begin():
        job.write(1, {"x": np.ones((1, 2))})
        with pytest.raises(InputError, match="another run"), ResumableArrays(out, {"chunk": 1}, 3, 1).begin():
            pass
    with (
        pytest.raises(InputError, match=r"belongs to a run of other input or flags \(chunk\)"),
        ResumableArrays(out, {"chunk": 2}, 3, 2).begin(),
    ):
        pass
    again = ResumableArrays(out, {"chunk": 1}, 3, 1)
    with again.begin():
        assert again.missing_chunks() == [0, 2]
        for number in again.missing_chunks():
            again.write(number, {"x": np.full((1, 2), float(number))})
        again.assemble({})
    assert load_arrays(out)[0]["x"].tolist() == [[0, 0], [1, 1], [2, 2]]
    out.write_bytes(b"something else")
    with pytest.raises(InputError, match="not this command's"):
        again.is_done()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    job = ResumableArrays(tmp_path / "fits.npz", {}, 2, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    with job.begin():
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="no space left on device.*make room"):
            job.write(0, {"x": np.ones((1, 2))})
    assert job.missing_chunks() == [0, 1]


def test_members_are_mapped_where_they_lie(tmp_path):
    arrays = {"long": np.arange(12.0).reshape(3, 4), "turned": np.asfortranarray(np.arange(6).reshape(2, 3))}
    arrays["big"] = np.arange(5, dtype=">i2")
    for name, save in {"stored": np.savez, "packed": np.savez_compressed}.items():
        path = tmp_path / f"{name}.npz"
        save(path, **arrays)
        assert {name: member.shape for name, member in read_members(path).items()} == {
            name: array.shape for name, array in arrays.items()
        }
        for member, array in arrays.items():
            mapped = map_member(path, member, tmp_path)
            assert isinstance(mapped, np.memmap)
            np.testing.assert_array_equal(mapped, array)
    with zipfile.ZipFile(tmp_path / "packed.npz") as archive:
        assert archive.getinfo("long.npy").compress_type == zipfile.ZIP_DEFLATED
