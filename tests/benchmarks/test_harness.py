"""The benchmarks' harness, and the size of what they have committed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import harness

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "avatar",
    "deformation.__main__",
    "evaluation.__main__",
    "fitting.__main__",
    "fitting.verification",
    "registration.__main__",
    "startup",
)


@pytest.mark.parametrize("path", sorted(path.name for path in harness.RESULTS.iterdir() if path.suffix != ".png"))
def test_a_committed_result_is_a_summary(path):
    text = (harness.RESULTS / path).read_text()
    assert text.count("\n") <= harness.RESULT_LINES
    assert len(text) <= 200_000
    if path.endswith(".json"):
        assert json.loads(text)


def test_results_longer_than_a_summary_are_refused(tmp_path):
    rows = [{"text": "x" * 150} for _ in range(harness.RESULT_LINES)]
    with pytest.raises(ValueError, match="lines"):
        harness.write_results(tmp_path / "x.json", "nothing", (), {}, {}, rows=rows)
    assert not list(tmp_path.iterdir())
    goals = {"fast, s": harness.Goal(2.0), "ratio": harness.Goal(3.0, at_least=True)}
    harness.write_results(tmp_path / "x.json", "nothing", ("numpy", "no-such"), goals, {"ratio": 4.0}, rows=rows[:2])
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["goals"] == {"ratio": {"value": 4.0, "goal": 3.0, "better": "higher"}}
    assert "numpy" in found["machine"]
    assert "no-such" not in found["machine"]


def test_a_goal_knows_which_way_is_better():
    assert harness.Goal(2.0).is_met(1.0)
    assert not harness.Goal(2.0).is_met(3.0)
    assert harness.Goal(2.0, at_least=True).is_met(3.0)
    text = harness.goals_table({"a": harness.Goal(2.0), "b": harness.Goal(1.0)}, {"a": 3.0})
    assert "missed" in text
    assert "b" not in text.replace("better", "")


def test_calls_are_timed_in_turns():
    made = []
    calls = [lambda: made.append("a"), lambda: made.append("b")]
    timing = harness.time_calls(calls, float("inf"), warm_up=True, most=6)
    assert made == ["a", "b"] * 4
    assert timing.calls == 6
    assert timing.best_s <= timing.quartiles_s[0] <= timing.wall_s <= timing.quartiles_s[1]
    slow = harness.time_calls(lambda: time.sleep(0.01), 0.0, warm_up=True)
    assert slow.calls == 1, "where the first call takes longer than there is, it is the measurement"
    assert slow.wall_s >= 0.01


def test_the_first_call_is_timed_apart():
    made = []
    found, entry = harness.time_entry([lambda: made.append("a") or len(made), lambda: made.append("b")], 0.0)
    assert found == 1
    assert made[:3] == ["a", "a", "b"]
    assert entry["calls"] == len(made) - 1
    assert entry["first_call_s"] < 1.0 < entry["peak_mb"]


def test_axes_that_stay_empty_are_hidden(tmp_path):
    harness.require("matplotlib")
    with harness.figure(tmp_path / "x.png", 1, 2, (2.0, 1.0)) as axes:
        axes[0].plot([0.0, 1.0])
    assert [axis.get_visible() for axis in axes] == [True, False]
    assert (tmp_path / "x.png").stat().st_size > 0


def test_a_process_of_its_own_has_its_own_blas_threads(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    assert harness.in_subprocess(os.getenv, "OPENBLAS_NUM_THREADS", blas_threads=1) == "1"
    assert harness.in_subprocess(os.getenv, "OPENBLAS_NUM_THREADS") is None
    assert harness.in_subprocess(os.getenv, "SOMETHING", environment={"SOMETHING": "x"}) == "x"
    assert harness.in_subprocess(os.getenv, "XDG_CACHE_HOME", environment={"XDG_CACHE_HOME": "x"}) == "x"
    assert harness.in_subprocess(os.getenv, "XDG_CACHE_HOME") not in (None, os.getenv("XDG_CACHE_HOME"))
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    with pytest.raises(ValueError, match="invalid literal"):
        harness.in_subprocess(int, "x")


def test_a_command_is_measured_to_its_end():
    usage = harness.run_command([sys.executable, "-c", "x = bytearray(50_000_000); sum(range(10**6))"])
    assert usage.peak_mb > 50.0
    assert 0.0 < usage.cpu_s
    with pytest.raises(RuntimeError, match="ended with 3"):
        harness.run_command([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_neither_jax_nor_numpy(name):
    """Every module that a command loads before its flags are parsed is light."""
    code = f"import sys, benchmarks.{name}; print({{'jax', 'numpy'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_the_former_name_of_a_benchmark_has_its_flags():
    command = [sys.executable, "-m", "benchmarks.fitting_proof", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--problems" in result.stdout
    assert "is now benchmarks.fitting.verification" in result.stderr


def test_a_benchmark_ends_as_every_command_does():
    code = "from benchmarks import harness\ndef main():\n    raise KeyboardInterrupt\nharness.run(main, blas_threads=1)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
