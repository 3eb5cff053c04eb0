"""What benchmarks need beyond the package."""

import importlib
from types import ModuleType

from digitaltwin.types import InputError


def require(*modules: str) -> None:
    """Import modules of the bench extra, before minutes are spent on measuring.

    Raises:
        InputError: one is not installed.
    """
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise InputError(f'{name}: is not installed; pip install -e ".[bench]".') from error
        if name == "matplotlib":
            module.use("Agg")  # a picture in a file; no screen is needed


def find(name: str) -> ModuleType | None:
    """A module that a benchmark compares with where it is installed, or None after a line that says it is left out."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: left out, it is not installed or cannot be loaded ({error})")
        return None
