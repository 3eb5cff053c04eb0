"""Measurements of the deformation benchmark, its tables and its plot."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from benchmarks import harness
from benchmarks.deformation.peers import SparsePeer
from benchmarks.linear_algebra import factorised
from benchmarks.refinement import refine
from digitaltwin.deformation import augment, decode, encode, make_population, make_reference
from digitaltwin.deformation._augmentation import Population
from digitaltwin.deformation._reference import Reference
from digitaltwin.deformation._sampling import assign_groups, group_shares, mix, polar_mixture
from digitaltwin.head import load_head, load_subjects, neutral_shape

BATCH_SIZE = 32  # new heads computed at once, so that their intermediate results stay in the cache
CACHED_VERTICES = 90_000  # likewise, vertices of a large batch decoded at once
AGREEMENT_MM = 0.01
DISSECTED, DENSE = "digitaltwin, dissected", "digitaltwin, dense"


def shapes_of_size(size: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return neutral training subjects [n v 3], faces and groups, at a number of vertices."""
    head, subjects = load_head(), load_subjects()
    shapes = np.asarray(jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, subjects.identity))
    groups = np.where(subjects.test, -1, subjects.group)
    faces = np.asarray(head.faces)
    if size is not None:
        matrix, faces = refine(np.asarray(head.mean, np.float64), faces, size)
        flat = matrix @ np.moveaxis(shapes, 0, 1).reshape(shapes.shape[1], -1)
        shapes = np.moveaxis(flat.reshape(size, len(shapes), 3), 1, 0).astype(np.float32)
    return shapes, faces, groups


@jax.jit
def decode_batch(reference: Reference, features: jax.Array) -> jax.Array:
    """Decode a small batch at once, a large one in portions that stay in the cache."""
    heads, vertices, _ = features.shape
    if heads * vertices <= 2.2 * CACHED_VERTICES:
        return jax.vmap(decode, in_axes=(None, 0))(reference, features)
    batch_size = CACHED_VERTICES // vertices
    return jax.lax.map(lambda feature: decode(reference, feature), features, batch_size=batch_size)


def decode_portions(reference: Reference, features: jax.Array, portions: int) -> None:
    """Decode the same portion several times, one after another."""
    for _ in range(portions):
        jax.block_until_ready(decode_batch(reference, features))


@jax.jit
def mix_and_decode(population: Population, keys: jax.Array, groups: jax.Array) -> jax.Array:
    """Mix features by polar sampling and decode them, the work of the goal."""

    def one(key_and_group: tuple[jax.Array, jax.Array]) -> jax.Array:
        mixture = polar_mixture(*key_and_group, population.groups)
        return decode(population.reference, mix(mixture, population.features))

    return jax.lax.map(one, (keys, groups), batch_size=BATCH_SIZE)


@jax.jit
def augment_batch(population: Population, keys: jax.Array, groups: jax.Array) -> Any:
    """Augment, that is also add to the mean and find the closest subject: what ``experiments.augment`` stores."""
    return jax.lax.map(lambda both: augment(both[0], both[1], population), (keys, groups), batch_size=BATCH_SIZE)


def _seconds(function: Callable[[], Any], runs: int) -> float:
    """Return the median wall time of some calls, after one that compiles."""
    return harness.time_calls(function, float("inf"), warm_up=True, most=runs).wall_s


