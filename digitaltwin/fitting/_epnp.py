"""EPnP: the pose of n known points from their image, in closed form (Lepetit, Moreno-Noguer, Fua 2009).

Letters: n points; c = 4 control points; x, y, z their camera coordinates; a = 4 null vectors, b their weights.

Every point is a fixed affine combination ``p_i = sum_j a_ij c_j`` of the control points, in every frame. An image
point (u, v) says ``sum_j a_ij (x_j - u z_j) = 0`` and likewise for v: 2n linear equations ``M x = 0`` in the control
points' 12 camera coordinates. x lies in the span of the eigenvectors of M'M with the smallest eigenvalues, one if the
perspective is strong, up to four as it vanishes. The weights of that span follow from the distances between control
points, which no frame changes. Points of a plane have three control points, nine coordinates and three null vectors;
that case is solved beside the general one, in the same arrays, its fourth control point held at nothing.

The control points are the centre and one point on each principal axis, on the side that a one-sided Jacobi iteration
gives the axis. Without noise their side is of no consequence. With noise the null space, and so the pose, depends on it
about as much as on the noise; OpenCV's come from the same iteration, so that the two answers agree to rounding.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.fitting._status import FitStatus
from digitaltwin.geometry._rotations import matrix_from_quaternion

_FLATTEST = 1e-3  # an extent below this share of the largest is none: the points are a plane, or a line
_SMALLEST_IMAGE = 1e-6  # images closer together than this, in focal lengths, are one point to float32
_SWEEPS = 5
_REFINEMENTS = 8
_SQUARINGS = 12  # eigenvalues' ratio to the power 4096: what is not told apart then is degenerate to rounding
_RIDGE = 1e-7  # on a unit diagonal: the least that keeps float32 elimination positive

# The two sets of control points, space and plane. MIXING: weights a of a point from (1, its coordinates along the axes
# in units of the extents). DISTANCES: which of the pairs 01 02 03 12 13 23 there are.
_MIXING = np.array(
    [
        [[1, -1, -1, -1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [[1, -1, -1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
    ],
    np.float32,
)
_PRESENT = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.float32)
_DISTANCES = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 0]], np.float32)
_PAIRS = np.array(
    [[-1, 1, 0, 0], [-1, 0, 1, 0], [-1, 0, 0, 1], [0, 1, -1, 0], [0, 1, 0, -1], [0, 0, 1, -1]], np.float32
)
# For each assumed dimension of the null space (4, linearised; 2; 3, linearised), which of the products
# b0b0 b0b1 b1b1 b0b2 b1b2 b0b3 the distances are solved for.
_PRODUCTS = np.array([[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]], np.float32)


class Pose(NamedTuple):
    """A rigid map from the points' frame to the camera's (+x right, +y down, +z forward)."""

    rotation: Float[Array, "3 3"]
    translation: Float[Array, " 3"]
    """In the unit of the points."""
    error: Float[Array, ""]
    """Weighted root mean square distance in the image, in units of the focal length; inf if the status is not OK."""
    status: Int[Array, ""]
    """A :class:`FitStatus`; see :func:`epnp`."""


class _Points(NamedTuple):
    """The points in the frame of their principal axes, and what is seen of them."""

    centred: Float[Array, "3 n"]
    """The points from their centre, in their own frame."""
    along: Float[Array, "3 n"]
    """Coordinates along the principal axes, longest first, in units of the extents."""
    image: Float[Array, "2 n"]
    share: Float[Array, " n"]
    """Weights, of sum one."""
    axes: Float[Array, "3 3"]
    """Rows, right- or left-handed."""
    extents: Float[Array, " 3"]
    """Standard deviation along each axis, at least 1e-3 of the largest."""
    variances: Float[Array, " 3"]
    """Variances of ``along``: one but where the extent is that least one."""


def epnp(
    points: Float[Array, "n 3"], image_points: Float[Array, "n 2"], *, weights: Float[Array, " n"] | None = None
) -> Pose:
    """The pose that explains the image of known points.

    Both the general case and that of points on a plane are solved, each from three assumed dimensions of the null
    space; the pose with the smallest image error wins, so nearly flat points need no threshold.

    On landmarks of heads it agrees with OpenCV's ``SOLVEPNP_EPNP`` to 1e-4, with noise or without. It may differ where
    the answer hangs on which of several poses wins: with four or five points, or nearly flat ones. On planes OpenCV has
    the general case only, and is often far off. The pose is the start of iterations and not their end: no step here
    minimises the image error itself. For the same reason its derivative is defined to be zero.

    Args:
        points: At least four points, not on a line.
        image_points: Their images in units of the focal length, from the principal point: ``(y_px - c) / f``.
        weights: Non-negative weights of the squared image distances; a point of weight 0 is ignored, whatever its
            coordinates. One by default.

    Returns:
        The pose, with all points in front of the camera. Its status is

        * ``OK`` (0);
        * ``NON_FINITE_INPUT`` (1): a weight, or a point of positive weight, is NaN or infinite, or a weight negative;
        * ``DEGENERATE`` (2): fewer than four points of positive weight, or they are on a line (second extent
          below 1e-3 of the first), or all are seen as one (within 1e-6 focal lengths);
        * ``BEHIND_CAMERA`` (3): no pose found has all points in front of the camera.

        Where it is not ``OK`` the rotation is the identity, the translation zero and the error infinite; nothing is
        ever NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1.0]])
        >>> camera_points = points + jnp.array([-0.5, -0.5, 4.0])
        >>> epnp(points, camera_points[:, :2] / camera_points[:, 2:]).translation.round(3).tolist()
        [-0.5, -0.5, 4.0]
    """
    weights = jnp.ones_like(points[:, 0]) if weights is None else weights
    points, image_points, weights = lax.stop_gradient((points, image_points, weights))
    seen = jnp.concatenate([points, image_points], axis=1)
    finite = jnp.all((weights >= 0.0) & (weights < jnp.inf))
    finite &= jnp.all((weights == 0.0) | jnp.all(jnp.isfinite(seen), axis=1))
    used = (weights > 0.0) & finite
    share = jnp.where(used, weights, 0.0)
    share = share / jnp.maximum(jnp.sum(share), jnp.finfo(share.dtype).tiny)
    seen = jnp.where(used[:, None], seen, 0.0).T
    centre = jnp.sum(share[None] * seen, axis=1)
    known = _in_principal_axes(seen[:3] - centre[:3, None], seen[3:], share)

    controls = _candidates(known)
    rotations, translations, errors = jax.vmap(_aligned, (None, 0))(known, controls)
    best = jnp.argmin(errors)
    rotation, error = rotations[best], errors[best]
    translation = translations[best] - jnp.sum(rotation * centre[None, :3], axis=1)

    image_variance = jnp.sum(share[None] * (seen[3:] - centre[3:, None]) ** 2)
    solvable = (jnp.sum(used) >= 4) & _is_no_line(known) & (image_variance > _SMALLEST_IMAGE**2)
    status = jnp.where(jnp.isfinite(error), FitStatus.OK, FitStatus.BEHIND_CAMERA)
    status = jnp.where(finite, jnp.where(solvable, status, FitStatus.DEGENERATE), FitStatus.NON_FINITE_INPUT)
    found = status == FitStatus.OK
    return Pose(
        rotation=jnp.where(found, rotation, jnp.eye(3, dtype=share.dtype)),
        translation=jnp.where(found, translation, 0.0),
        error=jnp.where(found, error, jnp.inf),
        status=status.astype(jnp.int32),
    )


def _in_principal_axes(centred: Float[Array, "3 n"], image: Float[Array, "2 n"], share: Float[Array, " n"]) -> _Points:
    covariance = jnp.einsum("in,jn->ij", share[None] * centred, centred, precision=Precision.HIGHEST)
    variances, axes = _principal_axes(covariance)
    extents = jnp.sqrt(jnp.maximum(variances, _FLATTEST**2 * variances[0] + jnp.finfo(variances.dtype).tiny))
    along = jnp.matmul(axes, centred, precision=Precision.HIGHEST) / extents[:, None]
    return _Points(centred, along, image, share, axes, extents, variances / extents**2)


def _is_no_line(known: _Points) -> Bool[Array, ""]:
    squared = known.variances * known.extents**2
    return squared[1] > _FLATTEST**2 * squared[0]


def _principal_axes(covariance: Float[Array, "3 3"]) -> tuple[Float[Array, " 3"], Float[Array, "3 3"]]:
    """Variances, largest first, and unit axes as rows, by one-sided Jacobi rotations of the covariance's rows.

    A rotation makes two rows orthogonal and puts the longer first. Which way round it turns them decides the axes'
    signs: as in OpenCV's singular value decomposition (see the module's text).
    """
    epsilon, tiny = jnp.finfo(covariance.dtype).eps, jnp.finfo(covariance.dtype).tiny
    size = covariance[0, 0] + covariance[1, 1] + covariance[2, 2] + tiny

    def turn(rows: Array, pair: Array) -> tuple[Array, None]:
        p, q = rows[pair[0]], rows[pair[1]]
        pp, qq, pq = jnp.sum(p * p), jnp.sum(q * q), jnp.sum(p * q)
        skewed = jnp.abs(pq) > epsilon * jnp.sqrt(pp * qq)
        gap = pp - qq
        hypotenuse = jnp.where(skewed, jnp.sqrt(4.0 * pq**2 + gap**2), 1.0)
        large = jnp.sqrt((hypotenuse + jnp.abs(gap)) / (2.0 * hypotenuse))
        small = pq / (hypotenuse * large)
        swapped = gap < 0.0
        cosine = jnp.where(skewed, jnp.where(swapped, small, large), jnp.where(swapped, 0.0, 1.0))
        sine = jnp.where(skewed, jnp.where(swapped, large, small), jnp.where(swapped, 1.0, 0.0))
        # Rows that are orthogonal already are exchanged without a change of sign.
        back = jnp.where(skewed, -sine, sine)
        rows = lax.dynamic_update_index_in_dim(rows, cosine * p + sine * q, pair[0], 0)
        return lax.dynamic_update_index_in_dim(rows, cosine * q + back * p, pair[1], 0), None

    rows, _ = lax.scan(turn, covariance / size, jnp.array([[0, 1], [0, 2], [1, 2]] * _SWEEPS))
    lengths = jnp.sqrt(jnp.sum(rows**2, axis=1))
    first, second, third = rows / (lengths + tiny)[:, None]
    # A plane's third row is rounding, or nothing: only its side is kept.
    normal = jnp.cross(first, second)
    normal = jnp.where(jnp.sum(normal * third) < 0.0, -normal, normal)
    return lengths * size, jnp.stack([first, second, normal])


def _candidates(known: _Points) -> Float[Array, "6 3 4"]:
    """Where the control points may be in the camera frame: for space and plane, from each assumed dimension."""
    # Moments of (1, along) with 1, u, v and u^2 + v^2: all that M'M consists of.
    basis = jnp.concatenate([jnp.ones_like(known.along[:1]), known.along])
    u, v = known.image
    factors = known.share[None] * jnp.stack([jnp.ones_like(u), u, v, u**2 + v**2])
    moments = jnp.einsum("sin,jn->sij", factors[:, None] * basis[None], basis, precision=Precision.HIGHEST)
    moments = moments.at[0].set(jnp.diag(jnp.diagonal(moments[0])))

    reach = jnp.diag(known.extents / known.extents[0])
    controls = jnp.concatenate([jnp.zeros((3, 1), reach.dtype), reach], axis=1)
    lengths = jnp.sum(jnp.einsum("pc,xc->xp", _PAIRS, controls, precision=Precision.HIGHEST) ** 2, axis=0)

    def solve(mixing: Array, present: Array, pairs: Array) -> Array:
        null = _null_space(known, basis, moments, mixing, present)
        return _control_points(null, lengths * pairs, pairs)

    found = jax.vmap(solve)(*map(jnp.asarray, (_MIXING, _PRESENT, _DISTANCES)))
    return known.extents[0] * found.reshape(6, 3, 4)


def _null_space(
    known: _Points,
    basis: Float[Array, "4 n"],
    moments: Float[Array, "4 4 4"],
    mixing: Float[Array, "4 4"],
    present: Float[Array, " 4"],
) -> Float[Array, "3 4 4"]:
    """Null vectors of M, smallest singular value first, as camera coordinates of the control points: [x c a].

    In float32, M'M leaves an eigenvector with a millionth of the vectors far above it, where singular vectors of M
    would have less. One step of perturbation theory takes it out: the products ``(M p)'(M q)`` are formed again for
    the eigenvectors found, from residuals, without the cancellation in M'M. With ``G = diag(variances)`` and
    coordinates (xi, eta, zeta) in the basis (1, along), ``A = G^-1 sum u h h'`` the regression of u h on h, B that of
    v h, and S the moments of what the regressions leave,

        (M p)'(M q) = (xi_p - A zeta_p)' G (xi_q - A zeta_q) + the same of eta, B + zeta_p' S zeta_q.
    """
    half = jnp.einsum("sij,bj->sib", moments, mixing, precision=Precision.HIGHEST)
    one, u, v, squares = jnp.einsum("ai,sib->sab", mixing, half, precision=Precision.HIGHEST)
    away = jnp.diag(16.0 * (1.0 - present))  # a control point that is absent belongs to no null vector
    normal = jnp.block(
        [
            [one + away, jnp.zeros_like(one), -u],
            [jnp.zeros_like(one), one + away, -v],
            [-u, -v, squares + away],
        ]
    )
    values, vectors = jnp.linalg.eigh(normal, symmetrize_input=False)

    coordinates = jnp.einsum("ci,xca->xia", mixing, vectors.reshape(3, 4, 12), precision=Precision.HIGHEST)
    spread = jnp.diagonal(moments[0])
    inverse = jnp.where(spread * present > 0.0, present / jnp.where(spread > 0.0, spread, 1.0), 0.0)
    slopes = inverse[None, :, None] * moments[1:3] * present[None, None]
    left = known.image[:, None] * (present[:, None] * basis)[None]
    left = left - jnp.einsum("sij,in->sjn", slopes, basis, precision=Precision.HIGHEST)
    curved = jnp.einsum("sin,sjn->ij", known.share[None, None] * left, left, precision=Precision.HIGHEST)
    flat = coordinates[:2] - jnp.einsum("sij,ja->sia", slopes, coordinates[2], precision=Precision.HIGHEST)
    bent = jnp.einsum("ij,ja->ia", curved, coordinates[2, :, :4], precision=Precision.HIGHEST)
    products = jnp.einsum("sia,sib->ab", spread[None, :, None] * flat, flat[:, :, :4], precision=Precision.HIGHEST)
    products = products + jnp.einsum("ia,ib->ab", coordinates[2], bent, precision=Precision.HIGHEST)

    change = products[4:] / values[4:, None]
    null = vectors[:, :4] - jnp.matmul(vectors[:, 4:], change, precision=Precision.HIGHEST)
    _, order = jnp.linalg.eigh(products[:4], symmetrize_input=False)
    null = jnp.matmul(null, order, precision=Precision.HIGHEST)
    return null.reshape(3, 4, 4) * present[None, :, None] * present[None, None]


def _control_points(
    null: Float[Array, "3 4 4"], lengths: Float[Array, " 6"], pairs: Float[Array, " 6"]
) -> Float[Array, "3 3 4"]:
    """The control points, up to a common sign, with the null vectors' weights that fit the squared distances."""
    sides = jnp.einsum("pc,xca->axp", pairs[:, None] * _PAIRS, null, precision=Precision.HIGHEST)
    inner = jnp.sum(sides[:, None] * sides[None], axis=2)

    def points(start: Array) -> Array:
        weights = lax.fori_loop(0, _REFINEMENTS, lambda _, b: _gauss_newton(inner, lengths, b), start)
        return jnp.sum(null * weights[None, None], axis=2)

    return jax.vmap(points)(_first_weights(inner, lengths))


