"""Measurements of the evaluation benchmark, its tables and its plot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import trimesh

from benchmarks import harness
from benchmarks.refinement import refine
from digitaltwin.evaluation import ProtocolConfig, compare_surfaces, evaluate_pair
from digitaltwin.evaluation._metrics import Comparison
from digitaltwin.evaluation._protocol import Pair
from digitaltwin.evaluation._scored_pairs import write_surface
from digitaltwin.geometry import IcpConfig, Similarity
from digitaltwin.head import landmark_points, load_head, load_subjects, neutral_shape
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import LANDMARKS

CROP_MM = 95.0
NOISE_MM = 0.3
REACH_MM = 20.0  # Open3D pairs vertices up to here: all that lie over one another after the landmarks
AGREEMENT_MM = 0.01
OWN = "digitaltwin"


class Surface(NamedTuple):
    """A mesh with its seven landmarks [mm]."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray


class Peer(NamedTuple):
    """Another library's way."""

    align: Callable[[Surface, Surface], Similarity]
    distances: Callable[[np.ndarray, Surface], np.ndarray]
    """Distances from points to the closest ones of a surface [mm]."""


def subject(number: int) -> Surface:
    """Return the skin of a subject of the database."""
    head, subjects = load_head(), load_subjects()
    shape = neutral_shape(head, subjects.identity[number])
    landmarks = np.asarray(landmark_points(head, jnp.asarray(shape)), np.float64)[ALIGNMENT]
    return Surface(np.array(shape, np.float64), np.array(head.faces), landmarks)  # Open3D takes writable ones only


def make_scan(person: Surface, triangles: int) -> Surface:
    """Refine a subject's skin to at least some number of triangles, with the noise of a scanner."""
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


def compare(prediction: Surface, scan: Surface) -> Comparison:
    """Align and measure with the library."""
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
    """Tell which points lie in the crop."""
    return np.linalg.norm(points - scan.landmarks[LANDMARKS.index("nose_tip")], axis=1) <= CROP_MM


def from_matrix(matrix: np.ndarray) -> Similarity:
    """Convert a rigid map of homogeneous coordinates."""
    return Similarity(1.0, np.array(matrix[:3, :3]), np.array(matrix[:3, 3]))


def landmarks_matrix(prediction: Surface, scan: Surface) -> np.ndarray:
    """Return the start of the peers' alignment."""
    options: dict[str, Any] = {"reflection": False, "scale": False, "return_cost": False}
    return np.asarray(trimesh.registration.procrustes(prediction.landmarks, scan.landmarks, **options))


def trimesh_peer() -> Peer:
    """Prepare trimesh, with its own ICP and closest points."""

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
    """Prepare Open3D, with its own ICP between vertices, and its closest points of surfaces (Embree's, float32)."""
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
    """Measure the distances of prediction and scan within the crop, NaN elsewhere [mm]."""
    placed = prediction._replace(vertices=placement.apply(prediction.vertices))
    results = []
    for points, other in ((placed.vertices, scan), (scan.vertices, placed)):
        asked = within(points, scan)
        values = np.full(len(points), np.nan)
        values[asked] = peer.distances(points[asked], other)
        results.append(values)
    return results


def rms(values: np.ndarray, counted: np.ndarray) -> float:
    """Return the root mean square of the distances that the library counts, too."""
    return float(np.sqrt(np.nanmean(values[np.isfinite(counted)] ** 2)))


