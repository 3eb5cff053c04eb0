"""Appearance of subjects: skin in their own tone, brows and hair painted on it, irises.

The networks were trained on photos and know no bald people, and landmarks on brows need brows. Hair and brows are drawn
anew for each picture; skin, tone and irises are the subject's.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial import KDTree

from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head._population import Subjects
from digitaltwin.io.assets import asset_path
from digitaltwin.render._zbuffer import interpolate_fragments
from digitaltwin.texture import apply_tone, eye_texture
from digitaltwin.texture._layout import rasterize_uv
from digitaltwin.texture._skins import load_skin

_TEXTURE_SIZE = 1024
_DARK_HAIR, _FAIR_HAIR = np.array([0.07, 0.055, 0.05]), np.array([0.42, 0.36, 0.28])  # sRGB
_BALD_SHARE = 0.15  # of the men


class SubjectAppearance:
    """Textures of subjects: skin in their tone, painted brows and hair, irises.

    What does not depend on the subject, the texture's map of the head, is computed once when the object is made.

    Args:
        head: The model whose topology the subjects have.
        subjects: All of them, as :func:`digitaltwin.head.load_subjects` gives them.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> appearance = SubjectAppearance(load_head(), load_subjects())
        >>> skin, eyes = appearance.textures(0, np.random.default_rng(0))
        >>> skin.shape
        (1024, 1024, 3)
    """

    def __init__(self, head: HeadModel, subjects: Subjects):
        self._subjects = subjects
        fragments = rasterize_uv(head.uv, head.uv_faces, _TEXTURE_SIZE)
        scalp = jnp.asarray(head.regions.scalp, jnp.float32)[:, None]
        self._position = np.asarray(interpolate_fragments(fragments, head.mean, head.faces))
        self._scalp = np.asarray(interpolate_fragments(fragments, scalp, head.faces))[..., 0]
        self._covered = np.asarray(fragments.face) >= 0
        points = np.asarray(landmark_points(head, head.mean))
        self._brows = [points[17:22], points[26:21:-1]]  # either from its outer end

    def textures(
        self, subject: int, rng: np.random.Generator
    ) -> tuple[Float[Array, "size size 3"], Float[Array, "eye eye 3"]]:
        """Draw the textures of one picture of a subject.

        Args:
            subject: Index of the subject.
            rng: Generator of hair and brows.

        Returns:
            The skin's texture and the eyes', sRGB in [0, 1].
        """
        subjects = self._subjects
        skin = load_skin(
            asset_path(f"skins/{subjects.skin_names[int(subjects.skin[subject])]}.jpg"), size=_TEXTURE_SIZE
        )
        pixels = np.array(apply_tone(jnp.asarray(skin.pixels), subjects.tone[subject]))
        group = subjects.group_names[int(subjects.group[subject])]
        fairness = rng.random() * (1.0 if group.endswith("caucasian") else 0.15)
        hair = _DARK_HAIR + (_FAIR_HAIR - _DARK_HAIR) * fairness
        grain = rng.uniform(0.75, 1.0, self._scalp.shape)
        bald = group.startswith("male") and rng.random() < _BALD_SHARE
        mask = 0.0 if bald else np.clip((self._scalp - 0.3) / 0.4, 0, 1)
        mask = np.maximum(mask, self._brow_mask(rng))[..., None] * grain[..., None]
        pixels += mask * (hair - pixels)
        return jnp.asarray(pixels, jnp.float32), eye_texture(jax.random.key(subject), iris=subjects.iris[subject])

    def _brow_mask(self, rng: np.random.Generator) -> Float[np.ndarray, "size size"]:
        """Hair along the brow landmarks, thinner towards the outer end, a little higher or lower than they say."""
        lift, thickness, density = rng.uniform(-1.5, 1.5), rng.uniform(2.5, 4.0), rng.uniform(0.5, 0.95)
        mask = np.zeros(self._scalp.shape)
        for line in self._brows:
            along = np.linspace(0, 1, 60)
            dense = np.stack([np.interp(along, np.linspace(0, 1, len(line)), line[:, x]) for x in range(3)], axis=1)
            tree = KDTree(dense + [0, lift, 0])
            distance, nearest = tree.query(self._position[self._covered], distance_upper_bound=2 * thickness)
            width = thickness * np.interp(np.append(along, 1)[nearest], [0, 0.5, 1], [0.4, 0.9, 1.0])
            mask[self._covered] = np.maximum(mask[self._covered], np.clip(2 - 2 * distance / width, 0, 1))
        return density * mask
