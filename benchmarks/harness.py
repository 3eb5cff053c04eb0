"""What every benchmark shares: its command, the machine's description, timing, processes, tables, plots, results.

A benchmark is a package ``benchmarks/NAME/`` or a module ``benchmarks/NAME.py``. Its command defines the flags
``--out`` and ``--quick`` and calls :func:`run`; whatever loads JAX or NumPy is imported within its ``main``, so that
``--help`` answers at once. A committed result is one summary of at most 300 lines, written by :func:`write_results`,
with every goal beside what was reached and beside which way is better.
"""

import importlib
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from digitaltwin import cli

ROOT = Path(__file__).parents[1]
"""The tree that is measured."""
RESULTS = ROOT / "benchmarks" / "results"
"""Folder of the committed results."""
RESULT_LINES = 300
"""Lines that a result may have at most."""
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_OWN_COLOUR, _PEER_COLOUR = "#2b6cb0", "#a0aec0"


# Commands.


def run(main: Callable[[], None], *, blas_threads: int | None = None) -> None:
    """Run a benchmark as :func:`digitaltwin.cli.run_command` does, and leave the process with its exit code.

    Args:
        main: The benchmark; it imports what it measures.
        blas_threads: Threads of OpenBLAS in this process, unless the environment says otherwise. It must be set before
            NumPy is imported.
    """
    if blas_threads is not None:
        os.environ.setdefault(_BLAS_THREADS, str(blas_threads))
    cli.run_command(main)


# What is needed beyond the package.


def require(*modules: str) -> None:
    """Import modules of the bench extra, before minutes are spent on measuring.

    Raises:
        InputError: A module is not installed.
    """
    from digitaltwin.types import InputError

    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise InputError(f'{name}: is not installed; pip install -e ".[bench]".') from error
        if name == "matplotlib":
            module.use("Agg")  # a picture in a file; no screen is needed


def find(name: str) -> ModuleType | None:
    """Import an optional peer, or say in one line that it is left out and return None."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: left out, it is not installed or cannot be loaded ({error})")
        return None


# The machine.


def describe_machine(*packages: str) -> dict[str, Any]:
    """Describe what a measured number depends on besides the code.

    Args:
        packages: Names of installed distributions whose versions matter; those not installed are left out.

    Returns:
        Processor, usable cores, memory, system, JAX's device where JAX is loaded, and versions.
    """
    import digitaltwin

    description: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "digitaltwin": digitaltwin.__version__,
    }
    if "jax" in sys.modules:
        description["device"] = sys.modules["jax"].devices()[0].device_kind
    for package in packages:
        try:
            description[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return description


def _processor() -> str:
    """Return the model name, which Python's own ``platform.processor`` leaves empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def megabytes(maxrss: int) -> float:
    """Convert a peak memory as the operating system reports it: Linux counts in KiB, macOS in bytes."""
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far.

    On Linux it is read from the process's status file, because ``getrusage`` also counts what the parent held when it
    started this process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return peaks[0] * 1024 / 1e6 if peaks else megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


# Time.


class Timing(NamedTuple):
    """Times of repeated calls."""

    wall_s: float
    """Median wall time of a call [s]."""
    quartiles_s: tuple[float, float]
    """First and third quartile of the wall time [s]."""
    best_s: float
    """Shortest wall time [s]."""
    cpu_s: float
    """Median processor time of a call, user and system, of all threads [s]."""
    calls: int
    """Number of timed calls."""

    def as_ms(self) -> dict[str, Any]:
        """Return the fields in milliseconds, for a result file."""
        return {
            "ms": 1e3 * self.wall_s,
            "ms_quartiles": [1e3 * part for part in self.quartiles_s],
            "cpu_ms": 1e3 * self.cpu_s,
            "calls": self.calls,
        }


