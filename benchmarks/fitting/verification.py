"""Verify the library's step against the reference implementation's, at every iteration of many random problems.

    python -m benchmarks.fitting.verification

The reference implementation (:mod:`benchmarks.fitting.reference`) solves for all 3v + m unknowns at once by sparse LU
in float64; the library eliminates the field first. Each problem runs five iterations. At every one both start from the
library's float64 point, the float32 fit from that point rounded, and the fitted heads must agree to 1e-6 mm in float64
and to 1e-3 mm in float32. The problems of every case differ in what needs no other program: missing landmarks (a fifth,
eye corners among them), weights, the person's shape known or not. The cases differ in what does: identity held or
fitted, the focal length known, the 468 points, starts so far off that the step is rejected and the next damped, and the
other forms of the energy that :class:`digitaltwin.fitting.FitConfig` offers.

Prints a table of the worst differences and writes ``results/fitting_verification.json``. ``--quick`` verifies two
problems of each of two cases and writes nothing.
"""

from typing import Any

from absl import flags

from benchmarks import harness

QUICK_CASES = ("identity held", "contour sliding")

_OUT = flags.DEFINE_string("out", str(harness.RESULTS), "Folder for fitting_verification.json.")
_PROBLEMS = flags.DEFINE_integer("problems", 100, "Random problems of each case.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "Two problems of each of two cases; writes nothing.")


def main() -> None:
    """Compare, print, write."""
    import jax
    from tqdm import tqdm

    from benchmarks.fitting.comparison import SHARES, TOLERANCE_MM, beyond, cases, compare
    from digitaltwin.head import load_head
    from digitaltwin.io._files import make_folder

    folder = None if _QUICK.value else make_folder(_OUT.value)
    problems = 2 if _QUICK.value else _PROBLEMS.value
    head, failed, names = load_head(), [], (*SHARES, "rejected")
    totals: dict[str, dict[str, Any]] = {}
    print(f"worst difference from the full-size sparse step, {problems} problems a case")
    print(f"{'case':36}{'type':9}" + "".join(f"{name:>16}" for name in names))
    for case in cases():
        if _QUICK.value and case.name not in QUICK_CASES:
            continue
        with jax.enable_x64(True):
            found = list(compare(head, case, tqdm(range(problems), case.name, leave=False, disable=None)))
        for dtype in TOLERANCE_MM:
            rows = [entry[dtype] for entry in found if dtype in entry]
            total = {name: (sum if name == "rejected" else max)(row[name] for row in rows) for name in names}
            totals.setdefault(case.name, {})[dtype] = total
            print(f"{case.name:36}{dtype:9}" + "".join(f"{value:16.3g}" for value in total.values()), flush=True)
            failed += [f"{case.name} in {dtype}: {what}" for what in beyond(total, dtype)]
    if folder is not None:
        workload = "one eliminated step against the full-size sparse LU step, at each iteration"
        measured = {"problems": problems, "tolerance_mm": TOLERANCE_MM, "worst": totals}
        packages = ("jax", "jaxlib", "numpy", "scipy")
        harness.write_results(folder / "fitting_verification.json", workload, packages, {}, {}, **measured)
    if failed:
        raise RuntimeError("differs from the reference implementation: " + "; ".join(failed))


if __name__ == "__main__":
    harness.run(main)
