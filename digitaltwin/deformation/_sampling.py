"""New heads from few: polar mixing of deformation features (the paper's section 3.2 and supplement), and its ablations.

Letters: n subjects, m subjects of a mixture, g groups (gender and ethnicity), b heads, c components, v vertices.

    f = o + sum_k a_k (f_k - o)                           k runs over m random subjects of one group
    a = r (cos t_1, sin t_1 cos t_2, ..., sin t_1 ... sin t_(m-1)),   r ~ U[0.6, 1.3],   t ~ U[0, pi/2]

The coefficients are polar coordinates in the positive orthant: ``|a| = r``, so a mixture neither shrinks to the mean,
as averages do, nor leaves the range of the subjects far. The origin o is that of the features, the reference's mesh
(the mean of all subjects), as in the paper, or the mean of the group. As ``sum a`` is about 1.55, mixing about the mean
of all exaggerates what sets a group apart by that factor; mixing about the group's own mean leaves its mean in place.

Everything is for one head, its key first; ``vmap`` over keys makes many.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Int, Key

from digitaltwin.deformation._config import PolarConfig
from digitaltwin.types import InputError

ETHNICITY_SHARES = {"asian": 0.65, "caucasian": 0.30, "african": 0.05}
"""Shares of the paper's 10,000 heads; each in equal parts women and men."""
_PAPER = PolarConfig()


class Mixture(NamedTuple):
    """A weighted choice of subjects."""

    subjects: Int[Array, " m"]
    """Indices of the subjects, of n."""
    coefficients: Float[Array, " m"]
    """Coefficients a."""


def polar_coefficients(key: Key[Array, ""], *, config: PolarConfig = _PAPER) -> Float[Array, " m"]:
    """Draw coefficients with ``|a| = r``, all of them ``>= 0``.

    Args:
        key: Random key.
        config: Ranges of r and t, and m.

    Returns:
        Coefficients a.

    Example:
        >>> import jax
        >>> a = polar_coefficients(jax.random.key(0))
        >>> a.shape, bool((a >= 0).all()), bool(0.6 <= (a**2).sum() ** 0.5 <= 1.3)
        ((5,), True, True)
    """
    of_radius, of_angles = jax.random.split(key)
    radius = jax.random.uniform(of_radius, (), minval=config.radius[0], maxval=config.radius[1])
    low, high = config.angle_rad
    angles = jax.random.uniform(of_angles, (config.subjects - 1,), minval=low, maxval=high)
    sines = jnp.cumprod(jnp.concatenate([jnp.ones(1), jnp.sin(angles)]))
    cosines = jnp.maximum(jnp.cos(angles), 0)  # float32's pi/2 is past the right angle
    return radius * sines * jnp.concatenate([cosines, jnp.ones(1)])


def choose_subjects(
    key: Key[Array, ""], group: Int[Array, ""], groups: Int[Array, " n"], *, count: int
) -> Int[Array, " m"]:
    """Choose different subjects of one group, all choices equally likely.

    Args:
        key: Random key.
        group: Index of the group, which has at least one member.
        groups: Group of each subject; negative for those that must not be chosen.
        count: Number m of subjects. A group of fewer members gives them all, and the first again and again:
            groups never mix.

    Returns:
        Indices of the subjects.
    """
    # The m largest of random numbers are a random choice without replacement.
    order = jnp.where(groups == group, jax.random.uniform(key, groups.shape), -1.0)
    largest, subjects = jax.lax.top_k(order, count)
    return jnp.where(largest >= 0, subjects, subjects[0])


def polar_mixture(
    key: Key[Array, ""], group: Int[Array, ""], groups: Int[Array, " n"], *, config: PolarConfig = _PAPER
) -> Mixture:
    """Draw a polar mixture of subjects of one group.

    Args:
        key: Random key.
        group: Index of the group.
        groups: Group of each subject; negative for those that must not be chosen (the test subjects).
        config: Ranges of r and t, and m.

    Returns:
        Subjects and coefficients.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> groups = jnp.array([0, 1, 1, 0, 1, 1, 1, 1])
        >>> mixture = polar_mixture(jax.random.key(0), jnp.asarray(1), groups)
        >>> groups[mixture.subjects].tolist(), mixture.coefficients.shape
        ([1, 1, 1, 1, 1], (5,))

    Source: section 3.2 and the supplement of the paper (Wang et al. 2019).
    """
    of_subjects, of_coefficients = jax.random.split(key)
    subjects = choose_subjects(of_subjects, group, groups, count=config.subjects)
    return Mixture(subjects, polar_coefficients(of_coefficients, config=config))


def single_subject(key: Key[Array, ""], group: Int[Array, ""], groups: Int[Array, " n"]) -> Mixture:
    """Draw one subject of a group, unchanged: no augmentation, an ablation.

    Args:
        key: Random key.
        group: Index of the group.
        groups: Group of each subject; negative for those that must not be chosen.

    Returns:
        A mixture of one, with coefficient one.
    """
    return Mixture(choose_subjects(key, group, groups, count=1), jnp.ones(1))


