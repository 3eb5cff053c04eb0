"""The out-of-basis residual: its size, orthogonality and, if asked, no rigid motion."""

import numpy as np
import pytest

from digitaltwin.synthesis._residual import draw_residual


def test_the_residual_is_of_its_size_and_outside_the_basis(head):
    field = draw_residual(head, np.random.default_rng(0), size_mm=1.5)
    face = np.asarray(head.regions.face)
    assert np.sqrt((field[face] ** 2).sum(1).mean()) == pytest.approx(1.5)
    along = np.einsum("ivx,vx->i", np.asarray(head.identity, np.float64), field)
    assert np.abs(along).max() < 1e-6 * np.linalg.norm(field)


def test_a_residual_without_rigid_motion_neither_moves_nor_turns_the_face(head):
    field = draw_residual(head, np.random.default_rng(0), size_mm=1.5, rigid_motion_free=True)
    face, mean = np.asarray(head.regions.face), np.asarray(head.mean, np.float64)
    assert np.sqrt((field[face] ** 2).sum(1).mean()) == pytest.approx(1.5)
    along = np.einsum("ivx,vx->i", np.asarray(head.identity, np.float64), field)
    assert np.abs(along).max() < 1e-6 * np.linalg.norm(field)
    arms = mean[face] - mean[face].mean(axis=0)
    assert np.abs(field[face].mean(axis=0)).max() < 1e-6
    assert np.abs(np.cross(arms, field[face]).mean(axis=0)).max() < 1e-5
    border = np.asarray(head.faces)[face[np.asarray(head.faces)].sum(axis=1) == 1]
    assert np.linalg.norm(field[border] - field[border[:, [1, 2, 0]]], axis=2).max() < 3.0, "torn at the face's border"
