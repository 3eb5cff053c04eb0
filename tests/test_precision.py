"""Accelerators multiply in reduced precision unless told: 0.3 mm on a head with TF32, 2.4 mm with bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.lax import Precision

from digitaltwin.deformation import decode, encode, make_reference
from digitaltwin.fitting import FitConfig, fit, fit_groups, fit_views, make_fitter, mesh_points_of
from digitaltwin.geometry import Camera, project
from digitaltwin.head import express, parts_vertices


def products(jaxpr):
    """Every matrix product and convolution of a jaxpr, those of the jaxprs within included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda part: isinstance(part, (Jaxpr, ClosedJaxpr))):
            if isinstance(value, ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from products(value)


def imprecise(function, *arguments):
    """Products that leave their precision to the device, where they are in the source; and how many there are."""
    found = list(products(jax.make_jaxpr(function)(*arguments).jaxpr))
    wrong = [e for e in found if e.params["precision"] not in (Precision.HIGHEST, (Precision.HIGHEST,) * 2)]
    return [str(e.source_info.traceback) for e in wrong], len(found)


def test_the_walk_finds_them():
    wrong, count = imprecise(
        jax.jit(jax.vmap(lambda a: jax.lax.fori_loop(0, 3, lambda _, b: b @ a, a))), jnp.ones((2, 3, 3))
    )
    assert len(wrong) == count == 1
    assert imprecise(lambda a: jnp.matmul(a, a, precision=Precision.HIGHEST), jnp.ones((3, 3))) == ([], 1)


CONFIGS = {
    "default": FitConfig(),
    "given shape, fixed contour": FitConfig(fit_identity=False, sliding_contour=False),
    "paper": FitConfig.paper(),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batched", [False, True])
def test_the_fit_asks_for_full_precision(head, name, batched):
    fitter = make_fitter(head, CONFIGS[name])

    def run(shape, landmarks):
        return fit(fitter, shape, landmarks, (480, 640))

    run = jax.vmap(run, (None, 0)) if batched else run
    landmarks = jnp.ones((3, 104, 2) if batched else (104, 2))
    wrong, count = imprecise(run, head.mean, landmarks)
    assert count > 10
    assert not wrong, wrong[0]


def test_so_do_its_relatives(head):
    mesh = make_fitter(head, FitConfig(fit_identity=False), points=mesh_points_of(head))
    own = make_fitter(head, FitConfig())
    many = jnp.ones((2, 104, 2)), np.array([[480, 640], [480, 640]])
    cases = (
        (lambda y: fit(mesh, head.mean, y, (480, 640)), jnp.ones((478, 2))),
        (lambda y: fit_groups(own, y, (480, 640)), jnp.ones((104, 2))),
        (lambda y: fit_views(own, head.mean, y, many[1]), many[0]),
        (jax.grad(lambda y: jnp.sum(fit(own, head.mean, y, (480, 640)).vertices)), jnp.ones((104, 2))),
    )
    for function, argument in cases:
        wrong, count = imprecise(function, argument)
        assert count > 10
        assert not wrong, wrong[0]


def test_so_do_camera_head_and_deformation(head):
    camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(600.0), jnp.array([320.0, 240.0]))
    reference = make_reference(np.asarray(head.mean), np.asarray(head.faces))
    feature = jax.eval_shape(encode, reference, head.mean)
    feature = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), feature)
    cases = (
        (project, camera, head.mean),
        (lambda weights: express(head, head.mean, weights), jnp.ones(52)),
        (lambda weights: parts_vertices(head, head.mean, weights), jnp.ones(52)),
        (decode, reference, feature),
        (encode, reference, head.mean),
    )
    for function, *arguments in cases:
        wrong, count = imprecise(function, *arguments)
        assert count > 0
        assert not wrong, wrong[0]
