"""The subjects: 482 for training and 30 for testing, of the genders and ethnicities of the paper's Table 1.

They are synthetic subjects matched to surveys: shapes of the CC0 head, drawn at random and calibrated to measurements
of adults (:mod:`digitaltwin.head._anthropometry`; docs/subjects.md says how), with an age, a skin and an iris each. All
have the head's topology and are aligned on the face, so that means over them, of all or of a group, are heads.

A *skin variant* is a shipped skin picture and a tone. The test subjects' pictures belong to nobody else: they are the
middle-aged one of each group, the others go to the training subjects.

Letters: n subjects, i identity components.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from digitaltwin.head._file import read_shipped_or_given
from digitaltwin.head._model import HeadModel
from digitaltwin.io import save_arrays

GENDERS = ("female", "male")
ETHNICITIES = ("african", "asian", "caucasian")
"""The paper's Black, Asian and White."""

TABLE_1: Mapping[str, tuple[int, int]] = {
    "female-african": (5, 5),
    "female-asian": (164, 5),
    "female-caucasian": (45, 5),
    "male-african": (8, 5),
    "male-asian": (178, 5),
    "male-caucasian": (82, 5),
}
"""Training and test subjects of each group (the paper's Table 1)."""

DISTANCE_BOUND = 1.4
"""Largest ``distance`` of a subject."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Subjects:
    """Synthetic subjects over the shipped head, or some of them; a pytree. Index 0 is the first."""

    identity: Float[Array, "n i"]
    """Coefficients [mm] over ``HeadModel.identity``."""
    age_years: Float[Array, " n"]
    """Age."""
    group: Int[Array, " n"]
    """Index into ``group_names``."""
    skin: Int[Array, " n"]
    """Index into ``skin_names``."""
    tone: Float[Array, "n 2"]
    """Lightness and redness, see :func:`digitaltwin.texture.apply_tone`."""
    iris: Float[Array, "n 3"]
    """Mean colour of the irises, sRGB."""
    test: Bool[Array, " n"]
    """Whether held out for tests."""
    group_names: tuple[str, ...] = field(metadata={"static": True})
    """Gender and ethnicity, the head's groups in the head's order."""
    skin_names: tuple[str, ...] = field(metadata={"static": True})
    """Names of the shipped skins (``assets/skins``), without ``.jpg``."""

    @property
    def gender(self) -> Int[Array, " n"]:
        """Index of the gender: 0 for female, 1 for male."""
        return jnp.array([GENDERS.index(name.split("-")[0]) for name in self.group_names])[self.group]

    @property
    def ethnicity(self) -> Int[Array, " n"]:
        """Index of the ethnicity: 0 for african, 1 for asian, 2 for caucasian."""
        return jnp.array([ETHNICITIES.index(name.split("-")[1]) for name in self.group_names])[self.group]


_NAMES = ("group_names", "skin_names")


def select_subjects(subjects: Subjects, chosen: Bool[Array, " n"] | Int[Array, " m"]) -> Subjects:
    """Select some of the subjects.

    Args:
        subjects: All of them.
        chosen: A mask over them, or indices.

    Returns:
        Those subjects, their names kept.

    Example:
        >>> subjects = load_subjects()
        >>> training = select_subjects(subjects, ~subjects.test)
        >>> len(training.age_years), len(select_subjects(training, jnp.array([0, 3])).age_years)
        (482, 2)
    """
    rows = {f.name: getattr(subjects, f.name)[chosen] for f in fields(Subjects) if f.name not in _NAMES}
    return Subjects(**rows, group_names=subjects.group_names, skin_names=subjects.skin_names)


def distance(head: HeadModel, identity: ArrayLike) -> Float[np.ndarray, "*n"]:
    """Compute how far people are from the mean of the head's population, in standard deviations a component.

    The Mahalanobis distance over the square root of the number of components,
    ``sqrt(1/i sum_j (identity_j / std_j)^2)``: 1 is usual.

    Args:
        head: The model.
        identity: Identity coefficients [*n i], mm.

    Returns:
        Distances of all of them, on the host.
    """
    deviations = np.asarray(identity) / np.asarray(head.identity_std)
    return np.sqrt(np.mean(deviations**2, axis=-1))


def within_groups(head: HeadModel) -> Float[np.ndarray, "i i"]:
    """Compute the covariance of identity coefficients within a group [mm^2].

    Over everybody, groups equally weighted, coefficients are uncorrelated and have ``identity_std``; within a group
    they lack what the groups' means ``g`` differ by: ``diag(std^2) - 1/6 sum_g g g'``. All groups have the same.
    """
    std, groups = (np.asarray(part, np.float64) for part in (head.identity_std, head.group_identity))
    return np.diag(std**2) - groups.T @ groups / len(groups)


def draw_identities(
    head: HeadModel, rng: np.random.Generator, group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n i"]:
    """Draw random people of the given groups, indices into ``head.group_names``: identity coefficients [mm]."""
    factor = np.linalg.cholesky(within_groups(head))
    chance = rng.normal(size=(len(group), len(factor))) @ factor.T
    return np.asarray(head.group_identity, np.float64)[np.asarray(group)] + chance


def load_subjects(path: str | Path | None = None) -> Subjects:
    """Read subjects, by default those that ship with the package.

    Args:
        path: File written by ``save_subjects``.

    Returns:
        The subjects, those for training first.

    Raises:
        InputError: The file cannot be read or holds no subjects.
        RuntimeError: The shipped file is damaged; install the package anew.

    Example:
        >>> subjects = load_subjects()
        >>> int((~subjects.test).sum()), int(subjects.test.sum())
        (482, 30)
    """
    return read_shipped_or_given(
        "subjects.npz", path, _from_arrays, otherwise="holds no subjects ({}); write it with save_subjects."
    )


_KINDS = {"f": np.float32, "i": np.int32, "u": np.int32, "b": np.bool_}
# Kinds, and numbers a subject (none for one number; -1 for as many as the head has components).
_COLUMNS = {
    "identity": ("f", (-1,)),
    "age_years": ("f", ()),
    "group": ("iu", ()),
    "skin": ("iu", ()),
    "tone": ("f", (2,)),
    "iris": ("f", (3,)),
    "test": ("b", ()),
}


def _from_arrays(arrays: Mapping[str, np.ndarray], names: Mapping[str, Any]) -> Subjects:
    rows = {name: arrays[name] for name in _COLUMNS}
    for name, row in rows.items():
        kinds, columns = _COLUMNS[name]
        wrong = row.ndim != 1 + len(columns) or any(n not in (-1, m) for n, m in zip(columns, row.shape[1:]))
        if wrong or row.dtype.kind not in kinds:
            raise ValueError(f"{name} has shape {row.shape} and type {row.dtype}")
        if len(row) != len(rows["identity"]):
            raise ValueError(f"{name} tells of {len(row)} subjects, identity of {len(rows['identity'])}")
        if not np.isfinite(row).all():
            raise ValueError(f"{name} is not finite")
    for name, count in (("group", len(names["group_names"])), ("skin", len(names["skin_names"]))):
        if not ((rows[name] >= 0) & (rows[name] < count)).all():
            raise ValueError(f"{name} points outside [0, {count})")
    device: dict[str, Any] = jax.device_put({name: row.astype(_KINDS[row.dtype.kind]) for name, row in rows.items()})
    return Subjects(**device, group_names=tuple(names["group_names"]), skin_names=tuple(names["skin_names"]))


def save_subjects(subjects: Subjects, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write subjects as a compressed ``.npz`` with their names as JSON; coefficients in half precision.

    Half precision keeps a coefficient, at most some 600 mm spread over 2,699 vertices, to 0.25 mm, which is 0.005 mm a
    vertex.

    Args:
        subjects: The subjects.
        path: File to write.
        metadata: Further facts to keep beside the names, such as sources and licence.

    Raises:
        InputError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "subjects.npz"
        >>> save_subjects(load_subjects(), path)
        >>> load_subjects(path).identity.shape
        (512, 120)
    """
    kinds = {"identity": np.float16, "group": np.uint8, "skin": np.uint8, "test": np.bool_}
    arrays = {
        f.name: np.asarray(getattr(subjects, f.name)).astype(kinds.get(f.name, np.float32))
        for f in fields(Subjects)
        if f.name not in _NAMES
    }
    save_arrays(path, arrays, {**(metadata or {}), **{name: list(getattr(subjects, name)) for name in _NAMES}})
