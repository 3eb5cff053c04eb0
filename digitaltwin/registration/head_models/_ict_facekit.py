"""Head models of other people, from the files their authors publish: ICT-FaceKit (MIT) and GNM Head v3 (Apache-2.0).

None of them ships here. A user's own copy is read, and :mod:`digitaltwin.registration.head_models._convert` makes a
:class:`~digitaltwin.head.HeadModel` of it. What their files hold is told in the loaders; a file that holds something
else is refused.

Letters: a all vertices of a file, v those of its skin, f faces of the skin, i identity modes.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from digitaltwin.head import HeadModel, load_head
from digitaltwin.head.markup import ALIGNMENT, ARKIT_EXPRESSIONS, LANDMARK_COUNT
from digitaltwin.io._files import FilePath, reason
from digitaltwin.registration._identity import IdentityConfig
from digitaltwin.registration._nonrigid import NonRigidConfig
from digitaltwin.registration._register import RegistrationConfig
from digitaltwin.registration._scan_landmarks import find_landmarks
from digitaltwin.registration.head_models._convert import OtherHead, adopt_head
from digitaltwin.types import InputError, Mesh

_ICT_MM, _GNM_MM = 10.0, 1000.0  # centimetres, metres
_NEUTRAL, _INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
# Of the 68 landmarks of Multi-PIE, those that mean the same as one of ours: eye corners, nose tip, mouth corners, and
# the middles of the lips, outside and inside.
_IN_68 = (36, 39, 42, 45, 30, 48, 54, 51, 57, 62, 66)
_OURS = (*ALIGNMENT.tolist(), 87, 93, 98, 102)
# Landmarks found on rendered views are some 2 mm off: enough to begin with, too much to be held to.
_FOUND = RegistrationConfig(
    scalp=1.0, identity=IdentityConfig(landmark_noise_mm=4.0), nonrigid=NonRigidConfig(landmark_mm2=5.0)
)
_SMALLEST_MM, _LARGEST_MM = 100.0, 1000.0  # extents of a head, with or without shoulders
_GNM_ARRAYS = (
    "template_vertex_positions",
    "vertex_identity_basis",
    "expression_basis",
    "expression_names",
    "triangles",
    "vertex_groups",
    "vertex_group_names",
    "template_joint_positions",
    "joint_identity_basis",
    "joint_names",
)


class IctLayout(NamedTuple):
    """Which vertices of an ICT-FaceKit mesh are what: first and one past the last."""

    vertices: int
    skin: tuple[int, int]
    """Face, head and neck."""
    left_eye: tuple[int, int]
    """The white of the eye, which is part of a sphere."""
    right_eye: tuple[int, int]


ICT_LIGHT = IctLayout(26719, (0, 11248), (21451, 22221), (23021, 23791))
"""The published model's."""


