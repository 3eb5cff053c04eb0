"""What scoring a head on a scan costs, beside the same by trimesh and Open3D in the same run.

One prediction, a subject of the database in 5,266 triangles, is laid on the scan of another, 100,000 triangles with
smooth noise: by seven landmarks, then by iterated closest points, and the distances of the vertices within 95 mm of the
nose tip are measured both ways. Everything counts from arrays to numbers, the trees included.

* *ours*: ``compare_surfaces``: trimmed, point to plane, closest points of the surface by libigl's tree;
* *trimesh*: ``registration.procrustes`` and ``registration.icp`` on the scan's surface (point to point, no other is
  offered), ``proximity.closest_point``, which asks an R-tree; at most as many iterations as ours;
* *Open3D*, where it is installed: ``registration_icp``, point to plane between vertices with normals (it knows no
  surfaces there), and ``RaycastingScene.compute_closest_points``; at most as many iterations as ours.

All start from the same landmarks with the same points. Their alignments minimise different sums, so that the errors
after them differ, and are printed; the distances at one placement, ours, must agree to 0.01 mm, or the benchmark stops.

Then scans of that size and of two million triangles, from files, at the five crops of the protocol, in processes of
their own: time and memory. Prints tables beside the goals and writes ``results/evaluation.json`` with the machine's
description, and a plot. Lower is better; medians count. ``--quick`` measures ours and trimesh once, and writes nothing.
"""

import os

# Before NumPy is imported: with more BLAS threads than idle cores small least squares get slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import csv
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import trimesh
from absl import flags

from benchmarks import machine
from benchmarks.extras import find, require
from benchmarks.refinement import refine
from digitaltwin.evaluation import Comparison, Pair, ProtocolConfig, compare_surfaces, evaluate_pair
from digitaltwin.geometry import IcpConfig, Similarity
from digitaltwin.head import landmark_points, load_head, load_subjects, neutral_shape
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import LANDMARKS
from digitaltwin.io._files import make_folder, write_bytes, write_json
from experiments import command

TRIANGLES = 100_000
LARGE_TRIANGLES = 2_000_000
CROP_MM = 95.0
NOISE_MM = 0.3
SUBJECTS = (0, 7)
REACH_MM = 20.0  # Open3D pairs vertices up to here: all that lie over one another after the landmarks
AGREEMENT_MM = 0.01
GOALS = {"one pair, s": 2.0, "2 M triangles, peak MB": 4000.0}

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for evaluation.json and .png.")
_SECONDS = flags.DEFINE_float("seconds", 20.0, "Time for the repetitions of one entry.", 0.1)
_QUICK = flags.DEFINE_bool("quick", False, "Ours and trimesh once, nothing written: for a first look.")


class Surface(NamedTuple):
    """A mesh with its seven landmarks [mm]."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray


class Peer(NamedTuple):
    """How another library does it."""

    align: Callable[[Surface, Surface], Similarity]
    distances: Callable[[np.ndarray, Surface], np.ndarray]
    """From points to the closest ones of a surface."""


def subject(number: int) -> Surface:
    """The skin of a subject of the database."""
    head, subjects = load_head(), load_subjects()
    shape = neutral_shape(head, subjects.identity[number])
    landmarks = np.asarray(landmark_points(head, jnp.asarray(shape)), np.float64)[ALIGNMENT]
    return Surface(np.array(shape, np.float64), np.array(head.faces), landmarks)  # Open3D takes writable ones only


def scan_of(person: Surface, triangles: int) -> Surface:
    """A subject's skin with more triangles, at least as many as asked for, and the noise of a scanner."""
    halvings = 0
    while triangles / 4**halvings > 150_000:  # all at once from there on: splitting edges one by one takes its time
        halvings += 1
    count = len(person.vertices) + (triangles // 4**halvings - len(person.faces)) // 2 + 200
    matrix, faces = refine(person.vertices, person.faces, count)
    vertices = matrix @ person.vertices
    for _ in range(halvings):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)[:2]
    # Waves of one to three centimetres in random directions, along the normals.
    key = np.random.default_rng(0)
    directions = key.normal(size=(12, 3))
    directions *= 2.0 * np.pi / key.uniform(10.0, 30.0, size=(12, 1)) / np.linalg.norm(directions, axis=1)[:, None]
    heights = np.sin(vertices @ directions.T + key.uniform(0.0, 2.0 * np.pi, size=12)).sum(axis=1) / np.sqrt(6.0)
    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    return Surface(vertices + NOISE_MM * heights[:, None] * normals, faces, person.landmarks)