def _gauss_newton(
    inner: Float[Array, "4 4 6"], lengths: Float[Array, " 6"], weights: Float[Array, " 4"]
) -> Float[Array, " 4"]:
    """One step for ``sum_ab b_a b_b inner_ab = lengths``.

    Undamped: from a start in the wrong valley, an overshoot finds the right one more often than descent does.
    """
    slope = inner[0] * weights[0] + inner[1] * weights[1] + inner[2] * weights[2] + inner[3] * weights[3]
    residual = slope[0] * weights[0] + slope[1] * weights[1] + slope[2] * weights[2] + slope[3] * weights[3] - lengths
    normal = jnp.sum(slope[:, None] * slope[None], axis=2)
    idle = jnp.where(jnp.diagonal(normal) == 0.0, 1.0, 0.0)
    return weights - _solve(normal + jnp.diag(idle), jnp.sum(slope * residual[None], axis=1) / 2.0)


def _first_weights(inner: Float[Array, "4 4 6"], lengths: Float[Array, " 6"]) -> Float[Array, "3 4"]:
    """Weights b for each assumed dimension, from the products ``b_a b_b`` in which the distances are linear."""
    columns = jnp.stack([inner[0, 0], 2 * inner[0, 1], inner[1, 1], 2 * inner[0, 2], 2 * inner[1, 2], 2 * inner[0, 3]])
    norms = jnp.sqrt(jnp.sum(columns**2, axis=1))
    norms = jnp.where(norms > 0.0, norms, 1.0)
    columns = columns / norms[:, None]
    normal = jnp.sum(columns[:, None] * columns[None], axis=2)
    right = jnp.sum(columns * lengths[None], axis=1)

    def weights(asked: Array) -> Array:
        # A product that is not asked for has the equation "it is zero", and so has one of no effect.
        idle = jnp.where(asked * jnp.diagonal(normal) > 0.0, _RIDGE, 1.0)
        products = _solve(normal * asked[:, None] * asked[None] + jnp.diag(idle), asked * right) / norms
        products = jnp.where(products[0] < 0.0, -products, products)  # the weights' common sign is free
        first = jnp.sqrt(jnp.maximum(products[0], jnp.finfo(products.dtype).tiny))
        square = jnp.sqrt(jnp.maximum(products[2], 0.0))
        second = jnp.where(asked[2] > 0.0, jnp.where(products[1] < 0.0, -square, square), products[1] / first)
        return jnp.stack([first, second, products[3] / first, products[5] / first])

    return jax.vmap(weights)(jnp.asarray(_PRODUCTS))


