"""The whole skin from what a photo shows and a shipped skin of nearest tone.

Letters: s edge of the texture, c edge of the coarse texture.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.io._programs import FEWER_FUSIONS, UNOPTIMIZED, stored_program
from digitaltwin.render._colour import linear_from_srgb, srgb_from_linear
from digitaltwin.texture._layout import COARSE, TextureLayout
from digitaltwin.texture._projection import Projection, skin_likeness
from digitaltwin.texture._pyramid import blur, double, fill, halve_to

_DECAY_MM = 35.0  # how fast the local colour correction dies away outside the face oval
# Colours in linear light for a skin of mean 0.35, shadow included that no renderer of ours casts.
_MOUTH = (0.15, 0.055, 0.05)
_SOCKET = (0.60, 0.42, 0.38)  # conjunctiva: the white of the eye, seen pink
_MEAN_SKIN = 0.35
_LEAST = 1e-6  # mean weight of a coarse texel of which something is seen
_PADDING_LEVELS = 6  # islands are continued by about 64 texels, enough for four mip levels


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
    seen, coarse_skin = _at_coarse_size(projection, skin)
    gain, exposure = _match(seen, coarse_skin, layout.coarse_oval_mm)
    return _blend(projection, layout, skin, gain, exposure)


@partial(stored_program, options=FEWER_FUSIONS)
def coarse_projection(projection: Projection) -> Projection:
    """Reduce what a photo shows to the coarse texture: mean weights, and colours averaged with them."""
    weight = projection.weight[..., None]
    total, colour = (halve_to(picture, COARSE) for picture in (weight, weight * projection.linear_colour))
    return Projection(colour / jnp.maximum(total, _LEAST), total[..., 0])


@partial(stored_program, options=FEWER_FUSIONS)
def _at_coarse_size(
    projection: Projection, skin: Float[Array, "s s 3"] | Float[np.ndarray, "s s 3"]
) -> tuple[Projection, Float[Array, "c c 3"]]:
    """Photo and skin at the coarse size; the skin over the texels that the photo shows, or all where it shows none."""
    seen, base = coarse_projection(projection), linear_from_srgb(jnp.asarray(skin))
    there, everywhere = (halve_to(picture, COARSE) for picture in (projection.weight[..., None] * base, base))
    total = seen.weight[..., None]
    return seen, jnp.where(total > _LEAST, there / jnp.maximum(total, _LEAST), everywhere)


@partial(stored_program, options=UNOPTIMIZED)
def _match(
    seen: Projection, skin: Float[Array, "c c 3"], oval_mm: Float[Array, "c c"]
) -> tuple[Float[Array, "c c 3"], Float[Array, ""]]:
    """The factor that matches the skin to the photo, and the photo's exposure, all at the coarse size."""
    photo, weight = seen.linear_colour, seen.weight[..., None]
    ratio = jnp.log(jnp.maximum(photo, 1e-3)) - jnp.log(jnp.maximum(skin, 1e-3))
    likeness = skin_likeness(photo, seen.weight)[..., None]
    # Squared and cut off: one coarse texel of hair would darken all that lies beyond it.
    trust = weight * jnp.maximum(2 * likeness - 1, 0) ** 2
    gain = jnp.sum(ratio * trust, axis=(0, 1)) / jnp.maximum(jnp.sum(trust, axis=(0, 1)), 1e-6)
    field = jnp.clip(ratio - gain[None, None], -0.7, 0.7)
    field = blur(fill(field, jnp.minimum(2 * trust, 1), jnp.zeros(3), levels=6), 2)
    fade = jnp.exp(jnp.minimum(oval_mm, 0) / _DECAY_MM)
    exposure = jnp.clip(jnp.mean(_mean_colour(photo, weight * likeness)) / _MEAN_SKIN, 0.5, 1.3)
    # Multiplied out while it is coarse: a hundredth of the exponentials.
    return jnp.exp(gain[None, None] + fade[..., None] * field), exposure


@stored_program
def _blend(
    projection: Projection,
    layout: TextureLayout,
    skin: Float[Array, "s s 3"] | Float[np.ndarray, "s s 3"],
    gain: Float[Array, "c c 3"],
    exposure: Float[Array, ""],
) -> Float[Array, "s s 3"]:
    """The photo's colours over the matched skin, and the islands continued past their borders."""
    weight = projection.weight[..., None]
    for _ in range((skin.shape[0] // COARSE).bit_length() - 1):
        gain = double(gain)
    matched = linear_from_srgb(jnp.asarray(skin)) * gain
    for mask, colour in ((layout.mouth, _MOUTH), (layout.sockets, _SOCKET)):
        matched = jnp.where(mask[..., None], exposure * jnp.array(colour)[None, None], matched)
    blended = weight * projection.linear_colour + (1 - weight) * matched
    covered = layout.covered[..., None].astype(jnp.float32)
    mean = jnp.sum(blended * covered, axis=(0, 1)) / jnp.sum(covered)
    return srgb_from_linear(fill(blended, covered, mean, levels=_PADDING_LEVELS))


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
    seen = coarse_projection(projection)
    return face_colours(seen.linear_colour[None], seen.weight)[0]


@partial(stored_program, options=FEWER_FUSIONS)
def face_colours(pictures: Float[Array, "m c c 3"], weight: Float[Array, "c c"]) -> Float[Array, "m 3"]:
    """Average the skin of faces that all were seen at the same texels, each as :func:`face_colour` does."""

    def average(picture: Float[Array, "c c 3"]) -> Float[Array, " 3"]:
        return _mean_colour(picture, (weight * skin_likeness(picture, weight))[..., None])

    return jax.vmap(average)(pictures)


def _mean_colour(photo: Float[Array, "c c 3"], trust: Float[Array, "c c 1"]) -> Float[Array, " 3"]:
    return jnp.sum(photo * trust, axis=(0, 1)) / jnp.maximum(jnp.sum(trust), 1e-6)