def ours(prediction: Surface, scan: Surface) -> Comparison:
    """All of it."""
    return compare_surfaces(
        prediction.vertices,
        prediction.faces,
        scan.vertices,
        scan.faces,
        landmarks=(prediction.landmarks, scan.landmarks),
        nose_tip=scan.landmarks[LANDMARKS.index("nose_tip")],
        crop_mm=CROP_MM,
    )


def within(points: np.ndarray, scan: Surface) -> np.ndarray:
    """Whether points lie in the crop."""
    return np.linalg.norm(points - scan.landmarks[LANDMARKS.index("nose_tip")], axis=1) <= CROP_MM


def from_matrix(matrix: np.ndarray) -> Similarity:
    """A rigid map of homogeneous coordinates."""
    return Similarity(1.0, np.array(matrix[:3, :3]), np.array(matrix[:3, 3]))


def landmarks_matrix(prediction: Surface, scan: Surface) -> np.ndarray:
    """The start of the peers' alignment."""
    options: dict[str, Any] = {"reflection": False, "scale": False, "return_cost": False}
    return np.asarray(trimesh.registration.procrustes(prediction.landmarks, scan.landmarks, **options))


def trimesh_peer() -> Peer:
    """With its own iteration and closest points."""

    def align(prediction: Surface, scan: Surface) -> Similarity:
        start = landmarks_matrix(prediction, scan)
        near = within(trimesh.transform_points(prediction.vertices, start), scan)
        mesh = trimesh.Trimesh(scan.vertices, scan.faces, process=False)
        matrix, _, _ = trimesh.registration.icp(
            prediction.vertices[near],
            mesh,
            initial=start,
            max_iterations=IcpConfig().iterations,
            reflection=False,
            scale=False,
        )
        return from_matrix(np.asarray(matrix))

    def distances(points: np.ndarray, surface: Surface) -> np.ndarray:
        mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
        return np.asarray(trimesh.proximity.closest_point(mesh, points)[1])

    return Peer(align, distances)


def open3d_peer(o3d: Any) -> Peer:
    """With its own iteration between vertices, and its closest points of surfaces (Embree's, float32)."""
    registration = o3d.pipelines.registration

    def cloud(surface: Surface, kept: np.ndarray) -> Any:
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(surface.vertices), o3d.utility.Vector3iVector(surface.faces)
        )
        mesh.compute_vertex_normals()
        points = o3d.geometry.PointCloud()
        points.points = o3d.utility.Vector3dVector(surface.vertices[kept])
        points.normals = o3d.utility.Vector3dVector(np.asarray(mesh.vertex_normals)[kept])
        return points

    def align(prediction: Surface, scan: Surface) -> Similarity:
        start = landmarks_matrix(prediction, scan)
        near = within(trimesh.transform_points(prediction.vertices, start), scan)
        found = registration.registration_icp(
            cloud(prediction, near),
            cloud(scan, np.ones(len(scan.vertices), bool)),
            REACH_MM,
            start,
            registration.TransformationEstimationPointToPlane(),
            registration.ICPConvergenceCriteria(max_iteration=IcpConfig().iterations),
        )
        return from_matrix(np.asarray(found.transformation))

    def distances(points: np.ndarray, surface: Surface) -> np.ndarray:
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            o3d.core.Tensor(surface.vertices.astype(np.float32)), o3d.core.Tensor(surface.faces.astype(np.uint32))
        )
        closest = scene.compute_closest_points(o3d.core.Tensor(points.astype(np.float32)))["points"].numpy()
        return np.linalg.norm(points - closest, axis=1)

    return Peer(align, distances)


