import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from digitaltwin.sparse._blocked import block_matrix, patches_of


@pytest.mark.parametrize(("rows", "columns", "patch", "run"), [(50, 50, 7, 1), (30, 90, 30, 3), (12, 6, 1, 2)])
def test_the_product_is_the_sparse_matrix_own(rows, columns, patch, run):
    rng = np.random.default_rng(rows)
    matrix = sp.csr_array(sp.random_array((rows, columns), density=0.1, rng=rng))
    blocked = block_matrix(matrix, np.array_split(rng.permutation(rows), -(-rows // patch)), run=run)
    values = rng.normal(size=(columns, 4))
    np.testing.assert_allclose(blocked.apply(jnp.asarray(values, jnp.float32)), matrix @ values, atol=1e-5)


@pytest.mark.parametrize("patches", [[[0, 1], [1, 2]], [[0, 1]], [[0, 1, 2, 3]]])
def test_rows_have_one_patch_each(patches):
    with pytest.raises(ValueError, match="exactly one"):
        block_matrix(sp.csr_array(sp.eye_array(3)), [np.array(patch) for patch in patches])


def test_patches_are_compact_and_nearly_equal():
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(25.0), [0.0]), axis=-1).reshape(-1, 3)
    patches = patches_of(grid, size=40)
    assert np.array_equal(np.sort(np.concatenate(patches)), np.arange(1000))
    assert {len(patch) for patch in patches} == {31, 32}
    assert max(np.ptp(grid[patch], axis=0).max() for patch in patches) < 12


def test_one_patch_holds_few_points():
    assert [patch.tolist() for patch in patches_of(np.zeros((3, 3)))] == [[0, 1, 2]]
