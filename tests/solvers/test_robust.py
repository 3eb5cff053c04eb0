"""What makes a loss usable: its weight is its slope, it is concave in the square, and its model lies above it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.solvers import energy_of, geman_mcclure, huber, reweighted

LOSSES = [huber, geman_mcclure]
SQUARES = np.concatenate([[0.0], np.geomspace(1e-6, 1e6, 40)])


@pytest.mark.parametrize("make", LOSSES)
def test_weights_are_slopes_and_fall(make):
    with jax.enable_x64(True):
        loss = make(0.7)
        squares = jnp.asarray(SQUARES)
        parts = jax.vmap(jax.grad(loss.cost))(squares), loss.weight(squares), loss.cost(squares)
    slopes, weights, costs = map(np.asarray, parts)
    np.testing.assert_allclose(weights, slopes, rtol=1e-9)
    assert weights[0] == 1.0
    assert (np.diff(weights) <= 0.0).all()
    assert (np.diff(costs) >= 0.0).all()


@pytest.mark.parametrize("make", LOSSES)
def test_the_model_touches_the_energy_and_lies_above_it(make):
    """rho(s) <= rho(s_0) + w(s_0) (s - s_0): why a reweighted step lowers the robust energy."""
    with jax.enable_x64(True):
        loss, s = make(2.0), jnp.asarray(SQUARES)
        cost, weight = np.asarray(loss.cost(s)), np.asarray(loss.weight(s))
    model = cost[:, None] + weight[:, None] * (SQUARES[None] - SQUARES[:, None])
    assert (model >= cost[None] - 1e-9 * SQUARES[None]).all()


@pytest.mark.parametrize("make", LOSSES)
def test_gradients_at_a_residual_of_zero_are_finite(make):
    energy = energy_of(lambda x: x, loss=make(1.0))
    x = jnp.array([0.0, 5.0])
    weighted = jax.jacrev(lambda x: reweighted(lambda y: y, x, loss=make(1.0))(x))
    for derivative in (jax.grad(energy), jax.hessian(energy), weighted):
        assert np.isfinite(jax.jit(derivative)(x)).all()


def test_vectors_are_judged_as_one_and_parts_by_their_own_loss():
    points = jnp.array([[0.3, 0.4], [30.0, 40.0]])
    values = {"seen": points, "prior": (jnp.array([30.0]), jnp.array(2.0))}
    losses = {"seen": huber(1.0, axes=1), "prior": None}
    energy = energy_of(lambda x: values, loss=losses)(None)
    np.testing.assert_allclose(energy, 0.25 + 99.0 + 904.0, rtol=1e-6)
    scaled = reweighted(lambda x: values, None, loss=losses)(None)
    np.testing.assert_allclose(scaled["seen"], points * jnp.array([[1.0], [50.0**-0.5]]), rtol=1e-6)
    assert scaled["prior"][0] is values["prior"][0]


@pytest.mark.parametrize("make", LOSSES)
def test_the_reweighted_gradient_is_half_the_energys(make):
    data = jnp.array([0.1, 3.0, -20.0])

    def residual(x):
        return jnp.sin(x) * jnp.arange(1.0, 4.0) - data

    x, loss = jnp.array(0.4), make(1.5)
    scaled = reweighted(residual, x, loss=loss)
    values, slopes = jax.jvp(scaled, (x,), (jnp.ones(()),))
    np.testing.assert_allclose(2.0 * jnp.sum(values * slopes), jax.grad(energy_of(residual, loss=loss))(x), rtol=1e-5)
