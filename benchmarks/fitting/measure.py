"""Workloads of the fitting benchmark and their measurements; every function here is called in a process of its own."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from benchmarks.fitting.comparison import one_fit, state_of
from benchmarks.fitting.jax_peers import PEERS
from benchmarks.fitting.problem import IMAGE_SIZE, Layout, Photo, State, make_layout, make_photo, points_of
from benchmarks.fitting.reference import Model, Reference
from benchmarks.fitting.sparse_peers import ITERATIONS, Task
from benchmarks.harness import block, in_subprocess, peak_memory_mb, stopwatch, time_calls
from benchmarks.refinement import refined_head
from digitaltwin.fitting import FitConfig, FitResult, Fitter, fit_batch, make_fitter
from digitaltwin.fitting._steps import is_direct
from digitaltwin.head import HeadModel, load_head

REACHED = 1e-4
"""Relative sub-optimality up to which a solver has reached the minimum."""
REDUCED = "reduced basis: "
"""Prefix of peers that are given the exact small problem."""


class Workload(NamedTuple):
    """A head's size and a set of landmarks."""

    size: int | None
    """Vertices; None is the shipped skin."""
    mesh: bool = False
    """Whether the landmarks are the 478 points of the face mesh; otherwise the 104."""
    sliding: bool = False

    def config(self) -> FitConfig:
        """Return the fit's configuration: the shape given; the contour's anchors held, unless sliding."""
        return FitConfig(fit_identity=False, iterations=ITERATIONS, sliding_contour=self.sliding)

    def head(self) -> HeadModel:
        """Return the head, refined if need be."""
        return load_head() if self.size is None else refined_head(load_head(), self.size)

    def fitter(self, head: HeadModel, iterations: int = ITERATIONS) -> Fitter:
        """Return the library's fitter."""
        return make_fitter(head, replace(self.config(), iterations=iterations), points=points_of(head, mesh=self.mesh))

    def photos(self, head: HeadModel, count: int) -> tuple[Layout, list[Photo]]:
        """Return the landmarks' layout, and photos of people whose shape is known."""
        layout = make_layout(head, points_of(head, mesh=self.mesh), self.config().contour_weight)
        return layout, [make_photo(head, layout, seed, known_shape=True) for seed in range(count)]


def make_task(workload: Workload, photos: int) -> Task:
    """Make photos, the library's starts, and the energies to reach."""
    head = workload.head()
    layout, given = workload.photos(head, photos)
    model, fitter = Model(head, workload.config(), layout), workload.fitter(head, iterations=0)
    starts, minima = [], []
    for photo in given:
        reference, start = Reference(model, photo), state_of(one_fit(fitter, photo)())
        starts.append(start._replace(field=np.zeros_like(model.mean)))
        minima.append(reference.run(reference.scale(start), starts[-1], 50, tolerance=1e-13)[1][-1])
    return Task(model, given, starts, minima)


def batch_fit(fitter: Fitter, photos: Sequence[Photo], batch: int, **options: Any) -> Callable[[], FitResult]:
    """Return a call that fits the photos again and again, up to a batch."""
    repeated = [photos[index % len(photos)] for index in range(batch)]
    parts = zip(*((photo.shape, photo.landmarks, photo.scores, photo.weights) for photo in repeated))
    shapes, landmarks, scores, weights = (jnp.asarray(np.stack(part), jnp.float32) for part in parts)
    return partial(fit_batch, fitter, shapes, landmarks, IMAGE_SIZE, scores=scores, weights=weights, **options)


def time_entry(calls: Sequence[Callable[[], Any]], seconds: float) -> tuple[Any, dict[str, Any]]:
    """Time the first call apart, because it compiles, then all in turns; return what it found and the times."""
    with stopwatch() as first:
        found = block(calls[0]())
    timing = time_calls(calls, seconds)
    return found, {**timing.as_ms(), "first_call_s": first["wall_s"], "peak_mb": peak_memory_mb()}


def suboptimality(task: Task, states: Sequence[State]) -> dict[str, Any]:
    """Return how far above the minimum the worst state lies, relative, and whether the minimum counts as reached."""
    energies = [reference.energy(scale, state) for (reference, scale), state in zip(task.references(), states)]
    above = [energy / minimum - 1.0 for energy, minimum in zip(energies, task.minima)]
    worst = max(0.0, *(share if np.isfinite(share) else 1e30 for share in above))
    return {"suboptimality": worst, "reached": worst < REACHED}


def measure_peer(name: str, task: Task, seconds: float) -> dict[str, Any]:
    """Measure one peer on one photo at a time."""
    with stopwatch() as preparation:
        solve, read = PEERS[name].prepare(task)
    found, result = time_entry([partial(solve, index) for index in range(len(task.photos))], seconds)
    others = range(1, len(task.photos)) if result["ms"] < 5000.0 else ()
    states = [read(0, found), *(read(index, solve(index)) for index in others)]
    result |= {"prepare_s": preparation["wall_s"], **suboptimality(task, states)}
    if isinstance(found, tuple) and isinstance(found[-1], dict):  # what the solver says of itself
        result["parts_ms"] = {part: 1e3 * value for part, value in found[-1].items()}
    return result


def measure_library(workload: Workload, task: Task, seconds: float) -> dict[str, Any]:
    """Measure the library on one photo at a time, from landmarks (EPnP included) to vertices."""
    head = workload.head()
    with stopwatch() as preparation:
        fitter = block(workload.fitter(head))
    calls = [one_fit(fitter, photo) for photo in task.photos]
    _, entry = time_entry(calls, seconds)
    result = {"prepare_s": preparation["wall_s"], "first_call_s": entry.pop("first_call_s"), "batches": {"1": entry}}
    return result if workload.sliding else result | suboptimality(task, [state_of(call()) for call in calls])


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


