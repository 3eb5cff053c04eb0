"""What registering a scan costs, and how near it comes, beside trimesh's non-rigid ICP in the same run.

The shipped scan, from file to texture: landmarks found on rendered views, shape, texture. Then the non-rigid step,
from the same head of the model, with the same landmarks: ours, and trimesh's ``nricp_amberg`` and ``nricp_sumner`` with
their own schedules (to which hair, borders and lips are like all else). Last the same scan refined to two million
triangles, in a process of its own: time and memory.

Prints tables beside the goals and writes ``results/registration.json`` with the machine's description. Lower is better.
``--quick`` leaves the large scan out and writes nothing.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import trimesh
from absl import flags

from benchmarks import machine
from benchmarks.refinement import refine
from digitaltwin.geometry import SurfacePoints
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan
from digitaltwin.registration import (
    Registration,
    find_landmarks,
    nonrigid_icp,
    register_scan,
    scan_distances,
    transfer_texture,
)
from digitaltwin.texture import make_layout
from digitaltwin.types import Mesh
from experiments import command

LARGE_TRIANGLES = 2_000_000
GOALS = {
    "shipped scan, all of it, s": 30.0,
    "mean over the face, mm": 0.5,
    "largest, mm": 3.0,
    "2 M triangles, GB": 4.0,
}

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for registration.json.")
_QUICK = flags.DEFINE_bool("quick", False, "Without the large scan; nothing written.")


def measure(scan: Mesh, *, repetitions: int) -> dict[str, Any]:
    """Seconds of each stage, the first time (with what compiles) and the median of the others; errors, memory."""
    head, seconds = load_head(), []
    layout = make_layout(head, reach_mm=float("inf"))
    for _ in range(1 + repetitions):
        times = [time.perf_counter()]
        landmarks = find_landmarks(head, scan)
        times.append(time.perf_counter())
        found = register_scan(head, scan.vertices, scan.faces, landmarks)
        times.append(time.perf_counter())
        jax.block_until_ready(transfer_texture(head, layout, found, scan))
        times.append(time.perf_counter())
        seconds.append(np.diff(times))
    later = np.median(seconds[1:] if repetitions else seconds, axis=0)
    stages = ("landmarks_s", "shape_s", "texture_s")
    return {
        "faces": len(scan.faces),
        "first_s": float(np.sum(seconds[0])),
        **dict(zip(stages, later.tolist())),
        "all_s": float(later.sum()),
        **errors(head, found),
        "peak_gb": machine.peak_memory_mb() / 1e3,
    }


def errors(head: HeadModel, found: Registration) -> dict[str, float]:
    """How near the skin is to the scan and its landmarks [mm]."""
    distances = scan_distances(head, found)
    judged = distances.distances_mm[distances.valid]
    return {
        "mean_mm": float(judged.mean()),
        "largest_mm": float(judged.max()),
        "landmarks_mm": float(np.nanmean(distances.landmarks_mm)),
    }


def measure_large() -> dict[str, Any]:
    """A scan of two million triangles; meant for a process of its own, whose peak memory is its own."""
    scan = read_scan(asset_path("scan.glb"))
    assert scan.uv is not None
    rows, faces = refine(scan.vertices, scan.faces, len(scan.vertices) + (LARGE_TRIANGLES - len(scan.faces)) // 2)
    return measure(Mesh(rows @ scan.vertices, faces, rows @ scan.uv, texture=scan.texture), repetitions=0)


def measure_steps(scan: Mesh, *, repetitions: int) -> dict[str, dict[str, float]]:
    """The non-rigid step, ours and trimesh's: from the same head, with the same landmarks, nothing said of hair."""
    head = load_head()
    begin = register_scan(head, scan.vertices, scan.faces, find_landmarks(head, scan))
    faces, known = np.asarray(head.faces), np.isfinite(begin.landmarks).all(axis=1)
    on_faces, barycentric = (np.asarray(part)[known] for part in head.landmarks)
    positions = begin.landmarks[known]
    marks = (SurfacePoints(on_faces, barycentric), positions)
    source = trimesh.Trimesh(begin.model, faces, process=False)
    target = trimesh.Trimesh(begin.scan.vertices, begin.scan.faces, process=False)
    given = {"source_landmarks": (on_faces, barycentric), "target_positions": positions}
    solvers: dict[str, Callable[[], Any]] = {
        "ours": lambda: nonrigid_icp(begin.model, faces, begin.scan, landmarks=marks),
        "trimesh, nricp_amberg": lambda: trimesh.registration.nricp_amberg(source, target, **given),
        "trimesh, nricp_sumner": lambda: trimesh.registration.nricp_sumner(source, target, **given),
    }
    found = {}
    for name, solve in solvers.items():
        seconds: list[float] = []
        laid = begin.model
        for _ in range(repetitions):
            begun = time.perf_counter()
            laid = np.asarray(solve())
            seconds.append(time.perf_counter() - begun)
        found[name] = {"seconds": float(np.median(seconds)), **errors(head, begin._replace(vertices=laid))}
    return found


def main() -> None:
    """Measure, print, write."""
    command.keep_compiled_programs()
    folder = None if _QUICK.value else make_folder(_OUT.value)
    scan, repetitions = read_scan(asset_path("scan.glb")), 1 if _QUICK.value else 3
    whole = {"shipped scan": measure(scan, repetitions=repetitions)}
    steps = measure_steps(scan, repetitions=repetitions)
    if folder is not None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            whole["2 M triangles"] = process.submit(measure_large).result()
    for name, entry in whole.items():
        print(f"{name:24}" + "  ".join(f"{key} {value:.3g}" for key, value in entry.items()))
    print("the non-rigid step alone")
    for name, entry in steps.items():
        ratio = entry["seconds"] / steps["ours"]["seconds"]
        print(f"{name:24}" + "  ".join(f"{key} {value:.3g}" for key, value in entry.items()) + f"  x {ratio:.2g}")
    shipped = whole["shipped scan"]
    reached = dict(zip(GOALS, (shipped["all_s"], shipped["mean_mm"], shipped["largest_mm"])))
    if "2 M triangles" in whole:
        reached["2 M triangles, GB"] = whole["2 M triangles"]["peak_gb"]
    for name, value in reached.items():
        print(f"{name:32} {value:8.2f}   goal {GOALS[name]:g}")
    if folder is not None:
        described = {
            "workload": "a scan to the head's topology and texture; the non-rigid step beside trimesh's",
            "better": "lower",
            "machine": machine.describe("jax", "numpy", "scipy", "trimesh", "libigl"),
        }
        results = {**described, "goals": GOALS, "reached": reached, "whole": whole, "non-rigid step": steps}
        write_json(folder / "registration.json", results)


if __name__ == "__main__":
    command.run(main)
