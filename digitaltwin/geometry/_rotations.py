"""Rotations: unit quaternions (w, x, y, z), rotation vectors [rad] and matrices.

A quaternion is the stored form and a rotation vector the increment: ``compose(increment, q)`` turns by the increment
*after* q, so that no chart of the rotations, and no singularity of one, ever enters a solver. Inner products are sums
of products: under ``vmap`` an ``@`` becomes a matrix product, at an accelerator's reduced default precision.
"""

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

# Below this squared angle the series are exact to double precision, and sqrt(0) with its infinite slope is not touched.
_SMALL = 1e-6


def quaternion_from_rotation_vector(vector: Float[Array, " 3"]) -> Float[Array, " 4"]:
    """The quaternion ``(cos(a/2), sin(a/2) v/a)``, ``a = |v|``; smooth, gradient included, at ``v = 0``.

    Args:
        vector: Rotation axis times angle [rad].

    Returns:
        Unit quaternion, w first.

    Example:
        >>> import jax.numpy as jnp
        >>> (8 * quaternion_from_rotation_vector(jnp.array([0.0, 0.0, jnp.pi]))).astype(int).tolist()
        [0, 0, 0, 8]
    """
    squared = jnp.sum(vector**2)
    small = squared < _SMALL
    angle = jnp.sqrt(
        jnp.where(small, 1.0, squared)
    )  # the unused branch must stay finite: its gradient is multiplied by 0
    w = jnp.where(small, 1.0 - squared / 8.0, jnp.cos(angle / 2.0))
    scale = jnp.where(small, 0.5 - squared / 48.0, jnp.sin(angle / 2.0) / angle)
    return jnp.concatenate([w[None], scale * vector])


def rotation_vector_from_quaternion(quaternion: Float[Array, " 4"]) -> Float[Array, " 3"]:
    """The shortest rotation vector of a unit quaternion, ``|v| <= pi``; the inverse of the map above.

    Args:
        quaternion: Unit quaternion, w first; q and -q give the same vector.

    Returns:
        Rotation vector [rad].
    """
    quaternion = canonical(quaternion)
    w, axis = quaternion[0], quaternion[1:]
    squared = jnp.sum(axis**2)
    small = squared < _SMALL
    sine = jnp.sqrt(jnp.where(small, 1.0, squared))
    safe_w = jnp.where(small, w, 1.0)
    series = 2.0 / safe_w * (1.0 - squared / (3.0 * safe_w**2))
    return jnp.where(small, series, 2.0 * jnp.arctan2(sine, w) / sine) * axis


def canonical(quaternion: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """Of q and -q, which are one rotation, the one with ``w >= 0``."""
    return jnp.where(quaternion[0] < 0.0, -quaternion, quaternion)


def multiply(left: Float[Array, " 4"], right: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """Hamilton product: the rotation ``right`` followed by the rotation ``left``."""
    a, u = left[0], left[1:]
    b, v = right[0], right[1:]
    return jnp.concatenate([(a * b - jnp.sum(u * v))[None], a * v + b * u + jnp.cross(u, v)])


def compose(increment: Float[Array, " 3"], quaternion: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """The rotation q followed by a small rotation vector, normalised, with ``w >= 0``.

    Normalising keeps float32 rounding from accumulating over iterations.

    Args:
        increment: Rotation vector [rad], applied on the left.
        quaternion: Unit quaternion, w first.

    Returns:
        Unit quaternion of ``R(increment) R(q)``.
    """
    product = multiply(quaternion_from_rotation_vector(increment), quaternion)
    return canonical(product / jnp.linalg.norm(product))


def matrix_from_quaternion(quaternion: Float[Array, " 4"]) -> Float[Array, "3 3"]:
    """The rotation matrix of a unit quaternion."""
    w, x, y, z = quaternion
    return jnp.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
            [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
            [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def matrix_from_rotation_vector(vector: Float[Array, " 3"]) -> Float[Array, "3 3"]:
    """Compute the rotation matrix ``exp([v]x)`` of a rotation vector; smooth, gradient included, at ``v = 0``.

    Args:
        vector: Rotation axis times angle [rad].

    Returns:
        A proper rotation [3 3].

    Example:
        >>> import jax.numpy as jnp
        >>> matrix_from_rotation_vector(jnp.array([0.0, 0.0, jnp.pi / 2]))[:, 0].round(6).tolist()  # x becomes y
        [0.0, 1.0, 0.0]
    """
    return matrix_from_quaternion(quaternion_from_rotation_vector(vector))


def quaternion_from_matrix(matrix: Float[Array, "3 3"]) -> Float[Array, " 4"]:
    """The unit quaternion, ``w >= 0``, of a rotation matrix.

    All four products of q with itself can be read off the matrix, one in each row of a 4 x 4 table; the row with the
    largest diagonal is the well-conditioned one at every angle, 180 degrees included.

    Args:
        matrix: A proper rotation.

    Returns:
        Unit quaternion, w first.
    """
    (a, b, c), (d, e, f), (g, h, i) = matrix
    table = jnp.array(
        [
            [1.0 + a + e + i, h - f, c - g, d - b],
            [h - f, 1.0 + a - e - i, b + d, c + g],
            [c - g, b + d, 1.0 - a + e - i, f + h],
            [d - b, c + g, f + h, 1.0 - a - e + i],
        ]
    )
    row = table[jnp.argmax(jnp.diagonal(table))]
    return canonical(row / jnp.linalg.norm(row))


def rotate(matrix: Float[Array, "3 3"], points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """``R p`` for every point, at full float32 precision on every accelerator."""
    return jnp.einsum("ij,nj->ni", matrix, points, precision=Precision.HIGHEST)
