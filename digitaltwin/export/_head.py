"""A head as the primitives of a glTF file."""

import numpy as np
from jaxtyping import Array, Float

from digitaltwin.export._gltf import Material, Primitive
from digitaltwin.head import HeadModel
from digitaltwin.render import head_pieces, linear_from_srgb
from digitaltwin.render._head import TEETH_SRGB, TONGUE_SRGB


def head_primitives(
    head: HeadModel,
    vertices: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    parts_vertices: Float[Array, "p 3"] | Float[np.ndarray, "p 3"],
    *,
    texture: Float[np.ndarray, "rows columns 3"],
    eye_texture: Float[np.ndarray, "eye_rows eye_columns 3"],
) -> list[Primitive]:
    """A neutral head with all its expressions, ready for :func:`digitaltwin.export.write_glb`.

    Args:
        head: the model.
        vertices: neutral skin, head frame [mm].
        parts_vertices: the parts, likewise.
        texture: of skin and interior, sRGB.
        eye_texture: of both eyes, sRGB.
    """
    pieces = head_pieces(head)
    points = np.concatenate([vertices, parts_vertices])
    displacements = np.concatenate([head.expressions, head.parts_expressions], axis=1)
    teeth, tongue = (
        tuple(np.asarray(linear_from_srgb(np.array(c, np.float32))).tolist()) for c in (TEETH_SRGB, TONGUE_SRGB)
    )
    made_of = (
        (pieces.skin, Material("skin", texture)),
        (pieces.eyes, Material("eyes", eye_texture, roughness=0.15)),
        (pieces.teeth, Material("teeth", linear_colour=teeth, roughness=0.3)),
        (pieces.tongue, Material("tongue", linear_colour=tongue, roughness=0.5)),
    )
    uv = np.asarray(pieces.uv)
    return [
        Primitive(points, np.asarray(faces), uv, np.asarray(uv_faces), displacements, material)
        for (faces, uv_faces), material in made_of
    ]
