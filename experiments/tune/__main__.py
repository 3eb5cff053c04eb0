"""Sweep the hyper-parameters of the fit, and compare settings of the sliding contour, on renders with known truth.

    python -m experiments.tune --renders=renders --out=docs/images --results=benchmarks/results

Moves one hyper-parameter of ``FitConfig`` at a time about its default and fits all renders of the tuning people, from
the best group's mean, and from a neutral shape half-way between the person's own and the group's mean, which is as good
a guess as a decoder's. The defaults and the contour's settings are also judged on the test people. Writes
fit-weights.png, fit-weights-given.png, fit-contour.png and fit-hyperparameters.json, a summary. Renders that are
missing are made, a second each; a run that was stopped continues with them.
"""

import dataclasses
from typing import Any

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.cli._command import keep_compiled_programs
from digitaltwin.fitting import FitConfig
from digitaltwin.synthesis._config import SceneConfig

_RENDERS = flags.DEFINE_string("renders", "renders", "Folder of the renders; made if it is missing, continued if not.")
_OUT = flags.DEFINE_string("out", "docs/images", "Folder for the pictures; made if it is missing.")
_RESULTS = flags.DEFINE_string("results", "benchmarks/results", "Folder for fit-hyperparameters.json.")
_COUNT = flags.DEFINE_integer("count", SceneConfig.count, "Number of renders, half of them for tuning.", 8)
_SEED = flags.DEFINE_integer("seed", SceneConfig.seed, "Seed of the renders.", 0)
_RESIDUAL = flags.DEFINE_float(
    "residual_mm", SceneConfig.residual_mm, "Root mean square of the out-of-basis residual.", 0.0
)
_SLIDING = flags.DEFINE_bool("sliding", FitConfig.sliding_contour, "Whether the contour slides during the sweeps.")
_ONLY = flags.DEFINE_list("only", [], "Hyper-parameters to sweep; all by default.")
_QUICK = flags.DEFINE_bool("quick", False, "Eight renders, one hyper-parameter, two contours, given shapes only.")
flags.DEFINE_alias("remainder_mm", "residual_mm")


def main() -> None:
    """Make the renders that are missing, fit, print the table, write pictures and numbers."""
    from digitaltwin.head import load_head
    from digitaltwin.io._files import format_json, make_folder, write_bytes
    from digitaltwin.synthesis import make_scenes
    from experiments.tune.contours import CONTOURS, compare_contours, contour_table
    from experiments.tune.figures import draw_contours, draw_sweep
    from experiments.tune.sweeps import STARTS, SWEEPS, UNITS, judge, summary, sweep, yaw_names

    keep_compiled_programs()
    out, results_folder = make_folder(_OUT.value), make_folder(_RESULTS.value)
    head = load_head()
    settings = SceneConfig(8 if _QUICK.value else _COUNT.value, _SEED.value, _RESIDUAL.value)
    scenes = make_scenes(head, _RENDERS.value, settings)
    tuning, test = scenes.take(~scenes.test), scenes.take(scenes.test)
    names = {name: SWEEPS[name] for name in _ONLY.value} or SWEEPS
    starts, contours, default = STARTS, tuple(CONTOURS), FitConfig(sliding_contour=_SLIDING.value)
    if _QUICK.value:
        names, starts, contours = {"omega_i": (0.5, 1.0, 2.0)}, ("given",), ("fixed", "sliding")
    yaws = yaw_names(test.yaw_bins())
    results: dict[str, Any] = {
        "settings": {**dataclasses.asdict(settings), "fit": dataclasses.asdict(default)},
        "units": UNITS,
        "yaw_deg": yaws,
        "default": {
            start: {
                who: summary(judge(head, default, some, start=start))
                for who, some in (("tuning people", tuning), ("test people", test))
            }
            for start in starts
        },
        "contour": compare_contours(head, test, starts, _SEED.value, settings=contours),
    }
    draw_contours(results["contour"], yaws, starts[0], out / "fit-contour.png")
    print(contour_table(results["contour"], yaws), flush=True)
    results["sweeps"] = sweep(head, tuning, default, names, starts)
    for start, name in zip(STARTS, ("fit-weights.png", "fit-weights-given.png")):
        if start in starts:
            draw_sweep(results["sweeps"], results["settings"]["fit"], start, out / name)
    write_bytes(results_folder / "fit-hyperparameters.json", format_json(results, digits=4).encode())


if __name__ == "__main__":
    run_command(main)
