"""What create_avatar refuses before it looks at a photo, and its deprecated spellings."""

import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin import avatar
from digitaltwin.avatar import _photo, create_avatar
from digitaltwin.fitting import GroupMeans, MeanHead, Shape
from digitaltwin.types import InputError


class Reached(Exception):
    """The chain has got as far as the fit."""


@pytest.fixture
def started(monkeypatch):
    """The start with which a call comes to the fit."""
    starts = []

    def fit_face(head, fitter, photo, face, start):
        starts.append((fitter, start))
        raise Reached

    class Pipeline:
        head, perception, layout = None, None, None

        def __init__(self, texture_size, fit_identity):
            self.fitter = (texture_size, fit_identity)

    monkeypatch.setattr(_photo, "fit_face", fit_face)
    monkeypatch.setattr(_photo, "detect_landmarks", lambda pixels, perception: None)
    monkeypatch.setattr(_photo, "_default_pipeline", Pipeline)

    def call(**options):
        with pytest.raises(Reached):
            create_avatar(np.zeros((80, 80, 3), np.float32), **options)
        return starts.pop()

    return call


def test_the_start_decides_whether_identity_is_fitted(started):
    shape = np.zeros((4, 3), np.float32)
    assert started() == ((2048, True), MeanHead())
    assert started(start=GroupMeans(), texture_size=512) == ((512, True), GroupMeans())
    (_, fit_identity), start = started(start=Shape(shape))
    assert not fit_identity
    assert start.vertices is shape


def test_the_old_spellings_work_and_warn(started):
    with pytest.warns(DeprecationWarning, match="start=MeanHead"):
        assert started(shape="basis")[1] == MeanHead()
    with pytest.warns(DeprecationWarning, match="GroupMeans"):
        assert started(shape="groups")[1] == GroupMeans()
    with pytest.warns(DeprecationWarning, match="Shape"):
        np.testing.assert_array_equal(started(shape=jnp.ones((4, 3)))[1].vertices, 1)
    former = "make_workshop"
    with pytest.warns(DeprecationWarning, match="make_pipeline"):
        assert getattr(avatar, former) is avatar.make_pipeline
    with pytest.warns(DeprecationWarning, match="start="), pytest.raises(InputError, match="'mean' is no way"):
        create_avatar(np.zeros((80, 80, 3)), shape="mean")
