"""Similarity maps ``p -> s R p + t``, and the one that takes corresponding points nearest to others (Procrustes).

Everything here works on NumPy arrays, in float64 on the host and without JAX, and on JAX arrays under jit, vmap and
grad: what comes out is of the kind that went in.

Letters: n points.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from digitaltwin.geometry._namespace import namespace, product
from digitaltwin.types import InputError


class Similarity(NamedTuple):
    """The map ``p -> scale R p + translation``; a rigid motion where the scale is 1. A pytree."""

    scale: Float[Any, ""]
    """Size s, positive."""
    rotation: Float[Any, "3 3"]
    """R, a proper rotation."""
    translation: Float[Any, " 3"]
    """Shift t, in the unit of what comes out."""

    @classmethod
    def identity(cls) -> "Similarity":
        """Make the map that leaves every point where it is.

        Returns:
            The identity, on the host in float64.
        """
        return cls(1.0, np.eye(3), np.zeros(3))

    def apply(self, points: Float[Any, "n 3"]) -> Float[Any, "n 3"]:
        """Map points.

        Args:
            points: Anywhere.

        Returns:
            ``s R p + t`` of each.

        Example:
            >>> import numpy as np
            >>> Similarity(2.0, np.eye(3), np.array([0.0, 0.0, 1.0])).apply(np.ones((1, 3))).tolist()
            [[2.0, 2.0, 3.0]]
        """
        return self.scale * product("ij,nj->ni", self.rotation, points) + self.translation[None]

    def inverse(self) -> "Similarity":
        """Invert the map.

        Returns:
            The map back, ``p -> R'(p - t) / s``.

        Example:
            >>> import numpy as np
            >>> Similarity(2.0, np.eye(3), np.ones(3)).inverse().apply(np.array([[3.0, 5.0, 1.0]])).tolist()
            [[1.0, 2.0, 0.0]]
        """
        back = self.rotation.T
        return Similarity(1.0 / self.scale, back, -product("ij,j->i", back, self.translation) / self.scale)

    def then(self, second: "Similarity") -> "Similarity":
        """Compose this map with another that follows.

        Rounding would let the rotation drift off the orthogonal matrices in a long chain of maps; a step of Newton's
        method for the polar decomposition, ``R <- R (3 I - R'R) / 2``, takes it back.

        Args:
            second: The map that is applied to the results of this one.

        Returns:
            Both in one.
        """
        xp = namespace(*self, *second)
        turn = product("ij,jk->ik", second.rotation, self.rotation)
        squared = product("ji,jk->ik", turn, turn)
        turn = product("ij,jk->ik", turn, 1.5 * xp.eye(3, dtype=turn.dtype) - 0.5 * squared)
        moved = second.scale * product("ij,j->i", second.rotation, self.translation) + second.translation
        return Similarity(self.scale * second.scale, turn, moved)


def procrustes_alignment(
    source: Float[Any, "n 3"],
    target: Float[Any, "n 3"],
    *,
    weights: Float[Any, " n"] | None = None,
    with_scale: bool = False,
) -> Similarity:
    """Find the rigid map, or similarity, that takes points nearest to corresponding ones (orthogonal Procrustes).

    Minimises ``sum_i w_i |s R a_i + t - b_i|^2``. With the singular value decomposition ``U D V'`` of the weighted
    correlation ``sum w (b - b~)(a - a~)'``, R is ``U diag(1, 1, det UV') V'``: the determinant rules out mirror images.

    Args:
        source: Points a [n 3], at least three not on a line.
        target: Points b [n 3], in any unit.
        weights: Weights w [n], not negative; all one by default.
        with_scale: Whether s is free; it is 1 otherwise.

    Returns:
        The map from a to b, of NumPy arrays if both were, else of JAX arrays.

    Raises:
        InputError: On the host: fewer than three points, shapes that differ, values that are not finite, or all points
            on a line. Under JAX nothing is checked.

    Example:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> found = procrustes_alignment(corners, 2.0 * corners + [1.0, 2.0, 3.0], with_scale=True)
        >>> round(found.scale, 6), found.translation.round(6).tolist()
        (2.0, [1.0, 2.0, 3.0])

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 1991.
    """
    xp = namespace(source, target, *(() if weights is None else (weights,)))
    if xp is np:
        source, target = _checked(source, target)
    weights = xp.ones_like(source[:, 0]) if weights is None else weights
    share = (weights / xp.sum(weights))[:, None]
    source_centre, target_centre = xp.sum(share * source, axis=0), xp.sum(share * target, axis=0)
    centred, centred_target = source - source_centre[None], target - target_centre[None]
    correlation = product("ni,nj->ij", share * centred_target, centred)
    u, singular, vt = xp.linalg.svd(correlation)
    sign = xp.where(xp.linalg.det(u) * xp.linalg.det(vt) < 0.0, -1.0, 1.0).astype(source.dtype)
    signs = xp.stack([xp.ones_like(sign), xp.ones_like(sign), sign])
    rotation = product("ij,jk->ik", u * signs[None], vt)
    scale = xp.sum(singular * signs) / xp.sum(share * centred**2) if with_scale else xp.ones((), source.dtype)
    scale = float(scale) if xp is np else scale
    return Similarity(scale, rotation, target_centre - scale * product("ij,j->i", rotation, source_centre))


def _checked(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, refused if they give no map."""
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise InputError(
            f"landmarks: have shapes {source.shape} and {target.shape}; give the same three or more points of both."
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise InputError("landmarks: are not all finite; leave out those that are not known.")
    for name, points in (("landmarks", source), ("target landmarks", target)):
        extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if extents[1] <= 1e-6 * extents[0]:
            raise InputError(f"{name}: lie on a line, so they give no rotation; give others.")
    return source, target