def load_ict_head(folder: FilePath, *, layout: IctLayout = ICT_LIGHT, head: HeadModel | None = None) -> HeadModel:
    """ICT-FaceKit's light model, from its folder ``FaceXModel``.

    Read are ``generic_neutral_mesh.obj``, the modes ``identity000.obj``, ``identity001.obj`` and on (whole heads, each
    the neutral one moved by one deviation), the expressions that ``vertex_indices.json`` lists (whole heads too) and
    the 68 landmarks in it. Centimetres, y up, z out of the face. The skin is face, head and neck, some 11,200
    vertices; the model's own mouth, eyes, teeth, tears and lashes are left aside for the shipped ones.

    Its names are ARKit's, with ``_L`` and ``_R`` for ``Left`` and ``Right``; ``browInnerUp`` and ``cheekPuff``, which
    come in halves, are put together. It has no ``tongueOut``, which is the shipped head's.

    Args:
        folder: ``FaceXModel``, or the folder it lies in.
        layout: Which vertices are what.
        head: What the model takes its anchors and parts from; the shipped one by default.

    Returns:
        The model.

    Raises:
        InputError: A file is missing, cannot be read, or has other counts or numbers that are not finite; or as
            :func:`digitaltwin.registration.adopt_head`.
    """
    folder = Path(folder)
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    count = layout.vertices
    neutral_file = _read(folder / _NEUTRAL)
    neutral = _obj_vertices(folder / _NEUTRAL, neutral_file, count)
    faces = _obj_faces(folder / _NEUTRAL, neutral_file, count)
    names, marks = _ict_indices(folder / _INDICES, count)
    modes = _ict_modes(folder)

    skin, faces = _part(faces, np.isin(np.arange(count), np.arange(*layout.skin)), folder / _NEUTRAL)
    whites = [np.arange(*layout.left_eye), np.arange(*layout.right_eye)]
    identity, eye_identity = [], []
    for mode in modes:
        moved = _obj_vertices(mode, _read(mode), count) - neutral
        identity.append(moved[skin])
        eye_identity.append([moved[white].mean(axis=0) for white in whites])
    expressions = {}
    for name in names:
        file = folder / f"{name}.obj"
        expressions[name] = _obj_vertices(file, _read(file), count)[skin] - neutral[skin]
    landmarks = np.full((LANDMARK_COUNT, 3), np.nan)
    landmarks[list(_OURS)] = neutral[marks[list(_IN_68)]]
    other = OtherHead(
        name=str(folder),
        vertices=_ICT_MM * neutral[skin],
        faces=faces,
        identity=_ICT_MM * np.stack(identity),
        expressions={name: _ICT_MM * moved for name, moved in arkit_expressions(expressions).items()},
        eyes=_ICT_MM * np.stack([_sphere_centre(neutral[white]) for white in whites]),
        eye_identity=_ICT_MM * np.array(eye_identity),
        landmarks=_ICT_MM * landmarks,
    )
    _check_size(other)
    return adopt_head(other, head=head)


