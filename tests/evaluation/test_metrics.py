"""Errors whose answers are known: balls, a head against itself, parts of surfaces."""

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from digitaltwin.evaluation import armse, compare_surfaces
from digitaltwin.evaluation._metrics import compare_trees, mesh_complexity
from digitaltwin.geometry import IcpConfig, SurfaceTree, icp, procrustes_alignment
from digitaltwin.head import landmark_points, load_subjects, neutral_shape, parts_vertices
from digitaltwin.head._population import draw_identities
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.types import InputError


def ball(radius=100.0, subdivisions=5, shift=(0.0, 0.0, 0.0)):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices) + shift, np.asarray(mesh.faces)


@pytest.fixture(scope="module")
def face(head):
    """The mean head, its seven landmarks, and a place far away where a scanner might have it."""
    vertices, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    seven = np.asarray(landmark_points(head, head.mean), np.float64)[ALIGNMENT]
    turn = Rotation.from_euler("yxz", [130.0, -25.0, 70.0], degrees=True).as_matrix()
    return vertices, faces, seven, lambda points: points @ turn.T + [300.0, -1200.0, 80.0]


@pytest.mark.parametrize("by_area", [False, True])
@pytest.mark.parametrize("subdivisions", [4, 5])
def test_concentric_balls_are_their_radii_apart(by_area, subdivisions):
    found = armse(*ball(100.0), *ball(103.0, subdivisions), by_area=by_area)
    assert found == pytest.approx(3.0, abs=0.12), "but for the flatness of faces"
    assert armse(*ball(100.0), *ball(103.0), normaliser_mm=60.0) == pytest.approx(0.05, rel=0.02)


def test_a_shifted_ball_is_off_by_the_shift_over_the_root_of_three():
    """The distance is the shift's part along the normal, whose mean square over a ball is a third."""
    found = compare_surfaces(*ball(), *ball(shift=(0.0, 3.0, 0.0)))
    assert armse(*ball(), *ball(shift=(0.0, 3.0, 0.0))) == pytest.approx(3.0 / np.sqrt(3.0), rel=0.01)
    poles = np.argsort(np.asarray(ball()[0])[:, 1])[[0, -1]]
    np.testing.assert_allclose(found.signed_mm[poles], [3.0, -3.0], atol=0.05)


def test_a_head_is_no_distance_from_itself_wherever_it_stands(face):
    vertices, faces, seven, move = face
    assert armse(vertices, faces, vertices, faces) < 1e-6
    scan = move(vertices)
    given = (seven + np.random.default_rng(0).normal(size=seven.shape), move(seven))
    found = compare_surfaces(vertices, faces, scan, faces, landmarks=given)
    np.testing.assert_allclose(found.vertices, scan, atol=1e-3)
    assert armse(vertices, faces, scan, faces, landmarks=given) < 1e-3


def test_landmarks_from_jax_leave_the_alignment_in_double_precision(face):
    vertices, faces, seven, move = face
    given = tuple(jnp.asarray(points, jnp.float32) for points in (seven, move(seven)))
    on_host = tuple(np.asarray(points, np.float64) for points in given)
    found, expected = (
        compare_surfaces(vertices, faces, move(vertices), faces, landmarks=landmarks).vertices
        for landmarks in (given, on_host)
    )
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("with_scale", [False, True])
def test_size_counts_unless_it_is_free(face, with_scale):
    vertices, faces, seven, move = face
    scan, nose = move(1.05 * vertices), move(1.05 * seven)[4]
    given = {"landmarks": (seven, move(1.05 * seven)), "nose_tip": nose, "crop_mm": 95.0}
    error = armse(vertices, faces, scan, faces, **given, icp=IcpConfig(with_scale=with_scale))
    assert error < 1e-3 if with_scale else 0.5 < error < 5.0


def test_a_mirror_image_is_not_mirrored_back(face):
    """A face is not symmetric: its mirror image, aligned as well as can be, stays another."""
    vertices, faces, seven, _ = face
    bump = np.exp(-np.sum((vertices - [35.0, -30.0, 15.0]) ** 2, axis=1) / 800.0)
    lopsided = vertices + bump[:, None] * [0.0, 0.0, 6.0]
    mirrored, turned = lopsided * [-1.0, 1.0, 1.0], faces[:, ::-1]
    given = (seven, (seven * [-1.0, 1.0, 1.0])[[3, 2, 1, 0, 4, 6, 5]])
    found = compare_surfaces(lopsided, faces, mirrored, turned, landmarks=given)
    assert np.linalg.det(found.scan_from_prediction.rotation) == pytest.approx(1.0)
    assert armse(lopsided, faces, mirrored, turned, landmarks=given, nose_tip=seven[4], crop_mm=80.0) > 0.5


