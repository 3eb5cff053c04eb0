"""The library's step beside the referee's, at every iteration of many random problems.

The referee (:mod:`benchmarks.fitting_problem`) solves for all 3v + m unknowns at once by sparse LU in float64; the
library eliminates the field first. Each problem runs five iterations. At every one both start from the library's
float64 point, the float32 fit from that point rounded, and the fitted heads must agree to 1e-6 mm in float64 and to
1e-3 mm in float32. The problems of every case differ in what needs no other program: missing landmarks (a fifth, eye
corners among them), weights, the person's shape known or not. The cases are what does: identity held or fitted, the
focal length known, the 468 points, starts so far off that the step is rejected and the next damped, and the other forms
of the energy that :class:`digitaltwin.fitting.FitConfig` offers.

Prints a table of the worst differences and writes ``results/fitting_proof.json``.
"""

from pathlib import Path

import jax
from absl import flags
from tqdm import tqdm

from benchmarks import machine
from benchmarks.fitting_comparison import TOLERANCE_MM, Difference, cases, compare, worst
from digitaltwin.head import load_head
from digitaltwin.io._files import make_folder, write_json
from experiments import command

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for fitting_proof.json.")
_PROBLEMS = flags.DEFINE_integer("problems", 100, "Random problems of each case.", 1)


def main() -> None:
    """Compare, print, write."""
    folder = make_folder(_OUT.value)
    head, table, failed = load_head(), {}, []
    print(f"worst difference from the full-size sparse step, {_PROBLEMS.value} problems a case")
    print(f"{'case':32}{'type':9}" + "".join(f"{name:>16}" for name in Difference._fields))
    for case in cases():
        with jax.enable_x64(True):
            found = list(compare(head, case, tqdm(range(_PROBLEMS.value), case.name, leave=False)))
        for name in TOLERANCE_MM:
            total = worst([entry[name] for entry in found if name in entry])
            table.setdefault(case.name, {})[name] = total._asdict()
            print(f"{case.name:32}{name:9}" + "".join(f"{value:16.3g}" for value in total), flush=True)
            failed += [f"{case.name} in {name}: {what}" for what in total.beyond(name)]
    measured = {
        "workload": "one eliminated step against the full-size sparse LU step, at each iteration",
        "better": "lower",
        "machine": machine.describe("jax", "jaxlib", "numpy", "scipy"),
        "problems": _PROBLEMS.value,
        "tolerance_mm": TOLERANCE_MM,
        "worst": table,
    }
    write_json(folder / "fitting_proof.json", measured)
    if failed:
        raise RuntimeError("differs from the referee: " + "; ".join(failed))


if __name__ == "__main__":
    command.run(main)
