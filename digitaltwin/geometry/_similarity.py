"""Least-squares alignment of corresponding points (orthogonal Procrustes)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.geometry._rotations import rotate


class Similarity(NamedTuple):
    """The map ``p -> scale R p + translation``."""

    scale: Float[Array, ""]
    rotation: Float[Array, "3 3"]
    translation: Float[Array, " 3"]


def transform(similarity: Similarity, points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Apply a similarity to points."""
    return similarity.scale * rotate(similarity.rotation, points) + similarity.translation[None]


def align(
    source: Float[Array, "n 3"],
    target: Float[Array, "n 3"],
    *,
    weights: Float[Array, " n"] | None = None,
    with_scale: bool = False,
) -> Similarity:
    """The rigid map, or similarity, that takes source nearest to target.

    Minimises ``sum_i w_i |s R a_i + t - b_i|^2``. With the singular value decomposition ``U D V'`` of the weighted
    correlation ``sum w (b - b~)(a - a~)'``, R is ``U diag(1, 1, det UV') V'``: the determinant rules out mirror images
    (Umeyama 1991).

    Args:
        source: Points a, at least three not on a line.
        target: Points b.
        weights: Non-negative weights; all one by default.
        with_scale: Whether s is free; it is 1 otherwise.

    Returns:
        The map.

    Example:
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
        >>> align(points, 2.0 * points + 1.0, with_scale=True).scale.round(3).tolist()
        2.0
    """
    if weights is None:
        weights = jnp.ones_like(source[:, 0])
    share = (weights / jnp.sum(weights))[:, None]
    source_centre, target_centre = jnp.sum(share * source, axis=0), jnp.sum(share * target, axis=0)
    centred, centred_target = source - source_centre[None], target - target_centre[None]
    correlation = jnp.einsum("ni,nj->ij", share * centred_target, centred, precision=Precision.HIGHEST)
    u, singular, vt = jnp.linalg.svd(correlation)
    sign = jnp.where(jnp.linalg.det(u) * jnp.linalg.det(vt) < 0.0, -1.0, 1.0)
    signs = jnp.ones(3, source.dtype).at[2].set(sign)
    rotation = jnp.matmul(u * signs[None], vt, precision=Precision.HIGHEST)
    scale = jnp.sum(singular * signs) / jnp.sum(share * centred**2) if with_scale else jnp.ones((), source.dtype)
    return Similarity(scale, rotation, target_centre - scale * rotate(rotation, source_centre[None])[0])
