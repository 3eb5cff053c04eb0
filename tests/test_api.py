"""The public line: what the rooms' fronts export is all there is, is documented in full, and has one shape.

A room's front is its ``__init__.pyi``, read here as text; so nothing that is exported can be forgotten.
``python tests/test_api.py ROOM ...`` prints what is missing.
"""

import ast
import collections
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import digitaltwin

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "digitaltwin"

# The modules that may be imported by their own name, because what they hold is a subject of its own.
PUBLIC_MODULES = {"types", "head.markup", "io.assets", "io.meshes"}

MOST_EXPORTS = 118  # of all rooms
MOST_EXPORTS_OF_A_ROOM = 17

TWO_PATHS: set[str] = set()  # rooms of which another room offers a name too; none at the end

# Options that may be given without their name, because scripts do.
POSITIONAL = {"make_fitter": {"config"}}

# What flags and command lines read, before JAX is needed.
CONFIGURATIONS = {
    "deformation.PolarConfig",
    "evaluation.ProtocolConfig",
    "fitting.FitConfig",
    "geometry.IcpConfig",
    "registration.IdentityConfig",
    "registration.NonRigidConfig",
    "registration.RegistrationConfig",
    "synthesis.SceneConfig",
    "types.InputError",
    "types.Mesh",
    "types.check_ranges",
}
STILL_IMPORT_JAX: set[str] = set()  # none at the end

# What scripts outside the repository rely on, by the modules they import it from.
KEPT = """
from digitaltwin import create_avatar
from digitaltwin.deformation import decode, encode, make_reference
from digitaltwin.evaluation import armse, compare_surfaces
from digitaltwin.fitting import FitConfig, fit, fit_batch, fit_views, make_fitter
from digitaltwin.head import landmark_points, load_head, load_subjects, neutral_shape, save_head
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan, read_surface
from digitaltwin.perception import detect_landmarks
from digitaltwin.registration import load_ict_head, register_scan
from digitaltwin.texture import complete_texture, project_texture
"""
KEPT_WITH_A_WARNING = "from digitaltwin.fitting import OK"


class Export(NamedTuple):
    """A public name."""

    room: str  # "fitting"; "" for the package itself
    name: str
    module: str  # where it is defined: "digitaltwin.fitting._fit"


def exports_of(front: Path) -> Iterator[Export]:
    """The lines ``from .module import name as name`` of a front."""
    package = ".".join(front.parent.relative_to(ROOT).parts)
    room = package.partition(".")[2]
    for line in ast.parse(front.read_text()).body:
        assert isinstance(line, ast.ImportFrom), f"{front}: only imports, please"
        assert line.level == 1, f"{front}: {line.module} is not the room's own"
        for alias in line.names:
            assert alias.asname == alias.name, f"{front}: write {alias.name} as {alias.name}"
            yield Export(room, alias.name, f"{package}.{line.module}")


FRONTS = sorted(PACKAGE.rglob("__init__.pyi"))
EXPORTS = [export for front in FRONTS for export in exports_of(front)]
ROOMS = sorted({export.room for export in EXPORTS} - {""})
BY_ROOM = {room: [export for export in EXPORTS if export.room == room] for room in ROOMS}


# Where and how a name is defined.


@functools.cache
def body(module: str) -> list[ast.stmt]:
    """The statements of a module."""
    spec = importlib.util.find_spec(module)
    assert spec, module
    assert spec.origin, module
    path = Path(spec.origin)
    return ast.parse((path.with_suffix(".pyi") if path.name == "__init__.py" else path).read_text()).body


