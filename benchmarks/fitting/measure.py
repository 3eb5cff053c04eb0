"""Workloads of the fitting benchmark, measurements that are called in processes of their own, tables and plot."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness, linear_algebra
from benchmarks.fitting.comparison import one_fit, state_of
from benchmarks.fitting.peers import ITERATIONS, PEERS, REDUCED
from benchmarks.fitting.problem import IMAGE_SIZE, Photo, State, make_photo, points_of
from benchmarks.fitting.reference import Model, Reference
from benchmarks.harness import block, in_subprocess, stopwatch, time_calls, time_entry
from benchmarks.refinement import refined_head
from digitaltwin.fitting import FitConfig, FitResult, fit_batch, make_fitter
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._steps import is_direct
from digitaltwin.head import HeadModel, load_head

REACHED = 1e-4  # relative sub-optimality up to which a solver has reached the minimum


class Workload(NamedTuple):
    """A head's size and a set of landmarks; the shape is given."""

    size: int | None  # vertices; None is the shipped skin
    mesh: bool = False  # whether the landmarks are the 478 points of the face mesh; otherwise the 104
    sliding: bool = False  # whether the contour slides; otherwise its anchors are held

    def config(self, iterations: int = ITERATIONS) -> FitConfig:
        """Return the fit's configuration."""
        return FitConfig(fit_identity=False, iterations=iterations, sliding_contour=self.sliding)

    def head(self) -> HeadModel:
        """Return the head, refined if need be."""
        return load_head() if self.size is None else refined_head(load_head(), self.size)

    def fitter(self, head: HeadModel, iterations: int = ITERATIONS) -> Fitter:
        """Return the library's fitter."""
        return make_fitter(head, self.config(iterations), points=points_of(head, mesh=self.mesh))

    def photos(self, head: HeadModel, count: int) -> list[Photo]:
        """Return photos of people whose shape is known."""
        points = points_of(head, mesh=self.mesh)
        return [make_photo(head, points, seed, known_shape=True) for seed in range(count)]


class Task(NamedTuple):
    """Photos to fit, from the library's starts, and the energies to reach; can be sent to another process."""

    references: list[Reference]
    minima: list[float]  # energies of the reference implementation at convergence

    def suboptimality(self, states: Sequence[State]) -> dict[str, Any]:
        """Return how far above the minimum the worst state lies, relative, and whether that counts as reached."""
        energies = np.array([reference.energy(state) for reference, state in zip(self.references, states)])
        above = np.nan_to_num(energies / self.minima[: len(states)] - 1.0, nan=1e30, posinf=1e30).max()
        return {"suboptimality": max(0.0, float(above)), "reached": bool(above < REACHED)}


def make_task(workload: Workload, photos: int) -> Task:
    """Make photos, the library's starts, and the energies to reach."""
    head, task = workload.head(), Task([], [])
    model = Model(head, workload.config(), points_of(head, mesh=workload.mesh))
    fitter = workload.fitter(head, iterations=0)
    for photo in workload.photos(head, photos):
        start = state_of(one_fit(fitter, photo)())._replace(field=np.zeros_like(model.mean))
        task.references.append(Reference(model, photo, start=start))
        task.minima.append(task.references[-1].run(start, 50, tolerance=1e-13)[1][-1])
    return task


def batch_fit(fitter: Fitter, photos: Sequence[Photo], batch: int, **options: Any) -> Callable[[], FitResult]:
    """Return a call that fits the photos again and again, up to a batch."""
    repeated = [photos[index % len(photos)] for index in range(batch)]
    parts = zip(*((photo.shape, photo.landmarks, photo.scores, photo.weights) for photo in repeated))
    shapes, landmarks, scores, weights = (jnp.asarray(np.stack(part), jnp.float32) for part in parts)
    return partial(fit_batch, fitter, shapes, landmarks, IMAGE_SIZE, scores=scores, weights=weights, **options)


def measure_peer(name: str, task: Task, seconds: float) -> dict[str, Any]:
    """Measure one peer on one photo at a time."""
    with stopwatch() as preparation:
        solve, read = PEERS[name](task.references)
    found, result = time_entry([partial(solve, index) for index in range(len(task.minima))], seconds)
    others = range(1, len(task.minima)) if result["ms"] < 5000.0 else ()
    states = [read(0, found), *(read(index, solve(index)) for index in others)]
    result |= {"prepare_s": preparation["wall_s"], **task.suboptimality(states)}
    if isinstance(found, tuple) and isinstance(found[-1], dict):  # what the solver says of itself
        result["parts_ms"] = {part: 1e3 * value for part, value in found[-1].items()}
    return result


