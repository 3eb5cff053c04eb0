"""``python -m experiments.augment``: killed in the middle, continued in the same folder; a wrong flag in one line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitaltwin.deformation._config import AugmentConfig
from digitaltwin.deformation._folder import augment_folder

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "experiments.augment", "--count=50", "--chunk=20"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, f"--out={tmp_path}"], cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not (tmp_path / "heads-00000.npz").exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    (tmp_path / ".heads-00002.npz.0123456789abcdef").write_bytes(b"half a file")
    first = (tmp_path / "heads-00000.npz").stat().st_mtime_ns
    files, new = augment_folder(tmp_path, AugmentConfig(count=50, chunk=20))
    assert files == 3
    assert new < 3
    assert (tmp_path / "heads-00000.npz").stat().st_mtime_ns == first
    assert {path.name for path in tmp_path.iterdir()} == {"augment.json", *(f"heads-0000{n}.npz" for n in range(3))}


def test_flags_without_a_meaning_are_refused_in_one_line(tmp_path):
    flags = ["--origin=group", "--method=pca", f"--out={tmp_path / 'new'}"]
    result = subprocess.run([*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "origin" in result.stderr
    assert not (tmp_path / "new").exists()
