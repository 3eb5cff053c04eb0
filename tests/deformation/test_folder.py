"""A folder of new heads: chunks, resuming, seeds, and what is refused."""

import functools
import json

import numpy as np
import pytest

from digitaltwin.deformation import _folder, training_population
from digitaltwin.deformation._config import AugmentConfig
from digitaltwin.deformation._folder import augment_folder
from digitaltwin.head import load_head, load_subjects
from digitaltwin.io import load_arrays
from digitaltwin.types import InputError

COUNT, CHUNK = 50, 20
CONFIG = AugmentConfig(count=COUNT, chunk=CHUNK)


@pytest.fixture(scope="module", autouse=True)
def populations():
    """The training subjects are encoded once for each origin, not once a run."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(lambda about_group: training_population(load_head(), about_group=about_group))
        patch.setattr(_folder, "training_population", lambda _, *, about_group: once(about_group))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads")
    assert augment_folder(path, CONFIG) == (3, 3)
    return path


def files(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_chunks_hold_what_the_file_beside_them_says(folder, head):
    settings = json.loads((folder / "augment.json").read_text())
    assert settings["count"] == COUNT
    chunks = [load_arrays(path)[0] for path in sorted(folder.glob("heads-*.npz"))]
    assert [len(chunk["vertices"]) for chunk in chunks] == [20, 20, 10]
    heads = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    assert heads["vertices"].shape == (COUNT, *head.mean.shape)
    assert heads["vertices"].dtype == np.float32
    assert np.isfinite(heads["vertices"]).all()
    assert len(np.unique(heads["key"], axis=0)) == COUNT
    counts = np.bincount(heads["group"], minlength=6)
    assert np.abs(counts - np.array(settings["shares"]) * COUNT).max() < 1
    subjects = load_subjects()
    group = np.asarray(subjects.group)
    assert (group[heads["subjects"]] == heads["group"][:, None]).all()
    assert (group[heads["closest"]] == heads["group"]).all()
    assert not np.asarray(subjects.test)[heads["subjects"]].any()
    radius = np.linalg.norm(heads["coefficients"], axis=1)
    assert (radius > 0.599).all()
    assert (radius < 1.301).all()


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(folder, tmp_path):
    for name, data in files(folder).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "heads-00000.npz").unlink()  # never written
    whole = (tmp_path / "heads-00002.npz").read_bytes()
    (tmp_path / "heads-00002.npz").write_bytes(whole[: len(whole) // 2])  # cut off by a full disk, say
    kept = (tmp_path / "heads-00001.npz").stat().st_mtime_ns
    assert augment_folder(tmp_path, CONFIG) == (3, 2)
    assert files(tmp_path) == files(folder)
    assert (tmp_path / "heads-00001.npz").stat().st_mtime_ns == kept


def test_heads_do_not_depend_on_the_size_of_the_chunks(folder, tmp_path):
    augment_folder(tmp_path, AugmentConfig(count=COUNT, chunk=COUNT))
    whole = load_arrays(tmp_path / "heads-00000.npz")[0]
    parts = [load_arrays(path)[0] for path in sorted(folder.glob("heads-*.npz"))]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in parts]))


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "pca"}])
def test_other_settings_are_refused_in_the_same_folder(folder, change):
    before = files(folder)
    with pytest.raises(InputError, match=next(iter(change))):
        augment_folder(folder, AugmentConfig(count=COUNT, chunk=CHUNK, **change))
    assert files(folder) == before


@pytest.mark.parametrize("change", [{"method": "pca"}, {"method": "none"}, {"about_group": True}])
def test_other_methods_make_other_heads(folder, tmp_path, change):
    augment_folder(tmp_path, AugmentConfig(count=20, chunk=CHUNK, **change))
    mine, other = (load_arrays(path / "heads-00000.npz")[0] for path in (tmp_path, folder))
    assert mine["vertices"].shape == other["vertices"].shape
    assert np.abs(mine["vertices"] - other["vertices"]).max() > 1
    assert np.linalg.norm(mine["vertices"] - other["vertices"].mean(0), axis=2).mean() < 15


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"count": 0}, "count"),
        ({"method": "magic"}, "magic"),
        ({"seed": -1}, "seed"),
        ({"about_group": True, "method": "pca"}, "origin"),
    ],
)
def test_wrong_settings_are_named(change, named):
    with pytest.raises(InputError, match=named):
        AugmentConfig(**change)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "augment.json").write_text("[]")
    with pytest.raises(InputError, match="name another"):
        augment_folder(tmp_path, CONFIG)
    assert (tmp_path / "augment.json").read_text() == "[]"
