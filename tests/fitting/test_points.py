import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitConfig, fit, fit_views, make_fitter, mesh_points_of, predict_landmarks
from digitaltwin.fitting._fitter import points_on
from digitaltwin.geometry import Camera
from digitaltwin.head import express, landmark_points, neutral_shape, parts_vertices
from digitaltwin.types import InputError

SIZE = (480, 640)


def camera_at(yaw_deg, pitch_deg=0.0):
    rotation = Rotation.from_euler("yx", [yaw_deg, pitch_deg], degrees=True).as_matrix()
    return Camera(jnp.float32(rotation), jnp.array([5.0, 0.0, 550.0]), jnp.float32(640.0), jnp.array([320.0, 240.0]))


@pytest.fixture(scope="module")
def mesh_fitter(head):
    return make_fitter(head, FitConfig(fit_identity=False), points=mesh_points_of(head))


@pytest.fixture(scope="module")
def somebody(head):
    z = 0.6 * np.random.default_rng(1).normal(size=len(head.identity)) * np.asarray(head.identity_std)
    return neutral_shape(head, jnp.float32(z))


def weights_of(head, **weights):
    expression = np.zeros(len(head.expression_names), np.float32)
    for name, value in weights.items():
        expression[head.expression_names.index(name)] = value
    return jnp.asarray(expression)


def in_photo_order(fitter, points):
    return np.asarray(points)[np.argsort(np.asarray(fitter.order))]


def test_the_points_are_the_models_own(head, mesh_fitter, somebody):
    found = in_photo_order(mesh_fitter, points_on(mesh_fitter, somebody))
    skin = head.mesh_points.interpolate(somebody, head.faces)
    np.testing.assert_allclose(found[:468], skin, atol=1e-3)
    plain = make_fitter(head, FitConfig(sliding_contour=False))
    np.testing.assert_allclose(
        in_photo_order(plain, points_on(plain, somebody)), landmark_points(head, somebody), atol=1e-3
    )


def test_irises_lie_on_the_eyeballs_and_move_with_them(head, mesh_fitter, somebody):
    look = weights_of(head, eyeLookUpLeft=0.7, eyeLookInLeft=0.4)
    moved = jnp.einsum("kxe,e->kx", mesh_fitter.points.modes, look)
    for expression, offset in ((jnp.zeros(52), 0.0), (look, moved)):
        found = in_photo_order(mesh_fitter, points_on(mesh_fitter, somebody) + offset)[473:]
        ball = np.unique(
            np.asarray(head.parts_faces)[np.asarray(head.parts_face_part) == head.part_names.index("left_eye")]
        )
        vertices = np.asarray(parts_vertices(head, somebody, expression))[ball]
        centre = vertices.mean(axis=0)
        radius = np.linalg.norm(vertices - centre, axis=1)
        distance = np.linalg.norm(found - centre, axis=1)
        assert (distance > radius.min() - 0.4).all()
        assert (distance < radius.max() + 0.4).all()
    assert moved.shape == (478, 3)


def test_the_irises_drive_the_gaze(head, mesh_fitter, somebody):
    look = weights_of(head, eyeLookOutLeft=0.8, eyeLookInRight=0.8, jawOpen=0.3)
    landmarks = predict_landmarks(mesh_fitter, camera_at(0.0), somebody, look)
    seen = fit(mesh_fitter, somebody, landmarks, SIZE, weights=jnp.ones(478))
    unseen = fit(mesh_fitter, somebody, landmarks, SIZE, weights=jnp.ones(478).at[468:].set(0.0))
    out = head.expression_names.index("eyeLookOutLeft")
    assert seen.status == 0
    assert float(seen.expression[out]) > 0.3
    assert float(seen.expression[out]) > float(unseen.expression[out]) + 0.2


def test_the_face_mesh_tells_shape_and_pose(head, mesh_fitter, somebody):
    landmarks = predict_landmarks(mesh_fitter, camera_at(30.0, -8.0), somebody, weights_of(head, mouthSmileLeft=0.5))
    result = fit(mesh_fitter, head.mean, landmarks, SIZE)
    assert result.status == 0
    assert Rotation.from_matrix(result.rotation @ camera_at(30.0, -8.0).rotation.T).magnitude() < np.deg2rad(4.0)
    again = predict_landmarks(mesh_fitter, result.camera, result.neutral, result.expression, near=landmarks)
    assert np.sqrt(np.mean(np.sum(np.asarray(again - landmarks) ** 2, axis=1))) < 2.0


# Several photos of one person


@pytest.fixture(scope="module")
def fitter(head):
    return make_fitter(head, FitConfig())


@pytest.fixture(scope="module")
def photos(head, fitter, somebody):
    looks = (weights_of(head, jawOpen=0.5), weights_of(head, mouthSmileLeft=0.6, mouthSmileRight=0.6))
    turns = (camera_at(-25.0), camera_at(20.0, 8.0))
    landmarks = jnp.stack([predict_landmarks(fitter, c, somebody, e) for c, e in zip(turns, looks)])
    return landmarks, jnp.array([SIZE, SIZE]), jnp.stack(looks), turns


def test_one_view_is_a_fit(head, fitter, photos):
    landmarks, sizes, looks, _ = photos
    one = fit_views(fitter, head.mean, landmarks[:1], sizes[:1], scores=looks[:1])
    plain = fit(fitter, head.mean, landmarks[0], sizes[0], scores=looks[0])
    np.testing.assert_allclose(one.vertices[0], plain.vertices, atol=1e-3)
    np.testing.assert_allclose(one.energies, plain.energies, rtol=1e-4)


