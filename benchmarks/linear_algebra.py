"""Linear algebra of several benchmarks: SciPy's sparse factor for peers, and floors beside which to read times.

A floor is what a device's own libraries take for the arithmetic alone.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.scipy.linalg import solve_triangular
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from benchmarks.harness import time_calls


def factorised(matrix: sp.csc_array | sp.csc_matrix | sp.csr_array) -> spl.SuperLU:
    """Factor a symmetric positive definite matrix by sparse LU, ordered to stay sparse, without pivoting."""
    options = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
    return spl.splu(sp.csc_matrix(matrix), permc_spec="MMD_AT_PLUS_A", options=options)


def multiply_adds_per_s(runs: int) -> float:
    """Measure the multiply-adds a second of a large float32 matrix product in JAX."""
    matrix = jnp.ones((3000, 3000), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    return 3000**3 / time_calls(lambda: product(matrix), float("inf"), warm_up=True, most=runs).wall_s


def factor_solve_ms(size: int, columns: int) -> float:
    """Measure spotrf, strsm and ssyrk: Cholesky factor, triangular solve and the product of what that leaves [ms]."""
    system, right = _system(size, columns)
    (factorise,) = get_lapack_funcs(("potrf",), (system,))
    solve, multiply = get_blas_funcs(("trsm", "syrk"), (system,))

    def once() -> None:
        factor, _ = factorise(system, lower=1, clean=0)
        multiply(1.0, solve(1.0, factor, right, lower=1), trans=1)

    return 1e3 * time_calls(once, 2.0, warm_up=True).wall_s


def factor_solves_per_s(size: int, columns: int, batch: int) -> float:
    """Measure the same on JAX's device, by the libraries that JAX calls: how many a second, in batches."""
    systems, rights = (jnp.tile(part[None], (batch, 1, 1)) for part in _system(size, columns))

    @jax.jit
    def once(systems: jax.Array, rights: jax.Array) -> jax.Array:
        factors = jnp.linalg.cholesky(systems, symmetrize_input=False)
        whitened = solve_triangular(factors, rights, lower=True)
        return jnp.einsum("bri,brj->bij", whitened, whitened, precision="highest")

    return batch / time_calls(partial(once, systems, rights), 2.0, warm_up=True).wall_s


def _system(size: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a positive definite matrix and right-hand sides, in LAPACK's order."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(size, size + size // 2))
    system = np.eye(size) + 2.0 * half @ half.T / size
    return np.asfortranarray(system, np.float32), np.asfortranarray(rng.normal(size=(size, columns)), np.float32)
