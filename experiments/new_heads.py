"""The ways to make new heads from the database's training subjects, for the commands that do."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from digitaltwin.deformation import (
    Population,
    augment,
    closest_subject,
    group_components,
    make_population,
    sample_components,
    single_subject,
)
from digitaltwin.head import HeadModel, load_subjects, neutral_shape

TOGETHER = 32
"""Heads computed at once: their intermediate results stay in the processor's cache."""

Maker = Callable[[Array, Array], dict[str, Array]]
"""Makes one head from a key and a group; what it returns is stored."""


def polar_maker(population: Population) -> Maker:
    """The paper's polar mixing."""

    def make(key: Array, group: Array) -> dict[str, Array]:
        head, mixture = augment(key, group, population)
        return {**head._asdict(), **mixture._asdict()}

    return make


def pca_maker(population: Population) -> Maker:
    """Categorised PCA, an ablation."""
    groups = np.asarray(population.groups)
    components = group_components(np.asarray(population.shapes), groups, count=len(population.origins))

    def make(key: Array, group: Array) -> dict[str, Array]:
        vertices = sample_components(key, group, components)
        return {"vertices": vertices, "closest": closest_subject(population, vertices, group)}

    return make


def subject_maker(population: Population) -> Maker:
    """No augmentation, an ablation."""

    def make(key: Array, group: Array) -> dict[str, Array]:
        (subject,) = single_subject(key, group, population.groups).subjects
        return {"vertices": population.shapes[subject], "closest": subject}

    return make


METHODS = {"polar": polar_maker, "pca": pca_maker, "none": subject_maker}


def training_population(head: HeadModel, *, about_group: bool) -> Population:
    """The database's training subjects, encoded against their mean; the test subjects are left out."""
    subjects = load_subjects()
    groups = jnp.where(subjects.test, -1, subjects.group)
    shapes = jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, subjects.identity)
    return make_population(shapes, head.faces, groups, about_group=about_group, aligned_on=head.regions.face)


def make_heads(population: Population, method: str, keys: Array, groups: Array) -> dict[str, Array]:
    """A head for each key and group; to be jitted.

    Args:
        population: What is mixed.
        method: One of :data:`METHODS`.
        keys: [b].
        groups: [b].

    Returns:
        ``vertices`` [b v 3], ``closest`` [b], and what else the method stores.
    """
    make = METHODS[method](population)
    return jax.lax.map(lambda both: make(*both), (keys, groups), batch_size=TOGETHER)
