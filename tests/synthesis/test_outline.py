"""Landmarks on the visible outline."""

import numpy as np

from digitaltwin.head.markup import CONTOUR
from digitaltwin.synthesis import make_scenes
from digitaltwin.synthesis._outline import outline_landmarks


def test_outline_moves_hidden_contour_points_outwards_only(head, folder, config):
    scenes = make_scenes(head, folder, config)
    moved = outline_landmarks(head, scenes, noise_percent=0.0, seed=0) - scenes.landmarks_px
    np.testing.assert_array_equal(np.delete(moved, CONTOUR, axis=1), 0.0)
    far = np.where(scenes.angles_deg[:, :1] > 0, CONTOUR[12:], CONTOUR[4::-1])  # beside the cheek, towards the ear
    outwards = np.sign(scenes.angles_deg[:, :1]) * np.take_along_axis(moved[..., 0], far, axis=1)
    turned = scenes.yaw_bins() >= 2
    assert np.mean(outwards[turned] > -1.0) > 0.9
    assert np.median(outwards[turned]) > 3.0
    near = np.where(scenes.angles_deg[:, :1] > 0, CONTOUR[4:0:-1], CONTOUR[12:16])
    assert np.abs(np.take_along_axis(moved, near[..., None], axis=1)[turned]).max() < 1e-3
