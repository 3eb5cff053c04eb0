"""Polar decomposition ``T = R S`` of 3 x 3 matrices: the nearest rotation and a symmetric stretch.

R maximises ``tr(R'T)`` over the proper rotations, so it exists for every T: of a reflection it is the rotation that
leaves S one negative eigenvalue, the smallest in size. As a quaternion, ``tr(R(q)'T) = q'K q`` with a symmetric 4 x 4
matrix K (Davenport's q-method, Horn 1987), and q is K's leading eigenvector. It is found by squaring: K shifted to be
positive, squared n times, is dominated by q q'. That is a few hundred multiplications without a branch, the same for
every matrix, where LAPACK would be called once a vertex. Up to two Newton steps then polish q to rounding. All of it is
written in scalars, so that under ``vmap`` every entry is one long array: a tenth of the time of batched 4 x 4 products.

With singular values s1 >= s2 >= |s3|, the last with the sign of det T, q is determined where ``s2 + s3 > 0``, and

    dR = R [w]x,     (tr(S) I - S) w = axial(R'dT - dT'R)

is its derivative: smooth at T = I, at repeated singular values and at reflections alike, unlike an SVD's. Where
``s2 + s3`` vanishes, R is one of many, and the derivative is kept finite by a rounding unit on the diagonal.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from digitaltwin.geometry._rotations import canonical, matrix_from_quaternion, multiply, quaternion_from_rotation_vector

_SQUARINGS = 12  # the eigenvalues' ratio to the power 4096: what is not told apart then is degenerate to rounding
_POLISHINGS = 2


@jax.custom_jvp
def polar_quaternion(matrix: Float[Array, "3 3"]) -> Float[Array, " 4"]:
    """The rotation R nearest to a matrix, ``T = R S``.

    Args:
        matrix: T, any.

    Returns:
        Unit quaternion, ``w >= 0``. Its derivative is finite everywhere.

    Example:
        >>> import jax.numpy as jnp
        >>> polar_quaternion(jnp.diag(jnp.array([2.0, 1.0, 0.5]))).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    # Of size one, so that no product of entries leaves the range of numbers; the rotation does not depend on it.
    matrix = matrix / (jnp.max(jnp.abs(matrix)) + jnp.finfo(matrix.dtype).tiny)
    quaternion = _leading_quaternion(matrix)
    for _ in range(_POLISHINGS):
        turned = multiply(quaternion, quaternion_from_rotation_vector(_rotation_towards(quaternion, matrix, matrix)))
        turned = turned / jnp.sqrt(jnp.sum(turned**2))
        # Where the rotation is undetermined the step is rounding: it is taken only if R'T becomes more symmetric.
        better = _asymmetry(turned, matrix) < _asymmetry(quaternion, matrix)
        quaternion = jnp.where(better, turned, quaternion)
    return canonical(quaternion)


@polar_quaternion.defjvp
def _polar_quaternion_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    quaternion = polar_quaternion(*primals)
    turn = _rotation_towards(quaternion, primals[0], tangents[0])
    return quaternion, multiply(quaternion, jnp.concatenate([jnp.zeros(1, turn.dtype), turn / 2]))


