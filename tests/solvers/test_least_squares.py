"""Steps from residuals: against SciPy and JAXopt on problems that others use, on pytrees, and in float32's limits."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.lax import Precision

from digitaltwin.solvers import (
    CONVERGED,
    Damping,
    Tolerance,
    dense_proposal,
    geman_mcclure,
    huber,
    least_squares,
    matrix_free_proposal,
    normal_diagonal,
    normal_step,
    orthogonal_step,
    reweighted,
    run,
)

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
PROPOSALS = {
    "cholesky": dense_proposal,
    "qr": partial(dense_proposal, solve=orthogonal_step),
    "products": partial(matrix_free_proposal, iterations=6),
    "products to a tolerance": partial(matrix_free_proposal, iterations=20, tolerance=1e-8),
}


WITH = pytest.mark.parametrize("proposal", [dense_proposal, PROPOSALS["products"]], ids=["dense", "products"])


def to_the_end(residual, start, proposal):
    """Our result and SciPy's, to the last digits."""
    problem, tight = least_squares(residual, proposal=proposal), Tolerance(energy=1e-14, point=1e-10)
    found = jax.jit(lambda x: run(*problem, x, iterations=100, tolerance=tight))(jnp.array(start))
    exact = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "jac": jax.jit(jax.jacfwd(residual))}
    return jax.tree.map(np.asarray, found), scipy.optimize.least_squares(jax.jit(residual), start, **exact)


@pytest.mark.parametrize(("residual", "start", "close"), PROBLEMS)
def test_minima_are_scipys_and_jaxopts(residual, start, close):
    with jax.enable_x64(True):
        found, expected = to_the_end(residual, start, dense_proposal)
        peer = jaxopt.LevenbergMarquardt(residual, maxiter=200, tol=1e-12).run(jnp.array(start)).params
    np.testing.assert_allclose(found.point, expected.x, atol=close)
    np.testing.assert_allclose(found.point, peer, atol=close)
    assert found.status == CONVERGED
    assert found.energies[-1] <= 2.0 * expected.cost * (1.0 + 1e-12) + 1e-12
    assert found.energies[found.iterations] == found.energies[-1]


@pytest.mark.parametrize("name", ["qr", "products", "products to a tolerance"])
def test_every_kind_of_step_ends_at_the_minimum(name):
    with jax.enable_x64(True):
        found, expected = to_the_end(bells, PROBLEMS[-1][1], PROPOSALS[name])
    np.testing.assert_allclose(found.point, expected.x, atol=1e-6)
    assert found.status == CONVERGED


def procrustes(points, moved):
    """A map that is nearly a rotation: a scalar, a vector and a matrix; residuals in a dict of tuples."""

    def residual(x):
        image = x["scale"] * jnp.matmul(points, x["matrix"].T, precision=Precision.HIGHEST) + x["shift"][None]
        square = jnp.matmul(x["matrix"].T, x["matrix"], precision=Precision.HIGHEST)
        return {"data": (image - moved,), "prior": (10.0 * (square - jnp.eye(3)), 0.1 * (x["scale"] - 1.0))}

    return residual, {"scale": jnp.ones(()), "matrix": jnp.eye(3), "shift": jnp.zeros(3)}


@WITH
def test_unknowns_and_residuals_are_any_pytree(proposal):
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
        # The matrix's scale trades against x's: a curved, narrow valley that short solves walk along.
        proposal = partial(proposal, iterations=30) if proposal is PROPOSALS["products"] else proposal
        found = run(*least_squares(residual, proposal=proposal), start, iterations=40)
        np.testing.assert_allclose(2.0 * expected.cost, found.energies[-1], rtol=1e-9)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found.point)[0], expected.x, atol=1e-5)
        assert jax.tree.structure(found.point) == jax.tree.structure(start)


def decay(x):
    return x[0] * jnp.exp(-x[1] * TIMES) + x[2]


def spoilt():
    data = 3.0 * np.exp(-1.7 * TIMES) + 0.5 + 0.02 * np.random.default_rng(5).normal(size=30)
    data[[3, 11, 19, 27]] += [2.0, -3.0, 5.0, 4.0]
    return data


