"""Regions: a round trip, and samples that can be predicted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitaltwin.perception._region import (
    Pyramid,
    Region,
    image_from_region,
    make_pyramid,
    region_from_image,
    sample_region,
)


def region(x, y, side, angle):
    return Region(jnp.array([x, y], jnp.float32), jnp.array(side, jnp.float32), jnp.array(angle, jnp.float32))


pyramid_of = jax.jit(make_pyramid)
sample = jax.jit(sample_region, static_argnames=("size", "black_outside"))


@settings(max_examples=20, deadline=None)
@given(
    x=st.floats(-100, 1000), y=st.floats(-100, 1000), side=st.floats(10, 1000), angle=st.floats(-3.2, 3.2),
    dimensions=st.sampled_from([2, 3]),
)  # fmt: skip
def test_round_trip(x, y, side, angle, dimensions):
    square = region(x, y, side, angle)
    points = jnp.asarray(np.random.default_rng(0).normal(size=(5, dimensions)), jnp.float32)
    back = region_from_image(square, image_from_region(square, points))
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_corners_of_a_turned_region():
    # A quarter turn: the region's x axis points down the image, its y axis to the left.
    corners = image_from_region(region(10, 20, 4, np.pi / 2), jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(corners, [[12, 18], [12, 22], [8, 18]], atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.5])
@pytest.mark.parametrize("side", [5.0, 32.0, 45.0, 100.0, 250.0])
def test_a_linear_ramp_is_sampled_exactly_at_every_scale(side, angle):
    # Means of a ramp are its values at the centres, on each level of the pyramid: the sample must be the position.
    height, width = 512, 640
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    pyramid = pyramid_of(jnp.asarray(np.stack([x, y, x + y], axis=2) / 1000, jnp.float32))
    square = region(310.0, 260.0, side, angle)
    size = 16
    v, u = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    expected = image_from_region(square, jnp.asarray(np.stack([u, v], axis=2).reshape(-1, 2), jnp.float32))
    actual = sample(pyramid, square, size=size).reshape(-1, 3) * 1000
    np.testing.assert_allclose(actual[:, :2], expected, atol=2e-3)
    np.testing.assert_allclose(actual[:, 2], expected.sum(axis=1), atol=2e-3)


@pytest.mark.parametrize("period", [2, 3, 5])
def test_detail_too_fine_for_the_result_is_averaged_away(period):
    stripes = np.zeros((400, 400, 3), np.float32)
    stripes[:, ::period] = 1
    pixels = sample(pyramid_of(jnp.asarray(stripes)), region(200, 200, 380, 0.3), size=32)  # 12 px to 1
    # Single samples would keep the stripes' full contrast and turn it into coarse false stripes.
    assert np.std(pixels) < 0.1 * np.std(stripes)
    np.testing.assert_allclose(np.mean(pixels), 1 / period, atol=5e-3)


def test_a_photo_of_half_the_size_gives_the_same_samples():
    photo = jnp.asarray(np.random.default_rng(1).uniform(size=(120, 160, 3)), jnp.float32)
    half = photo.reshape(60, 2, 80, 2, 3).mean((1, 3))
    large = sample(pyramid_of(photo), region(80, 60, 90, 0.7), size=16)
    small = sample(pyramid_of(half), region(40, 30, 45, 0.7), size=16)
    np.testing.assert_allclose(large, small, atol=1e-6)


def test_beyond_the_image_is_its_edge_or_black():
    pyramid = pyramid_of(jnp.ones((64, 48, 3)))
    square = region(0, 32, 32, 0)  # its left half lies outside
    np.testing.assert_array_equal(sample(pyramid, square, size=8), 1)
    black = sample(pyramid, square, size=8, black_outside=True)
    np.testing.assert_array_equal(black[:, :4], 0)
    np.testing.assert_array_equal(black[:, 4:], 1)


def test_photos_of_other_formats_share_what_is_compiled():
    traces = []

    @jax.jit
    def counted(pyramid: Pyramid, square: Region):
        traces.append(1)
        return sample_region(pyramid, square, 8)

    for shape in ((300, 400, 3), (351, 233, 3)):
        counted(pyramid_of(jnp.zeros(shape)), region(5, 5, 9, 0))
    assert len(traces) == 1
