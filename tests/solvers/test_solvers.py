import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from digitaltwin.solvers import init, least_squares, run, solve_positive_definite, step

TIMES = np.linspace(0.0, 3.0, 30)


def decay(parameters, data):
    """Residuals of ``a exp(-b t) + c``."""
    return parameters[0] * jnp.exp(-parameters[1] * TIMES.astype(np.float32)) + parameters[2] - data


def fit_decay(data, start, iterations=15):
    def residual(x):
        return decay(x, data)

    return run(*least_squares(residual), start, iterations=iterations)


def noisy(seed):
    return 3.0 * np.exp(-1.7 * TIMES) + 0.5 + 0.05 * np.random.default_rng(seed).normal(size=30)


def test_scaling_keeps_float32_accurate_across_units():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 8)) * 10.0 ** np.arange(-4, 4)[None]
    matrix, truth = root.T @ root, rng.normal(size=8) / 10.0 ** np.arange(-4, 4)
    found = solve_positive_definite(jnp.float32(matrix), jnp.float32(matrix @ truth))
    np.testing.assert_allclose(found / truth, 1.0, atol=1e-4)


def test_indefinite_systems_give_nan_for_the_caller_to_reject():
    assert np.isnan(solve_positive_definite(jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.ones(2))).all()


def test_a_linear_problem_takes_one_step():
    rng = np.random.default_rng(1)
    design, data = rng.normal(size=(12, 4)), rng.normal(size=12)

    def residual(x):
        return jnp.float32(design) @ x - jnp.float32(data)

    found, energies, *_ = run(*least_squares(residual), jnp.zeros(4), iterations=1)
    expected, *_ = np.linalg.lstsq(design, data)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert energies.shape == (2,)


def test_minimum_agrees_with_scipy():
    data = noisy(2)
    found, energies, *_ = fit_decay(jnp.float32(data), jnp.array([1.0, 1.0, 0.0]))
    expected = scipy.optimize.least_squares(lambda p: p[0] * np.exp(-p[1] * TIMES) + p[2] - data, [1.0, 1.0, 0.0])
    np.testing.assert_allclose(found, expected.x, atol=1e-4)
    assert float(energies[-1]) < 2.0 * expected.cost * (1 + 1e-5)
    assert (np.diff(energies) <= 1e-5 * energies[1:] + 1e-30).all()


def test_an_overshooting_step_is_rejected_and_damped():
    def residual(x):  # Gauss-Newton on atan diverges from |x| > 1.39
        return jnp.arctan(x)

    energy, propose = least_squares(residual)
    far = jnp.array([3.0])
    assert energy(propose(far, jnp.zeros(()))) > energy(far), "the plain step overshoots here"
    state = step(energy, propose, init(energy, far))
    assert state.point == far
    assert state.damping > 0.0
    found, energies, *_ = run(energy, propose, far, iterations=20)
    assert abs(float(found[0])) < 1e-6
    assert (np.diff(energies) <= 1e-5 * energies[1:] + 1e-30).all()


def test_a_bad_lane_leaves_the_others_bit_identical():
    good = jnp.float32(np.stack([noisy(seed) for seed in range(4)]))
    bad = good.at[1].set(jnp.nan)
    starts = jnp.tile(jnp.array([1.0, 1.0, 0.0]), (4, 1))
    batch = jax.jit(jax.vmap(fit_decay))
    (clean, clean_energies, *_), (found, energies, *_) = batch(good, starts), batch(bad, starts)
    others = np.array([0, 2, 3])
    assert np.array_equal(clean[others], found[others])
    assert np.array_equal(clean_energies[others], energies[others])
    assert np.array_equal(found[1], starts[1]), "where nothing can be computed the start stays"
