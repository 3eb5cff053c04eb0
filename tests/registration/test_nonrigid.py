import numpy as np
import pytest
import trimesh

from digitaltwin.geometry import SurfacePoints, SurfaceTree
from digitaltwin.geometry._laplacian import cotangent_stiffness, lumped_mass
from digitaltwin.registration import NonRigidConfig, Round, nonrigid_icp
from digitaltwin.registration._nonrigid import correspondence, sample_surface
from digitaltwin.types import InputError


@pytest.fixture(scope="module")
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=80.0)


@pytest.fixture(scope="module")
def ellipsoid() -> trimesh.Trimesh:
    fine = trimesh.creation.icosphere(subdivisions=5, radius=80.0)
    fine.vertices = fine.vertices * [1.08, 1.0, 0.93]
    return fine


def gaps(vertices: np.ndarray, faces: np.ndarray, target: trimesh.Trimesh) -> np.ndarray:
    tree = SurfaceTree(vertices, faces)
    return np.linalg.norm(target.vertices - tree.closest(np.asarray(target.vertices))[0], axis=1)


def at_vertices(faces: np.ndarray, vertices: list[int]) -> SurfacePoints:
    """Points of a mesh that are vertices of it."""
    found = [np.argwhere(np.asarray(faces) == vertex)[0] for vertex in vertices]
    return SurfacePoints(np.array([face for face, _ in found]), np.eye(3)[[corner for _, corner in found]])


def test_what_lies_on_the_surface_stays(ball):
    vertices = np.asarray(ball.vertices)
    laid = nonrigid_icp(vertices, ball.faces, SurfaceTree(vertices, ball.faces))
    np.testing.assert_allclose(laid, vertices, atol=1e-6)


def test_a_ball_becomes_an_ellipsoid_half_as_far_inside_as_its_vertices_would_have_it(ball, ellipsoid):
    surface = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces)
    laid = nonrigid_icp(np.asarray(ball.vertices), ball.faces, surface)
    assert gaps(laid, ball.faces, ellipsoid).mean() < 0.15
    inscribed = gaps(ball.vertices * [1.08, 1.0, 0.93], ball.faces, ellipsoid)
    assert gaps(laid, ball.faces, ellipsoid).mean() < 0.6 * inscribed.mean()


def test_where_the_surface_has_a_hole_the_template_goes_on_smoothly(ball, ellipsoid):
    front = ellipsoid.triangles_center[:, 2] > -10.0
    surface = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces[front])
    laid = nonrigid_icp(np.asarray(ball.vertices), ball.faces, surface)
    moved = laid - ball.vertices
    seen, behind = ball.vertices[:, 2] > 0.0, ball.vertices[:, 2] < -60.0
    assert np.linalg.norm(laid[seen] / (80.0 * np.array([1.08, 1.0, 0.93])), axis=1) == pytest.approx(1.0, abs=0.01)
    assert np.linalg.norm(moved[behind], axis=1).max() < 8.0, "nothing pulls there"


def test_landmarks_and_touching_vertices(ball, ellipsoid):
    vertices = np.asarray(ball.vertices)
    surface = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces)
    pole = int(np.argmax(vertices[:, 1]))
    points = at_vertices(ball.faces, [pole, 0])
    goal = np.array([[5.0, 79.8, 0.0], [np.nan, 0.0, 0.0]])
    free = nonrigid_icp(vertices, ball.faces, surface)
    held = nonrigid_icp(vertices, ball.faces, surface, landmarks=(points, goal))
    assert np.linalg.norm(free[pole] - goal[0]) > 3.0
    assert np.linalg.norm(held[pole] - goal[0]) < 1.0
    assert gaps(held, ball.faces, ellipsoid).mean() < 0.2

    left, right = int(np.argmin(vertices[:, 0])), int(np.argmax(vertices[:, 0]))
    tied = nonrigid_icp(vertices, ball.faces, surface, contact_pairs=np.array([[left, right]]))
    apart, together = ((laid[right] - laid[left]) - (vertices[right] - vertices[left]) for laid in (free, tied))
    assert np.linalg.norm(together) < 0.2 * np.linalg.norm(apart)


