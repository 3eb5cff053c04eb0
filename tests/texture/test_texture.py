import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from digitaltwin.render import rasterize, render_mesh
from digitaltwin.render._colour import linear_from_srgb, srgb_from_linear
from digitaltwin.render._shading import flat_lighting
from digitaltwin.render._zbuffer import interpolate_fragments, screen_points
from digitaltwin.texture import complete_texture, eye_texture, make_layout, nearest_skin, project_texture
from digitaltwin.texture._completion import face_colour
from digitaltwin.texture._eyes import HAZEL, iris_colour, seen_iris_colour
from digitaltwin.texture._layout import oval_distance, rasterize_uv
from digitaltwin.texture._projection import Projection
from digitaltwin.texture._pyramid import blur, double, fill, halve
from digitaltwin.texture._skins import load_skin, skin_paths
from digitaltwin.types import InputError, Mesh

SIZE = 512
PHOTO = 600
FOCAL, CENTRE = 1350.0, np.array([290.0, 310.0])


def turn(yaw):
    """The head turned, in the camera frame."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.diag([1.0, -1, -1]) @ [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]


def pose(vertices, yaw):
    return jnp.asarray(np.asarray(vertices) @ turn(yaw).T + [10.0, -20.0, 800.0], jnp.float32)


@pytest.fixture(scope="module")
def layout(head):
    return make_layout(head, size=SIZE)


@pytest.fixture(scope="module")
def known():
    """A skin under smooth stripes, so that a shift of a few texels would show."""
    skin = load_skin(skin_paths()[0], size=SIZE).pixels
    row, column = np.mgrid[:SIZE, :SIZE] / SIZE
    stripes = 1 + 0.15 * np.sin(2 * np.pi * 25 * np.stack([row, column, row + column], axis=-1))
    return (skin * stripes * 0.85).astype(np.float32)


def photograph(head, texture, yaw):
    mesh = Mesh(pose(head.mean, yaw), head.faces, head.uv, head.uv_faces, jnp.asarray(texture))
    picture = render_mesh(
        (mesh,),
        jnp.float32(FOCAL),
        jnp.asarray(CENTRE, jnp.float32),
        image_hw=(PHOTO, PHOTO),
        lighting=flat_lighting(),
        background=jnp.array([0.0, 1.0, 0.0]),
        gloss=[0.0],
    )
    return np.asarray(picture.colour)


def look(photo, head, layout, yaw):
    return project_texture(photo, pose(head.mean, yaw), head.faces, layout, focal_px=FOCAL, principal_point_px=CENTRE)


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_round_trip_photograph_and_project(head, layout, known, yaw):
    projection = look(photograph(head, known, yaw), head, layout, yaw)
    weight = np.asarray(projection.weight)
    trusted = weight > 0.5
    assert trusted.sum() > 0.08 * SIZE**2
    error = np.abs(np.asarray(srgb_from_linear(projection.linear_colour)) - known)[trusted].mean(-1)
    assert error.mean() < 0.01
    assert np.quantile(error, 0.99) < 0.05
    # Nothing of the green backdrop, however little trusted.
    excess = np.asarray(projection.linear_colour)[..., 1] - np.asarray(linear_from_srgb(jnp.asarray(known)))[..., 1]
    assert np.max((excess * weight)[weight > 0]) < 0.2


def test_what_the_nose_hides_is_not_coloured(head, layout):
    """Visibility against rays cast in float64 by another library."""
    trimesh = pytest.importorskip("trimesh")
    yaw = 0.8
    vertices = np.asarray(pose(head.mean, yaw), np.float64)
    projection = look(np.full((PHOTO, PHOTO, 3), 0.5, np.float32), head, layout, yaw)
    weight = np.asarray(projection.weight).reshape(-1)[np.asarray(layout.texel)]
    corners = vertices[np.asarray(head.faces)[np.asarray(layout.face)]]
    points = (np.asarray(layout.barycentric, np.float64)[..., None] * corners).sum(axis=1)
    mesh = trimesh.Trimesh(vertices, np.asarray(head.faces), process=False)
    # From the point towards the camera; hits within 2 mm are the face itself and its neighbours.
    towards = -points / np.linalg.norm(points, axis=1, keepdims=True)
    hidden = mesh.ray.intersects_any(points + 2.0 * towards, towards)
    normals = mesh.face_normals[np.asarray(layout.face)]
    hidden_in_front = hidden & ((normals * towards).sum(axis=1) > 0.3)
    assert hidden_in_front.sum() > 100
    assert np.max(weight[hidden_in_front]) == 0
    assert np.mean(weight[~hidden] > 0.5) > 0.3


def test_weight_fades_without_a_step(head, layout):
    projection = look(np.full((PHOTO, PHOTO, 3), 0.5, np.float32), head, layout, 0.3)
    weight = np.asarray(projection.weight)
    inside = np.asarray(layout.covered)
    across = np.abs(np.diff(weight, axis=1))[inside[:, 1:] & inside[:, :-1]]
    # A few texels beside lips and lids see a hard end, where the skin folds away.
    assert np.mean(across > 0.15) < 4e-3
    assert weight.min() == 0
    assert 0.99 < weight.max() <= 1


def test_hair_beyond_the_oval_stays_off_the_head(head, layout, known):
    photo = photograph(head, known * 0 + np.array([0.75, 0.55, 0.45], np.float32), 0.0)
    distance = jnp.asarray(oval_distance(head))[:, None]
    screen = screen_points(pose(head.mean, 0.0), FOCAL, jnp.asarray(CENTRE, jnp.float32))
    fragments = rasterize(screen, head.faces, image_hw=(PHOTO, PHOTO))
    outside = np.asarray(interpolate_fragments(fragments, distance, head.faces))[..., 0] < 0
    haired = np.where(outside[..., None], 0.05, photo).astype(np.float32)
    bare, hair = (look(p, head, layout, 0.0) for p in (photo, haired))
    ring = np.asarray(layout.texel)[np.abs(np.asarray(layout.oval_mm) + 3.0) < 3.0]
    assert np.asarray(bare.weight).reshape(-1)[ring].mean() > 0.05
    assert np.asarray(hair.weight).reshape(-1)[ring].mean() < 0.01


def test_fitted_face_outside_the_photo_is_refused(head, layout):
    with pytest.raises(InputError, match="outside the photo"):
        project_texture(
            np.zeros((80, 80, 3), np.float32),
            pose(head.mean, 0.0) + jnp.array([[900.0, 0, 0]]),
            head.faces,
            layout,
            focal_px=100.0,
            principal_point_px=np.array([40.0, 40.0]),
        )


def test_completion_keeps_the_photo_and_matches_the_skin(head, layout, known):
    """A skin seen through another exposure and tint is brought back to the photo's, also where no photo is."""
    skin = load_skin(skin_paths()[0], size=SIZE).pixels
    tint = jnp.array([[[1.5, 1.1, 0.8]]])
    tinted = np.asarray(srgb_from_linear(linear_from_srgb(jnp.asarray(skin)) * 0.5 * tint))
    projection = look(photograph(head, tinted, 0.0), head, layout, 0.0)
    texture = np.asarray(complete_texture(projection, layout, jnp.asarray(skin)))
    full = np.asarray(projection.weight) > 0.999
    np.testing.assert_allclose(texture[full], np.asarray(srgb_from_linear(projection.linear_colour))[full], atol=1e-5)
    skin_only = np.zeros(SIZE**2, bool)
    fragments = rasterize_uv(head.uv, head.uv_faces, SIZE)
    skin_only[np.flatnonzero(np.asarray(fragments.face) >= 0)] = True
    skin_only = skin_only.reshape(SIZE, SIZE)
    assert np.abs(texture - tinted)[skin_only].mean() < 0.01
    assert np.quantile(np.abs(texture - tinted)[skin_only], 0.99) < 0.06


