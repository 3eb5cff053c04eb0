"""Both factors against SciPy's direct solver, on meshes, in every shape of the elimination."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from digitaltwin.sparse import factor_dissected
from digitaltwin.sparse._dissection import factor_dense


@jax.jit
def solve(factor, right):
    return factor.solve(right)


def grid_laplacian(rows, columns):
    """A five-point Laplacian plus a little identity, and its points."""
    path = [sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (rows, columns)]
    matrix = sp.kron(path[0], sp.eye_array(columns)) + sp.kron(sp.eye_array(rows), path[1])
    points = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    return sp.csr_array(matrix + 0.01 * sp.eye_array(rows * columns)), points.astype(float)


@pytest.mark.parametrize(("leaf", "last"), [(4, 4), (20, 50), (20, 10_000), (10_000, 10)])
def test_solves_like_superlu(leaf, last):
    matrix, points = grid_laplacian(23, 31)
    right = np.random.default_rng(0).normal(size=(len(points), 3))
    expected = spl.splu(matrix.tocsc()).solve(right)
    with jax.enable_x64(True):
        factor = factor_dissected(matrix, points, leaf=leaf, last=last, dtype=jnp.float64)
        np.testing.assert_allclose(solve(factor, jnp.asarray(right)), expected, rtol=1e-10, atol=1e-10)
    single = factor_dissected(matrix, points, leaf=leaf, last=last)
    np.testing.assert_allclose(solve(single, jnp.asarray(right, jnp.float32)), expected, atol=2e-4)


def test_the_dense_inverse_solves_alike():
    matrix, points = grid_laplacian(11, 13)
    right = jnp.asarray(np.random.default_rng(1).normal(size=(len(points), 2)), jnp.float32)
    dense, dissected = factor_dense(matrix), factor_dissected(matrix, points, leaf=10, last=10)
    np.testing.assert_allclose(solve(dense, right), solve(dissected, right), atol=2e-5)


def test_unconnected_parts_and_isolated_unknowns():
    matrix, points = grid_laplacian(9, 9)
    matrix = sp.csr_array(sp.block_diag([matrix, 2.0 * sp.eye_array(7), matrix]))
    points = np.concatenate([points, np.zeros((7, 3)), points + 20.0])
    right = np.random.default_rng(2).normal(size=(len(points), 1))
    factor = factor_dissected(matrix, points, leaf=6, last=6)
    expected = spl.splu(matrix.tocsc()).solve(right)
    np.testing.assert_allclose(solve(factor, jnp.asarray(right, jnp.float32)), expected, atol=1e-4)


def test_dissection_multiplies_less_and_grows_nearly_linearly():
    counts = {n: factor_dissected(*grid_laplacian(n, n)).multiply_adds() for n in (40, 80)}
    assert counts[40] < 40**4 / 4
    assert counts[80] < 6 * counts[40]  # the dense inverse would take 16 times


def test_gradients_and_batches_pass_through():
    matrix, points = grid_laplacian(8, 9)
    factor = factor_dissected(matrix, points, leaf=10, last=10)
    right = jnp.asarray(np.random.default_rng(3).normal(size=(4, len(points), 2)), jnp.float32)
    weights = right[::-1]
    one_by_one = jnp.stack([solve(factor, r) for r in right])
    batch = jax.vmap(solve, in_axes=(None, 0))(factor, right)
    np.testing.assert_allclose(batch, one_by_one, atol=1e-5)
    # A is symmetric: the gradient of <w, A^-1 b> by b is A^-1 w.
    gradient = jax.grad(lambda r: jnp.sum(weights[0] * solve(factor, r)))(right[0])
    np.testing.assert_allclose(gradient, solve(factor, weights[0]), atol=1e-5)
