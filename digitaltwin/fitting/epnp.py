"""EPnP: the pose of n known points from their image, in closed form (Lepetit, Moreno-Noguer, Fua 2009).

Letters: n points; c control points (4, or 3 for a plane); m = 3c their coordinates in the camera frame.

Every point is a fixed affine combination ``p_i = sum_j a_ij c_j`` of the control points, in every frame. An image
point (u, v) says ``sum_j a_ij (x_j - u z_j) = 0`` and likewise for v: 2n linear equations ``M x = 0`` in the control
points' camera coordinates. x lies in the span of the singular vectors of M with the smallest singular values, one if
the perspective is strong, up to four as it vanishes. The weights of that span follow from the distances between
control points, which no frame changes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.geometry.alignment import align
from digitaltwin.geometry.rotations import rotate
from digitaltwin.solvers import dense_proposal, run

# For each assumed dimension of the null space, the products b_a b_b that the distance equations are solved for.
_PRODUCTS = {
    4: (
        ((0, 0), (0, 1), (0, 2), (0, 3)),
        ((0, 0), (0, 1), (1, 1)),
        ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
    ),
    3: (((0, 0), (0, 1), (0, 2)), ((0, 0), (0, 1), (1, 1))),
}
_REFINEMENTS = 8
_FLATTEST = 1e-3  # smallest extent, relative to the largest, that an axis of control points is given


class Pose(NamedTuple):
    """A rigid map from the points' frame to the camera's (+x right, +y down, +z forward)."""

    rotation: Float[Array, "3 3"]
    translation: Float[Array, " 3"]
    """In the unit of the points."""
    error: Float[Array, ""]
    """Weighted root mean square distance in the image, in units of the focal length; inf if the pose is unusable."""


def epnp(
    points: Float[Array, "n 3"], image_points: Float[Array, "n 2"], *, weights: Float[Array, " n"] | None = None
) -> Pose:
    """The pose that explains the image of known points.

    Both the general case and that of points on a plane are solved, each from every assumed dimension of the null
    space; the pose with the smallest image error wins, so nearly flat points need no threshold.

    Args:
        points: At least four points, not on a line.
        image_points: Their images in units of the focal length, from the principal point: ``(y_px - c) / f``.
        weights: Non-negative weights of the squared image distances; a point of weight 0 is ignored. One by default.

    Returns:
        The pose, all points in front of the camera; ``error`` is inf where there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1.0]])
        >>> camera_points = points + jnp.array([-0.5, -0.5, 4.0])
        >>> epnp(points, camera_points[:, :2] / camera_points[:, 2:]).translation.round(3).tolist()
        [-0.5, -0.5, 4.0]
    """
    if weights is None:
        weights = jnp.ones_like(points[:, 0])
    share = weights / jnp.sum(weights)

    def pose(span: _Span) -> Pose:
        found = _camera_points(span)
        found = jnp.where(jnp.sum(share * found[:, 2]) < 0.0, -1.0, 1.0) * found
        rigid = align(points, found, weights=weights)
        moved = rotate(rigid.rotation, points) + rigid.translation[None]
        squared = jnp.sum((moved[:, :2] / moved[:, 2:] - image_points) ** 2, axis=1)
        error = jnp.sqrt(jnp.sum(jnp.where(share > 0.0, share * squared, 0.0)))
        usable = jnp.isfinite(error) & jnp.all((moved[:, 2] > 0.0) | (share == 0.0))
        return Pose(rigid.rotation, rigid.translation, jnp.where(usable, error, jnp.inf))

    spans = [span for count in (4, 3) for span in _spans(points, image_points, share, count)]
    poses = jax.vmap(pose)(jax.tree.map(lambda *parts: jnp.stack(parts), *spans))
    best = jnp.argmin(poses.error)
    return jax.tree.map(lambda part: part[best], poses)


class _Span(NamedTuple):
    """Where the control points may be, and a first guess; zeros stand for the fourth where there are three."""

    affine: Float[Array, "n 4"]
    """a: the points in terms of the control points."""
    null: Float[Array, "4 4 3"]
    """Null vectors, smallest singular value first, as positions of the control points in the points' unit."""
    inner: Float[Array, "6 4 4"]
    """For each pair of control points, the inner products of the null vectors' differences."""
    lengths: Float[Array, " 6"]
    """The pair's squared distance."""
    start: Float[Array, " 4"]
    """First guess of the null vectors' weights."""


