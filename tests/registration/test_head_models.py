"""Other head models: files of ICT-FaceKit's and GNM's layout, written here from the shipped head, read and used."""

import json
import shutil
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.export import head_primitives
from digitaltwin.fitting import FitConfig, FitStatus, fit, make_fitter, predict_landmarks
from digitaltwin.geometry import Camera
from digitaltwin.geometry._topology import boundary_vertices
from digitaltwin.head import express, landmark_points, neutral_shape, parts_vertices
from digitaltwin.head.markup import ALIGNMENT, ARKIT_EXPRESSIONS, INTERIOR_PARTS, MOUTH
from digitaltwin.registration import LinearHeadModel, convert_head_model, load_gnm_head, load_ict_head
from digitaltwin.registration.head_models._convert import mirror_map, normal_compatible_points, orthonormal_identity
from digitaltwin.registration.head_models._ict_facekit import _IN_68, _OURS, IctLayout
from digitaltwin.texture import make_layout
from digitaltwin.types import InputError

MODES = 12
WHITE = 60  # vertices of an eyeball in these files


class Foreign(NamedTuple):
    """The shipped head with other vertices, another person its mean: what a file of another model holds [mm]."""

    rows: np.ndarray  # [a 3] shipped vertices, skin and parts, at whose middle or place each vertex lies
    mean: np.ndarray
    polygons: list[tuple[int, ...]]
    skin: int  # how many vertices come first that are skin
    modes: np.ndarray  # [i a 3] by one deviation each
    expressions: np.ndarray  # [e a 3]


@pytest.fixture(scope="module")
def foreign(head):
    """Every face cut into a quadrilateral and two triangles, the vertices shuffled, the person another."""
    rng = np.random.default_rng(0)
    faces, count = np.asarray(head.faces), len(head.mean)
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
    middles, number = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
    number = number.reshape(-1, 3) + count
    rows = np.concatenate([np.stack([np.arange(count)] * 2, axis=1), middles])
    order = rng.permutation(len(rows))
    place = np.argsort(order)
    polygons = []
    for (a, b, c), (ab, bc, ca) in zip(place[faces], place[number]):
        polygons += [(a, ab, bc, ca), (ab, b, bc), (ca, bc, c)]
    rows = rows[order]
    eyes = []
    part = np.asarray(head.parts_face_part)
    for name in ("left_eye", "right_eye"):
        ball = np.unique(np.asarray(head.parts_faces)[part == head.part_names.index(name)])
        eyes.append(rng.choice(ball, WHITE, replace=False) + count)
    rows = np.concatenate([rows, *(np.stack([eye, eye], axis=1) for eye in eyes)])

    def of(skin, parts):
        both = np.concatenate([skin, parts], axis=-2).astype(np.float64)
        return both[..., rows, :].mean(axis=-2)

    deviation = np.asarray(head.identity_std)
    person = jnp.asarray(rng.normal(size=len(deviation)) * deviation, jnp.float32)
    neutral = neutral_shape(head, person)
    parts = parts_vertices(head, neutral, jnp.zeros(len(ARKIT_EXPRESSIONS)))
    bases = of(np.asarray(head.identity[:MODES]), np.asarray(head.parts_identity[:MODES]))
    # Published modes need not be orthogonal: mix them.
    mix = np.linalg.qr(rng.normal(size=(MODES, MODES)))[0] * deviation[:MODES]
    return Foreign(
        rows,
        of(np.asarray(neutral), np.asarray(parts)),
        polygons,
        len(order),
        np.einsum("ij,jax->iax", mix, bases),
        of(np.asarray(head.expressions), np.asarray(head.parts_expressions)),
    )


def true_landmarks(head, foreign):
    """The shipped landmarks on the foreign mean, whose shipped vertices are among its own [mm]."""
    own = np.flatnonzero(foreign.rows[: foreign.skin, 0] == foreign.rows[: foreign.skin, 1])
    shipped = np.zeros((len(head.mean), 3))
    shipped[foreign.rows[own, 0]] = foreign.mean[own]
    return np.asarray(landmark_points(head, jnp.asarray(shipped, jnp.float32)), np.float64)


