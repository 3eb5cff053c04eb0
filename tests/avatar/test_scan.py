"""What a report says of a scan's registration; the whole chain runs in tests/cli."""

import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.avatar import avatar_from_scan
from digitaltwin.avatar._scan import _doubts, _make_report
from digitaltwin.geometry import Similarity, SurfaceTree
from digitaltwin.head import landmark_points
from digitaltwin.registration import scan_distances
from digitaltwin.registration._register import Registration
from digitaltwin.types import InputError, Mesh


@pytest.fixture(scope="module")
def on_itself(head) -> Registration:
    """The mean head as a scan in metres."""
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    landmarks = np.asarray(landmark_points(head, head.mean), np.float64)
    pose = Similarity(1e-3, np.eye(3), np.zeros(3))
    return Registration(mean, mean, np.zeros(len(head.identity)), pose, "m", False, SurfaceTree(mean, faces), landmarks)


def test_a_good_registration_is_reported_without_a_word(head, on_itself):
    scan = Mesh(on_itself.vertices, on_itself.scan.faces, colours=np.full_like(on_itself.vertices, 0.5))
    report = _make_report(on_itself, scan_distances(head, on_itself), scan, {"read": 0.1})
    assert report["warnings"] == []
    assert report["scan"] == {"vertices": len(head.mean), "faces": len(head.faces), "unit": "m", "textured": True}
    assert report["face_mm"]["largest"] < 1e-3
    assert report["landmarks_mm"]["count"] == 104
    assert report["scan_from_head"]["scale"] == 1e-3


def test_each_doubt_is_one_sentence(head, on_itself):
    scan = Mesh(on_itself.vertices, on_itself.scan.faces)
    doubtful = on_itself._replace(
        unit="unknown", faces_flipped=True, vertices=on_itself.vertices * 1.04, landmarks=on_itself.landmarks + 5.0
    )
    found = _doubts(doubtful, scan_distances(head, doubtful), scan)
    words = ("unit is none of the usual", "were flipped", "landmarks are", "from the head on average", "has no texture")
    assert len(found) == len(words)
    for sentence, word in zip(found, words):
        assert word in sentence


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_landmarks_that_are_no_file_are_positions(head, on_itself, kind):
    scan = Mesh(on_itself.vertices, on_itself.scan.faces)
    with pytest.raises(InputError, match=r"landmarks: have shape \(3, 3\)"):
        avatar_from_scan(scan, landmarks=kind(np.eye(3)), head=head)


def test_former_names_of_the_results_warn_and_work(head, on_itself):
    with pytest.warns(DeprecationWarning, match="scan_from_head"):
        assert on_itself.placement is on_itself.scan_from_head
    with pytest.warns(DeprecationWarning, match="faces_flipped"):
        assert on_itself.turned is False
    distances = scan_distances(head, on_itself)
    with pytest.warns(DeprecationWarning, match="valid"):
        assert distances.judged is distances.valid
