import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitConfig, fit, make_fitter, predict_landmarks
from digitaltwin.fitting._contour import candidates_on, make_contour_lines, nearest_on_outline, silhouettes
from digitaltwin.geometry import Camera, project
from digitaltwin.types import InputError

SIZE = (480, 640)


def camera_at(yaw_deg):
    rotation = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
    return Camera(jnp.float32(rotation), jnp.array([0.0, 0.0, 600.0]), jnp.float32(900.0), jnp.array([320.0, 240.0]))


def sphere(radius=80.0, rings=40, sectors=60):
    polar = np.linspace(0.0, np.pi, rings + 1)[1:-1]
    around = np.linspace(0.0, 2 * np.pi, sectors, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    vertices = radius * np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=2).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 2), np.arange(sectors), indexing="ij")
    a, b = i * sectors + j, i * sectors + (j + 1) % sectors
    return vertices, np.concatenate(
        [np.stack(t, -1).reshape(-1, 3) for t in ((b, a, a + sectors), (b + sectors, b, a + sectors))]
    )


@pytest.fixture(scope="module")
def ball():
    """Lines across the lower half circle x, y of a ball, reaching from behind it to the front (+z)."""
    vertices, faces = sphere()
    angle = np.linspace(-0.9 * np.pi, -0.1 * np.pi, 13)
    path = 80.0 * np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    far = np.full(13, 48.0)
    return vertices, make_contour_lines(vertices, faces, path, far, far, inside=np.array([0.0, 0.0, 80.0]))


def test_lines_lie_on_the_skin_with_equal_steps(ball):
    vertices, lines = ball
    points = np.einsum("ljk,ljkx->ljx", lines.barycentric, vertices[lines.corners])
    np.testing.assert_allclose(np.linalg.norm(points, axis=2), 80.0, atol=0.5)
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=1), axis=2), 6.0, rtol=0.4)
    assert (np.diff(points[:, :, 2], axis=1) > 0.0).all(), "from behind into the face"


@pytest.mark.parametrize("yaw_deg", [-25.0, 0.0, 15.0])
def test_the_outline_of_a_ball_is_where_its_tangents_touch(ball, yaw_deg):
    vertices, lines = ball
    camera = camera_at(yaw_deg)
    corners, weights = jnp.asarray(lines.corners), jnp.asarray(lines.barycentric, jnp.float32)
    candidates = candidates_on(jnp.asarray(vertices, jnp.float32), corners, weights, closed=False)
    chosen = candidates.points.reshape(-1, 3)[silhouettes(camera, candidates)]
    # Seen from a distance d, a ball's outline is the circle in the plane n . x = r^2 / d, n towards the camera.
    centre = -np.asarray(camera.rotation).T @ [0.0, 0.0, -600.0]
    height = np.asarray(chosen) @ centre / 600.0
    assert np.abs(height - 80.0**2 / 600.0).max() < 4.5, "half a spacing and the faces' flatness"
    radius = np.linalg.norm(np.asarray(project(camera, chosen)) - [320.0, 240.0], axis=1)
    np.testing.assert_allclose(radius, 900.0 * 80.0 / np.sqrt(600.0**2 - 80.0**2), atol=0.8)


def test_a_short_line_repeats_its_end_and_is_never_chosen_there(ball):
    vertices, faces = sphere()
    angle = np.linspace(-0.9 * np.pi, -0.1 * np.pi, 13)
    path = 80.0 * np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    reach = np.where(np.arange(13) < 6, 48.0, 12.0)
    lines = make_contour_lines(vertices, faces, path, 0.0 * reach, reach, inside=np.array([0.0, 0.0, 80.0]))
    candidates = candidates_on(
        jnp.asarray(vertices, jnp.float32), jnp.asarray(lines.corners), jnp.asarray(lines.barycentric, jnp.float32),
        closed=False,
    )  # fmt: skip
    assert np.array_equal(lines.corners[-1, 3], lines.corners[-1, -1])
    index = np.asarray(silhouettes(camera_at(35.0), candidates)) % lines.corners.shape[1]
    assert index[-1] <= 3


@pytest.mark.parametrize("turned", [False, True])
def test_a_line_that_crosses_no_silhouette_ends_where_it_comes_nearest_to_one(ball, turned):
    """Whatever its normals say: seen from the front throughout it is its hind end, hidden throughout its other end."""
    vertices, lines = ball
    corners, weights = jnp.asarray(lines.corners), jnp.asarray(lines.barycentric, jnp.float32)
    candidates = candidates_on(jnp.asarray(vertices, jnp.float32), corners, weights, closed=False)
    outward = np.sum(np.asarray(candidates.normals) * np.asarray(candidates.points), axis=2)
    assert (outward > 0.0).all()
    count = corners.shape[1]
    front = candidates._replace(normals=jnp.where(candidates.points[..., 2:] > 8.0, candidates.normals, 0.0))
    index = np.asarray(silhouettes(camera_at(180.0 if turned else 0.0), front)) % count
    kept = np.asarray(front.points)[..., 2] > 8.0
    expected = count - 1 if turned else kept.argmax(axis=1)
    assert np.array_equal(index, np.broadcast_to(expected, index.shape))


def test_a_head_without_skin_there_is_refused():
    vertices, faces = sphere()
    front = vertices[faces].mean(axis=1)[:, 2] > 0.0
    path = np.array([[0.0, -80.0, -20.0], [10.0, -79.0, -20.0]])
    with pytest.raises(InputError, match="no skin for a contour line"):
        make_contour_lines(
            vertices, faces[front], path, np.full(2, 12.0), np.full(2, 12.0), inside=np.array([0.0, 0.0, 80.0])
        )


def test_the_nearest_point_of_a_closed_outline_may_lie_on_its_last_side():
    square = jnp.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    found = nearest_on_outline(square, jnp.array([[-1.0, 4.0]]), closed=True)
    assert (int(found.first[0]), int(found.second[0])) == (3, 0)
    assert float(found.share[0]) == pytest.approx(0.6)
    assert int(nearest_on_outline(square, jnp.array([[-1.0, 4.0]]), closed=False).first[0]) == 0


def test_sliding_beats_fixed_anchors_on_turned_heads(head):
    """Of landmarks that follow the visible outline, with noise of 1 % of the eye distance."""
    truth = make_fitter(head, FitConfig(contour_reach_mm=50.0))
    rng = np.random.default_rng(0)
    scales = 0.5 * np.asarray(head.identity_std) * rng.normal(size=(6, len(head.identity)))
    neutrals = head.mean[None] + jnp.einsum("bi,ivx->bvx", jnp.float32(scales), head.identity)
    still = jnp.zeros(len(head.expressions))
    landmarks = jnp.stack(
        [predict_landmarks(truth, camera_at(yaw), n, still) for n, yaw in zip(neutrals, (-40, -33, -28, 28, 33, 40))]
    )
    landmarks += jnp.float32(rng.normal(size=landmarks.shape) * 1.0)
    angles = {}
    for sliding in (True, False):
        fitter = make_fitter(head, FitConfig(sliding_contour=sliding, contour_reach_mm=50.0, contour_weight=0.5))
        results = jax.jit(jax.vmap(lambda y, fitter=fitter: fit(fitter, head.mean, y, SIZE)))(landmarks)
        assert (results.status == 0).all()
        turned = Rotation.from_matrix(np.asarray(results.rotation)).as_euler("yxz", degrees=True)[:, 0]
        angles[sliding] = np.abs(turned - [-40, -33, -28, 28, 33, 40]).mean()
    assert angles[True] < 0.75 * angles[False]
