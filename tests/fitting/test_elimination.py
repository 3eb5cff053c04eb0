"""The eliminated step against the full-size sparse one, by benchmarks.fitting.reference, which shares no code."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.spatial.transform import Rotation

from benchmarks.fitting.comparison import TOLERANCE_MM, beyond, cases, compare, first_unknowns, state_of, varied_photo
from benchmarks.fitting.peers import JaxProblem
from benchmarks.fitting.problem import IMAGE_SIZE, make_photo
from benchmarks.fitting.reference import Model, Reference
from benchmarks.refinement import refined_head
from digitaltwin.fitting import FitConfig, fit, make_fitter, mesh_points_of
from digitaltwin.fitting import _elimination as elimination
from digitaltwin.fitting import _steps as steps
from digitaltwin.fitting._points import landmark_points_of

CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize(
    ("name", "seeds", "types"),
    [
        ("contour sliding", range(2), ("float64", "float32")),
        ("far-off starts, damped", range(2), ("float64",)),
        ("468 points", range(4, 6), ("float64",)),
        ("468 points, contour sliding", range(4, 6), ("float64", "float32")),
        ("paper", range(6, 8), ("float64",)),
    ],
)
def test_every_step_is_the_full_size_sparse_step(head, name, seeds, types):
    with jax.enable_x64(True):
        steps = list(compare(head, CASES[name], seeds, types=types))
    assert len(steps) >= len(seeds)
    for step in steps:
        for dtype, difference in step.items():
            assert not beyond(difference, dtype)
            assert difference["energy"] < 0.3 * TOLERANCE_MM[dtype]
            assert difference["rejected"] in ((1, 2) if CASES[name].far_off else (0, 1)), "the last, once converged"


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")
def test_the_minimum_is_that_of_scipy_and_jaxopt(head):
    """Converged, on the exact reduced problem: the optimal field lies in the span of ``A^-1 Pi'``."""
    import jaxopt

    config = FitConfig(iterations=40, fit_identity=False, sliding_contour=False)
    model = Model(head, config, landmark_points_of(head))
    photo = make_photo(head, model.points, 3, known_shape=True, missing=0.1, weighted=True)
    reference = Reference(model, photo)
    with jax.enable_x64(True):
        given = (jnp.asarray(photo.shape), jnp.asarray(photo.landmarks), IMAGE_SIZE)
        options = {"scores": jnp.asarray(photo.scores), "weights": jnp.asarray(photo.weights)}
        fitter, start = make_fitter(head, config, dtype=np.float64), reference.start
        fitted = fit(fitter, *given, **options, init=first_unknowns(fitter, start))
        reference.scale = reference.scale_of(float(fitted.energies[0]), start)
        energy, found = float(fitted.energies[-1]), state_of(fitted)
        assert energy == pytest.approx(reference.energy(found), rel=1e-9)

        problem = JaxProblem([reference], "float64", reduced=True)
        seen = problem.photos[0]
        solver = jaxopt.LevenbergMarquardt(
            lambda x: problem.residuals(x, seen),
            maxiter=20, damping_parameter=1e-9, solver="cholesky", materialize_jac=True, tol=1e-9, xtol=1e-9,
        )  # fmt: skip
        x = jax.jit(lambda x: solver.run(x).params)(problem.first)
        assert energy == pytest.approx(reference.energy(problem.state(0, x)), rel=1e-8)

    # SciPy differentiates the reference's own residuals, so this minimum owes nothing to anybody's derivatives.
    def moved(x):
        c = len(start.coefficients)
        return start.moved(np.r_[(problem.basis @ x[c + 7 :].reshape(-1, 3)).ravel(), x[: c + 7]])

    def all_residuals(x):
        state = moved(x)
        return np.r_[reference.image_residual(state).ravel(), x[59:], reference.prior_residuals(state)]

    best = scipy.optimize.least_squares(all_residuals, np.zeros(59 + problem.size), method="lm", ftol=1e-11, xtol=1e-11)
    assert energy == pytest.approx(2.0 * best.cost, rel=1e-8)
    np.testing.assert_allclose(found.coefficients, moved(best.x).coefficients, atol=1e-4)
    np.testing.assert_allclose(found.field, moved(best.x).field, atol=1e-3)

    # And there no direction of the full space, however rough, goes downhill.
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = np.r_[rng.normal(size=found.field.size + 52), 0.01 * rng.normal(size=7)]
        energies = [reference.energy(found.moved(h * direction)) for h in (-1e-3, 0.0, 1e-3)]
        slope, curvature = (energies[2] - energies[0]) / 2e-3, (energies[2] - 2 * energies[1] + energies[0]) / 1e-6
        assert abs(slope) < 1e-4 * curvature


