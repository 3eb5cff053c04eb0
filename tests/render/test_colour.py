import jax
import jax.numpy as jnp
import numpy as np
from skimage import color

from digitaltwin.render._colour import lab_from_linear, linear_from_srgb, srgb_from_linear


def test_encoding_undoes_decoding():
    srgb = jnp.linspace(0, 1, 300).reshape(-1, 3)
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(srgb)), srgb, atol=2e-6)


def test_lab_agrees_with_skimage():
    srgb = np.random.default_rng(0).uniform(size=(200, 3))
    lab = lab_from_linear(linear_from_srgb(jnp.asarray(srgb, jnp.float32)))
    np.testing.assert_allclose(lab, color.rgb2lab(srgb), atol=0.05)


def test_gradients_are_finite_over_the_whole_range():
    values = jnp.linspace(-0.2, 1.2, 99).reshape(-1, 3)
    for function in (linear_from_srgb, srgb_from_linear, lab_from_linear):
        assert np.all(np.isfinite(jax.grad(lambda x, f=function: jnp.sum(f(x)))(values)))
