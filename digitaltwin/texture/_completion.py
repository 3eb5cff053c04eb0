"""The whole skin from what a photo shows and a shipped skin of nearest tone.

Letters: s edge of the texture, c edge of the coarse texture.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.io._programs import stored_program
from digitaltwin.render._colour import linear_from_srgb, srgb_from_linear
from digitaltwin.texture._layout import COARSE, TextureLayout
from digitaltwin.texture._projection import Projection, skin_likeness
from digitaltwin.texture._pyramid import blur, double, fill, halve_to

_DECAY_MM = 35.0  # how fast the local colour correction dies away outside the face oval
# Colours in linear light for a skin of mean 0.35, shadow included that no renderer of ours casts.
_MOUTH = (0.15, 0.055, 0.05)
_SOCKET = (0.60, 0.42, 0.38)  # conjunctiva: the white of the eye, seen pink
_MEAN_SKIN = 0.35
_PADDING_LEVELS = 6  # islands are continued by about 64 texels, enough for four mip levels


@stored_program
def complete_texture(
    projection: Projection, layout: TextureLayout, skin: Float[Array, "s s 3"] | Float[np.ndarray, "s s 3"]
) -> Float[Array, "s s 3"]:
    """Blend a photo's colours over a skin that has been matched to them, and continue the islands past their borders.

    The skin is multiplied, in linear light, by ``exp(g + d field)``: g the mean log ratio of photo and skin over the
    well-seen skin of the face, channel by channel (exposure, white balance, complexion); field the rest of the
    ratio, carried on smoothly from where the photo ends, so that both agree where they meet; d fades it with the
    distance from the face, so that both sides of a cut at the back of the head end alike. The blend is linear
    too: a mean of light is what a blurred photo would show, a mean of codes is darker.

    Args:
        projection: What the photo shows, see :func:`digitaltwin.texture.project_texture`.
        layout: Layout of the same head.
        skin: Shipped skin in sRGB, such as ``nearest_skin(projection).pixels``.

    Returns:
        The texture, sRGB, defined everywhere.

    Example:
        >>> from digitaltwin.head import load_head
        >>> from digitaltwin.texture import make_layout
        >>> layout = make_layout(load_head(), size=512)
        >>> nothing_seen = Projection(jnp.zeros((512, 512, 3)), jnp.zeros((512, 512)))
        >>> complete_texture(nothing_seen, layout, jnp.full((512, 512, 3), 0.6)).shape
        (512, 512, 3)
    """
    base = linear_from_srgb(jnp.asarray(skin))
    weight = projection.weight[..., None]
    coarse_weight, coarse_photo, coarse_base = _coarse(projection, base)
    ratio = jnp.log(jnp.maximum(coarse_photo, 1e-3)) - jnp.log(jnp.maximum(coarse_base, 1e-3))
    likeness = skin_likeness(coarse_photo, coarse_weight[..., 0])[..., None]
    # Squared and cut off: one coarse texel of hair would darken all that lies beyond it.
    trust = coarse_weight * jnp.maximum(2 * likeness - 1, 0) ** 2
    gain = jnp.sum(ratio * trust, axis=(0, 1)) / jnp.maximum(jnp.sum(trust, axis=(0, 1)), 1e-6)
    field = jnp.clip(ratio - gain[None, None], -0.7, 0.7)
    field = blur(fill(field, jnp.minimum(2 * trust, 1), jnp.zeros(3), levels=6), 2)
    fade = jnp.exp(jnp.minimum(layout.coarse_oval_mm, 0) / _DECAY_MM)
    # Multiplied out while it is coarse: a hundredth of the exponentials.
    factor = jnp.exp(gain[None, None] + fade[..., None] * field)
    for _ in range((skin.shape[0] // COARSE).bit_length() - 1):
        factor = double(factor)
    matched = base * factor
    exposure = jnp.clip(jnp.mean(_mean_colour(coarse_photo, coarse_weight * likeness)) / _MEAN_SKIN, 0.5, 1.3)
    for mask, colour in ((layout.mouth, _MOUTH), (layout.sockets, _SOCKET)):
        matched = jnp.where(mask[..., None], exposure * jnp.array(colour)[None, None], matched)
    blended = weight * projection.linear_colour + (1 - weight) * matched
    covered = layout.covered[..., None].astype(jnp.float32)
    mean = jnp.sum(blended * covered, axis=(0, 1)) / jnp.sum(covered)
    return srgb_from_linear(fill(blended, covered, mean, levels=_PADDING_LEVELS))


@jax.jit
def face_colour(projection: Projection) -> Float[Array, " 3"]:
    """Average the well-seen skin of a face: brows, eyes, lips and beard are left out.

    Args:
        projection: What a photo shows, see :func:`digitaltwin.texture.project_texture`.

    Returns:
        Mean colour in linear light.

    Example:
        >>> colour = face_colour(Projection(jnp.full((128, 128, 3), 0.4), jnp.ones((128, 128))))
        >>> [round(float(value), 3) for value in colour]
        [0.4, 0.4, 0.4]
    """
    weight = halve_to(projection.weight[..., None], COARSE)
    photo = halve_to(projection.weight[..., None] * projection.linear_colour, COARSE) / jnp.maximum(weight, 1e-6)
    return _mean_colour(photo, weight * skin_likeness(photo, weight[..., 0])[..., None])


def _mean_colour(photo: Float[Array, "c c 3"], trust: Float[Array, "c c 1"]) -> Float[Array, " 3"]:
    return jnp.sum(photo * trust, axis=(0, 1)) / jnp.maximum(jnp.sum(trust), 1e-6)


def _coarse(
    projection: Projection, base: Float[Array, "s s 3"]
) -> tuple[Float[Array, "c c 1"], Float[Array, "c c 3"], Float[Array, "c c 3"]]:
    """Weight, and the colours of photo and skin averaged with that weight, over the coarse texture's texels."""
    weight = projection.weight[..., None]
    weight, photo, base_seen, base_all = (
        halve_to(picture, COARSE) for picture in (weight, weight * projection.linear_colour, weight * base, base)
    )
    known = jnp.maximum(weight, 1e-6)
    return weight, photo / known, jnp.where(weight > 1e-6, base_seen / known, base_all)
