"""What a start costs: the first avatar ever, a second process, further avatars, beside an earlier commit in one run.

    python -m benchmarks.startup --baseline=6b128d5 --sizes=100

Old and new run alternately, each in processes of its own and with an empty cache folder of its own: the earlier commit
from a worktree that git makes in a temporary folder, with the packages of the present environment. The goals are ratios
of processor times, which other work on the machine changes least; the results hold wall times too. ``--quick``
measures this tree alone, a further avatar with a texture of 512 and its programs, and writes nothing.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.harness import (
    RESULTS,
    ROOT,
    Goal,
    Usage,
    goals_table,
    run,
    run_command,
    table,
    tree_environment,
    write_results,
)

GOALS = {
    "second process, ratio": Goal(0.33),
    "first run ever, ratio": Goal(0.5),
    "further avatar, ratio": Goal(0.5),
    "XLA programs an avatar": Goal(40),
    "new programs for another size": Goal(0),
    "peak memory, MB": Goal(1500),
    "memory a size, MB": Goal(0.5),
    "fit_batch, ratio": Goal(1.1),
}
_BASELINE = flags.DEFINE_string("baseline", "6b128d5", "Commit to compare with.")
_SIZES = flags.DEFINE_integer("sizes", 100, "Avatars, each of a photo of another size, after which memory is read.", 2)
_RUNS = flags.DEFINE_integer("runs", 3, "Runs of everything but the first run ever, which is run once.", 1)
_HEADS = flags.DEFINE_integer("heads", 1000, "Heads of the batch.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "This tree alone, a small texture, nothing written: for a first look.")
_OUT = flags.DEFINE_string("out", str(RESULTS), "Folder for startup.json.")

# What runs in the processes that are measured uses nothing but names that every commit has. It prints one JSON line.
_AVATARS = """
import json, sys, tempfile, time
import jax, numpy as np
compiled = [0]
def listen(event, duration, **_):
    compiled[0] += event == "/jax/core/compile/backend_compile_duration"
jax.monitoring.register_event_duration_secs_listener(listen)
from PIL import Image
from digitaltwin import create_avatar
from digitaltwin.io.assets import asset_path
count, texture_size = int(sys.argv[1]), int(sys.argv[2])
portrait = np.asarray(Image.open(asset_path("portrait.png")).convert("RGB"))
def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
rows = []
for i in reversed(range(count)):  # the largest first: what memory grows by is what earlier ones left, no larger photo
    photo = np.pad(portrait, ((0, 7 * i), (0, 13 * i), (0, 0)), mode="edge")
    before, wall, cpu = compiled[0], time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        create_avatar(photo, texture_size=texture_size).save(folder)
    rows.append([time.perf_counter() - wall, time.process_time() - cpu, compiled[0] - before, peak_mb()])
print(json.dumps(rows))
"""
_BATCH = """
import json, sys, time
import jax, jax.numpy as jnp, numpy as np
from digitaltwin.fitting import FitConfig, fit_batch, make_fitter
from digitaltwin.head import landmark_points, load_head
count, runs = int(sys.argv[1]), int(sys.argv[2])
head = load_head()
points = np.asarray(landmark_points(head, head.mean)) * [1, -1, -1] + [0, 0, 600]
seen = 800 * points[:, :2] / points[:, 2:] + [320, 240]
noise = np.random.default_rng(0).normal(size=(count, *seen.shape))
landmarks_px, sizes = jnp.asarray(seen + noise, jnp.float32), jnp.asarray(np.tile([480, 640], (count, 1)))
fitter = make_fitter(head, FitConfig())
jax.block_until_ready(fit_batch(fitter, head.mean, landmarks_px, sizes))
rows = []
for _ in range(runs):
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(fit_batch(fitter, head.mean, landmarks_px, sizes))
    rows.append([time.perf_counter() - wall, time.process_time() - cpu])
