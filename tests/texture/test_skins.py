"""Tones of skins: neutral, monotone, one after the other as both at once, and the way skin really changes colour."""

import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.head import load_subjects
from digitaltwin.io.assets import asset_path
from digitaltwin.render._colour import lab_from_linear, linear_from_srgb
from digitaltwin.texture import apply_tone
from digitaltwin.texture._skins import load_skin


@pytest.fixture(scope="module")
def skin():
    return jnp.asarray(load_skin(asset_path("skins/female-asian-young.jpg"), size=64).pixels)


def lab(pixels):
    return np.asarray(lab_from_linear(linear_from_srgb(pixels))).reshape(-1, 3).mean(0)


def test_no_tone_changes_nothing(skin):
    np.testing.assert_allclose(apply_tone(skin, jnp.zeros(2)), skin, atol=2e-6)


def test_tones_add_up(skin):
    first, second = jnp.array([-0.1, 0.05]), jnp.array([-0.05, 0.02])
    np.testing.assert_allclose(apply_tone(apply_tone(skin, first), second), apply_tone(skin, first + second), atol=1e-5)


def test_lightness_lightens_and_takes_the_yellow_out_and_redness_reddens(skin):
    plain = lab(skin)
    darker, redder = lab(apply_tone(skin, jnp.array([-0.2, 0.0]))), lab(apply_tone(skin, jnp.array([0.0, 0.1])))
    assert darker[0] < plain[0] - 3
    assert darker[2] > plain[2] + 3  # melanin is brown: it takes blue before red
    assert redder[1] > plain[1] + 2
    assert abs(redder[0] - plain[0]) < 4


def test_every_subject_has_a_skin_to_tone():
    subjects = load_subjects()
    for number in range(0, len(subjects.age_years), 37):
        name = subjects.skin_names[int(subjects.skin[number])]
        pixels = load_skin(asset_path(f"skins/{name}.jpg"), size=32).pixels
        toned = np.asarray(apply_tone(jnp.asarray(pixels), subjects.tone[number]))
        assert np.isfinite(toned).all()
        assert 0.001 < np.abs(toned - pixels).mean() < 0.15
