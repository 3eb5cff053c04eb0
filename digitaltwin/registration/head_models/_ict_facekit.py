"""ICT-FaceKit's light head model (MIT), from the files its authors publish.

It does not ship here. A user's own copy is read, and :mod:`digitaltwin.registration.head_models._convert` makes a
:class:`~digitaltwin.head.HeadModel` of it. What the files hold is told in the loader; a file that holds something else
is refused.

Letters: a all vertices of a file, v those of its skin, f faces of the skin, i identity modes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from digitaltwin.head import HeadModel
from digitaltwin.head.markup import ALIGNMENT, ARKIT_EXPRESSIONS, LANDMARK_COUNT
from digitaltwin.io._files import FilePath, reason
from digitaltwin.registration.head_models._convert import LinearHeadModel, check_size, convert_head_model, used_part
from digitaltwin.types import InputError

_ICT_MM = 10.0  # centimetres
_NEUTRAL, _INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
# Of the 68 landmarks of Multi-PIE, those that mean the same as one of ours: eye corners, nose tip, mouth corners, and
# the middles of the lips, outside and inside.
_IN_68 = (36, 39, 42, 45, 30, 48, 54, 51, 57, 62, 66)
_OURS = (*ALIGNMENT.tolist(), 87, 93, 98, 102)


class IctLayout(NamedTuple):
    """Which vertices of an ICT-FaceKit mesh are what, as first and one past the last."""

    vertices: int
    """Number of them in all."""
    skin: tuple[int, int]
    """Face, head and neck."""
    left_eye: tuple[int, int]
    """The white of the eye, which is part of a sphere."""
    right_eye: tuple[int, int]
    """The same of the other eye."""


ICT_LIGHT = IctLayout(26719, (0, 11248), (21451, 22221), (23021, 23791))
"""The published model's."""


def load_ict_head(folder: FilePath, *, layout: IctLayout = ICT_LIGHT, head: HeadModel | None = None) -> HeadModel:
    """Load ICT-FaceKit's light model from its folder ``FaceXModel``.

    Read are ``generic_neutral_mesh.obj``, the modes ``identity000.obj``, ``identity001.obj`` and on (whole heads, each
    the neutral one moved by one standard deviation), the expressions that ``vertex_indices.json`` lists (whole heads
    too) and the 68 landmarks in it. Centimetres, y up, z out of the face. The skin is face, head and neck, some 11,200
    vertices; the model's own mouth, eyes, teeth, tears and lashes are left aside for the shipped ones.

    Its names are ARKit's, with ``_L`` and ``_R`` for ``Left`` and ``Right``; ``browInnerUp`` and ``cheekPuff``, which
    come in halves, are put together. It has no ``tongueOut``, which is the shipped head's.

    Args:
        folder: ``FaceXModel``, or the folder it lies in.
        layout: Which vertices are what; the published model's by default.
        head: The head whose anchors and parts the model takes; the shipped one by default.

    Returns:
        The head model, in millimetres.

    Raises:
        InputError: A file is missing, cannot be read, or has other counts or numbers that are not finite; or as
            :func:`digitaltwin.registration.convert_head_model`.

    Example:
        >>> from digitaltwin.types import InputError
        >>> try:
        ...     head = load_ict_head("FaceXModel")
        ... except InputError as error:
        ...     print("no copy of it here:", error)  # doctest: +ELLIPSIS
        no copy of it here: FaceXModel...

    Source: Li et al., Learning formation of physically-based face attributes, CVPR 2020 (ICT-FaceKit, MIT licence).
    """
    folder = Path(folder)
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    count = layout.vertices
    neutral_file = _read(folder / _NEUTRAL)
    neutral = _obj_vertices(folder / _NEUTRAL, neutral_file, count)
    faces = _obj_faces(folder / _NEUTRAL, neutral_file, count)
    names, marks = _ict_indices(folder / _INDICES, count)
    modes = _ict_modes(folder)

    skin, faces = used_part(faces, np.isin(np.arange(count), np.arange(*layout.skin)), folder / _NEUTRAL)
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
    other = LinearHeadModel(
        name=str(folder),
        vertices=_ICT_MM * neutral[skin],
        faces=faces,
        identity=_ICT_MM * np.stack(identity),
        expressions={name: _ICT_MM * moved for name, moved in arkit_expressions(expressions).items()},
        eyes=_ICT_MM * np.stack([_sphere_centre(neutral[white]) for white in whites]),
        eye_identity=_ICT_MM * np.array(eye_identity),
        landmarks=_ICT_MM * landmarks,
    )
    check_size(other)
    return convert_head_model(other, head=head)


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