print(json.dumps(rows))
"""


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder, which is removed in the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(folder), commit], cwd=ROOT, check=True, capture_output=True
        )
        try:
            yield folder
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True, capture_output=True
            )


def measure(tree: Path, cache: Path, code: str, *arguments: int, **variables: str) -> list[list[float]]:
    """Run code in a process of a tree and return the rows that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=tree, env=tree_environment(tree, cache, **variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{tree}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def make_avatar(tree: Path, cache: Path) -> Usage:
    """Run a tree's command on the portrait, with all files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.avatar", f"--out={folder}/avatar"]
        return run_command(command, tree_environment(tree, cache), cwd=tree)


def medians(rows: list[list[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def compare(trees: dict[str, Path], scratch: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure both trees alternately; return the values of the goals, and everything that was measured."""
    runs, sizes, heads = _RUNS.value, _SIZES.value, _HEADS.value
    caches = {name: scratch / name for name in trees}
    first = {name: make_avatar(tree, caches[name]) for name, tree in trees.items()}
    second: dict[str, list[Usage]] = {name: [] for name in trees}
    for _ in range(runs):
        for name, tree in trees.items():
            second[name].append(make_avatar(tree, caches[name]))
    # Of the second avatar in a process, whose photo has another size, and of those after it.
    further = {
        name: measure(tree, scratch / f"{name}-further", _AVATARS, 2 + runs, 2048) for name, tree in trees.items()
    }
    memory = measure(trees["new"], scratch / "new-further", _AVATARS, sizes, 2048)
    batch = {
        "old": medians(measure(trees["old"], caches["old"], _BATCH, heads, runs, OPENBLAS_NUM_THREADS="1")),
        "new": medians(measure(trees["new"], caches["new"], _BATCH, heads, runs)),
    }
    cpu = {
        "first run ever": {name: usage.cpu_s for name, usage in first.items()},
        "second process": {name: statistics.median(usage.cpu_s for usage in second[name]) for name in trees},
        "further avatar": {name: medians(further[name][1:])[1] for name in trees},
        "fit_batch": {name: batch[name][1] for name in trees},
    }
    wall = {
        "first run ever": {name: usage.wall_s for name, usage in first.items()},
        "second process": {name: statistics.median(usage.wall_s for usage in second[name]) for name in trees},
        "further avatar": {name: medians(further[name][1:])[0] for name in trees},
        "fit_batch": {name: batch[name][0] for name in trees},
    }
    middle = len(memory) // 2
    reached = {f"{name}, ratio": pair["new"] / pair["old"] for name, pair in cpu.items()}
    reached |= {
        "XLA programs an avatar": further["new"][0][2],
        "new programs for another size": sum(row[2] for row in further["new"][1:]),
        "peak memory, MB": memory[-1][3],
        "memory a size, MB": (memory[-1][3] - memory[middle][3]) / max(1, len(memory) - 1 - middle),
    }
    programs = {name: [row[2] for row in further[name]] for name in trees}
    peaks = {name: [usage.peak_mb for usage in second[name]] for name in trees}
    return reached, {"cpu_s": cpu, "wall_s": wall, "programs": programs, "second_process_peak_mb": peaks}


def main() -> None:
    """Measure, print, write."""
    from digitaltwin.io._files import make_folder

    results = RESULTS if _QUICK.value else make_folder(_OUT.value)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if _QUICK.value:
            rows = measure(ROOT, scratch / "cache", _AVATARS, 2, 512)
            cells = [[f"{row[0]:.1f}", f"{row[1]:.1f}", f"{row[2]:.0f}", f"{row[3]:.0f}"] for row in rows]
            named = [["first", *cells[0]], ["another size", *cells[1]]]
            print(table(["avatar", "wall s", "cpu s", "programs", "peak MB"], named))
            return
        with worktree(_BASELINE.value) as old:
            reached, measured = compare({"old": old, "new": ROOT}, scratch)
    for name in measured["cpu_s"]:
        times = {unit: measured[unit][name] for unit in ("cpu_s", "wall_s")}
        print(name, {unit: {side: round(value, 2) for side, value in pair.items()} for unit, pair in times.items()})
    print(goals_table(GOALS, reached))
    write_results(
        results / "startup.json",
        "The start of an avatar of the shipped portrait, all files, 2048 px texture, beside an earlier commit",
        ("jax", "jaxlib", "numpy", "scipy"),
        GOALS,
        reached,
        baseline=_BASELINE.value,
        runs=_RUNS.value,
        sizes=_SIZES.value,
        heads=_HEADS.value,
        environment="the same packages for both; the earlier commit from a worktree of its own, by PYTHONPATH",
        **measured,
    )


if __name__ == "__main__":
    run(main)
