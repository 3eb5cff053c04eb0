"""Small folders in the shape of published challenges: what is paired, what is refused, what comes out."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from digitaltwin.evaluation import ProtocolConfig, evaluate_pair
from digitaltwin.evaluation._face_region import face_region
from digitaltwin.evaluation._layouts import find_now_pairs, find_stirling_pairs
from digitaltwin.head import landmark_points
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io._landmark_files import CHALLENGE_LANDMARKS
from digitaltwin.types import InputError
from tests.io.test_landmark_files import write_numbered, write_picked, write_rows

NOSE_BOTTOM = 77  # of the 104


@pytest.fixture(scope="module")
def face(head):
    """The mean head and the challenges' seven landmarks."""
    points = np.asarray(landmark_points(head, head.mean), np.float64)
    seven = points[[NOSE_BOTTOM if name == "nose_bottom" else i for name, i in zip(CHALLENGE_LANDMARKS, ALIGNMENT)]]
    return np.asarray(head.mean, np.float64), np.asarray(head.faces), seven


def write_mesh(path, vertices, faces):
    path.parent.mkdir(exist_ok=True, parents=True)
    trimesh.Trimesh(vertices, faces, process=False).export(path)


@pytest.fixture
def now(tmp_path, face):
    """Two subjects, three photos; predictions in metres and turned, in both formats of meshes and landmarks."""
    vertices, faces, seven = face
    data, predictions = tmp_path / "now", tmp_path / "predictions"
    for subject in ("FaMoS_1", "FaMoS_2"):
        write_mesh(data / "scans" / subject / "natural.000001.obj", vertices + 7.0, faces)
        write_picked(data / "scans_lmks_onlypp" / subject / "natural.000001_picked_points.pp", seven + 7.0, order="yxz")
    photos = ["FaMoS_1/multiview_neutral/IMG_1.jpg", "FaMoS_1/selfie/IMG_1.jpg", "FaMoS_2/selfie/IMG_2.jpg"]
    (data / "imagepathsvalidation.txt").write_text("\n".join(f"./iphone/{photo}" for photo in photos) + "\n")
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for number, photo in enumerate(photos):
        place = predictions / photo.replace(".jpg", ".ply" if number else ".obj")
        write_mesh(place, 1e-3 * vertices @ turn, faces)
        if number:
            np.save(place.with_suffix(".npy"), 1e-3 * seven @ turn)
        else:
            write_rows(place.with_suffix(".txt"), 1e-3 * seven @ turn)
    return predictions, data


def test_now_is_read_as_it_is(now):
    pairs = find_now_pairs(*now)
    assert [(pair.name, pair.subject, pair.group) for pair in pairs] == [
        ("FaMoS_1/multiview_neutral/IMG_1", "FaMoS_1", "multiview_neutral"),
        ("FaMoS_1/selfie/IMG_1", "FaMoS_1", "selfie"),
        ("FaMoS_2/selfie/IMG_2", "FaMoS_2", "selfie"),
    ]
    assert [pair.prediction.suffix + pair.prediction_landmarks.suffix for pair in pairs] == [
        ".obj.txt",
        ".ply.npy",
        ".ply.npy",
    ]
    for pair in pairs:
        assert evaluate_pair(pair, ProtocolConfig.now()).errors.median.max() < 1e-3, "metres, but the size is free"


def test_now_ends_where_something_lacks(now):
    predictions, data = now
    (predictions / "FaMoS_1" / "selfie" / "IMG_1.npy").unlink()
    (data / "scans" / "FaMoS_2" / "second.obj").write_text("")
    with pytest.raises(InputError, match=r"2 of 3 cannot be scored \(FaMoS_1/selfie/IMG_1: neither .*; .*not one .obj"):
        find_now_pairs(predictions, data)
    (data / "list.txt").write_text("IMG_1.jpg\n")
    with pytest.raises(InputError, match="is not SUBJECT/CHALLENGE/IMAGE"):
        find_now_pairs(predictions, data, images=data / "list.txt")
    with pytest.raises(InputError, match="cannot be read .*; name the list"):
        find_now_pairs(predictions, data / "scans")


@pytest.fixture
def stirling(tmp_path, face):
    """Two subjects, upper and lower case mixed as in the published files; one photo each of high and low quality."""
    vertices, faces, seven = face
    data, predictions = tmp_path / "stirling", tmp_path / "predictions"
    write_mesh(data / "F_3D_N" / "F1008_N.obj", vertices - 9.0, faces)
    write_numbered(data / "annotations" / "F_3D_N" / "F1008_N.lnd", seven - 9.0)
    write_mesh(data / "M_3D_N" / "m1010_N.obj", vertices, faces)
    write_numbered(data / "annotations" / "M_3D_N" / "M1010_N.lnd", seven)
    for name in ("HQ/F1008_01", "LQ/M1010_frame_3"):
        write_mesh(predictions / f"{name}.obj", 2.0 * vertices * [1.0, 1.0, 1.02], faces)
        np.save(predictions / f"{name}.npy", 2.0 * seven)
    return predictions, data


def test_stirling_is_read_as_it_is(stirling):
    pairs = find_stirling_pairs(*stirling)
    assert [(pair.name, pair.subject, pair.group, pair.scan.name) for pair in pairs] == [
        ("HQ/F1008_01", "F1008", "HQ", "F1008_N.obj"),
        ("LQ/M1010_frame_3", "M1010", "LQ", "m1010_N.obj"),
    ]
    (stirling[1] / "annotations" / "M_3D_N" / "M1010_N.lnd").unlink()
    (stirling[0] / "HQ" / "F1008_01.npy").unlink()
    with pytest.raises(InputError, match="2 of 2 cannot be scored .*neither landmarks beside it.*no M1010_N.lnd"):
        find_stirling_pairs(*stirling)


def test_stirling_aligns_by_landmarks_alone_within_the_face(stirling, face):
    """The landmarks say twice the size: nothing else moves the mesh, which is deeper by two percent."""
    vertices, _, seven = face
    errors, _, comparison = evaluate_pair(find_stirling_pairs(*stirling)[1], ProtocolConfig.fg2018())
    np.testing.assert_allclose(comparison.vertices, vertices * [1.0, 1.0, 1.02], atol=1e-3)
    centre, radius_mm = face_region(seven, factor=1.2)
    inside = np.linalg.norm(vertices - centre, axis=1) <= radius_mm
    assert np.isfinite(comparison.scan_mm)[~inside].sum() == 0
    assert np.isfinite(comparison.scan_mm)[inside].mean() > 0.9, "all but vertices of no face"
    assert errors.scan_to_prediction == pytest.approx(np.sqrt(np.nanmean(comparison.scan_mm**2)))
    assert errors.scan_to_prediction > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["now", "stirling"])
def test_the_command_scores_them(request, tmp_path, layout):
    predictions, data = request.getfixturevalue(layout)
    arguments = [f"--layout={layout}", f"--predictions={predictions}", f"--scans={data}", f"--out={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "experiments.evaluate", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    column, groups = {
        "now": ("median_mm", ["multiview_neutral", "selfie", "all"]),
        "stirling": ("scan_to_prediction_mm", ["HQ", "LQ", "all"]),
    }[layout]
    assert [(row["group"], row["crop_mm"]) for row in rows] == [(group, "face") for group in groups]
    assert rows[-1]["subjects"] == "2"
    assert float(rows[-1][column]) < 2.0
    assert float(rows[-1]["edge_mm"]) > 1.0
    assert "All scans' distances together" in ended.stdout