def _spans(
    points: Float[Array, "n 3"], image_points: Float[Array, "n 2"], share: Float[Array, " n"], count: int
) -> list[_Span]:
    """The null space for ``count`` control points, with one guess for each assumed dimension of it."""
    centre = jnp.sum(share[:, None] * points, axis=0)
    centred = points - centre[None]
    covariance = jnp.einsum("n,ni,nj->ij", share, centred, centred, precision=Precision.HIGHEST)
    variances, axes = jnp.linalg.eigh(covariance)
    extents = jnp.sqrt(jnp.maximum(variances, _FLATTEST**2 * variances[-1]))[::-1][: count - 1]
    axes = axes[:, ::-1][:, : count - 1]

    # The control points: the centre, and one point an extent away along each principal axis, longest first.
    along = jnp.matmul(centred, axes, precision=Precision.HIGHEST) / extents[None]
    affine = jnp.concatenate([1.0 - jnp.sum(along, axis=1, keepdims=True), along], axis=1)
    controls = jnp.concatenate([jnp.zeros((1, count - 1), points.dtype), jnp.diag(extents)]) / extents[0]

    # Singular vectors of M itself, by way of its triangular factor: M'M would square the condition number, and the
    # singular values that tell perspective from its absence are small.
    u, v = image_points[:, 0], image_points[:, 1]
    zero = jnp.zeros_like(affine)
    rows = jnp.concatenate(
        [
            jnp.stack([affine, zero, -u[:, None] * affine], axis=2),
            jnp.stack([zero, affine, -v[:, None] * affine], axis=2),
        ]
    )
    system = jnp.tile(jnp.sqrt(share), 2)[:, None] * rows.reshape(-1, 3 * count)
    _, _, vt = jnp.linalg.svd(jnp.linalg.qr(system, mode="r"), full_matrices=True)
    null = vt[::-1][:count].reshape(count, count, 3)

    first, second = np.triu_indices(count, 1)
    sides = null[:, first] - null[:, second]
    inner = jnp.einsum("apx,bpx->pab", sides, sides, precision=Precision.HIGHEST)
    lengths = jnp.sum((controls[first] - controls[second]) ** 2, axis=1)
    more, pairs = 4 - count, 6 - len(first)
    return [
        _Span(
            affine=jnp.pad(affine, ((0, 0), (0, more))),
            null=jnp.pad(null, ((0, more), (0, more), (0, 0))) * extents[0],
            inner=jnp.pad(inner, ((0, pairs), (0, more), (0, more))),
            lengths=jnp.pad(lengths, (0, pairs)),
            start=jnp.pad(_weights_from_products(inner, lengths, products), (0, more)),
        )
        for products in _PRODUCTS[count]
    ]


def _camera_points(span: _Span) -> Float[Array, "n 3"]:
    """The points in the camera frame, up to a common sign, from the null vectors' weights that fit the distances."""

    def residual(beta: Float[Array, " 4"]) -> Float[Array, " 6"]:
        return jnp.einsum("pab,a,b->p", span.inner, beta, beta, precision=Precision.HIGHEST) - span.lengths

    def energy(beta: Float[Array, " 4"]) -> Float[Array, ""]:
        return jnp.sum(residual(beta) ** 2)

    beta = run(energy, dense_proposal(residual), span.start, iterations=_REFINEMENTS).point
    controls = jnp.einsum("a,acx->cx", beta, span.null, precision=Precision.HIGHEST)
    return jnp.matmul(span.affine, controls, precision=Precision.HIGHEST)


def _weights_from_products(
    inner: Float[Array, "d c c"], lengths: Float[Array, " d"], pairs: tuple[tuple[int, int], ...]
) -> Float[Array, " c"]:
    """Weights b of the null vectors from the distances, which are linear in the products ``b_a b_b``.

    The products are entries of the rank-one matrix bb'; the column under its largest diagonal gives b up to a sign.
    """
    a, b = np.array(pairs).T
    columns = inner[:, a, b] * np.where(a == b, 1.0, 2.0).astype(np.float32)[None]
    products, *_ = jnp.linalg.lstsq(columns, lengths)
    outer = jnp.zeros(inner.shape[1:], inner.dtype).at[a, b].set(products).at[b, a].set(products)
    pivot = jnp.argmax(jnp.abs(jnp.diagonal(outer)))
    size = jnp.maximum(jnp.abs(outer[pivot, pivot]), jnp.finfo(inner.dtype).tiny)
    return jnp.sign(outer[pivot, pivot]) * outer[:, pivot] / jnp.sqrt(size)
