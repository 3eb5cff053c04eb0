import numpy as np
import pytest
import trimesh

from digitaltwin.geometry import Similarity, SurfaceTree
from digitaltwin.head.markup import LANDMARK_COUNT
from digitaltwin.registration import transfer_texture
from digitaltwin.registration._register import Registration
from digitaltwin.render._colour import linear_from_srgb
from digitaltwin.texture import make_layout
from digitaltwin.types import InputError, Mesh


@pytest.fixture(scope="module")
def layout(head):
    return make_layout(head, size=512, reach_mm=np.inf)


def of_the_mean_head(head, vertices: np.ndarray, faces: np.ndarray) -> Registration:
    still = Similarity.identity()
    mean = np.asarray(head.mean, np.float64)
    identity, landmarks = np.zeros(len(head.identity)), np.full((LANDMARK_COUNT, 3), np.nan)
    return Registration(mean, mean, identity, still, "mm", False, SurfaceTree(vertices, faces), landmarks)


def test_every_texel_takes_the_colour_of_the_place_it_shows(head, layout):
    """Colours that are linear in space: what a texel should have is known from where it lies."""
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    vertices, fine = trimesh.remesh.subdivide(mean, faces)
    low, high = mean.min(axis=0), mean.max(axis=0)
    scan = Mesh(vertices, fine, colours=(vertices - low) / (high - low))
    found = transfer_texture(head, layout, of_the_mean_head(head, vertices, fine), scan, hair=True)
    corners = faces[np.asarray(layout.face)]
    places = np.einsum("nk,nkd->nd", np.asarray(layout.barycentric), mean[corners])
    expected = np.asarray(linear_from_srgb(((places - low) / (high - low)).astype(np.float32)))
    weight = np.asarray(found.weight).ravel()[np.asarray(layout.texel)]
    colours = np.asarray(found.linear_colour).reshape(-1, 3)[np.asarray(layout.texel)]
    seen = weight > 0.99
    assert seen.mean() > 0.9
    np.testing.assert_allclose(colours[seen], expected[seen], atol=2e-3)


def test_texture_coordinates_of_their_own_faces_follow_what_the_registration_drops_and_flips(head, layout):
    """The mean head in its own atlas, each face turned inside out, one without area before them."""
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)[:, ::-1]
    uv_faces = np.asarray(head.uv_faces)[:, ::-1]
    u, v = np.meshgrid(np.linspace(0.0, 1.0, 512), np.linspace(1.0, 0.0, 512))
    texture = np.stack([u, v, np.full_like(u, 0.5)], axis=-1).astype(np.float32)
    scan = Mesh(
        mean,
        np.concatenate([[[0, 0, 1]], faces]),
        uv=np.asarray(head.uv, np.float64),
        uv_faces=np.concatenate([[[0, 0, 1]], uv_faces]),
        texture=texture,
    )
    registration = of_the_mean_head(head, mean, scan.faces)
    registration = registration._replace(scan=registration.scan.flipped(), faces_flipped=True)
    found = transfer_texture(head, layout, registration, scan, hair=True)
    texel = np.asarray(layout.texel)
    seen = np.asarray(found.weight).ravel()[texel] > 0.99
    assert seen.mean() > 0.9
    colours = np.asarray(found.linear_colour).reshape(-1, 3)[texel][seen]
    expected = np.asarray(linear_from_srgb(texture)).reshape(-1, 3)[texel][seen]
    np.testing.assert_allclose(np.median(np.abs(colours - expected), axis=0), 0.0, atol=3e-3)
    assert np.mean(np.abs(colours - expected).max(axis=1) < 0.02) > 0.99


def test_what_the_scan_does_not_show_is_left_out_and_its_border_is_soft(head, layout):
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    right = faces[mean[faces].mean(axis=1)[:, 0] < 5.0]
    scan = Mesh(mean, right, colours=np.full_like(mean, 0.6))
    weight = np.asarray(transfer_texture(head, layout, of_the_mean_head(head, mean, right), scan, hair=True).weight)
    corners = faces[np.asarray(layout.face)]
    x = np.einsum("nk,nk->n", np.asarray(layout.barycentric), mean[corners][:, :, 0])
    on_skin = weight.ravel()[np.asarray(layout.texel)]
    assert on_skin[x > 20.0].max() == 0.0
    assert np.median(on_skin[x < -20.0]) == pytest.approx(1.0, abs=1e-5)
    assert ((on_skin > 0.05) & (on_skin < 0.95)).any()


def test_hair_is_kept_only_if_asked_for(head, layout):
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    skin = np.array([0.75, 0.55, 0.45])
    colours = np.where(np.asarray(head.regions.scalp)[:, None], 0.05, skin) + np.zeros_like(mean)
    scan, registration = Mesh(mean, faces, colours=colours), of_the_mean_head(head, mean, faces)
    corners = faces[np.asarray(layout.face)]
    scalp = np.asarray(head.regions.scalp)[corners].all(axis=1)
    with_hair, without = (
        np.asarray(transfer_texture(head, layout, registration, scan, hair=hair).weight).ravel()[
            np.asarray(layout.texel)
        ]
        for hair in (True, False)
    )
    assert np.median(with_hair[scalp]) > 0.9
    assert np.median(without[scalp]) < 0.05
    face = np.asarray(head.regions.face)[corners].all(axis=1) & ~scalp
    assert np.median(without[face]) > 0.9


def test_a_scan_without_colours_is_refused(head, layout):
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    with pytest.raises(InputError, match="no texture"):
        transfer_texture(head, layout, of_the_mean_head(head, mean, faces), Mesh(mean, faces))
