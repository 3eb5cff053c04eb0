"""The deformation representation: nine numbers a vertex that say how the surface around it turned and stretched.

Letters: v vertices, f faces, c connected components, d directions. The paper's section 3.2, after Gao et al. 2019
("Sparse data driven mesh deformation"). A mesh p is seen against a reference p^R of the same faces; with one-ring N(i),
edges ``e_ij = p_i - p_j`` and cotangent weights c_ij of the reference,

    T_i = argmin sum_j c_ij |e_ij - T e^R_ij|^2 + b_i |m_i - T n^R_i|^2                                    Eq. 5
        = (sum_j c_ij e_ij e^R_ij' + b_i m_i n^R_i') M_i^-1,   M_i = sum_j c_ij e^R_ij e^R_ij' + b_i n^R_i n^R_i'

    T_i = R_i S_i (polar decomposition),    feature_i = (log R_i, S_i - I)                                  Eq. 6

and back, p is the minimiser of ``sum_ij c_ij |e_ij - (T_i + T_j)/2 e^R_ij|^2``, that is, with one vertex of each
component held,

    sum_j c_ij (p_i - p_j) = sum_j c_ij (T_i + T_j)/2 (p^R_i - p^R_j),     A p = K T                        Eq. 8

Where this departs from the paper:

* Eq. 8 is printed without the weights and without T_j; solved like that it misses by decimetres.
* The second term of Eq. 5 is ours: a virtual edge along the unit normal n^R, without which T is undetermined where a
  ring is flat. Its target m is the deformed surface's normal, as long as the square root of its growth in area: so
  rotating *and scaling* p rotates and scales T, exactly. (A pull towards the identity would break both.)
* A tenth of the edges of the shipped head have negative cotangent weights; weights are raised to a floor.
* ``A p = K T`` is solved for the displacement from the reference, ``A d = K (T - I)``: in float32 a twentieth of the
  error.
* log R is continuous over a component as long as its rotations stay clear of full turns: along a breadth-first tree a
  vertex takes, of all rotation vectors of R_i, the one nearest to its parent's, so that a bend by more than 180 degrees
  interpolates as a bend. The root's is the shortest one.

T has nine numbers a vertex where p has three, yet ``decode(encode(p))`` is not p: averaging T over an edge loses its
curvature (at most a few mm on a head, 0.03 mm on average over expressions). With ``exact=True`` T gets the smallest
change that makes it so, ``dT = K'(K K')^-1 (A p - K T)``.

The constant operators are made in :mod:`digitaltwin.deformation._reference`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from digitaltwin.deformation._reference import Reference
from digitaltwin.geometry._normals import summed_normals
from digitaltwin.geometry._polar import polar_quaternion, stretch
from digitaltwin.geometry._rotations import rotation_vector_from_quaternion
from digitaltwin.types import InputError

_REFINEMENTS = 2
_ROUNDING_ANGLE = 100.0  # units of the last place [rad]; below it the axis of a rotation is rounding
_LARGEST_STEP = 0.7  # rad, from one vertex to the next on a surface; more is a ring that is folded over
_SERIES_BELOW = 1e-8  # rad^2; there two terms are exact to double precision


def encode(reference: Reference, vertices: Float[Array, "v 3"], *, exact: bool = False) -> Float[Array, "v 9"]:
    """Encode a mesh as its deformation against the reference (Eq. 5 and 6).

    Args:
        reference: Reference of the same faces.
        vertices: Positions, in the reference's unit [mm]; anywhere, in any orientation.
        exact: Correct T by as little as makes :func:`decode` return the mesh itself. Mixing many meshes is smoother
            without.

    Returns:
        For each vertex log R as a rotation vector x, y, z [rad], then S - I as xx, yy, zz, xy, xz, yz. Continuous and
        differentiable in the vertices, but for two places: where a component as a whole is turned by 180 degrees, all
        its rotation vectors change by a full turn together; and where a rotation is undetermined. Gradients are finite
        there too.

    Raises:
        InputError: Another number of vertices than the reference's.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.deformation import make_reference
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> tetrahedron = make_reference(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
        >>> larger = encode(tetrahedron, 1.5 * tetrahedron.vertices)  # nothing turns, everything is stretched
        >>> abs(larger[0]).round(3).tolist()
        [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]

    Source: Gao et al. 2019, "Sparse Data Driven Mesh Deformation"; section 3.2 of the paper.
    """
    _check_shape("vertices", vertices, reference.vertices.shape)
    moved = vertices - reference.vertices
    # A component's place says nothing; without it, rounding does not grow with the distance from the reference.
    moved = moved - moved[reference.anchors][reference.component]
    transposed = _deformation_gradient(reference, moved)
    if exact:
        transposed = _correct(reference, transposed, moved)
    quaternion = jax.vmap(polar_quaternion)(jnp.swapaxes(transposed, 1, 2))
    s = jax.vmap(stretch)(quaternion, jnp.swapaxes(transposed, 1, 2))
    logarithm = _unwrap(reference, jax.vmap(rotation_vector_from_quaternion)(quaternion))
    stretches = [s[:, 0, 0] - 1, s[:, 1, 1] - 1, s[:, 2, 2] - 1, s[:, 0, 1], s[:, 0, 2], s[:, 1, 2]]
    return jnp.concatenate([logarithm, jnp.stack(stretches, axis=1)], axis=1)


def decode(
    reference: Reference, feature: Float[Array, "v 9"], *, anchor: Float[Array, "c 3"] | None = None
) -> Float[Array, "v 3"]:
    """Decode the mesh of a deformation: Eq. 8, solved for the displacement from the reference.

    Args:
        reference: Reference that the feature was encoded against.
        feature: Feature made by :func:`encode`, or a mixture of such.
        anchor: Where each component's ``reference.anchors`` vertex shall be; by default where the reference has it. The
            feature says nothing of a component's place.

    Returns:
        Positions [mm].

    Raises:
        InputError: Another number of vertices, or of anchors, than the reference's.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.deformation import encode, make_reference
        >>> corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> tetrahedron = make_reference(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
        >>> sheared = tetrahedron.vertices.at[3].add(0.25)
        >>> feature = encode(tetrahedron, sheared, exact=True)
        >>> again = decode(tetrahedron, feature, anchor=sheared[tetrahedron.anchors])
        >>> bool(abs(again - sheared).max() < 1e-5)
        True

    Source: Gao et al. 2019, "Sparse Data Driven Mesh Deformation"; Eq. 8 of the paper.
    """
    _check_shape("feature", feature, (len(reference.vertices), 9))
    displacement = _displacement(reference, _gradient_changes(feature))
    if anchor is not None:
        _check_shape("anchor", anchor, (len(reference.anchors), 3))
        shift = anchor - reference.vertices[reference.anchors]
        displacement = displacement + shift[reference.component]
    return reference.vertices + displacement


def _displacement(reference: Reference, change: Float[Array, "v 3 3"]) -> Float[Array, "v 3"]:
    """``A^-1 K (T' - I)``: where Eq. 8 moves the reference, zero at the anchors [mm]."""
    return reference.factor.solve(reference.divergence.apply(change.reshape(-1, 3)))


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{name}: has shape {array.shape}, not {shape}; it has to belong to the reference's mesh.")


def deformation_gradients(feature: Float[Array, "v 9"]) -> Float[Array, "v 3 3"]:
    """Compute the deformation gradient of each vertex, ``T = exp(log R) (I + (S - I))``.

    Args:
        feature: Feature made by :func:`encode`.

    Returns:
        The gradients T, which map the reference's edges to the mesh's.
    """
    return jnp.eye(3, dtype=feature.dtype)[None] + jnp.swapaxes(_gradient_changes(feature), 1, 2)


def _gradient_changes(feature: Float[Array, "v 9"]) -> Float[Array, "v 3 3"]:
    """``T' - I``, with ``T - I = (R - I) + R (S - I)``: not I subtracted in the end, where small changes would cancel.

    R by Rodrigues' formula. Each of the nine channels is one long array: a tenth of the time of batched 3 x 3 products.
    """
    x, y, z, xx, yy, zz, xy, xz, yz = feature.T
    squared = x * x + y * y + z * z
    small = squared < _SERIES_BELOW
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))  # the branch not taken stays finite: its gradient is times zero
    sine = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    half = jnp.sin(angle / 2)
    versine = jnp.where(small, 0.5 - squared / 24.0, 2.0 * half * half / (angle * angle))  # (1 - cos angle) / angle^2
    a, b, c = versine * x, versine * y, versine * z
    turn = [
        [-b * y - c * z, a * y - sine * z, a * z + sine * y],
        [a * y + sine * z, -a * x - c * z, b * z - sine * x],
        [a * z - sine * y, b * z + sine * x, -a * x - b * y],
    ]  # R - I
    s = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    entries = [
        turn[m][n] + s[m][n] + turn[m][0] * s[0][n] + turn[m][1] * s[1][n] + turn[m][2] * s[2][n]
        for n in range(3)
        for m in range(3)
    ]
    # Nine in one stack: XLA keeps that as a pass of its own, but fuses two stacks of three into the decoder's gathers,
    # and then computes every entry once for each patch that reads it.
    return jnp.stack(entries, axis=1).reshape(-1, 3, 3)


def _deformation_gradient(reference: Reference, moved: Float[Array, "v 3"]) -> Float[Array, "v 3 3"]:
    """T' of Eq. 5, as the change against the reference, whose own T is I."""
    summed = summed_normals(reference.vertices + moved, reference.faces)
    squared = jnp.sum(summed**2, axis=1, keepdims=True)
    safe = jnp.where(squared > 0, squared, 1)  # keeps the root's infinite slope out of the gradient
    # |m| = sqrt(area / area of the reference), so m = sum / sqrt(|sum| area).
    target = jnp.where(squared > 0, summed / (safe**0.25 * jnp.sqrt(reference.areas)[:, None]), 0)
    by_edges = reference.gradient.apply(moved).reshape(-1, 3, 3)
    by_normal = reference.normal_gradient[:, :, None] * (target - reference.normals)[:, None, :]
    return jnp.eye(3, dtype=moved.dtype)[None] + by_edges + by_normal


def _correct(
    reference: Reference, transposed: Float[Array, "v 3 3"], moved: Float[Array, "v 3"]
) -> Float[Array, "v 3 3"]:
    """T' changed as little as makes Eq. 8 hold.

    What is missing, ``A p - K T``, is ``A (p - decode(T))``: formed so, from positions that nearly agree, float32
    loses nothing, where ``A p`` and ``K T`` would cancel. Repeated, because the solve rounds too.
    """
    identity = jnp.eye(3, dtype=transposed.dtype)[None]
    for _ in range(_REFINEMENTS):
        missing = reference.correction.stiffness.apply(moved - _displacement(reference, transposed - identity))
        change = reference.correction.spread.apply(reference.correction.factor.solve(missing))
        transposed = transposed + change.reshape(-1, 3, 3)
    return transposed


def _unwrap(reference: Reference, logarithm: Float[Array, "v 3"]) -> Float[Array, "v 3"]:
    """Rotation vectors made continuous: whole turns added along the tree.

    The vectors of one rotation are ``(angle + 2 pi k) axis``; nearest to r is ``k = round((r . axis - angle) / 2 pi)``.
    Where the rotation is none to rounding, its axis is r's. r is the parent's vector, or, if that is far from its own
    parent's, the one that the parent was compared with: a ring that is folded over leads nobody astray.
    """
    squared = jnp.sum(logarithm**2, axis=1, keepdims=True)
    determined = squared > (_ROUNDING_ANGLE * jnp.finfo(logarithm.dtype).eps) ** 2
    own_axis = logarithm / jnp.sqrt(jnp.where(determined, squared, 1))

    def descend(carried: tuple[Array, Array], level: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        unwrapped, trusted = carried
        vertices, parents = level
        above, own = trusted[parents], logarithm[vertices]
        length = jnp.sqrt(jnp.sum(above**2, axis=1, keepdims=True))
        axis = jnp.where(determined[vertices], own_axis[vertices], above / jnp.where(length > 0, length, 1))
        turns = jnp.round(jnp.sum((above - own) * axis, axis=1, keepdims=True) / (2 * jnp.pi))
        found = own + 2 * jnp.pi * turns * axis
        near = jnp.sum((found - above) ** 2, axis=1, keepdims=True) < _LARGEST_STEP**2
        unwrapped = unwrapped.at[vertices].set(found, mode="drop")
        return (unwrapped, trusted.at[vertices].set(jnp.where(near, found, above), mode="drop")), None

    # The turns are whole numbers: found without derivatives, they are then a factor of the logarithm.
    (unwrapped, _), _ = jax.lax.scan(descend, (logarithm, logarithm), reference.tree)
    whole = jax.lax.stop_gradient(unwrapped - logarithm)
    along = jnp.sum(whole * jax.lax.stop_gradient(own_axis), axis=1, keepdims=True)
    return logarithm + jnp.where(determined, along * own_axis, whole)
