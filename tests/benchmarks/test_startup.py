"""The processes that benchmarks.startup measures run the tree they should, without the user's settings."""

import os
import shutil
import subprocess

import pytest

from benchmarks import startup


def test_a_process_runs_its_own_tree_and_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    code = """
import json, os, digitaltwin, sys
print("not a row")
names = ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "OPENBLAS_NUM_THREADS")
print(json.dumps([[digitaltwin.__file__, *(os.environ.get(name) for name in names), sys.argv[1]]]))
"""
    (row,) = startup.measure(startup.ROOT, tmp_path, code, 5, OPENBLAS_NUM_THREADS="1")
    assert row[0].startswith(str(startup.ROOT))
    assert row[1:] == [str(tmp_path), None, "1", "5"]
    with pytest.raises(RuntimeError, match="what is wrong"):
        startup.measure(startup.ROOT, tmp_path, "raise ValueError('what is wrong')")


@pytest.mark.skipif(not shutil.which("git") or not (startup.ROOT / ".git").exists(), reason="no repository")
def test_a_worktree_goes_when_it_is_done():
    with startup.worktree("HEAD") as folder:
        assert (folder / "digitaltwin" / "types.py").is_file()
    assert not folder.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=startup.ROOT, capture_output=True, text=True, check=True)
    assert os.fspath(folder) not in listed.stdout


def test_medians_are_of_columns():
    assert startup.medians([[1.0, 5.0], [2.0, 4.0], [9.0, 0.0]]) == [2.0, 4.0]
