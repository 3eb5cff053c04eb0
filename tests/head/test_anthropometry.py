"""Laws of the calipers, where they sit, independent measurements of the same heads, and the published figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from digitaltwin.head import landmark_points, neutral_shape, parts_vertices
from digitaltwin.head._anthropometry import (
    PUBLISHED,
    Measurements,
    measure,
    place_calipers,
    published,
    published_mixture,
)
from digitaltwin.head.markup import MOUTH, NOSE_TIP, RIGHT_EYE
from digitaltwin.types import Mesh

NOSE_CREASES = (73, 81)


@pytest.fixture(scope="module")
def person(head):
    """Somebody slightly asymmetric, eyeballs and all."""
    rng = np.random.default_rng(11)
    neutral = neutral_shape(
        head, jnp.asarray(rng.normal(size=len(head.identity_std)) * np.asarray(head.identity_std), jnp.float32)
    )
    return Mesh(neutral, head.faces), parts_vertices(head, neutral, jnp.zeros(52))


# Laws


def test_a_rigid_motion_changes_no_measure(head, person):
    skin, parts = person
    rotation = jnp.asarray(Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix(), jnp.float32)
    there = [points @ rotation.T + jnp.array([[30.0, -80.0, 500.0]]) for points in (skin.vertices, parts)]
    np.testing.assert_allclose(measure(head, there[0], parts=there[1]), measure(head, skin.vertices), atol=2e-3)


def test_scaling_a_head_scales_every_measure(head, person):
    skin, parts = person
    scaled = measure(head, 1.3 * skin.vertices, parts=1.3 * parts)
    np.testing.assert_allclose(scaled, 1.3 * np.array(measure(head, skin.vertices)), rtol=1e-5)


def test_a_mirrored_head_measures_the_same(head, person):
    skin, _ = person
    mirrored = skin.vertices[head.mirror] * jnp.array([[-1.0, 1.0, 1.0]])
    assert np.abs(np.asarray(mirrored - skin.vertices)).max() > 0.3  # else the test could not fail
    # The stored basis is in half precision, which the eyes' places go through.
    np.testing.assert_allclose(measure(head, mirrored), measure(head, skin.vertices), atol=0.03)


def test_measures_differentiate_and_their_derivatives_are_finite_differences(head):
    def measured(identity):
        return jnp.stack(measure(head, neutral_shape(head, identity)))

    rng = np.random.default_rng(2)
    start = jnp.asarray(0.5 * rng.normal(size=len(head.identity_std)) * np.asarray(head.identity_std), jnp.float32)
    for _ in range(3):
        along = jnp.asarray(rng.normal(size=len(head.identity_std)) * np.asarray(head.identity_std), jnp.float32)
        derivative = jax.jvp(measured, (start,), (along,))[1]
        difference = (measured(start + 0.02 * along) - measured(start - 0.02 * along)) / 0.04
        np.testing.assert_allclose(derivative, difference, atol=0.02)
        assert (np.abs(derivative) > 0.05).any()
    gradient = jax.jacrev(measured)(start)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=1) > 1e-3).all()


def test_many_heads_measure_as_each_alone(head):
    rng = np.random.default_rng(4)
    people = jnp.asarray(rng.normal(size=(3, len(head.identity_std))) * np.asarray(head.identity_std), jnp.float32)
    many = jax.vmap(lambda identity: measure(head, neutral_shape(head, identity)))(people)
    for number in range(3):
        alone = measure(head, neutral_shape(head, people[number]))
        np.testing.assert_allclose([values[number] for values in many], alone, atol=1e-3)


# What they measure


def ends(head, vertices, name):
    calipers = place_calipers(head, vertices)
    row = Measurements._fields.index(name)
    return np.asarray(calipers.first[row]), np.asarray(calipers.second[row])


def test_pupil_distance_is_that_of_balls_fitted_to_the_eyes(head, person):
    skin, parts = person
    centres = []
    for side in ("left_eye", "right_eye"):
        faces = np.asarray(head.parts_faces)[np.asarray(head.parts_face_part) == head.part_names.index(side)]
        points = np.asarray(parts, np.float64)[np.unique(faces)]
        ball = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], np.sum(points**2, 1), rcond=None)[0]
        centres.append(ball[:3])
    assert float(measure(head, skin.vertices).pupil_distance) == pytest.approx(
        np.linalg.norm(centres[0] - centres[1]), abs=0.06
    )


def test_widths_are_those_of_horizontal_slices(head):
    # Of the whole surface, not of its vertices: a cut's end lies up to half an edge behind the last vertex.
    mesh = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces), process=False)

    def widest(heights, front, back):
        widths = []
        for height in heights:
            points = mesh.section(plane_origin=[0, height, 0], plane_normal=[0, 1, 0]).vertices
            widths.append(np.ptp(points[(points[:, 2] < front) & (points[:, 2] > back), 0]))
        return max(widths)

    measured = measure(head, head.mean)
    assert float(measured.bizygomatic_breadth) == pytest.approx(widest(np.arange(-38, -7), 0, -41), abs=1.0)
    above_the_ears = widest(np.arange(18, 90, 2), 0, -140)
    assert float(measured.head_breadth) == pytest.approx(above_the_ears, abs=0.7)


def test_head_length_is_that_of_the_profile(head):
    mesh = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces), process=False)
    profile = mesh.section(plane_origin=[0, 0, 0], plane_normal=[1, 0, 0]).vertices
    brow = profile[(profile[:, 2] > 0) & (profile[:, 1] > 10) & (profile[:, 1] < 26)]
    glabella = brow[np.argmax(brow[:, 2])]
    back = profile[profile[:, 2] < -120]
    farthest = np.linalg.norm(back - glabella, axis=1)[np.abs(back[:, 1]) < 70].max()
    assert float(measure(head, head.mean).head_length) == pytest.approx(farthest, abs=0.3)


def test_calipers_sit_on_what_they_are_named_after(head):
    points = np.asarray(landmark_points(head, head.mean))
    tip, mouth, eyes = points[NOSE_TIP], points[MOUTH], points[RIGHT_EYE]

    left, right = ends(head, head.mean, "nose_breadth")
    crease = np.linalg.norm(points[NOSE_CREASES[0]] - points[NOSE_CREASES[1]])
    assert 0.8 * crease < np.linalg.norm(left - right) < crease
    assert mouth[:, 1].max() < left[1] < tip[1] + 2
    sellion, subnasale = ends(head, head.mean, "nose_height")
    assert eyes[:, 1].min() < sellion[1] < eyes[:, 1].max()
    assert mouth[:, 1].max() < subnasale[1] < tip[1]
    assert subnasale[2] < tip[2] - 8
    _, menton = ends(head, head.mean, "face_height")
    under = np.asarray(head.mean)[(np.abs(head.mean[:, 0]) < 0.5) & (head.mean[:, 2] > 0)]
    assert menton[1] < under[:, 1].min() + 1
    assert abs(menton[0]) < 0.5
    zygion, _ = ends(head, head.mean, "bizygomatic_breadth")
    tragion, crown = ends(head, head.mean, "head_height")
    assert zygion[2] > tragion[2] + 19
    assert crown[1] > np.asarray(head.mean)[:, 1].max() - 1


def test_a_wider_nose_widens_nothing_else(head):
    left, _ = ends(head, head.mean, "nose_breadth")
    weight = sum(
        np.exp(-np.sum((np.asarray(head.mean) - left * side) ** 2, 1) / 50) for side in ([1, 1, 1], [-1, 1, 1])
    )
    wider = head.mean + jnp.asarray(weight[:, None] * np.sign(np.asarray(head.mean)) * [2.0, 0, 0], jnp.float32)
    change = np.array(measure(head, wider)) - np.array(measure(head, head.mean))
    row = Measurements._fields.index("nose_breadth")
    assert change[row] > 3
    assert np.abs(np.delete(change, row)).max() < 0.1


# The surveys


@pytest.mark.parametrize("name", Measurements._fields)
def test_every_measure_is_published_for_every_group(head, name):
    for group in (*head.group_names, "female", "male"):
        row = published(name, group)
        assert row.measure == name
        assert 0.02 < row.std_mm / row.mean_mm < 0.15
        assert row.count >= 130
        assert row.source
    assert published(name, "male").mean_mm > published(name, "female").mean_mm


def test_a_survey_pools_its_groups(head):
    # Hispanic people are in the pool but not in our groups: it lies within the groups' range, not at their mean.
    for row in (row for row in PUBLISHED if row.group in ("female", "male")):
        means = [other.mean_mm for other in PUBLISHED if other.group.startswith(f"{row.group}-") and other[0] == row[0]]
        assert not means or min(means) < row.mean_mm < max(means)


def test_a_mixture_has_the_moments_of_people_drawn_from_it():
    counts = {"male-african": 8, "male-asian": 178, "male-caucasian": 82}
    rng = np.random.default_rng(0)
    rows = [published("nose_breadth", group) for group in counts]
    drawn = np.concatenate([rng.normal(row.mean_mm, row.std_mm, 1000 * n) for row, n in zip(rows, counts.values())])
    mean, std = published_mixture("nose_breadth", counts)
    assert mean == pytest.approx(drawn.mean(), abs=0.05)
    assert std == pytest.approx(drawn.std(), abs=0.05)
    assert published_mixture("head_length", {"female-asian": 3}) == (189.8, 7.4)


def test_what_no_survey_tells_is_refused():
    with pytest.raises(KeyError, match="ear_length"):
        published("ear_length", "male")