def measure_library(workload: Workload, task: Task, seconds: float) -> dict[str, Any]:
    """Measure the library on one photo at a time, from landmarks (EPnP included) to vertices."""
    head = workload.head()
    with stopwatch() as preparation:
        fitter = block(workload.fitter(head))
    calls = [one_fit(fitter, reference.photo) for reference in task.references]
    _, entry = time_entry(calls, seconds)
    result = {"prepare_s": preparation["wall_s"], "first_call_s": entry.pop("first_call_s"), "batches": {"1": entry}}
    return result if workload.sliding else result | task.suboptimality([state_of(call()) for call in calls])


def measure_batches(
    workload: Workload, photos: list[Photo], batches: Sequence[int], seconds: float, on_processor: bool = True
) -> dict[str, Any]:
    """Measure batches; on the processor with a JAX device a core, which must be set before JAX has started."""
    if on_processor:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    fitter, found = workload.fitter(workload.head()), {}
    for batch in batches:
        try:
            _, found[str(batch)] = time_entry([batch_fit(fitter, photos, batch)], seconds)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            print(f"batch {batch}: out of memory")
            break
    return found


def measure_curve(sizes: Sequence[int | None], seconds: float) -> list[dict[str, float]]:
    """Measure one photo for many v, with and without iterations in turns, so that their difference means something."""
    rows = []
    for size in sizes:
        workload = Workload(size, sliding=True)
        head = workload.head()
        (photo,) = workload.photos(head, 1)
        calls = [one_fit(workload.fitter(head, iterations), photo) for iterations in (ITERATIONS, 0)]
        block([call() for call in calls])  # which compiles
        pairs, begun = [], time.perf_counter()
        while len(pairs) < 10 or (time.perf_counter() - begun < seconds and len(pairs) < 500):
            pairs.append([1e3 * time_calls(call, 0.0).wall_s for call in calls])
        fit, rest = np.array(pairs).T
        medians = {"fit_ms": fit, "iterations_ms": fit - rest, "rest_ms": rest}
        rows.append({"vertices": len(head.mean), **{name: float(np.median(ms)) for name, ms in medians.items()}})
    return rows


def measure(
    workload: Workload, names: Sequence[str], batches: Sequence[int], seconds: float, photos: int
) -> dict[str, Any]:
    """Measure peers on a workload with its contour held, and the library in batches too and with it sliding.

    Each entry is measured for some seconds, in a process of its own.
    """
    apart = partial(in_subprocess, blas_threads=1)
    task: Task = apart(make_task, workload, photos)
    model, given = task.references[0].model, [reference.photo for reference in task.references]
    landmarks, columns = len(model.weights), len(model.modes) + 8
    step = partial(in_subprocess, linear_algebra.factor_solve_ms, 2 * landmarks, columns)
    floor = ITERATIONS * min(step(blas_threads=threads) for threads in (1, None))
    result: dict[str, Any] = {"vertices": len(model.mean), "landmarks": landmarks, "floor_ms": floor}
    result |= {"unknowns": model.mean.size + columns - 1, "library": {}, "peers": {}}
    for name, each in (("digitaltwin", workload), ("digitaltwin, sliding", workload._replace(sliding=True))):
        entry = result["library"][name] = apart(measure_library, each, task, seconds)
        entry["batches"] |= apart(measure_batches, each, given, batches, seconds)
    for name in names:
        try:
            result["peers"][name] = apart(measure_peer, name, task, seconds)
        except ImportError as error:
            result.setdefault("missing", {})[name] = str(error)
    return result


