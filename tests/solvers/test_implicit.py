"""Gradients of a solution by the data: through the steps, and at the minimum, against finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from digitaltwin.solvers import SolverStatus, Tolerance, at_minimum, conjugate_gradient, least_squares, run

TIMES = np.linspace(0.0, 3.0, 20)
TIGHT = Tolerance(energy=1e-17, point=1e-11)
ITERATIVE = partial(conjugate_gradient, iterations=30, tolerance=1e-13)


def problem(p):
    """A curve and a prior: everything p holds is differentiated."""

    def residual(x):
        line = x["line"][0, 0] + x["line"][0, 1] * TIMES
        data = x["height"] * jnp.exp(-x["rate"] * TIMES) + line - p["data"]
        return {"data": p["weight"] * data, "prior": x["line"] - p["line"]}

    start = {"height": jnp.array(2.0), "rate": jnp.array(1.0), "line": jnp.zeros((1, 2))}
    return least_squares(residual), start


def through_steps(p):
    functions, start = problem(p)
    return run(*functions, start, iterations=5)


def implicit(p, **options):
    functions, start = problem(p)
    found = run(*functions, start, iterations=60, tolerance=TIGHT)
    return found._replace(point=at_minimum(functions[0], found.point, **options))


def summary(point):
    return point["height"] ** 2 + point["rate"] + jnp.sum(jnp.sin(point["line"]))


def setting():
    rng = np.random.default_rng(0)
    data = 3.0 * np.exp(-1.7 * TIMES) + 0.5 + 0.05 * rng.normal(size=20)
    data[[4, 15]] += 0.5
    p = {"weight": jnp.array(0.7), "data": jnp.asarray(data), "line": jnp.array([[0.3, 0.1]])}
    direction = {"weight": jnp.array(0.3), "data": jnp.asarray(rng.normal(size=20)), "line": jnp.array([[0.5, -1.0]])}
    return p, direction


def slopes(solve):
    """Along one direction of p: by central differences, and by reverse mode."""
    p, direction = setting()
    value, width = jax.jit(lambda p: summary(solve(p).point)), 1e-4

    def at(share):
        return value(jax.tree.map(lambda a, b: a + share * width * b, p, direction))

    differences = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * width)  # error: width^4
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), jax.jit(jax.grad(value))(p), direction)
    return float(differences), float(sum(jax.tree.leaves(products)))


def test_gradients_through_the_steps_are_finite_differences():
    with jax.enable_x64(True):
        differences, reverse = slopes(through_steps)
    np.testing.assert_allclose(reverse, differences, rtol=1e-7)


def test_gradients_at_the_minimum_are_finite_differences():
    with jax.enable_x64(True):
        differences, reverse = slopes(implicit)
        p, direction = setting()
        value = jax.jit(lambda p: summary(implicit(p).point))
        forward = jax.jit(lambda p: jax.jvp(value, (p,), (direction,))[1])(p)
    np.testing.assert_allclose([reverse, float(forward)], differences, rtol=1e-7)


def test_the_hessian_may_be_known_by_its_products_only():
    with jax.enable_x64(True):
        p, _ = setting()
        dense, iterative = (
            jax.jit(jax.grad(lambda p, options=options: summary(implicit(p, **options).point)))(p)
            for options in ({}, {"solve": ITERATIVE})
        )
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-9), dense, iterative)


def test_too_few_steps_show_in_one_gradient_only():
    """Why there are two: through five steps the derivative is that of five steps, not of the minimum."""
    with jax.enable_x64(True):
        p, _ = setting()

        @partial(jax.grad, has_aux=True)
        def at_the_minimum(p):
            found = implicit(p)
            return summary(found.point), (found.iterations, found.status)

        minimum, (iterations, status) = jax.jit(at_the_minimum)(p)
        steps = jax.jit(jax.grad(lambda p: summary(through_steps(p).point)))(p)
    assert status == SolverStatus.CONVERGED
    assert iterations > 5
    error = np.abs(np.asarray(steps["data"]) - np.asarray(minimum["data"])).max() / np.abs(minimum["data"]).max()
    assert 1e-9 < error < 0.05


def test_the_exact_hessian_is_needed_where_residuals_are_left():
    """r = (x^2 - p, x): x^2 = p - 1/2, so dx/dp = 1 / 2x. J'J alone would give 2x / (4x^2 + 1)."""
    with jax.enable_x64(True):

        def solve(p):
            functions = least_squares(lambda x: jnp.array([x**2 - p, x]))
            return at_minimum(functions[0], run(*functions, jnp.array(1.0), iterations=50, tolerance=TIGHT).point)

        for p in (1.0, 3.0):
            found, slope = jax.jit(jax.value_and_grad(solve))(p)
            np.testing.assert_allclose(found**2, p - 0.5, rtol=1e-6)
            np.testing.assert_allclose(slope, 0.5 / found, rtol=1e-5)


def test_gradients_of_a_batch_stay_in_their_lanes():
    p, _ = setting()
    data = jnp.stack([p["data"], p["data"] * 1.1, p["data"].at[3].set(jnp.nan)]).astype(jnp.float32)
    others = {"weight": jnp.float32(0.7), "line": jnp.float32(p["line"])}

    def value(lane):
        return summary(implicit({"data": lane, **others}).point)

    batch = jax.jit(jax.vmap(jax.grad(value)))
    gradients, clean = batch(data), batch(data.at[2].set(data[0]))
    assert np.array_equal(gradients[:2], clean[:2])
    assert np.isfinite(gradients[:2]).all()
    assert np.isnan(gradients[2]).any(), "no minimum, no derivative"


def test_a_flat_direction_has_no_derivative():
    gradient = jax.grad(lambda p: at_minimum(lambda x: (x[0] + x[1] - p) ** 2, jnp.array([1.0, 1.0]))[0])(2.0)
    assert not np.isfinite(gradient)


def test_unknowns_on_a_circle_by_increments():
    """The angle nearest to a direction: the unit vector's own Hessian is singular, the increment's is not."""

    def direction(target):
        unit = jax.lax.stop_gradient(target / jnp.linalg.norm(target))

        def moved(turn):
            cosine, sine = jnp.cos(turn), jnp.sin(turn)
            return jnp.stack([cosine * unit[0] - sine * unit[1], sine * unit[0] + cosine * unit[1]])

        return moved(at_minimum(lambda turn: jnp.sum((moved(turn) - target) ** 2), jnp.zeros(())))

    target = jnp.array([3.0, 4.0])
    expected = jax.jacobian(lambda y: y / jnp.linalg.norm(y))(target)
    np.testing.assert_allclose(jax.jit(jax.jacobian(direction))(target), expected, atol=1e-6)
