"""The conventions of the whole package, written once, and the few types every room shares.

Shape letters, used in every signature (``Float[Array, "v 3"]``) and docstring:

====== ==============================================================
letter counts
====== ==============================================================
v      vertices (of the skin, unless the name says otherwise)
f      faces (triangles)
e      expressions (blendshapes)
i      identity coefficients
k      landmarks
t      texture coordinates (a vertex on a UV seam has several)
p      vertices of the parts that follow the skin (interior, eyes, teeth, tongue)
b      batch
h w    image rows and columns
n      iterations
====== ==============================================================

Units: lengths in millimetres, angles in radians, images float32 RGB in [0, 1] in the sRGB encoding (linear light
only where a name says ``linear_``), positions in an image in pixels.

Frames:

* *head*: right-handed, origin between the eyeballs' centres, +x to the subject's left, +y up, +z out of the face.
* *camera*: right-handed, +x right, +y down, +z forward (OpenCV). ``camera_from_head = diag(1, -1, -1) R(q)``, so a
  frontal face is ``q = 0``.
* *image*: continuous pixels, x first. Pixel (row i, column j) covers ``[j, j + 1) x [i, i + 1)``; its centre is
  ``(j + 0.5, i + 0.5)``.
* *texture*: u to the right, v upward, both in [0, 1].

Left and right are always the subject's.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # flags and refusals need this module before anything that is slow to import
    from jaxtyping import Float, Int


class InputError(ValueError):
    """The input (a photo, a file, an argument) cannot be used; the message says which, why and what to do.

    Command-line programs turn it into exit code 2. Every other exception is a defect of ours.
    """


def check_ranges(config: object, *rules: tuple[str, bool, str]) -> None:
    """Refuse a configuration with a number out of its range.

    Args:
        config: The dataclass.
        rules: Name of a field, whether its value is in range, and what it must do or be, such as "be positive".

    Raises:
        InputError: Names configuration, field, value and range of the first that is not.
    """
    for name, right, range_ in rules:
        if not right:
            raise InputError(f"{type(config).__name__}: {name} is {getattr(config, name)}; it must {range_}.")


class Mesh(NamedTuple):
    """A triangle mesh, with a texture or colours if it has any; a pytree of NumPy or JAX arrays.

    A scan is one, in a frame and unit of its own; so is what the renderer is given.
    """

    vertices: "Float[Any, 'v 3']"
    """Positions, in millimetres unless a scanner chose otherwise."""
    faces: "Int[Any, 'f 3']"
    """Vertex indices, counter-clockwise seen from outside."""
    uv: "Float[Any, 't 2'] | None" = None
    """Texture coordinates, v upward; None without a texture."""
    uv_faces: "Int[Any, 'f 3'] | None" = None
    """Texture coordinates of the faces' corners; None where each vertex has its own, so that ``faces`` serve."""
    texture: "Float[Any, 'h w 3'] | None" = None
    """sRGB in [0, 1]; a texture of one texel is one colour."""
    colours: "Float[Any, 'v 3'] | None" = None
    """sRGB of the vertices in [0, 1], of a scan that has no texture but these."""
