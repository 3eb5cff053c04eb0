"""New heads from encoded subjects: their features are mixed, decoded and aligned in the head frame.

Letters: n subjects, g groups, v vertices, m subjects of a mixture.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int, Key

from digitaltwin.deformation._config import PolarConfig
from digitaltwin.deformation._reference import Reference, make_reference
from digitaltwin.deformation._representation import decode, encode
from digitaltwin.deformation._sampling import Mixture, mix, polar_mixture
from digitaltwin.geometry import procrustes_alignment
from digitaltwin.head import HeadModel, load_subjects, neutral_shape
from digitaltwin.types import InputError

_PAPER = PolarConfig()
_ENCODED_AT_ONCE = 32  # subjects; a few hundred MB of intermediate results


class Population(NamedTuple):
    """Encoded subjects, from which new heads are mixed; made once by :func:`make_population`."""

    reference: Reference
    """Reference mesh: the mean of the subjects that may be mixed."""
    shapes: Float[Array, "n v 3"]
    """Shapes of the subjects [mm]."""
    features: Float[Array, "n v 9"]
    """Features of the subjects, against the reference."""
    groups: Int[Array, " n"]
    """Group of each subject; negative for those that must not be mixed."""
    origins: Float[Array, "g v 9"]
    """The feature about which each group is mixed: zero (the reference) or the group's mean."""
    aligned_on: Float[Array, " v"]
    """Weight of each vertex when a new head is aligned to the reference."""


class NewHead(NamedTuple):
    """A new head and its closest subject."""

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
        shapes: Shapes of the subjects, in the head frame [mm].
        faces: Their triangles.
        groups: Group of each subject, from zero; negative for those that must not be mixed, nor count in a mean.
        about_group: Whether to mix each group about its own mean, instead of the mean of all.
        aligned_on: Vertices by which new heads are aligned to the mean; all by default.

    Returns:
        The population.

    Raises:
        InputError: Groups of another number of subjects, or a group below the largest without a member.

    Example:
        >>> import jax.numpy as jnp
        >>> corners = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> faces = jnp.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> shapes = corners[None] * jnp.linspace(0.8, 1.2, 6)[:, None, None]
        >>> make_population(shapes, faces, jnp.array([0, 0, 0, 1, 1, -1])).features.shape
        (6, 4, 9)
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
    last = max(0, len(shapes) - _ENCODED_AT_ONCE)
    starts = [min(start, last) for start in range(0, len(shapes), _ENCODED_AT_ONCE)]
    features = np.empty((*shapes.shape[:2], 9), np.float32)
    for start in starts:
        portion = slice(start, start + _ENCODED_AT_ONCE)
        features[portion] = code(reference, shapes[portion])
    origins = np.zeros((int(np.max(groups)) + 1, *features.shape[1:]), np.float32)
    if about_group:
        for group in range(len(origins)):
            origins[group] = features[np.asarray(groups) == group].mean(axis=0)
    weights = jnp.ones(shapes.shape[1]) if aligned_on is None else jnp.asarray(aligned_on, jnp.float32)
    return Population(
        reference, jnp.asarray(shapes), jnp.asarray(features), jnp.asarray(groups), jnp.asarray(origins), weights
    )


def training_population(head: HeadModel, *, about_group: bool = False) -> Population:
    """Encode the shipped training subjects against their mean; the test subjects are left out.

    Args:
        head: The shipped head.
        about_group: Whether to mix each group about its own mean, instead of the mean of all.

    Returns:
        The population of all 512 subjects, of which 482 may be mixed; it takes some seconds.

    Raises:
        InputError: The head has another identity basis than the subjects.

    Example:
        >>> from digitaltwin.head import load_head
        >>> population = training_population(load_head())
        >>> int((population.groups >= 0).sum())
        482
    """
    subjects = load_subjects()
    if subjects.identity.shape[1] != len(head.identity):
        raise InputError(
            f"head: has {len(head.identity)} identity components, not the subjects'; take the shipped head."
        )
    groups = jnp.where(subjects.test, -1, subjects.group)
    shapes = jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, subjects.identity)
    return make_population(shapes, head.faces, groups, about_group=about_group, aligned_on=head.regions.face)


def mixed_head(population: Population, mixture: Mixture, group: Int[Array, ""]) -> Float[Array, "v 3"]:
    """Mix features, decode them, align the head to the mean by a rigid motion.

    Args:
        population: Encoded subjects.
        mixture: Subjects and coefficients.
        group: Group about whose origin is mixed.

    Returns:
        Positions [mm], head frame.
    """
    feature = mix(mixture, population.features, origin=population.origins[group])
    vertices = decode(population.reference, feature)
    aligned = procrustes_alignment(vertices, population.reference.vertices, weights=population.aligned_on)
    return aligned.apply(vertices)


def closest_subject(population: Population, vertices: Float[Array, "v 3"], group: Int[Array, ""]) -> Int[Array, ""]:
    """Find the subject of a group whose shape is nearest in the root mean square over all vertices.

    Args:
        population: Encoded subjects.
        vertices: A head in the head frame [mm].
        group: Index of its group.

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
    """Make a new head of a group by polar mixing; ``vmap`` over keys and groups makes many.

    Args:
        key: Random key.
        group: Index of the head's group.
        population: Encoded subjects.
        config: Constants of the sampling.

    Returns:
        The head, and the mixture it is made of.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> corners = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> faces = jnp.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> shapes = corners[None] * jnp.linspace(0.8, 1.2, 6)[:, None, None]
        >>> population = make_population(shapes, faces, jnp.zeros(6, int))
        >>> new, mixture = jax.jit(augment)(jax.random.key(0), jnp.asarray(0), population)
        >>> new.vertices.shape, mixture.subjects.shape
        ((4, 3), (5,))

    Source: section 3.2 of the paper (Wang et al. 2019).
    """
    mixture = polar_mixture(key, group, population.groups, config=config)
    vertices = mixed_head(population, mixture, group)
    return NewHead(vertices, closest_subject(population, vertices, group)), mixture
