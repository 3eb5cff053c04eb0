"""Meshes that the tests of the deformation representation share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.deformation import decode, encode, make_reference
from digitaltwin.deformation._tube import make_tube


@pytest.fixture(scope="session")
def cylinder():
    return make_tube(30.0, 200.0, around=48, along=41)


@pytest.fixture(scope="session")
def slim_cylinder():
    """Slim enough to be bent by 300 degrees without folding."""
    return make_tube(12.0, 200.0, around=16, along=61)


@pytest.fixture(scope="session")
def slim_reference(slim_cylinder):
    return make_reference(slim_cylinder.vertices, slim_cylinder.faces)


@pytest.fixture(scope="session")
def head_shapes(head):
    """The 52 expressions, and 200 random identities of the shipped head."""
    rng = np.random.default_rng(0)
    mean, basis = np.asarray(head.mean, np.float64), np.asarray(head.identity, np.float64)
    coefficients = rng.normal(size=(200, len(basis))) * np.asarray(head.identity_std)
    expressions = mean + np.asarray(head.expressions, np.float64)
    return np.concatenate([expressions, mean + np.tensordot(coefficients, basis, 1)])


@pytest.fixture(scope="session")
def head_reference(head):
    return make_reference(head.mean, head.faces)


@pytest.fixture(scope="session")
def head_reference_double(head):
    """The same in float64, for use under ``jax.enable_x64``."""
    with jax.enable_x64(True):
        return make_reference(head.mean, head.faces, dtype=jnp.float64)


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