def _solve(matrix: Float[Array, "m m"], right: Float[Array, " m"]) -> Float[Array, " m"]:
    """``matrix^-1 right`` of a small positive definite matrix, by elimination: under vmap an array per operation."""
    size = len(right)
    table = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(size):
        row = table[k] / table[k, k]
        here = np.arange(size)[:, None] == k
        table = jnp.where(here, row[None], table - table[:, k : k + 1] * row[None])
    return table[:, size]


def _aligned(
    known: _Points, controls: Float[Array, "3 4"]
) -> tuple[Float[Array, "3 3"], Float[Array, " 3"], Float[Array, ""]]:
    """The rotation, and the centre's place, that take the points nearest to where the control points put them.

    And the image error, inf where a point is not in front of the camera. ``along`` is white, so that the correlation of
    points and places is a sum over the axes.
    """
    controls = jnp.where(controls[2, 0] < 0.0, -controls, controls)
    place = controls[:, 0]
    present = jnp.any(controls != 0.0, axis=0)
    moved = jnp.where(present[None], controls - place[:, None], 0.0)[:, 1:] * (known.extents * known.variances)[None]
    rotation = _nearest_rotation(_product(moved, known.axes))
    x, y, z = _product(rotation, known.centred) + place[:, None]
    squared = (x / z - known.image[0]) ** 2 + (y / z - known.image[1]) ** 2
    used = known.share > 0.0
    error = jnp.sqrt(jnp.sum(jnp.where(used, known.share * squared, 0.0)))
    usable = jnp.isfinite(error) & jnp.all((z > 0.0) | ~used)
    return rotation, place, jnp.where(usable, error, jnp.inf)


