"""Laws of the head model and of the asset that ships: symmetry, sizes, landmarks, the file, the parts that follow."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from digitaltwin.head import (
    express,
    landmark_points,
    load_head,
    neutral_shape,
    parts_vertices,
    save_head,
)
from digitaltwin.head._population import draw_identities
from digitaltwin.head.markup import (
    ARKIT_EXPRESSIONS,
    LANDMARK_MIRROR,
    LEFT_EYE,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    MOUTH,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
)
from digitaltwin.io import load_arrays
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

REST = jnp.zeros(len(ARKIT_EXPRESSIONS))


@pytest.fixture(scope="module")
def random_identity(head):
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.normal(size=len(head.identity_std)) * np.asarray(head.identity_std), jnp.float32)


def ball(points):
    """Centre and radius of the least-squares sphere."""
    points = np.asarray(points, np.float64)
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], np.sum(points**2, 1), rcond=None)[0]
    return solution[:3], np.sqrt(solution[3] + solution[:3] @ solution[:3])


def part(head, name, vertices):
    faces = np.asarray(head.parts_faces)[np.asarray(head.parts_face_part) == head.part_names.index(name)]
    return np.asarray(vertices)[np.unique(faces)]


# The asset


def test_counts(head):
    assert len(head.mean) <= 2700
    assert len(head.parts_mean) <= 900
    assert head.expression_names == ARKIT_EXPRESSIONS
    assert len(head.other_expressions) == len(head.other_expression_names) > 0
    assert len(head.group_names) == 6


def test_skin_is_an_oriented_manifold_with_four_openings(head):
    mesh = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces), process=False)
    edges, counts = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    assert counts.max() == 2
    assert len(np.unique(head.faces)) == len(head.mean)
    # Orientation: every inner edge is run through once in each direction.
    assert len(np.unique(mesh.edges, axis=0)) == len(mesh.edges)
    border = edges[counts == 1]
    components = trimesh.graph.connected_components(border, nodes=np.unique(border))
    assert sorted(map(len, components)) == [28, 28, 38, 42]  # eyes, mouth, neck
    assert mesh.area_faces.min() > 1e-3


def test_faces_look_outward(head):
    mesh = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces), process=False)
    tip = int(np.asarray(head.mean)[:, 2].argmax())
    assert mesh.vertex_normals[tip, 2] > 0.8


def test_mirror_maps_the_head_onto_itself(head):
    mirror, faces = np.asarray(head.mirror), np.asarray(head.faces)
    mirrored = {frozenset(face) for face in mirror[faces].tolist()}
    assert mirrored == {frozenset(face) for face in faces.tolist()}
    np.testing.assert_allclose(np.asarray(head.mean)[mirror] * [-1, 1, 1], head.mean, atol=1e-3)
    left, right = (ARKIT_EXPRESSIONS.index(f"mouthSmile{side}") for side in ("Left", "Right"))
    gap = np.asarray(head.expressions)[left, mirror] * [-1, 1, 1] - np.asarray(head.expressions)[right]
    assert np.abs(gap).max() < 0.02


def test_left_is_the_subjects_left(head):
    moved = np.linalg.norm(head.expressions[ARKIT_EXPRESSIONS.index("eyeBlinkLeft")], axis=1).argmax()
    assert head.mean[moved, 0] > 10
    points = landmark_points(head, head.mean)
    assert np.all(points[LEFT_EYE, 0] > 0)
    assert np.all(points[RIGHT_EYE, 0] < 0)


def test_metric_size_is_an_adults(head):
    mean = np.asarray(head.mean)
    left, right = (ball(part(head, f"{side}_eye", head.parts_mean)) for side in ("left", "right"))
    for _, radius in (left, right):
        assert 24.0 <= 2 * radius <= 25.0
    assert 59 < np.linalg.norm(left[0] - right[0]) < 68
    np.testing.assert_allclose((left[0] + right[0]) / 2, 0, atol=1e-2)  # the origin of the head frame
    assert 135 < np.ptp(mean[mean[:, 1] > 35, 0]) < 165
    assert 175 < np.ptp(mean[mean[:, 1] > -20, 2]) < 225


def test_identity_basis_is_orthonormal_and_sorted(head):
    basis = np.asarray(head.identity, np.float64).reshape(len(head.identity), -1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=2e-3)
    std = np.asarray(head.identity_std)
    assert np.all(np.diff(std) < 0)
    assert std[-1] > 0


def test_group_means_are_probable(head):
    standard = np.asarray(head.group_identity) / np.asarray(head.identity_std)
    assert np.sqrt(np.mean(standard**2)) < 1.5
    assert np.linalg.norm(np.diff(head.group_identity, axis=0), axis=1).min() > 50  # and not all the same


def test_expressions_move_the_head_by_plausible_amounts(head):
    largest = np.linalg.norm(head.expressions, axis=2).max(1)
    still = {name for name, size in zip(head.expression_names, largest) if size < 0.5}
    assert still <= {"tongueOut"}  # which moves the tongue only
    assert largest.max() < 60
    assert np.linalg.norm(head.parts_expressions[ARKIT_EXPRESSIONS.index("tongueOut")], axis=1).max() > 10


def test_texture_coordinates_lie_in_the_square_and_do_not_flip(head):
    uv, faces = np.asarray(head.uv), np.asarray(head.uv_faces)
    assert uv.min() > 0
    assert uv.max() < 1
    a, b, c = (uv[faces[:, k]] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert np.mean(area > 0) > 0.99


def test_regions(head):
    masks = head.regions
    distance = np.linalg.norm(np.asarray(head.mean) - np.asarray(head.mean)[head.mean[:, 2].argmax()], axis=1)
    np.testing.assert_array_equal(masks.face, distance < 95)
    assert not np.any(np.asarray(masks.scalp) & np.asarray(masks.neck))
    assert not np.any(np.asarray(masks.lips) & np.asarray(masks.eyes))
    mirror = np.asarray(head.mirror)
    for mask in masks:
        assert 50 < np.sum(mask) < 2000
        assert np.mean(np.asarray(mask) != np.asarray(mask)[mirror]) < 0.005


# Landmarks


def test_landmarks_lie_where_their_names_say(head):
    points = np.asarray(landmark_points(head, head.mean))
    corners = points[[RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER]]
    assert np.all(np.diff(corners[:, 0]) > 10)
    assert 75 < corners[-1, 0] - corners[0, 0] < 105
    tip = np.asarray(head.mean)[head.mean[:, 2].argmax()]
    assert np.linalg.norm(points[NOSE_TIP] - tip) < 6
    assert np.all(np.diff(points[:17, 0]) > 0)  # the contour runs from right to left
    assert points[8, 1] == pytest.approx(points[:17, 1].min(), abs=3)
    assert points[MOUTH, 1].max() < points[NOSE_TIP, 1]
    assert points[17:27, 1].min() > points[LEFT_EYE, 1].max()


def test_landmarks_are_symmetric(head):
    np.testing.assert_array_equal(LANDMARK_MIRROR[LANDMARK_MIRROR], np.arange(104))
    points = np.asarray(landmark_points(head, head.mean))
    np.testing.assert_allclose(
        points[LANDMARK_MIRROR] * [-1, 1, 1], points, atol=0.2
    )  # medians inside a ridge have two nearest points


def test_lids_are_on_their_borders(head):
    edges, counts = np.unique(
        np.sort(head.faces[:, np.array([0, 1, 1, 2, 2, 0])].reshape(-1, 2), 1), axis=0, return_counts=True
    )
    border = set(np.unique(edges[counts == 1]).tolist())
    for index in (*LEFT_EYE, *RIGHT_EYE):
        corners = np.asarray(head.faces)[head.landmarks.faces[index]]
        carried = corners[np.asarray(head.landmarks.barycentric)[index] > 1e-6]
        assert set(carried.tolist()) <= border


def test_nobodys_lips_part_at_rest(head):
    """Inner lips lie on each other, of the mean head and of people of every group; a jaw that drops opens them."""
    upper, lower = MOUTH[13:16], MOUTH[[19, 18, 17]]
    people = draw_identities(head, np.random.default_rng(0), np.arange(60) % 6)
    shapes = [head.mean, *(neutral_shape(head, jnp.asarray(identity, jnp.float32)) for identity in people)]
    points = np.stack([np.asarray(landmark_points(head, shape)) for shape in shapes])
    gap = points[:, upper, 1] - points[:, lower, 1]
    assert np.abs(gap[0]).max() < 1.0
    assert gap.max() < 1.2, "mm; a slit would show teeth"
    assert np.std(gap, axis=0).max() < 0.4
    opened = express(head, head.mean, REST.at[ARKIT_EXPRESSIONS.index("jawOpen")].set(0.5))
    points = np.asarray(landmark_points(head, opened))
    assert (points[upper, 1] - points[lower, 1]).min() > 5.0


def test_landmarks_follow_the_surface_affinely(head):
    matrix = jnp.array([[0.9, 0.1, 0.0], [-0.2, 1.1, 0.3], [0.0, 0.2, 0.8]])
    for anchors in (head.landmarks, head.mesh_points):
        there = anchors.interpolate(head.mean @ matrix.T + 3.0, head.faces)
        np.testing.assert_allclose(there, anchors.interpolate(head.mean, head.faces) @ matrix.T + 3.0, atol=1e-3)


# The parts


def test_eyeballs_stay_balls_for_every_person_and_gaze(head, random_identity):
    neutral = neutral_shape(head, random_identity)
    gaze = REST.at[ARKIT_EXPRESSIONS.index("eyeLookUpLeft")].set(0.5)
    for side in ("left", "right"):
        for beta in (REST, gaze):
            points = part(head, f"{side}_eye", parts_vertices(head, neutral, beta))
            centre, radius = ball(points)
            assert radius == pytest.approx(12.4, abs=0.3)
            assert np.abs(np.linalg.norm(points - centre, axis=1) - radius).max() < 0.3


def test_the_interior_is_sewn_to_the_skin(head, random_identity):
    beta = REST.at[ARKIT_EXPRESSIONS.index("jawOpen")].set(1.0)
    rng = np.random.default_rng(0)
    correction = jnp.asarray(rng.normal(size=head.mean.shape), jnp.float32)
    neutral = neutral_shape(head, random_identity) + correction
    skin, parts = express(head, neutral, beta), parts_vertices(head, neutral, beta)
    sewn = np.flatnonzero(np.asarray(head.parts_follow_weights)[:, 0] == 1)
    assert len(sewn) == 28 + 28 + 38
    gap = np.linalg.norm(parts[sewn] - skin[head.parts_follow_vertices[sewn, 0]], axis=1)
    assert gap.max() < 0.05  # the bases are stored in half precision


def test_a_bump_on_the_chin_leaves_the_eyes_alone_and_one_around_an_eye_takes_it_along(head):
    for centre, moves in ((np.array([0.0, -105.0, 15.0]), False), (np.array([31.0, 0.0, 12.0]), True)):
        weight = np.exp(-np.sum((np.asarray(head.mean) - centre) ** 2, 1) / (2 * 14.0**2))
        moved = parts_vertices(head, head.mean + jnp.asarray(weight[:, None] * [0, 0, 2.0], jnp.float32), REST)
        shift = part(head, "left_eye", moved) - part(head, "left_eye", head.parts_mean)
        assert np.ptp(shift, axis=0).max() < 0.05  # as one piece
        assert (shift[:, 2].mean() > 0.7) == moves
        assert moves or np.abs(shift).max() < 0.3


# Functions and the file


def test_shape_functions_are_linear_and_batch(head, random_identity):
    both = jax.vmap(lambda z: neutral_shape(head, z))(jnp.stack([jnp.zeros_like(random_identity), random_identity]))
    np.testing.assert_array_equal(both[0], head.mean)
    np.testing.assert_allclose(
        neutral_shape(head, 2 * random_identity) - head.mean, 2 * (both[1] - head.mean), atol=1e-3
    )


def test_a_head_passes_through_jit_whole(head):
    out = jax.jit(lambda h: h)(head)
    assert out.expression_names == head.expression_names
    np.testing.assert_array_equal(out.regions.lips, head.regions.lips)


def test_save_and_load_give_the_same_head_and_the_same_bytes(tmp_path, head):
    _, metadata = load_arrays(asset_path("head.npz"))
    assert metadata["licence"] == "CC0-1.0"
    save_head(head, tmp_path / "head.npz", metadata=metadata)
    assert (tmp_path / "head.npz").read_bytes() == asset_path("head.npz").read_bytes()
    again = load_head(tmp_path / "head.npz")
    for ours, theirs in zip(jax.tree.leaves(head), jax.tree.leaves(again)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mirror": jnp.zeros(2699, jnp.int32)}, "mirror"),
        ({"mean": jnp.zeros((2699, 3)).at[5].set(jnp.nan)}, "not finite"),
        ({"identity": jnp.zeros((120, 2699, 3))}, "orthonormal"),
        ({"faces": jnp.full((5266, 3), 9999, jnp.int32)}, "faces points outside"),
    ],
)
def test_validate_names_what_does_not_fit(head, change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(head, **change).validate()


def test_files_that_are_no_head_are_refused(tmp_path):
    with pytest.raises(InputError, match="head model"):
        load_head(asset_path("networks/landmark_table.npz"))
    with pytest.raises(InputError, match="cannot be read"):
        load_head(tmp_path / "absent.npz")


def test_the_former_name_of_the_standard_deviations_warns(head):
    with pytest.warns(DeprecationWarning, match="identity_std"):
        np.testing.assert_array_equal(head.identity_deviation, head.identity_std)