def test_where_a_surface_ends_nothing_is_measured():
    """Half a ball against a whole one: what lies beyond the rim has no counterpart."""
    vertices, faces = ball()
    half = faces[(vertices[faces][..., 2] > 0.0).all(axis=1)]
    found = compare_surfaces(vertices, faces, vertices, half)
    assert armse(vertices, faces, vertices, half) < 1e-6
    assert np.isnan(found.prediction_mm[vertices[:, 2] < -5.0]).all()
    assert np.isfinite(found.prediction_mm[vertices[:, 2] > 8.0]).all()
    assert np.isnan(found.scan_mm[vertices[:, 2] < -5.0]).all(), "vertices of no face are no part of a scan"


def test_a_crop_keeps_what_is_near_the_nose():
    """A ball with a dent at one side: from the other it is not seen."""
    vertices, faces = ball()
    dented = vertices * np.where(vertices[:, :1] > 80.0, 0.95, 1.0)
    near, far = (
        armse(dented, faces, vertices, faces, nose_tip=np.array([side * 100.0, 0.0, 0.0]), crop_mm=50.0)
        for side in (1.0, -1.0)
    )
    assert far < 1e-6
    assert near > 2.0


def test_closest_points_agree_with_the_motion_that_was_made(face):
    """From five degrees and five millimetres off, on a denser surface of the same shape, trimmed and with holes."""
    vertices, faces, _, _ = face
    finer = trimesh.Trimesh(vertices, faces, process=False).subdivide()
    kept = np.random.default_rng(0).uniform(size=len(finer.faces)) > 0.05
    scan = SurfaceTree(np.asarray(finer.vertices), np.asarray(finer.faces)[kept])
    turn = Rotation.from_rotvec(np.deg2rad([3.0, -4.0, 2.0])).as_matrix()
    front = vertices[:, 2] > 0.0
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    moved = (vertices @ turn.T + [3.0, -2.0, 4.0])[front]
    start = procrustes_alignment(np.eye(3), np.eye(3))
    found = icp(moved, (mesh.vertex_normals @ turn.T)[front], scan, start)
    np.testing.assert_allclose(found.similarity.apply(moved), vertices[front], atol=0.02)
    assert found.converged
    assert found.rms_mm < 0.01


@pytest.mark.parametrize("crop_mm", [80.0, 95.0, 110.0])
def test_the_alignment_with_another_person_comes_to_rest(head, crop_mm):
    """Points that face normals pull, which jump from face to face, never do."""
    subjects = load_subjects()
    shapes = [neutral_shape(head, subjects.identity[number]) for number in (3, 11)]
    one, other = (np.asarray(shape, np.float64) for shape in shapes)
    faces, scan = np.asarray(head.faces), SurfaceTree(other, np.asarray(head.faces))
    seven, target = (np.asarray(landmark_points(head, shape), np.float64)[ALIGNMENT] for shape in shapes)
    start, normals = procrustes_alignment(seven, target), SurfaceTree(one, faces).vertex_normals
    near = (np.linalg.norm(start.apply(one) - target[4], axis=1) < crop_mm) & (np.linalg.norm(normals, axis=1) > 0.5)
    found = icp(one[near], normals[near], scan, start)
    assert found.converged
    assert found.iterations <= 40


def test_normals_turn_smoothly_across_seams():
    """A ball whose halves have their own vertices: its normals are the directions from its middle everywhere."""
    vertices, faces = ball(subdivisions=4)
    upper = (vertices[faces][..., 2].mean(axis=1) > 0.0)[:, None]
    tree = SurfaceTree(np.concatenate([vertices, vertices]), np.where(upper, faces, faces + len(vertices)))
    np.testing.assert_allclose(tree.vertex_normals[tree.faces], tree.vertices[tree.faces] / 100.0, atol=0.01)
    points = np.random.default_rng(0).normal(size=(500, 3))
    points *= 110.0 / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(tree.smooth_normals(tree.closest(points)[1]), points / 110.0, atol=0.02)
    sheet = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    folded = SurfaceTree(sheet, np.array([[0, 1, 2], [0, 2, 1]]))
    assert np.abs(folded.smooth_normals(folded.closest(sheet)[1])[:, 2]).min() == 1.0, "a face's own where they cancel"