def load_gnm_head(
    path: FilePath, *, landmarks: Float[np.ndarray, "k 3"] | None = None, head: HeadModel | None = None
) -> HeadModel:
    """Google's GNM Head v3, from its file ``gnm_head.npz``.

    Taken for granted is: metres, x to the subject's left, y up, z out of the face; a person is the template plus
    coefficients times ``vertex_identity_basis``, these being independent and of deviation 1; ``vertex_groups`` has the
    row ``skin``, and perhaps ``mouth_sock`` and ``eye_sockets``, which are then cut out of it; the joints ``left_eye``
    and ``right_eye`` are the centres of the eyeballs. Names are checked, meanings cannot be.

    Its expressions have no names (they are principal components of regions of the face), so all 52 are the shipped
    head's; its own are kept as ``other_expressions``, one deviation each. Skinning is not used: the neck stays.

    Args:
        path: The file.
        landmarks: On the template, in metres: the seven of :data:`digitaltwin.head.markup.ALIGNMENT`, or all 104 with
            NaN for the unknown; by default looked for on rendered views
            (:func:`digitaltwin.registration.find_landmarks`).
        head: What the model takes its anchors, expressions and parts from; the shipped one by default.

    Returns:
        The model.

    Raises:
        InputError: The file is missing, not whole, or lacks an array; shapes do not belong together, or numbers are not
            finite; no face is found on its views; or as :func:`digitaltwin.registration.adopt_head`.
    """
    head = load_head() if head is None else head
    path = Path(path)
    arrays = _read_npz(path, _GNM_ARRAYS)
    vertices, triangles = arrays["template_vertex_positions"], arrays["triangles"]
    a, i, e, j = (len(arrays[name]) for name in _GNM_ARRAYS[:2] + ("expression_names", "joint_names"))
    shapes = {
        "template_vertex_positions": (a, 3),
        "vertex_identity_basis": (i, a, 3),
        "expression_basis": (e, a, 3),
        "triangles": (len(triangles), 3),
        "vertex_groups": (len(arrays["vertex_group_names"]), a),
        "template_joint_positions": (j, 3),
        "joint_identity_basis": (i, j, 3),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise InputError(f"{path}: {name} has shape {arrays[name].shape}, not {shape}; is it a GNM Head v3?")
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} is not all finite; copy the file anew.")
    if not np.issubdtype(triangles.dtype, np.integer) or triangles.min() < 0 or triangles.max() >= a:
        raise InputError(f"{path}: triangles name vertices outside [0, {a}); copy the file anew.")
    groups = dict(zip(map(str, arrays["vertex_group_names"]), arrays["vertex_groups"] > 0.5))
    joints = list(map(str, arrays["joint_names"]))
    for kind, names, wanted in (("vertex group", groups, ("skin",)), ("joint", joints, ("left_eye", "right_eye"))):
        for name in wanted:
            if name not in names:
                raise InputError(f"{path}: has no {kind} {name}, but {', '.join(names)}; is it a GNM Head v3?")
    inside = np.zeros(a, bool)
    for name in ("mouth_sock", "eye_sockets"):
        inside |= groups.get(name, inside)
    whole = triangles.astype(np.int64)
    skin, faces = _part(whole[~inside[whole].all(axis=1)], groups["skin"], path)
    config = None
    if landmarks is None:
        config = _FOUND
        landmarks = find_landmarks(head, Mesh(np.asarray(vertices, np.float64), whole))
    eyes = [joints.index("left_eye"), joints.index("right_eye")]
    own = dict(zip(map(str, arrays["expression_names"]), arrays["expression_basis"]))
    other = OtherHead(
        name=str(path),
        vertices=_GNM_MM * vertices[skin].astype(np.float64),
        faces=faces,
        identity=_GNM_MM * arrays["vertex_identity_basis"][:, skin].astype(np.float64),
        expressions={name: _GNM_MM * moved[skin].astype(np.float64) for name, moved in own.items()},
        eyes=_GNM_MM * arrays["template_joint_positions"][eyes].astype(np.float64),
        eye_identity=_GNM_MM * arrays["joint_identity_basis"][:, eyes].astype(np.float64),
        landmarks=_GNM_MM * np.asarray(landmarks, np.float64),
    )
    _check_size(other)
    return adopt_head(other, head=head, config=config)


def arkit_expressions(expressions: Mapping[str, Float[np.ndarray, "v 3"]]) -> dict[str, Float[np.ndarray, "v 3"]]:
    """Displacements under ARKit's names: ``_L`` and ``_R`` spelled out, halves of one expression added.

    Args:
        expressions: By names such as ``eyeBlink_L``, ``browInnerUp_R``, ``jawOpen``.

    Returns:
        The same; names that are not ARKit's either way stay as they are.

    Example:
        >>> import numpy as np
        >>> names = ("browDown_L", "cheekPuff_L", "cheekPuff_R", "cheekRaiser_L")
        >>> found = arkit_expressions({name: np.ones((1, 3)) for name in names})
        >>> {name: float(moved[0, 0]) for name, moved in found.items()}
        {'browDownLeft': 1.0, 'cheekPuff': 2.0, 'cheekRaiser_L': 1.0}
    """
    found: dict[str, np.ndarray] = {}
    for name, moved in expressions.items():
        base, side = name[:-2], {"_L": "Left", "_R": "Right"}.get(name[-2:])
        known = [other for other in (f"{base}{side}", base) if side and other in ARKIT_EXPRESSIONS]
        target = known[0] if known else name
        found[target] = found[target] + moved if target in found else moved
    return found


def _check_size(other: OtherHead) -> None:
    extent = float(np.ptp(other.vertices, axis=0).max())
    if not _SMALLEST_MM < extent < _LARGEST_MM:
        raise InputError(f"{other.name}: its head would be {extent:.0f} mm high; is its unit the published one?")


