"""A linear head model of another topology as a :class:`~digitaltwin.head.HeadModel`, by registering the shipped one.

Shape, identity and expressions stay the other model's own. What it lacks comes over from the shipped head, whose skin
is registered to the other's mean (:mod:`digitaltwin.registration._register`): every point of the shipped skin then has
a place on the other, and every vertex of the other a place on the shipped skin.

============================ ===========================================================================================
anchors                      where the shipped landmarks and mesh points come to lie on the other's skin
regions                      as at the nearest vertex of the shipped skin
texture coordinates          the shipped atlas, so that the shipped skins, and pictures made with it, fit
expressions it lacks         the shipped head's displacements
eyes, teeth, tongue, sockets the shipped ones, moved by the registration; eyeballs to where the other has its own
============================ ===========================================================================================

Two surfaces can lie on one another without belonging together: closed lips. So a place counts only on faces that look
the same way.

On the host, in float64. Letters: v skin vertices of the other model, f its faces, w skin vertices of the shipped head,
g its faces, i the other's identity modes, j components that are left of them, n points.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from trimesh.triangles import closest_point, points_to_barycentric

from digitaltwin.geometry import SurfacePoints, SurfaceTree
from digitaltwin.geometry._barycentric import interpolation_matrix
from digitaltwin.geometry._topology import boundary_vertices
from digitaltwin.head import HeadModel, load_head, parts_vertices
from digitaltwin.head._model import Regions
from digitaltwin.head.markup import ARKIT_EXPRESSIONS, INTERIOR_PARTS
from digitaltwin.registration._config import IdentityConfig, NonRigidConfig, RegistrationConfig
from digitaltwin.registration._register import register_scan
from digitaltwin.types import InputError

# A model's mean has neither hair nor noise: its surface is trusted everywhere, and more than how a landmark is defined.
_CLEAN = RegistrationConfig(
    scalp=1.0, identity=IdentityConfig(landmark_noise_mm=3.0), nonrigid=NonRigidConfig(landmark_mm2=30.0)
)
_CANDIDATES = 24  # faces around a point, by place and direction, among which the nearest is sought exactly
_DIRECTION_MM = 8.0  # what turning round by a radian counts among candidates
_COMPATIBLE = 0.3  # cosine between normals from which on a face looks the same way
_RIM_MM = 5.0  # how far the shipped interior's rim may lie from the other skin's border and still belong to it
_PARTNERS_MM = 10.0  # how far a vertex's mirror image may lie from its partner
_LEAST = 1e-4  # of the largest deviation: modes below it move something else than the skin
_SEAM = 0.05  # of the atlas: a corner as far off lies beyond a seam
_SMALLEST_MM, _LARGEST_MM = 100.0, 1000.0  # extents of a head, with or without shoulders
_SIDED = ("browDown", "eyeBlink", "mouthSmile")  # expressions that move one half of the face alone


class LinearHeadModel(NamedTuple):
    """A linear head model as its authors give it, its skin alone, in millimetres and in any frame.

    A person is ``vertices + sum_i z_i identity_i``, the z independent, of mean 0 and standard deviation 1.
    """

    name: str
    """For messages: its file or folder."""
    vertices: Float[np.ndarray, "v 3"]
    """The mean person's neutral skin [mm]."""
    faces: Int[np.ndarray, "f 3"]
    """Its triangles, counter-clockwise seen from outside."""
    identity: Float[np.ndarray, "i v 3"]
    """Displacement by one standard deviation of each mode [mm]."""
    expressions: Mapping[str, Float[np.ndarray, "v 3"]]
    """Displacements at full strength [mm] by name; those of ARKit's names are used as such."""
    eyes: Float[np.ndarray, "2 3"]
    """Centres of the eyeballs, left and right [mm]."""
    eye_identity: Float[np.ndarray, "i 2 3"]
    """Displacement of these centres by each mode [mm]."""
    landmarks: Float[np.ndarray, "k 3"]
    """Landmarks on the mean [mm]: the seven of :data:`digitaltwin.head.markup.ALIGNMENT`, or all 104 with NaN for those
    not known."""


