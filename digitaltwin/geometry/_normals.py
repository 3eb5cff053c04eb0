"""Normals of faces and vertices.

Letters: v vertices, f faces.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def face_normals(vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "f 3"]:
    """Normal of each face, its length twice the face's area: ``(b - a) x (c - a)``.

    Args:
        vertices: Positions [v 3] in any unit.
        faces: Vertex indices [f 3], counter-clockwise seen from outside.

    Returns:
        Outward vectors [mm^2]; zero for a degenerate face.
    """
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return jnp.cross(b - a, c - a)


def summed_normals(vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "v 3"]:
    """Sum of the normals of the faces around each vertex, each as long as twice its face's area.

    Args:
        vertices: Positions [v 3] in any unit.
        faces: Vertex indices [f 3], counter-clockwise seen from outside.

    Returns:
        Outward vectors [mm^2]; zero where a vertex has no face or its faces cancel.
    """
    return jnp.zeros_like(vertices).at[faces].add(face_normals(vertices, faces)[:, None, :])


@jax.jit
def vertex_normals(vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "v 3"]:
    """Compute the unit normal of each vertex: the normalised sum of its faces' normals, weighted by their areas.

    A mirrored frame (the camera's, seen from the head's) keeps its handedness here, because both are right-handed.

    Args:
        vertices: Positions [v 3] in any unit.
        faces: Vertex indices [f 3], counter-clockwise seen from outside.

    Returns:
        Unit vectors [v 3]; zero where a vertex has no face or its faces cancel. Gradients stay finite there.

    Example:
        >>> import jax.numpy as jnp
        >>> corners = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> vertex_normals(corners, jnp.array([[0, 1, 2]]))[0].tolist()
        [0.0, 0.0, 1.0]
    """
    return normalize(summed_normals(vertices, faces))


def normalize(vectors: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Vectors scaled to unit length; zero vectors stay zero, with zero gradient."""
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    # The inner where keeps the square root's infinite slope at zero out of the gradient.
    safe = jnp.where(squared > 0, squared, 1)
    return jnp.where(squared > 0, vectors / jnp.sqrt(safe), 0)
