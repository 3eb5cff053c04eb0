"""Hyper-parameters that a fitter keeps in its arrays, so that sweeps over them compile one program."""

import dataclasses

import jax
import jax.numpy as jnp

from digitaltwin.fitting import FitConfig, fit, make_fitter
from digitaltwin.head import landmark_points

IN_ARRAYS = ("correction_weight", "correction_length_mm", "expression_deviation", "omega_i", "contour_weight")
"""As experiments.tune sweeps them."""


def test_hyperparameters_in_arrays_are_not_read_by_the_fit_itself(head):
    """Else a sweep over them would move them half."""
    landmarks = 256.0 + landmark_points(head, head.mean)[:, :2]
    scores = jnp.zeros(len(head.expressions))

    def program(fitter):
        return str(jax.make_jaxpr(fit)(fitter, fitter.mean, landmarks, (640, 512), scores=scores))

    default = program(make_fitter(head, FitConfig()))
    config = dataclasses.replace(FitConfig(), **{name: 1.7 * getattr(FitConfig(), name) for name in IN_ARRAYS})
    assert program(make_fitter(head, config)) == default
    other = dataclasses.replace(FitConfig(), omega_r=17.0)
    assert program(make_fitter(head, other)) != default
