"""What the report says of fits that cannot be trusted, on renders of the shipped head turned away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin import create_avatar
from digitaltwin.avatar._report import MAX_TURN_DEGREES
from digitaltwin.geometry._rotations import matrix_from_rotation_vector
from digitaltwin.head import parts_vertices
from digitaltwin.render import head_meshes, portrait_lighting, render_mesh
from digitaltwin.render._head import HEAD_GLOSS
from digitaltwin.texture import eye_texture
from digitaltwin.texture._skins import load_skin, skin_paths
from digitaltwin.types import InputError

SIZE = 480


def photo(head, degrees):
    """The mean head, turned about the vertical."""
    skin = load_skin(skin_paths()[-1], size=512).pixels
    rotation = matrix_from_rotation_vector(jnp.array([0.0, np.radians(degrees), 0.0]))
    parts = parts_vertices(head, head.mean, jnp.zeros(len(head.expressions)))

    def camera(points):
        turned = (np.asarray(points) + [0, 30, 0]) @ np.asarray(rotation).T
        return jnp.asarray(turned * [1, -1, -1] + [0, 0, 700], jnp.float32)

    surfaces = head_meshes(
        head, camera(head.mean), camera(parts), texture=jnp.asarray(skin), eye_texture=eye_texture(jax.random.key(0))
    )
    picture = render_mesh(
        surfaces,
        1100.0,
        jnp.full(2, SIZE / 2),
        image_hw=(SIZE, SIZE),
        gloss=HEAD_GLOSS,
        lighting=portrait_lighting(),
        background=jnp.full(3, 0.5),
    )
    return np.asarray(picture.colour)


def test_a_frontal_face_raises_no_doubt_and_a_turned_one_is_told(head):
    assert create_avatar(photo(head, 5), texture_size=512).report["warnings"] == []
    warnings = create_avatar(photo(head, 52), texture_size=512).report["warnings"]
    assert any("turned away" in sentence for sentence in warnings)
    angle = int(warnings[0].split("turned away by ")[1].split(" ")[0])
    assert MAX_TURN_DEGREES < angle < 65


def test_a_profile_is_refused(head):
    with pytest.raises(InputError, match="from the front"):
        create_avatar(photo(head, 80), texture_size=512)
