import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Camera, project
from digitaltwin.geometry._camera import camera_from_head, camera_points


def make_camera(vector=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 500.0), focal=1000.0, centre=(320.0, 240.0)):
    rotation = Rotation.from_rotvec(vector).as_matrix()
    return Camera(jnp.float32(rotation), jnp.float32(translation), jnp.float32(focal), jnp.float32(centre))


def image_of(camera, point):
    return np.asarray(project(camera, jnp.float32([point])))[0]


def test_a_frontal_face_is_no_rotation():
    camera = make_camera()
    assert image_of(camera, (0, 0, 0)).tolist() == [320, 240]
    assert image_of(camera, (10, 0, 0))[0] > 320, "the subject's left is on the right of the photo"
    assert image_of(camera, (0, 10, 0))[1] < 240, "up is towards the first row"
    nose, nape = camera_points(camera, jnp.float32([[0, 0, 90], [0, 0, -90]]))
    assert nose[2] < nape[2], "the face is nearer than the back of the head"


@pytest.mark.parametrize(
    ("vector", "axis", "sign", "what"),
    [
        ((0, 0.3, 0), 0, 1, "turning to the subject's left moves the nose right in the photo"),
        ((0.3, 0, 0), 1, 1, "nodding moves it down"),
    ],
)
def test_turning_the_head_moves_the_nose(vector, axis, sign, what):
    moved = image_of(make_camera(vector), (0, 0, 100)) - image_of(make_camera(), (0, 0, 100))
    assert moved[axis] * sign > 10, what


def test_camera_from_head_is_a_proper_rotation():
    matrix = np.asarray(camera_from_head(make_camera((0.1, 0.2, 0.3)).rotation))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-6)


def test_projection_agrees_with_opencv():
    camera = make_camera((0.2, -0.4, 0.1), (12.0, -7.0, 620.0), 813.0, (301.0, 255.5))
    points = np.random.default_rng(1).normal(size=(50, 3)) * 60
    vector, _ = cv2.Rodrigues(np.asarray(camera_from_head(camera.rotation), np.float64))
    intrinsics = np.array([[813.0, 0, 301.0], [0, 813.0, 255.5], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points, vector, np.array([12.0, -7.0, 620.0]), intrinsics, None)
    np.testing.assert_allclose(project(camera, jnp.float32(points)), expected[:, 0], atol=1e-3)


def test_scaling_the_scene_leaves_the_image():
    points = jnp.float32(np.random.default_rng(2).normal(size=(20, 3)) * 60)
    near, far = make_camera((0.2, 0.1, 0)), make_camera((0.2, 0.1, 0), (0.0, 0.0, 1000.0))
    np.testing.assert_allclose(project(near, points), project(far, 2.0 * points), rtol=1e-5)


def test_on_the_host_it_says_the_same_without_jax():
    camera = make_camera((0.2, -0.4, 0.1), (12.0, -7.0, 620.0), 813.0, (301.0, 255.5))
    points = np.random.default_rng(1).normal(size=(50, 3)) * 60
    host = Camera(*(np.asarray(part, np.float64) for part in camera))
    pixels = project(host, points)
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.float64
    np.testing.assert_allclose(pixels, project(camera, jnp.float32(points)), atol=1e-3)


def test_an_orbit_keeps_its_target_in_sight_and_turns_the_head():
    options = {"distance_mm": 600.0, "focal_px": 1000.0, "principal_point_px": (320.0, 240.0)}
    target = np.array([[10.0, -30.0, 20.0]])
    front, turned, nodding = (
        Camera.orbit(yaw=yaw, pitch=pitch, target_mm=target[0], **options)
        for yaw, pitch in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.4))
    )
    for camera in (front, turned, nodding):
        np.testing.assert_allclose(project(camera, target), [[320.0, 240.0]])
        np.testing.assert_allclose(camera_points(camera, target)[0, 2], 600.0)
    nose = target + [[0.0, 0.0, 50.0]]
    assert project(turned, nose)[0, 0] > 340.0, "to the head's own left, which is to the right of the picture"
    assert project(nodding, nose)[0, 1] > 250.0, "down"


def test_looking_from_where_an_orbit_stands_is_the_orbit():
    given = {"focal_px": 800.0, "principal_point_px": (64.0, 64.0)}
    orbit = Camera.orbit(yaw=0.7, pitch=0.0, distance_mm=400.0, target_mm=(1.0, 2.0, 3.0), **given)
    centre = -camera_from_head(orbit.rotation).T @ orbit.translation
    looking = Camera.look_at(centre, (1.0, 2.0, 3.0), **given)
    for one, other in zip(orbit, looking):
        np.testing.assert_allclose(one, other, atol=1e-9)
