"""The documentation's build: ``sphinx-build -W --keep-going -b html docs docs/_build/html``.

The pages of the API are written into ``docs/api`` at the start, one a room, from the room's front and the source
behind it. The source is read and not imported: signatures and shapes stand there as their authors wrote them, and the
build needs no JAX.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PACKAGE = ROOT / "digitaltwin"

project = "digitaltwin"
author = "the digitaltwin developers"
project_copyright = "the digitaltwin developers, Apache-2.0"
release = re.search(r'"(.+)"', (PACKAGE / "_version.py").read_text())[1]  # type: ignore[index]
version = release

extensions = ["myst_parser", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]

# A reference to a function, method, constant or module of the package must lead somewhere.
nitpicky = True
nitpick_ignore_regex = [("py:(class|exc|obj)", r".*")]

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

add_module_names = False
python_maximum_signature_line_length = 80
toc_object_entries = False

html_theme = "sphinx_book_theme"
html_title = "digitaltwin"
html_static_path = ["_static"]
html_css_files = ["digitaltwin.css"]
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False}
html_show_sourcelink = False

# Files outside this folder that have a page here, by the names other documents link to them with.
PAGES = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "changes.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../digitaltwin/assets/README.md": "data.md",
}

NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_ivar=False, napoleon_use_admonition_for_examples=False)


class Export(NamedTuple):
    """A name on a room's front."""

    name: str
    module: str  # "digitaltwin.fitting._fit"


class Room(NamedTuple):
    """A package with a front."""

    name: str  # "digitaltwin.fitting"
    text: str
    exports: list[Export]


def source(module: str) -> Path:
    """The file of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def parse(path: Path) -> ast.Module:
    """The statements of a file."""
    return ast.parse(path.read_text())


def read_rooms() -> list[Room]:
    """The fronts, in the order of their names; the package's own offers nothing that a room does not."""
    rooms = []
    for front in sorted(PACKAGE.glob("*/__init__.pyi")):
        name = ".".join(front.parent.relative_to(ROOT).parts)
        exports = [
            Export(alias.name, f"{name}.{line.module}")
            for line in parse(front).body
            if isinstance(line, ast.ImportFrom)
            for alias in line.names
        ]
        rooms.append(Room(name, ast.get_docstring(parse(source(name))) or "", exports))
    return rooms