def test_two_turned_views_share_a_better_head(head, fitter, photos, somebody):
    landmarks, sizes, looks, turns = photos
    both = fit_views(fitter, head.mean, landmarks, sizes, scores=looks)
    assert both.vertices.shape == (2, *head.mean.shape)
    assert (both.status == 0).all()
    for i, camera in enumerate(turns):
        assert Rotation.from_matrix(both.rotation[i] @ camera.rotation.T).magnitude() < np.deg2rad(5.0)
        expressed = express(head, both.neutral, both.expression[i])
        np.testing.assert_allclose(both.vertices[i], expressed, atol=1e-3)
    face = np.asarray(head.regions.face)

    def error(result):
        return np.linalg.norm(np.asarray(result.neutral - somebody), axis=1)[face].mean()

    alone = [error(fit(fitter, head.mean, y, SIZE, scores=s)) for y, s in zip(landmarks, looks)]
    assert error(both) < min(alone)


def test_many_photos_of_one_moment_are_as_good_as_one(head, fitter, photos):
    """Four turns of one face, together more landmarks than one photo is solved directly with."""
    _, _, looks, _ = photos
    turns = (-30.0, -10.0, 15.0, 35.0)
    neutral = head.mean
    landmarks = jnp.stack([predict_landmarks(fitter, camera_at(turn), neutral, looks[0]) for turn in turns])
    sizes = jnp.array([SIZE] * len(turns))
    result = fit_views(fitter, neutral, landmarks, sizes, scores=jnp.stack([looks[0]] * len(turns)))
    assert (result.status == 0).all()
    alone = sum(float(fit(fitter, neutral, y, SIZE, scores=looks[0]).energies[-1]) for y in landmarks)
    assert float(result.energies[-1]) < 1.05 * alone, "no photo holds another off"
    for rotation, turn in zip(result.rotation, turns):
        assert Rotation.from_matrix(rotation @ camera_at(turn).rotation.T).magnitude() < np.deg2rad(2.0)
    assert np.linalg.norm(np.asarray(result.neutral - neutral), axis=1)[np.asarray(head.regions.face)].mean() < 0.5


def test_the_order_of_views_does_not_matter(head, fitter, photos):
    landmarks, sizes, looks, _ = photos
    there, back = (
        fit_views(fitter, head.mean, landmarks[::step], sizes[::step], scores=looks[::step]) for step in (1, -1)
    )
    np.testing.assert_allclose(there.neutral, back.neutral, atol=0.02)


def test_a_bad_view_has_no_say(head, fitter, photos):
    landmarks, sizes, looks, _ = photos
    broken = landmarks.at[1].set(jnp.nan)
    result = fit_views(fitter, head.mean, broken, sizes, scores=looks)
    plain = fit(fitter, head.mean, landmarks[0], SIZE, scores=looks[0])
    assert result.status.tolist() == [0, 1]
    np.testing.assert_allclose(result.neutral, plain.neutral, atol=0.02)


@pytest.mark.parametrize("bad", [0, 1])
def test_what_views_share_goes_on_from_a_start_whichever_of_them_is_bad(head, fitter, photos, bad):
    landmarks, sizes, looks, _ = photos
    start = fit_views(fitter, head.mean, landmarks, sizes, scores=looks)
    still = make_fitter(head, FitConfig(iterations=0))
    same = fit_views(still, head.mean, landmarks, sizes, scores=looks, init=start.unknowns)
    broken = landmarks.at[bad].set(jnp.nan)
    found = fit_views(still, head.mean, broken, sizes, scores=looks, init=start.unknowns)
    assert found.status[bad] == 1
    np.testing.assert_allclose(found.neutral, same.neutral, atol=1e-4)


def test_what_all_views_have_in_common_is_given_once(head, fitter, photos):
    landmarks, sizes, looks, _ = photos
    each = fit_views(fitter, head.mean, landmarks, sizes, scores=jnp.stack([looks[0]] * 2), focal_px=jnp.full(2, 640.0))
    once = fit_views(fitter, head.mean, landmarks, SIZE, scores=looks[0], focal_px=640.0)
    assert np.array_equal(each.neutral, once.neutral)


def test_a_batch_of_face_meshes_keeps_a_poisoned_one_apart(head, mesh_fitter, somebody):
    """Conjugate gradients go on until the last lane is done; what another lane holds does not change a bit of one."""
    still = jnp.zeros(52)
    seen = jnp.stack([predict_landmarks(mesh_fitter, camera_at(turn), somebody, still) for turn in (-20.0, 0.0, 25.0)])

    @jax.jit
    def run(landmarks):
        return jax.vmap(lambda y: fit(mesh_fitter, head.mean, y, SIZE))(landmarks)

    clean, poisoned = run(seen), run(seen.at[1].set(jnp.nan))
    assert poisoned.status.tolist() == [0, 1, 0]
    for part, expected in zip(jax.tree.leaves(poisoned), jax.tree.leaves(clean)):
        assert np.isfinite(np.asarray(part)).all()
        assert np.array_equal(part[np.array([0, 2])], expected[np.array([0, 2])])
    alone = fit(mesh_fitter, head.mean, seen[2], SIZE)
    np.testing.assert_allclose(clean.vertices[2], alone.vertices, atol=2e-3)


def test_a_shared_expression_is_one(head, fitter, photos):
    landmarks, sizes, looks, _ = photos
    result = fit_views(fitter, head.mean, landmarks, sizes, scores=looks, share_expression=True)
    assert np.array_equal(result.expression[0], result.expression[1])
    lagged = make_fitter(head, FitConfig.paper())
    with pytest.raises(InputError, match="share_expression"):
        fit_views(lagged, head.mean, landmarks, sizes)
