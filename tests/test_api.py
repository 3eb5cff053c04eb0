"""One shape for every public function: documented, annotated, the key first, options by name only."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import digitaltwin

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(digitaltwin.__path__, "digitaltwin.")
    if not any(part.startswith("_") for part in name.split("."))
)


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions, jitted or not, and classes that this very module defines."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            if (
                inspect.isclass(value)
                or (callable(value) and hasattr(value, "__wrapped__"))
                or inspect.isfunction(value)
            ):
                yield name, value


@pytest.mark.parametrize("name", ["digitaltwin", *MODULES])
def test_modules_say_what_they_are(name):
    assert len(importlib.import_module(name).__doc__ or "") > 20, f"{name} has no docstring"


@pytest.mark.parametrize("module_name", MODULES)
def test_public_functions_keep_the_house_shape(module_name):
    faults = []
    for name, value in public(importlib.import_module(module_name)):
        if not inspect.getdoc(value) or value.__doc__ is None:
            faults.append(f"{name}: no docstring")
        if inspect.isclass(value):
            continue
        parameters = inspect.signature(value).parameters
        if "key" in parameters and next(iter(parameters)) != "key":
            faults.append(f"{name}: the key does not come first")
        for position, parameter in enumerate(parameters.values()):
            # The first may have a default and be given without its name: load_head(), load_head(path).
            optional = position > 0 and parameter.default is not parameter.empty
            if optional and parameter.kind is not parameter.KEYWORD_ONLY:
                faults.append(f"{name}: the option {parameter.name} is not keyword-only")
            if parameter.annotation is parameter.empty:
                faults.append(f"{name}: {parameter.name} has no type")
        if inspect.signature(value).return_annotation is inspect.Signature.empty:
            faults.append(f"{name}: no return type")
    assert not faults, "\n".join(faults)


def test_the_walk_sees_functions_jitted_functions_and_classes():
    images = dict(public(importlib.import_module("digitaltwin.io._images")))
    assert {"Photo", "read_image"} <= set(images)
    assert "Path" not in images
