"""Appearance of subjects: skin, brows and hair."""

import numpy as np
import pytest

from digitaltwin.head import landmark_points, load_subjects
from digitaltwin.synthesis import SubjectAppearance


@pytest.fixture(scope="module")
def appearance(head):
    return SubjectAppearance(head, load_subjects())


def test_textures_depend_on_the_subject_and_the_generator_alone(appearance):
    first, again, other = (appearance.textures(7, np.random.default_rng(seed)) for seed in (0, 0, 1))
    for one, same in zip(first, again):
        np.testing.assert_array_equal(one, same)
    assert np.abs(first[0] - other[0]).max() > 0.1, "hair and brows are drawn anew"
    np.testing.assert_array_equal(first[1], other[1])
    assert first[0].min() >= 0.0
    assert first[0].max() <= 1.0


def test_brows_are_darker_than_the_forehead_above_them(head, appearance):
    dark = np.flatnonzero(np.asarray(load_subjects().group) == load_subjects().group_names.index("female-asian"))[0]
    skin = np.asarray(appearance.textures(int(dark), np.random.default_rng(0))[0])

    def at(vertex):
        uv = np.asarray(head.uv)[np.asarray(head.uv_faces)[np.asarray(head.faces) == vertex][0]]
        column, row = int(uv[0] * skin.shape[1]), int((1 - uv[1]) * skin.shape[0])
        return skin[row, column].mean()

    points, mean = np.asarray(landmark_points(head, head.mean)), np.asarray(head.mean)
    for brow in (points[19], points[24]):
        on = np.argmin(np.linalg.norm(mean - brow, axis=1))
        above = np.argmin(np.linalg.norm(mean - (brow + [0.0, 16.0, 0.0]), axis=1))
        assert at(on) < 0.9 * at(above)
