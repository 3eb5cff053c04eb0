"""What fitting a head costs, beside general least-squares solvers on the same photos in the same run.

All minimise the fit's energy over expressions (52), pose and focal scale (7) and the field's 3v, the contour's anchors
held so that there is one minimum; all start where the library's EPnP puts them and do five iterations. What does not
come within 1e-4 of the minimum (relative, the referee's: :mod:`benchmarks.fitting_problem`) is listed as such, without
a ratio. How each peer is driven says :mod:`benchmarks.fitting_peers`.

Sizes: the shipped skin and a refined copy of 2,925 vertices; the 104 landmarks and the mesh's 468 points. Every entry
runs in a process of its own, whose peak memory is then its own, with one OpenBLAS thread: more make SciPy's solvers
slower, and JAX's, whose factorisations on a CPU are SciPy's. How ours does with all of them is one line, and the floor
is measured with one and with all. Batches go through :func:`digitaltwin.fitting.fit_batch` on a device for each core.
Time is the wall clock's, medians and quartiles over photos and repetitions;
processor time is beside. The first call, which compiles, is given apart. Ours starts from the landmarks (EPnP included)
and ends with the head's vertices.

The floor is what five iterations take in LAPACK and BLAS calls alone: a float32 Cholesky factor of 2k x 2k, a
triangular solve for e + 8 right-hand sides, and the product of what that leaves.

Prints tables beside the goals and writes ``results/fitting.json`` with the machine's description, and a plot with the
curve of the cost against v. Where JAX has an accelerator, batches up to 65,536 are timed on it and the table written
to ``results/fitting_DEVICE.json``. ``--quick`` measures a little and writes nothing.
"""

import multiprocessing
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.scipy.linalg import solve_triangular
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from benchmarks import machine
from benchmarks.extras import require
from benchmarks.fitting_comparison import state_of
from benchmarks.fitting_peers import ITERATIONS, PEERS, Task
from benchmarks.fitting_problem import (
    IMAGE_SIZE,
    Layout,
    Model,
    Photo,
    Referee,
    State,
    landmark_layout,
    make_photo,
    mesh_layout,
    refined_head,
)
from digitaltwin.fitting import (
    FitConfig,
    FitResult,
    Fitter,
    fit,
    fit_batch,
    landmark_points_of,
    make_fitter,
    mesh_points_of,
)
from digitaltwin.fitting._steps import is_direct
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io._files import make_folder, write_json
from experiments import command

SIZES = (None, 2925)  # None: the shipped skin
BATCHES = (1, 64, 1024)
CURVE = (None, 5_000, 10_000, 20_000, 35_000, 50_000)
PHOTOS = 8
REACHED = 1e-4
GOALS = {
    "one head, sliding, ms": 3.0,
    "batch 64, sliding, ms a head": 2.0,
    "compile, s": 6.0,
    "times the fastest general peer": 50.0,
    "times the floor": 3.0,
    "one head, 468 points, ms": 15.0,
}

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for fitting.json and .png.")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "Time for the repetitions of one entry.", 0.1)
_QUICK = flags.DEFINE_bool("quick", False, "The shipped skin, 104 landmarks, two peers, nothing written.")


class Workload(NamedTuple):
    """A head's size and a set of landmarks; what a process of its own is told."""

    size: int | None
    mesh: bool = False
    sliding: bool = False

    def config(self) -> FitConfig:
        """The shape given; the contour's anchors held, unless sliding."""
        return FitConfig(fit_identity=False, iterations=ITERATIONS, sliding_contour=self.sliding)

    def head(self) -> HeadModel:
        """The head, refined if need be."""
        return load_head() if self.size is None else refined_head(load_head(), self.size)

    def layout(self, head: HeadModel) -> Layout:
        """Where the landmarks lie."""
        return (mesh_layout if self.mesh else landmark_layout)(head, self.config().contour_weight)

    def fitter(self, head: HeadModel, iterations: int = ITERATIONS) -> Fitter:
        """Ours."""
        points = (mesh_points_of if self.mesh else landmark_points_of)(head)
        return make_fitter(head, replace(self.config(), iterations=iterations), points=points)