class OrthonormalIdentity(NamedTuple):
    """An identity basis as :class:`~digitaltwin.head.HeadModel` keeps it."""

    basis: Float[np.ndarray, "j v 3"]
    """Orthonormal over all 3v coordinates, by falling deviation."""
    deviation: Float[np.ndarray, " j"]
    """[mm]"""
    change: Float[np.ndarray, "j i"]
    """Takes anything linear that the modes move to what the basis moves: ``basis = change @ modes``."""


class _Correspondence(NamedTuple):
    """Both skins over one another, in the head frame [mm]."""

    vertices: Float[np.ndarray, "v 3"]
    """The other's mean."""
    faces: Int[np.ndarray, "f 3"]
    turn: Float[np.ndarray, "3 3"]
    """From the other's frame to the head frame."""
    origin: Float[np.ndarray, " 3"]
    """In the other's frame."""
    registered: Float[np.ndarray, "w 3"]
    """The shipped skin, registered to it."""
    on_shipped: SurfacePoints
    """The other's vertices, on the shipped skin."""


def convert_head_model(
    other: LinearHeadModel, *, head: HeadModel | None = None, config: RegistrationConfig | None = None
) -> HeadModel:
    """Convert a linear head model of another topology to the :class:`~digitaltwin.head.HeadModel` used here.

    All skin vertices stay. The frame becomes the head frame: its origin between the eyeballs, x along the line through
    them, pitched as the shipped head is. Identity becomes orthonormal, its covariance staying what it was
    (:func:`orthonormal_identity`); the means of the six groups are not known and so zero. Expressions that are not
    ARKit's are kept as ``other_expressions``.

    Args:
        other: The model to convert.
        head: The head whose anchors, regions, atlas, parts and missing expressions it gets; the shipped one by default.
        config: The registration's configuration; by default one for a mean without hair or noise.

    Returns:
        The head model, in millimetres, validated.

    Raises:
        InputError: Arrays do not belong together or are not finite, the landmarks are not this mesh's, left and right
            are exchanged, or the skins cannot be registered to one another.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import landmark_points, load_head
        >>> from digitaltwin.registration import IdentityConfig, NonRigidConfig, RegistrationConfig, Round
        >>> head = load_head()  # in the place of a model of other topology
        >>> centres = np.array([[31.0, 0.0, 0.0], [-31.0, 0.0, 0.0]])
        >>> model = LinearHeadModel(
        ...     name="mine",
        ...     vertices=np.asarray(head.mean, float),
        ...     faces=np.asarray(head.faces),
        ...     identity=5.0 * np.asarray(head.identity[:3], float),
        ...     expressions={},
        ...     eyes=centres,
        ...     eye_identity=np.zeros((3, 2, 3)),
        ...     landmarks=np.asarray(landmark_points(head, head.mean), float),
        ... )
        >>> quick = NonRigidConfig(rounds=(Round(stiffness_mm=9.0, reach_mm=9.0, iterations=1),))
        >>> config = RegistrationConfig(scalp=1.0, identity=IdentityConfig(iterations=2), nonrigid=quick)
        >>> convert_head_model(model, config=config).identity.shape[0]
        3
    """
    head = load_head() if head is None else head
    _check(other)
    both = _register_mean(other, head, _CLEAN if config is None else config)
    identity = orthonormal_identity(other.identity @ both.turn.T)
    transferred = _rows(head, both.on_shipped)

    own = {name: moved @ both.turn.T for name, moved in other.expressions.items()}
    _check_sides(other.name, both.vertices, own)
    shipped = dict(zip(head.expression_names, np.asarray(head.expressions, np.float64)))
    expressions = np.stack([own[name] if name in own else transferred @ shipped[name] for name in ARKIT_EXPRESSIONS])
    further = [name for name in own if name not in ARKIT_EXPRESSIONS]
    other_expressions = np.stack([own[name] for name in further]) if further else np.zeros((0, *both.vertices.shape))

    parts = _move_parts(head, both)
    rows = interpolation_matrix(parts.follow_vertices, parts.weights, len(both.vertices))
    parts_identity = _each(rows, identity.basis)
    eyes = (np.asarray(other.eyes, np.float64) - both.origin) @ both.turn.T
    eye_identity = np.einsum("ji,isx->jsx", identity.change, other.eye_identity @ both.turn.T)
    for side, eye in enumerate(parts.eyes):
        parts.mean[eye] += eyes[side] - parts.eye_centres[side]
        parts_identity[:, eye] = eye_identity[:, side, None]
    parts_expressions = np.asarray(head.parts_expressions, np.float64).copy()
    before = _each(
        interpolation_matrix(*_shipped_follow(head), len(head.mean)), np.asarray(head.expressions, np.float64)
    )
    follow = parts.follow_skin
    parts_expressions[:, follow] += (_each(rows, expressions) - before)[:, follow]
    parts_expressions[:, parts.on_rim] = expressions[:, parts.follow_vertices[parts.on_rim, 0]]
    parts_other = _each(rows, other_expressions) * follow[:, None]

    uv, uv_faces = _shipped_atlas(head, both)
    values = {
        "mean": both.vertices,
        "uv": uv,
        "expressions": expressions,
        "other_expressions": other_expressions,
        "identity": identity.basis,
        "identity_std": identity.deviation,
        "group_identity": np.zeros((len(head.group_names), len(identity.deviation))),
        "parts_mean": parts.mean,
        "parts_expressions": parts_expressions,
        "parts_other_expressions": parts_other,
        "parts_identity": parts_identity,
        "parts_follow_weights": parts.weights,
    }
    indices = {
        "faces": both.faces,
        "uv_faces": uv_faces,
        "parts_follow_vertices": parts.follow_vertices,
        "mirror": mirror_map(transferred @ np.asarray(head.mean, np.float64)),
    }
    converted = HeadModel(
        **{name: jnp.asarray(value, jnp.float32) for name, value in values.items()},
        **{name: jnp.asarray(value, jnp.int32) for name, value in indices.items()},
        landmarks=_moved_anchors(head, head.landmarks, both),
        mesh_points=_moved_anchors(head, head.mesh_points, both),
        regions=_moved_regions(head, both),
        parts_faces=head.parts_faces,
        parts_uv=head.parts_uv,
        parts_uv_faces=head.parts_uv_faces,
        parts_face_part=head.parts_face_part,
        expression_names=ARKIT_EXPRESSIONS,
        other_expression_names=tuple(further),
        group_names=head.group_names,
        part_names=head.part_names,
    )
    converted.validate()
    return converted


