"""Meshes that the tests of the deformation representation share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.deformation import decode, encode, make_reference


class Cylinder(NamedTuple):
    """An open tube around +y that can be bent like a finger."""

    vertices: np.ndarray
    faces: np.ndarray
    radius: float
    length: float

    def bent(self, degrees, share=0.8):
        """Bent evenly about -z over the middle ``share`` of its length, without stretching its axis."""
        height = self.vertices[:, 1]
        low, high = self.length * (1 - share) / 2, self.length * (1 + share) / 2
        curvature = np.deg2rad(degrees) / (high - low)
        fine = np.linspace(0, self.length, 20001)
        angle = curvature * (np.clip(fine, low, high) - low)
        step = self.length / 20000
        axis = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
        centre = np.concatenate([[[0, 0]], np.cumsum((axis[1:] + axis[:-1]) / 2 * step, axis=0)])
        turn = np.interp(height, fine, angle)
        x, z = self.vertices[:, 0], self.vertices[:, 2]
        return np.stack([np.interp(height, fine, centre[:, 0]) + np.cos(turn) * x,
                         np.interp(height, fine, centre[:, 1]) + np.sin(turn) * x, z], axis=1)  # fmt: skip


def tube(radius, length, around, along):
    angle = 2 * np.pi * np.arange(around) / around
    ring = np.stack([radius * np.cos(angle), np.zeros(around), radius * np.sin(angle)], axis=1)
    vertices = (ring[None] + np.linspace(0, length, along)[:, None, None] * [0, 1, 0]).reshape(-1, 3)
    a, b = np.divmod(np.arange((along - 1) * around), around)
    here, beside = a * around + b, a * around + (b + 1) % around
    faces = np.concatenate([np.stack([here, here + around, beside], axis=1),
                            np.stack([beside, here + around, beside + around], axis=1)])  # fmt: skip
    return Cylinder(vertices, faces, radius, length)


@pytest.fixture(scope="session")
def cylinder():
    return tube(30.0, 200.0, around=48, along=41)


@pytest.fixture(scope="session")
def slim_cylinder():
    """Slim enough to be bent by 300 degrees without folding."""
    return tube(12.0, 200.0, around=16, along=61)


@pytest.fixture(scope="session")
def slim_reference(slim_cylinder):
    return make_reference(slim_cylinder.vertices, slim_cylinder.faces)


@pytest.fixture(scope="session")
def head_shapes(head):
    """The 52 expressions, and 200 random identities of the shipped head."""
    rng = np.random.default_rng(0)
    mean, basis = np.asarray(head.mean, np.float64), np.asarray(head.identity, np.float64)
    coefficients = rng.normal(size=(200, len(basis))) * np.asarray(head.identity_deviation)
    expressions = mean + np.asarray(head.expressions, np.float64)
    return np.concatenate([expressions, mean + np.tensordot(coefficients, basis, 1)])


@pytest.fixture(scope="session")
def head_reference(head):
    return make_reference(head.mean, head.faces)


def _round_trip(reference, shapes, exact):
    def distances(vertices):
        anchor = vertices[reference.anchors]
        decoded = decode(reference, encode(reference, vertices, exact=exact), anchor=anchor)
        return jnp.linalg.norm(decoded - vertices, axis=1)

    return jax.lax.map(distances, shapes)


@pytest.fixture(scope="session")
def round_trip():
    """Function (reference, shapes, exact) -> distances [shapes v] of the decoded meshes."""
    compiled = jax.jit(_round_trip, static_argnames="exact")

    def run(reference, shapes, *, exact):
        return np.asarray(compiled(reference, jnp.asarray(shapes, reference.vertices.dtype), exact=exact))

    return run