ACCELERATOR_BATCHES = {
    Workload(None, sliding=True): (1, 64, 1024, 4096, 16_384, 65_536),
    Workload(None, mesh=True, sliding=True): (1, 64, 1024),
}


def make_task(workload: Workload, photos: int) -> Task:
    """Photos of persons whose shape is known, our starts, and the energies to reach."""
    head = workload.head()
    layout = workload.layout(head)
    model = Model(head, workload.config(), layout=layout)
    given = [make_photo(head, layout, seed, known_shape=True) for seed in range(photos)]
    fitter = workload.fitter(head, iterations=0)
    starts, minima = [], []
    for photo in given:
        referee = Referee(model, photo)
        start = state_of(fit(fitter, *arguments(photo), **options(photo)))
        starts.append(start._replace(field=np.zeros_like(model.mean)))
        minima.append(referee.run(referee.scale(start), starts[-1], 50, tolerance=1e-13)[1][-1])
    return Task(model, given, starts, minima)


def arguments(photo: Photo) -> tuple[jax.Array, jax.Array, tuple[int, int]]:
    """Of :func:`digitaltwin.fitting.fit`, in float32."""
    return jnp.asarray(photo.shape, jnp.float32), jnp.asarray(photo.landmarks, jnp.float32), IMAGE_SIZE


def options(photo: Photo) -> dict[str, jax.Array]:
    """Likewise."""
    return {"scores": jnp.asarray(photo.scores, jnp.float32), "weights": jnp.asarray(photo.weights, jnp.float32)}


def gap(task: Task, index: int, state: State) -> float:
    """How far above the minimum a state lies, relative; inf if it is not finite."""
    referee = Referee(task.model, task.photos[index])
    energy = referee.energy(referee.scale(task.starts[index]), state)
    return float(energy / task.minima[index] - 1.0) if np.isfinite(energy) else float("inf")