def orthonormal_identity(modes: Float[np.ndarray, "i v 3"]) -> OrthonormalIdentity:
    """An orthonormal basis of what independent modes of deviation 1 span, the same people having the same likelihood.

    With the modes as rows M and ``M = U S V'``, a person is ``z M = (z U S) V'``. The rows of V' are orthonormal, and
    as U is orthogonal, the coefficients ``z U S`` are again independent, of deviations S; the covariance of the
    coordinates is ``M'M = V S^2 V'`` in either form. U and S come from the i x i matrix ``M M' = U S^2 U'``, and
    ``V' = S^-1 U' M``. Modes that do not move the skin (of teeth, say) are left out.

    Args:
        modes: Displacements by one deviation each.

    Returns:
        Basis, deviations, and the change between the two.

    Raises:
        InputError: No mode moves anything.

    Example:
        >>> import numpy as np
        >>> modes = np.array([[[3.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]]])
        >>> orthonormal_identity(modes).deviation.round(6).tolist()
        [4.0, 3.0]
    """
    flat = np.asarray(modes, np.float64).reshape(len(modes), -1)
    squares, turned = np.linalg.eigh(flat @ flat.T)
    deviation = np.sqrt(np.maximum(squares[::-1], 0.0))
    kept = (deviation > _LEAST * deviation.max(initial=0.0)) & (deviation > 0.0)
    if not kept.any():
        raise InputError("identity: no mode moves the skin; give the model's own.")
    change = (turned[:, ::-1][:, kept] / deviation[kept]).T
    return OrthonormalIdentity((change @ flat).reshape(-1, *modes.shape[1:]), deviation[kept], change)


