"""What all commands share: help and refusals without JAX, exit codes, stages, the cache of compiled programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from digitaltwin._stages import listen, stage
from digitaltwin.cli import main
from digitaltwin.cli._main import COMMANDS

ROOT = Path(__file__).parents[2]


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def test_help_and_refusals_need_no_jax(tmp_path):
    (tmp_path / "diary.jpg").write_text("Dear diary,\n")
    refused = [
        [str(tmp_path / "absent.jpg")],
        [str(tmp_path / "diary.jpg")],
        ["photo.jpg", "--imgae=3"],
        ["fit"],
        ["fit", f"--landmarks={tmp_path / 'absent.npz'}"],
        ["fit", "--chunk=0"],
        ["evaluate"],
        ["evaluate", f"--predictions={tmp_path}", f"--scans={tmp_path / 'absent'}"],
        ["register", f"--scan={tmp_path / 'absent.obj'}"],
        [],
    ]
    helped = [["--help"], ["photo.jpg", "-h"], *([name, "--help"] for name in COMMANDS), ["--version"]]
    result = python(f"""
import sys
from digitaltwin.cli import main
for arguments in {refused!r}:
    assert main(arguments) == 2, arguments
for arguments in {helped!r}:
    assert main(arguments) == 0, arguments
slow = {{"jax", "scipy", "trimesh", "flax", "matplotlib"}} & set(sys.modules)
assert not slow, slow
""")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == len(refused)
    assert list(tmp_path.iterdir()) == [tmp_path / "diary.jpg"]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ([], ("--out", "--focal_px", "--texture_size=512|1024|2048|4096", "quick", "quiet", "overwrite", "130")),
        (["fit"], ("--landmarks", "--chunk", "--iterations", "principal_point_px", "--part")),
        (["evaluate"], ("--predictions", "--layout=folders|now|stirling", "--workers", "(default: 2)")),
        (["register"], ("--scan", "--landmarks", "--scalp", "hair")),
    ],
)
def test_help_names_every_flag(capsys, command, names):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    for name in names:
        assert name in text


@pytest.mark.parametrize(
    ("verb", "arguments", "problem"),
    [
        (
            "avatar",
            ["--image=absent.jpg", "--out=out", "--focal_px=900", "--texture_size=512", "--quick"],
            "absent.jpg",
        ),
        ("fit", ["--landmarks=absent.npz"], "absent.npz"),
        ("evaluate", [], "--predictions and --scans"),
        ("register", ["--scan=absent.obj"], "absent.obj"),
    ],
)
def test_verbs_of_experiments_call_the_same_commands(tmp_path, verb, arguments, problem):
    result = subprocess.run(
        [sys.executable, "-m", f"experiments.{verb}", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_commands_leave_no_global_flag_behind():
    before = set(flags.FLAGS)
    assert main(["evaluate", "--workers=0"]) == 2
    assert set(flags.FLAGS) == before


@pytest.mark.parametrize(
    ("code", "status", "last"),
    [
        ("run_command(lambda: 1 / 0)", 1, "please report"),
        ("run_command(lambda: None)", 0, ""),
        ("def work():\n    raise KeyboardInterrupt\nrun_command(work)", 130, "interrupted"),
        ("def work():\n    raise InputError('photo: is none.')\nrun_command(work)", 2, "photo: is none."),
        ("import sys; sys.argv += ['--nosuch=1']; run_command(print)", 2, "nosuch"),
        ("import sys; sys.argv += ['photo.jpg']; run_command(print)", 2, "photo.jpg: every argument needs"),
    ],
)
def test_programs_end_with_the_code_that_says_how_it_went(code, status, last):
    result = python(f"from digitaltwin.cli import run_command\nfrom digitaltwin.types import InputError\n{code}")
    assert result.returncode == status, result.stderr
    assert last in (result.stderr.splitlines() or [""])[-1]
    assert ("Traceback" in result.stderr) == (status == 1)


def test_stages_are_told_to_those_who_listen_and_only_when_they_end():
    told, seconds = [], {}
    with listen(lambda name, taken: told.append(name)):
        with stage(seconds, "first"):
            pass
        with pytest.raises(ZeroDivisionError), stage(seconds, "second"):
            raise ZeroDivisionError
    with stage(seconds, "third"):
        pass
    assert told == ["first"]
    assert list(seconds) == ["first", "third"]


def test_an_unwritable_cache_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("")
    code = """
import jax
from digitaltwin.cli._command import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # whatever this small program takes
print(jax.jit(lambda x: x + 1)(1))
print(jax.config.jax_compilation_cache_dir is not None)
"""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    for cache, kept in ((tmp_path / "file", False), (tmp_path / "cache", True)):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**environment, "XDG_CACHE_HOME": str(cache)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.split() == ["2", str(kept)]
        assert any(cache.glob("digitaltwin/jax-programs-*/*-cache")) == kept


def test_help_into_a_pipe_that_closes_ends_quietly():
    # As `digitaltwin --help | head` does; the reader is gone before a line is written.
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-m", "digitaltwin", "--help"], stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


LOST_INTERRUPT = """
import os, signal, time
from digitaltwin.cli._command import guard

class Dropped:
    def __del__(self):  # what is raised here is lost
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def work():
    Dropped()
    print("went on", flush=True)
    time.sleep(60)
    print("done")

raise SystemExit(guard(work))
"""


def test_an_interrupt_that_python_drops_comes_again():
    done = python(LOST_INTERRUPT, timeout=50)
    assert (done.returncode, done.stdout) == (130, "went on\n")
    assert done.stderr == "interrupted: nothing was left half-written\n"
