import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitConfig, FitStatus, fit, fit_groups, make_fitter, predict_landmarks
from digitaltwin.fitting._fit import fit_photo
from digitaltwin.fitting._residuals import outer_eye_distance_px, relative_rms
from digitaltwin.geometry import Camera, project
from digitaltwin.head import landmark_points
from digitaltwin.types import InputError

SIZE = (480, 640)
TRUE_FOCAL = 700.0
ROTATION = Rotation.from_euler("yxz", [12.0, -6.0, 4.0], degrees=True).as_matrix()
CAMERA = Camera(
    jnp.float32(ROTATION), jnp.array([15.0, -10.0, 500.0]), jnp.float32(TRUE_FOCAL), jnp.array([320.0, 240.0])
)


@pytest.fixture(scope="module")
def fitter(head):
    return make_fitter(head, FitConfig())


@pytest.fixture(scope="module")
def person(head, fitter):
    """A neutral shape that is not the mean, an expression, and the landmarks a perfect detector would read."""
    rng = np.random.default_rng(0)
    coefficients = 0.5 * rng.normal(size=len(head.identity)) * np.asarray(head.identity_std)
    neutral = np.asarray(head.mean) + np.tensordot(coefficients, np.asarray(head.identity), 1)
    expression = np.zeros(52)
    for name, value in {"jawOpen": 0.4, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.5, "browInnerUp": 0.3}.items():
        expression[head.expression_names.index(name)] = value
    vertices = jnp.float32(neutral + np.tensordot(expression, np.asarray(head.expressions), 1))
    neutral, expression = jnp.float32(neutral), jnp.float32(expression)
    return neutral, expression, predict_landmarks(fitter, CAMERA, neutral, expression), vertices


@pytest.fixture(scope="module")
def batch(fitter):
    """Four photos at once, with every optional input an array: one compilation serves many tests."""

    @jax.jit
    def run(shapes, landmarks, sizes, scores, weights):
        def one(shape, points, size, score, weight):
            return fit(fitter, shape, points, size, scores=score, weights=weight)

        return jax.vmap(one)(shapes, landmarks, sizes, scores, weights)

    return run


def repeat(*parts):
    return [jnp.stack([part] * 4) for part in parts]


def item(result, index):
    return jax.tree.map(lambda part: np.asarray(part[index]), result)


def error_of(fitter, result, landmarks):
    camera, neutral, expression = jax.tree.map(jnp.asarray, (result.camera, result.neutral, result.expression))
    errors = jnp.linalg.norm(predict_landmarks(fitter, camera, neutral, expression, near=landmarks) - landmarks, axis=1)
    return float(relative_rms(errors, outer_eye_distance_px(landmarks)))


@pytest.fixture(scope="module")
def four(head, batch, person):
    """The truth's shape at two resolutions, the mean's, and one with landmarks missing."""
    neutral, expression, landmarks, _ = person
    shapes, points, sizes, scores, weights = repeat(neutral, landmarks, jnp.array(SIZE), expression, jnp.ones(104))
    points = points.at[1].multiply(3.0)
    sizes = sizes.at[1].multiply(3)
    shapes = shapes.at[2].set(head.mean)
    missing = jnp.arange(104) % 5 == 0
    weights = weights.at[3].set(jnp.where(missing, 0.0, 1.0))
    points = points.at[3].set(jnp.where(missing[:, None], jnp.nan, points[3]))
    return (shapes, points, sizes, scores, weights), batch(shapes, points, sizes, scores, weights)


def test_the_truth_explains_its_own_photo(fitter, four, person):
    result = item(four[1], 0)
    assert result.status == 0
    assert error_of(fitter, result, person[2]) < 2e-3
    assert Rotation.from_matrix(result.rotation @ ROTATION.T).magnitude() < np.deg2rad(1.0)
    # Focal length and distance trade off: their ratio is what the photo determines.
    magnification = float(result.focal_scale) * max(SIZE) / result.translation[2]
    assert magnification == pytest.approx(TRUE_FOCAL / 500.0, rel=0.01)
    assert np.abs(result.expression - person[1]).max() < 0.1
    assert np.linalg.norm(result.correction, axis=1).max() < 1.0