def both_ways(peer: Peer, placement: Similarity, prediction: Surface, scan: Surface) -> list[np.ndarray]:
    """Distances of prediction and scan within the crop, NaN elsewhere."""
    placed = prediction._replace(vertices=placement.apply(prediction.vertices))
    results = []
    for points, other in ((placed.vertices, scan), (scan.vertices, placed)):
        asked = within(points, scan)
        values = np.full(len(points), np.nan)
        values[asked] = peer.distances(points[asked], other)
        results.append(values)
    return results


def rms(values: np.ndarray, counted: np.ndarray) -> float:
    """Root mean square of those that ours counts, too."""
    return float(np.sqrt(np.nanmean(values[np.isfinite(counted)] ** 2)))


def median_seconds(function: Callable[[], Any], budget_s: float) -> tuple[float, float]:
    """Median wall and processor time of a call, the first left out unless it alone takes the time there is."""
    times, begin = [], time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begin < budget_s:
        start, cpu = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - start, time.process_time() - cpu))
        if times[0][0] > budget_s:
            break
    wall, cpu = np.median(times[1:] or times, axis=0)
    return float(wall), float(cpu)


def measure_peer(
    peer: Peer, prediction: Surface, scan: Surface, found: Comparison, budget_s: float
) -> dict[str, float]:
    """Times of one library, its error, and how far its distances are from ours at our placement."""
    agreement = [
        float(np.abs(theirs - mine)[np.isfinite(mine)].max())
        for theirs, mine in zip(
            both_ways(peer, found.scan_from_prediction, prediction, scan), (found.prediction_mm, found.scan_mm)
        )
    ]
    if not max(agreement) < AGREEMENT_MM:
        raise RuntimeError(f"distances disagree by {max(agreement):.3g} mm: the time would mean nothing")
    placement = peer.align(prediction, scan)
    distances = both_ways(peer, placement, prediction, scan)
    align_s, align_cpu_s = median_seconds(lambda: peer.align(prediction, scan), budget_s)
    distances_s, distances_cpu_s = median_seconds(lambda: both_ways(peer, placement, prediction, scan), budget_s)
    errors = [rms(theirs, mine) for theirs, mine in zip(distances, (found.prediction_mm, found.scan_mm))]
    return {
        "s": align_s + distances_s,
        "cpu_s": align_cpu_s + distances_cpu_s,
        "align_s": align_s,
        "distances_s": distances_s,
        "armse_mm": float(np.mean(errors)),
        "agreement_mm": max(agreement),
    }


def measure_ours(prediction: Surface, scan: Surface, budget_s: float) -> tuple[dict[str, float], Comparison]:
    """Ours, the first call of a process apart: it compiles what JAX does of it."""
    start = time.perf_counter()
    found = ours(prediction, scan)
    first_s = time.perf_counter() - start
    wall_s, cpu_s = median_seconds(lambda: ours(prediction, scan), budget_s)
    errors = [rms(values, values) for values in (found.prediction_mm, found.scan_mm)]
    return {"s": wall_s, "cpu_s": cpu_s, "first_s": first_s, "armse_mm": float(np.mean(errors))}, found


def write_pair(folder: Path, prediction: Surface, scan: Surface) -> Pair:
    """Files as the protocol reads them."""
    for name, surface in (("prediction", prediction), ("scan", scan)):
        mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
        write_bytes(folder / f"{name}.ply", cast(bytes, mesh.export(file_type="ply")))
        text = io.StringIO()
        csv.writer(text).writerows([[name, *map(float, point)] for name, point in zip(LANDMARKS, surface.landmarks)])
        write_bytes(folder / f"{name}.csv", text.getvalue().encode())
    files = [folder / f"{name}.{suffix}" for name in ("prediction", "scan") for suffix in ("ply", "csv")]
    return Pair("one", "one", "all", *files)


def measure_files(pair: Pair) -> dict[str, float]:
    """One pair from files at all crops; meant for a process of its own, whose peak is then theirs."""
    before = machine.peak_memory_mb()
    start = time.perf_counter()
    scored = evaluate_pair(pair, ProtocolConfig())
    seconds = time.perf_counter() - start
    return {
        "triangles": len(trimesh.load(pair.scan, process=False).faces),  # pyright: ignore[reportAttributeAccessIssue]
        "s": seconds,
        "peak MB": machine.peak_memory_mb(),
        "peak MB before": before,
        "armse_mm": float(scored.errors.armse[-1]),
    }


