"""Benchmark the fit of a head beside general least-squares solvers on the same photos in the same run.

    python -m benchmarks.fitting

All minimise the fit's energy over expressions (52), pose and focal scale (7) and the field's 3v, the contour's anchors
held so that there is one minimum; all start where the library's EPnP puts them and do five iterations. A solver that
does not come within 1e-4 of the reference's minimum (relative) is listed as such, without a ratio.

Sizes: the shipped skin and a refined copy of 2,925 vertices; the 104 landmarks and the mesh's 468 points. Every entry
runs in a process of its own with one OpenBLAS thread, because more make SciPy's solvers slower, and so does JAX's
factorisation on a processor, which is SciPy's. Batches go through :func:`digitaltwin.fitting.fit_batch` on a device for
each core. Times are medians and quartiles of wall time over photos and repetitions, with processor time beside, from
landmarks to vertices; the first call, which compiles, is given separately. The floor is what five iterations take in
LAPACK and BLAS calls alone (a float32 Cholesky factor of 2k x 2k, a triangular solve for e + 8 right-hand sides and the
product of what that leaves), with one thread or all, whichever is faster.

Prints tables and goals; writes ``results/fitting.json`` and a plot with the cost against v. Where JAX has an
accelerator, batches up to 65,536 are timed on it and ``results/fitting_DEVICE.json`` is written instead. ``--quick``
measures the shipped skin with 104 landmarks and two peers, and writes nothing.
"""

import re
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import harness
from benchmarks.harness import Goal

SIZES = (None, 2925)  # None: the shipped skin
BATCHES = (64, 1024)  # beside 1
CURVE = (None, 5_000, 10_000, 20_000, 35_000, 50_000)
PHOTOS = 8
QUICK_PEERS = ("SciPy LSMR, Gauss-Newton", "reduced basis: optimistix GN, Cholesky")
ACCELERATOR_BATCHES = {False: (1, 64, 1024, 4096, 16_384, 65_536), True: (1, 64, 1024)}  # True: the mesh's points
GOALS = {
    "one head, sliding, ms": Goal(3.0),
    "batch 64, sliding, ms a head": Goal(2.0),
    "compile, s": Goal(6.0),
    "times the fastest general peer": Goal(50.0, at_least=True),
    "times the floor": Goal(3.0),
    "one head, 468 points, ms": Goal(15.0),
}
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "scikit-sparse", "pyceres", "jaxopt", "optimistix", "lineax")

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for fitting.json and fitting.png.")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "Time for the repetitions of one entry.", 0.1)
_QUICK = flags.DEFINE_bool("quick", False, "The shipped skin, 104 landmarks, two peers; writes nothing.")


def main() -> None:
    """Measure, print and write."""
    harness.require("matplotlib")
    import jax

    from benchmarks.fitting import measure
    from digitaltwin.io._files import make_folder

    folder = None if _QUICK.value else make_folder(_OUT.value)
    seconds = 1.0 if _QUICK.value else _SECONDS.value
    if jax.default_backend() != "cpu":
        return accelerator(folder, seconds)
    names = QUICK_PEERS if _QUICK.value else tuple(measure.PEERS)
    workloads = [measure.Workload(size, mesh=mesh) for mesh in (False, True) for size in SIZES]
    batches, photos = (BATCHES[:1], 2) if _QUICK.value else (BATCHES, PHOTOS)
    results = []
    for workload in workloads[:1] if _QUICK.value else workloads:
        results.append(measure.measure(workload, names, batches, seconds, photos))
        print(measure.workload_table(results[-1]), flush=True)
    reached = measure.reached(results)
    print(harness.goals_table(GOALS, reached), flush=True)
    if folder is not None:
        curve = harness.in_subprocess(measure.measure_curve, CURVE, seconds, blas_threads=1)
        print(measure.curve_table(curve))
        named = f"fit expressions, pose, focal scale and correction field, {measure.ITERATIONS} iterations"
        measured = {"seconds_an_entry": seconds, "photos": PHOTOS, "workloads": results, "curve": curve}
        harness.write_results(folder / "fitting.json", named, PACKAGES, GOALS, reached, **measured)
        measure.plot(folder / "fitting.png", results, curve)


def accelerator(folder: Path | None, seconds: float) -> None:
    """Measure, print and write the accelerator's table."""
    from benchmarks.fitting import measure

    found: list[dict[str, Any]] = []
    for mesh, batches in ACCELERATOR_BATCHES.items():
        workload = measure.Workload(None, mesh=mesh, sliding=True)
        found.append(measure.measure_accelerator(workload, batches[:2] if _QUICK.value else batches, seconds))
        rows = [[batch, f"{row['ms']:.2f}", f"{row['heads_per_s']:.0f}"] for batch, row in found[-1]["batches"].items()]
        print(harness.table([f"{found[-1]['landmarks']} landmarks, sliding: batch", "ms", "heads a second"], rows))
        print(f"vertices at most {found[-1]['from_processor_mm']:.1e} mm from the processor's fit", flush=True)
    if folder is not None:
        name = re.sub(r"\W+", "_", measure.jax.devices()[0].device_kind).lower()
        named = "fit with sliding contour, batches on an accelerator"
        harness.write_results(folder / f"fitting_{name}.json", named, PACKAGES, {}, {}, workloads=found)


if __name__ == "__main__":
    harness.run(main)