def stretch(quaternion: Float[Array, " 4"], matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """``S = R'T``, made exactly symmetric.

    Args:
        quaternion: R, of :func:`polar_quaternion`.
        matrix: T.

    Returns:
        S; its eigenvalues are the singular values of T, the smallest negative if T reflects.
    """
    p = _transposed_product(matrix_from_quaternion(quaternion), matrix)
    return jnp.stack([(p[m][n] + p[n][m]) / 2 for m in range(3) for n in range(3)]).reshape(3, 3)


def _rotation_towards(quaternion: Array, matrix: Array, change: Array) -> Array:
    """The vector w of ``(tr(S) I - S) w = axial(R'C - C'R)`` for a change C of T, in R's own frame [rad]."""
    rotation = matrix_from_quaternion(quaternion)
    s = _transposed_product(rotation, matrix)
    c = _transposed_product(rotation, change)
    x, y, z = c[2][1] - c[1][2], c[0][2] - c[2][0], c[1][0] - c[0][1]
    # T is a ratio of lengths: one is its natural size, and a rounding unit of that the least to be told from zero.
    floor = jnp.finfo(matrix.dtype).eps * (1 + jnp.abs(s[0][0] + s[1][1] + s[2][2]))
    a, b, d = s[1][1] + s[2][2] + floor, s[0][0] + s[2][2] + floor, s[0][0] + s[1][1] + floor
    f, g, h = -(s[1][2] + s[2][1]) / 2, -(s[0][2] + s[2][0]) / 2, -(s[0][1] + s[1][0]) / 2
    # [a h g; h b f; g f d] w = (x, y, z) by Cramer's rule.
    ca, cb, cd, cf, cg, ch = b * d - f * f, a * d - g * g, a * b - h * h, g * h - a * f, h * f - b * g, f * g - h * d
    determinant = a * ca + h * ch + g * cg
    return jnp.stack([ca * x + ch * y + cg * z, ch * x + cb * y + cf * z, cg * x + cf * y + cd * z]) / determinant


def _asymmetry(quaternion: Array, matrix: Array) -> Array:
    """Square of the axial part of R'T, which vanishes where R is T's rotation."""
    p = _transposed_product(matrix_from_quaternion(quaternion), matrix)
    return (p[2][1] - p[1][2]) ** 2 + (p[0][2] - p[2][0]) ** 2 + (p[1][0] - p[0][1]) ** 2


def _transposed_product(left: Array, right: Array) -> list[list[Array]]:
    """The entries of ``a'b``, as scalars (see the module's text)."""
    return [[left[0, m] * right[0, n] + left[1, m] * right[1, n] + left[2, m] * right[2, n] for n in range(3)]
            for m in range(3)]  # fmt: skip


def _leading_quaternion(matrix: Array) -> Array:
    """The leading eigenvector of K, by squaring."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    k = [a + e + i, h - f, c - g, d - b, a - e - i, b + d, c + g, e - a - i, f + h, i - a - e]  # the upper triangle
    squares = [sum(entry**2 for entry in k), sum(k[m] ** 2 for m in _DIAGONAL)]
    norm = jnp.sqrt(2 * squares[0] - squares[1]) + jnp.finfo(matrix.dtype).tiny
    # No eigenvalue is below -|K|: shifted by it, the leading one is the largest in size.
    k = [k[m] / norm + (1 if m in _DIAGONAL else 0) for m in range(10)]
    k = jax.lax.fori_loop(0, _SQUARINGS // 2, lambda _, k: _square(_square(k)), k)
    # K is now a multiple of q q': its row of the largest diagonal is q, with the least rounding.
    best, diagonal = jnp.stack([k[m] for m in _ROWS[0]]), k[0]
    for m in range(1, 4):
        larger = k[_ROWS[m][m]] > diagonal
        best = jnp.where(larger, jnp.stack([k[n] for n in _ROWS[m]]), best)
        diagonal = jnp.where(larger, k[_ROWS[m][m]], diagonal)
    return best / jnp.sqrt(jnp.sum(best**2))


_ROWS = ((0, 1, 2, 3), (1, 4, 5, 6), (2, 5, 7, 8), (3, 6, 8, 9))  # where the entries of a symmetric 4 x 4 matrix stand
_DIAGONAL = tuple(_ROWS[m][m] for m in range(4))


def _square(k: list[Array]) -> list[Array]:
    """The square of a symmetric 4 x 4 matrix over its trace."""
    scale = 1 / sum(k[m] for m in _DIAGONAL)
    k = [entry * scale for entry in k]
    rows = [[k[place] for place in row] for row in _ROWS]
    return [_inner(rows[m], rows[n]) for m in range(4) for n in range(m, 4)]


def _inner(left: list[Array], right: list[Array]) -> Array:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2] + left[3] * right[3]
