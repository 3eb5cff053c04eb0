"""What one avatar costs: time, processor time and memory of ``python -m experiments.avatar`` on its own portrait.

Three situations, each in processes of its own:

* *cold*: a fresh process, nothing compiled before (an empty compilation cache);
* *warm*: a fresh process, everything compiled by an earlier one;
* *second*: the second avatar of a process, of a photo of another size than any before: what depends on a photo's size
  compiles in it.

Prints a table beside the goals and writes ``results/avatar.json`` with the machine's description, and a plot of the
stages. Lower is better throughout; of several runs the median counts. ``--quick`` measures the second avatar alone,
with a texture of 512, and writes nothing.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image, ImageOps

from benchmarks import harness
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.io.assets import asset_path

GOAL_S = {"cold": 120.0, "warm": 40.0, "second": 5.0}
GOAL_PEAK_MB = 2000.0

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for avatar.json and avatar.png.")
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


def run_command(folder: Path, cache: Path) -> Cost:
    """Measure the command in a fresh process, from its start to its end."""
    arguments = [sys.executable, "-m", "experiments.avatar", f"--out={folder}", "--overwrite"]
    usage = harness.run_command(arguments, {"JAX_COMPILATION_CACHE_DIR": str(cache)})
    return Cost(*usage, _stages(folder))


def other_photo(run: int) -> np.ndarray:
    """The portrait larger, in a wider frame, and in another size for each run."""
    with Image.open(asset_path("portrait.png")) as image:
        return np.asarray(ImageOps.pad(image.convert("RGB"), (1280 + 2 * run, 960), color="grey"))


def run_again(folder: Path, cache: Path | None, run: int, texture_size: int) -> Cost:
    """A second avatar in one process; meant for a process of its own. Without ``cache``, in the user's."""
    import jax  # here, so that the measuring process stays small

    from digitaltwin.avatar import create_avatar
    from digitaltwin.cli._command import keep_compiled_programs

    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
    keep_compiled_programs()
    create_avatar(asset_path("portrait.png"), texture_size=texture_size).save(folder)
    photo = other_photo(run)
    start, cpu_start = time.perf_counter(), time.process_time()
    create_avatar(photo, texture_size=texture_size).save(folder)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    return Cost(wall_s, cpu_s, harness.peak_memory_mb(), _stages(folder))


def median(costs: list[Cost]) -> Cost:
    """The run of the median wall time, the lower one of an even number."""
    return sorted(costs, key=lambda cost: cost.wall_s)[(len(costs) - 1) // 2]


def table(costs: dict[str, Cost]) -> str:
    """The measured numbers beside the goals, a line a situation, then the stages."""
    lines = [f"{'':8} {'wall':>8} {'goal':>8} {'cpu':>8} {'peak':>9} {'goal':>8}"]
    for name, cost in costs.items():
        lines.append(
            f"{name:8} {cost.wall_s:6.1f} s {GOAL_S[name]:6.0f} s {cost.cpu_s:6.1f} s {cost.peak_mb:6.0f} MB"
            f" {GOAL_PEAK_MB:5.0f} MB"
        )
    lines += ["", f"{'stage':24}" + "".join(f"{name:>10}" for name in costs)]
    for stage in costs["second"].stages_s:
        lines.append(f"{stage:24}" + "".join(f"{cost.stages_s.get(stage, 0.0):8.2f} s" for cost in costs.values()))
    return "\n".join(lines)


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
        axis.axvline(GOAL_S[name], color="black", linestyle="--")
        axis.set(yticks=[0], yticklabels=[name], xlabel="seconds (dashed: goal)" if axis is axes[-1] else None)
    axes[0].legend(ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.05))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write."""
    if _QUICK.value:
        with tempfile.TemporaryDirectory() as scratch:
            print(table({"second": harness.in_subprocess(run_again, Path(scratch), None, 0, 512)}))
        return
    results = make_folder(_OUT.value)
    harness.require("matplotlib")
    runs = _RUNS.value
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = make_folder(Path(scratch) / "out"), make_folder(Path(scratch) / "cache")
        costs = {
            "cold": run_command(folder, cache),
            "warm": median([run_command(folder, cache) for _ in range(runs)]),
        }
        costs["second"] = median([harness.in_subprocess(run_again, folder, cache, run, 2048) for run in range(runs)])
    print(table(costs))
    measured: dict[str, Any] = {
        "workload": "one avatar of the shipped portrait, 2048 px texture",
        "better": "lower",
        "machine": harness.describe_machine("jax", "jaxlib", "numpy"),
        "runs": {name: 1 if name == "cold" else runs for name in costs},
        "goals": {"wall_s": GOAL_S, "peak_mb": GOAL_PEAK_MB},
        "measured": {name: cost._asdict() for name, cost in costs.items()},
    }
    write_json(results / "avatar.json", measured)
    plot(results / "avatar.png", costs)


def _stages(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report.json").read_text())["seconds"]


if __name__ == "__main__":
    harness.run(main)