def test_resolution_does_not_matter(four):
    small, large = item(four[1], 0), item(four[1], 1)
    np.testing.assert_allclose(small.vertices, large.vertices, atol=0.02)
    np.testing.assert_allclose(small.energies, large.energies, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(small.focal_scale, large.focal_scale, atol=1e-3)


def test_an_unknown_face_is_fitted_through_the_identity_basis(head, fitter, four, person):
    result = item(four[1], 2)
    assert result.status == 0
    assert error_of(fitter, result, person[2]) < 0.01
    assert np.percentile(np.linalg.norm(result.correction, axis=1), 95) < 3.0
    before = project(CAMERA, landmark_points(head, head.mean))
    start = relative_rms(jnp.linalg.norm(before - person[2], axis=1), outer_eye_distance_px(person[2]))
    assert float(start) > 0.03, "the mean head alone does not explain this photo"


def test_missing_landmarks_may_be_nan_and_change_little(four):
    whole, part = item(four[1], 0), item(four[1], 3)
    assert part.status == 0
    assert np.isfinite(part.vertices).all()
    assert np.abs(whole.vertices - part.vertices).max() < 1.0


def test_result_parts_belong_together(head, four):
    for index in range(4):
        result = item(four[1], index)
        expressed = result.neutral + np.tensordot(result.expression, np.asarray(head.expressions), 1)
        np.testing.assert_allclose(result.vertices, expressed, atol=1e-3)
        identified = np.asarray(head.mean) + np.tensordot(result.identity, np.asarray(head.identity), 1)
        basis = np.asarray(head.identity).reshape(len(head.identity), -1)
        beyond = (result.neutral - result.correction - identified).ravel()
        np.testing.assert_allclose(basis @ beyond, 0.0, atol=0.02)
        np.testing.assert_allclose(result.camera.rotation, result.rotation)
        assert result.energies.shape == (FitConfig().iterations + 1,)
        # The contour slides between steps, so that energies of different steps are not quite of the same problem.
        assert result.energies[-1] < 0.5 * result.energies[0]
        assert (result.expression > -0.2).all()
        assert (result.expression < 1.2).all()


def test_a_bad_photo_leaves_the_others_bit_identical(batch, four):
    arguments, clean = four
    shapes, points, sizes, scores, weights = arguments
    line = jnp.stack([jnp.linspace(100.0, 300.0, 104), jnp.linspace(50.0, 90.0, 104)], axis=1)
    cases = {
        "a landmark that counts is NaN": (1, (shapes, points.at[1, 30, 0].set(jnp.nan), sizes, scores, weights)),
        "a score is infinite": (1, (shapes, points, sizes, scores.at[1, 3].set(jnp.inf), weights)),
        "the shape is NaN": (1, (shapes.at[1].set(jnp.nan), points, sizes, scores, weights)),
        "the image has no size": (1, (shapes, points, sizes.at[1].set(0), scores, weights)),
        "a weight is negative": (1, (shapes, points, sizes, scores, weights.at[1, 0].set(-1.0))),
        "three landmarks": (2, (shapes, points, sizes, scores, weights.at[1, 3:].set(0.0))),
        "all on one line": (2, (shapes, points.at[1].set(line), sizes, scores, weights)),
        "all in one point": (2, (shapes, points.at[1].set(100.0), sizes, scores, weights)),
        "a shape as large as the solar system": (4, (shapes.at[1].multiply(1e25), points, sizes, scores, weights)),
    }
    others = np.array([0, 2, 3])
    for what, (status, case) in cases.items():
        result = batch(*case)
        assert result.status[1] == status, what
        for part, expected in zip(jax.tree.leaves(result), jax.tree.leaves(clean)):
            assert np.isfinite(np.asarray(part)).all(), what
            assert np.array_equal(part[others], expected[others]), what


def test_nonsense_never_gives_nan(batch, four):
    shapes, _, sizes, scores, weights = four[0]
    rng = np.random.default_rng(1)
    points = jnp.float32(rng.uniform(0, 1, size=(4, 104, 2)) * np.array([640.0, 1e4, 3.0, 480.0])[:, None, None])
    for part in jax.tree.leaves(batch(shapes, points, sizes, scores, weights)):
        assert np.isfinite(np.asarray(part)).all()


def test_a_start_that_is_not_finite_is_reported(head, fitter, four, person):
    neutral, expression, landmarks, _ = person
    start = jax.tree.map(lambda part: part[0], four[1].unknowns)
    for name in ("coefficients", "translation", "multipliers"):
        broken = start._replace(**{name: getattr(start, name).at[0].set(jnp.nan)})
        result = fit(fitter, neutral, landmarks, SIZE, scores=expression, init=broken)
        assert result.status == FitStatus.NON_FINITE_INPUT
        assert all(np.isfinite(part).all() for part in jax.tree.leaves(result))


def test_landmarks_that_the_fitter_gives_no_weight_are_not_seen(head, person):
    """Neither their NaN nor their number counts, and their weights have a derivative."""
    neutral, expression, landmarks, _ = person
    blind = make_fitter(head, FitConfig(contour_weight=0.0))
    contour = jnp.arange(104) < 17
    hidden = jnp.where(contour[:, None], jnp.nan, landmarks)
    found = fit(blind, neutral, hidden, SIZE, scores=expression, weights=jnp.ones(104))
    whole = fit(blind, neutral, landmarks, SIZE, scores=expression, weights=jnp.ones(104))
    assert found.status == FitStatus.OK
    assert np.array_equal(found.vertices, whole.vertices)
    alone = fit(blind, neutral, landmarks, SIZE, scores=expression, weights=jnp.where(contour, 1.0, 0.0))
    assert alone.status == FitStatus.DEGENERATE

    def depth(weights):
        return fit(blind, neutral, landmarks, SIZE, scores=expression, weights=weights).translation[2]

    slope = jax.grad(depth)(jnp.ones(104))
    assert np.isfinite(slope).all()
    assert np.array_equal(slope[:17], np.zeros(17))


def test_a_head_behind_the_camera_is_reported(head, four, person):
    neutral, expression, landmarks, _ = person
    still = make_fitter(head, FitConfig(iterations=0))
    for sign, status in ((-1.0, 3), (1.0, 0)):
        start = jax.tree.map(lambda part: part[0], four[1].unknowns)
        start = start._replace(translation=sign * start.translation)
        assert fit(still, neutral, landmarks, SIZE, scores=expression, init=start).status == status


def test_a_known_focal_length_is_kept(fitter, head, person):
    neutral, expression, landmarks, _ = person
    options = {"scores": expression, "focal_px": TRUE_FOCAL, "principal_point_px": jnp.array([320.0, 240.0])}
    result = fit(fitter, neutral, landmarks, SIZE, **options)
    assert float(result.focal_scale) == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(result.translation, CAMERA.translation, atol=5.0)
    traces = fit_photo._cache_size()
    wrong = fit(fitter, neutral, landmarks, (960, 720), **{**options, "focal_px": 1.5 * TRUE_FOCAL})
    assert fit_photo._cache_size() == traces, "neither image size nor focal length compiles anew"
    assert float(wrong.focal_scale) == pytest.approx(1.0, abs=0.05), "what the caller says is believed"
    # A crop: the image starts at (100, 40) of the photo, the optical axis stays where it was in the scene.
    offset = jnp.array([100.0, 40.0])
    options["principal_point_px"] = options["principal_point_px"] - offset
    crop = fit(fitter, neutral, landmarks - offset[None], (300, 300), **options)
    np.testing.assert_allclose(crop.vertices, result.vertices, atol=0.02)
    assert fit_photo._cache_size() == traces


@pytest.fixture(scope="module")
def groups(head, fitter):
    """The mean of each group, its landmarks without and with noise of 1 % of the eye distance, and their fits."""
    shapes = head.mean[None] + jnp.einsum("gi,ivx->gvx", head.group_identity, head.identity)
    clean = jax.vmap(lambda shape: predict_landmarks(fitter, CAMERA, shape, jnp.zeros(52)))(shapes)
    eyes = jax.vmap(outer_eye_distance_px)(clean)[:, None, None]
    noise = np.random.default_rng(0).normal(size=(4, *clean.shape))
    noisy = clean[None] + 0.01 * eyes[None] * jnp.float32(noise)
    landmarks = jnp.concatenate([clean[None], noisy]).reshape(-1, *clean.shape[1:])
    fits = jax.jit(jax.vmap(lambda points: fit_groups(fitter, points, SIZE)))(landmarks)
    return shapes, landmarks, fits


def test_the_best_group_wins(head, groups):
    shapes, _, fits = groups
    face = np.asarray(head.regions.face)
    for group in range(len(head.group_names)):
        best = item(fits, group)
        assert best.energies.shape == (len(head.group_names),)
        assert best.group == np.argmin(best.energies) == group
        assert best.result.energies[-1] == best.energies[group]
        error = np.linalg.norm(best.result.neutral - shapes[group], axis=1)
        assert error[face].mean() < 0.5


def test_size_is_the_priors_whatever_the_noise(head, fitter, groups):
    """Heads of all groups keep their size when their landmarks are disturbed."""
    shapes, landmarks, fits = groups
    face = np.asarray(head.regions.face)

    def size(vertices):
        return np.sqrt(np.var(vertices[face], axis=0).sum())

    errors = []
    for index in range(len(shapes), len(landmarks)):
        best = item(fits, index)
        result, unknowns = best.result, best.result.unknowns
        gauge = np.linalg.norm(result.translation) / np.linalg.norm(unknowns.translation)
        relative = size(result.neutral) / size(np.asarray(shapes[best.group])) - 1.0
        errors.append(relative)
        # The projections are those of the solver's own unknowns, and so is the energy of Eq. 1 and all else it reports.
        solved = result.camera._replace(translation=unknowns.translation)
        vertices = landmark_points(head, jnp.asarray(result.vertices))
        seen = project(jax.tree.map(jnp.asarray, result.camera), vertices)
        before = project(jax.tree.map(jnp.asarray, solved), vertices / gauge)
        np.testing.assert_allclose(seen, before, atol=2e-3)
        np.testing.assert_allclose(result.expression, gauge * unknowns.coefficients[:52], rtol=1e-5, atol=1e-7)
    assert abs(np.mean(errors)) < 2e-3
    assert np.std(errors) < 5e-3


def test_static_mistakes_are_named(fitter, head):
    landmarks = jnp.zeros((104, 2))
    with pytest.raises(InputError, match=r"landmarks has shape \(68, 2\); the fit needs \(104, 2\)"):
        fit(fitter, head.mean, jnp.zeros((68, 2)), SIZE)
    with pytest.raises(InputError, match="shape has shape"):
        fit(fitter, head.mean[:100], landmarks, SIZE)
    with pytest.raises(InputError, match="scores has shape"):
        fit(fitter, head.mean, landmarks, SIZE, scores=jnp.zeros(53))
    other = make_fitter(head, FitConfig(fit_identity=False))
    start = fit(other, head.mean, landmarks, SIZE).unknowns
    with pytest.raises(InputError, match=r"init.coefficients has shape \(52,\)"):
        fit(fitter, head.mean, landmarks, SIZE, init=start)


@pytest.mark.parametrize(
    "wrong",
    [{"correction_weight": 0.0}, {"correction_length_mm": np.nan}, {"contour_weight": -1.0}, {"iterations": -1}],
)
def test_weights_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=f"FitConfig: {next(iter(wrong))} is"):
        FitConfig(**wrong)


def test_the_fitter_is_a_pytree(fitter):
    leaves, structure = jax.tree.flatten(fitter)
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in leaves)
    assert structure.unflatten(leaves).config == FitConfig()