def mix(
    mixture: Mixture, features: Float[Array, "n v 9"], *, origin: Float[Array, "v 9"] | None = None
) -> Float[Array, "v 9"]:
    """Mix features about an origin: ``o + sum_k a_k (f_k - o)``.

    Args:
        mixture: Subjects and coefficients.
        features: Features of all subjects, against one reference.
        origin: Origin o; by default the reference itself, whose feature is zero.

    Returns:
        The feature of the new head; :func:`digitaltwin.deformation.decode` makes its mesh.

    Example:
        >>> import jax.numpy as jnp
        >>> halves = Mixture(jnp.array([0, 2]), jnp.array([0.5, 0.5]))
        >>> mix(halves, jnp.arange(3.0)[:, None, None] * jnp.ones((3, 1, 9)))[0, 0].tolist()
        1.0
    """

    def add(total: Array, member: Mixture) -> tuple[Array, None]:
        return total + member.coefficients * features[member.subjects], None

    # A loop, so that no copy of the m features is made, and so that XLA does not fuse the sum into what comes next: the
    # nine channels of a decoder would each compute it anew.
    mixture = mixture._replace(coefficients=mixture.coefficients.astype(features.dtype))
    first = jnp.zeros(features.shape[1:], features.dtype)
    if origin is not None:
        first = (1 - jnp.sum(mixture.coefficients)) * origin.astype(features.dtype)
    return jax.lax.scan(add, first, mixture)[0]


class GroupComponents(NamedTuple):
    """Principal components of the shapes of each group: the paper's categorised PCA, an ablation."""

    mean: Float[Array, "g v 3"]
    """Mean shape of each group [mm]."""
    modes: Float[Array, "g c v 3"]
    """Orthonormal over all 3v coordinates; zero where a group has fewer."""
    std: Float[Array, "g c"]
    """Standard deviation of each component in the group [mm]."""


def group_components(
    shapes: Float[np.ndarray, "n v 3"], groups: Int[np.ndarray, " n"], *, count: int, components: int = 50
) -> GroupComponents:
    """Compute the principal components of each group's shapes, on the host in float64.

    Args:
        shapes: Shapes of all subjects [mm].
        groups: Group of each subject; negative for those to leave out.
        count: Number g of groups.
        components: Largest number c of components; a group of k members has k - 1.

    Returns:
        Means, components and standard deviations.

    Raises:
        InputError: A group has no member.
    """
    size = shapes[0].size
    mean, modes, std = np.zeros((count, size)), np.zeros((count, components, size)), np.zeros((count, components))
    for group in range(count):
        members = np.asarray(shapes, np.float64)[groups == group].reshape(-1, size)
        if not len(members):
            raise InputError(f"groups: none of the subjects is of group {group}; it has no components.")
        mean[group] = members.mean(axis=0)
        _, singular, vt = np.linalg.svd(members - mean[group], full_matrices=False)
        kept = min(components, len(members) - 1, len(vt))
        modes[group, :kept] = vt[:kept]
        std[group, :kept] = singular[:kept] / np.sqrt(max(1, len(members) - 1))
    arrays = (mean.reshape(count, -1, 3), modes.reshape(count, components, -1, 3), std)
    return GroupComponents(*(jnp.asarray(array, jnp.float32) for array in arrays))


def sample_components(key: Key[Array, ""], group: Int[Array, ""], components: GroupComponents) -> Float[Array, "v 3"]:
    """Draw a head of a group by categorised PCA: ``mean + sum_j z_j sigma_j mode_j``, z standard normal.

    Args:
        key: Random key.
        group: Index of the group.
        components: Components of all groups.

    Returns:
        Positions [mm].
    """
    std = components.std[group]
    z = jax.random.normal(key, std.shape)
    moved = jnp.einsum("c,cvx->vx", z * std, components.modes[group], precision=Precision.HIGHEST)
    return components.mean[group] + moved


def group_shares(group_names: tuple[str, ...]) -> Float[np.ndarray, " g"]:
    """Give the paper's share of each group: ethnicities 0.65, 0.30, 0.05, genders one half each.

    Args:
        group_names: Names of gender and ethnicity, as in ``HeadModel.group_names``: "female-asian".

    Returns:
        Shares; of all six they sum to one.

    Raises:
        InputError: An ethnicity that the paper has no share for.

    Example:
        >>> group_shares(("female-asian", "male-african")).tolist()
        [0.325, 0.025]
    """
    ethnicities = [name.partition("-")[2] for name in group_names]
    unknown = [name for name, ethnicity in zip(group_names, ethnicities) if ethnicity not in ETHNICITY_SHARES]
    if unknown:
        raise InputError(f"group_names: {unknown[0]!r} is none of gender-ethnicity with {', '.join(ETHNICITY_SHARES)}.")
    return np.array([ETHNICITY_SHARES[ethnicity] / 2 for ethnicity in ethnicities])


def assign_groups(key: Key[Array, ""], shares: Float[np.ndarray, " g"], *, count: int) -> Int[Array, " b"]:
    """Assign a group to each of many heads, in random order and in exact proportion.

    Where a share of the count is no whole number, the largest remainders are rounded up (Hamilton's method).

    Args:
        key: Random key of the order.
        shares: Share of each group; they sum to one.
        count: Number b of heads.

    Returns:
        Indices of groups.

    Raises:
        InputError: Shares that are negative or do not sum to one.

    Example:
        >>> import jax, numpy as np
        >>> np.bincount(assign_groups(jax.random.key(0), np.array([0.65, 0.30, 0.05]), count=20)).tolist()
        [13, 6, 1]
    """
    exact = np.asarray(shares, np.float64) * count
    if (exact < 0).any() or abs(exact.sum() - count) > 1e-6 * count:
        raise InputError(f"shares: {np.asarray(shares).tolist()} are negative or do not sum to one.")
    whole = np.floor(exact + 1e-9).astype(int)
    largest = np.argsort(whole - exact, kind="stable")[: count - whole.sum()]
    whole[largest] += 1
    return jax.random.permutation(key, jnp.asarray(np.repeat(np.arange(len(whole)), whole), jnp.int32))
