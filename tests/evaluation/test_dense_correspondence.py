import jax.numpy as jnp
import numpy as np
import trimesh

from digitaltwin.evaluation import ProtocolConfig, dense_correspondence_errors, evaluate_pair, find_pairs
from digitaltwin.evaluation._metrics import compare_trees
from digitaltwin.geometry import SurfaceTree
from digitaltwin.head import landmark_points, load_subjects, neutral_shape
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import LANDMARKS


def seven(head, vertices):
    return np.asarray(landmark_points(head, jnp.asarray(vertices, jnp.float32)), np.float64)[ALIGNMENT]


def test_it_tells_the_true_error_where_closest_points_do_not(head):
    """Pairs of people of one topology: what should have been where is known, and closest points see half of it."""
    people, faces = load_subjects(), np.asarray(head.faces)
    measured = []
    for one, other in ((3, 250), (40, 470), (120, 333), (200, 16)):
        prediction, truth = (
            np.asarray(neutral_shape(head, jnp.asarray(people.identity[i])), np.float64) for i in (one, other)
        )
        landmarks = (seven(head, prediction), seven(head, truth))
        scan = SurfaceTree(*trimesh.remesh.subdivide(truth, faces))
        tree = SurfaceTree(prediction, faces)
        found = compare_trees(tree, scan, landmarks=landmarks, nose_tip=landmarks[1][4], crop_mm=95.0)
        bent = dense_correspondence_errors(found, faces, scan, landmarks)
        counts = np.isfinite(found.prediction_mm)
        assert np.array_equal(np.isfinite(bent), counts)
        true = np.linalg.norm(found.vertices - truth, axis=1)
        rows = [values[counts] for values in (found.prediction_mm, bent, true)]
        assert np.corrcoef(rows[1], rows[2])[0, 1] > np.corrcoef(rows[0], rows[2])[0, 1]
        measured.append([np.sqrt(np.mean(values**2)) for values in rows])
    closest, bent, true = np.array(measured).T
    assert np.all(closest < 0.75 * true)
    assert np.all(np.abs(bent - true) < 0.2 * true)


def test_a_prediction_that_is_right_has_no_error(head):
    vertices, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    tree, landmarks = SurfaceTree(vertices, faces), (seven(head, vertices), seven(head, vertices))
    found = compare_trees(tree, tree, landmarks=landmarks, nose_tip=landmarks[1][4], crop_mm=95.0)
    assert np.nanmax(dense_correspondence_errors(found, faces, tree, landmarks)) < 0.02


def test_the_protocol_adds_it_if_asked(head, tmp_path):
    people, faces = load_subjects(), np.asarray(head.faces)
    for folder, subject in (("predictions", 3), ("scans", 250)):
        vertices = np.asarray(neutral_shape(head, jnp.asarray(people.identity[subject])), np.float64)
        (tmp_path / folder).mkdir()
        trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / folder / "anna.ply")
        rows = [f"{name},{x},{y},{z}" for name, (x, y, z) in zip(LANDMARKS, seven(head, vertices))]
        (tmp_path / folder / "anna.csv").write_text("\n".join(rows))
    (pair,) = find_pairs(tmp_path / "predictions", tmp_path / "scans")
    errors = evaluate_pair(pair, ProtocolConfig(crops_mm=(80.0, 95.0), dense_correspondence=True)).errors
    assert np.all(errors.dense_correspondence > 1.3 * errors.prediction_to_scan)
    assert np.isnan(evaluate_pair(pair, ProtocolConfig(crops_mm=(80.0,))).errors.dense_correspondence).all()
