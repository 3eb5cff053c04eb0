"""Thousands of new heads from some hundred: features mixed, decoded and put in the head frame.

Letters: n subjects, g groups, v vertices, m subjects of a mixture.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int, Key

from digitaltwin.deformation._representation import Reference, decode, encode, make_reference
from digitaltwin.deformation._sampling import Mixture, PolarConfig, mix, polar_mixture
from digitaltwin.geometry import procrustes_alignment
from digitaltwin.types import InputError

_PAPER = PolarConfig()
_ENCODED_TOGETHER = 32  # subjects; a few hundred MB of intermediate results


class Population(NamedTuple):
    """What new heads are mixed from; made once by :func:`make_population`."""

    reference: Reference
    """The mean of the subjects that may be mixed."""
    shapes: Float[Array, "n v 3"]
    """Of the subjects [mm]."""
    features: Float[Array, "n v 9"]
    """Of the subjects, against the reference."""
    groups: Int[Array, " n"]
    """Of each subject; negative for those that must not be mixed."""
    origins: Float[Array, "g v 9"]
    """The feature about which each group is mixed: zero (the reference) or the group's mean."""
    aligned_on: Float[Array, " v"]
    """Weight of each vertex when a new head is laid onto the reference."""


class NewHead(NamedTuple):
    """A new head, and where it comes from."""

    vertices: Float[Array, "v 3"]
    """Positions [mm], head frame."""
    closest: Int[Array, ""]
    """The subject of the group nearest in shape, whose texture the head takes."""


def make_population(
    shapes: Float[Array, "n v 3"],
    faces: Int[Array, "f 3"],
    groups: Int[Array, " n"],
    *,
    about_group: bool = False,
    aligned_on: Bool[Array, " v"] | None = None,
) -> Population:
    """Encode subjects against their mean.

    Args:
        shapes: Of the subjects, in the head frame [mm].
        faces: Their triangles.
        groups: Of each subject, from zero; negative for those that must not be mixed, nor count in a mean.
        about_group: Mix each group about its own mean, instead of the mean of all.
        aligned_on: Vertices by which new heads are laid onto the mean; all by default.

    Returns:
        The population.

    Raises:
        InputError: groups of another number of subjects, or a group below the largest without a member.
    """
    if groups.shape != shapes.shape[:1]:
        raise InputError(f"groups: has shape {groups.shape}, not {shapes.shape[:1]}; give one for each subject.")
    usable = np.asarray(groups) >= 0
    empty = np.flatnonzero(np.bincount(np.asarray(groups)[usable], minlength=1) == 0)
    if len(empty):
        raise InputError(f"groups: no subject to be mixed is of group {empty[0]}; number the groups without gaps.")
    mean = np.mean(np.asarray(shapes, np.float64)[usable], axis=0)
    reference = make_reference(mean, faces)
    code = jax.jit(jax.vmap(encode, in_axes=(None, 0)))
    # The last portion is as long as the others, for one compilation; it starts earlier instead.
    last = max(0, len(shapes) - _ENCODED_TOGETHER)
    starts = [min(start, last) for start in range(0, len(shapes), _ENCODED_TOGETHER)]
    features = np.empty((*shapes.shape[:2], 9), np.float32)
    for start in starts:
        portion = slice(start, start + _ENCODED_TOGETHER)
        features[portion] = code(reference, shapes[portion])
    origins = np.zeros((int(np.max(groups)) + 1, *features.shape[1:]), np.float32)
    if about_group:
        for group in range(len(origins)):
            origins[group] = features[np.asarray(groups) == group].mean(axis=0)
    weights = jnp.ones(shapes.shape[1]) if aligned_on is None else jnp.asarray(aligned_on, jnp.float32)
    return Population(
        reference, jnp.asarray(shapes), jnp.asarray(features), jnp.asarray(groups), jnp.asarray(origins), weights
    )


def mixed_head(population: Population, mixture: Mixture, group: Int[Array, ""]) -> Float[Array, "v 3"]:
    """Mix features, decode them, lay the head onto the mean by a rigid motion.

    Args:
        population: What is mixed.
        mixture: Subjects and coefficients.
        group: Whose origin is mixed about.

    Returns:
        Positions [mm], head frame.
    """
    feature = mix(mixture, population.features, origin=population.origins[group])
    vertices = decode(population.reference, feature)
    aligned = procrustes_alignment(vertices, population.reference.vertices, weights=population.aligned_on)
    return aligned.apply(vertices)


def closest_subject(population: Population, vertices: Float[Array, "v 3"], group: Int[Array, ""]) -> Int[Array, ""]:
    """The subject of a group whose shape is nearest in the root mean square over all vertices.

    Args:
        population: With the subjects' shapes.
        vertices: A head, head frame [mm].
        group: Its group.

    Returns:
        Index of the subject.
    """
    # |x - s|^2 over the subjects, without the |x|^2 that all share; taken from the mean, where little cancels.
    mean = population.reference.vertices
    shapes = population.shapes - mean[None]
    inner = jnp.einsum("nvx,vx->n", shapes, vertices - mean, precision=Precision.HIGHEST)
    squared = jnp.sum(shapes**2, axis=(1, 2)) - 2 * inner
    return jnp.argmin(jnp.where(population.groups == group, squared, jnp.inf))


def augment(
    key: Key[Array, ""], group: Int[Array, ""], population: Population, *, config: PolarConfig = _PAPER
) -> tuple[NewHead, Mixture]:
    """A new head of a group by polar mixing.

    Args:
        key: Random key.
        group: Of the head.
        population: What is mixed.
        config: Ranges of the sampling.

    Returns:
        The head, and what it is mixed of.
    """
    mixture = polar_mixture(key, group, population.groups, config=config)
    vertices = mixed_head(population, mixture, group)
    return NewHead(vertices, closest_subject(population, vertices, group)), mixture
