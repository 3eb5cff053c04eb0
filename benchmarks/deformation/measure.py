"""What encoding, decoding and augmenting heads cost, beside the same by SciPy and libigl in the same run.

Decoding a feature into a mesh, for each head of a batch:

* *ours*: nested dissection, and the dense inverse; float32, all cores;
* *SciPy, factored once* (a): SuperLU with a fill-reducing ordering, sparse right-hand side; float64, one mesh at a
  time;
* *SciPy, rebuilding* (b): A is assembled and factored for every mesh, as published code for this representation does;
  and *SciPy, refactoring*: it is only factored;
* *libigl* (c): the same right-hand side, solved by its prefactored ``min_quad_with_fixed``.

Sizes: the shipped skin, and copies of it refined to 2,925 and 11,000 vertices. All meshes of all peers agree to
0.01 mm, or the benchmark stops. The floor is the multiply-adds of K and of the solve, with and without the zeros that
pad blocks, at the rate of a large float32 matrix product measured in the same run. Peers run in this process, one mesh
at a time with one BLAS thread (more make them slower), so that their time a head is the same for every batch; ours uses
all cores, so its processor time is given beside, and the ratio to that.

Prints tables beside the goals and writes ``results/deformation.json`` with the machine's description, and a plot. Lower
is better, but for the ratios; medians count. ``--quick`` measures the shipped skin at batch 64 alone and writes
nothing.
"""

import os

# Before NumPy is imported: SciPy's solvers run ten times slower with more BLAS threads on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from absl import flags

from benchmarks import machine
from benchmarks.deformation_peers import SparsePeer
from benchmarks.extras import require
from benchmarks.refinement import refine
from digitaltwin.deformation import (
    Population,
    Reference,
    augment,
    decode,
    encode,
    make_population,
    make_reference,
    mix,
    polar_mixture,
)
from digitaltwin.deformation._sampling import assign_groups, group_shares
from digitaltwin.head import load_head, load_subjects, neutral_shape
from digitaltwin.io._files import make_folder, write_json
from experiments import command