def test_no_seam_where_the_photo_ends(head, layout, known):
    projection = look(photograph(head, known, 0.0), head, layout, 0.0)
    skin = load_skin(skin_paths()[0], size=SIZE).pixels
    texture = np.asarray(complete_texture(projection, layout, jnp.asarray(skin)))
    border = (np.asarray(projection.weight) > 0.02) & (np.asarray(projection.weight) < 0.98)
    step = np.abs(np.diff(texture, axis=0))[border[1:]].mean()
    assert step < 1.3 * np.abs(np.diff(known, axis=0))[border[1:]].mean()


def test_the_completion_has_the_gradient_of_finite_differences(head, layout, known):
    projection = look(photograph(head, known, 0.0), head, layout, 0.0)
    skin = jnp.asarray(load_skin(skin_paths()[0], size=SIZE).pixels)
    rng = np.random.default_rng(0)
    judged = jnp.asarray(ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (20, 20, 0)), jnp.float32)
    direction = jnp.asarray(1 + ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (20, 20, 0)), jnp.float32)

    def judge(share):
        brighter = projection.linear_colour * (1 + share * direction)
        return jnp.sum(judged * complete_texture(projection._replace(linear_colour=brighter), layout, skin))

    step = 0.01
    by_differences = (judge(step) - judge(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(judge)(0.0), by_differences, rtol=0.02)


def test_islands_are_continued_past_their_borders(head, layout):
    skin = np.where(np.asarray(layout.covered)[..., None], np.full(3, 0.6, np.float32), np.zeros(3, np.float32))
    nothing = Projection(jnp.zeros((SIZE, SIZE, 3)), jnp.zeros((SIZE, SIZE)))
    texture = np.asarray(complete_texture(nothing, layout, jnp.asarray(skin)))
    near = ndimage.binary_dilation(np.asarray(layout.covered), iterations=10)
    near[int(0.6 * SIZE) :] = False  # below lies the interior, which has a colour of its own
    np.testing.assert_allclose(texture[near], 0.6, atol=8e-3)


def test_nearest_skin_finds_the_one_photographed(head, layout):
    for path in skin_paths()[2::12]:
        skin = load_skin(path, size=SIZE)
        chosen = nearest_skin(look(photograph(head, skin.pixels, 0.2), head, layout, 0.2))
        tone = [
            np.asarray(face_colour(Projection(linear_from_srgb(jnp.asarray(s.pixels)), jnp.ones((SIZE, SIZE)))))
            for s in (skin, chosen)
        ]
        assert chosen.name == skin.name or np.allclose(*tone, atol=0.03), (chosen.name, skin.name)


def test_layout_agrees_with_the_uv_coordinates(head, layout):
    """The texel's own centre is the texture coordinate of the point it shows."""
    uv = np.asarray(head.uv)[np.asarray(head.uv_faces)[np.asarray(layout.face)]]
    uv = (np.asarray(layout.barycentric)[..., None] * uv).sum(axis=1)
    row, column = np.divmod(np.asarray(layout.texel), SIZE)
    np.testing.assert_allclose(uv, np.stack([column + 0.5, SIZE - row - 0.5], axis=1) / SIZE, atol=1e-5)


def test_pyramid_steps_keep_constants_and_ramps():
    ramp = jnp.broadcast_to(jnp.arange(32.0)[:, None, None], (32, 32, 1))
    np.testing.assert_allclose(halve(ramp)[:, 0, 0], np.arange(16) * 2 + 0.5, atol=1e-5)
    np.testing.assert_allclose(double(halve(ramp))[2:-2], ramp[2:-2], atol=1e-5)
    np.testing.assert_allclose(blur(ramp, 3)[4:-4], ramp[4:-4], atol=1e-4)
    np.testing.assert_allclose(blur(jnp.ones((9, 9, 2)), 2), 1, atol=1e-6)


def test_fill_leaves_what_is_known_and_stays_within_its_range():
    key = jax.random.key(0)
    picture = jax.random.uniform(key, (64, 64, 3), minval=0.3, maxval=0.7)
    weight = (jax.random.uniform(key, (64, 64, 1)) > 0.97).astype(jnp.float32)
    filled = jax.jit(lambda p, w: fill(p, w, jnp.full(3, 0.5), levels=6))(picture, weight)
    np.testing.assert_allclose(filled * weight, picture * weight, atol=1e-6)
    assert filled.min() >= 0.3 - 1e-5
    assert filled.max() <= 0.7 + 1e-5


@pytest.mark.parametrize("seed", [0, 5, -1, 2**33 + 1])
def test_a_seed_paints_the_eye_of_its_key(seed):
    np.testing.assert_array_equal(eye_texture(seed, size=64), eye_texture(jax.random.key(seed), size=64))


def test_eye_has_the_colour_asked_for_and_gives_it_back():
    blue = (0.35, 0.45, 0.60)
    texture = np.asarray(eye_texture(jax.random.key(1), iris=blue, size=256))
    radius = 256 * np.arcsin(5.85 / 12.2) / (2 * np.pi)
    found = iris_colour(texture, np.array([128.0, 128.0]), float(radius))
    np.testing.assert_allclose(found, blue, atol=0.08)
    assert texture[128, 128].max() < 0.1
    assert texture[128, 128 + 30].min() > 0.6
    with pytest.raises(InputError, match="no iris"):
        iris_colour(texture, np.array([-100.0, 30.0]), 5.0)


def test_the_iris_is_taken_from_the_better_seen_eye():
    image = np.zeros((60, 120, 3), np.float32)
    image[:, :60], image[:, 60:] = (0.2, 0.3, 0.6), (0.4, 0.25, 0.1)  # the right eye's side, the left eye's
    rim = np.array([[0.0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]])

    def seen(right, left, right_blink=0.1, left_blink=0.1):
        mesh = np.zeros((478, 3), np.float32)
        for first, (x, radius) in ((468, right), (473, left)):
            mesh[first : first + 5, :2] = [x, 30] + radius * rim
        return seen_iris_colour(image, mesh, left_blink=left_blink, right_blink=right_blink)

    blue, brown, hazel = image[0, 0], image[0, -1], np.array(HAZEL, np.float32)
    np.testing.assert_allclose(seen((30, 8.0), (90, 7.0)), blue)
    np.testing.assert_allclose(seen((30, 8.0), (90, 9.0)), brown)
    np.testing.assert_allclose(seen((30, 8.0), (90, 7.0), right_blink=0.9), brown)
    # Cut off by the photo's border, or wholly outside: the other eye, or none.
    np.testing.assert_allclose(seen((5, 8.0), (90, 7.0)), brown)
    np.testing.assert_allclose(seen((30, 8.0), (300, 9.0)), blue)
    np.testing.assert_allclose(seen((-50, 8.0), (118, 7.0)), hazel)
    np.testing.assert_allclose(seen((30, 2.0), (90, 2.0)), hazel)


@pytest.mark.parametrize("size", [0, 256, 1000, 3072])
def test_a_size_no_texture_can_have_is_refused_by_name(head, size):
    with pytest.raises(InputError, match="texture_size"):
        make_layout(head, size=size)
