"""Benchmark scoring a head on a scan beside trimesh and Open3D in the same run.

    python -m benchmarks.evaluation

One prediction, a subject of the database in 5,266 triangles, is aligned with the scan of another, 100,000 triangles
with smooth noise, by seven landmarks and then ICP, and the distances of the vertices within 95 mm of the nose tip are
measured both ways. Times count from arrays to numbers, the trees included.

* *digitaltwin*: ``compare_surfaces``: trimmed, point to plane, closest points of the surface by libigl's tree;
* *trimesh*: ``registration.procrustes`` and ``registration.icp`` on the scan's surface (point to point, no other is
  offered), ``proximity.closest_point``, which asks an R-tree; at most as many iterations as the library;
* *Open3D*, where it is installed: ``registration_icp``, point to plane between vertices with normals (it knows no
  surfaces there), and ``RaycastingScene.compute_closest_points``; at most as many iterations as the library.

All start from the same landmarks with the same points. Their alignments minimise different sums, so that the errors
after them differ, and are printed; the distances at one placement, the library's, must agree to 0.01 mm, or the
benchmark stops.

Then scans of that size and of two million triangles are scored from files, at the five crops of the protocol, in
processes of their own: time and memory. Prints tables beside the goals and writes ``results/evaluation.json`` and a
plot. ``--quick`` measures the library and trimesh once, and writes nothing.
"""

import tempfile
from pathlib import Path

from absl import flags

from benchmarks import harness
from benchmarks.harness import Goal

TRIANGLES = 100_000
LARGE_TRIANGLES = 2_000_000
SUBJECTS = (0, 7)
GOALS = {"one pair, s": Goal(2.0), "2 M triangles, peak MB": Goal(4000.0)}

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for evaluation.json and evaluation.png.")
_SECONDS = flags.DEFINE_float("seconds", 20.0, "Time for the repetitions of one entry.", 0.1)
_QUICK = flags.DEFINE_bool("quick", False, "The library and trimesh once; writes nothing.")


def main() -> None:
    """Measure, print and write."""
    harness.require("rtree", "matplotlib")
    from benchmarks.evaluation import measure
    from digitaltwin.io._files import make_folder

    results = None if _QUICK.value else make_folder(_OUT.value)
    prediction, person = (measure.subject(number) for number in SUBJECTS)
    scan = measure.make_scan(person, TRIANGLES)
    budget_s = 0.1 if _QUICK.value else _SECONDS.value
    entries = {}
    entries[measure.OWN], found = measure.measure_library(prediction, scan, budget_s)
    given = (prediction, scan, found, budget_s)
    entries["trimesh"] = measure.measure_peer(measure.trimesh_peer(), *given)
    open3d = None if _QUICK.value else harness.find("open3d")
    if open3d is not None:
        entries["Open3D"] = measure.measure_peer(measure.open3d_peer(open3d), *given)
    first_s = entries[measure.OWN]["first_s"]
    print(f"{len(prediction.faces)} triangles on {len(scan.faces)}; first call {first_s:.2f} s")
    print(measure.libraries_table(entries), flush=True)
    if results is None:
        return
    files = {}
    for triangles in (TRIANGLES, LARGE_TRIANGLES):
        with tempfile.TemporaryDirectory() as folder:
            pair = measure.write_pair(Path(folder), prediction, measure.make_scan(person, triangles))
            files[str(triangles)] = harness.in_subprocess(measure.measure_files, pair)
    rows = [[name, f"{entry['s']:.2f}", f"{entry['peak MB']:.0f}"] for name, entry in files.items()]
    print(harness.table(["triangles, from files at five crops", "s", "peak, MB"], rows))
    reached = {"one pair, s": entries[measure.OWN]["s"], "2 M triangles, peak MB": files[str(triangles)]["peak MB"]}
    print(harness.goals_table(GOALS, reached))
    workload = f"one head on a scan of {TRIANGLES} triangles; one of {LARGE_TRIANGLES} from files"
    packages = ("jax", "numpy", "scipy", "libigl", "trimesh", "rtree", "open3d")
    measured = {"seconds": budget_s, "libraries": entries, "files": files}
    harness.write_results(results / "evaluation.json", workload, packages, GOALS, reached, **measured)
    title = f"a head on a scan of {TRIANGLES:,} triangles"
    measure.plot(results / "evaluation.png", entries, GOALS["one pair, s"].value, title)


if __name__ == "__main__":
    # Before NumPy is imported: with more BLAS threads than idle cores small least squares get slower.
    harness.run(main, blas_threads=1)