def write_obj(path, vertices, polygons=()):
    lines = ["mtllib material.mtl", *("v {:.9f} {:.9f} {:.9f}".format(*vertex) for vertex in vertices)]
    lines += ["vt 0.5 0.5", *("f " + " ".join(f"{index + 1}/1" for index in polygon) for polygon in polygons)]
    path.write_text("\n".join(lines) + "\n")


ICT_SPLIT = ("browInnerUp", "cheekPuff")


@pytest.fixture(scope="module")
def ict(head, foreign, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ict") / "FaceXModel"
    folder.mkdir()
    shift = np.array([0.0, 3.0, 40.0])
    write_obj(folder / "generic_neutral_mesh.obj", (foreign.mean + shift) / 10.0, foreign.polygons)
    for number, mode in enumerate(foreign.modes):
        write_obj(folder / f"identity{number:03d}.obj", (foreign.mean + mode + shift) / 10.0)
    names = []
    left = foreign.mean[:, :1] > 0.0
    for name, moved in zip(ARKIT_EXPRESSIONS, foreign.expressions):
        halves = {name.replace("Left", "_L").replace("Right", "_R") if name[-4:] in ("Left", "ight") else name: moved}
        if name in ICT_SPLIT:
            halves = {f"{name}_L": left * moved, f"{name}_R": ~left * moved}
        if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            halves = {name: moved}
        if name == "tongueOut":
            halves = {"PupilDilate_L": 0.0 * moved}
        for file, half in halves.items():
            write_obj(folder / f"{file}.obj", (foreign.mean + half + shift) / 10.0)
        names += halves
    marks = np.zeros(68, int)
    points = true_landmarks(head, foreign)[list(_OURS)]
    marks[list(_IN_68)] = np.linalg.norm(foreign.mean[: foreign.skin, None] - points, axis=2).argmin(axis=0)
    content = {"expressions": names, "idx_to_landmark_verts": marks.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(content))
    s, count = foreign.skin, len(foreign.mean)
    return folder, IctLayout(count, (0, s), (s, s + WHITE), (s + WHITE, s + 2 * WHITE))


@pytest.fixture(scope="module")
def ict_head(ict):
    folder, layout = ict
    return load_ict_head(folder.parent, layout=layout)


@pytest.fixture(scope="module")
def gnm(head, foreign, tmp_path_factory):
    triangles = [(p[0], *pair) for p in foreign.polygons for pair in zip(p[1:], p[2:])]
    count, s = len(foreign.mean), foreign.skin
    whites = [np.arange(s, s + WHITE), np.arange(s + WHITE, s + 2 * WHITE)]
    centre = np.stack([foreign.mean[:s].mean(axis=0)] * 2 + [foreign.mean[white].mean(axis=0) for white in whites])
    moved = np.stack([foreign.modes[:, white].mean(axis=1) for white in whites], axis=1)
    groups = np.zeros((3, count), np.float32)
    groups[0, :s] = 1.0
    groups[1, whites[0]] = groups[2, whites[1]] = 1.0
    arrays = {
        "template_vertex_positions": foreign.mean / 1000.0,
        "vertex_identity_basis": foreign.modes / 1000.0,
        "expression_basis": foreign.expressions[:3] / 1000.0,
        "expression_names": np.array(["left_eye_region_000", "right_eye_region_000", "lower_face_region_000"]),
        "triangles": np.array(triangles, np.int32),
        "vertex_groups": groups,
        "vertex_group_names": np.array(["skin", "left_eye", "right_eye"]),
        "template_joint_positions": centre / 1000.0,
        "joint_identity_basis": np.concatenate([0.0 * moved, moved], axis=1) / 1000.0,
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
    }
    return tmp_path_factory.mktemp("gnm") / "gnm_head.npz", arrays


@pytest.fixture(scope="module")
def gnm_head(head, foreign, gnm):
    path, arrays = gnm
    np.savez(path, **arrays)
    return load_gnm_head(path, landmarks=true_landmarks(head, foreign)[ALIGNMENT] / 1000.0)


@pytest.fixture(params=["ict_head", "gnm_head"])
def adopted(request):
    return request.getfixturevalue(request.param)


def moved_back(adopted, foreign):
    """The adopted mean's vertices of the foreign skin, and how the frames differ: rotation and shift [mm]."""
    own, theirs = np.asarray(adopted.mean, np.float64), foreign.mean[: foreign.skin]
    u, _, vt = np.linalg.svd((own - own.mean(axis=0)).T @ (theirs - theirs.mean(axis=0)))
    turn = u @ vt
    return turn, own.mean(axis=0) - turn @ theirs.mean(axis=0)


def test_mean_is_the_same_shape_in_the_head_frame(adopted, foreign):
    turn, shift = moved_back(adopted, foreign)
    np.testing.assert_allclose(foreign.mean[: foreign.skin] @ turn.T + shift, adopted.mean, atol=1e-3)
    assert np.rad2deg(np.arccos((np.trace(turn) - 1.0) / 2.0)) < 3.0


def test_landmarks_lie_where_the_shipped_ones_do(head, adopted, foreign):
    turn, shift = moved_back(adopted, foreign)
    found = np.asarray(landmark_points(adopted, adopted.mean))
    away = np.linalg.norm(found - (true_landmarks(head, foreign) @ turn.T + shift), axis=1)
    assert np.median(away) < 0.5
    assert away.max() < 1.5


def test_identity_spans_the_same_people_as_likely(adopted, foreign):
    turn, _ = moved_back(adopted, foreign)
    modes = (foreign.modes[:, : foreign.skin] @ turn.T).reshape(MODES, -1)
    basis = np.asarray(adopted.identity, np.float64).reshape(len(adopted.identity), -1)
    coefficients = modes @ basis.T
    np.testing.assert_allclose(coefficients @ basis, modes, atol=2e-3)
    covariance = coefficients.T @ coefficients
    variance = np.asarray(adopted.identity_std, np.float64) ** 2
    np.testing.assert_allclose(covariance, np.diag(variance), atol=1e-3 * variance.max())


def test_expressions_by_name(ict_head, foreign):
    turn, _ = moved_back(ict_head, foreign)
    assert ict_head.expression_names == ARKIT_EXPRESSIONS
    assert ict_head.other_expression_names == ("PupilDilate_L",)
    wanted = foreign.expressions[:, : foreign.skin] @ turn.T
    here = np.asarray(ict_head.expressions)
    np.testing.assert_allclose(here[:-1], wanted[:-1], atol=2e-3)
    assert ARKIT_EXPRESSIONS[-1] == "tongueOut"  # lent by the shipped head
    np.testing.assert_allclose(here[-1], wanted[-1], atol=0.5)


def test_lent_expressions_are_those_of_the_shipped_head(gnm_head, foreign):
    turn, _ = moved_back(gnm_head, foreign)
    off = np.linalg.norm(np.asarray(gnm_head.expressions) - foreign.expressions[:, : foreign.skin] @ turn.T, axis=2)
    # Of 39 mm that the jaw moves; had a lip taken after the other one, tens of millimetres would be off.
    assert np.quantile(off, 0.999) < 0.7
    assert off.max() < 3.0
    assert gnm_head.other_expression_names[2] == "lower_face_region_000"
    own = np.asarray(gnm_head.other_expressions)
    np.testing.assert_allclose(own, foreign.expressions[:3, : foreign.skin] @ turn.T, atol=1e-3)


def part_vertices(head, name):
    return np.unique(np.asarray(head.parts_faces)[np.asarray(head.parts_face_part) == head.part_names.index(name)])


def test_eyes_sit_where_the_model_has_them_and_move_as_it_says(adopted, foreign):
    turn, shift = moved_back(adopted, foreign)
    basis = np.asarray(adopted.identity, np.float64).reshape(len(adopted.identity), -1)
    coefficients = (foreign.modes[:, : foreign.skin] @ turn.T).reshape(MODES, -1) @ basis.T
    for number, name in enumerate(("left_eye", "right_eye")):
        ball, start = part_vertices(adopted, name), foreign.skin + number * WHITE
        white = foreign.mean[start : start + WHITE] @ turn.T + shift
        middle = np.asarray(adopted.parts_mean)[ball].mean(axis=0)
        radius = np.linalg.norm(white - middle, axis=1)
        np.testing.assert_allclose(radius, radius.mean(), atol=2.0)
        moved = np.einsum("mj,jpx->mpx", coefficients, np.asarray(adopted.parts_identity)[:, ball]).mean(axis=1)
        wanted = foreign.modes[:, start : start + WHITE].mean(axis=1) @ turn.T
        np.testing.assert_allclose(moved, wanted, atol=1e-2)


@pytest.mark.parametrize("name", ["upper_teeth", "lower_teeth", "tongue", "mouth_sock"])
def test_parts_lie_as_the_registration_takes_them(head, adopted, foreign, name):
    members = part_vertices(head, name)
    away = np.asarray(adopted.parts_mean)[members].mean(axis=0) - np.asarray(head.parts_mean)[members].mean(axis=0)
    lips = np.asarray(landmark_points(adopted, adopted.mean) - landmark_points(head, head.mean))[MOUTH].mean(axis=0)
    assert np.linalg.norm(away - lips) < 6.0  # people's heads differ by more


def test_the_interior_hangs_on_the_skin_in_every_expression(ict_head):
    weights, follow = np.asarray(ict_head.parts_follow_weights), np.asarray(ict_head.parts_follow_vertices)
    border = boundary_vertices(np.asarray(ict_head.faces), len(ict_head.mean))
    rim = np.flatnonzero((weights.max(axis=1) > 0.999) & border[follow[:, 0]])
    assert len(rim) > 60
    skin = express(ict_head, ict_head.mean, jnp.full(52, 0.1))
    parts = parts_vertices(ict_head, ict_head.mean, jnp.full(52, 0.1))
    np.testing.assert_allclose(np.asarray(parts)[rim], np.asarray(skin)[follow[rim, 0]], atol=1e-2)


def test_regions_and_mirror(head, adopted):
    for name, mask in adopted.regions._asdict().items():
        share, shipped = np.mean(np.asarray(mask)), np.mean(np.asarray(getattr(head.regions, name)))
        assert abs(share - shipped) < 0.02
    mirror, left = np.asarray(adopted.mirror), np.asarray(adopted.mean)[:, 0]
    assert np.mean(mirror == np.arange(len(mirror))) < 0.03  # of the middle
    aside = np.abs(left) > 15.0
    assert np.mean(np.sign(left[aside]) == -np.sign(left[mirror[aside]])) > 0.995


def atlas_area(head):
    """Share of the texture that skin and interior take."""
    interior = np.isin(np.asarray(head.parts_face_part), [head.part_names.index(name) for name in INTERIOR_PARTS])
    pieces = ((head.uv, head.uv_faces), (head.parts_uv, np.asarray(head.parts_uv_faces)[interior]))
    sides = [np.asarray(uv, np.float64)[np.asarray(faces)] for uv, faces in pieces]
    return sum(0.5 * np.abs(np.linalg.det(side[:, 1:] - side[:, :1])).sum() for side in sides)


def test_texture_is_laid_out_as_the_shipped_atlas(head, ict_head):
    layout = make_layout(ict_head, size=512)
    assert np.mean(np.asarray(layout.covered)) == pytest.approx(atlas_area(head), abs=0.005)
    assert atlas_area(ict_head) == pytest.approx(atlas_area(head), abs=0.01)  # nothing lies over something else
    corners = np.asarray(ict_head.uv)[np.asarray(ict_head.uv_faces)]
    assert np.ptp(corners, axis=1).max() < 0.15  # no face stretches over a seam
    face = np.asarray(ict_head.regions.face)[np.asarray(ict_head.faces)].all(axis=1)
    assert np.mean(face[np.asarray(layout.face)[np.asarray(layout.oval_mm) > 0.0]]) > 0.7  # the forehead is further off


@pytest.mark.slow
def test_a_head_is_fitted_and_exported(ict_head):
    rng = np.random.default_rng(3)
    fitter = make_fitter(ict_head, FitConfig())
    truth = 0.7 * rng.normal(size=len(ict_head.identity_std)) * np.asarray(ict_head.identity_std)
    neutral = neutral_shape(ict_head, jnp.asarray(truth, jnp.float32))
    expression = jnp.zeros(52).at[ARKIT_EXPRESSIONS.index("jawOpen")].set(0.3)
    turn = Rotation.from_euler("yx", [10.0, -5.0], degrees=True).as_matrix()
    camera = Camera(jnp.float32(turn), jnp.array([10.0, -5.0, 550.0]), jnp.float32(700.0), jnp.array([320.0, 240.0]))
    landmarks = predict_landmarks(fitter, camera, neutral, expression)
    result = fit(fitter, ict_head.mean, landmarks, jnp.array([480, 640]), focal_px=700.0)
    assert result.status == FitStatus.OK
    found = predict_landmarks(fitter, result.camera, result.neutral, result.expression, near=landmarks)
    assert float(jnp.linalg.norm(found - landmarks, axis=1).mean()) < 1.5
    before, after = (
        np.linalg.norm(np.asarray(shape - neutral), axis=1)[np.asarray(ict_head.regions.face)].mean()
        for shape in (ict_head.mean, result.neutral)
    )
    assert after < before
    parts = parts_vertices(ict_head, result.neutral, jnp.zeros(52))
    texture = np.full((8, 8, 3), 0.5, np.float32)
    pieces = head_primitives(ict_head, result.neutral, parts, texture=texture, eye_texture=texture)
    assert [len(piece.displacements) for piece in pieces] == [52] * 4


def test_a_person_of_no_kind_the_shipped_head_knows(head, foreign):
    """Bumps of 5 mm that its identities cannot make, another frame, no expressions."""
    rng = np.random.default_rng(7)
    waves, phases, heights = rng.normal(size=(60, 3)) / 30.0, rng.uniform(0.0, 6.28, 60), rng.normal(size=(60, 3)) * 0.5
    bumpy = foreign._replace(mean=foreign.mean + np.cos(foreign.mean @ waves.T + phases) @ heights)
    turn = Rotation.from_euler("xyz", [25.0, 40.0, -10.0], degrees=True).as_matrix()
    truth = true_landmarks(head, bumpy)
    known = np.full(truth.shape, np.nan)
    known[list(_OURS)] = truth[list(_OURS)]
    s = foreign.skin
    whites = [np.arange(s, s + WHITE), np.arange(s + WHITE, s + 2 * WHITE)]
    other = LinearHeadModel(
        name="bumpy",
        vertices=bumpy.mean[:s] @ turn.T,
        faces=np.array([(p[0], *pair) for p in foreign.polygons for pair in zip(p[1:], p[2:])]),
        identity=foreign.modes[:, :s] @ turn.T,
        expressions={},
        eyes=np.stack([bumpy.mean[white].mean(axis=0) for white in whites]) @ turn.T,
        eye_identity=np.stack([foreign.modes[:, white].mean(axis=1) for white in whites], axis=1) @ turn.T,
        landmarks=known @ turn.T,
    )
    adopted = convert_head_model(other)
    back, shift = moved_back(adopted, bumpy)
    found = np.asarray(landmark_points(adopted, adopted.mean))
    away = np.linalg.norm(found - (truth @ back.T + shift), axis=1)
    assert np.median(away) < 0.8
    assert away[17:].max() < 4.5  # what slides is the jaw's outline, which has no mark
    assert adopted.other_expressions.shape == (0, s, 3)


def test_orthonormal_identity_keeps_the_covariance():
    modes = np.random.default_rng(0).normal(size=(4, 5, 3)) * np.array([5.0, 1.0, 0.1, 0.0])[:, None, None]
    basis, deviation, change = orthonormal_identity(modes)
    flat, rows = modes.reshape(4, -1), basis.reshape(3, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(rows.T @ np.diag(deviation**2) @ rows, flat.T @ flat, atol=1e-9)
    np.testing.assert_allclose(np.einsum("ji,ivx->jvx", change, modes), basis, atol=1e-9)


def test_the_mirror_map_of_any_points_is_an_involution():
    partner = mirror_map(np.random.default_rng(0).normal(size=(200, 3)) * 20.0)
    np.testing.assert_array_equal(partner[partner], np.arange(200))


def test_places_are_on_faces_that_look_the_same_way():
    """Two parallel squares, a millimetre apart, face one another like closed lips."""
    square = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    vertices = np.concatenate([square, square + [0.0, 0.0, 1.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6]])
    places = normal_compatible_points(
        np.array([[2.0, 1.0, 0.9]] * 2), np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), vertices, faces
    )
    np.testing.assert_allclose(np.einsum("nc,ncx->nx", places.barycentric, vertices[faces[places.faces]])[:, 2], [0, 1])


def copied(folder, target):
    shutil.copytree(folder, target)
    return target


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("jawOpen.obj", None, r"jawOpen\.obj: cannot be read"),
        ("identity003.obj", None, r"identity003\.obj: is missing"),
        ("identity001.obj", "v 1 2 3\n", r"identity001\.obj: has 1 vertices, not"),
        ("eyeBlink_L.obj", "v 1 2\n", r"eyeBlink_L\.obj: has 1 vertices"),
        ("eyeBlink_R.obj", "v one 2 3\n", r"eyeBlink_R\.obj: its vertices are not three numbers"),
        ("generic_neutral_mesh.obj", "nan", r"generic_neutral_mesh\.obj: its vertices are not all finite"),
        ("vertex_indices.json", "{}", r"vertex_indices\.json: lists no expressions"),
        ("vertex_indices.json", '{"expressions": [], "idx_to_landmark_verts": [1]}', r"not 68 vertices"),
        ("vertex_indices.json", None, r"vertex_indices\.json: cannot be read"),
    ],
)
def test_what_is_no_ict_folder(ict, tmp_path, file, content, problem):
    folder = copied(ict[0], tmp_path / "FaceXModel")
    if content is None:
        (folder / file).unlink()
    elif content == "nan":
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(text.splitlines()[1], "v nan 0 0", 1))
    else:
        (folder / file).write_text(content)
    with pytest.raises(InputError, match=problem):
        load_ict_head(folder, layout=ict[1])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="FaceXModel of ICT-FaceKit"):
        load_ict_head(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("triangles", None, "lacks triangles"),
        ("triangles", np.array([[0, 1, 10**6]]), "triangles name vertices outside"),
        ("vertex_identity_basis", np.zeros((2, 5, 3)), "vertex_identity_basis has shape"),
        ("expression_basis", np.nan, "expression_basis is not all finite"),
        ("vertex_group_names", np.array(["hair", "a", "b"]), "has no vertex group skin"),
        ("joint_names", np.array(["neck", "head", "eye", "other"]), "has no joint left_eye"),
        ("expression_names", np.array([{}, {}, {}], object), "not a whole .npz of plain arrays"),
    ],
)
def test_what_is_no_gnm_file(gnm, tmp_path, name, value, problem):
    arrays = dict(gnm[1])
    if value is None:
        del arrays[name]
    else:
        arrays[name] = arrays[name] * value if np.ndim(value) == 0 else value
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    with pytest.raises(InputError, match=problem):
        load_gnm_head(tmp_path / "gnm_head.npz", landmarks=np.zeros((7, 3)))


def test_a_gnm_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_gnm_head(tmp_path / "gnm_head.npz")
    (tmp_path / "gnm_head.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="not a whole"):
        load_gnm_head(tmp_path / "gnm_head.npz")


def test_another_unit_and_exchanged_eyes_are_refused(gnm, head, foreign, tmp_path):
    marks = true_landmarks(head, foreign)[ALIGNMENT]
    arrays = {**gnm[1], "template_vertex_positions": foreign.mean}
    np.savez(tmp_path / "millimetres.npz", **arrays)
    with pytest.raises(InputError, match="unit"):
        load_gnm_head(tmp_path / "millimetres.npz", landmarks=marks)
    arrays = {**gnm[1], "joint_names": np.array(["neck", "head", "right_eye", "left_eye"])}
    np.savez(tmp_path / "exchanged.npz", **arrays)
    with pytest.raises(InputError, match="left eye"):
        load_gnm_head(tmp_path / "exchanged.npz", landmarks=marks / 1000.0)
