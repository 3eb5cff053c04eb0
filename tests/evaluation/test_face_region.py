"""The region of a face that its landmarks span."""

import numpy as np
import pytest

from digitaltwin.evaluation._face_region import face_region

SEVEN = np.array([[-45, 30, 5], [-15, 31, 9], [15, 31, 9], [45, 30, 5], [0, -20, 30], [-25, -50, 12], [25, -50, 12.5]])


def test_the_region_moves_and_grows_with_the_face():
    centre, radius_mm = face_region(SEVEN, factor=1.4)
    np.testing.assert_allclose(centre, [0.0, -4.7, 23.7])
    assert radius_mm == pytest.approx(0.7 * (90.0 + np.hypot(51.0, 21.0)))
    moved, larger_mm = face_region(2.0 * SEVEN + 500.0, factor=1.4)
    np.testing.assert_allclose(moved, 2.0 * centre + 500.0)
    assert larger_mm == pytest.approx(2.0 * radius_mm), "wherever the scan's origin is"