@WITH
def test_huber_agrees_with_scipys(proposal):
    data, start, scale = spoilt(), [1.0, 1.0, 0.0], 0.1
    with jax.enable_x64(True):
        expected = scipy.optimize.least_squares(
            lambda x: np.asarray(decay(x)) - data,
            start,
            loss="huber",
            f_scale=scale,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-12,
        )
        problem = least_squares(lambda x: decay(x) - data, loss=huber(scale), proposal=proposal)
        found = run(*problem, jnp.array(start), iterations=60)
    np.testing.assert_allclose(found.point, expected.x, atol=1e-6)
    np.testing.assert_allclose(found.energies[-1], 2.0 * expected.cost, rtol=1e-10)
    assert (np.diff(found.energies) <= 1e-13).all(), "the robust energy is what steps are accepted by"


def test_geman_mcclure_forgets_outliers():
    """SciPy's loss as a pair (rho, rho', rho''), in units of the scale, is an independent way to the same minimum."""
    data, scale = spoilt(), 0.2
    kept = np.setdiff1d(np.arange(30), [3, 11, 19, 27])
    with jax.enable_x64(True):
        plain = run(*least_squares(lambda x: decay(x) - data), jnp.array([1.0, 1.0, 0.0]), iterations=30).point
        cautious = run(*least_squares(lambda x: decay(x) - data, loss=huber(0.1)), plain, iterations=60).point
        problem = least_squares(lambda x: decay(x) - data, loss=geman_mcclure(scale))
        found = run(*problem, cautious, iterations=40).point
        clean = run(*least_squares(lambda x: (decay(x) - data)[kept]), cautious, iterations=40).point
        expected = scipy.optimize.least_squares(
            lambda x: np.asarray(decay(x)) - data,
            cautious,
            loss=lambda s: np.stack([s / (1 + s), (1 + s) ** -2.0, -2.0 * (1 + s) ** -3.0]),
            f_scale=scale,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-12,
        ).x
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, clean, atol=0.03)
    assert np.abs(plain - clean).max() > 0.2, "without a loss the outliers have their way"


