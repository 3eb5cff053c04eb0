import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.export import preview
from digitaltwin.geometry import Camera
from digitaltwin.render import head_meshes


@pytest.fixture(scope="module")
def panels(head):
    texture, eyes = jnp.full((1, 1, 3), 0.7), jnp.full((1, 1, 3), 0.95)

    meshes = head_meshes(head, np.asarray(head.mean), np.asarray(head.parts_mean), texture=texture, eye_texture=eyes)
    photo = np.zeros((300, 500, 3), np.float32)
    photo[..., 1] = 1.0
    camera = Camera(np.eye(3), np.array([60.0, 0, 900]), 800.0, np.array([250.0, 150.0]))
    picture = preview(photo, meshes, camera, size=160)
    assert picture.shape == (160, 640, 3)
    return np.split(picture, 4, axis=1)


def covered(panel):
    return np.abs(panel - panel[0, 0]).max(axis=-1) > 0.05


def test_views_turn_the_head(panels):
    front, oblique, side = (covered(panel) for panel in panels[1:])
    assert np.mean(front == front[:, ::-1]) > 0.97  # symmetric
    assert np.mean(oblique == oblique[:, ::-1]) < 0.97
    assert side.any(axis=0).sum() > 1.15 * front.any(axis=0).sum()  # a head is longer than wide
    heights = [view.any(axis=1).sum() for view in (front, side)]
    assert abs(heights[0] - heights[1]) < 0.1 * heights[0]


def test_overlay_lets_the_photo_through_and_lies_where_the_head_is(panels):
    photo = panels[0]
    green = photo[..., 1] - photo[..., 0]
    assert green.max() > 0.99  # bare photo
    head = (green > 0.2) & (green < 0.7)
    # The head stands 60 mm to the right of the axis: 53 px of the photo; the window is centred on it.
    assert head.sum() > 0.15 * head.size
    assert np.abs(np.argwhere(head)[:, 1].mean() - 80) < 4
