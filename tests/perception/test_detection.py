"""Whole photographs: laws of motion, several faces, none, small ones; the chain of networks against its referee."""

import zipfile

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.head.markup import ARKIT_EXPRESSIONS, LEFT_EYE_OUTER, NOSE_TIP, RIGHT_EYE_OUTER
from digitaltwin.perception import _detection as detection
from digitaltwin.perception import _face_mesh as face_mesh
from digitaltwin.perception import _task_file as networks
from digitaltwin.perception import detect_landmarks
from digitaltwin.perception._detection import read_face
from digitaltwin.perception._face_mesh import EXPRESSION_POINTS, NETWORK_EXPRESSIONS, read_expression, region_of_mesh
from digitaltwin.perception._landmarks import landmarks_from_mesh
from digitaltwin.perception._region import image_from_region, make_pyramid, sample_region
from digitaltwin.types import InputError


@pytest.fixture(scope="module", params=["astronaut", "hopper"])
def photo(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def face(photo):
    return detect_landmarks(photo)


def deviation(points, expected, face):
    """Root mean square distance over the width of the face."""
    distance = np.linalg.norm(np.asarray(points)[:, :2] - np.asarray(expected)[:, :2], axis=1)
    return float(np.sqrt(np.mean(distance**2)) / (face.box[2] - face.box[0]))


def test_what_is_returned(face, photo):
    assert face.face_count == 1
    assert face.confidence > 0.99
    # Both have their own bias removed, so that they agree but nearly.
    between = np.linalg.norm(face.landmarks_px - landmarks_from_mesh(face.mesh_px[:, :2]), axis=1)
    assert between[17:].max() < 0.03 * float(face.box[3] - face.box[1])
    np.testing.assert_allclose(face.box[:2], face.mesh_px[:, :2].min(axis=0))
    assert np.all((face.scores >= 0) & (face.scores <= 1))
    assert face.scores[ARKIT_EXPRESSIONS.index("tongueOut")] == 0
    # Depth grows away from the camera: the nose is in front of the eyes.
    assert face.mesh_px[4, 2] < face.mesh_px[[33, 263], 2].min()
    # The subject's right eye lies to the left in the image, above the nose.
    right, left, nose = face.landmarks_px[np.array([RIGHT_EYE_OUTER, LEFT_EYE_OUTER, NOSE_TIP])]
    assert right[0] < nose[0] < left[0]
    assert nose[1] > max(right[1], left[1])


def test_pupils_are_where_they_are(astronaut):
    # The middle of the dark pixels, read off the enlarged photograph by eye; an iris is 7 px wide.
    pupils = [[203.5, 101.0], [246.7, 102.8]]
    np.testing.assert_allclose(detect_landmarks(astronaut).mesh_px[np.array([468, 473]), :2], pupils, atol=1.0)


def test_expressions_are_the_photos(astronaut, hopper):
    smile = [ARKIT_EXPRESSIONS.index(name) for name in ("mouthSmileLeft", "mouthSmileRight")]
    assert detect_landmarks(astronaut).scores[np.array(smile)].min() > 0.7
    assert detect_landmarks(hopper).scores[np.array(smile)].max() < 0.3


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_a_closed_eye_is_the_subjects_own(side, perception, astronaut):
    points = np.array(detect_landmarks(astronaut).mesh_px)
    upper, lower = ((386, 385, 387, 384, 388), (374, 380, 373, 381, 390))
    if side == "Right":
        upper, lower = ((159, 158, 160, 157, 161), (145, 153, 144, 154, 163))
    points[list(upper)] = points[list(lower)]
    scores = jax.jit(read_expression)(perception.expressions, jnp.asarray(points))
    other = {"Left": "Right", "Right": "Left"}[side]
    closed, opened = (scores[ARKIT_EXPRESSIONS.index(f"eyeBlink{name}")] for name in (side, other))
    assert closed > opened + 0.2


def test_expression_does_not_depend_on_position_size_and_roll(perception, face):
    score = jax.jit(read_expression)
    scores = score(perception.expressions, face.mesh_px)
    cosine, sine = np.cos(2.0), np.sin(2.0)
    turned = np.array(face.mesh_px)
    turned[:, :2] = turned[:, :2] @ np.array([[cosine, sine], [-sine, cosine]]) * 1.7 + [300, -50]
    turned[:, 2] *= 1.7
    np.testing.assert_allclose(score(perception.expressions, jnp.asarray(turned)), scores, atol=1e-3)


def test_a_shifted_photo_gives_shifted_points(photo, face):
    shifted = detect_landmarks(np.pad(photo, ((21, 0), (37, 0), (0, 0)), mode="edge"))
    assert deviation(shifted.mesh_px - jnp.array([[37.0, 21.0, 0.0]]), face.mesh_px, face) < 0.008
    np.testing.assert_allclose(shifted.scores, face.scores, atol=0.15)


@pytest.mark.parametrize(
    "padding",
    [((0, 0), (100, 156)), ((30, 10), (0, 400)), ((256, 256), (256, 256))],
    ids=["sideways is surer", "upright is unsure", "upright is not seen"],  # to the detector, of the astronaut
)
def test_the_frame_does_not_matter(padding, astronaut):
    face, framed = detect_landmarks(astronaut), np.pad(astronaut, (*padding, (0, 0)), mode="edge")
    found = detect_landmarks(framed)
    assert found.face_count == 1
    offset = jnp.array([[padding[1][0], padding[0][0], 0.0]])
    assert deviation(found.mesh_px - offset, face.mesh_px, face) < 0.005


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_photo_gives_turned_points(turns, photo, face):
    turned = detect_landmarks(np.ascontiguousarray(np.rot90(photo, turns)))
    expected, (height, width) = np.asarray(face.mesh_px), photo.shape[:2]
    for _ in range(turns):
        expected = np.stack([expected[:, 1], width - expected[:, 0], expected[:, 2]], axis=1)
        height, width = width, height
    np.testing.assert_allclose(turned.mesh_px, expected, atol=2e-3)
    np.testing.assert_allclose(turned.scores, face.scores, atol=1e-4)


@pytest.mark.parametrize("angle", [-150, -70, -30, 45, 120])
def test_a_rolled_photo_gives_rolled_points(angle, photo, face):
    height, width = photo.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, 1)
    rolled = cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    expected = (np.asarray(face.mesh_px)[:, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    assert deviation(detect_landmarks(rolled).mesh_px, expected, face) < 0.012


@pytest.mark.parametrize("scale", [0.7, 3])
def test_a_scaled_photo_gives_scaled_points(scale, photo, face):
    height, width = (round(scale * side) for side in photo.shape[:2])
    scaled = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    ratio = np.array([width / photo.shape[1], height / photo.shape[0]])
    points = np.asarray(detect_landmarks(scaled).mesh_px)[:, :2] / ratio
    assert deviation(points, face.mesh_px, face) < 0.012


def mirrored_back(photo, task_file):
    """Points of the mirrored photo's face, where its mirror image puts them."""
    with zipfile.ZipFile(task_file) as task:
        canonical, _ = networks.read_canonical_face(task.read(networks.CANONICAL_FACE))
    partner = np.linalg.norm(canonical[:, None] * [-1, 1, 1] - canonical[None], axis=2).argmin(axis=1)
    points = np.asarray(detect_landmarks(np.ascontiguousarray(photo[:, ::-1])).mesh_px)[partner]
    return points * [-1, 1, 1] + [photo.shape[1], 0, 0]


def test_a_mirrored_photo_gives_mirrored_points(photo, face, task_file):
    assert deviation(mirrored_back(photo, task_file), face.mesh_px[:468], face) < 0.01


def test_pixels_are_counted_from_their_corners(astronaut, hopper, task_file):
    # Were they counted from their centres somewhere, mirrored points would be off by a pixel of the network's input,
    # on every photo to the same side. The network's own asymmetry, up to half a pixel, differs in side: 0.5 and -0.3.
    offsets = []
    for photo in (astronaut, hopper):
        points = detect_landmarks(photo).mesh_px
        difference = mirrored_back(photo, task_file)[:, 0] - points[:468, 0]
        offsets.append(np.mean(difference) / (region_of_mesh(points).side / face_mesh.INPUT_SIZE))
    assert abs(np.mean(offsets)) < 0.4


def test_the_chain_agrees_with_litert_on_an_independent_crop(photo, face, task_file):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    region = region_of_mesh(face.mesh_px)
    size = face_mesh.INPUT_SIZE
    corners = np.asarray(image_from_region(region, jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
    to_crop = cv2.getAffineTransform(corners, np.array([[0, 0], [size, 0], [0, size]], np.float32))
    to_crop[:, 2] += to_crop[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV counts from pixel centres
    crop = cv2.warpAffine(photo, to_crop, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    with zipfile.ZipFile(task_file) as task:
        models = [task.read(networks.GRAPHS[name]) for name in ("face_mesh", "expressions")]
    mesh, expressions = (interpreter_module.Interpreter(model_content=model) for model in models)

    def run(interpreter, x):
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    points = run(mesh, crop[None]).reshape(478, 3)
    again, scores = read_face(detection.load_perception(), jax.jit(make_pyramid)(jnp.asarray(photo)), region)
    assert deviation(image_from_region(region, jnp.asarray(points / size)), again.points, face) < 0.008
    theirs = dict(zip(NETWORK_EXPRESSIONS, run(expressions, points[None, EXPRESSION_POINTS, :2])))
    ours = dict(zip(ARKIT_EXPRESSIONS, np.asarray(scores)))
    assert max(abs(ours[name] - theirs[name]) for name in ours if name != "tongueOut") < 0.1


def test_of_two_faces_the_larger(astronaut, hopper):
    closer = cv2.resize(astronaut[40:240, 120:320], (320, 320))  # 147 px wide, the other 183
    both = np.zeros((600, 912, 3), np.float32)
    both[100:420, :320], both[:, 400:] = closer, hopper
    face = detect_landmarks(both)
    assert face.face_count == 2
    assert deviation(face.mesh_px - jnp.array([[400.0, 0.0, 0.0]]), detect_landmarks(hopper).mesh_px, face) < 0.012
    larger = np.zeros((800, 1312, 3), np.float32)
    larger[:, :800], larger[100:700, 800:] = cv2.resize(closer, (800, 800)), hopper
    face = detect_landmarks(larger)
    assert face.face_count == 2
    assert face.box[2] < 800


@pytest.mark.parametrize("small", ["astronaut", "hopper"])
def test_a_smaller_face_is_counted(small, photo, face, request):
    beside = cv2.resize(request.getfixturevalue(small), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    height, width = photo.shape[:2]
    both = np.zeros((height, width + beside.shape[1], 3), np.float32)
    both[:, :width], both[-len(beside) :, width:] = photo, beside
    found = detect_landmarks(both)
    assert found.face_count == 2
    assert deviation(found.mesh_px, face.mesh_px, face) < 0.01


def test_a_small_face_in_a_large_photo(astronaut):
    expected = detect_landmarks(astronaut)
    canvas = np.full((1800, 1300, 3), 0.5, np.float32)
    canvas[60:572, 700:1212] = astronaut
    found = detect_landmarks(canvas)
    assert found.face_count == 1
    assert deviation(found.mesh_px - jnp.array([[700.0, 60.0, 0.0]]), expected.mesh_px, expected) < 0.012


def test_no_face():
    with pytest.raises(InputError, match=r"no face found in 120 x 90 pixels; take a photo"):
        detect_landmarks(np.random.default_rng(0).uniform(size=(90, 120, 3)).astype(np.float32))


def test_a_face_too_small(astronaut):
    with pytest.raises(InputError, match=r"is 1\d\d px large and at least 500 px are needed; take a closer"):
        detect_landmarks(astronaut, min_face_px=500.0)


def test_vmap_over_photos_equals_a_loop(perception, astronaut, hopper):
    photos = [jnp.asarray(photo) for photo in (astronaut, hopper[:512])]
    regions = [region_of_mesh(detect_landmarks(photo).mesh_px) for photo in photos]
    batch = jax.tree.map(lambda *fields: jnp.stack(fields), *regions)

    pyramids = jax.jit(jax.vmap(make_pyramid))(jnp.stack(photos))
    # The stages are compiled inside; around the whole, a jit would compile the mesh network twice.
    mesh, scores = jax.vmap(read_face, (None, 0, 0))(perception, pyramids, batch)
    for i, (photo, region) in enumerate(zip(photos, regions)):
        one_mesh, one_scores = read_face(perception, jax.jit(make_pyramid)(photo), region)
        np.testing.assert_allclose(mesh.points[i], one_mesh.points, atol=2e-3)
        np.testing.assert_allclose(scores[i], one_scores, atol=1e-3)


def test_a_photo_of_another_size_compiles_nothing(astronaut, hopper):
    detect_landmarks(astronaut)
    counts = [function._cache_size() for function in COMPILED]
    for photo in (hopper, hopper[:500], np.pad(astronaut, ((0, 700), (0, 1500), (0, 0)))):
        detect_landmarks(photo)
    assert len(counts) == 3
    assert [function._cache_size() for function in COMPILED] == counts


COMPILED = [value for value in vars(detection).values() if hasattr(value, "_cache_size")]


def test_padding_shows_in_nothing(perception, astronaut):
    """The pyramid that NumPy makes, padded for all photos, and JAX's own: the same samples, and so the same face."""
    region = region_of_mesh(detect_landmarks(astronaut).mesh_px)
    corner = region._replace(centre=jnp.array([500.0, 500.0]))  # its larger part lies outside the photo
    padded = make_pyramid(astronaut, min_length=detection._PYRAMID_LENGTH)
    compiled = jax.jit(make_pyramid)(jnp.asarray(astronaut))
    assert len(padded.pixels) > 4 * len(compiled.pixels)

    @jax.jit
    def samples(pyramid):
        return [
            sample_region(pyramid, square, 256, black_outside=black)
            for square in (region, corner)
            for black in (False, True)
        ]

    for with_padding, without in zip(samples(padded), samples(compiled)):
        np.testing.assert_allclose(with_padding, without, atol=1e-6)
    mesh, scores = read_face(perception, padded, region)
    expected, expected_scores = read_face(perception, compiled, region)
    np.testing.assert_allclose(mesh.points, expected.points, atol=1e-3)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