def _nearest_rotation(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """The rotation R of largest ``tr(R'T)``: its quaternion is the leading eigenvector of Horn's matrix, by squaring.

    :func:`digitaltwin.geometry._polar.polar_quaternion` finds the same and has a derivative, but takes twice as long to
    compile and, for a few matrices at a time, to run.
    """
    trace = matrix[0, 0] + matrix[1, 1] + matrix[2, 2]
    skew = matrix - matrix.T
    axial = jnp.stack([skew[2, 1], skew[0, 2], skew[1, 0]])
    eye = jnp.eye(4, dtype=matrix.dtype)
    horn = jnp.block([[trace[None, None], axial[None]], [axial[:, None], matrix + matrix.T - trace * eye[:3, :3]]])
    # No eigenvalue is below -|K|: shifted by it, the leading one is the largest in size.
    horn = horn / (jnp.sqrt(jnp.sum(horn**2)) + jnp.finfo(matrix.dtype).tiny) + eye

    def square(_: Array, k: Array) -> Array:
        k = _product(k, k)
        return k / (k[0, 0] + k[1, 1] + k[2, 2] + k[3, 3])

    horn = lax.fori_loop(0, _SQUARINGS, square, horn)
    row = horn[jnp.argmax(jnp.diagonal(horn))]
    return matrix_from_quaternion(row / jnp.sqrt(jnp.sum(row**2)))


def _product(left: Float[Array, "m k"], right: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """A small matrix product as a sum of outer products: under vmap a few long arrays, not many small products."""
    terms = [left[:, k : k + 1] * right[k : k + 1] for k in range(len(right))]
    return reduce(add, terms)
