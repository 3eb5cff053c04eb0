"""One BLAS thread for the duration of a block, in this process.

JAX's LAPACK on a CPU, and SciPy's factorisations, are SciPy's OpenBLAS. On the small matrices of this package (some
hundred rows) its threads gain nothing and wait for each other in busy loops: a fit costs ten times the processor time.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import jax
import scipy.linalg  # noqa: F401  loads the BLAS that JAX and SciPy share
from jax.core import Tracer
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
_LOCK = threading.Lock()
_inside = 0
_limiter: Any = None


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes a millisecond, and they do not change."""
    return ThreadpoolController()


def _take_control() -> None:
    """Since threadpoolctl 3.8 only the Python thread that set a limit may set another; here the lock sees to that."""
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside a ``with`` block, and restore its number of threads afterwards.

    The limit is the process's: blocks may be nested and may overlap in several Python threads, and the last to end
    restores what was there before the first began. JAX computes while Python goes on, so wait for its results
    (``jax.block_until_ready``) before the block ends.

    Returns:
        A context manager.

    Example:
        >>> import numpy as np
        >>> import scipy.linalg
        >>> with single_blas_thread():
        ...     factor = scipy.linalg.cho_factor(np.eye(3))
    """
    global _inside, _limiter
    with _LOCK:
        if _inside == 0:
            _take_control()
            _limiter = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _take_control()
                _limiter.restore_original_limits()


def call_with_single_blas_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call a compiled function with one BLAS thread, and wait for its results.

    Under a transformation (``jit``, ``vmap``, ``grad``), where nothing is computed yet, and on an accelerator, which
    has no BLAS, it is just the call.
    """
    leaves = jax.tree.leaves((args, options))
    if any(isinstance(leaf, Tracer) for leaf in leaves) or jax.default_backend() != "cpu":
        return function(*args, **options)
    with single_blas_thread():
        return jax.block_until_ready(function(*args, **options))
