"""Tables and plot of the fitting benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness


def workload_table(result: dict[str, Any]) -> str:
    """Format one workload: milliseconds a fit, and ratios to the library in the same run."""
    own = one_head_ms(result, "digitaltwin")
    rows = []
    for name, entry in result["library"].items():
        rows += [_row(f"{name}, batch {batch}", {**entry, **times}, int(batch)) + [""]
                 for batch, times in entry["batches"].items()]  # fmt: skip
    for name, entry in result["peers"].items():
        ratio = f"{entry['ms'] / own:.1f} times digitaltwin" if entry["reached"] else "did not reach the minimum"
        rows.append([*_row(name, entry, 1), ratio])
        rows += [[f"  of which {part}", f"{ms:.1f}", *[""] * 6] for part, ms in entry.get("parts_ms", {}).items()]
    headings = ["ms a fit", "median", "quartiles", "processor", "first, s", "peak, MB", "sub-optimality", ""]
    lines = [f"{result['vertices']} vertices, {result['landmarks']} landmarks, {result['unknowns']} unknowns"]
    lines += [harness.table(headings, rows)]
    lines += [f"{name}: not measured, {why}" for name, why in result.get("missing", {}).items()]
    floor = result["floor_ms"]
    return "\n".join([*lines, f"floor {floor:.2f} ms; digitaltwin takes {own / floor:.1f} times that"])


def _row(name: str, entry: dict[str, Any], batch: int) -> list[str]:
    low, high = (value / batch for value in entry["ms_quartiles"])
    distance = f"{entry['suboptimality']:.1e}" if "suboptimality" in entry else ""
    times = [f"{entry['ms'] / batch:.3f}", f"{low:.3g} to {high:.3g}", f"{entry['cpu_ms'] / batch:.3f}"]
    return [name, *times, f"{entry['first_call_s']:.2f}", f"{entry['peak_mb']:.0f}", distance]


def one_head_ms(result: dict[str, Any], name: str) -> float:
    """Return the milliseconds of one of the library's entries at batch 1."""
    return result["library"][name]["batches"]["1"]["ms"]


def curve_table(curve: Sequence[dict[str, float]]) -> str:
    """Format the cost against the number of vertices."""
    rows = [[str(entry["vertices"]), *(f"{entry[key]:.2f}" for key in _CURVES)] for entry in curve]
    return harness.table(["vertices", *(f"{label}, ms" for label in _CURVES.values())], rows)


_CURVES = {"fit_ms": "whole fit", "iterations_ms": "five iterations", "rest_ms": "start and last step"}


def reached(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the values that the goals speak of."""
    first, sliding = results[0], results[0]["library"]["digitaltwin, sliding"]
    own, batches = one_head_ms(first, "digitaltwin"), sliding["batches"]
    peers = first["peers"].items()
    general = [entry["ms"] for name, entry in peers if entry["reached"] and not name.startswith("reduced")]
    found = {"times the fastest general peer": min(general) / own} if general else {}
    found |= {"times the floor": own / first["floor_ms"], "one head, sliding, ms": batches["1"]["ms"]}
    found |= {"compile, s": sliding["first_call_s"], "batch 64, sliding, ms a head": batches["64"]["ms"] / 64}
    for result in results:
        if result["landmarks"] > 400:
            found.setdefault("one head, 468 points, ms", one_head_ms(result, "digitaltwin, sliding"))
    return found


def plot(path: Path, results: Sequence[dict[str, Any]], curve: Sequence[dict[str, float]]) -> None:
    """Draw milliseconds of every entry at each workload, and the library's cost against v."""
    from matplotlib import pyplot as plt

    columns = (len(results) + 2) // 2
    figure, grid = plt.subplots(2, columns, figsize=(6 * columns, 9), layout="constrained")
    for axis, result in zip(grid.flat, results):
        entries = {name: one_head_ms(result, name) for name in ("digitaltwin", "digitaltwin, sliding")}
        entries |= {name: entry["ms"] for name, entry in result["peers"].items() if entry["reached"]}
        harness.draw_bars(axis, dict(sorted(entries.items(), key=lambda entry: -entry[1])))
        axis.axvline(result["floor_ms"], color="black", linewidth=1, linestyle=":")
        title = f"{result['vertices']} vertices, {result['landmarks']} landmarks"
        axis.set(xlabel="one fit, ms (dotted: floor)", title=title)
    axis, *unused = list(grid.flat)[len(results) :]
    for key, label in _CURVES.items():
        axis.plot([entry["vertices"] for entry in curve], [entry[key] for entry in curve], "o-", label=label)
    axis.set(xlabel="vertices", ylabel="ms", title="digitaltwin, 104 landmarks, batch 1", ylim=(0, None))
    axis.legend()
    for other in unused:
        other.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)
