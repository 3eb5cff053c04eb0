"""A scan whose truth is known: a person of the model with bumps that it lacks, in a frame and unit of its own."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, SurfaceTree
from digitaltwin.head import landmark_points
from digitaltwin.head.markup import ALIGNMENT, CONTOUR
from digitaltwin.registration import (
    IdentityConfig,
    NonRigidConfig,
    RegistrationConfig,
    Round,
    register_scan,
    scan_distances,
)
from digitaltwin.registration._identity import fit_identity
from digitaltwin.registration._register import infer_unit
from digitaltwin.types import InputError


class Known(NamedTuple):
    person: np.ndarray
    """In the head frame [mm]."""
    vertices: np.ndarray
    """Of the scan, in its own frame and centimetres."""
    faces: np.ndarray
    landmarks: np.ndarray
    placement: Similarity


@pytest.fixture(scope="module")
def known(head) -> Known:
    rng = np.random.default_rng(3)
    coefficients = 0.8 * np.asarray(head.identity_std) * rng.normal(size=len(head.identity))
    person = np.asarray(head.mean, np.float64) + np.tensordot(coefficients, np.asarray(head.identity, np.float64), 1)
    for centre in person[rng.choice(np.flatnonzero(np.asarray(head.regions.face)), 8)]:
        near = np.exp(-0.5 * np.sum((person - centre) ** 2, axis=1) / 15.0**2)
        person = person + 1.5 * near[:, None] * rng.normal(size=3)
    vertices, faces = trimesh.remesh.subdivide(person, np.asarray(head.faces))
    placement = Similarity(
        0.1, Rotation.from_euler("yxz", [70.0, 25.0, -160.0], degrees=True).as_matrix(), np.array([3.0, -20.0, 90.0])
    )
    landmarks = np.asarray(landmark_points(head, jnp.asarray(person, jnp.float32)), np.float64)
    landmarks[CONTOUR] = np.nan
    return Known(person, placement.apply(vertices), faces, placement.apply(landmarks), placement)


def on_face(head, vertices: np.ndarray, truth: np.ndarray) -> np.ndarray:
    face = np.asarray(head.regions.face)
    return np.linalg.norm(vertices - truth, axis=1)[face]


@pytest.fixture(scope="module")
def registered(head, known):
    return register_scan(head, known.vertices, known.faces, known.landmarks)


def test_it_finds_the_person_where_the_scan_stands(head, known, registered):
    assert registered.unit == "cm"
    assert not registered.faces_flipped
    np.testing.assert_allclose(registered.scan_from_head.scale, 0.1, rtol=1e-12)
    there = registered.scan_from_head.apply(registered.vertices)
    # To the surface at once; along it, where nothing but stiffness says what belongs to what, less exactly.
    surface = SurfaceTree(known.vertices, known.faces)
    face = np.asarray(head.regions.face)
    off = 10.0 * np.linalg.norm(surface.closest(there)[0] - there, axis=1)[face]
    assert off.mean() < 0.1
    assert np.quantile(off, 0.99) < 0.5
    along = on_face(head, 10.0 * there, 10.0 * known.placement.apply(known.person))
    assert along.mean() < 1.2
    distances = scan_distances(head, registered)
    assert distances.valid.sum() > 3000
    assert distances.distances_mm[distances.valid].mean() < 0.15
    assert np.nanmax(distances.landmarks_mm) < 2.0
    assert np.isnan(distances.landmarks_mm[CONTOUR]).all()


def test_seven_landmarks_are_enough_and_faces_may_point_inwards(head, known, registered):
    inside_out = register_scan(head, known.vertices, known.faces[:, ::-1], known.landmarks[ALIGNMENT])
    assert inside_out.faces_flipped
    moved = inside_out.scan_from_head.apply(inside_out.vertices) - registered.scan_from_head.apply(registered.vertices)
    assert 10.0 * np.linalg.norm(moved, axis=1)[np.asarray(head.regions.face)].mean() < 1.0


def test_half_a_scan_leaves_the_rest_of_the_head_a_head(head, known):
    front = np.flatnonzero(known.placement.inverse().apply(known.vertices)[known.faces].mean(axis=1)[:, 2] > -60.0)
    half = register_scan(head, known.vertices, known.faces[front], known.landmarks)
    back = np.asarray(head.mean)[:, 2] < -120.0
    away = np.linalg.norm(half.vertices - half.model, axis=1)
    assert away[back].max() < 10.0, "what is not seen stays near the head of the model"
    assert scan_distances(head, half).distances_mm[scan_distances(head, half).valid].mean() < 0.15


def test_identity_alone_comes_as_near_as_the_model_can(head, known):
    surface = SurfaceTree(known.placement.inverse().apply(known.vertices), known.faces)
    start = Similarity(1.0, Rotation.from_euler("y", 4.0, degrees=True).as_matrix(), np.array([2.0, -3.0, 1.0]))
    found = fit_identity(head, surface, start)
    there = found.surface_from_head.apply(found.neutral)
    gap = np.linalg.norm(surface.closest(there)[0] - there, axis=1)[np.asarray(head.regions.face)]
    assert gap.mean() < 0.6
    np.testing.assert_allclose(
        found.neutral - np.asarray(head.mean, np.float64),
        np.tensordot(found.identity, np.asarray(head.identity, np.float64), 1),
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("scale", "unit"), [(1.0, "mm"), (0.09, "cm"), (0.0011, "m"), (0.039, "inch"), (0.01, "dm"), (0.3, "unknown")]
)
def test_units_are_told_by_the_size_of_a_face(scale, unit):
    name, units_per_mm = infer_unit(scale)
    assert name == unit
    assert units_per_mm == (scale if unit == "unknown" else pytest.approx(scale, rel=0.15))


def test_a_scan_of_no_usual_unit_is_brought_to_human_size(head, known):
    brief = NonRigidConfig(rounds=(Round(9.0, 9.0, 1),))  # the size is found before anything is deformed
    config = RegistrationConfig(identity=IdentityConfig(iterations=3), nonrigid=brief)
    odd = register_scan(head, 3.7 * known.vertices, known.faces, 3.7 * known.landmarks, config=config)
    assert odd.unit == "unknown"
    assert odd.scan_from_head.scale == pytest.approx(0.37, rel=0.1)


@pytest.mark.parametrize(("opening", "seven"), [(0.0, False), (0.0, True), (0.8, False)])
def test_lips_that_touch_stay_closed_and_an_open_mouth_open(head, opening, seven):
    jaw = np.asarray(head.expressions[head.expression_names.index("jawOpen")], np.float64)
    person = np.asarray(head.mean, np.float64) + opening * jaw
    vertices, faces = trimesh.remesh.subdivide(person, np.asarray(head.faces))
    landmarks = np.asarray(landmark_points(head, jnp.asarray(person, jnp.float32)), np.float64)
    found = register_scan(head, vertices, faces, landmarks[ALIGNMENT] if seven else landmarks)
    laid = np.asarray(landmark_points(head, jnp.asarray(found.scan_from_head.apply(found.vertices), jnp.float32)))
    upper, lower = [97, 98, 99], [103, 102, 101]
    gap, true = (np.linalg.norm(points[upper] - points[lower], axis=1) for points in (laid, landmarks))
    if opening == 0.0:
        np.testing.assert_allclose(gap, true, atol=1.0)
    else:
        np.testing.assert_allclose(gap, true, rtol=0.2)


def test_hair_does_not_lift_the_skin(head):
    """Thirty millimetres of it on the scalp, thinning out beside it."""
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    skin = SurfaceTree(mean, faces)
    away, _ = KDTree(mean[np.asarray(head.regions.scalp)]).query(mean)
    thick = 30.0 * np.clip(1.0 - away / 30.0, 0.0, 1.0)
    hairy = mean + thick[:, None] * skin.vertex_normals
    landmarks = np.asarray(landmark_points(head, head.mean), np.float64)
    found = register_scan(head, hairy, faces, landmarks)
    off = np.linalg.norm(found.scan_from_head.apply(found.vertices) - mean, axis=1)
    face = np.asarray(head.regions.face) & (away > 40.0)
    assert off[face].mean() < 0.6
    assert off[np.asarray(head.regions.scalp)].mean() < 9.0
    bald = register_scan(head, hairy, faces, landmarks, config=RegistrationConfig(scalp=1.0))
    lifted = np.linalg.norm(bald.scan_from_head.apply(bald.vertices) - mean, axis=1)
    assert lifted[np.asarray(head.regions.scalp)].mean() > 15.0


def test_what_cannot_be_registered_is_named(head, known):
    with pytest.raises(InputError, match=r"shape \(5, 3\)"):
        register_scan(head, known.vertices, known.faces, known.landmarks[:5])
    few = np.full((104, 3), np.nan)
    few[:3] = 1.0
    with pytest.raises(InputError, match="only 3 are known"):
        register_scan(head, known.vertices, known.faces, few)
    exchanged = known.landmarks.copy()
    exchanged[[84, 90]] = exchanged[[90, 84]]
    with pytest.raises(InputError, match="not a face's.*the order of"):
        register_scan(head, known.vertices, known.faces, exchanged[ALIGNMENT])
    with pytest.raises(InputError, match="scalp is 2.0"):
        RegistrationConfig(scalp=2.0)
    broken = known.vertices.copy()
    broken[7] = np.nan
    with pytest.raises(InputError, match="scan vertices.*not finite"):
        register_scan(head, broken, known.faces, known.landmarks)
    mixed = known.faces.copy()
    mixed[::2] = mixed[::2, ::-1]
    with pytest.raises(InputError, match="orient them alike"):
        register_scan(head, known.vertices, mixed, known.landmarks)
    with pytest.raises(InputError, match="nothing of it lies near"):
        register_scan(head, known.vertices + 300.0, known.faces, known.landmarks)
