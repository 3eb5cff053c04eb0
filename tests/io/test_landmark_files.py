"""Landmarks in the files they come in."""

import numpy as np
import pytest

from digitaltwin.io import LANDMARKS, read_landmarks
from digitaltwin.io._landmark_files import CHALLENGE_LANDMARKS
from digitaltwin.types import InputError

VERTICES = np.arange(30.0).reshape(10, 3)
SEVEN = np.array([[-45, 30, 5], [-15, 31, 9], [15, 31, 9], [45, 30, 5], [0, -20, 30], [-25, -50, 12], [25, -50, 12.5]])


def write_picked(path, points, order="xyz", active="1"):
    """As MeshLab does, whose attributes come in any order."""
    rows = [
        " ".join(["<point", *(f'{axis}="{point["xyz".index(axis)]}"' for axis in order), f'active="{active}"/>'])
        for point in points
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = '<!DOCTYPE PickedPoints>\n<PickedPoints>\n<DocumentData><User name="x"/></DocumentData>\n'
    path.write_text(head + "\n".join(rows) + "\n</PickedPoints>\n")


def write_numbered(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{i} {x} {y} {z}\n" for i, (x, y, z) in enumerate(points, 1)) + "\n")


def write_rows(path, points):
    path.write_text("\n".join(" ".join(map(str, point)) for point in points))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.pp", write_picked),
        ("b.pp", lambda path, points: write_picked(path, points, order="zxy")),
        ("a.lnd", write_numbered),
        ("a.txt", write_rows),
        ("a.npy", np.save),
    ],
)
def test_formats_hold_the_same_points(tmp_path, name, write):
    write(tmp_path / name, SEVEN)
    np.testing.assert_allclose(read_landmarks(tmp_path / name, VERTICES, names=CHALLENGE_LANDMARKS), SEVEN)
    write(tmp_path / name, SEVEN[:6])
    with pytest.raises(InputError, match=rf"{name}: has shape \(6, 3\), not \(7, 3\); give right_eye_outer, .*bottom"):
        read_landmarks(tmp_path / name, VERTICES, names=CHALLENGE_LANDMARKS)


def test_rows_may_be_numbered_in_any_order_but_must_be_numbered(tmp_path):
    path = tmp_path / "a.lnd"
    write_numbered(path, SEVEN)
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    np.testing.assert_allclose(read_landmarks(path, VERTICES), SEVEN)
    path.write_text(path.read_text().replace("7 25", "8 25"))
    with pytest.raises(InputError, match="rows are not numbered from 1"):
        read_landmarks(path, VERTICES)


def test_files_that_hold_no_landmarks_are_named(tmp_path):
    for name in ("a.pp", "a.lnd", "a.txt", "a.npy", "a.csv"):
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            read_landmarks(tmp_path / name, VERTICES)
        (tmp_path / name).write_bytes(b"\xff\xfe nothing <")
        with pytest.raises(InputError, match=name):
            read_landmarks(tmp_path / name, VERTICES)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=name):
            read_landmarks(tmp_path / name, VERTICES)
    write_picked(tmp_path / "a.pp", SEVEN, active="0")
    with pytest.raises(InputError, match="not picked"):
        read_landmarks(tmp_path / "a.pp", VERTICES)
    np.save(tmp_path / "a.npy", np.full((7, 3), np.nan))
    with pytest.raises(InputError, match="not all finite"):
        read_landmarks(tmp_path / "a.npy", VERTICES)
    with pytest.raises(InputError, match="is not one of .csv, .pp"):
        read_landmarks(tmp_path / "a.json", VERTICES)


def test_landmarks_may_be_numbers_of_vertices(tmp_path):
    (tmp_path / "landmarks.csv").write_text("\n".join(f"{name},{i}" for i, name in enumerate(LANDMARKS)))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "landmarks.csv", VERTICES), VERTICES[:7])
    tip = read_landmarks(tmp_path / "landmarks.csv", VERTICES, names=("nose_tip",))
    np.testing.assert_array_equal(tip, VERTICES[4:5])
    (tmp_path / "short.csv").write_text("nose_tip,1,2,3\n")
    with pytest.raises(InputError, match="has no right_eye_outer"):
        read_landmarks(tmp_path / "short.csv", VERTICES)
    (tmp_path / "far.csv").write_text("\n".join(f"{name},{i + 5}" for i, name in enumerate(LANDMARKS)))
    with pytest.raises(InputError, match="is vertex 10 of a mesh of 10"):
        read_landmarks(tmp_path / "far.csv", VERTICES)
    (tmp_path / "word.csv").write_text("\n".join(f"{name},here" for name in LANDMARKS))
    with pytest.raises(InputError, match="right_eye_outer is here"):
        read_landmarks(tmp_path / "word.csv", VERTICES)