@pytest.mark.parametrize("lagged", [0, 52])
@pytest.mark.parametrize("paper", [False, True])
def test_the_reference_differentiates_what_it_measures(head, paper, lagged):
    """Its derivatives against differences, and its normal equations against J'J and J'r."""
    model = Model(head, replace(FitConfig(), fit_identity=False), landmark_points_of(head), paper=paper, lagged=lagged)
    photo = make_photo(head, model.points, 0, known_shape=True, missing=0.2, weighted=True)
    reference = Reference(model, photo)
    rng = np.random.default_rng(1)
    random = [rng.normal(size=model.mean.size), rng.normal(size=52), 0.1 * rng.normal(size=7)]
    state = reference.start.moved(np.concatenate(random))
    jacobian, residuals = reference.jacobian(state), reference.residuals(state)

    matrix, right = reference.normal_equations(state)
    # The field's own part, whose square root the Jacobian holds, is the quadratic form of Eq. 2.
    unseen = Reference(model, photo, scale=0.0 * reference.scale)
    smooth = unseen.jacobian(state)[:, : model.mean.size]
    assert abs(smooth.T @ smooth - model.field3).max() < 1e-9 * abs(model.field3).max()
    np.testing.assert_allclose(jacobian.T @ residuals, right, atol=1e-9 * abs(right).max())
    assert abs(jacobian.T @ jacobian - matrix).max() < 1e-9 * abs(matrix).max()
    if not lagged:  # which residuals hold at the start of a step only
        direction = np.concatenate(random)
        ahead, behind = (reference.residuals(state.moved(h * direction)) for h in (1e-6, -1e-6))
        slope = (ahead - behind) / 2e-6
        np.testing.assert_allclose(jacobian @ direction, slope, atol=1e-6 * abs(slope).max())


def test_damping_weighs_the_field_by_its_price(head):
    """An overdamped step is a scaled gradient: ``mu A`` for the field, which then moves by ``-A^-1 J'r / mu``."""
    model = Model(head, replace(FitConfig(), fit_identity=False), landmark_points_of(head))
    reference = Reference(model, make_photo(head, model.points, 0, known_shape=True))
    _, right = reference.normal_equations(reference.start)
    moved = reference.start.moved(reference.step(reference.start, damping=1e9)).field
    pulled = model.field @ moved
    np.testing.assert_allclose(1e9 * pulled.ravel(), -right[: moved.size], atol=1e-5 * abs(right[: moved.size]).max())


def test_a_refined_head_keeps_its_landmarks(head):
    finer = refined_head(head, 2925)
    assert finer.mean.shape == (2925, 3)
    for old, new in zip(head.expressions[:3], finer.expressions[:3]):
        before = head.landmarks.interpolate(head.mean + old, head.faces)
        after = finer.landmarks.interpolate(finer.mean + new, finer.faces)
        np.testing.assert_allclose(before, after, atol=1e-4)


def test_a_factor_made_at_the_start_serves_all_steps(head):
    """Three steps of the face mesh at once are three fits of one step, each with a preconditioner of its own."""
    case = CASES["468 points, contour sliding"]
    photo = varied_photo(head, case, 1)
    with jax.enable_x64(True):
        given = (jnp.asarray(photo.shape), jnp.asarray(photo.landmarks), IMAGE_SIZE)
        options = {"scores": jnp.asarray(photo.scores), "weights": jnp.asarray(photo.weights)}
        fitters = [
            make_fitter(head, replace(case.config, iterations=n), points=mesh_points_of(head), dtype=np.float64)
            for n in (1, 3)
        ]
        chained = fit(fitters[0], *given, **options)
        for _ in range(2):
            chained = fit(fitters[0], *given, **options, init=chained.unknowns)
        at_once = fit(fitters[1], *given, **options)
    np.testing.assert_allclose(at_once.vertices, chained.vertices, atol=1e-6)
    np.testing.assert_allclose(at_once.energies[-1], chained.energies[-1], rtol=1e-9)