@pytest.mark.parametrize(
    ("proposal", "close"), [(dense_proposal, 1e-9), (partial(matrix_free_proposal, iterations=9), 1e-9)]
)
def test_steps_are_the_normal_equations_own(proposal, close):
    """Damped, weighted, with zero rows and an unknown that nothing depends on."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(8)
        design, data, x, mu = rng.normal(size=(12, 5)), rng.normal(size=12), rng.normal(size=5), 0.3
        design[:, 2], design[7] = 0.0, 0.0

        def residual(x):
            return jnp.matmul(design, x, precision=Precision.HIGHEST) - data

        options = {} if proposal is dense_proposal else {"diagonal": normal_diagonal(residual, loss=geman_mcclure(1.0))}
        step = np.asarray(proposal(residual, loss=geman_mcclure(1.0), **options)(jnp.asarray(x), jnp.array(mu))) - x
        values = design @ x - data
        weights = (1.0 + values**2) ** -2.0
        normal = design.T @ (weights[:, None] * design)
        expected = -np.linalg.pinv(normal + mu * np.diag(np.diag(normal))) @ design.T @ (weights * values)
    np.testing.assert_allclose(step, expected, atol=1e-9)
    assert step[2] == 0.0


@pytest.mark.parametrize("mu", [0.0, 0.01, 100.0])
def test_qr_and_cholesky_make_one_step(mu):
    with jax.enable_x64(True):
        jacobian, values = jnp.asarray(np.random.default_rng(9).normal(size=(9, 4))).at[:, 1].set(0.0), jnp.arange(9.0)
        steps = [solve(jacobian, values, jnp.array(mu)) for solve in (normal_step, orthogonal_step)]
    np.testing.assert_allclose(*steps, atol=1e-12)


def test_qr_keeps_float32_where_cholesky_squares_the_condition():
    rng = np.random.default_rng(10)
    left, right = np.linalg.qr(rng.normal(size=(60, 12)))[0], np.linalg.qr(rng.normal(size=(12, 12)))[0]
    jacobian = jnp.float32((left * np.geomspace(1.0, 1e-4, 12)) @ right.T)
    data = jnp.float32(np.float64(jacobian) @ rng.normal(size=12))
    rounded, *_ = np.linalg.lstsq(np.float64(jacobian), np.float64(data))
    error = np.linalg.norm(orthogonal_step(jacobian, -data, jnp.zeros(())) - rounded) / np.linalg.norm(rounded)
    assert error < 1e-3
    assert not np.allclose(normal_step(jacobian, -data, jnp.zeros(())), rounded, rtol=0.1)


@pytest.mark.parametrize("solve", [normal_step, orthogonal_step])
def test_rank_deficient_problems_are_damped_to_a_minimum(solve):
    def residual(x):  # only the sum of two unknowns is seen
        return jnp.array([jnp.sin(x[0] + x[1]) - 0.3, x[2] ** 2 - 2.0, 0.1 * (x[2] - x[0] - x[1])])

    problem = least_squares(residual, proposal=partial(dense_proposal, solve=solve))
    for damping in (Damping(), Damping(least=1e-5)):
        found = run(*problem, jnp.array([0.2, 0.4, 1.0]), iterations=30, damping=damping)
        expected = scipy.optimize.least_squares(jax.jit(residual), [0.2, 0.4, 1.0], x_scale=0.1, diff_step=1e-3)
        np.testing.assert_allclose(found.energies[-1], 2.0 * expected.cost, rtol=1e-4)
        assert np.abs(found.point).max() < 10.0, "nothing is gained along the flat direction"


def chain(count):
    """Many unknowns, each seen with its neighbour only, in scales that differ a hundredfold."""
    scales = jnp.asarray(np.geomspace(1.0, 100.0, count), jnp.float32)

    def residual(x):
        y = scales * x
        return {"each": jnp.tanh(y) - 0.4, "pairs": 3.0 * (y[1:] - y[:-1]) ** 2}

    return residual, jnp.ones(count) / scales


def test_jacobi_saves_products_where_scales_differ():
    residual, start = chain(60)
    plain = matrix_free_proposal(residual, iterations=8)
    scaled = matrix_free_proposal(residual, iterations=8, diagonal=normal_diagonal(residual))
    exact = jax.jit(dense_proposal(residual))(start, jnp.zeros(()))
    error = [np.abs((jax.jit(p)(start, jnp.zeros(())) - exact) / start).max() for p in (plain, scaled)]
    assert error[1] < 0.01
    assert error[0] > 10.0 * error[1]


def test_a_users_preconditioner_that_is_the_inverse_takes_one_iteration():
    residual, start = chain(20)
    jacobian = jax.jit(jax.jacfwd(lambda x: jnp.concatenate(jax.tree.leaves(residual(x)))))(start)
    normal = np.asarray(jacobian.T, float) @ np.asarray(jacobian, float)

    def precondition(_, mu):
        inverse = jnp.linalg.inv(jnp.float32(normal) * (1.0 + mu * jnp.eye(20)))
        return lambda part: jnp.matmul(inverse, part, precision=Precision.HIGHEST)

    diagonal = normal_diagonal(residual)
    one = matrix_free_proposal(residual, iterations=1, diagonal=diagonal, precondition=precondition)
    one, dense = jax.jit(one), jax.jit(dense_proposal(residual))
    for mu in (jnp.array(0.0), jnp.array(0.5)):
        np.testing.assert_allclose(one(start, mu) / start, dense(start, mu) / start, atol=1e-4)


def test_the_diagonal_from_a_colouring_is_exact():
    residual, start = chain(30)
    probes = jnp.asarray(np.arange(30)[None] % 2 == np.arange(2)[:, None], jnp.float32)
    loss = {"each": huber(0.1), "pairs": None}
    # Neighbours share a residual, those next but one none.
    coloured, full = (jax.jit(normal_diagonal(residual, loss=loss, probes=z))(start) for z in (probes, None))
    np.testing.assert_allclose(coloured, full, rtol=1e-5)
    weighted = reweighted(residual, start, loss=loss)
    jacobian = jax.jit(jax.jacfwd(lambda x: jnp.concatenate(jax.tree.leaves(weighted(x)))))(start)
    np.testing.assert_allclose(full, np.sum(np.asarray(jacobian) ** 2, axis=0), rtol=1e-5)