def block(result: Any) -> Any:
    """Wait until JAX has computed every array of a result, if JAX is in use at all, and return it."""
    return sys.modules["jax"].block_until_ready(result) if "jax" in sys.modules else result


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Measure the wall and the processor time of a block, as ``wall_s`` and ``cpu_s`` of what is yielded."""
    taken: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken.update(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def time_calls(
    calls: Callable[[], Any] | Sequence[Callable[[], Any]], budget_s: float, *, warm_up: bool = False, most: int = 1000
) -> Timing:
    """Time functions called in turns, each at least once, until a time is spent.

    Args:
        calls: One function, or several that do the same work on other data.
        budget_s: Time for all calls together [s]; slow calls are still made three times, unless that takes three times
            the budget.
        warm_up: Whether every function is called once beforehand, so that nothing compiles while it is timed. Where
            that call alone takes longer than the budget it is the measurement.
        most: Largest number of timed calls.

    Returns:
        Medians and quartiles over the calls.
    """
    functions = [calls] if callable(calls) else list(calls)
    walls: list[float] = []
    processors: list[float] = []

    def call(number: int) -> None:
        with stopwatch() as taken:
            block(functions[number % len(functions)]())
        walls.append(taken["wall_s"])
        processors.append(taken["cpu_s"])

    begun = time.perf_counter()
    if warm_up:
        for number in range(len(functions)):
            call(number)
        if sum(walls) <= budget_s:
            walls.clear()
            processors.clear()
            begun = time.perf_counter()
    while len(walls) < len(functions) or (time.perf_counter() - begun < budget_s and len(walls) < most):
        call(len(walls))
        if len(walls) >= 3 and time.perf_counter() - begun > 3.0 * budget_s:
            break
    low, middle, high = _quantiles(walls)
    return Timing(middle, (low, high), min(walls), _quantiles(processors)[1], len(walls))


def time_entry(calls: Sequence[Callable[[], Any]], budget_s: float) -> tuple[Any, dict[str, Any]]:
    """Time the first call apart, because it compiles, then all in turns; return what it found, and times and memory."""
    with stopwatch() as first:
        found = block(calls[0]())
    timing = time_calls(calls, budget_s)
    return found, {**timing.as_ms(), "first_call_s": first["wall_s"], "peak_mb": peak_memory_mb()}


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile, linearly interpolated."""
    ordered = sorted(values)
    found = []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return found[0], found[1], found[2]


# Processes.


def in_subprocess(
    function: Callable[..., Any],
    *arguments: Any,
    blas_threads: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Call a function in a fresh process, whose peak memory, compiled programs and BLAS threads are its own.

    The user's stored programs are out of its reach, so a first call compiles.

    Args:
        function: An importable function.
        arguments: Its arguments; they and the result must be picklable.
        blas_threads: Threads of OpenBLAS in that process; all of them by default.
        environment: Variables that the process sees besides those of this one.

    Returns:
        What the function returns; what it raises is raised here.
    """
    with tempfile.TemporaryDirectory() as cache:
        variables = {"XDG_CACHE_HOME": cache, **(environment or {})}
        if blas_threads is not None:
            variables[_BLAS_THREADS] = str(blas_threads)
        before = {name: os.environ.pop(name, None) for name in {_BLAS_THREADS, "JAX_COMPILATION_CACHE_DIR", *variables}}
        os.environ.update(variables)  # the process reads them before it imports NumPy
        try:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                return process.submit(function, *arguments).result()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class Usage(NamedTuple):
    """What a command used, from its start to its end."""

    wall_s: float
    cpu_s: float
    """User and system time [s]."""
    peak_mb: float
    """Largest resident memory [MB]."""


def run_command(arguments: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any) -> Usage:
    """Run a command to its end and say what that one process used.

    Args:
        arguments: Command line, for example ``[sys.executable, "-m", "experiments.avatar"]``.
        environment: All variables that the command sees; those of this process by default.
        options: Further options of :class:`subprocess.Popen`, for example ``cwd``.

    Raises:
        RuntimeError: The command failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)  # as wait(), and says what this one child used
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: ended with {process.returncode}")
    return Usage(wall_s, usage.ru_utime + usage.ru_stime, megabytes(usage.ru_maxrss))


