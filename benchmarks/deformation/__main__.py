"""Benchmark encoding, decoding and augmenting heads beside SciPy and libigl in the same run.

    python -m benchmarks.deformation

Decoding a feature into a mesh, for each head of a batch:

* *digitaltwin*: nested dissection, and the dense inverse; float32, all cores;
* *SciPy, factored once* (a): SuperLU with a fill-reducing ordering, sparse right-hand side; float64, one mesh at a
  time;
* *SciPy, rebuilding* (b): A is assembled and factored for every mesh, as published code for this representation does;
  and *SciPy, refactoring*: it is only factored;
* *libigl* (c): the same right-hand side, solved by its prefactored ``min_quad_with_fixed``.

Sizes: the shipped skin, and copies of it refined to 2,925 and 11,000 vertices. All meshes of all peers agree to
0.01 mm, or the benchmark stops. The floor is the multiply-adds of K and of the solve, with and without the zeros that
pad blocks, at the rate of a large float32 matrix product measured in the same run. Peers run in this process, one mesh
at a time with one BLAS thread (more make them slower), so that their time a head is the same for every batch. The
library uses all cores, so its processor time is given beside, and the ratio to that.

Prints tables beside the goals and writes ``results/deformation.json`` and a plot. ``--quick`` measures the shipped skin
at batch 64 alone and writes nothing.
"""

from absl import flags

from benchmarks import harness
from benchmarks.harness import Goal

SIZES = (None, 2925, 11_000)  # None: the shipped skin
BATCHES = (1, 64, 10_000)
HEADS = 10_000
GOALS = {
    "augment 10,000, s": Goal(6.0),
    "peak MB": Goal(2000.0),
    "times (a) at batch 64": Goal(4.0, at_least=True),
    "times (b) at batch 64": Goal(60.0, at_least=True),
}

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for deformation.json and deformation.png.")
_RUNS = flags.DEFINE_integer("runs", 15, "Timings of each batch, of which the median counts.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "The shipped skin at batch 64; writes nothing.")


def main() -> None:
    """Measure, print and write."""
    harness.require("igl", "matplotlib")
    from benchmarks.deformation import measure
    from benchmarks.linear_algebra import multiply_adds_per_s
    from digitaltwin.io._files import make_folder

    sizes, batches = (SIZES[:1], (64,)) if _QUICK.value else (SIZES, BATCHES)
    folder = None if _QUICK.value else make_folder(_OUT.value)
    rate = multiply_adds_per_s(5)
    print(f"a large float32 product: {rate / 1e9:.0f} G multiply-adds/s")
    results = []
    for size in sizes:
        results.append(measure.measure_size(size, batches, _RUNS.value))
        print(measure.size_table(results[-1], rate), flush=True)
    if folder is None:
        return
    many = harness.in_subprocess(measure.measure_augmentation, None, HEADS)
    print(f"{HEADS} new heads: " + ", ".join(f"{name} {value:.1f}" for name, value in many.items()))
    decode_ms = results[0]["decode_ms"]
    own = decode_ms[measure.DISSECTED]["64"]
    reached = {
        "augment 10,000, s": many["mix + decode, s"],
        "peak MB": many["peak MB"],
        "times (a) at batch 64": decode_ms["SciPy, factored once (a)"]["any"] / own,
        "times (b) at batch 64": decode_ms["SciPy, rebuilding (b)"]["any"] / own,
    }
    print(harness.goals_table(GOALS, reached))
    measured = {"multiply_adds_per_s": rate, "runs": _RUNS.value, "sizes": results, "augment": many}
    workload = "decode deformation features; mix and decode 10,000 heads"
    packages = ("jax", "jaxlib", "numpy", "scipy", "libigl")
    harness.write_results(folder / "deformation.json", workload, packages, GOALS, reached, **measured)
    measure.plot(folder / "deformation.png", results, rate)


if __name__ == "__main__":
    # Before NumPy is imported: SciPy's solvers run ten times slower with more BLAS threads on a busy machine.
    harness.run(main, blas_threads=1)