def test_from_the_scan_the_distances_themselves_are_least(face):
    """Against a general minimiser of the scan's mean square distance over all similarities, without derivatives."""
    vertices, faces, seven, move = face
    bump = 6.0 * np.exp(-np.sum((vertices - [20.0, -30.0, 60.0]) ** 2, axis=1) / 800.0)[:, None]
    scan, prediction = move(vertices + bump * [0.0, 0.0, 1.0]), SurfaceTree(1e-3 * vertices * [1.05, 1.0, 1.0], faces)
    config = IcpConfig(with_scale=True, from_scan=True, trimmed=0.0, max_normal_angle_deg=180.0)
    given = {"landmarks": (1e-3 * seven, move(seven)), "nose_tip": move(seven)[4], "crop_mm": 70.0, "icp": config}
    found = compare_trees(prediction, SurfaceTree(scan, faces), count_borders=True, **given)
    counted = scan[np.isfinite(found.scan_mm)]

    def mean_square(change):
        """About the placement that was found: a rotation, a shift [mm] and the logarithm of a size."""
        scale, turn = np.exp(change[6]) * found.scan_from_prediction.scale, Rotation.from_rotvec(change[:3]).as_matrix()
        middle = counted.mean(axis=0)
        unmoved = (counted - middle - change[3:6]) @ turn / np.exp(change[6]) + middle
        there = found.scan_from_prediction.inverse().apply(unmoved)
        return np.mean(np.sum((there - prediction.closest(there)[0]) ** 2, axis=1)) * scale**2

    least = mean_square(np.zeros(7))
    assert np.sqrt(least) == pytest.approx(np.sqrt(np.nanmean(found.scan_mm**2)))
    steps = np.array([2e-3] * 3 + [0.1] * 3 + [2e-3])
    for change in np.concatenate([np.diag(steps), -np.diag(steps)]):
        assert mean_square(change) > least
    better = minimize(lambda x: mean_square(x * steps), np.zeros(7), method="Nelder-Mead", options={"maxfev": 400})
    assert better.fun > 0.999999 * least


def test_borders_count_when_asked_for():
    """Half a ball: the other half's vertices are as far from its rim as the sphere has it."""
    vertices, faces = ball()
    half = SurfaceTree(vertices, faces[(vertices[faces][..., 2] > 0.0).all(axis=1)])
    found = compare_trees(SurfaceTree(vertices, faces), half, count_borders=True)
    pole = np.argmin(vertices[:, 2])
    assert found.prediction_mm[pole] == pytest.approx(100.0 * np.sqrt(2.0), abs=3.0)
    assert np.isnan(compare_trees(SurfaceTree(vertices, faces), half).prediction_mm[pole])


def test_complexity_counts_what_lies_within():
    """A flat grid with a texture's seam: vertices along it are written twice and count once."""
    steps = np.arange(5) * 10.0
    grid = np.stack(np.meshgrid(steps, steps, [0.0]), axis=-1).reshape(-1, 3)
    cells = [(i * 5 + j, i * 5 + j + 1, i * 5 + j + 5, i * 5 + j + 6) for i in range(4) for j in range(4)]
    faces = np.array([face for a, b, c, d in cells for face in ((a, b, c), (b, d, c))])
    doubled = np.where(faces[16:] // 5 == 2, faces[16:] + 15, faces[16:])
    whole = mesh_complexity(SurfaceTree(np.concatenate([grid, grid[10:15]]), np.concatenate([faces[:16], doubled])))
    assert (whole.vertices, whole.faces) == (25, 32)
    assert whole.edge_mm == pytest.approx((40 * 10.0 + 16 * np.sqrt(200.0)) / 56.0)
    corner = mesh_complexity(SurfaceTree(grid, faces), within=(grid <= 10.0).all(axis=1), scale=2.0)
    assert (corner.vertices, corner.vertices_within, corner.faces_within) == (25, 4, 2)
    assert corner.edge_mm == pytest.approx(2.0 * (40.0 + np.sqrt(200.0)) / 5.0)
    assert np.isnan(mesh_complexity(SurfaceTree(grid, faces), within=np.zeros(25, bool)).edge_mm)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": -1},
        {"fixed_after": 0},
        {"trimmed": 1.0},
        {"max_normal_angle_deg": 0.0},
        {"tolerance_mm": float("nan")},
    ],
)
def test_numbers_of_the_alignment_are_checked(wrong):
    with pytest.raises(InputError, match=f"IcpConfig: {next(iter(wrong))} is .*; it must"):
        IcpConfig(**wrong)