def _perspective_model(rng, points, unknowns):
    """Random derivatives of a camera at three face lengths, and sizes twenty percent off for the preconditioner."""
    directions = 0.3 * rng.normal(size=(points, 2))
    sizes = rng.uniform(0.5, 1.0, points)
    flat = np.broadcast_to(np.eye(2), (points, 2, 2))
    by_point = sizes[:, None, None] * np.concatenate([flat, -directions[:, :, None]], axis=2)
    root = rng.normal(size=(points, points))
    gram = root @ np.diag(np.geomspace(100.0, 1e-3, points)) @ root.T / points
    model = steps.LinearModel(
        residual=jnp.asarray(rng.normal(size=(points, 2))),
        by_point=jnp.asarray(by_point @ Rotation.from_euler("y", 30.0, degrees=True).as_matrix()),
        by_unknown=jnp.asarray(rng.normal(size=(points, 2, unknowns))),
        gradient=jnp.asarray(rng.normal(size=unknowns)),
        hessian=jnp.eye(unknowns),
    )
    return model, jnp.asarray(gram), jnp.asarray(sizes * rng.uniform(0.8, 1.2, points))


@pytest.mark.parametrize("contour", [0, 7])
def test_conjugate_gradients_make_the_direct_step(contour):
    """And their derivatives, by everything that a step is made of, are those of the solution."""
    points = 40
    n = points - contour

    def symmetric(matrix):
        return (matrix + matrix.T) / 2.0

    def blocks(gram):
        gram = symmetric(gram)
        if not contour:
            return elimination.Coupling(gram, None, None)
        return elimination.Coupling(gram[:n, :n], gram[None, n:, :n], gram[None, n:, None, n:])

    def direct(gram, model):
        model = model._replace(hessian=symmetric(model.hessian))
        return steps.direct_step(blocks(gram), field, model, jnp.zeros(()))

    def conjugate(gram, model):
        model = model._replace(hessian=symmetric(model.hessian))
        distant = steps.make_weak_perspective(blocks(gram).fixed, sizes)
        return steps.conjugate_step(blocks(gram), field, model, jnp.zeros(()), distant)

    def slopes(step):
        measure = lambda *given: sum(jnp.sum(jnp.sin(part)) for part in step(*given))  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.grad(measure, (0, 1)))(gram, model))

    def slope_by_residual(step):
        measure = lambda residual: jnp.sum(step(gram, model._replace(residual=residual)).increment)  # noqa: E731
        return jax.grad(measure)(model.residual)

    with jax.enable_x64(True):
        rng = np.random.default_rng(contour)
        model, gram, sizes = _perspective_model(rng, points, 9)
        field, forces = jnp.asarray(rng.normal(size=(2, 1, points, 3)))

        np.testing.assert_allclose(elimination.dense_coupling(blocks(gram), 1), gram)
        np.testing.assert_allclose(elimination.apply_coupling(blocks(gram), forces)[0], gram @ forces[0], atol=1e-9)
        for found, exact in zip(conjugate(gram, model), direct(gram, model)):
            np.testing.assert_allclose(found, exact, atol=1e-8)
        for found, exact in zip(slopes(conjugate), slopes(direct)):
            np.testing.assert_allclose(found, exact, atol=1e-6 * np.abs(exact).max())
        np.testing.assert_allclose(slope_by_residual(conjugate), slope_by_residual(direct), atol=1e-8)


def test_several_photos_are_solved_directly_whatever_their_number():
    """The distant camera's preconditioner knows one direction of sight."""
    assert not steps.is_direct(1, 478)
    assert steps.is_direct(1, 104)
    assert steps.is_direct(4, 478)
