"""The camera of portraits: what it looks at is in the middle, and a head fills the picture from every side."""

import numpy as np
import pytest

from digitaltwin.geometry import project
from digitaltwin.geometry._camera import camera_points
from digitaltwin.render._portrait import PORTRAIT_DISTANCE_MM, fitting_camera, picture_grid, portrait_camera


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.6, 0.0), (-1.4, 0.3)])
def test_the_target_is_in_the_middle_at_the_portrait_distance(yaw, pitch):
    target = np.array([[4.0, -30.0, 70.0]])
    camera = portrait_camera(yaw=yaw, pitch=pitch, width_mm=200.0, size_px=400, target_mm=target[0])
    np.testing.assert_allclose(project(camera, target), [[200.0, 200.0]], atol=1e-9)
    np.testing.assert_allclose(camera_points(camera, target)[0, 2], PORTRAIT_DISTANCE_MM)


def test_the_picture_is_as_wide_at_the_target_as_asked_for():
    camera = portrait_camera(width_mm=200.0, size_px=400)
    edges = np.array([[-100.0, -30.0, 0.0], [100.0, -30.0, 0.0]])
    np.testing.assert_allclose(project(camera, edges)[:, 0], [0.0, 400.0], atol=1e-9)


def test_a_turn_takes_the_nose_to_the_head_s_own_left():
    nose = np.array([[0.0, -30.0, 100.0]])
    assert project(portrait_camera(yaw=0.5, width_mm=300.0, size_px=300), nose)[0, 0] > 190.0


@pytest.mark.parametrize("yaw", [0.0, 0.7, np.pi / 2])
def test_a_head_fills_the_picture_from_every_side_at_one_scale(yaw):
    points = np.random.default_rng(0).uniform([-70, -130, -100], [70, 120, 110], (500, 3))
    camera = fitting_camera(points, yaw=yaw, size_px=640)
    seen = project(camera, points)
    assert seen.min() > 0
    assert seen.max() < 640
    assert camera.focal_px == pytest.approx(fitting_camera(points, size_px=640).focal_px)


def test_pictures_stand_in_reading_order():
    pictures = [np.full((2, 3, 3), float(number)) for number in range(4)]
    assert picture_grid(pictures, 2)[::2, ::3, 0].tolist() == [[0, 1], [2, 3]]