def measure_accelerator(workload: Workload, batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """Measure batches on the accelerator up to where its memory ends, its floor, and the distance to a processor's fit.

    The floor is the matrix work alone, as for the processor, of as many heads as are computed side by side.
    """
    head = workload.head()
    fitter, photos = workload.fitter(head), workload.photos(head, 64)
    rows = measure_batches(workload, photos, batches, seconds, on_processor=False)
    for batch, entry in rows.items():
        entry["heads_per_s"] = 1e3 * int(batch) / entry["ms"]
    here, there = (batch_fit(fitter, photos, 64, devices=devices)() for devices in (None, jax.devices("cpu")))
    distance = np.linalg.norm(np.asarray(here.vertices) - np.asarray(there.vertices), axis=-1)
    found = {"landmarks": fitter.landmark_count, "batches": rows, "from_processor_mm": float(distance.max())}
    if is_direct(1, fitter.landmark_count):
        steps = linear_algebra.factor_solves_per_s(2 * fitter.landmark_count, len(head.expressions) + 8, 2048)
        found["floor_heads_per_s"] = steps / ITERATIONS
    return found


def workload_table(result: dict[str, Any]) -> str:
    """Format one workload: milliseconds a fit, and ratios to the library in the same run."""
    own, floor, rows = one_head_ms(result, "digitaltwin"), result["floor_ms"], []
    entries = [
        (f"{name}, batch {batch}", {**entry, **times}, int(batch))
        for name, entry in result["library"].items()
        for batch, times in entry["batches"].items()
    ]
    for name, entry, batch in [*entries, *((name, entry, 1) for name, entry in result["peers"].items())]:
        low, high = (value / batch for value in entry["ms_quartiles"])
        times = [f"{entry['ms'] / batch:.3f}", f"{low:.3g} to {high:.3g}", f"{entry['cpu_ms'] / batch:.3f}"]
        distance = f"{entry['suboptimality']:.1e}" if "suboptimality" in entry else ""
        ratio = f"{entry['ms'] / own:.1f} times digitaltwin" if entry.get("reached") else "did not reach the minimum"
        cells = [f"{entry['first_call_s']:.2f}", f"{entry['peak_mb']:.0f}", distance]
        rows.append([name, *times, *cells, ratio if name in result["peers"] else ""])
        rows += [[f"  of which {part}", f"{ms:.1f}", *[""] * 6] for part, ms in entry.get("parts_ms", {}).items()]
    headings = ["ms a fit", "median", "quartiles", "processor", "first, s", "peak, MB", "sub-optimality", ""]
    lines = [f"{result['vertices']} vertices, {result['landmarks']} landmarks, {result['unknowns']} unknowns"]
    lines += [harness.table(headings, rows)]
    lines += [f"{name}: not measured, {why}" for name, why in result.get("missing", {}).items()]
    return "\n".join([*lines, f"floor {floor:.2f} ms; digitaltwin takes {own / floor:.1f} times that"])


def one_head_ms(result: dict[str, Any], name: str) -> float:
    """Return the milliseconds of one of the library's entries at batch 1."""
    return result["library"][name]["batches"]["1"]["ms"]


def curve_table(curve: Sequence[dict[str, float]]) -> str:
    """Format the cost against the number of vertices."""
    rows = [[str(entry["vertices"]), *(f"{entry[key]:.2f}" for key in _CURVES)] for entry in curve]
    return harness.table(["vertices", *(f"{label}, ms" for label in _CURVES.values())], rows)


_CURVES = {"fit_ms": "whole fit", "iterations_ms": "five iterations", "rest_ms": "start and last step"}


def reached(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the values that the goals speak of."""
    first, sliding = results[0], results[0]["library"]["digitaltwin, sliding"]
    own, batches = one_head_ms(first, "digitaltwin"), sliding["batches"]
    peers = first["peers"].items()
    general = [entry["ms"] for name, entry in peers if entry["reached"] and not name.startswith(REDUCED)]
    found = {"times the fastest general peer": min(general) / own} if general else {}
    found |= {"times the floor": own / first["floor_ms"], "one head, sliding, ms": batches["1"]["ms"]}
    found |= {"compile, s": sliding["first_call_s"], "batch 64, sliding, ms a head": batches["64"]["ms"] / 64}
    for result in results:
        if result["landmarks"] > 400:
            found.setdefault("one head, 468 points, ms", one_head_ms(result, "digitaltwin, sliding"))
    return found


def plot(path: Path, results: Sequence[dict[str, Any]], curve: Sequence[dict[str, float]]) -> None:
    """Draw milliseconds of every entry at each workload, and the library's cost against v."""
    columns = (len(results) + 2) // 2
    with harness.figure(path, 2, columns, size=(6 * columns, 9)) as axes:
        for axis, result in zip(axes, results):
            entries = {name: one_head_ms(result, name) for name in ("digitaltwin", "digitaltwin, sliding")}
            entries |= {name: entry["ms"] for name, entry in result["peers"].items() if entry["reached"]}
            harness.draw_bars(axis, dict(sorted(entries.items(), key=lambda entry: -entry[1])))
            axis.axvline(result["floor_ms"], color="black", linewidth=1, linestyle=":")
            title = f"{result['vertices']} vertices, {result['landmarks']} landmarks"
            axis.set(xlabel="one fit, ms (dotted: floor)", title=title)
        axis = axes[len(results)]
        for key, label in _CURVES.items():
            axis.plot([entry["vertices"] for entry in curve], [entry[key] for entry in curve], "o-", label=label)
        axis.set(xlabel="vertices", ylabel="ms", title="digitaltwin, 104 landmarks, batch 1", ylim=(0, None))
        axis.legend()
