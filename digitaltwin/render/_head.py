"""A head and its parts, sorted by what they are made of.

Letters: v skin vertices, p parts vertices, t s their texture coordinates, f faces of a piece.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.head import HeadModel
from digitaltwin.head.markup import INTERIOR_PARTS
from digitaltwin.render._shading import SKIN_GLOSS
from digitaltwin.types import Mesh

TEETH_SRGB = (0.96, 0.93, 0.87)
TONGUE_SRGB = (0.62, 0.33, 0.32)
HEAD_GLOSS = (SKIN_GLOSS, 0.5, 0.15, 0.1)
"""Strength of the highlights of skin, eyes, teeth and tongue, the meshes of :func:`head_meshes`."""


class HeadPieces(NamedTuple):
    """Faces and texture coordinates by material; indices count the skin's rows first, then the parts'."""

    uv: Float[np.ndarray, "t+s 2"]
    """Texture coordinates of skin and parts."""
    skin: tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f 3"]]
    """Faces and their texture coordinates of the skin, eye sockets and inside of the mouth, which share a texture."""
    eyes: tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f 3"]]
    """Likewise, of both eyeballs."""
    teeth: tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f 3"]]
    """Likewise, of both rows of teeth."""
    tongue: tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f 3"]]
    """Likewise, of the tongue."""


def head_pieces(head: HeadModel) -> HeadPieces:
    """Sort a head's faces by material, on the host.

    Args:
        head: The model.

    Returns:
        Faces [f 3] of each material, and the texture coordinates of their corners.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> pieces = head_pieces(head)
        >>> sum(len(faces) for faces, _ in pieces[1:]) == len(head.faces) + len(head.parts_faces)
        True
    """
    number = np.asarray(head.parts_face_part)
    faces, uv_faces = np.asarray(head.parts_faces), np.asarray(head.parts_uv_faces)

    def piece(*names: str) -> tuple[np.ndarray, np.ndarray]:
        mine = np.isin(number, [head.part_names.index(name) for name in names])
        return faces[mine] + len(head.mean), uv_faces[mine] + len(head.uv)

    interior, interior_uv = piece(*INTERIOR_PARTS)
    skin, skin_uv = np.asarray(head.faces), np.asarray(head.uv_faces)
    return HeadPieces(
        uv=np.concatenate([head.uv, head.parts_uv]),
        skin=(np.concatenate([skin, interior]), np.concatenate([skin_uv, interior_uv])),
        eyes=piece("left_eye", "right_eye"),
        teeth=piece("upper_teeth", "lower_teeth"),
        tongue=piece("tongue"),
    )


def head_meshes(
    head: HeadModel,
    vertices: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    parts_vertices: Float[Array, "p 3"] | Float[np.ndarray, "p 3"],
    *,
    texture: Float[Array, "rows columns 3"] | Float[np.ndarray, "rows columns 3"],
    eye_texture: Float[Array, "eye_rows eye_columns 3"] | Float[np.ndarray, "eye_rows eye_columns 3"],
) -> tuple[Mesh, Mesh, Mesh, Mesh]:
    """Make the meshes of a head, one for each material, for :func:`digitaltwin.render.render_mesh`.

    Args:
        head: The model.
        vertices: Skin [v 3], in the frame the meshes shall have [mm].
        parts_vertices: Parts [p 3], likewise.
        texture: Texture of skin and interior, sRGB.
        eye_texture: Texture of both eyes, sRGB.

    Returns:
        Skin, eyes, teeth and tongue, which share their vertices; :data:`HEAD_GLOSS` are their highlights.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head, grey = load_head(), np.full((1, 1, 3), 0.5, np.float32)
        >>> meshes = head_meshes(head, head.mean, head.parts_mean, texture=grey, eye_texture=grey)
        >>> [len(mesh.faces) for mesh in meshes]
        [6146, 280, 192, 256]
    """
    pieces = head_pieces(head)
    # On the host, unless a program is being traced or a gradient taken.
    on_host = isinstance(vertices, np.ndarray) and isinstance(parts_vertices, np.ndarray)
    points = (np if on_host else jnp).concatenate([vertices, parts_vertices])
    teeth, tongue = (np.array(colour, np.float32)[None, None] for colour in (TEETH_SRGB, TONGUE_SRGB))
    skin, eyes, teeth, tongue = (
        Mesh(points, faces, pieces.uv, uv_faces, picture)
        for (faces, uv_faces), picture in zip(pieces[1:], (texture, eye_texture, teeth, tongue))
    )
    return skin, eyes, teeth, tongue
