"""Derivatives through the whole fit, once converged, against differences."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.fitting.problem import IMAGE_SIZE, make_photo
from digitaltwin.fitting import FitConfig, fit, make_fitter, mesh_points_of
from digitaltwin.fitting._points import landmark_points_of

CASES = {
    "landmarks, contour fixed": (False, FitConfig(iterations=20, sliding_contour=False)),
    "face mesh, contour sliding": (True, FitConfig(iterations=20)),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_through_a_fit_are_those_of_what_it_finds(head, monkeypatch, name):
    """By the landmarks and by the shape; W_eye, whose foreshortening is EPnP's, held as it is when differentiated."""
    module = importlib.import_module("digitaltwin.fitting._fit")
    monkeypatch.setattr(module, "residual_scale", lambda fitter, points, photo, start: 0.4 * jnp.sqrt(photo.weights))
    monkeypatch.setattr(module, "fit_photo", module.fit_photo.__wrapped__)  # what is compiled has the scale's own code
    mesh, config = CASES[name]
    points = (mesh_points_of if mesh else landmark_points_of)(head)
    photo = make_photo(head, points, 1, known_shape=True)
    with jax.enable_x64(True):
        fitter = make_fitter(head, config, points=points, dtype=np.float64)
        rng = np.random.default_rng(0)
        measured = jnp.asarray(rng.normal(size=head.mean.shape))
        scores, weights = jnp.asarray(photo.scores), jnp.asarray(photo.weights)

        @jax.jit
        def measure(landmarks, shape):
            result = fit(fitter, shape, landmarks, IMAGE_SIZE, scores=scores, weights=weights)
            return jnp.sum(measured * result.vertices) + jnp.sum(result.translation) + 100.0 * result.focal_scale

        at = (jnp.asarray(photo.landmarks), jnp.asarray(photo.shape))
        slopes = jax.jit(jax.grad(measure, (0, 1)))(*at)
        for which, slope in enumerate(slopes):
            direction = jnp.asarray(rng.normal(size=slope.shape))
            ahead, behind = (
                measure(*(part + h * direction if i == which else part for i, part in enumerate(at)))
                for h in (1e-4, -1e-4)
            )
            difference = float(ahead - behind) / 2e-4
            assert float(jnp.sum(slope * direction)) == pytest.approx(difference, rel=1e-6)
            assert abs(difference) > 1.0