SIZES = (None, 2925, 11_000)  # None: the shipped skin
BATCHES = (1, 64, 10_000)
HEADS = 10_000
TOGETHER = 32  # new heads computed at once, so that their intermediate results stay in the cache
CACHED_VERTICES = 90_000  # likewise, vertices of a large batch decoded at once
GOALS = {"augment 10,000, s": 6.0, "peak MB": 2000.0, "times (a) at batch 64": 4.0, "times (b) at batch 64": 60.0}
AGREEMENT_MM = 0.01

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for deformation.json and .png.")
_RUNS = flags.DEFINE_integer("runs", 15, "Timings of each batch, of which the median counts.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "The shipped skin at batch 64, nothing written: for a first look.")


def shapes_of_size(size: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neutral training subjects [n v 3], faces, and groups, at a number of vertices."""
    head, subjects = load_head(), load_subjects()
    shapes = np.asarray(jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, subjects.identity))
    groups = np.where(subjects.test, -1, subjects.group)
    faces = np.asarray(head.faces)
    if size is not None:
        matrix, faces = refine(np.asarray(head.mean, np.float64), faces, size)
        flat = matrix @ np.moveaxis(shapes, 0, 1).reshape(shapes.shape[1], -1)
        shapes = np.moveaxis(flat.reshape(size, len(shapes), 3), 1, 0).astype(np.float32)
    return shapes, faces, groups


def seconds(function: Callable[[], Any], runs: int) -> float:
    """Median time of a call, the first (which compiles) left out."""
    jax.block_until_ready(function())
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@jax.jit
def decode_batch(reference: Reference, features: jax.Array) -> jax.Array:
    """Decode at once what is small, else in portions that stay in the cache."""
    heads, vertices, _ = features.shape
    if heads * vertices <= 2.2 * CACHED_VERTICES:
        return jax.vmap(decode, in_axes=(None, 0))(reference, features)
    together = CACHED_VERTICES // vertices
    return jax.lax.map(lambda feature: decode(reference, feature), features, batch_size=together)


def decode_portions(reference: Reference, features: jax.Array, portions: int) -> None:
    """Decode the same portion several times, one after another."""
    for _ in range(portions):
        jax.block_until_ready(decode_batch(reference, features))


@jax.jit
def mix_and_decode(population: Population, keys: jax.Array, groups: jax.Array) -> jax.Array:
    """Polar mixtures, decoded: the work of the goal."""

    def one(key_and_group: tuple[jax.Array, jax.Array]) -> jax.Array:
        mixture = polar_mixture(*key_and_group, population.groups)
        return decode(population.reference, mix(mixture, population.features))

    return jax.lax.map(one, (keys, groups), batch_size=TOGETHER)


@jax.jit
def augment_batch(population: Population, keys: jax.Array, groups: jax.Array) -> Any:
    """The same, laid onto the mean, with the closest subject: what ``experiments.augment`` stores."""
    return jax.lax.map(lambda both: augment(both[0], both[1], population), (keys, groups), batch_size=TOGETHER)


def multiply_add_rate(runs: int) -> float:
    """Multiply-adds a second of a large float32 matrix product on this device."""
    matrix = jnp.ones((3000, 3000), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    return 3000**3 / seconds(lambda: product(matrix), runs)


def peers(vertices: np.ndarray, faces: np.ndarray, held: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Decoders of one feature."""
    peer = SparsePeer(vertices, faces, held)
    stiffness, right = peer.operators

    def refactoring(feature: np.ndarray) -> np.ndarray:
        factor = spl.splu(stiffness, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        vertices = peer.vertices.copy()
        vertices[peer.free] += factor.solve(peer.right_hand_side(feature, right))
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
    """Every decoder at one size, and the encoders."""
    shapes, faces, groups = shapes_of_size(size)
    mean = shapes[groups >= 0].astype(np.float64).mean(axis=0)
    start = time.perf_counter()
    dissected = make_reference(mean, faces, dense=False)
    prepared_s = time.perf_counter() - start
    dense = make_reference(mean, faces, dense=True)
    some = jnp.asarray(shapes[:64])
    features = jax.jit(jax.vmap(encode, in_axes=(None, 0)))(dissected, some)
    result: dict[str, Any] = {"vertices": len(mean), "prepare_s": prepared_s, "decode_ms": {}, "decode_cpu_ms": {}}
    result |= {"encode_ms": {}, "multiply_adds": {}, "multiply_adds_nonzero": {}}

    decoders = peers(mean, faces, int(dissected.anchors[0]))
    meshes = np.asarray(decode_batch(dissected, features))
    _check_agreement("ours, dense", np.asarray(decode_batch(dense, features)), meshes)
    for name, decoder in decoders.items():
        times = []
        for number in range(min(runs, 64)):
            feature = np.array(features[number])
            start = time.perf_counter()
            decoded = decoder(feature)
            times.append(time.perf_counter() - start)
            _check_agreement(name, decoded, meshes[number])
        result["decode_ms"][name] = {"any": 1e3 * float(np.median(times))}
    for name, reference in (("ours, dissected", dissected), ("ours, dense", dense)):
        result["decode_ms"][name] = {}
        for batch in batches:
            # Portions of a thousand: all features of a large batch would not fit into memory.
            portion = min(batch, 1000)
            repeated = jnp.asarray(np.resize(np.asarray(features), (portion, *features.shape[1:])))
            taken = seconds(partial(decode_portions, reference, repeated, batch // portion), runs if batch <= 64 else 3)
            result["decode_ms"][name][str(batch)] = 1e3 * taken / batch
        start = time.process_time()
        decode_portions(reference, features, runs)
        result["decode_cpu_ms"][name] = 1e3 * (time.process_time() - start) / runs / len(features)
    for name, exact in (("ours, plain", False), ("ours, exact", True)):
        code = jax.jit(jax.vmap(partial(encode, exact=exact), in_axes=(None, 0)))
        result["encode_ms"][name] = 1e3 * seconds(partial(code, dissected, some), min(runs, 5)) / 64
    peer = SparsePeer(mean, faces)
    result["encode_ms"]["SciPy"] = 1e3 * seconds(lambda: peer.encode(shapes[0]), min(runs, 5))
    for name, reference in (("ours, dissected", dissected), ("ours, dense", dense)):
        for kind, padding in (("multiply_adds", True), ("multiply_adds_nonzero", False)):
            parts = (reference.divergence, reference.factor)
            result[kind][name] = 3 * sum(part.multiply_adds(padding=padding) for part in parts)
    return result


def _check_agreement(name: str, meshes: np.ndarray, expected: np.ndarray) -> None:
    apart = np.abs(meshes - expected).max()
    if not apart < AGREEMENT_MM:
        raise RuntimeError(f"{name} disagrees by {apart:.3g} mm: its time would mean nothing")


def measure_augmentation(size: int | None, count: int) -> dict[str, float]:
    """Time and memory of many new heads; meant for a process of its own, whose peak is then theirs."""
    shapes, faces, groups = shapes_of_size(size)
    population = make_population(jnp.asarray(shapes), jnp.asarray(faces), jnp.asarray(groups))
    wanted = assign_groups(jax.random.key(1), group_shares(load_head().group_names), count=count)
    keys = jax.random.split(jax.random.key(0), count)
    chunk = min(count, 1000)
    figures = {}
    for name, function in (("mix + decode", mix_and_decode), ("all of augment", augment_batch)):
        jax.block_until_ready(function(population, keys[:chunk], wanted[:chunk]))  # compiles
        start, cpu = time.perf_counter(), time.process_time()
        for first in range(0, count, chunk):
            part = slice(first, first + chunk)
            np.asarray(jax.tree.leaves(function(population, keys[part], wanted[part]))[0])  # to where a file is made
        figures[f"{name}, s"] = time.perf_counter() - start
        figures[f"{name}, cpu s"] = time.process_time() - cpu
    return {**figures, "peak MB": machine.peak_memory_mb()}


def table(result: dict[str, Any], rate: float) -> str:
    """One size: ms a head, ratios to the peers, distance to the floor."""
    decode_ms = result["decode_ms"]
    ours, ours_cpu = decode_ms["ours, dissected"]["64"], result["decode_cpu_ms"]["ours, dissected"]
    lines = [f"{result['vertices']} vertices, prepared in {result['prepare_s']:.2f} s; decode, ms a head"]
    for name, times in decode_ms.items():
        cells = "".join(f"  batch {batch}: {ms:8.3f}" for batch, ms in times.items())
        if name.startswith("ours"):
            ratio = f"  processor time {result['decode_cpu_ms'][name]:.3f}"
        else:
            ratio = f"  = {times['any'] / ours:5.1f} times ours at batch 64, {times['any'] / ours_cpu:5.1f} a core"
        lines.append(f"  {name:26}{cells}{ratio}")
    for name, operations in result["multiply_adds"].items():
        floor = 1e3 * operations / rate
        ratio = decode_ms[name]["64"] / floor
        needed = f"{operations / 1e6:.2f} M multiply-adds = {floor:.3f} ms"
        useful = 1e3 * result["multiply_adds_nonzero"][name] / rate
        lines.append(f"  floor of {name:17}  {needed}; we take {ratio:.1f} times that; without padding {useful:.3f} ms")
    encoders = ", ".join(f"{name} {ms:.2f}" for name, ms in result["encode_ms"].items())
    lines.append(f"  encode at batch 64: {encoders} ms a head")
    return "\n".join(lines)


def plot(path: Path, results: list[dict[str, Any]], rate: float) -> None:
    """Milliseconds a head of every decoder, at every size."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(13, 4), layout="constrained", sharey=True)
    for axis, result in zip(axes, results):
        names = list(result["decode_ms"])
        values = [times.get("64", times.get("any")) for times in result["decode_ms"].values()]
        colours = ["#2b6cb0" if name.startswith("ours") else "#a0aec0" for name in names]
        axis.barh(names, values, color=colours)
        for row, (name, value) in enumerate(zip(names, values)):
            axis.text(value, row, f" {value:.2f}", va="center", fontsize=8)
            if name in result["multiply_adds"]:
                floor = 1e3 * result["multiply_adds"][name] / rate
                axis.plot([floor, floor], [row - 0.4, row + 0.4], color="black")
        axis.set(xscale="log", title=f"{result['vertices']} vertices", xlabel="decode, ms a head (line: floor)")
        axis.set_xlim(right=max(values) * 4)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, write."""
    sizes, batches = (SIZES[:1], (64,)) if _QUICK.value else (SIZES, BATCHES)
    results_folder = None if _QUICK.value else make_folder(_OUT.value)
    require("igl", "matplotlib")
    rate = multiply_add_rate(5)
    print(f"a large float32 product: {rate / 1e9:.0f} G multiply-adds/s")
    results = []
    for size in sizes:
        results.append(measure_size(size, batches, _RUNS.value))
        print(table(results[-1], rate), flush=True)
    if results_folder is None:
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        many = process.submit(measure_augmentation, None, HEADS).result()
    print(f"{HEADS} new heads: " + ", ".join(f"{name} {value:.1f}" for name, value in many.items()))
    decode_ms = results[0]["decode_ms"]
    ours = decode_ms["ours, dissected"]["64"]
    reached = {
        "augment 10,000, s": many["mix + decode, s"],
        "peak MB": many["peak MB"],
        "times (a) at batch 64": decode_ms["SciPy, factored once (a)"]["any"] / ours,
        "times (b) at batch 64": decode_ms["SciPy, rebuilding (b)"]["any"] / ours,
    }
    for name, value in reached.items():
        print(f"{name:24} {value:8.1f}   goal {GOALS[name]:g}")
    measured = {
        "workload": "decode deformation features; mix and decode 10,000 heads",
        "better": "lower, but for the times",
        "machine": machine.describe("jax", "jaxlib", "numpy", "scipy", "libigl"),
        "device": jax.devices()[0].device_kind,
        "multiply_adds_per_s": rate,
        "runs": _RUNS.value,
        "goals": GOALS,
        "reached": reached,
        "sizes": results,
        "augment": many,
    }
    write_json(results_folder / "deformation.json", measured)
    plot(results_folder / "deformation.png", results, rate)


if __name__ == "__main__":
    command.run(main)