def timings(calls: list[Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Call in turns, each at least once, until the time is spent; times of a call in ms."""
    walls, processors, begun = [], [], time.perf_counter()
    while len(walls) < len(calls) or (time.perf_counter() - begun < seconds and len(walls) < 1000):
        call = calls[len(walls) % len(calls)]
        wall, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(1e3 * (time.perf_counter() - wall))
        processors.append(1e3 * (time.process_time() - processor))
        if len(walls) >= 3 and time.perf_counter() - begun > 3.0 * seconds:
            break
    low, middle, high = np.percentile(walls, [25, 50, 75])
    return {
        "ms": float(middle), "ms_quartiles": [float(low), float(high)], "ms_best": min(walls),
        "cpu_ms": float(np.median(processors)), "calls": len(walls),
    }  # fmt: skip


def measure_peer(name: str, task: Task, seconds: float) -> dict[str, Any]:
    """One peer; meant for a process of its own."""
    begun = time.perf_counter()
    solve, read = PEERS[name].prepare(task)
    prepared, found = time.perf_counter(), solve(0)
    first = time.perf_counter()
    result = timings([partial(solve, index) for index in range(len(task.photos))], seconds)
    gaps = [gap(task, 0, read(0, found))]
    if result["ms"] < 5_000.0:
        gaps += [gap(task, index, read(index, solve(index))) for index in range(1, len(task.photos))]
    result |= {"prepare_s": prepared - begun, "first_call_s": first - prepared, "peak_mb": machine.peak_memory_mb()}
    result |= {"gap": max(gaps), "reached": max(gaps) < REACHED}
    if isinstance(found, tuple) and isinstance(found[-1], dict):  # what the solver says of itself
        result["parts_ms"] = {part: 1e3 * value for part, value in found[-1].items()}
    return result


def measure_ours(workload: Workload, task: Task, seconds: float) -> dict[str, Any]:
    """One head by this library; meant for a process of its own."""
    head = workload.head()
    begun = time.perf_counter()
    fitter = jax.block_until_ready(workload.fitter(head))
    prepared = time.perf_counter()
    calls = [partial(fit, fitter, *arguments(photo), **options(photo)) for photo in task.photos]
    begun_first = time.perf_counter()
    jax.block_until_ready(calls[0]())
    result: dict[str, Any] = {"prepare_s": prepared - begun, "first_call_s": time.perf_counter() - begun_first}
    if not workload.sliding:
        gaps = [gap(task, index, state_of(call())) for index, call in enumerate(calls)]
        result |= {"gap": max(gaps), "reached": max(gaps) < REACHED}
    result["batches"] = {"1": {**timings(calls, seconds), "peak_mb": machine.peak_memory_mb()}}
    return result


def measure_batches(
    workload: Workload, photos: list[Photo], batches: tuple[int, ...], seconds: float
) -> dict[str, Any]:
    """Batches by this library, on a device for each core; meant for a process of its own, before JAX has started."""
    if jax.config.jax_platforms in (None, "", "cpu"):  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    fitter = workload.fitter(workload.head())
    found = {}
    for batch in batches:
        call = fit_batch_of(fitter, photos, batch)
        begun = time.perf_counter()
        jax.block_until_ready(call())
        first = time.perf_counter() - begun
        found[str(batch)] = {**timings([call], seconds), "first_call_s": first, "peak_mb": machine.peak_memory_mb()}
    return found


def fit_batch_of(fitter: Fitter, photos: list[Photo], batch: int) -> Callable[[], FitResult]:
    """A fit of the photos again and again, up to a batch."""
    shapes, landmarks, scores, weights = stack(photos, batch)
    return partial(fit_batch, fitter, shapes, landmarks, IMAGE_SIZE, scores=scores, weights=weights)


def stack(photos: list[Photo], batch: int) -> list[jax.Array]:
    """The photos again and again, up to a batch."""
    chosen = [photos[index % len(photos)] for index in range(batch)]
    parts = zip(*((photo.shape, photo.landmarks, photo.scores, photo.weights) for photo in chosen))
    return [jnp.asarray(np.stack(part), jnp.float32) for part in parts]


def measure_floor(landmarks: int, columns: int) -> float:
    """Milliseconds of five times spotrf, strsm and ssyrk; meant for a process of its own."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(2 * landmarks, 3 * landmarks)).astype(np.float32)
    system = np.asfortranarray(np.eye(2 * landmarks, dtype=np.float32) + half @ half.T / landmarks)
    right = np.asfortranarray(rng.normal(size=(2 * landmarks, columns)).astype(np.float32))
    (factorise,) = get_lapack_funcs(("potrf",), (system,))
    solve, multiply = get_blas_funcs(("trsm", "syrk"), (system,))

    def once() -> np.ndarray:
        for _ in range(ITERATIONS):
            factor, _ = factorise(system, lower=1, clean=0)
            whitened = solve(1.0, factor, right, lower=1)
            product = multiply(1.0, whitened, trans=1)
        return product

    once()
    return timings([once], 2.0)["ms"]


def measure_curve(sizes: tuple[int | None, ...], seconds: float) -> list[dict[str, float]]:
    """Ours at one photo for many v; with and without iterations, in turns, so that their difference means something."""
    table = []
    for size in sizes:
        workload = Workload(size, sliding=True)
        head = workload.head()
        photo = make_photo(head, workload.layout(head), 0, known_shape=True)
        calls = [
            partial(fit, workload.fitter(head, iterations), *arguments(photo), **options(photo))
            for iterations in (ITERATIONS, 0)
        ]
        for call in calls:
            jax.block_until_ready(call())
        pairs = []
        begun = time.perf_counter()
        while len(pairs) < 10 or (time.perf_counter() - begun < seconds and len(pairs) < 500):
            times = [time.perf_counter()]
            for call in calls:
                jax.block_until_ready(call())
                times.append(time.perf_counter())
            pairs.append(1e3 * np.diff(times))
        both = np.array(pairs)
        table.append(
            {
                "vertices": len(head.mean),
                "fit_ms": float(np.median(both[:, 0])),
                "iterations_ms": float(np.median(both[:, 0] - both[:, 1])),
                "rest_ms": float(np.median(both[:, 1])),
            }
        )
    return table


def apart(function: Callable[..., Any], *given: Any, blas_threads: int | None = 1) -> Any:
    """Call in a fresh process, which reads the number of BLAS threads before it imports NumPy (None: all)."""
    before = os.environ.pop("OPENBLAS_NUM_THREADS", None)
    if blas_threads is not None:
        os.environ["OPENBLAS_NUM_THREADS"] = str(blas_threads)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            return process.submit(function, *given).result()
    finally:
        os.environ.pop("OPENBLAS_NUM_THREADS", None)
        if before is not None:
            os.environ["OPENBLAS_NUM_THREADS"] = before


def measure(
    workload: Workload,
    names: list[str],
    batches: tuple[int, ...],
    seconds: float,
    photos: int = PHOTOS,
    *,
    all_threads: bool = True,
) -> dict[str, Any]:
    """All entries of one workload; ours with all BLAS threads too, unless that is left out."""
    task = apart(make_task, workload, photos)
    landmarks, columns = len(task.model.layout.weights), len(task.model.modes) + 8
    result: dict[str, Any] = {
        "vertices": len(task.model.mean), "landmarks": landmarks, "unknowns": 3 * len(task.model.mean) + columns - 1,
        "floor_ms": min(apart(measure_floor, landmarks, columns, blas_threads=threads) for threads in (1, None)),
        "ours": apart(measure_ours, workload, task, seconds), "peers": {}, "missing": {},
    }  # fmt: skip
    sliding = workload._replace(sliding=True)
    result["ours, sliding"] = apart(measure_ours, sliding, task, seconds)
    for name, each in (("ours", workload), ("ours, sliding", sliding)):
        result[name]["batches"] |= apart(measure_batches, each, task.photos, batches[1:], seconds)
    if all_threads:
        result["ours, sliding, all BLAS threads"] = apart(measure_ours, sliding, task, seconds, blas_threads=None)
    for name in names:
        try:
            result["peers"][name] = apart(measure_peer, name, task, seconds)
        except ImportError as error:
            result["missing"][name] = str(error)
    return result


def title(name: str) -> str:
    """A peer's name in the tables."""
    return name if PEERS[name].full else f"reduced basis: {name}"


def table(result: dict[str, Any]) -> str:
    """One workload."""
    ours = result["ours"]["batches"]["1"]["ms"]
    lines = [
        f"{result['vertices']} vertices, {result['landmarks']} landmarks, {result['unknowns']} unknowns; ms a fit",
        f"  {'':42}{'median':>10}{'quartiles':>22}{'processor':>11}{'first, s':>10}{'peak, MB':>10}{'gap':>10}",
    ]
    for name in (name for name in result if name.startswith("ours")):
        for batch, times in result[name]["batches"].items():
            lines.append(_line(f"{name}, batch {batch}", {**result[name], **times}, int(batch)))
    for name, entry in result["peers"].items():
        ratio = f"  {entry['ms'] / ours:8.1f} times ours" if entry["reached"] else "  did not reach the minimum"
        lines.append(_line(title(name), entry, 1) + ratio)
        for part, ms in entry.get("parts_ms", {}).items():
            lines.append(f"    of which {part}: {ms:.1f}")
    lines += [f"  {title(name)}: not measured, {why}" for name, why in result["missing"].items()]
    lines.append(f"  floor {result['floor_ms']:.2f}; we take {ours / result['floor_ms']:.1f} times that")
    return "\n".join(lines)


def _line(name: str, entry: dict[str, Any], batch: int) -> str:
    low, high = (value / batch for value in entry["ms_quartiles"])
    spread = f"{low:.3g} to {high:.3g}"
    cells = f"{entry['ms'] / batch:10.3f}{spread:>22}{entry['cpu_ms'] / batch:11.3f}{entry['first_call_s']:10.2f}"
    distance = f"{entry['gap']:10.1e}" if "gap" in entry else f"{'':10}"
    return f"  {name:42}{cells}{entry['peak_mb']:10.0f}{distance}"


def reached(results: list[dict[str, Any]]) -> dict[str, float]:
    """What the goals speak of."""
    first = results[0]
    general = [entry["ms"] for name, entry in first["peers"].items() if PEERS[name].full and entry["reached"]]
    found = {
        "times the fastest general peer": min(general, default=np.nan) / first["ours"]["batches"]["1"]["ms"],
        "times the floor": first["ours"]["batches"]["1"]["ms"] / first["floor_ms"],
    }
    timed = first["ours, sliding"]
    found |= {"one head, sliding, ms": timed["batches"]["1"]["ms"], "compile, s": timed["first_call_s"]}
    if "64" in timed["batches"]:
        found["batch 64, sliding, ms a head"] = timed["batches"]["64"]["ms"] / 64
    mesh = [result for result in results if result["landmarks"] > 400]
    if mesh:
        found["one head, 468 points, ms"] = mesh[0]["ours, sliding"]["batches"]["1"]["ms"]
    return found


def plot(path: Path, results: list[dict[str, Any]], curve: list[dict[str, float]]) -> None:
    """Milliseconds of every entry at each workload, and the curve of ours against v."""
    from matplotlib import pyplot as plt

    columns = (len(results) + 2) // 2
    figure, grid = plt.subplots(2, columns, figsize=(6 * columns, 9), layout="constrained")
    axes = list(grid.flat)[: len(results) + 1]
    for axis in list(grid.flat)[len(axes) :]:
        axis.axis("off")
    for axis, result in zip(axes, results):
        entries = {name: result[name]["batches"]["1"]["ms"] for name in ("ours", "ours, sliding")}
        entries |= {title(name): entry["ms"] for name, entry in result["peers"].items() if entry["reached"]}
        names = sorted(entries, key=lambda name: -entries[name])
        axis.barh(names, [entries[name] for name in names],
                  color=["#2b6cb0" if name.startswith("ours") else "#a0aec0" for name in names])  # fmt: skip
        for row, name in enumerate(names):
            axis.text(entries[name], row, f" {entries[name]:.3g}", va="center", fontsize=8)
        axis.axvline(result["floor_ms"], color="black", linewidth=1, linestyle=":")
        axis.set(xscale="log", xlabel="one fit, ms (dotted: floor)",
                 title=f"{result['vertices']} vertices, {result['landmarks']} landmarks")  # fmt: skip
        axis.set_xlim(right=4 * max(entries.values()))
        axis.tick_params(axis="y", labelsize=8)
    vertices = [entry["vertices"] for entry in curve]
    for key, label in (
        ("fit_ms", "whole fit"),
        ("iterations_ms", "five iterations"),
        ("rest_ms", "start and last step"),
    ):
        axes[-1].plot(vertices, [entry[key] for entry in curve], "o-", label=label)
    axes[-1].set(xlabel="vertices", ylabel="ms", title="ours, 104 landmarks, batch 1", ylim=(0, None))
    axes[-1].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def measure_accelerator(workload: Workload, batches: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Ours on the accelerator, for batches up to where its memory ends; its floor, and how far the processor's fit is.

    The floor is the matrix work alone, as for the processor: five Cholesky factors, triangular solves and products of
    as many heads as are computed side by side, by the libraries that JAX calls.
    """
    head = workload.head()
    fitter, layout = workload.fitter(head), workload.layout(head)
    photos = [make_photo(head, layout, seed, known_shape=True) for seed in range(64)]
    rows = []
    for batch in batches:
        call = fit_batch_of(fitter, photos, batch)
        begun = time.perf_counter()
        try:
            jax.block_until_ready(call())
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            print(f"batch {batch}: out of memory")
            break
        first = time.perf_counter() - begun
        times = timings([call], seconds)
        rows.append({"batch": batch, "first_call_s": first, **times, "heads_per_s": 1e3 * batch / times["ms"]})
        print(f"  batch {batch:6}: {times['ms']:10.2f} ms, {rows[-1]['heads_per_s']:10.0f} heads/s", flush=True)
    shapes, landmarks, scores, weights = stack(photos, len(photos))
    here, there = (
        fit_batch(fitter, shapes, landmarks, IMAGE_SIZE, scores=scores, weights=weights, devices=devices)
        for devices in (None, jax.devices("cpu"))
    )
    apart_mm = float(np.max(np.linalg.norm(np.asarray(here.vertices) - np.asarray(there.vertices), axis=-1)))
    print(f"  vertices at most {apart_mm:.1e} mm from the processor's fit", flush=True)
    found = {"landmarks": fitter.landmark_count, "batches": rows, "from_processor_mm": apart_mm}
    if is_direct(1, fitter.landmark_count):
        found["floor_heads_per_s"] = accelerator_floor(fitter.landmark_count, len(head.expressions) + 8, 2048)
        print(f"  floor: {found['floor_heads_per_s']:.0f} heads/s", flush=True)
    return found


def accelerator_floor(landmarks: int, columns: int, heads: int) -> float:
    """Heads a second, were there nothing but the matrix work of five iterations."""
    keys = jax.random.split(jax.random.key(0))
    half = jax.random.normal(keys[0], (heads, 2 * landmarks, 3 * landmarks), jnp.float32)
    right = jax.random.normal(keys[1], (heads, 2 * landmarks, columns), jnp.float32)

    def system(half: jax.Array) -> jax.Array:
        return jnp.eye(len(half)) + jnp.matmul(half, half.T, precision="highest") / half.shape[1]

    @jax.jit
    def once(systems: jax.Array, right: jax.Array) -> jax.Array:
        factors = jnp.linalg.cholesky(systems, symmetrize_input=False)
        whitened = solve_triangular(factors, right, lower=True)
        return jnp.einsum("bri,brj->bij", whitened, whitened, precision="highest")

    systems = jax.jit(jax.vmap(system))(half)
    jax.block_until_ready(once(systems, right))
    return 1e3 * heads / (ITERATIONS * timings([partial(once, systems, right)], 2.0)["ms"])


def main() -> None:
    """Measure, print, write."""
    require("matplotlib")
    folder = None if _QUICK.value else make_folder(_OUT.value)
    seconds = 1.0 if _QUICK.value else _SECONDS.value
    described = {"machine": machine.describe("jax", "jaxlib", "numpy", "scipy"), "seconds_an_entry": seconds}
    if jax.default_backend() != "cpu":
        device = jax.devices()[0].device_kind
        found = []
        for workload, batches in ACCELERATOR_BATCHES.items():
            print(f"{device}; {'mesh points' if workload.mesh else 'landmarks'}, sliding, {ITERATIONS} iterations")
            found.append(measure_accelerator(workload, batches[:2] if _QUICK.value else batches, seconds))
        if folder is not None:
            name = re.sub(r"\W+", "_", device).lower()
            write_json(folder / f"fitting_{name}.json", {**described, "device": device, "workloads": found})
        return
    names = ["CHOLMOD, Gauss-Newton", "optimistix GN, Cholesky"] if _QUICK.value else list(PEERS)
    workloads = [Workload(size, mesh=mesh) for mesh in (False, True) for size in SIZES]
    results = []
    for workload in workloads[:1] if _QUICK.value else workloads:
        batches, photos = (BATCHES[:2], 2) if _QUICK.value else (BATCHES, PHOTOS)
        results.append(measure(workload, names, batches, seconds, photos, all_threads=not _QUICK.value))
        print(table(results[-1]), flush=True)
    achieved = reached(results)
    for name, value in achieved.items():
        print(f"{name:32} {value:8.2f}   goal {GOALS[name]:g}")
    if folder is None:
        return
    curve = apart(measure_curve, CURVE, seconds)
    print("vertices     whole fit    iterations    start and last step, ms")
    for entry in curve:
        print(f"{entry['vertices']:8}{entry['fit_ms']:14.2f}{entry['iterations_ms']:14.2f}{entry['rest_ms']:14.2f}")
    measured = {
        "workload": f"fit expressions, pose, focal scale and correction field, {ITERATIONS} iterations",
        "better": "lower, but for the times",
        **described,
        "photos": PHOTOS,
        "goals": GOALS,
        "reached": achieved,
        "workloads": results,
        "curve": curve,
    }
    write_json(folder / "fitting.json", measured)
    plot(folder / "fitting.png", results, curve)


if __name__ == "__main__":
    command.run(main)
