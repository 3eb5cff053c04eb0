"""Strict test mode: shapes checked at run time, no implicit rank promotion, warnings are errors (pyproject.toml)."""

import os

# One BLAS thread, before NumPy reads it: JAX and SciPy factor small matrices here, and threads that wait for each other
# on a busy machine make that several times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

# Must run before any module of the package is imported.
_HOOK = install_import_hook("digitaltwin", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def head():
    """The shipped head model."""
    from digitaltwin.head import load_head

    return load_head()