def _part(
    faces: Int[np.ndarray, "m 3"], members: Bool[np.ndarray, " a"], path: Path
) -> tuple[Int[np.ndarray, " v"], Int[np.ndarray, "f 3"]]:
    """The vertices that a part's faces use, and these faces in terms of them."""
    faces = faces[members[faces].all(axis=1)]
    if not len(faces):
        raise InputError(f"{path}: has no faces of the skin; is it the published model?")
    used, inverse = np.unique(faces, return_inverse=True)
    return used, inverse.reshape(-1, 3)


def _sphere_centre(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Of the sphere through points, by least squares of ``|p|^2 = 2 c . p + d``."""
    middle = points.mean(axis=0)
    own = points - middle
    rows = np.column_stack([2.0 * own, np.ones(len(own))])
    return middle + np.linalg.lstsq(rows, np.sum(own**2, axis=1), rcond=None)[0][:3]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); give the folder FaceXModel of ICT-FaceKit, whole."
        ) from error


def _obj_vertices(path: Path, data: bytes, count: int) -> Float[np.ndarray, "a 3"]:
    """Positions in the file's order, which readers of textured meshes change."""
    rows = [line.split()[1:4] for line in data.splitlines() if line.startswith(b"v ")]
    try:
        vertices = np.array(rows, np.float64)
    except ValueError as error:
        raise InputError(f"{path}: its vertices are not three numbers each ({error}); copy the file anew.") from error
    if vertices.shape != (count, 3):
        raise InputError(f"{path}: has {len(rows)} vertices, not {count}; take the published light model.")
    if not np.isfinite(vertices).all():
        raise InputError(f"{path}: its vertices are not all finite; copy the file anew.")
    return vertices


def _obj_faces(path: Path, data: bytes, count: int) -> Int[np.ndarray, "m 3"]:
    """Triangles, polygons cut into fans."""
    triangles = []
    try:
        for line in data.splitlines():
            if line.startswith(b"f "):
                corners = [int(corner.partition(b"/")[0]) - 1 for corner in line.split()[1:]]
                triangles += [(corners[0], *pair) for pair in zip(corners[1:], corners[2:])]
    except ValueError as error:
        raise InputError(f"{path}: a face is not made of indices ({error}); copy the file anew.") from error
    faces = np.array(triangles, np.int64).reshape(-1, 3)
    if not len(faces) or faces.min() < 0 or faces.max() >= count:
        raise InputError(f"{path}: its faces name vertices outside [1, {count}], or there are none; copy it anew.")
    return faces


def _ict_indices(path: Path, count: int) -> tuple[list[str], Int[np.ndarray, "68"]]:
    """Names of the expressions, and the vertices of the landmarks."""
    try:
        content = json.loads(_read(path))
        names = [str(name) for name in content["expressions"]]
        marks = np.array(content["idx_to_landmark_verts"], np.int64)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: lists no expressions or landmarks ({error!r}); copy the file anew.") from error
    if marks.shape != (68,) or marks.min() < 0 or marks.max() >= count:
        raise InputError(f"{path}: its landmarks are not 68 vertices of the mesh; copy the file anew.")
    return names, marks


def _ict_modes(folder: Path) -> list[Path]:
    """The files of the identity modes, none missing in between."""
    present = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    wanted = [folder / f"identity{number:03d}.obj" for number in range(max(1, len(present)))]
    for file in wanted:
        if file not in present:
            raise InputError(f"{file}: is missing; give the folder FaceXModel of ICT-FaceKit, whole.")
    return wanted


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Some arrays of an ``.npz``; others are not looked at, and no Python objects are ever made."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise InputError(f"{path}: lacks {', '.join(missing)}; give the gnm_head.npz of GNM Head v3.")
            return {name: np.asarray(file[name]) for name in names}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); give the gnm_head.npz of GNM Head v3.") from error
    except InputError:
        raise
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is not a whole .npz of plain arrays ({error}); copy the file anew.") from error
