"""A head as the primitives of a glTF file."""

import numpy as np
from jaxtyping import Array, Float

from digitaltwin.export._gltf import Material, Primitive
from digitaltwin.head import HeadModel
from digitaltwin.render import head_meshes
from digitaltwin.render._colour import linear_from_srgb_on_host


def head_primitives(
    head: HeadModel,
    vertices: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    parts_vertices: Float[Array, "p 3"] | Float[np.ndarray, "p 3"],
    *,
    texture: Float[np.ndarray, "rows columns 3"],
    eye_texture: Float[np.ndarray, "eye_rows eye_columns 3"],
) -> list[Primitive]:
    """Make the primitives of a neutral head with all its expressions, ready for :func:`digitaltwin.export.write_glb`.

    Args:
        head: The model.
        vertices: Neutral skin [v 3], head frame [mm].
        parts_vertices: The parts [p 3], likewise.
        texture: Texture of skin and interior, sRGB.
        eye_texture: Texture of both eyes, sRGB.

    Returns:
        Skin, eyes, teeth and tongue.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head, grey = load_head(), np.full((8, 8, 3), 0.5, np.float32)
        >>> primitives = head_primitives(head, head.mean, head.parts_mean, texture=grey, eye_texture=grey)
        >>> [primitive.material.name for primitive in primitives]
        ['skin', 'eyes', 'teeth', 'tongue']
    """
    pictures = {"texture": texture, "eye_texture": eye_texture}
    meshes = head_meshes(head, np.asarray(vertices), np.asarray(parts_vertices), **pictures)
    displacements = np.concatenate([head.expressions, head.parts_expressions], axis=1)
    teeth, tongue = (_linear(np.asarray(mesh.texture)) for mesh in meshes[2:])
    materials = (
        Material("skin", texture),
        Material("eyes", eye_texture, roughness=0.15),
        Material("teeth", linear_colour=teeth, roughness=0.3),
        Material("tongue", linear_colour=tongue, roughness=0.5),
    )
    return [Primitive(mesh, displacements, material) for mesh, material in zip(meshes, materials)]


def _linear(texel: Float[np.ndarray, "1 1 3"]) -> tuple[float, float, float]:
    red, green, blue = linear_from_srgb_on_host(texel)[0, 0].tolist()
    return red, green, blue