def test_a_round_is_the_minimum_of_the_energy_that_is_written_down(ball, ellipsoid):
    """The energy by plain sums, its correspondences as they stood; its slope by differences is nothing."""
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    surface = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces)
    config = NonRigidConfig(rounds=(Round(12.0, 10.0, 1),), most_points=500)
    pole = int(np.argmax(vertices[:, 1]))
    points = at_vertices(faces, [pole])
    goal, pair = np.array([[5.0, 79.8, 0.0]]), np.array([[3, 900 % len(vertices)]])
    laid = nonrigid_icp(vertices, faces, surface, landmarks=(points, goal), contact_pairs=pair, config=config)

    template, mass = SurfaceTree(vertices, faces), lumped_mass(vertices, faces)
    own = correspondence(vertices, template.vertex_normals, surface, 10.0, config.max_normal_angle_deg)
    sample = sample_surface(surface, vertices, config)
    positions, closest = template.closest(sample.points)
    gap = np.sum(sample.normals * (positions - sample.points), axis=1)
    trust = (np.linalg.norm(positions - sample.points, axis=1) <= 10.0) * (
        (10 / 3) ** 2 / ((10 / 3) ** 2 + gap**2)
    ) ** 2
    trust *= np.sum(template.normals[closest.faces] * sample.normals, axis=1) > 0.5
    stiff = cotangent_stiffness(vertices, faces)

    def energy(d: np.ndarray) -> float:
        to = own.points - vertices - d
        there = np.einsum("nk,nkd->nd", closest.barycentric, (vertices + d)[faces[closest.faces]])
        back = sample.points - there
        pulls = np.sum(
            mass * own.weights * (np.sum(own.planes * to, axis=1) ** 2 + config.tangential * np.sum(to**2, axis=1))
        )
        pulls += np.sum(
            sample.areas
            * trust
            * (np.sum(sample.normals * back, axis=1) ** 2 + config.tangential * np.sum(back**2, axis=1))
        )
        marked = config.landmark_mm2 * np.sum((vertices[pole] + d[pole] - goal[0]) ** 2)
        bound = config.contact_mm2 * np.sum((d[pair[0, 0]] - d[pair[0, 1]]) ** 2)
        bent = 12.0**4 * np.sum((stiff @ d) ** 2 / mass[:, None]) + config.displacement_penalty * np.sum(
            mass[:, None] * d**2
        )
        return float(pulls + marked + bound + bent)

    found = laid - vertices
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=found.shape)
        up, down = (energy(found + step * direction) for step in (1e-3, -1e-3))
        curvature = up + down - 2.0 * energy(found)
        assert abs(up - down) < 1e-3 * curvature / 1e-3, "the way to the minimum is short beside the step"
    assert energy(found) < energy(np.zeros_like(found))


def test_surfaces_apart_are_refused(ball, ellipsoid):
    far = SurfaceTree(np.asarray(ellipsoid.vertices) + 500.0, ellipsoid.faces)
    with pytest.raises(InputError, match="points correspond"):
        nonrigid_icp(np.asarray(ball.vertices), ball.faces, far)
    inside_out = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces[:, ::-1])
    with pytest.raises(InputError, match="points correspond"):
        nonrigid_icp(np.asarray(ball.vertices), ball.faces, inside_out)


def test_seams_stay_closed_and_what_belongs_to_no_face_stays_where_it_is(ball, ellipsoid):
    """As a file with a texture has it: vertices twice along a seam, one that no face uses, a face without an area."""
    surface = SurfaceTree(np.asarray(ellipsoid.vertices), ellipsoid.faces)
    whole = nonrigid_icp(np.asarray(ball.vertices), ball.faces, surface)
    count = len(ball.vertices)
    left = ball.triangles_center[:, 0] < 0.0
    faces = np.array(ball.faces)
    faces[left] += count + 1
    vertices = np.concatenate([ball.vertices, [[500.0, 0.0, 0.0]], ball.vertices])
    torn = nonrigid_icp(vertices, np.concatenate([faces, [[3, 3, 7]]]), surface)
    assert np.array_equal(torn[count], [500.0, 0.0, 0.0])
    used = np.unique(faces)
    expected = np.concatenate([whole, [[500.0, 0.0, 0.0]], whole])
    np.testing.assert_allclose(torn[used], expected[used], atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Round(-1.0, 5.0), "stiffness_mm is -1.0"),
        (lambda: Round(5.0, 5.0, 0), "iterations is 0"),
        (lambda: NonRigidConfig(rounds=()), "rounds is"),
        (lambda: NonRigidConfig(displacement_penalty=0.0), "displacement_penalty is 0.0; it must be positive"),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