def test_what_cannot_be_compared_is_named(face):
    vertices, faces, seven, _ = face
    with pytest.raises(InputError, match="scan vertices: 1 of .* are not finite"):
        armse(vertices, faces, np.where(np.arange(len(vertices))[:, None] == 7, np.nan, vertices), faces)
    with pytest.raises(InputError, match="prediction faces: has shape"):
        armse(vertices, np.zeros((0, 3), int), vertices, faces)
    with pytest.raises(InputError, match="give both, or none"):
        armse(vertices, faces, vertices, faces, crop_mm=95.0)
    with pytest.raises(InputError, match="lie on a line"):
        armse(vertices, faces, vertices, faces, landmarks=(seven[:1] + np.arange(3)[:, None], seven[:3]))
    with pytest.raises(InputError, match="points lie over one another"):
        armse(vertices, faces, vertices, faces[:, ::-1], landmarks=(seven, seven))
    with pytest.raises(InputError, match="within the crop"):
        armse(vertices, faces, vertices, faces, nose_tip=np.array([0.0, 0.0, 900.0]), crop_mm=50.0)


# What nothing outside sees; a size that is free


def faces_of_two(head, seed, stretch=1.3):
    """Two people of the population, exaggerated, their landmarks, and the second one's nose tip."""
    identities = stretch * draw_identities(head, np.random.default_rng(seed), np.array([1, 4]))
    people = np.asarray(head.mean, float) + np.tensordot(identities, np.asarray(head.identity, float), 1)
    landmarks = tuple(np.asarray(landmark_points(head, np.float32(person)))[ALIGNMENT] for person in people)
    return people, landmarks, people[1][np.argmax(people[1][:, 2])]


def test_eyeballs_and_the_mouths_inside_do_not_count(head):
    (person, scan), landmarks, tip = faces_of_two(head, 0)
    faces = np.asarray(head.faces)
    parts = np.asarray(parts_vertices(head, np.float32(person), np.zeros(len(head.expressions), np.float32)))
    given = {"landmarks": landmarks, "nose_tip": tip, "crop_mm": 95.0}
    skin = armse(person, faces, scan, faces, **given)
    whole = np.concatenate([person, parts]), np.concatenate([faces, np.asarray(head.parts_faces) + len(person)])
    assert armse(*whole, scan, faces, **given) == pytest.approx(skin, abs=0.3)
    found = compare_surfaces(*whole, scan, faces, **given)
    of_parts = np.isfinite(found.prediction_mm[len(person) :])
    assert 0 < of_parts.sum() < 0.3 * len(parts), "the front of the eyeballs is seen, and little else"


def test_a_broad_face_is_not_shrunk_onto_a_normal_one(head):
    """The size that corresponding points tell is the answer; closest points from one side miss it by more."""
    faces, face = np.asarray(head.faces), np.asarray(head.regions.face)
    off = []
    for seed in range(6):
        (broad, scan), _, tip = faces_of_two(head, seed)
        broad = broad * [1.3, 1.0, 1.0]
        landmarks = tuple(np.asarray(landmark_points(head, np.float32(person)))[ALIGNMENT] for person in (broad, scan))
        found = compare_surfaces(
            broad, faces, scan, faces, landmarks=landmarks, nose_tip=tip, crop_mm=95.0, icp=IcpConfig(with_scale=True)
        )
        known = procrustes_alignment(broad[face], scan[face], with_scale=True).scale
        off.append(found.scan_from_prediction.scale / known - 1.0)
    assert np.mean(np.abs(off)) < 0.14, "0.18 by closest points from one side"
    assert np.min(off) > -0.2, "-0.28 from one side"
