"""The ways to make new heads from the database's training subjects, for the commands that do."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from digitaltwin.deformation import Population, augment
from digitaltwin.deformation._augmentation import closest_subject
from digitaltwin.deformation._sampling import GroupComponents, group_components, sample_components, single_subject

TOGETHER = 32
"""Heads computed at once: their intermediate results stay in the processor's cache."""


class Method(NamedTuple):
    """A way to make heads."""

    prepare: Callable[[Population], Any]
    """What it needs of the population, made once on the host; a pytree."""
    make: Callable[[Array, Array, Any], dict[str, Array]]
    """One head from a key, a group, and that: ``vertices``, ``closest``, and what else is to be stored."""


def polar_head(key: Array, group: Array, population: Population) -> dict[str, Array]:
    """The paper's polar mixing."""
    head, mixture = augment(key, group, population)
    return {**head._asdict(), **mixture._asdict()}


def prepare_components(population: Population) -> tuple[Population, GroupComponents]:
    """Principal components of each group."""
    groups = np.asarray(population.groups)
    return population, group_components(np.asarray(population.shapes), groups, count=len(population.origins))


def pca_head(key: Array, group: Array, stock: tuple[Population, GroupComponents]) -> dict[str, Array]:
    """Categorised PCA, an ablation."""
    population, components = stock
    vertices = sample_components(key, group, components)
    return {"vertices": vertices, "closest": closest_subject(population, vertices, group)}


def subject_head(key: Array, group: Array, population: Population) -> dict[str, Array]:
    """No augmentation, an ablation."""
    (subject,) = single_subject(key, group, population.groups).subjects
    return {"vertices": population.shapes[subject], "closest": subject}


METHODS = {
    "polar": Method(lambda population: population, polar_head),
    "pca": Method(prepare_components, pca_head),
    "none": Method(lambda population: population, subject_head),
}


def make_heads(method: Method, stock: Any, keys: Array, groups: Array) -> dict[str, Array]:
    """A head for each key [b] and group [b]; to be jitted, the method static.

    Args:
        method: One of :data:`METHODS`.
        stock: What its ``prepare`` made.
        keys: Random keys.
        groups: Indices of groups.

    Returns:
        What the method makes, with b rows.
    """
    return jax.lax.map(lambda both: method.make(both[0], both[1], stock), (keys, groups), batch_size=TOGETHER)