def mirror_map(vertices: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, " v"]:
    """Pair the vertices of a nearly symmetric mesh left with right.

    Again and again, those vertices become partners whose mirror images, by x, are nearest to one another, a vertex of
    the middle its own. What then has no partner within ten millimetres is left its own, too: so the map is its own
    inverse on any mesh.

    Args:
        vertices: In the head frame.

    Returns:
        Index of each vertex's partner.

    Example:
        >>> import numpy as np
        >>> mirror_map(np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [-2.1, 0.0, 0.0]])).tolist()
        [0, 2, 1]
    """
    partner = np.arange(len(vertices))
    free = np.arange(len(vertices))
    while len(free):
        own = vertices[free]
        away, nearest = map(np.asarray, KDTree(own * [-1.0, 1.0, 1.0]).query(own))
        mutual = (nearest[nearest] == np.arange(len(free))) & (away < _PARTNERS_MM)
        if not mutual.any():
            break
        partner[free[mutual]] = free[nearest[mutual]]
        free = free[~mutual]
    return partner


def normal_compatible_points(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    vertices: Float[np.ndarray, "w 3"],
    faces: Int[np.ndarray, "g 3"],
) -> SurfacePoints:
    """The closest points of a mesh on faces that look the same way, if there are such nearby.

    Args:
        points: Near the mesh.
        normals: Unit normals there.
        vertices: The mesh's.
        faces: Its triangles.

    Returns:
        One place for each point.
    """
    triangles = vertices[faces]
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    facing = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30)
    tree = KDTree(np.concatenate([triangles.mean(axis=1), _DIRECTION_MM * facing], axis=1))
    count = min(_CANDIDATES, len(faces))
    near = np.asarray(tree.query(np.concatenate([points, _DIRECTION_MM * normals], axis=1), k=count)[1])
    near = near.reshape(len(points), count)
    closest = closest_point(triangles[near.ravel()], np.repeat(points, count, axis=0)).reshape(len(points), count, 3)
    away = np.linalg.norm(closest - points[:, None], axis=2)
    incompatible = np.einsum("nkx,nx->nk", facing[near], normals) < _COMPATIBLE
    best = np.argmin(away + 1e6 * incompatible, axis=1)
    each = np.arange(len(points))
    chosen = near[each, best]
    weights = np.clip(points_to_barycentric(triangles[chosen], closest[each, best], method="cramer"), 0.0, 1.0)
    return SurfacePoints(chosen, weights / weights.sum(axis=1, keepdims=True))


class _Parts(NamedTuple):
    """The shipped head's parts around the other's mean."""

    mean: Float[np.ndarray, "p 3"]
    follow_vertices: Int[np.ndarray, "p 4"]
    weights: Float[np.ndarray, "p 4"]
    on_rim: Bool[np.ndarray, " p"]
    """Vertices that lie on the skin's border."""
    follow_skin: Bool[np.ndarray, " p"]
    """Those that the skin's expressions carry along."""
    eyes: tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]
    """Vertices of the left and the right eyeball, and of the sockets' lining, which move with them."""
    eye_centres: Float[np.ndarray, "2 3"]


def check_size(other: LinearHeadModel) -> None:
    """Refuse a model that is not of a head's size in millimetres."""
    extent = float(np.ptp(other.vertices, axis=0).max())
    if not _SMALLEST_MM < extent < _LARGEST_MM:
        raise InputError(f"{other.name}: its head would be {extent:.0f} mm high; is its unit the published one?")


def used_part(
    faces: Int[np.ndarray, "m 3"], members: Bool[np.ndarray, " a"], path: Path
) -> tuple[Int[np.ndarray, " v"], Int[np.ndarray, "f 3"]]:
    """The vertices that a part's faces use, and these faces in terms of them."""
    faces = faces[members[faces].all(axis=1)]
    if not len(faces):
        raise InputError(f"{path}: has no faces of the skin; is it the published model?")
    used, inverse = np.unique(faces, return_inverse=True)
    return used, inverse.reshape(-1, 3)


def _check(other: LinearHeadModel) -> None:
    v, i = len(other.vertices), len(other.identity)
    shapes = {
        "vertices": (other.vertices, (v, 3)),
        "identity": (other.identity, (i, v, 3)),
        "eyes": (other.eyes, (2, 3)),
        "eye identity": (other.eye_identity, (i, 2, 3)),
        **{f"expression {name}": (moved, (v, 3)) for name, moved in other.expressions.items()},
    }
    for part, (array, shape) in shapes.items():
        if array.shape != shape:
            raise InputError(f"{other.name}: its {part} have shape {array.shape}, not {shape}; is the file whole?")
        if not np.isfinite(array).all():
            raise InputError(f"{other.name}: its {part} are not all finite; copy or export the file anew.")
    if not i:
        raise InputError(f"{other.name}: has no identity modes; without them nothing can be fitted.")


