import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import Precision

from digitaltwin.solvers import conjugate_gradient


def system(size, seed=0):
    root = np.random.default_rng(seed).normal(size=(2 * size, size))
    return jnp.float32(root.T @ root / size), jnp.float32(np.random.default_rng(seed + 1).normal(size=size))


def operator(matrix):
    return lambda x: jnp.matmul(matrix, x, precision=Precision.HIGHEST)


@pytest.mark.parametrize("options", [{"iterations": 12}, {"iterations": 40}, {"iterations": 40, "tolerance": 1e-6}])
def test_solves_and_then_stands_still(options):
    matrix, right = system(12)
    found = conjugate_gradient(operator(matrix), right, **options)
    np.testing.assert_allclose(found, np.linalg.solve(np.float64(matrix), right), rtol=1e-3, atol=1e-4)
    exact = conjugate_gradient(lambda x: 2.0 * x, right, **options)
    assert np.array_equal(exact, 0.5 * right), "solved in one step, with nothing left to divide by"
    assert np.array_equal(conjugate_gradient(operator(matrix), jnp.zeros(12), **options), np.zeros(12))


def test_singular_systems_are_solved_within_their_range():
    matrix = jnp.diag(jnp.array([2.0, 5.0, 0.0]))
    found = conjugate_gradient(operator(matrix), jnp.array([2.0, 5.0, 0.0]), iterations=10)
    np.testing.assert_allclose(found, [1.0, 1.0, 0.0], atol=1e-6)
    beyond = conjugate_gradient(operator(matrix), jnp.array([0.0, 0.0, 1.0]), iterations=10)
    assert np.array_equal(beyond, np.zeros(3)), "a direction that A does not see is not gone along"


@pytest.mark.parametrize("tolerance", [None, 1e-6])
@pytest.mark.parametrize("where", ["matrix", "right"])
def test_nan_is_seen(tolerance, where):
    matrix, right = system(4)
    matrix, right = (matrix.at[0, 0].set(jnp.nan), right) if where == "matrix" else (matrix, right.at[0].set(jnp.nan))
    assert np.isnan(conjugate_gradient(operator(matrix), right, iterations=9, tolerance=tolerance)).any()


def test_lanes_do_not_wait_for_one_another():
    matrix, right = system(30)
    matrices = jnp.stack([matrix, jnp.eye(30), matrix.at[2, 2].set(jnp.nan)])

    @jax.jit
    @jax.vmap
    def solve(matrix):
        return conjugate_gradient(operator(matrix), right, iterations=60, tolerance=1e-5)

    found = solve(matrices)
    np.testing.assert_allclose(found[1], right, rtol=1e-6)
    assert np.array_equal(found[:2], solve(matrices.at[2].set(jnp.eye(30)))[:2])


@pytest.mark.parametrize("tolerance", [None, 1e-12])
def test_derivatives_by_both_sides(tolerance):
    with jax.enable_x64(True):
        matrix, right = (jnp.float64(part) for part in system(6))

        def total(matrix, right):
            scaled = operator((matrix + matrix.T) / 2.0)
            return jnp.sum(jnp.sin(conjugate_gradient(scaled, right, iterations=12, tolerance=tolerance)))

        def exact(matrix, right):
            return jnp.sum(jnp.sin(jnp.linalg.solve((matrix + matrix.T) / 2.0, right)))

        found, expected = (jax.jit(jax.grad(function, argnums=(0, 1)))(matrix, right) for function in (total, exact))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), found, expected)


def test_derivatives_survive_iterations_with_nothing_left_to_do():
    """In float32 the remainders' squares underflow soon after the third of them."""
    scales = jnp.array([2.0, 3.0, 4.0])
    for iterations in (3, 8, 20):
        slope = jax.grad(
            lambda right, n=iterations: jnp.sum(conjugate_gradient(lambda x: scales * x, right, iterations=n))
        )
        np.testing.assert_allclose(slope(jnp.array([1.0, -2.0, 3.0])), 1.0 / scales, rtol=1e-4)


def test_derivatives_by_one_part_of_several():
    def measure(right, constant):
        solution = conjugate_gradient(
            lambda x: {"a": 2.0 * x["a"], "b": 3.0 * x["b"]},
            {"a": right, "b": constant},
            iterations=9,
            tolerance=1e-6,
        )
        return jnp.sum(solution["a"]) + jnp.sum(solution["b"])

    np.testing.assert_allclose(jax.grad(measure)(jnp.ones(2), jnp.ones(3)), [0.5, 0.5], rtol=1e-5)
