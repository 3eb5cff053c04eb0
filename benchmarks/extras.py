"""What benchmarks need beyond the package."""

import importlib

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