def measure_peer(
    peer: Peer, prediction: Surface, scan: Surface, found: Comparison, budget_s: float
) -> dict[str, float]:
    """Measure a peer's times and error, and how far its distances are from the library's at the same placement."""
    own = (found.prediction_mm, found.scan_mm)
    others = both_ways(peer, found.scan_from_prediction, prediction, scan)
    agreement = max(float(np.abs(other - mine)[np.isfinite(mine)].max()) for other, mine in zip(others, own))
    if not agreement < AGREEMENT_MM:
        raise RuntimeError(f"distances disagree by {agreement:.3g} mm: the time would mean nothing")
    placement = peer.align(prediction, scan)
    errors = [rms(other, mine) for other, mine in zip(both_ways(peer, placement, prediction, scan), own)]
    align = harness.time_calls(lambda: peer.align(prediction, scan), budget_s, warm_up=True)
    distances = harness.time_calls(lambda: both_ways(peer, placement, prediction, scan), budget_s, warm_up=True)
    return {
        "s": align.wall_s + distances.wall_s,
        "cpu_s": align.cpu_s + distances.cpu_s,
        "align_s": align.wall_s,
        "distances_s": distances.wall_s,
        "armse_mm": float(np.mean(errors)),
        "agreement_mm": agreement,
    }


def measure_library(prediction: Surface, scan: Surface, budget_s: float) -> tuple[dict[str, float], Comparison]:
    """Measure the library; the first call of a process, which compiles, is given separately."""
    with harness.stopwatch() as first:
        found = compare(prediction, scan)
    timing = harness.time_calls(lambda: compare(prediction, scan), budget_s, warm_up=True)
    armse = float(np.mean([rms(values, values) for values in (found.prediction_mm, found.scan_mm)]))
    return {"s": timing.wall_s, "cpu_s": timing.cpu_s, "first_s": first["wall_s"], "armse_mm": armse}, found


def write_pair(folder: Path, prediction: Surface, scan: Surface) -> Pair:
    """Write files as the protocol reads them."""
    for name, surface in (("prediction", prediction), ("scan", scan)):
        write_surface(folder / f"{name}.ply", surface.vertices, surface.faces, surface.landmarks)
    files = [folder / f"{name}.{suffix}" for name in ("prediction", "scan") for suffix in ("ply", "csv")]
    return Pair("one", "one", "all", *files)


def measure_files(pair: Pair) -> dict[str, float]:
    """Measure one pair from files at all crops; meant for a process of its own, whose peak is then theirs."""
    before = harness.peak_memory_mb()
    with harness.stopwatch() as taken:
        scored = evaluate_pair(pair, ProtocolConfig())
    return {
        "triangles": len(trimesh.load(pair.scan, process=False).faces),  # pyright: ignore[reportAttributeAccessIssue]
        "s": taken["wall_s"],
        "peak MB": harness.peak_memory_mb(),
        "peak MB before": before,
        "armse_mm": float(scored.errors.armse[-1]),
    }


def libraries_table(entries: dict[str, dict[str, float]]) -> str:
    """Format a line a library."""
    rows = []
    for name, entry in entries.items():
        row = [name, f"{entry['s']:.3f}", f"{entry['cpu_s']:.3f}", f"{entry['armse_mm']:.4f}"]
        if name == OWN:
            rows.append([*row, "", "", "", ""])
            continue
        parts = [f"{entry['align_s']:.3f}", f"{entry['distances_s']:.3f}", f"{entry['agreement_mm']:.0e}"]
        rows.append([*row, f"{entry['s'] / entries[OWN]['s']:.1f}", *parts])
    headings = ["", "s", "processor, s", "ARMSE, mm", "times digitaltwin", "align, s", "distances, s", "agree to, mm"]
    return harness.table(headings, rows)


def plot(path: Path, entries: dict[str, dict[str, float]], goal_s: float, title: str) -> None:
    """Draw seconds of every library, beside the goal."""
    labels = [f"{entry['s']:.2f} s, ARMSE {entry['armse_mm']:.3f} mm" for entry in entries.values()]
    with harness.figure(path, 1, 1, (7, 0.6 * len(entries) + 1.4)) as (axis,):
        harness.draw_bars(axis, {name: entry["s"] for name, entry in entries.items()}, labels=labels)
        axis.axvline(goal_s, color="black", linestyle="dashed", zorder=0)
        axis.invert_yaxis()
        axis.set(xlabel="alignment and distances both ways, s (dashed: goal)")
        axis.set_title(title, fontsize=10)
        axis.set_xlim(right=2.5 * axis.get_xlim()[1])
