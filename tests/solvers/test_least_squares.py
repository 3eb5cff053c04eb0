"""Steps from residuals: against SciPy and JAXopt on problems that others use, on pytrees, and where J is singular."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.lax import Precision

from digitaltwin.solvers import Damping, SolverStatus, Tolerance, least_squares, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it says that nobody maintains it
    import jaxopt

TIMES = np.linspace(0.0, 3.0, 30)


def rosenbrock(x):
    return jnp.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


def powell(x):
    """Singular at its minimum, 0: Gauss-Newton halves the error in each step."""
    root = jnp.array([1.0, 5.0**0.5, 1.0, 10.0**0.5])
    return root * jnp.array([x[0] + 10.0 * x[1], x[2] - x[3], (x[1] - 2.0 * x[2]) ** 2, (x[0] - x[3]) ** 2])


def beale(x):
    powers = jnp.array([x[1], x[1] ** 2, x[1] ** 3])
    return jnp.array([1.5, 2.25, 2.625]) - x[0] * (1.0 - powers)


def bells(x):
    """Two of them and a slope, with noise: a minimum at which residuals are left."""
    noise = np.random.default_rng(7).normal(size=30)
    data = 2.0 * np.exp(-((TIMES - 1.0) ** 2)) + np.exp(-3.0 * (TIMES - 2.2) ** 2) + 0.1 * TIMES + 0.03 * noise
    first, second = x[0] * jnp.exp(-((TIMES - x[1]) ** 2)), x[2] * jnp.exp(-3.0 * (TIMES - x[3]) ** 2)
    return first + second + x[4] * TIMES - data


PROBLEMS = [
    (rosenbrock, [-1.2, 1.0], 1e-9),
    (powell, [3.0, -1.0, 0.0, 1.0], 1e-3),
    (beale, [1.0, 0.8], 1e-8),
    (bells, [1.0, 0.8, 0.5, 2.0, 0.0], 1e-6),
]


def to_the_end(residual, start):
    """Our result and SciPy's, to the last digits."""
    problem, tight = least_squares(residual), Tolerance(energy=1e-14, point=1e-10)
    found = jax.jit(lambda x: run(*problem, x, iterations=100, tolerance=tight))(jnp.array(start))
    exact = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "jac": jax.jit(jax.jacfwd(residual))}
    return jax.tree.map(np.asarray, found), scipy.optimize.least_squares(jax.jit(residual), start, **exact)


@pytest.mark.parametrize(("residual", "start", "close"), PROBLEMS)
def test_minima_are_scipys_and_jaxopts(residual, start, close):
    with jax.enable_x64(True):
        found, expected = to_the_end(residual, start)
        peer = jaxopt.LevenbergMarquardt(residual, maxiter=200, tol=1e-12).run(jnp.array(start)).params
    np.testing.assert_allclose(found.point, expected.x, atol=close)
    np.testing.assert_allclose(found.point, peer, atol=close)
    assert found.status == SolverStatus.CONVERGED
    assert found.energies[-1] <= 2.0 * expected.cost * (1.0 + 1e-12) + 1e-12
    assert found.energies[found.iterations] == found.energies[-1]


def procrustes(points, moved):
    """A map that is nearly a rotation: a scalar, a vector and a matrix; residuals in a dict of tuples."""

    def residual(x):
        image = x["scale"] * jnp.matmul(points, x["matrix"].T, precision=Precision.HIGHEST) + x["shift"][None]
        square = jnp.matmul(x["matrix"].T, x["matrix"], precision=Precision.HIGHEST)
        return {"data": (image - moved,), "prior": (10.0 * (square - jnp.eye(3)), 0.1 * (x["scale"] - 1.0))}

    return residual, {"scale": jnp.ones(()), "matrix": jnp.eye(3), "shift": jnp.zeros(3)}


def test_unknowns_and_residuals_are_any_pytree():
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        points = rng.normal(size=(12, 3))
        turn = scipy.linalg.expm(np.cross(np.eye(3), [0.3, -0.2, 0.4]))
        moved = 1.7 * points @ turn.T + rng.normal(size=3) + 0.01 * rng.normal(size=(12, 3))
        residual, start = procrustes(jnp.asarray(points), jnp.asarray(moved))
        flat, restore = jax.flatten_util.ravel_pytree(start)

        def vector(x):
            return jax.flatten_util.ravel_pytree(residual(restore(x)))[0]

        expected = scipy.optimize.least_squares(jax.jit(vector), flat, jac=jax.jit(jax.jacfwd(vector)), xtol=1e-14)
        found = run(*least_squares(residual), start, iterations=40)
        np.testing.assert_allclose(2.0 * expected.cost, found.energies[-1], rtol=1e-9)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found.point)[0], expected.x, atol=1e-5)
        assert jax.tree.structure(found.point) == jax.tree.structure(start)


def test_steps_are_the_normal_equations_own():
    """Damped, with zero rows and an unknown that nothing depends on."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(8)
        design, data, x, mu = rng.normal(size=(12, 5)), rng.normal(size=12), rng.normal(size=5), 0.3
        design[:, 2], design[7] = 0.0, 0.0
        _, propose = least_squares(lambda x: jnp.matmul(design, x, precision=Precision.HIGHEST) - data)
        step = np.asarray(propose(jnp.asarray(x), jnp.array(mu))) - x
        normal = design.T @ design
        expected = -np.linalg.pinv(normal + mu * np.diag(np.diag(normal))) @ design.T @ (design @ x - data)
    np.testing.assert_allclose(step, expected, atol=1e-9)
    assert step[2] == 0.0


def test_rank_deficient_problems_are_damped_to_a_minimum():
    def residual(x):  # only the sum of two unknowns is seen
        return jnp.array([jnp.sin(x[0] + x[1]) - 0.3, x[2] ** 2 - 2.0, 0.1 * (x[2] - x[0] - x[1])])

    for damping in (Damping(), Damping(least=1e-5)):
        found = run(*least_squares(residual), jnp.array([0.2, 0.4, 1.0]), iterations=30, damping=damping)
        expected = scipy.optimize.least_squares(jax.jit(residual), [0.2, 0.4, 1.0], x_scale=0.1, diff_step=1e-3)
        np.testing.assert_allclose(found.energies[-1], 2.0 * expected.cost, rtol=1e-4)
        assert np.abs(found.point).max() < 10.0, "nothing is gained along the flat direction"