def tree_environment(tree: Path, cache: Path, **variables: str) -> dict[str, str]:
    """Return the variables of a process that runs a tree: it has a cache folder of its own, no settings of the user."""
    dropped = ("JAX_", "OPENBLAS_", "OMP_", "XDG_CACHE_HOME", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(cache), **variables}


# Goals, tables, results.


class Goal(NamedTuple):
    """A number to reach, and which way is better."""

    value: float
    at_least: bool = False
    """Whether more is better; otherwise less is."""

    def is_met(self, reached: float) -> bool:
        """Tell whether a measured value meets the goal."""
        return reached >= self.value if self.at_least else reached <= self.value


def goals_table(goals: Mapping[str, Goal], reached: Mapping[str, float]) -> str:
    """Format measured values beside their goals, one a line, in the order of the goals."""
    rows = [
        [name, f"{reached[name]:.4g}", f"{'at least' if goal.at_least else 'at most'} {goal.value:g}",
         "met" if goal.is_met(reached[name]) else "missed"]
        for name, goal in goals.items() if name in reached
    ]  # fmt: skip
    return table(["", "measured", "goal", ""], rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows of text in columns: the first column to the left, the others to the right."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        ).rstrip()
        for line in lines
    )


def write_results(
    path: Path, workload: str, packages: Sequence[str], goals: Mapping[str, Goal], reached: Mapping[str, float],
    **measured: Any,
) -> None:  # fmt: skip
    """Write a benchmark's summary as JSON.

    Args:
        path: File to write.
        workload: What was measured, in one sentence.
        packages: Distributions whose versions matter.
        goals: Goals by name.
        reached: Measured values of goals by name.
        measured: Everything else.

    Raises:
        ValueError: The summary is longer than :data:`RESULT_LINES`.
    """
    from digitaltwin.io._files import format_json, write_bytes

    listed = {
        name: {"value": reached[name], "goal": goal.value, "better": "higher" if goal.at_least else "lower"}
        for name, goal in goals.items() if name in reached
    }  # fmt: skip
    summary = {"workload": workload, "machine": describe_machine(*packages), "goals": listed, **measured}
    text = format_json(summary)
    if text.count("\n") > RESULT_LINES:
        raise ValueError(f"{path}: has {text.count(chr(10))} lines, more than the {RESULT_LINES} of a summary")
    write_bytes(path, text.encode())


# Plots.


@contextmanager
def figure(path: Path, rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[list[Any]]:
    """Yield the axes of a grid to draw on, hide those that stay empty, and write the picture.

    Args:
        path: File to write.
        rows: Rows of the grid.
        columns: Columns of the grid.
        size: Width and height in inches.
        options: Further options of ``subplots``, for example ``sharey``.
    """
    from matplotlib import pyplot as plt

    drawn, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    yield list(grid.flat)
    for axis in grid.flat:
        axis.set_visible(axis.has_data())
    drawn.savefig(path, dpi=110)
    plt.close(drawn)


def draw_bars(axis: Any, values: Mapping[str, float], *, labels: Sequence[str] | None = None) -> None:
    """Draw horizontal bars on a logarithmic axis, the library's own in another colour than its peers'.

    Args:
        axis: Axes of matplotlib.
        values: Lengths by name; names that begin with "digitaltwin" are the library's.
        labels: Text at the end of each bar; by default its value.
    """
    colours = [_OWN_COLOUR if name.startswith("digitaltwin") else _PEER_COLOUR for name in values]
    axis.barh(list(values), list(values.values()), color=colours)
    for row, value in enumerate(values.values()):
        label = f"{value:,.3g}" if value < 1000.0 else f"{value:,.0f}"
        label = label if labels is None else labels[row]
        axis.text(1.1 * value, row, label, va="center", fontsize=8, bbox={"color": "white", "pad": 0.5}, zorder=2)
    axis.set(xscale="log")
    axis.set_xlim(0.2 * min(values.values()), 5.0 * max(values.values()))  # room for a floor, and for the labels
    axis.tick_params(axis="y", labelsize=8)
