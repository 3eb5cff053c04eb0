"""Three ways to make a new head from the training subjects: the paper's polar mixing and its two ablations.

Letters: b heads.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from digitaltwin.deformation._augmentation import Population, augment, closest_subject
from digitaltwin.deformation._sampling import GroupComponents, group_components, sample_components, single_subject

BATCH = 32
"""Heads computed at once: their intermediate results stay in the processor's cache."""


class Method(NamedTuple):
    """A way to make heads."""

    prepare: Callable[[Population], Any]
    """Makes the method's state from the population, once on the host; a pytree."""
    make: Callable[[Array, Array, Any], dict[str, Array]]
    """Makes one head from a key, a group and the state: ``vertices``, ``closest``, and what else is to be stored."""


def polar_head(key: Key[Array, ""], group: Int[Array, ""], population: Population) -> dict[str, Array]:
    """Make a head by the paper's polar mixing."""
    head, mixture = augment(key, group, population)
    return {**head._asdict(), **mixture._asdict()}


def prepare_components(population: Population) -> tuple[Population, GroupComponents]:
    """Compute the principal components of each group."""
    groups = np.asarray(population.groups)
    return population, group_components(np.asarray(population.shapes), groups, count=len(population.origins))


def pca_head(key: Key[Array, ""], group: Int[Array, ""], state: tuple[Population, GroupComponents]) -> dict[str, Array]:
    """Make a head by categorised PCA, an ablation."""
    population, components = state
    vertices = sample_components(key, group, components)
    return {"vertices": vertices, "closest": closest_subject(population, vertices, group)}


def subject_head(key: Key[Array, ""], group: Int[Array, ""], population: Population) -> dict[str, Array]:
    """Take a subject as it is: no augmentation, an ablation."""
    (subject,) = single_subject(key, group, population.groups).subjects
    return {"vertices": population.shapes[subject], "closest": subject}


METHODS = {
    "polar": Method(lambda population: population, polar_head),
    "pca": Method(prepare_components, pca_head),
    "none": Method(lambda population: population, subject_head),
}


def make_heads(method: Method, state: Any, keys: Key[Array, " b"], groups: Int[Array, " b"]) -> dict[str, Array]:
    """Make a head for each key and group; to be jitted, the method static.

    Args:
        method: One of :data:`METHODS`.
        state: What its ``prepare`` made.
        keys: Random keys.
        groups: Indices of groups.

    Returns:
        The arrays the method makes, with b rows.
    """
    return jax.lax.map(lambda both: method.make(both[0], both[1], state), (keys, groups), batch_size=BATCH)
