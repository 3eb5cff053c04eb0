"""What a user installs: complete, described, small, and idle until it is called."""

import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import digitaltwin

ROOT = Path(__file__).parents[1]
ASSETS = Path(digitaltwin.__file__).parent / "assets"
LISTED = re.compile(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})`", re.MULTILINE)


def test_every_shipped_file_is_listed_with_its_hash():
    listed = dict(LISTED.findall((ASSETS / "README.md").read_text()))
    files = [path for path in ASSETS.rglob("*") if path.is_file() and path.suffix != ".md"]
    actual = {path.relative_to(ASSETS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert listed == actual


def test_the_package_stays_small():
    size = sum(path.stat().st_size for path in ASSETS.parent.rglob("*") if "__pycache__" not in path.parts)
    assert size < 60e6


@pytest.mark.parametrize("document", ["README.md", *sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/*.md"))])
def test_documents_name_what_exists(document):
    text = (ROOT / document).read_text()
    for module in re.findall(r"python -m ([\w.]+)", text) + re.findall(r"`(digitaltwin[\w.]*)`", text):
        parent, _, name = module.rpartition(".")
        if not (parent and hasattr(importlib.import_module(parent), name)):
            assert importlib.util.find_spec(module), f"{document} names {module}"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


def test_importing_every_module_does_no_work():
    # Starting a device is what the first computation does, and what fails for who only wants to read a docstring.
    code = """
import importlib, pkgutil, digitaltwin
for _, name, _ in pkgutil.walk_packages(digitaltwin.__path__, "digitaltwin."):
    importlib.import_module(name)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
