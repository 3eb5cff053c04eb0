"""Folders of predictions and scans: what is paired, what is refused, what comes out."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from digitaltwin.evaluation import ProtocolConfig, evaluate_pair, find_pairs, group_errors
from digitaltwin.evaluation._metrics import Complexity
from digitaltwin.evaluation._protocol import Pair, PairErrors, group_complexities
from digitaltwin.head import landmark_points
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import LANDMARKS, read_landmarks
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
    copy, complexity, comparison = evaluate_pair(left, config)
    assert np.abs(copy.armse).max() < 1e-2
    scan = trimesh.load(left.scan, process=False)
    np.testing.assert_allclose(comparison.vertices, scan.vertices, atol=0.02)
    assert (complexity.vertices == len(np.unique(scan.vertices[np.unique(scan.faces)], axis=0))).all()
    assert (complexity.vertices_within < complexity.vertices).all()
    assert (np.diff(complexity.faces_within) > 0).all(), "a larger crop holds more"
    smaller, larger = evaluate_pair(right, config).errors, evaluate_pair(berta, config).errors
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
    errors = [PairErrors(*np.full((len(PairErrors._fields), 2), value)) for value in (1.0, 3.0, 4.0)]
    table = group_errors(pairs, errors)
    assert list(table) == ["x", "y", "all"]
    np.testing.assert_allclose(table["all"].mean, 3.0)
    np.testing.assert_allclose(table["all"].margin, 1.96 * np.std([2.0, 4.0], ddof=1) / np.sqrt(2.0))
    assert table["x"].subjects == 1
    assert np.isnan(table["x"].margin).all()


def test_a_subject_in_two_groups_counts_once_among_all():
    """One of a subject's two photos in each group, at 1 and 3 mm, and another subject at 4."""
    pairs = [Pair(subject, f"{subject}/{group}", group, *[Path(group)] * 4) for subject, group in ("ax", "ay", "bx")]
    errors = [PairErrors(*np.full((len(PairErrors._fields), 1), value)) for value in (1.0, 3.0, 4.0)]
    table = group_errors(pairs, errors, measure="median")
    assert (table["all"].subjects, table["all"].mean[0]) == (2, 3.0)
    assert (table["x"].subjects, table["x"].mean[0]) == (2, 2.5)
    with pytest.raises(InputError, match="measure: is 'sum'; give one of armse"):
        group_errors(pairs, errors, measure="sum")


def test_complexities_are_means_over_the_predictions():
    pairs = [Pair(subject, subject, group, *[Path(group)] * 4) for subject, group in ("ax", "bx", "cy")]
    complexities = [Complexity(*np.full((5, 2), value)) for value in (1.0, 3.0, 8.0)]
    table = group_complexities(pairs, complexities)
    assert {name: float(group.vertices[0]) for name, group in table.items()} == {"x": 2.0, "y": 8.0, "all": 4.0}


def test_other_landmarks_align_and_the_nose_tip_still_crops(folders):
    """Four landmarks suffice; the crop's centre is read by its name."""
    pair = find_pairs(folders / "predictions", folders / "scans")[0]
    config = ProtocolConfig(crops_mm=(95.0,), landmarks=LANDMARKS[:4])
    errors, _, comparison = evaluate_pair(pair, config)
    assert errors.armse < 1e-2
    scan = trimesh.load(pair.scan, process=False).vertices
    tip = read_landmarks(pair.scan_landmarks, scan, names=("nose_tip",))
    reach_mm = np.linalg.norm(scan - tip, axis=1)[np.isfinite(comparison.scan_mm)].max()
    assert 94.0 < reach_mm <= 95.0
    with pytest.raises(InputError, match="has no nose_bottom"):
        evaluate_pair(pair, ProtocolConfig(face_factor=1.4))


def test_a_unit_is_that_of_the_predictions(folders):
    pair = find_pairs(folders / "predictions", folders / "scans")[0]
    mesh, seven = (
        trimesh.load(pair.prediction, process=False),
        read_landmarks(pair.prediction_landmarks, np.zeros((0, 3))),
    )
    write_mesh(pair.prediction, 1e-3 * mesh.vertices, mesh.faces, 1e-3 * seven)
    assert evaluate_pair(pair, ProtocolConfig(unit_mm=1000.0)).errors.armse.max() < 1e-2


@pytest.mark.parametrize(
    "wrong",
    [
        {"crops_mm": ()},
        {"crops_mm": (95.0, 80.0)},
        {"crops_mm": (0.0, 80.0)},
        {"crops_mm": (float("nan"),)},
        {"face_factor": 0.0},
        {"landmarks": ("nose_tip", "nose_tip", "mouth_left")},
        {"landmarks": LANDMARKS[:2]},
        {"unit_mm": -1.0},
    ],
)
def test_numbers_of_the_protocol_are_checked(wrong):
    with pytest.raises(InputError, match=f"ProtocolConfig: {next(iter(wrong))} is .*; it must be"):
        ProtocolConfig(**wrong)


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