def definition(module: str, name: str) -> tuple[str, ast.stmt, str | None]:
    """Where a name is defined, with its module and, for a constant, the string that follows it."""
    statements = body(module)
    for statement, after in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return module, statement, ast.get_docstring(statement)
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [node for target in targets if target for node in getattr(target, "elts", [target])]
        if any(isinstance(node, ast.Name) and node.id == name for node in names):
            return module, statement, string(after)
        if isinstance(statement, ast.ImportFrom) and any(alias.asname == name for alias in statement.names):
            return definition(
                importlib.util.resolve_name("." * statement.level + (statement.module or ""), module), name
            )
    raise AssertionError(f"{module} does not define {name}")


def string(statement: ast.stmt | None) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return inspect.cleandoc(str(statement.value.value))
    return None


def refuses(module: str, function: ast.FunctionDef, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function raises InputError itself or by another function of its module."""
    others = {statement.name: statement for statement in body(module) if isinstance(statement, ast.FunctionDef)}
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if getattr(node.exc.func, "id", None) == "InputError":
                return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            other = node.func.id
            if other == "check_ranges":
                return True
            if other in others and other not in seen and refuses(module, others[other], seen | {other}):
                return True
    return False


# What a docstring has to hold.

SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)
ENTRY = re.compile(r"^    (\*{0,2}\w+):[ \n]", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """A docstring's parts by their headings; what comes before them under ``""``."""
    first, *rest = SECTION.split(text)
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def entries(section: str) -> dict[str, str]:
    """The text of each entry under ``Args:``."""
    _, *rest = ENTRY.split("\n" + section.split("\n\n")[0].strip("\n"))
    names = [name.lstrip("*") for name in rest[::2]]
    return dict(zip(names, [" ".join(text.split()) for text in rest[1::2]], strict=True))


def sentence_faults(text: str) -> Iterator[str]:
    """What keeps a text from being whole sentences."""
    text = " ".join(text.split())
    if not re.match(r"[A-Z0-9`\"|({\[]", text):
        yield f"does not begin with a capital letter: {text[:40]!r}"
    if not re.search(r"[.:!?][\"`)]*$", text):
        yield f"does not end with a full stop: {text[-40:]!r}"


def summary_faults(text: str) -> Iterator[str]:
    summary = text.strip().split("\n\n")[0]
    yield from sentence_faults(summary)
    if re.match(r"(Of|What|The same|As|From|Whether)\b", summary):
        yield f"half a sentence: {summary[:40]!r}"
    if re.search(r"^\s*\.\.\. ?\w", text.replace(">>>", ""), re.MULTILINE) and ">>>" not in text:
        yield "a sentence is joined by dots"


def unit_faults(name: str, kind: str, text: str) -> Iterator[str]:
    """Lengths of type float end in ``_mm``, image positions in ``_px``, angles in ``_deg`` or are in radians."""
    length = re.search(r"\[mm\]|\bin millimet", text) and re.fullmatch(r"float( \| None)?", kind)
    if length and not re.search(r"_mm$|^(omega|lambda)_", name):  # the weights' texts name the unit of what they weigh
        yield f"{name} is a length, but does not end in _mm"
    scalar = re.fullmatch(r"(float|int)( \| None)?", kind)
    if scalar and re.search(r"\[px\]|\bin pixels\b", text) and not re.search(r"_px$|size|_hw$", name):
        yield f"{name} is in pixels, but does not end in _px"
    if re.search(r"\bdegrees\b", text) and not re.search(r"radian", text) and not name.endswith("_deg"):
        if re.search(r"\[degrees\]|\bin degrees\b", text):
            yield f"{name} is in degrees, but does not end in _deg"
    if re.search(r"(^|_)(angle|yaw|pitch|roll|azimuth|elevation)s?$", name) and not re.search(r"radian|\[rad\]", text):
        yield f"{name} does not say that it is in radians"


def function_faults(name: str, module: str, function: ast.FunctionDef, *, method: bool = False) -> Iterator[str]:
    text = ast.get_docstring(function)
    if not text:
        yield f"{name}: no docstring"
        return
    yield from (f"{name}: {fault}" for fault in summary_faults(text))
    parts = sections(text)
    arguments = [*function.args.posonlyargs, *function.args.args][method:]
    extra = [argument for argument in (function.args.vararg, function.args.kwarg) if argument]
    everything = [*arguments, *function.args.kwonlyargs, *extra]
    described = entries(parts.get("Args", ""))
    for argument in everything:
        if argument.annotation is None:
            yield f"{name}: {argument.arg} has no type"
        if argument.arg not in described:
            yield f"{name}: Args lacks {argument.arg}"
        else:
            entry = described[argument.arg]
            yield from (f"{name}: {argument.arg} {fault}" for fault in sentence_faults(entry))
            kind = ast.unparse(argument.annotation) if argument.annotation else ""
            yield from (f"{name}: {fault}" for fault in unit_faults(argument.arg, kind, entry))
    for unknown in described.keys() - {argument.arg for argument in everything}:
        yield f"{name}: Args describes {unknown}, which is no parameter"
    optional = arguments[len(arguments) - len(function.args.defaults) :]
    # The first may have a default and be given without its name: load_head(), load_head(path).
    yield from (
        f"{name}: the option {a.arg} is not keyword-only"
        for a in optional
        if a is not arguments[0] and a.arg not in POSITIONAL.get(name, ())
    )
    if any(argument.arg == "key" for argument in everything) and arguments[0].arg != "key":
        yield f"{name}: the key does not come first"
    if function.returns is None:
        yield f"{name}: no return type"
    elif ast.unparse(function.returns) not in ("None", "NoReturn") and not {"Returns", "Yields"} & parts.keys():
        yield f"{name}: no Returns"
    if refuses(module, function) and "Raises" not in parts:
        yield f"{name}: no Raises, though it raises InputError"
    if not method:
        example = parts.get("Example", parts.get("Examples", ""))
        if ">>>" not in example:
            yield f"{name}: no Example"
        elif "+SKIP" in example:
            yield f"{name}: the example does not run"


def class_faults(name: str, module: str, class_: ast.ClassDef) -> Iterator[str]:
    text = ast.get_docstring(class_)
    if not text:
        yield f"{name}: no docstring"
        return
    yield from (f"{name}: {fault}" for fault in summary_faults(text))
    described = entries(sections(text).get("Args", ""))
    record = bool(class_.decorator_list) or any(ast.unparse(base) == "NamedTuple" for base in class_.bases)
    for statement, after in zip(class_.body, [*class_.body[1:], None], strict=True):
        if record and isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
            about = string(after) or described.get(field)
            if field.startswith("_"):
                continue
            if about is None:
                yield f"{name}: {field} is not described"
                continue
            yield from (f"{name}: {field} {fault}" for fault in sentence_faults(about))
            yield from (f"{name}: {fault}" for fault in unit_faults(field, ast.unparse(statement.annotation), about))
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in statement.decorator_list}
            if decorators & {"property", "cached_property"}:  # reads like a field, so it is described like one
                about = ast.get_docstring(statement) or ""
                yield from (f"{name}: {statement.name} {fault}" for fault in sentence_faults(about))
            else:
                static = "staticmethod" in decorators
                yield from function_faults(f"{name}.{statement.name}", module, statement, method=not static)


