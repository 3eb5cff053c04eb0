"""Folders of predictions and scans: what is paired, what is refused, what comes out."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from digitaltwin.evaluation import (
    LANDMARKS,
    Pair,
    PairErrors,
    ProtocolConfig,
    evaluate_pair,
    find_pairs,
    group_errors,
    read_landmarks,
)
from digitaltwin.head import landmark_points
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.types import InputError


def write_mesh(path, vertices, faces, landmarks=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    trimesh.Trimesh(vertices, faces, process=False).export(path)
    if landmarks is not None:
        rows = ["landmark,x,y,z", *(f"{name},{x},{y},{z}" for name, (x, y, z) in zip(LANDMARKS, landmarks))]
        path.with_suffix(".csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def folders(tmp_path, head):
    """Two subjects, the second larger; of the first two predictions, of the second one."""
    vertices, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    seven = np.asarray(landmark_points(head, head.mean), np.float64)[ALIGNMENT]
    write_mesh(tmp_path / "scans" / "anna.ply", vertices, faces, seven)
    write_mesh(tmp_path / "scans" / "berta.obj", 1.04 * vertices, faces, 1.04 * seven)
    write_mesh(tmp_path / "predictions" / "anna" / "left.obj", vertices + 100.0, faces, seven + 100.0)
    write_mesh(tmp_path / "predictions" / "anna" / "right.stl", 0.98 * vertices, faces, 0.98 * seven)
    write_mesh(tmp_path / "predictions" / "berta.ply", vertices, faces, seven)
    (tmp_path / "groups.csv").write_text("name,group\nanna,short\nberta,tall\n")
    return tmp_path


def test_predictions_find_their_scans_and_groups(folders):
    pairs = find_pairs(folders / "predictions", folders / "scans", groups=folders / "groups.csv")
    assert [(pair.name, pair.subject, pair.group, pair.scan.name) for pair in pairs] == [
        ("anna/left", "anna", "short", "anna.ply"),
        ("anna/right", "anna", "short", "anna.ply"),
        ("berta", "berta", "tall", "berta.obj"),
    ]
    assert {pair.group for pair in find_pairs(folders / "predictions", folders / "scans")} == {"all"}


def test_a_copy_scores_nothing_and_a_size_what_it_should(folders):
    left, right, berta = find_pairs(folders / "predictions", folders / "scans")
    config = ProtocolConfig(crops_mm=(80.0, 95.0))
    copy, comparison = evaluate_pair(left, config)
    assert np.abs(copy.armse).max() < 1e-2
    scan = trimesh.load(left.scan, process=False)
    np.testing.assert_allclose(comparison.vertices, scan.vertices, atol=0.02)
    smaller, larger = evaluate_pair(right, config)[0], evaluate_pair(berta, config)[0]
    assert (smaller.armse > 0.1).all()
    assert (larger.armse > smaller.armse).all(), "four percent are more than two"
    np.testing.assert_allclose(larger.armse, (larger.prediction_to_scan + larger.scan_to_prediction) / 2.0)
    assert (larger.median <= larger.mean + larger.deviation).all()
    assert larger.armse[1] > larger.armse[0], "what is further from the nose is further off"


def test_a_subjects_predictions_count_once():
    """Two of one subject at 1 and 3 mm, one of another at 4: their mean is that of 2 and 4."""

    def pair(subject, name, group):
        return Pair(subject, name, group, *[Path(name)] * 4)

    pairs = [pair("a", "a/1", "x"), pair("a", "a/2", "x"), pair("b", "b", "y")]
    errors = [PairErrors(*np.full((6, 2), value)) for value in (1.0, 3.0, 4.0)]
    table = group_errors(pairs, errors)
    assert list(table) == ["x", "y", "all"]
    np.testing.assert_allclose(table["all"].mean, 3.0)
    np.testing.assert_allclose(table["all"].margin, 1.96 * np.std([2.0, 4.0], ddof=1) / np.sqrt(2.0))
    assert table["x"].subjects == 1
    assert np.isnan(table["x"].margin).all()


def test_landmarks_may_be_numbers_of_vertices(tmp_path):
    vertices = np.arange(30.0).reshape(10, 3)
    (tmp_path / "landmarks.csv").write_text("\n".join(f"{name},{i}" for i, name in enumerate(LANDMARKS)))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "landmarks.csv", vertices), vertices[:7])
    (tmp_path / "short.csv").write_text("nose_tip,1,2,3\n")
    with pytest.raises(InputError, match="has no right_eye_outer"):
        read_landmarks(tmp_path / "short.csv", vertices)
    (tmp_path / "far.csv").write_text("\n".join(f"{name},{i + 5}" for i, name in enumerate(LANDMARKS)))
    with pytest.raises(InputError, match="is vertex 10 of a mesh of 10"):
        read_landmarks(tmp_path / "far.csv", vertices)
    (tmp_path / "word.csv").write_text("\n".join(f"{name},here" for name in LANDMARKS))
    with pytest.raises(InputError, match="right_eye_outer is here"):
        read_landmarks(tmp_path / "word.csv", vertices)


def test_what_is_missing_is_listed_before_anything_is_scored(folders):
    (folders / "scans" / "berta.obj").unlink()
    (folders / "predictions" / "anna" / "left.csv").unlink()
    with pytest.raises(InputError, match=r"2 of 3 cannot be scored \(anna/left: neither .*; berta: no scan"):
        find_pairs(folders / "predictions", folders / "scans")
    with pytest.raises(InputError, match="is no folder"):
        find_pairs(folders / "predictions", folders / "nowhere")
    (folders / "empty").mkdir()
    with pytest.raises(InputError, match="holds no meshes"):
        find_pairs(folders / "empty", folders / "scans")
