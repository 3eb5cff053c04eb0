"""Every way a mesh can fail to be a manifold is named with the vertices or faces that have it."""

import numpy as np
import pytest

from digitaltwin.geometry._surface import check_surface
from digitaltwin.types import InputError

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1.0]])
PYRAMID = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
"""Four sides without a base: a surface with a boundary."""


def changed(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("vertices", "faces"),
    [
        (CORNERS, PYRAMID),  # with a boundary
        (CORNERS, np.concatenate([PYRAMID, [[0, 2, 1], [0, 3, 2]]])),  # closed
        (np.concatenate([CORNERS, CORNERS + 5]), np.concatenate([PYRAMID, PYRAMID + 5])),  # in two pieces
    ],
)
def test_surfaces_pass(vertices, faces):
    assert check_surface(vertices, faces) is None


FAULTS = {
    "quads": (CORNERS, np.array([[0, 1, 2, 3]]), r"faces: has shape \(1, 4\), not \(n, 3\)"),
    "no faces": (CORNERS, np.zeros((0, 3), int), r"faces: has shape \(0, 3\)"),
    "flat points": (CORNERS[:, :2], PYRAMID, r"vertices: has shape \(5, 2\)"),
    "fractions": (CORNERS, PYRAMID.astype(float), "faces: are float64"),
    "index": (CORNERS, changed(PYRAMID, (2, 1), 7), r"faces: 1 of 4 name vertices outside \[0, 5\) \(2\)"),
    "nan": (changed(CORNERS, (3, 0), np.nan), PYRAMID, r"vertices: 1 of 5 are not finite \(3\)"),
    "unused": (np.concatenate([CORNERS, [[9, 9, 9]]]), PYRAMID, r"vertices: 1 of 6 belong to no face \(5\)"),
    "twice": (CORNERS, np.concatenate([PYRAMID, [[1, 1, 2]]]), r"faces: 1 of 5 name one vertex twice \(4\)"),
    "copy": (CORNERS, np.concatenate([PYRAMID, [[4, 0, 1]]]), r"faces: 1 of 5 repeat .* \(4\)"),
    "flat": (changed(CORNERS, 4, [0.5, 0, 0]), PYRAMID, r"faces: 1 of 4 have no area \(0\)"),
    "three at an edge": (
        np.concatenate([CORNERS, [[0.5, -1, 0]]]),
        np.concatenate([PYRAMID, [[1, 0, 5], [0, 1, 2]]]),
        r"faces: 3 of 6 share an edge with more than one other \(0, 4, 5\)",
    ),
    "turned": (CORNERS, changed(PYRAMID, 2, [3, 2, 4]), r"faces: . of 4 are oriented against a neighbour"),
    "touching": (
        np.concatenate([CORNERS, CORNERS[:4] + [0, 0, 2]]),
        np.concatenate([PYRAMID, [[6, 5, 4], [7, 6, 4], [8, 7, 4], [5, 8, 4]]]),
        r"vertices: 1 of 9 join surfaces that only touch there \(4\)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name):
    vertices, faces, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        check_surface(vertices, faces)


def test_long_lists_are_cut():
    with pytest.raises(InputError, match=r"vertices: 8 of 13 belong to no face \(5, 6, 7, 8, 9, \.\.\.\)"):
        check_surface(np.concatenate([CORNERS, np.zeros((8, 3))]), PYRAMID)
