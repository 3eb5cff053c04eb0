"""Benchmark registering a scan, and its non-rigid step beside trimesh's non-rigid ICP in the same run.

    python -m benchmarks.registration

The shipped scan is registered from file to texture: landmarks found on rendered views, shape, texture. Then the
non-rigid step runs from the same head of the model with the same landmarks: the library's, and trimesh's
``nricp_amberg`` and ``nricp_sumner`` with their own schedules (which treat hair, borders and lips like all else). Last
the same scan, refined to two million triangles, is registered in a process of its own: time and memory.

Prints tables beside the goals and writes ``results/registration.json``. ``--quick`` leaves the large scan out and
writes nothing.
"""

from absl import flags

from benchmarks import harness
from benchmarks.harness import Goal

GOALS = {
    "shipped scan, all of it, s": Goal(30.0),
    "mean over the face, mm": Goal(0.5),
    "largest, mm": Goal(3.0),
    "2 M triangles, GB": Goal(4.0),
}

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for registration.json.")
_QUICK = flags.DEFINE_bool("quick", False, "Without the large scan; writes nothing.")


def main() -> None:
    """Measure, print and write."""
    from benchmarks.registration import measure
    from digitaltwin.io._files import make_folder
    from digitaltwin.io.assets import asset_path
    from digitaltwin.io.meshes import read_scan

    folder = None if _QUICK.value else make_folder(_OUT.value)
    scan, repetitions = read_scan(asset_path("scan.glb")), 1 if _QUICK.value else 3
    whole = {"shipped scan": measure.measure(scan, repetitions=repetitions)}
    steps = measure.measure_steps(scan, repetitions=repetitions)
    if folder is not None:
        whole["2 M triangles"] = harness.in_subprocess(measure.measure_large)
    rows = [[name, *(f"{value:.3g}" for value in entry.values())] for name, entry in whole.items()]
    print(harness.table(["", *whole["shipped scan"]], rows))
    own = steps[measure.OWN]["seconds"]
    rows = [
        [name, *(f"{value:.3g}" for value in entry.values()), f"{entry['seconds'] / own:.2g}"]
        for name, entry in steps.items()
    ]
    print(harness.table(["non-rigid step alone", *steps[measure.OWN], "times digitaltwin"], rows))
    shipped = whole["shipped scan"]
    reached = dict(zip(GOALS, (shipped["all_s"], shipped["mean_mm"], shipped["largest_mm"])))
    if folder is not None:
        reached["2 M triangles, GB"] = whole["2 M triangles"]["peak_gb"]
    print(harness.goals_table(GOALS, reached))
    if folder is not None:
        workload = "a scan to the head's topology and texture; the non-rigid step beside trimesh's"
        packages = ("jax", "numpy", "scipy", "trimesh", "libigl")
        measured = {"whole": whole, "non-rigid step": steps}
        harness.write_results(folder / "registration.json", workload, packages, GOALS, reached, **measured)


if __name__ == "__main__":
    harness.run(main)
