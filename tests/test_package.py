"""What a user installs: complete, described, small, and idle until it is called."""

import ast
import configparser
import functools
import hashlib
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
import types
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


DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("digitaltwin/**/*.md")]
)
HISTORY = {"CHANGELOG.md"}  # names what was, too


@functools.cache
def resolve(path: str) -> object:
    """What a dotted name stands for; AttributeError or ImportError if there is nothing of that name."""
    parent, _, name = path.rpartition(".")
    if not parent:
        return importlib.import_module(path)
    above = resolve(parent)
    if isinstance(above, types.ModuleType) and not hasattr(above, name):
        return importlib.import_module(path)
    return getattr(above, name)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_link_to_what_exists(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / document).read_text()):
        assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document not in HISTORY])
def test_documents_name_what_exists(document):
    text = (ROOT / document).read_text()
    for module in re.findall(r"python -m ([a-z][\w.]*[a-z]\b)", text):
        assert importlib.util.find_spec(module), f"{document} runs {module}"
    for name in re.findall(r"`(digitaltwin(?:\.\w+)+)", text):
        resolve(name)
    # Imports in blocks of code: every name of theirs.
    for module, several, one in re.findall(
        r"^from (digitaltwin[\w.]*) import (?:\(([^)]+)\)|(.+))", text, re.MULTILINE
    ):
        names = re.sub(r"#.*", "", several or one)
        for name in re.findall(r"\w+", names):
            resolve(f"{module}.{name}")


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document not in HISTORY])
def test_documents_call_functions_with_options_they_have(document):
    """Keywords in blocks of Python are parameters of the public function that is called."""
    text = (ROOT / document).read_text()
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        tree = ast.parse(textwrap.dedent(block))
        public = {
            alias.asname or alias.name: resolve(f"{line.module}.{alias.name}")
            for line in ast.walk(tree)
            if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("digitaltwin")
            for alias in line.names
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in public:
                parameters = inspect.signature(public[call.func.id]).parameters
                if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                    continue
                for keyword in call.keywords:
                    assert keyword.arg in parameters, f"{document}: {ast.unparse(call)}"


def test_commands_in_documents_have_the_flags_they_are_given():
    text = "\n".join((ROOT / document).read_text() for document in DOCUMENTS if document not in HISTORY)
    folders = ("digitaltwin", "experiments", "benchmarks")
    source = "".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))
    commands = re.findall(
        r"(?:python -m (?:experiments|benchmarks)\.\w+|^digitaltwin\b)(?: +[^`\n]+)", text, re.MULTILINE
    )
    assert commands
    for command in commands:
        for flag in re.findall(r" --(\w+)", command.partition("#")[0]):
            # A default comes from a dataclass in some commands, so its field's name may stand for the flag's.
            assert re.search(rf"\b{flag.removeprefix('no')}|\b{flag}\b", source), f"no flag --{flag}: {command}"


def test_the_wheel_is_the_package_alone_with_its_types():
    """What setup.cfg tells setuptools."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["options"]["packages"] == "find:"
    # The front is lazy, so a build that has installed nothing yet finds the version only where it is written.
    module, _, name = settings["metadata"]["version"].removeprefix("attr:").strip().rpartition(".")
    assert re.search(rf"^{name} = ", Path(ROOT, *module.split(".")).with_suffix(".py").read_text(), re.MULTILINE)
    assert settings["options.packages.find"]["include"] == "digitaltwin*"
    assert [path.name for path in ROOT.glob("digitaltwin*/__init__.py")] == ["__init__.py"]
    patterns = {part.strip() for part in settings["options.package_data"]["*"].split(",")}
    assert {"py.typed", "*.pyi"} <= patterns
    assert (ROOT / "digitaltwin" / "py.typed").exists()
    for folder in {path.parent for path in (ROOT / "digitaltwin").rglob("*.py")}:
        front = folder / "__init__.py"
        assert front.exists(), f"{folder} would not be in the wheel"
        assert "attach_stub" not in front.read_text() or front.with_suffix(".pyi").exists()


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
