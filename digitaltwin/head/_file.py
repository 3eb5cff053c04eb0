"""The file of a head model: a compressed ``.npz`` of plain arrays, its names and sources as JSON."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from digitaltwin.head._model import HeadModel, arrays_of_head, head_from_arrays
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

T = TypeVar("T")

_NAMES = ("expression_names", "other_expression_names", "group_names", "part_names")
# Stored in half precision: displacements and bases (below 0.02 mm off), but neither positions nor texture coordinates.
_HALF = (
    "expressions",
    "other_expressions",
    "identity",
    "parts_expressions",
    "parts_other_expressions",
    "parts_identity",
)


def save_head(head: HeadModel, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a head as a compressed ``.npz`` with its names as JSON; displacements in half precision.

    Args:
        head: The model.
        path: File to write.
        metadata: Further facts to keep beside the names, such as sources and licence.

    Raises:
        InputError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from digitaltwin.head import load_head
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "head.npz"
        >>> save_head(load_head(), path, metadata={"licence": "CC0-1.0"})
        >>> load_head(path).mean.shape
        (2699, 3)
    """
    arrays = arrays_of_head(head)
    arrays |= {name: arrays[name].astype(np.float16) for name in _HALF}
    save_arrays(path, arrays, {**(metadata or {}), **{name: list(getattr(head, name)) for name in _NAMES}})


def load_head(path: str | Path | None = None) -> HeadModel:
    """Read a head model, by default the one that ships with the package.

    Args:
        path: File written by :func:`save_head`.

    Returns:
        The validated model, float32.

    Raises:
        InputError: The file cannot be read or is no head model.
        RuntimeError: The shipped file is damaged; install the package anew.

    Example:
        >>> head = load_head()
        >>> len(head.expression_names), head.mean.shape[1]
        (52, 3)
    """
    return read_shipped_or_given(
        "head.npz", path, head_from_arrays, otherwise="is not a head model ({}); write it with save_head."
    )


def read_shipped_or_given(
    shipped: str,
    path: str | Path | None,
    build: Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], T],
    *,
    otherwise: str,
) -> T:
    """Read what ships with the package, or a file of the user's in its place.

    Args:
        shipped: Name of the shipped file.
        path: The user's file; None for the shipped one.
        build: Makes the result of the file's arrays and metadata; raises KeyError or ValueError where they do not fit.
        otherwise: What is wrong with a user's file that does not fit and what to do, ``{}`` for the reason.

    Returns:
        What ``build`` made.

    Raises:
        InputError: The user's file cannot be read or does not fit.
        RuntimeError: The shipped file is damaged.
    """
    try:
        return build(*load_arrays(asset_path(shipped) if path is None else path))
    except (KeyError, ValueError) as error:  # InputError, of an unreadable file, is a ValueError
        if path is None:  # not the user's input, but a broken installation
            raise RuntimeError(f"the shipped {shipped} is damaged ({error}); install digitaltwin anew.") from error
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {otherwise.format(error)}") from error
