"""A scan's texture in the head's atlas.

Every texel of the skin takes the colour of the scan's point closest to it. Once a skin has been registered to the scan
the two lie within a millimetre of one another and the closest point is the one along the normal. Where they part (hair,
holes, what the scanner did not see) the texel is left to what completes the texture.

Letters: s edge of the texture, n texels.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from digitaltwin.geometry import SurfaceTree
from digitaltwin.head import HeadModel
from digitaltwin.registration._register import Registration
from digitaltwin.registration._scan_landmarks import colours_at, is_coloured
from digitaltwin.render._colour import linear_from_srgb
from digitaltwin.texture._layout import TextureLayout
from digitaltwin.texture._projection import Projection, feather, skin_mask, texture_image
from digitaltwin.types import InputError, Mesh

_TRUSTED_MM, _LOST_MM = 2.5, 5.0  # gap up to which a colour is taken, and from which on it is not
_PARALLEL, _ACROSS = 0.6, 0.3  # cosine between the normals, likewise
_AT_ONCE = 250_000  # texels, which bounds the memory


def transfer_texture(
    head: HeadModel, layout: TextureLayout, registration: Registration, scan: Mesh, *, hair: bool = False
) -> Projection:
    """Transfer the colours of a scan to the head's texture atlas.

    Args:
        head: The head model.
        layout: Its texels, and how far from the face they may be coloured: for all of what a scan shows
            ``make_layout(head, reach_mm=inf)``.
        registration: The scan's registration, by :func:`digitaltwin.registration.register_scan`.
        scan: The scan, with a texture or colours.
        hair: Whether to keep what is not of the colour of skin outside the face: hair, collars.

    Returns:
        Colours in linear light and their weights, as :func:`digitaltwin.texture.complete_texture` completes them.

    Raises:
        InputError: The scan has no colours.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import landmark_points, load_head
        >>> from digitaltwin.registration import IdentityConfig, NonRigidConfig, RegistrationConfig, Round
        >>> from digitaltwin.registration import register_scan
        >>> from digitaltwin.texture import make_layout
        >>> from digitaltwin.types import Mesh
        >>> head = load_head()  # a grey scan of the mean head
        >>> mean, landmarks = np.asarray(head.mean), np.asarray(landmark_points(head, head.mean))
        >>> scan = Mesh(mean, np.asarray(head.faces), colours=np.full_like(mean, 0.5))
        >>> quick = NonRigidConfig(rounds=(Round(stiffness_mm=9.0, reach_mm=9.0, iterations=1),))
        >>> config = RegistrationConfig(identity=IdentityConfig(iterations=2), nonrigid=quick)
        >>> registration = register_scan(head, scan.vertices, scan.faces, landmarks, config=config)
        >>> transfer_texture(head, make_layout(head, size=512), registration, scan, hair=True).weight.shape
        (512, 512)
    """
    if not is_coloured(scan):
        raise InputError("scan: has no texture and no colours; register its shape alone.")
    size = layout.covered.shape[0]
    texel, barycentric = np.asarray(layout.texel), np.asarray(layout.barycentric, np.float64)
    corners = np.asarray(head.faces)[np.asarray(layout.face)]
    skin = SurfaceTree(registration.vertices, np.asarray(head.faces), name="skin")
    colour, trust = np.zeros((len(texel), 3), np.float32), np.zeros(len(texel), np.float32)
    for start in range(0, len(texel), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        colour[part], trust[part] = _look_up(scan, registration.scan, skin, corners[part], barycentric[part])
    linear = linear_from_srgb(jnp.asarray(colour))
    seen = texture_image(jnp.asarray(trust[:, None] > 0.0, jnp.float32), layout.texel, size=size)
    weight = jnp.asarray(trust) * feather(seen, layout.covered).reshape(-1)[texel]
    if not hair:
        weight *= skin_mask(linear, weight, layout, size=size)
    return Projection(
        texture_image(jnp.where(weight[:, None] > 0.0, linear, 0.0), layout.texel, size=size),
        texture_image(weight[:, None], layout.texel, size=size)[..., 0],
    )


def _look_up(
    scan: Mesh, surface: SurfaceTree, skin: SurfaceTree, corners: np.ndarray, barycentric: np.ndarray
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Colours at some texels, sRGB, and their weights."""
    points = np.einsum("nc,ncd->nd", barycentric, skin.vertices[corners])
    normals = np.einsum("nc,ncd->nd", barycentric, skin.vertex_normals[corners])
    positions, closest = surface.closest(points)
    gap = np.linalg.norm(positions - points, axis=1)
    facing = np.sum(normals * surface.normals[closest.faces], axis=1) / np.linalg.norm(normals, axis=1)
    trust = np.clip((_LOST_MM - gap) / (_LOST_MM - _TRUSTED_MM), 0.0, 1.0)
    trust *= np.clip((facing - _ACROSS) / (_PARALLEL - _ACROSS), 0.0, 1.0) * ~surface.on_rim(closest)
    colours = colours_at(scan, surface.on_given_faces(closest))
    assert colours is not None
    return colours, trust
