"""Google's GNM Head v3 (Apache-2.0), from the file its authors publish.

It does not ship here. A user's own copy is read, and :mod:`digitaltwin.registration.head_models._convert` makes a
:class:`~digitaltwin.head.HeadModel` of it. A file that holds something else is refused.

Letters: a all vertices of the file, v those of its skin, f faces of the skin, i identity modes.
"""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from digitaltwin.head import HeadModel, load_head
from digitaltwin.io._files import FilePath, reason
from digitaltwin.registration._config import IdentityConfig, NonRigidConfig, RegistrationConfig
from digitaltwin.registration._scan_landmarks import find_landmarks
from digitaltwin.registration.head_models._convert import LinearHeadModel, check_size, convert_head_model, used_part
from digitaltwin.types import InputError, Mesh

_GNM_MM = 1000.0  # metres
# Landmarks found on rendered views are some 2 mm off: enough to begin with, too much to be held to.
_FOUND = RegistrationConfig(
    scalp=1.0, identity=IdentityConfig(landmark_noise_mm=4.0), nonrigid=NonRigidConfig(landmark_mm2=5.0)
)
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


def load_gnm_head(
    path: FilePath, *, landmarks: Float[np.ndarray, "k 3"] | None = None, head: HeadModel | None = None
) -> HeadModel:
    """Load Google's GNM Head v3 from its file ``gnm_head.npz``.

    Taken for granted is: metres, x to the subject's left, y up, z out of the face; a person is the template plus
    coefficients times ``vertex_identity_basis``, these being independent and of standard deviation 1;
    ``vertex_groups`` has the row ``skin``, and perhaps ``mouth_sock`` and ``eye_sockets``, which are then cut out of
    it; the joints ``left_eye`` and ``right_eye`` are the centres of the eyeballs. Names are checked, meanings cannot
    be.

    Its expressions have no names (they are principal components of regions of the face), so all 52 are the shipped
    head's; its own are kept as ``other_expressions``, one standard deviation each. Skinning is not used: the neck
    stays.

    Args:
        path: The file.
        landmarks: Landmarks on the template, in metres: the seven of :data:`digitaltwin.head.markup.ALIGNMENT`, or all
            104 with NaN for those not known; by default detected on rendered views
            (:func:`digitaltwin.registration.find_landmarks`).
        head: The head whose anchors, expressions and parts the model takes; the shipped one by default.

    Returns:
        The head model, in millimetres.

    Raises:
        InputError: The file is missing, not whole, or lacks an array; shapes do not belong together, or numbers are not
            finite; no face is found on its views; or as :func:`digitaltwin.registration.convert_head_model`.

    Example:
        >>> from digitaltwin.types import InputError
        >>> try:
        ...     head = load_gnm_head("gnm_head.npz")
        ... except InputError as error:
        ...     print("no copy of it here:", error)  # doctest: +ELLIPSIS
        no copy of it here: gnm_head.npz...
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
    skin, faces = used_part(whole[~inside[whole].all(axis=1)], groups["skin"], path)
    config = None
    if landmarks is None:
        config = _FOUND
        landmarks = find_landmarks(head, Mesh(np.asarray(vertices, np.float64), whole))
    eyes = [joints.index("left_eye"), joints.index("right_eye")]
    own = dict(zip(map(str, arrays["expression_names"]), arrays["expression_basis"]))
    other = LinearHeadModel(
        name=str(path),
        vertices=_GNM_MM * vertices[skin].astype(np.float64),
        faces=faces,
        identity=_GNM_MM * arrays["vertex_identity_basis"][:, skin].astype(np.float64),
        expressions={name: _GNM_MM * moved[skin].astype(np.float64) for name, moved in own.items()},
        eyes=_GNM_MM * arrays["template_joint_positions"][eyes].astype(np.float64),
        eye_identity=_GNM_MM * arrays["joint_identity_basis"][:, eyes].astype(np.float64),
        landmarks=_GNM_MM * np.asarray(landmarks, np.float64),
    )
    check_size(other)
    return convert_head_model(other, head=head, config=config)


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