def direct_step(landmarks: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix and right-hand sides of the size of a direct step's, in LAPACK's order."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(2 * landmarks, 3 * landmarks))
    system = np.eye(2 * landmarks) + half @ half.T / landmarks
    right = rng.normal(size=(2 * landmarks, columns))
    return np.asfortranarray(system, np.float32), np.asfortranarray(right, np.float32)


def measure_floor(landmarks: int, columns: int) -> float:
    """Measure five times spotrf, strsm and ssyrk [ms], the BLAS and LAPACK calls of a direct fit."""
    system, right = direct_step(landmarks, columns)
    (factorise,) = get_lapack_funcs(("potrf",), (system,))
    solve, multiply = get_blas_funcs(("trsm", "syrk"), (system,))

    def once() -> None:
        for _ in range(ITERATIONS):
            factor, _ = factorise(system, lower=1, clean=0)
            multiply(1.0, solve(1.0, factor, right, lower=1), trans=1)

    return 1e3 * time_calls(once, 2.0, warm_up=True).wall_s


def measure_curve(sizes: Sequence[int | None], seconds: float) -> list[dict[str, float]]:
    """Measure one photo for many v, with and without iterations in turns, so that their difference means something."""
    rows = []
    for size in sizes:
        workload = Workload(size, sliding=True)
        head = workload.head()
        _, (photo,) = workload.photos(head, 1)
        calls = [one_fit(workload.fitter(head, iterations), photo) for iterations in (ITERATIONS, 0)]
        pairs: list[list[float]] = []
        begun = np.inf  # the first pair compiles
        while len(pairs) < 11 or (time.perf_counter() - begun < seconds and len(pairs) < 501):
            pairs.append([1e3 * time_calls(call, 0.0).wall_s for call in calls])
            begun = min(begun, time.perf_counter())
        both = np.array(pairs[1:])
        medians = {"fit_ms": both[:, 0], "iterations_ms": both[:, 0] - both[:, 1], "rest_ms": both[:, 1]}
        rows.append({"vertices": len(head.mean), **{name: float(np.median(ms)) for name, ms in medians.items()}})
    return rows


def measure(
    workload: Workload, names: Sequence[str], batches: Sequence[int], seconds: float, photos: int
) -> dict[str, Any]:
    """Measure a workload with its contour held, and the library sliding too, each entry in a process of its own.

    Args:
        workload: The workload.
        names: Peers.
        batches: Batch sizes of the library beyond 1.
        seconds: Time for the repetitions of one entry.
        photos: Number of photos.
    """
    apart = partial(in_subprocess, blas_threads=1)
    task = apart(make_task, workload, photos)
    landmarks, columns = len(task.model.layout.weights), len(task.model.modes) + 8
    floors = [in_subprocess(measure_floor, landmarks, columns, blas_threads=threads) for threads in (1, None)]
    result: dict[str, Any] = {"vertices": len(task.model.mean), "landmarks": landmarks}
    result |= {"unknowns": 3 * len(task.model.mean) + columns - 1, "floor_ms": min(floors), "library": {}, "peers": {}}
    sliding = workload._replace(sliding=True)
    for name, each in (("digitaltwin", workload), ("digitaltwin, sliding", sliding)):
        entry = result["library"][name] = apart(measure_library, each, task, seconds)
        entry["batches"] |= apart(measure_batches, each, task.photos, batches, seconds)
    for name in names:
        title = name if PEERS[name].full else f"{REDUCED}{name}"
        try:
            result["peers"][title] = apart(measure_peer, name, task, seconds)
        except ImportError as error:
            result.setdefault("missing", {})[title] = str(error)
    return result


def measure_accelerator(workload: Workload, batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """Measure batches on the accelerator up to where its memory ends, its floor, and the distance to a processor's fit.

    The floor is the matrix work alone, as for the processor: five Cholesky factors, triangular solves and products of
    as many heads as are computed side by side, by the libraries that JAX calls.
    """
    head = workload.head()
    fitter, (_, photos) = workload.fitter(head), workload.photos(head, 64)
    rows = measure_batches(workload, photos, batches, seconds, on_processor=False)
    for batch, entry in rows.items():
        entry["heads_per_s"] = 1e3 * int(batch) / entry["ms"]
    here, there = (batch_fit(fitter, photos, 64, devices=devices)() for devices in (None, jax.devices("cpu")))
    distance = np.linalg.norm(np.asarray(here.vertices) - np.asarray(there.vertices), axis=-1)
    found = {"landmarks": fitter.landmark_count, "batches": rows, "from_processor_mm": float(distance.max())}
    if is_direct(1, fitter.landmark_count):
        found["floor_heads_per_s"] = accelerator_floor(fitter.landmark_count, len(head.expressions) + 8, 2048)
    return found


def accelerator_floor(landmarks: int, columns: int, heads: int) -> float:
    """Return heads a second, were there nothing but the matrix work of five iterations."""
    systems, rights = (jnp.tile(part[None], (heads, 1, 1)) for part in direct_step(landmarks, columns))

    @jax.jit
    def once(systems: jax.Array, rights: jax.Array) -> jax.Array:
        factors = jnp.linalg.cholesky(systems, symmetrize_input=False)
        whitened = solve_triangular(factors, rights, lower=True)
        return jnp.einsum("bri,brj->bij", whitened, whitened, precision="highest")

    return heads / (ITERATIONS * time_calls(partial(once, systems, rights), 2.0, warm_up=True).wall_s)
