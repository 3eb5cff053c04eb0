"""Stopping, status, damping and batches of the iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.solvers import Damping, SolverStatus, Tolerance, init, least_squares, run, step

TIMES = np.linspace(0.0, 3.0, 30, dtype=np.float32)
START = {"height": jnp.ones(()), "rest": jnp.array([1.0, 0.0])}


def problem(data):
    def residual(x):
        return x["height"] * jnp.exp(-x["rest"][0] * TIMES) + x["rest"][1] - data

    return least_squares(residual)


def noisy(seed):
    return np.float32(3.0 * np.exp(-1.7 * TIMES) + 0.5 + 0.05 * np.random.default_rng(seed).normal(size=30))


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.mark.parametrize("tolerance", [None, Tolerance()])
def test_a_bad_lane_leaves_the_others_bit_identical(tolerance):
    @jax.jit
    @jax.vmap
    def batch(data):
        return run(*problem(data), START, iterations=25, tolerance=tolerance)

    good = jnp.stack([noisy(seed) for seed in range(4)])
    clean, found = batch(good), batch(good.at[1, 5].set(jnp.nan))
    others = np.array([0, 2, 3])
    assert identical(*(jax.tree.map(lambda part: part[others], result) for result in (clean, found)))
    assert (clean.status == (SolverStatus.STEPS_DONE if tolerance is None else SolverStatus.CONVERGED)).all()
    assert found.status[1] == SolverStatus.NON_FINITE
    assert identical(jax.tree.map(lambda part: part[1], found.point), START), "the start is returned"


def test_a_finished_lane_is_frozen_while_others_go_on():
    batch = jax.jit(jax.vmap(lambda data, start: run(*problem(data), start, iterations=40, tolerance=Tolerance())))
    data = jnp.stack([noisy(0), noisy(1)])
    starts = jax.tree.map(lambda part: jnp.stack([part, part]), START)
    settled = batch(data, starts)
    # Lane 0 starts where it ended; lane 1 at the usual place, or there as well.
    mixed = jax.tree.map(lambda end, start: jnp.stack([end[0], start[1]]), settled.point, starts)
    slow, fast = batch(data, mixed), batch(data, settled.point)
    assert slow.iterations[0] < slow.iterations[1]
    assert fast.iterations.max() < slow.iterations[1]
    assert identical(*(jax.tree.map(lambda part: part[0], result) for result in (slow, fast)))


def test_tolerance_stops_early_at_the_same_steps():
    all_steps = run(*problem(noisy(2)), START, iterations=30)
    found = run(*problem(noisy(2)), START, iterations=30, tolerance=Tolerance())
    made = int(found.iterations)
    assert 3 <= made < 15
    np.testing.assert_allclose(found.energies[: made + 1], all_steps.energies[: made + 1], rtol=1e-5)
    assert (found.energies[made:] == found.energies[-1]).all()
    assert found.energies.shape == (31,)
    assert (int(all_steps.iterations), int(all_steps.status)) == (30, SolverStatus.STEPS_DONE)


def test_steps_used_up_are_told_from_convergence():
    found = run(*problem(noisy(2)), START, iterations=2, tolerance=Tolerance())
    assert (int(found.iterations), int(found.status)) == (2, SolverStatus.STEPS_DONE)
    assert run(*problem(noisy(2)), START, iterations=0, tolerance=Tolerance()).energies.shape == (1,)


@pytest.mark.parametrize("tolerance", [None, Tolerance()])
def test_where_no_damping_helps_the_run_stalls(tolerance):
    found = run(lambda x: x**2, lambda x, mu: x + 1.0, jnp.array(1.0), iterations=30, tolerance=tolerance)
    assert (float(found.point), int(found.status)) == (1.0, SolverStatus.STALLED)


@pytest.mark.parametrize(("start", "iterations"), [(0.0, 30), (1e8, 1)])
def test_steps_in_a_wrong_direction_do_not_converge(start, iterations):
    """In float32 a step of 1e-8 is none, and the energy stays as it is: neither is taken for convergence."""
    found = run(
        lambda x: x**2,
        lambda x, mu: x + 1.0 / (1.0 + mu),
        jnp.array(1.0),
        iterations=iterations,
        tolerance=Tolerance(),
        damping=Damping(start=start),
    )
    assert found.status != SolverStatus.CONVERGED
    np.testing.assert_allclose(found.point, 1.0, atol=1e-4)


def test_a_nan_proposal_stalls_and_keeps_its_point():
    found = run(lambda x: x**2, lambda x, mu: x * jnp.nan, jnp.array(1.0), iterations=30, tolerance=Tolerance())
    assert (float(found.point), int(found.status)) == (1.0, SolverStatus.STALLED)
    assert int(found.iterations) < 15


def test_a_start_of_infinite_energy_may_recover():
    def energy(x):
        return jnp.where(x > 0.0, (x - 2.0) ** 2, jnp.inf)

    found = run(energy, lambda x, mu: x + 1.5, jnp.array(-1.0), iterations=1)
    assert (float(found.point), int(found.status)) == (0.5, SolverStatus.STEPS_DONE)
    until = run(energy, lambda x, mu: x + 1.5, jnp.array(-1.0), iterations=1, tolerance=Tolerance())
    assert int(until.status) == SolverStatus.STEPS_DONE, "a fall from infinity is no small one"


def test_damped_steps_are_short_and_settle_nothing():
    """At mu = 100 a step is a hundredth of what is left: a naive test would call that converged."""
    found = run(
        lambda x: x**2,
        lambda x, mu: x - x / (1.0 + mu),
        jnp.array(5.0),
        iterations=200,
        tolerance=Tolerance(energy=0.05, point=0.05),
        damping=Damping(start=100.0, decay=0.9),
    )
    assert found.status == SolverStatus.CONVERGED
    assert found.iterations > 20
    assert abs(float(found.point)) < 0.05


def test_without_damping_every_finite_step_is_taken():
    problem = least_squares(lambda x: jnp.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]]))
    found = run(*problem, jnp.array([-1.2, 1.0]), iterations=10, tolerance=Tolerance(), damping=None)
    assert found.energies[1] > 10.0 * found.energies[0], "Rosenbrock's: up the wall, and down to the minimum"
    assert found.status == SolverStatus.CONVERGED
    np.testing.assert_allclose(found.point, 1.0, atol=1e-5)


def test_damping_grows_eases_and_stays_within_its_bounds():
    rule = Damping(start=1.0, least=1e-3, most=50.0)
    energy = jnp.square
    assert init(energy, jnp.array(1.0)).damping == 0.0
    state, seen = init(energy, jnp.array(1.0), damping=rule), []
    for _ in range(3):
        state = step(energy, lambda x, mu: x + 1.0, state, damping=rule)
        seen.append(float(state.damping))
    for _ in range(6):
        state = step(energy, lambda x, mu: 0.5 * x, state, damping=rule)
        seen.append(float(state.damping))
    np.testing.assert_allclose(seen, [10.0, 50.0, 50.0, 5.0, 0.5, 0.05, 5e-3, 1e-3, 1e-3], rtol=1e-6)


@pytest.mark.parametrize("tolerance", [None, Tolerance()])
def test_many_calls_compile_once(tolerance):
    traces = []

    @jax.jit
    def solve(data, start):
        traces.append(None)
        return run(*problem(data), start, iterations=10, tolerance=tolerance)

    results = [solve(noisy(seed), {**START, "height": jnp.array(1.0 + 0.1 * seed)}) for seed in range(4)]
    assert len(traces) == 1
    assert len({float(result.energies[-1]) for result in results}) == 4