def faults_of(export: Export) -> list[str]:
    """Everything that a public name still lacks."""
    module, statement, text = definition(export.module, export.name)
    if isinstance(statement, ast.FunctionDef):
        return list(function_faults(export.name, module, statement))
    if isinstance(statement, ast.ClassDef):
        return list(class_faults(export.name, module, statement))
    if not text:
        return [f"{export.name}: no docstring"]
    return [f"{export.name}: {fault}" for fault in summary_faults(text)]


# The tests.


def test_every_room_has_a_front():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= {"cli", *ROOMS}


def test_modules_behind_the_fronts_are_private():
    modules = {name.partition(".")[2] for _, name, ispkg in pkgutil.walk_packages(digitaltwin.__path__, "digitaltwin.")}
    public = {name for name in modules if not any(part.startswith("_") for part in name.split("."))}
    folders = {".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.py")}
    assert public - folders <= PUBLIC_MODULES


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_room_exports_what_its_front_says_and_nothing_else(room):
    module = importlib.import_module(f"digitaltwin.{room}".rstrip("."))
    assert len(module.__doc__ or "") > 20, f"{room} has no docstring"
    names = [export.name for export in EXPORTS if export.room == room]
    assert sorted(module.__all__) == sorted(names)
    for name in names:
        assert getattr(module, name) is not None or name.isupper()