def peers(vertices: np.ndarray, faces: np.ndarray, held: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the peers' decoders of one feature."""
    peer = SparsePeer(vertices, faces, held)
    stiffness, right = peer.operators

    def refactoring(feature: np.ndarray) -> np.ndarray:
        vertices = peer.vertices.copy()
        vertices[peer.free] += factorised(stiffness).solve(peer.right_hand_side(feature, right))
        return vertices

    import igl

    data = igl.min_quad_with_fixed_data()
    unconstrained = (np.zeros(0, np.int64), sp.csc_matrix((0, len(peer.free))))
    igl.min_quad_with_fixed_precompute(sp.csc_matrix(stiffness), *unconstrained, True, data)

    def by_libigl(feature: np.ndarray) -> np.ndarray:
        # It minimises 1/2 z'Az + z'B.
        solved = igl.min_quad_with_fixed_solve(data, -peer.right_hand_side(feature, right), np.zeros((0, 3)))
        vertices = peer.vertices.copy()
        vertices[peer.free] += np.asarray(solved)
        return vertices

    return {
        "SciPy, factored once (a)": peer.decode,
        "SciPy, refactoring": refactoring,
        "SciPy, rebuilding (b)": peer.decode_refactoring,
        "libigl (c)": by_libigl,
    }


def measure_size(size: int | None, batches: tuple[int, ...], runs: int) -> dict[str, Any]:
    """Measure every decoder at one size, and the encoders."""
    shapes, faces, groups = shapes_of_size(size)
    mean = shapes[groups >= 0].astype(np.float64).mean(axis=0)
    with harness.stopwatch() as prepared:
        dissected = make_reference(mean, faces, dense=False)
    dense = make_reference(mean, faces, dense=True)
    some = jnp.asarray(shapes[:64])
    features = jax.jit(jax.vmap(encode, in_axes=(None, 0)))(dissected, some)
    result: dict[str, Any] = {"vertices": len(mean), "prepare_s": prepared["wall_s"], "decode_ms": {}}
    result |= {"decode_cpu_ms": {}, "encode_ms": {}, "multiply_adds": {}, "multiply_adds_nonzero": {}}

    meshes = np.asarray(decode_batch(dissected, features))
    check_agreement(DENSE, np.asarray(decode_batch(dense, features)), meshes)
    for name, decoder in peers(mean, faces, int(dissected.anchors[0])).items():
        numbers = range(min(runs, 64))
        for number in numbers:
            check_agreement(name, decoder(np.array(features[number])), meshes[number])
        calls = [partial(decoder, np.array(features[number])) for number in numbers]
        result["decode_ms"][name] = {"any": 1e3 * harness.time_calls(calls, 0.0).wall_s}
    for name, reference in ((DISSECTED, dissected), (DENSE, dense)):
        result["decode_ms"][name] = {}
        for batch in batches:
            # Portions of a thousand: all features of a large batch would not fit into memory.
            portion = min(batch, 1000)
            repeated = jnp.asarray(np.resize(np.asarray(features), (portion, *features.shape[1:])))
            call = partial(decode_portions, reference, repeated, batch // portion)
            result["decode_ms"][name][str(batch)] = 1e3 * _seconds(call, runs if batch <= 64 else 3) / batch
        with harness.stopwatch() as taken:
            decode_portions(reference, features, runs)
        result["decode_cpu_ms"][name] = 1e3 * taken["cpu_s"] / runs / len(features)
        for kind, padding in (("multiply_adds", True), ("multiply_adds_nonzero", False)):
            parts = (reference.divergence, reference.factor)
            result[kind][name] = 3 * sum(part.multiply_adds(padding=padding) for part in parts)
    for name, exact in (("digitaltwin, plain", False), ("digitaltwin, exact", True)):
        code = jax.jit(jax.vmap(partial(encode, exact=exact), in_axes=(None, 0)))
        result["encode_ms"][name] = 1e3 * _seconds(partial(code, dissected, some), min(runs, 5)) / 64
    peer = SparsePeer(mean, faces)
    result["encode_ms"]["SciPy"] = 1e3 * _seconds(lambda: peer.encode(shapes[0]), min(runs, 5))
    return result


def check_agreement(name: str, meshes: np.ndarray, expected: np.ndarray) -> None:
    """Raise an error if a peer's meshes [mm] are not the library's."""
    distance = np.abs(meshes - expected).max()
    if not distance < AGREEMENT_MM:
        raise RuntimeError(f"{name} disagrees by {distance:.3g} mm: its time would mean nothing")


def measure_augmentation(size: int | None, count: int) -> dict[str, float]:
    """Measure time and memory of many new heads; meant for a process of its own, whose peak is then theirs."""
    shapes, faces, groups = shapes_of_size(size)
    population = make_population(jnp.asarray(shapes), jnp.asarray(faces), jnp.asarray(groups))
    wanted = assign_groups(jax.random.key(1), group_shares(load_head().group_names), count=count)
    keys = jax.random.split(jax.random.key(0), count)
    chunk = min(count, 1000)
    figures = {}
    for name, function in (("mix + decode", mix_and_decode), ("all of augment", augment_batch)):
        harness.block(function(population, keys[:chunk], wanted[:chunk]))  # compiles
        with harness.stopwatch() as taken:
            for first in range(0, count, chunk):
                part = slice(first, first + chunk)
                np.asarray(jax.tree.leaves(function(population, keys[part], wanted[part]))[0])  # to the host
        figures |= {f"{name}, s": taken["wall_s"], f"{name}, cpu s": taken["cpu_s"]}
    return {**figures, "peak MB": harness.peak_memory_mb()}


def size_table(result: dict[str, Any], rate: float) -> str:
    """Format one size: milliseconds a head, ratios to the peers, distance to the floor."""
    own, own_cpu = result["decode_ms"][DISSECTED]["64"], result["decode_cpu_ms"][DISSECTED]
    batches = list(result["decode_ms"][DISSECTED])
    rows = []
    for name, times in result["decode_ms"].items():
        if "any" in times:
            ratios = [f"{times['any'] / own:.1f}", f"{times['any'] / own_cpu:.1f}"]
            rows.append([name, *[f"{times['any']:.3f}"] * len(batches), "", *ratios])
        else:
            rows.append([name, *(f"{ms:.3f}" for ms in times.values()), f"{result['decode_cpu_ms'][name]:.3f}", "", ""])
    headings = [
        "decode, ms a head",
        *(f"batch {batch}" for batch in batches),
        "processor",
        "times digitaltwin",
        "a core",
    ]
    lines = [f"{result['vertices']} vertices, prepared in {result['prepare_s']:.2f} s", harness.table(headings, rows)]
    for name, operations in result["multiply_adds"].items():
        floor, useful = (1e3 * count / rate for count in (operations, result["multiply_adds_nonzero"][name]))
        times = result["decode_ms"][name]["64"] / floor
        lines.append(
            f"floor of {name}: {operations / 1e6:.2f} M multiply-adds = {floor:.3f} ms, of which it takes {times:.1f}"
            f" times; {useful:.3f} ms without padding"
        )
    encoders = ", ".join(f"{name} {ms:.2f}" for name, ms in result["encode_ms"].items())
    return "\n".join([*lines, f"encode at batch 64, ms a head: {encoders}"])


def plot(path: Path, results: list[dict[str, Any]], rate: float) -> None:
    """Draw milliseconds a head of every decoder, at every size."""
    with harness.figure(path, 1, len(results), (13, 4), sharey=True) as axes:
        for axis, result in zip(axes, results):
            values = {name: times.get("64", times.get("any")) for name, times in result["decode_ms"].items()}
            harness.draw_bars(axis, values)
            for row, name in enumerate(values):
                if name in result["multiply_adds"]:
                    floor = 1e3 * result["multiply_adds"][name] / rate
                    axis.plot([floor, floor], [row - 0.4, row + 0.4], color="black")
            axis.set(title=f"{result['vertices']} vertices", xlabel="decode, ms a head (line: floor)")
