"""What one avatar costs: seconds of each stage, processor time and memory of ``python -m experiments.avatar``.

    python -m benchmarks.avatar

The shipped portrait with a texture of 2048 px in three situations, each in processes of its own:

* *cold*: a fresh process that finds nothing stored, neither compiled programs nor prepared arrays;
* *warm*: a fresh process that finds what the cold one has stored;
* *second*: the second avatar of a process, of a photo of another size than any before.

:mod:`benchmarks.startup` runs these beside an earlier commit, for ratios; here are this tree's own seconds, stage by
stage. Prints tables beside the goals and writes ``results/avatar.json`` and a plot of the stages; of several runs the
median counts. ``--quick`` measures the second avatar alone, with a texture of 512, and writes nothing.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks import harness
from benchmarks.harness import Goal

GOALS_S = {"cold": Goal(120.0), "warm": Goal(40.0), "second": Goal(5.0)}
GOAL_PEAK_MB = Goal(2000.0)

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for avatar.json and avatar.png.")
_RUNS = flags.DEFINE_integer("runs", 3, "Runs of each situation but the cold one, which is run once.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "One second avatar with a small texture, nothing written: for a first look.")


class Cost(NamedTuple):
    """What one avatar took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Largest resident memory of the process so far."""
    stages_s: dict[str, float]
    """What each stage took by its own account (report.json), in order."""


def measure_command(folder: Path, cache: Path) -> Cost:
    """Measure the command in a fresh process, from its start to its end."""
    command = [sys.executable, "-m", "experiments.avatar", f"--out={folder}"]
    usage = harness.run_command(command, harness.tree_environment(harness.ROOT, cache), cwd=harness.ROOT)
    return Cost(*usage, _stages(folder))


def measure_second(folder: Path, run: int, texture_size: int) -> Cost:
    """Measure the second avatar of a process, its own; the photo has another size for each run."""
    import numpy as np
    from PIL import Image, ImageOps

    from digitaltwin.avatar import create_avatar
    from digitaltwin.io.assets import asset_path

    create_avatar(asset_path("portrait.png"), texture_size=texture_size).save(folder)
    with Image.open(asset_path("portrait.png")) as image:
        photo = np.asarray(ImageOps.pad(image.convert("RGB"), (1280 + 2 * run, 960), color="grey"))
    with harness.stopwatch() as taken:
        create_avatar(photo, texture_size=texture_size).save(folder)
    return Cost(**taken, peak_mb=harness.peak_memory_mb(), stages_s=_stages(folder))


def median(costs: Sequence[Cost]) -> Cost:
    """Return the run of the median wall time, the lower one of an even number."""
    return sorted(costs, key=lambda cost: cost.wall_s)[(len(costs) - 1) // 2]


def tables(costs: dict[str, Cost]) -> str:
    """Format the measured numbers, a row a situation, and the seconds of the stages, a row a stage."""
    rows = [[name, f"{c.wall_s:.1f}", f"{c.cpu_s:.1f}", f"{c.peak_mb:.0f}"] for name, c in costs.items()]
    stages = [
        [stage, *(f"{cost.stages_s.get(stage, 0.0):.2f}" for cost in costs.values())]
        for stage in costs["second"].stages_s
    ]
    whole = harness.table(["avatar", "wall, s", "processor, s", "peak, MB"], rows)
    return f"{whole}\n\n{harness.table(['stage, s', *costs], stages)}"


def plot(path: Path, costs: dict[str, Cost]) -> None:
    """Draw the stages of each situation end to end, with the goal as a mark."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(costs), 1, figsize=(9, 5), layout="constrained")
    colours = plt.get_cmap("tab20").colors  # pyright: ignore[reportAttributeAccessIssue]
    for axis, (name, cost) in zip(axes, costs.items()):
        stages = {**cost.stages_s, "start, imports": max(0.0, cost.wall_s - sum(cost.stages_s.values()))}
        left = 0.0
        for colour, (stage, seconds) in zip(colours, stages.items()):
            axis.barh([0], [seconds], left=left, color=colour, label=stage)
            left += seconds
        axis.axvline(GOALS_S[name].value, color="black", linestyle="--")
        axis.set(yticks=[0], yticklabels=[name], xlabel="seconds (dashed: goal)" if axis is axes[-1] else None)
    axes[0].legend(ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.05))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write."""
    from digitaltwin.io._files import make_folder

    if _QUICK.value:
        with tempfile.TemporaryDirectory() as scratch:
            print(tables({"second": harness.in_subprocess(measure_second, Path(scratch), 0, 512)}))
        return
    results, runs = make_folder(_OUT.value), _RUNS.value
    harness.require("matplotlib")
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch), make_folder(Path(scratch) / "cache")
        costs = {
            "cold": measure_command(folder / "cold", cache),
            "warm": median([measure_command(folder / f"warm-{run}", cache) for run in range(runs)]),
        }
        # Both, because a folder that the user has named for JAX comes before the cache.
        stores = {"XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache)}
        seconds = [
            harness.in_subprocess(measure_second, folder / "second", run, 2048, environment=stores)
            for run in range(runs)
        ]
        costs["second"] = median(seconds)
    print(tables(costs))
    goals = {f"{name}, s": goal for name, goal in GOALS_S.items()} | {"peak, MB": GOAL_PEAK_MB}
    reached = {f"{name}, s": cost.wall_s for name, cost in costs.items()}
    reached["peak, MB"] = max(cost.peak_mb for cost in costs.values())
    print(harness.goals_table(goals, reached))
    measured: dict[str, Any] = {name: cost._asdict() for name, cost in costs.items()}
    workload, packages = "one avatar of the shipped portrait, 2048 px texture", ("jax", "jaxlib", "numpy")
    harness.write_results(results / "avatar.json", workload, packages, goals, reached, runs=runs, measured=measured)
    plot(results / "avatar.png", costs)


def _stages(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report.json").read_text())["seconds"]


if __name__ == "__main__":
    harness.run(main)