def test_the_exports_are_few_enough_to_be_known():
    counts = {room: len(exports) for room, exports in BY_ROOM.items()}
    assert sum(counts.values()) <= MOST_EXPORTS, counts
    assert max(counts.values()) <= MOST_EXPORTS_OF_A_ROOM, counts


def test_a_public_name_has_one_path():
    paths = collections.defaultdict(set)
    for export in EXPORTS:
        if export.room:  # the package itself offers the avatar once more
            module, _, _ = definition(export.module, export.name)
            paths[module, export.name].add(export.room)
    twice = {name for name, rooms in paths.items() if len(rooms) > 1}
    assert {module.split(".")[1] for module, _ in twice} <= TWO_PATHS, twice


def test_no_function_is_named_like_a_module():
    modules = {name.rpartition(".")[2] for _, name, _ in pkgutil.walk_packages(digitaltwin.__path__, "digitaltwin.")}
    assert not {export.name for export in EXPORTS} & modules


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_keep_the_house_shape(room):
    faults = [fault for export in BY_ROOM[room] for fault in faults_of(export)]
    assert not faults, "\n".join(faults)


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_fronts_and_configurations_do_not_import_jax():
    code = [
        "import importlib, sys",
        *(f"import digitaltwin.{room}" for room in ROOMS),
        "assert 'jax' not in sys.modules",
    ]
    for path in sorted(CONFIGURATIONS - STILL_IMPORT_JAX):
        room, _, name = path.rpartition(".")
        code += [f"getattr(importlib.import_module('digitaltwin.{room}'), '{name}')"]
        code += [f"if 'jax' in sys.modules: sys.exit('{path} imports JAX')"]
    run("\n".join(code))


def test_kept_names_can_be_imported():
    run(KEPT)
    run(f"import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n{KEPT_WITH_A_WARNING}")


def example(text: str) -> list[str]:
    function = ast.parse(inspect.cleandoc(text)).body[0]
    assert isinstance(function, ast.FunctionDef)
    return list(function_faults(function.name, "digitaltwin.types", function))


def test_the_walk_finds_what_is_missing():
    assert example("def f(a, b=1): 'Of a.'") == [
        "f: half a sentence: 'Of a.'",
        "f: a has no type",
        "f: Args lacks a",
        "f: b has no type",
        "f: Args lacks b",
        "f: the option b is not keyword-only",
        "f: no return type",
        "f: no Example",
    ]
    assert not example('''
        def turn(key: int, *, angle: float, length_mm: float = 1.0) -> float:
            """Turn a thing.

            Args:
                key: Random key.
                angle: How far, in radians; a full turn
                    is 6.28.
                length_mm: The lever [mm].

            Returns:
                The way.

            Raises:
                InputError: The angle is not finite.

            Example:
                >>> 1 + 1
                2

            Source: a paper.
            """
            raise InputError("angle")
    ''')


if __name__ == "__main__":
    total: dict[str, Any] = {}
    for chosen in sys.argv[1:] or ROOMS:
        found = [fault for export in BY_ROOM[chosen] for fault in faults_of(export)]
        total[chosen] = len(found)
        if sys.argv[1:]:
            print(*found, sep="\n")
    print(total, {room: len(exports) for room, exports in BY_ROOM.items()}, len(EXPORTS))
