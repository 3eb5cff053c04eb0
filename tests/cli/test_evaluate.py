"""``digitaltwin evaluate`` as its users meet it: the sheet, going on where it was, and what it refuses."""

import csv
import subprocess
import sys

import pytest

from digitaltwin.cli import main
from digitaltwin.io import load_arrays


def run(*arguments):
    command = [sys.executable, "-m", "digitaltwin", "evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_example_is_scored_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "scores"
    first = run("--quick", f"--out={out}")
    assert first.returncode == 0, first.stderr
    assert str(out) in first.stderr.splitlines()[0], "it says at once what it does"
    for name in ("errors.csv", "table.csv", "curves.png", "groups.png", "heatmaps.png", "index.html"):
        assert (out / name).stat().st_size > 100, name
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    everybody = {float(row["crop_mm"]): float(row["armse_mm"]) for row in rows if row["group"] == "all"}
    assert list(everybody) == [80.0, 90.0, 95.0, 100.0, 110.0]
    assert 1.0 < everybody[80.0] < everybody[110.0] < 6.0, "the mean head is some millimetres from anybody"
    scored = sorted((out / "scored").iterdir())
    assert len(scored) == 8
    arrays, _ = load_arrays(scored[0])
    assert arrays["signed_mm"].shape == arrays["vertices"].shape[:1]

    # The same folders again: what is done is kept, what is lost is done.
    written = scored[0].stat().st_mtime_ns
    scored[1].unlink()
    folders = [f"--{part}={out / 'example' / part}" for part in ("predictions", "scans")]
    assert main(["evaluate", *folders, f"--groups={out / 'example' / 'groups.csv'}", f"--out={out}", "--quiet"]) == 0
    again = capsys.readouterr()
    assert again.err == ""
    assert scored[0].stat().st_mtime_ns == written
    assert scored[1].exists()
    assert again.out == first.stdout
    with (out / "errors.csv").open() as file:
        assert {(row["vertices"], row["faces"]) for row in csv.DictReader(file)} == {("2699", "5266")}


def test_wrong_folders_are_named(tmp_path, capsys):
    out = tmp_path / "out"
    for arguments, words in (
        ([f"--predictions={tmp_path}", f"--scans={tmp_path}"], "holds no meshes"),
        ([f"--predictions={tmp_path / 'absent'}", f"--scans={tmp_path}"], "absent: there is no such folder"),
        ([], "--predictions and --scans"),
    ):
        assert main(["evaluate", f"--out={out}", "--quiet", *arguments]) == 2
        errors = capsys.readouterr().err
        assert words in errors
        assert errors.count("\n") == 1
        assert not out.exists()