def _check_sides(name: str, vertices: np.ndarray, expressions: Mapping[str, np.ndarray]) -> None:
    """What is called left has to move the subject's left, which is +x."""
    for expression in _SIDED:
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            moved = expressions.get(expression + side)
            if moved is not None and sign * np.linalg.norm(moved, axis=1) @ vertices[:, 0] < 0.0:
                raise InputError(
                    f"{name}: {expression}{side} moves the other side of the face; left is to be the subject's."
                )


def _register_mean(other: LinearHeadModel, head: HeadModel, config: RegistrationConfig) -> _Correspondence:
    vertices, faces = np.asarray(other.vertices, np.float64), np.asarray(other.faces)
    registration = register_scan(head, vertices, faces, np.asarray(other.landmarks, np.float64), config=config)
    if registration.unit != "mm":
        raise InputError(f"{other.name}: its size says that it is not in millimetres ({registration.unit}); scale it.")
    origin = np.asarray(other.eyes, np.float64).mean(axis=0)
    across = np.asarray(other.eyes[0] - other.eyes[1], np.float64)
    if across @ registration.scan_from_head.rotation[:, 0] <= 0.0:
        raise InputError(f"{other.name}: its left eye lies to the right of the other; exchange them.")
    across /= np.linalg.norm(across)
    up = registration.scan_from_head.rotation[:, 1]
    up = up - (up @ across) * across
    up /= np.linalg.norm(up)
    turn = np.stack([across, up, np.cross(across, up)])
    if registration.faces_flipped:
        faces = faces[:, ::-1]
    a, b, c = (vertices[column] for column in faces.T)
    faces = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0.0]  # a face without an area looks nowhere
    mean = (vertices - origin) @ turn.T
    skin = (registration.scan_from_head.apply(registration.vertices) - origin) @ turn.T
    normals = SurfaceTree(mean, faces, name=other.name).vertex_normals
    return _Correspondence(
        mean, faces, turn, origin, skin, normal_compatible_points(mean, normals, skin, np.asarray(head.faces))
    )


def _rows(head: HeadModel, points: SurfacePoints) -> sp.csr_array:
    """Interpolation of the shipped skin's vertex values [v w]."""
    return points.matrix(np.asarray(head.faces), len(head.mean))


def _each(rows: sp.csr_array, moved: Float[np.ndarray, "m v 3"]) -> Float[np.ndarray, "m p 3"]:
    """Rows applied to every displacement."""
    m, v, _ = moved.shape
    carried = np.asarray(rows @ moved.transpose(1, 0, 2).reshape(v, 3 * m))
    return carried.reshape(len(carried), m, 3).transpose(1, 0, 2)


def _moved_anchors(head: HeadModel, anchors: SurfacePoints, both: _Correspondence) -> SurfacePoints:
    corners = np.asarray(head.faces)[np.asarray(anchors.faces)]
    weights = np.asarray(anchors.barycentric, np.float64)
    normals = SurfaceTree(both.registered, np.asarray(head.faces), name="skin").vertex_normals
    points, facing = (np.einsum("kc,kcx->kx", weights, values[corners]) for values in (both.registered, normals))
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-30)
    found = normal_compatible_points(points, facing, both.vertices, both.faces)
    return SurfacePoints(jnp.asarray(found.faces, jnp.int32), jnp.asarray(found.barycentric, jnp.float32))


def _moved_regions(head: HeadModel, both: _Correspondence) -> Regions:
    corners = np.asarray(head.faces)[both.on_shipped.faces]
    nearest = corners[np.arange(len(corners)), both.on_shipped.barycentric.argmax(axis=1)]
    return Regions(**{name: jnp.asarray(np.asarray(mask)[nearest]) for name, mask in head.regions._asdict().items()})


