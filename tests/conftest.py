"""Strict test mode: shapes checked at run time, no implicit rank promotion, warnings are errors (pyproject.toml).

Files of tests run side by side (pytest-xdist). All workers, and the commands that tests launch, share one folder of
compiled programs, kept in pytest's cache for the next session: half of the first one's time is spent compiling. Each
program is found by its own code, the versions and the flags; ``pytest --cache-clear`` forgets them.
"""

import importlib.util
import os
import shutil
from importlib import metadata
from pathlib import Path

# One BLAS thread, before NumPy reads it: JAX and SciPy factor small matrices here, and threads that wait for each other
# on a busy machine make that several times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ACCELERATOR = os.environ.get("JAX_PLATFORMS") != "cpu" and any(
    importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)
)

# Tests compile for longer than they run: with XLA's older way to compile fusions, and less optimised, in six tenths of
# the time. `XLA_FLAGS= pytest` tests what every other process compiles. Only where it was tried: XLA ends a process
# whose flags it does not know.
if not ACCELERATOR and metadata.version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1")

# Before JAX reads where it is, and before the first process of the session starts its workers.
_COMPILED = Path(__file__).resolve().parents[1] / ".pytest_cache" / "d" / "compiled"
MOST_COMPILED_BYTES = 2 << 30
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    if sum(path.stat().st_size for path in _COMPILED.glob("**/*") if path.is_file()) > MOST_COMPILED_BYTES:
        shutil.rmtree(_COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_COMPILED)
    os.environ["XDG_CACHE_HOME"] = str(_COMPILED)  # what the library itself keeps: programs, factors, layouts
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

from jaxtyping import install_import_hook  # noqa: E402

# Must run before any module of the package is imported.
_HOOK = install_import_hook("digitaltwin", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_WORKERS = 8  # two that share all tests hold up to 4 GB each, more of them less


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core; none, that is the first process itself, where there would be nothing to share.

    That is so for tests of one file, and on an accelerator, whose memory the first worker would take.
    """
    files = {argument.partition("::")[0] for argument in config.args}
    one_file = len(files) == 1 and all(file.endswith(".py") for file in files)
    if one_file or ACCELERATOR:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def head():
    """The shipped head model."""
    from digitaltwin.head import load_head

    return load_head()
