import logging

import jax
import numpy as np
import pytest

from digitaltwin.render._colour import linear_from_srgb
from digitaltwin.render._window import linear_window


class CompilationsRefused(logging.Handler):
    """Raises where JAX says that it compiles."""

    def __enter__(self):
        logging.getLogger("jax").addHandler(self)

    def __exit__(self, *_):
        logging.getLogger("jax").removeHandler(self)

    def emit(self, record):
        raise AssertionError(record.getMessage())


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(3).uniform(size=(40, 60, 3)).astype(np.float32)


def test_whole_pixels_come_back_unchanged(photo):
    window = linear_window(photo, np.array([7.0, 5.0]), 16.0, 16)
    np.testing.assert_allclose(window, linear_from_srgb(photo[5:21, 7:23]), atol=1e-5)


@pytest.mark.parametrize("corner", [(-20.0, -30.0), (50.0, 30.0), (-500.0, 3.0), (70.0, 90.0)])
def test_beyond_the_photo_its_border_goes_on(photo, corner):
    edge = 24.0
    window = linear_window(photo, np.array(corner), edge, 24)
    row = np.clip(np.arange(24) + int(corner[1]), 0, 39)
    column = np.clip(np.arange(24) + int(corner[0]), 0, 59)
    np.testing.assert_allclose(window, linear_from_srgb(photo[row][:, column]), atol=1e-5)


def test_a_photo_of_another_size_compiles_nothing():
    with jax.log_compiles(), CompilationsRefused():
        for height, width in ((50, 31), (300, 400), (77, 90)):
            photo = np.full((height, width, 3), 0.5, np.float32)
            window = linear_window(photo, np.zeros(2), float(min(height, width)), 16)
            np.testing.assert_allclose(window, 0.2140411, atol=1e-5)


def test_reduction_keeps_the_mean_light():
    checks = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2
    window = linear_window(checks.astype(np.float32), np.zeros(2), 64.0, 8)
    np.testing.assert_allclose(window, 0.5, atol=0.02)
