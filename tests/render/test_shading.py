import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from digitaltwin.render import head_meshes, portrait_lighting, render_mesh
from digitaltwin.render._head import head_pieces
from digitaltwin.render._shading import flat_lighting, sample_texture
from digitaltwin.types import Mesh

BACKGROUND = (0.1, 0.3, 0.2)


def show(*meshes, lighting=None, size=96, gloss=0.0):
    return render_mesh(
        meshes,
        jnp.float32(size),
        jnp.full(2, size / 2),
        image_hw=(size, size),
        lighting=flat_lighting() if lighting is None else lighting,
        background=jnp.array(BACKGROUND),
        gloss=[gloss] * len(meshes),
    )


def quad(depth, half, texture):
    corners = jnp.array([[-half, -half, depth], [half, -half, depth], [half, half, depth], [-half, half, depth]])
    uv = jnp.array([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    faces = jnp.array([[0, 2, 1], [0, 3, 2]])
    return Mesh(corners, faces, uv, faces, jnp.asarray(texture, jnp.float32))


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(4, radius=3.0)
    faces = jnp.asarray(mesh.faces)
    vertices = jnp.asarray(mesh.vertices + [0, 0, 10.0], jnp.float32)
    return Mesh(vertices, faces, jnp.zeros((1, 2)), jnp.zeros_like(faces), jnp.full((1, 1, 3), 0.6))


def test_flat_light_shows_the_texture_itself():
    texture = np.random.default_rng(0).uniform(size=(96, 96, 3))
    texture[:, :, 0] = 0.37
    colour = np.asarray(show(quad(10.0, 5.0, texture)).colour)
    # Texels and pixels coincide; the four samples mix a pixel with its neighbours, which an even channel does not show.
    np.testing.assert_allclose(colour[..., 0], 0.37, atol=1e-5)
    assert np.corrcoef(colour[..., 1].ravel(), texture[..., 1].ravel())[0, 1] > 0.9


def test_the_nearer_surface_hides_the_farther():
    red, blue = quad(10.0, 2.0, [[[1, 0, 0]]]), quad(20.0, 20.0, [[[0, 0, 1]]])
    for pair in ((red, blue), (blue, red)):
        colour = np.asarray(show(*pair).colour)
        np.testing.assert_allclose(colour[48, 48], [1, 0, 0], atol=1e-5)
        np.testing.assert_allclose(colour[5, 5], [0, 0, 1], atol=1e-5)


def test_alpha_is_the_covered_share_of_a_pixel(ball):
    picture = show(ball)
    # The outline's cone touches the ball: tan of its angle gives the radius in the picture.
    radius = 96 * 3 / np.sqrt(10**2 - 3**2)
    assert np.sum(picture.alpha) == pytest.approx(np.pi * radius**2, rel=4e-3)
    outside = np.asarray(picture.alpha) == 0
    np.testing.assert_allclose(
        np.asarray(picture.colour)[outside], np.broadcast_to(BACKGROUND, (outside.sum(), 3)), atol=1e-5
    )
    edge = (np.asarray(picture.alpha) > 0) & (np.asarray(picture.alpha) < 1)
    assert edge.sum() > 60


def test_light_from_above_and_the_left_falls_there(ball):
    colour = np.asarray(show(ball, lighting=portrait_lighting(), gloss=0.1).colour).mean(-1)
    assert colour[30, 30] > colour[66, 66] + 0.1
    assert colour[30, 48] > colour[66, 48] + 0.05


def test_outline_does_not_flash(ball):
    """Smooth normals that lean over the outline are not turned round: brightness changes steadily up to it."""
    picture = show(ball, lighting=portrait_lighting(), gloss=0.1)
    inside = np.asarray(picture.alpha) == 1
    column = np.asarray(picture.colour).mean(-1)[:, 48][inside[:, 48]]
    assert np.all(np.diff(column[len(column) // 2 :]) < 4e-3)


def test_texture_lookup_is_bilinear_and_clamped():
    texture = jnp.asarray(np.random.default_rng(1).uniform(size=(4, 8, 3)), jnp.float32)
    look = functools.partial(sample_texture, texture)
    np.testing.assert_allclose(look(jnp.array([2.5 / 8, 1 - 1.5 / 4])), texture[1, 2], atol=1e-6)
    np.testing.assert_allclose(look(jnp.array([3 / 8, 1 - 1.5 / 4])), (texture[1, 2] + texture[1, 3]) / 2, atol=1e-6)
    np.testing.assert_allclose(look(jnp.array([-3.0, 2.0])), texture[0, 0], atol=1e-6)
    np.testing.assert_allclose(look(jnp.array([5.0, -2.0])), texture[3, 7], atol=1e-6)


def test_pieces_hold_every_face_once(head):
    pieces = head_pieces(head)
    faces = np.concatenate([np.sort(np.asarray(f), axis=1) for f, _ in pieces[1:]])
    expected = np.concatenate([np.asarray(head.faces), np.asarray(head.parts_faces) + len(head.mean)])
    assert np.array_equal(np.unique(faces, axis=0), np.unique(np.sort(expected, axis=1), axis=0))
    for f, uv_f in pieces[1:]:
        assert f.shape == uv_f.shape
        assert uv_f.max() < len(pieces.uv)


def test_head_has_no_holes(head):
    """From the front the face, with eyes and lips, is covered throughout."""
    place, move = jnp.array([[1.0, -1, -1]]), jnp.array([[0.0, 0, 300]])
    grey = jnp.full((1, 1, 3), 0.7)
    vertices, parts = head.mean * place + move, head.parts_mean * place + move
    alpha = np.asarray(show(*head_meshes(head, vertices, parts, texture=grey, eye_texture=grey)).alpha)
    # 0.32 px a millimetre: 50 mm to each side, from the chin up to the forehead.
    assert np.all(alpha[34:74, 32:64] == 1)
    assert alpha[:, 0].max() == 0


def test_colours_have_the_gradient_of_texture_and_depth():
    """Through the tiles, covered and not, against finite differences."""
    corners = jnp.array([[-1.0, -1.0, 5.0], [1.0, -1.0, 5.5], [0.0, 1.0, 4.5]])
    face, uv = jnp.array([[0, 2, 1]]), jnp.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]])
    texture = jnp.asarray(np.random.default_rng(2).uniform(0.2, 0.8, (3, 3, 3)), jnp.float32)

    @jax.jit
    def brightness(corners, texture):
        mesh = Mesh(corners, face, uv, face, texture)
        return jnp.sum(show(mesh, lighting=portrait_lighting(), size=40).colour)

    by_corners, by_texture = jax.jit(jax.grad(brightness, (0, 1)))(corners, texture)
    assert np.all(np.isfinite(by_corners))
    step = jnp.zeros_like(texture).at[1, 1, 1].set(1e-2)
    numeric = (brightness(corners, texture + step) - brightness(corners, texture - step)) / 2e-2
    np.testing.assert_allclose(by_texture[1, 1, 1], numeric, rtol=2e-2)