def table(entries: dict[str, dict[str, float]]) -> str:
    """A line a library."""
    lines = []
    for name, entry in entries.items():
        line = f"  {name:8} {entry['s']:8.3f} s  processor {entry['cpu_s']:7.3f} s  ARMSE {entry['armse_mm']:.4f} mm"
        if name != "ours":
            parts = f"align {entry['align_s']:.3f} s, distances {entry['distances_s']:.3f} s"
            times = entry["s"] / entries["ours"]["s"]
            line += f"  = {times:4.1f} times ours ({parts}; distances agree to {entry['agreement_mm']:.0e} mm)"
        lines.append(line)
    return "\n".join(lines)


def plot(path: Path, entries: dict[str, dict[str, float]]) -> None:
    """Seconds of every library, beside the goal."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 0.6 * len(entries) + 1.4), layout="constrained")
    names, values = list(entries), [entry["s"] for entry in entries.values()]
    axis.barh(names, values, color=["#2b6cb0" if name == "ours" else "#a0aec0" for name in names])
    for row, (value, entry) in enumerate(zip(values, entries.values())):
        label = f"{value:.2f} s, ARMSE {entry['armse_mm']:.3f} mm"
        axis.text(value * 1.08, row, label, va="center", fontsize=9, backgroundcolor="white")
    axis.axvline(GOALS["one pair, s"], color="black", linestyle="dashed", zorder=0)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="alignment and distances both ways, s (dashed: goal)")
    axis.set_title(f"a head on a scan of {TRIANGLES:,} triangles", fontsize=10)
    axis.set_xlim(min(values) / 3.0, max(values) * 10.0)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, write."""
    results_folder = None if _QUICK.value else make_folder(_OUT.value)
    require("rtree", "matplotlib")
    prediction, person = (subject(number) for number in SUBJECTS)
    scan = scan_of(person, TRIANGLES)
    budget_s = 0.1 if _QUICK.value else _SECONDS.value
    entries = {}
    entries["ours"], found = measure_ours(prediction, scan, budget_s)
    entries["trimesh"] = measure_peer(trimesh_peer(), prediction, scan, found, budget_s)
    o3d = None if _QUICK.value else find("open3d")
    if o3d is not None:
        entries["Open3D"] = measure_peer(open3d_peer(o3d), prediction, scan, found, budget_s)
    print(f"{len(prediction.faces)} triangles on {len(scan.faces)}; first call {entries['ours']['first_s']:.2f} s")
    print(table(entries), flush=True)
    if results_folder is None:
        return
    files = {}
    for triangles in (TRIANGLES, LARGE_TRIANGLES):
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
        ):
            pair = write_pair(Path(folder), prediction, scan_of(person, triangles))
            files[str(triangles)] = process.submit(measure_files, pair).result()
        many = files[str(triangles)]
        print(
            f"from files, five crops, {many['triangles']} triangles: {many['s']:.2f} s, peak {many['peak MB']:.0f} MB"
        )
    reached = {"one pair, s": entries["ours"]["s"], "2 M triangles, peak MB": many["peak MB"]}
    for name, value in reached.items():
        print(f"{name:24} {value:8.2f}   goal {GOALS[name]:g}")
    packages = ("jax", "numpy", "scipy", "libigl", "trimesh", "rtree", *(("open3d",) if o3d is not None else ()))
    measured = {
        "workload": f"one head on a scan of {TRIANGLES} triangles; one of {LARGE_TRIANGLES} from files",
        "better": "lower",
        "machine": machine.describe(*packages),
        "seconds": budget_s,
        "goals": GOALS,
        "reached": reached,
        "libraries": entries,
        "files": files,
    }
    write_json(results_folder / "evaluation.json", measured)
    plot(results_folder / "evaluation.png", entries)


if __name__ == "__main__":
    command.run(main)
