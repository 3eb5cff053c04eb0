"""A head and its parts, sorted by what they are made of.

Letters: v skin vertices, p parts vertices, t s their texture coordinates, f faces of a piece.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.head import HeadModel
from digitaltwin.head.markup import INTERIOR_PARTS
from digitaltwin.render._shading import Surface

TEETH_SRGB = (0.96, 0.93, 0.87)
TONGUE_SRGB = (0.62, 0.33, 0.32)


class HeadPieces(NamedTuple):
    """Faces and texture coordinates by material; indices count the skin's rows first, then the parts'."""

    uv: Float[Array, "t+s 2"]
    skin: tuple[Int[Array, "f 3"], Int[Array, "f 3"]]
    """The skin, with the eye sockets and the inside of the mouth, which share its texture: faces, uv faces."""
    eyes: tuple[Int[Array, "f 3"], Int[Array, "f 3"]]
    teeth: tuple[Int[Array, "f 3"], Int[Array, "f 3"]]
    tongue: tuple[Int[Array, "f 3"], Int[Array, "f 3"]]


def head_pieces(head: HeadModel) -> HeadPieces:
    """Sort a head's faces by material.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> pieces = head_pieces(head)
        >>> sum(len(faces) for faces, _ in pieces[1:]) == len(head.faces) + len(head.parts_faces)
        True
    """
    number = np.asarray(head.parts_face_part)

    def piece(*names: str) -> tuple[Array, Array]:
        mine = np.isin(number, [head.part_names.index(name) for name in names])
        return head.parts_faces[mine] + len(head.mean), head.parts_uv_faces[mine] + len(head.uv)

    interior, interior_uv = piece(*INTERIOR_PARTS)
    return HeadPieces(
        uv=jnp.concatenate([head.uv, head.parts_uv]),
        skin=(jnp.concatenate([head.faces, interior]), jnp.concatenate([head.uv_faces, interior_uv])),
        eyes=piece("left_eye", "right_eye"),
        teeth=piece("upper_teeth", "lower_teeth"),
        tongue=piece("tongue"),
    )


def head_surfaces(
    head: HeadModel,
    vertices: Float[Array, "v 3"],
    parts_vertices: Float[Array, "p 3"],
    *,
    texture: Float[Array, "rows columns 3"],
    eye_texture: Float[Array, "eye_rows eye_columns 3"],
) -> tuple[Surface, ...]:
    """A head ready for :func:`digitaltwin.render.render_mesh`.

    Args:
        head: the model.
        vertices: skin, in the frame the surfaces shall have [mm].
        parts_vertices: the parts, likewise.
        texture: of skin and interior, sRGB.
        eye_texture: of both eyes, sRGB.
    """
    pieces = head_pieces(head)
    points = jnp.concatenate([vertices, parts_vertices])
    teeth, tongue = (jnp.array(colour)[None, None] for colour in (TEETH_SRGB, TONGUE_SRGB))
    looks = ((pieces.skin, texture, 0.04), (pieces.eyes, eye_texture, 0.5))
    looks += ((pieces.teeth, teeth, 0.15), (pieces.tongue, tongue, 0.1))
    return tuple(
        Surface(points, faces, pieces.uv, uv_faces, colour, jnp.float32(gloss))
        for (faces, uv_faces), colour, gloss in looks
    )