def read_modules() -> Iterator[Room]:
    """The modules that are public by themselves, but for what a front offers too."""
    offered = {export.name for room in read_rooms() for export in room.exports}
    for path in sorted(PACKAGE.rglob("[a-z]*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        names = [Export(name_, name) for name_ in defined(path) if name_[0] != "_" and name_ not in offered]
        if names and not any(part.startswith("_") for part in path.relative_to(PACKAGE).parts):
            yield Room(name, "", names)


def defined(path: Path) -> Iterator[str]:
    """The names of a file's functions, classes and constants."""
    for statement in parse(path).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


ROOMS = [*read_rooms(), *read_modules()]
PATHS = {export.name: f"{room.name}.{export.name}" for room in ROOMS for export in room.exports}


class Linked(ast.NodeTransformer):
    """Public names in an annotation get their full path, which Sphinx shows by its last part and links."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name in an annotation."""
        path = PATHS.get(node.id)
        return ast.Name(f"~{path}") if path else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """A quoted name, for a class that is defined further down."""
        return ast.Name(f"~{PATHS[node.value]}") if node.value in PATHS else node


def written(annotation: ast.expr) -> str:
    """An annotation as text, in double quotes as in the source."""
    return ast.unparse(Linked().visit(annotation))


def signature(function: ast.FunctionDef, *, skip_first: bool) -> str:
    """``(head: HeadModel, *, size: int = 2048) -> TextureLayout``."""
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument and argument.annotation:
            argument.annotation = ast.Name(written(argument.annotation))
    if skip_first:
        (arguments.posonlyargs or arguments.args).pop(0)
    returns = f" -> {written(function.returns)}" if function.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def displayed(text: str) -> str:
    """Indented blocks are formulas: shown as they stand."""
    blocks = re.split(r"\n{2,}", inspect.cleandoc(text))
    shown = []
    for before, block in zip(["", *blocks], blocks, strict=False):
        is_indented = bool(block) and all(line.startswith("  ") for line in block.splitlines())
        is_free = not re.match(r"\s*([*+-]|\d+\.|\.\.) ", before) and not before.rstrip().endswith("::")
        if is_indented and is_free and not (shown and shown[-1].startswith("::\n\n") and before.startswith("  ")):
            block = f"::\n\n{block}"
        elif not is_indented and not re.search(r"^[=+|-]{3,}", block, re.MULTILINE):  # a bar means an absolute value
            block = "".join(
                p if p.startswith("``") else p.replace("|", r"\|") for p in re.split(r"(``.*?``)", block, flags=re.S)
            )
        shown.append(block)
    return unlinked("\n\n".join(shown))


def rendered(text: str | None, what: str = "function") -> str:
    """A Google docstring as reStructuredText."""
    text = inspect.cleandoc(text or "")
    head, heading, rest = re.match(
        r"(.*?)((?:^(?:Args|Returns|Yields|Raises|Examples?):$|\Z))(.*)", text, re.S | re.M
    ).groups()  # type: ignore[union-attr]
    return str(GoogleDocstring(displayed(head) + "\n\n" + unlinked(heading + rest), NAPOLEON, what=what))


def indented(text: str, spaces: int = 3) -> str:
    """A text as the content of a directive."""
    return "\n".join(" " * spaces + line if line.strip() else "" for line in text.splitlines())


def directive(kind: str, title: str, text: str, **options: str) -> str:
    """``.. py:function:: title`` with its content."""
    lines = [f".. py:{kind}:: {title}", *(f"   :{key}: {value}".rstrip() for key, value in options.items())]
    return "\n".join([*lines, "", indented(text), ""])


def is_record(statement: ast.ClassDef) -> bool:
    """Whether a class is a NamedTuple, an enumeration or a dataclass, whose fields are its signature."""
    bases = {ast.unparse(base) for base in statement.bases}
    return bool(bases & {"NamedTuple", "IntEnum", "Enum"}) or any(
        "dataclass" in ast.unparse(decorator) for decorator in statement.decorator_list
    )


def string_after(statements: list[ast.stmt], index: int) -> str:
    """The string that follows a field or constant, and says what it is."""
    after = statements[index + 1] if index + 1 < len(statements) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return inspect.cleandoc(after.value.value)
    return ""


def class_page(name: str, statement: ast.ClassDef) -> str:
    """A class with its fields, properties and methods."""
    parts = [rendered(ast.get_docstring(statement), "class")]
    title = name
    for index, line in enumerate(statement.body):
        private = str(getattr(line, "name", "")).startswith("_")
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id[0] != "_":
            options = {"type": written(line.annotation)}
            if line.value is not None:
                options["value"] = " ".join(ast.unparse(line.value).split())
            parts.append(
                directive("attribute", line.target.id, displayed(string_after(statement.body, index)), **options)
            )
        elif isinstance(line, ast.Assign) and is_record(statement) and isinstance(line.targets[0], ast.Name):
            options = {"value": ast.unparse(line.value)}
            parts.append(
                directive("attribute", line.targets[0].id, displayed(string_after(statement.body, index)), **options)
            )
        elif isinstance(line, ast.FunctionDef) and line.name == "__init__":
            title = name + signature(line, skip_first=True).partition(" -> ")[0]
            parts.append(rendered(ast.get_docstring(line)))
        elif isinstance(line, ast.FunctionDef) and not private:
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in line.decorator_list}
            if decorators & {"property", "cached_property"}:
                options = {"type": written(line.returns)} if line.returns else {}
                parts.append(directive("property", line.name, rendered(ast.get_docstring(line)), **options))
            else:
                flags = {name: "" for name in ("classmethod", "staticmethod") if name in decorators}
                call = line.name + signature(line, skip_first="staticmethod" not in decorators)
                parts.append(directive("method", call, rendered(ast.get_docstring(line)), **flags))
    return directive("class", title, "\n\n".join(parts))


def find(module: str, name: str) -> tuple[ast.stmt, str, str]:
    """Where a name is defined: the statement, the string after it, and the module."""
    path = source(module)
    statements = parse(path.with_suffix(".pyi") if path.name == "__init__.py" else path).body
    for index, statement in enumerate(statements):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return statement, "", module
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [node for target in targets if target for node in getattr(target, "elts", [target])]
        if any(isinstance(node, ast.Name) and node.id == name for node in names):
            return statement, string_after(statements, index), module
        if isinstance(statement, ast.ImportFrom) and any(alias.asname == name for alias in statement.names):
            return find(f"{module}.{statement.module}", name)
    raise ValueError(f"{module} does not define {name}")


def member(module: str, name: str) -> str:
    """The entry of one public name."""
    statement, text, module = find(module, name)
    if isinstance(statement, ast.FunctionDef):
        return directive(
            "function", name + signature(statement, skip_first=False), rendered(ast.get_docstring(statement))
        )
    if isinstance(statement, ast.ClassDef):
        return class_page(name, statement)
    annotation = getattr(statement, "annotation", None)
    return directive("data", name, displayed(text), **({"type": written(annotation)} if annotation else {}))


def heading(text: str, line: str) -> str:
    """A title with its underline."""
    return f"{text}\n{line * len(text)}\n"


PRIVATE = {name for path in PACKAGE.rglob("*.py") for name in defined(path)} - set(PATHS)


def unlinked(text: str) -> str:
    """What has no entry to lead to, as it is private, is shown as code; the package's own names are their room's."""

    def shown(role: re.Match[str]) -> str:
        kind, name = role[1], role[2].rpartition(".")[2]
        if name in PRIVATE:
            return f"``{name}``"
        return f":{kind}:`~{PATHS[name]}`" if role[2] == f"digitaltwin.{name}" and name in PATHS else role[0]

    return re.sub(r":(func|data|class|meth):`~?([^`]+)`", shown, text)


def section(module: str, names: list[str], room: str) -> str:
    """One module behind the front: what it is about, and the public names it holds."""
    title = module.rpartition(".")[2].strip("_").replace("_", " ").capitalize()
    title = {"Icp": "ICP", "Epnp": "EPnP", "Gltf": "glTF", "Ict facekit": "ICT-FaceKit"}.get(title, title)
    text = ast.get_docstring(parse(source(module))) or ""
    has_page = any(module == other.name for other in ROOMS)
    here = "" if has_page else f".. py:module:: {module}\n   :no-index-entry:\n\n.. py:currentmodule:: {room}\n\n"
    entries = "\n".join(member(module, name) for name in names)
    return f"{heading(title, '-')}\n{here}{displayed(text)}\n\n{entries}"


def page(room: Room) -> str:
    """The page of a room."""
    by_module: dict[str, list[str]] = {}
    for export in room.exports:
        by_module.setdefault(export.module, []).append(export.name)
    if source(room.name).name != "__init__.py":
        text = displayed(ast.get_docstring(parse(source(room.name))) or "")
        entries = [member(room.name, export.name) for export in room.exports]
        return "\n\n".join([heading(room.name, "="), f".. py:module:: {room.name}\n", text, *entries]) + "\n"
    folder = source(room.name).parent
    behind = sorted(f"{room.name}.{path.stem}" for path in folder.glob("[a-z_]*.py") if path.stem != "__init__")
    others = [module for module in behind if module not in by_module and ast.get_docstring(parse(source(module)))]
    links = " · ".join(f":any:`{export.name} <{room.name}.{export.name}>`" for export in room.exports)
    parts = [heading(room.name, "="), f".. py:module:: {room.name}\n", displayed(room.text), links]
    parts += [section(module, names, room.name) for module, names in by_module.items()]
    if others:
        parts += [heading("Behind the front", "-"), "What these modules hold is private; their mathematics is not."]
        parts += [section(module, [], room.name).replace("\n-", "\n~").replace("-\n", "~\n") for module in others]
    return "\n\n".join(parts) + "\n"


def write_api(app: Sphinx) -> None:
    """Write ``docs/api``; a page whose text is what it was stays, so that Sphinx does not read it again."""
    folder = DOCS / "api"
    folder.mkdir(exist_ok=True)
    pages = {f"{room.name}.rst": page(room) for room in ROOMS}
    for path in folder.glob("*.rst"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def link_pages(app: Sphinx, name: str, content: list[str]) -> None:
    """Links to files outside this folder lead to their pages here, and stay what they are in the repository."""
    for outside, here in PAGES.items():
        content[0] = content[0].replace(f"]({outside}", f"]({here}")


def quote(app: Sphinx, page: nodes.document) -> None:
    """Shapes in double quotes, as they are written in the source."""
    for shape in page.findall(addnodes.desc_sig_literal_string):
        text = shape.astext()
        if text[:1] == text[-1:] == "'":
            shape.children = [nodes.Text(f'"{text[1:-1]}"')]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_api)
    app.connect("source-read", link_pages)
    app.connect("doctree-read", quote)
