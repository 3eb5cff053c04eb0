"""FitStatus, the start objects, and that neither needs JAX."""

import subprocess
import sys

import numpy as np
import pytest

from digitaltwin.fitting import FitStatus, Shape


def test_every_status_has_a_message_of_its_own():
    """No code is without its words, and no two share them."""
    assert len({status.message for status in FitStatus}) == len(FitStatus)


@pytest.mark.parametrize("name", ["OK", "NON_FINITE_INPUT", "DEGENERATE", "BEHIND_CAMERA", "DIVERGED"])
def test_the_statuses_keep_their_own_names(name):
    """``from digitaltwin.fitting import OK`` warns, is the member and compares with a result's integer."""
    from digitaltwin import fitting

    with pytest.warns(DeprecationWarning, match=f"FitStatus.{name}"):
        assert getattr(fitting, name) is FitStatus[name]
    assert np.int32(FitStatus[name]) == FitStatus[name]


def test_a_shape_holds_vertices():
    vertices = np.zeros((5, 3), np.float32)
    assert Shape(vertices).vertices is vertices


def test_flags_and_configurations_need_no_jax():
    """Command lines read defaults and name a start within a second; JAX alone takes longer to import."""
    code = (
        "import sys; from digitaltwin.fitting import FitConfig, FitStatus, GroupMeans, MeanHead, Shape;"
        "FitConfig(), MeanHead(), GroupMeans(); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