def _shipped_atlas(head: HeadModel, both: _Correspondence) -> tuple[Float[np.ndarray, "t 2"], Int[np.ndarray, "f 3"]]:
    """Texture coordinates of the other's skin in the shipped atlas.

    A vertex has those of its place on the shipped skin, unless a face of it lies across a seam: then they are far from
    where the shipped face under that face's middle, extended, would have them. Such a corner gets the latter, drawn
    back into the atlas. So no face stretches from one side of a seam to the other.
    """
    skin, uv_faces, uv = np.asarray(head.faces), np.asarray(head.uv_faces), np.asarray(head.uv, np.float64)
    here = both.on_shipped
    own = np.einsum("nc,ncd->nd", here.barycentric, uv[uv_faces[here.faces]])
    triangles = both.vertices[both.faces]
    middles = triangles.mean(axis=1)
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    under = normal_compatible_points(middles, across, both.registered, skin)
    middle = np.einsum("fc,fcd->fd", under.barycentric, uv[uv_faces[under.faces]])
    flat = np.repeat(both.registered[skin[under.faces]], 3, axis=0)
    extended = points_to_barycentric(flat, triangles.reshape(-1, 3), method="cramer").reshape(-1, 3, 3)
    expected = np.einsum("fkc,fcd->fkd", extended, uv[uv_faces[under.faces]])
    off = np.linalg.norm(own[both.faces] - expected, axis=2)
    beyond = off > _SEAM + 0.5 * np.linalg.norm(expected - middle[:, None], axis=2)
    atlas = SurfaceTree(np.column_stack([uv, np.zeros(len(uv))]), uv_faces, name="atlas")
    moved = expected[beyond]
    drawn = atlas.closest(np.column_stack([moved, np.zeros(len(moved))]))[0][:, :2] if len(moved) else moved
    indices = both.faces.copy()
    indices[beyond] = len(own) + np.arange(len(drawn))
    return np.concatenate([own, drawn]), indices


def _shipped_follow(head: HeadModel) -> tuple[Int[np.ndarray, "p 4"], Float[np.ndarray, "p 4"]]:
    return np.asarray(head.parts_follow_vertices), np.asarray(head.parts_follow_weights, np.float64)


def _move_parts(head: HeadModel, both: _Correspondence) -> _Parts:
    """The parts where the registration takes them, and what of the other's skin each of their vertices follows.

    The interior's rim is drawn onto the other skin's border, where that is near, so that no gap opens.
    """
    still = jnp.zeros(len(head.expression_names))
    mean = np.asarray(parts_vertices(head, jnp.asarray(both.registered, jnp.float32), still), np.float64)
    vertices, weights = _shipped_follow(head)
    follow = np.asarray(KDTree(both.vertices).query(both.registered[vertices])[1])

    on_rim = weights.max(axis=1) > 1.0 - 1e-6
    border = np.flatnonzero(boundary_vertices(both.faces, len(both.vertices)))
    if len(border):
        away, nearest = KDTree(both.vertices[border]).query(mean)
        on_rim &= np.asarray(away) < _RIM_MM
        rim = border[np.asarray(nearest)[on_rim]]
        mean[on_rim], follow[on_rim, 0] = both.vertices[rim], rim
    else:
        on_rim[:] = False

    names, faces, part = head.part_names, np.asarray(head.parts_faces), np.asarray(head.parts_face_part)
    members = {name: np.unique(faces[part == names.index(name)]) for name in names}
    eyes, centres = [], []
    rest = np.asarray(head.parts_mean, np.float64)
    for name in ("left_eye", "right_eye"):
        ball = members[name]
        alike = np.flatnonzero(np.all(vertices == vertices[ball[0]], axis=1))
        centre = mean[ball].mean(axis=0)
        mean[ball] = rest[ball] - rest[ball].mean(axis=0) + centre  # the size and roundness of the shipped ones
        eyes.append(alike)
        centres.append(centre)
    follow_skin = np.zeros(len(mean), bool)
    for name in (*INTERIOR_PARTS, "lower_teeth", "tongue"):
        follow_skin[members[name]] = True
    follow_skin[np.concatenate(eyes)] = False
    return _Parts(mean, follow, weights, on_rim, follow_skin, (eyes[0], eyes[1]), np.stack(centres))
