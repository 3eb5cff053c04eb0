"""Measurements of the registration benchmark."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import trimesh

from benchmarks import harness
from benchmarks.refinement import refine
from digitaltwin.geometry import SurfacePoints
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan
from digitaltwin.registration import find_landmarks, nonrigid_icp, register_scan, scan_distances, transfer_texture
from digitaltwin.registration._register import Registration
from digitaltwin.texture import make_layout
from digitaltwin.types import Mesh

LARGE_TRIANGLES = 2_000_000
OWN = "digitaltwin"


def measure(scan: Mesh, *, repetitions: int) -> dict[str, Any]:
    """Measure seconds of all stages the first time, which compiles, and of each at the median; errors, memory."""
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
        "peak_gb": harness.peak_memory_mb() / 1e3,
    }


def errors(head: HeadModel, found: Registration) -> dict[str, float]:
    """Return how near the skin is to the scan and its landmarks [mm]."""
    distances = scan_distances(head, found)
    judged = distances.distances_mm[distances.valid]
    return {
        "mean_mm": float(judged.mean()),
        "largest_mm": float(judged.max()),
        "landmarks_mm": float(np.nanmean(distances.landmarks_mm)),
    }


def measure_large() -> dict[str, Any]:
    """Measure a scan of two million triangles; meant for a process of its own, whose peak memory is its own."""
    scan = read_scan(asset_path("scan.glb"))
    assert scan.uv is not None
    rows, faces = refine(scan.vertices, scan.faces, len(scan.vertices) + (LARGE_TRIANGLES - len(scan.faces)) // 2)
    return measure(Mesh(rows @ scan.vertices, faces, rows @ scan.uv, texture=scan.texture), repetitions=0)


def measure_steps(scan: Mesh, *, repetitions: int) -> dict[str, dict[str, float]]:
    """Measure the non-rigid step and trimesh's from the same head, with the same landmarks; hair is not masked."""
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
        OWN: lambda: nonrigid_icp(begin.model, faces, begin.scan, landmarks=marks),
        "trimesh, nricp_amberg": lambda: trimesh.registration.nricp_amberg(source, target, **given),
        "trimesh, nricp_sumner": lambda: trimesh.registration.nricp_sumner(source, target, **given),
    }
    found = {}
    for name, solve in solvers.items():
        result, walls = begin.model, []
        for _ in range(repetitions):
            with harness.stopwatch() as taken:
                result = np.asarray(solve())
            walls.append(taken["wall_s"])
        found[name] = {"seconds": float(np.median(walls)), **errors(head, begin._replace(vertices=result))}
    return found
