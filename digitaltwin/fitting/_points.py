"""The landmarks of a photo as points of the head: linear in its vertices and coefficients, on the host in float64.

Letters: k landmarks, e expressions, i identity coefficients, a landmarks of a contour.

A landmark of the skin is a mean of vertices. A point of an iris lies on an eyeball: that follows the skin around it
and has targets of its own, so the point is a mean of skin vertices plus a rest, linear in the coefficients.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from digitaltwin.geometry import SurfacePoints
from digitaltwin.head import HeadModel
from digitaltwin.head.markup import (
    CONTOUR,
    LANDMARK_COUNT,
    LEFT_EYE_OUTER,
    MESH_JAW,
    MESH_LEFT_EYE,
    MESH_NOSE,
    MESH_OVAL,
    MESH_POINT_COUNT,
    MESH_RIGHT_EYE,
    NOSE_TIP,
    RIGHT_EYE_OUTER,
)

_IRIS_WEIGHT = 3.0
# Half the opening angle of the iris, of 11.7 mm, on an adult eyeball of 12.2 mm radius.
_IRIS_ANGLE = float(np.arcsin(5.85 / 12.2))
# Centre, then the rim's points towards the subject's left, up, right and down: the face mesh's order for both eyes.
_IRIS_DIRECTIONS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))


class Contour(NamedTuple):
    """Which landmarks lie on the face's outline, and how far they may slide."""

    landmarks: Int[np.ndarray, " a"]
    """Indices, in order along the outline."""
    behind_mm: Float[np.ndarray, " a"]
    """How far the skin's lines run behind each of them, to the ear or under the jaw."""
    before_mm: Float[np.ndarray, " a"]
    """How far they run into the face, ``FitConfig.contour_reach_mm`` at most."""
    inside: int
    """A landmark well within the outline."""
    closed: bool
    """Whether the last neighbours the first."""


class FacePoints(NamedTuple):
    """A set of landmarks as a detector gives them, on a head model."""

    corners: Int[np.ndarray, "k 4"]
    """Skin vertices that carry each landmark."""
    weights: Float[np.ndarray, "k 4"]
    """Weights of these vertices, which sum to one."""
    rest: Float[np.ndarray, "k 3"]
    """The landmark minus the mean of the vertices on the mean head [mm]; zero on the skin."""
    expressions: Float[np.ndarray, "k 3 e"]
    """Displacement by each expression [mm]."""
    identity: Float[np.ndarray, "k 3 i"]
    """Displacement by each identity coefficient."""
    landmark_weights: Float[np.ndarray, " k"]
    """Weight of each in the fit, but for the contour's (``FitConfig.contour_weight``)."""
    contour: Contour
    eye_corners: tuple[int, int]
    """The landmarks at the outer eye corners, left and right."""


def landmark_points_of(head: HeadModel) -> FacePoints:
    """The 104 landmarks; of :func:`digitaltwin.perception.detect_landmarks` the ``landmarks_px``.

    Args:
        head: The head model.

    Returns:
        The table for :func:`digitaltwin.fitting.make_fitter`, which takes it by default.
    """
    from_ear = np.minimum(np.arange(len(CONTOUR)), len(CONTOUR) - 1 - np.arange(len(CONTOUR)))
    corners = (LEFT_EYE_OUTER, RIGHT_EYE_OUTER)
    contour = Contour(CONTOUR, np.minimum(12.0, 4.0 * from_ear), np.full(len(CONTOUR), 50.0), NOSE_TIP, False)
    landmark_weights = np.ones(LANDMARK_COUNT)
    return FacePoints(
        **_on_skin(head, head.landmarks), landmark_weights=landmark_weights, contour=contour, eye_corners=corners
    )


def mesh_points_of(head: HeadModel) -> FacePoints:
    """The 478 points of the face mesh, of which the last ten, on the irises, say where the eyes look.

    Each point weighs 104/468, as its errors go with its neighbours'; so the whole counts as much as the 104 landmarks.
    Those of the irises weigh 3: nothing else says where the eyes look, which the scores' prior would hold back.
    The oval slides: its jaw as that of the landmarks, its forehead and temples inwards only, as nothing but hair marks
    where they end.

    Args:
        head: The head model.

    Returns:
        The table for :func:`digitaltwin.fitting.make_fitter`.

    Example:
        >>> from digitaltwin.head import load_head
        >>> mesh_points_of(load_head()).rest.shape
        (478, 3)
    """
    skin, irises = _on_skin(head, head.mesh_points), _on_irises(head)
    table = {name: np.concatenate([skin[name], irises[name]]) for name in skin}
    oval = np.array(MESH_OVAL)
    on_jaw = np.isin(oval, MESH_JAW)
    ears = np.flatnonzero(np.isin(oval, (MESH_JAW[0], MESH_JAW[-1])))
    from_ear = np.abs(np.arange(len(oval))[:, None] - ears[None]).min(axis=1)
    behind = np.where(on_jaw, np.minimum(12.0, 4.0 * from_ear), 0.0)
    contour = Contour(oval, behind, np.where(on_jaw, 50.0, 24.0), MESH_NOSE[5], True)
    landmark_weights = np.full(len(table["rest"]), LANDMARK_COUNT / MESH_POINT_COUNT)
    landmark_weights[MESH_POINT_COUNT:] = _IRIS_WEIGHT
    eye_corners = (MESH_LEFT_EYE[0], MESH_RIGHT_EYE[0])
    return FacePoints(**table, landmark_weights=landmark_weights, contour=contour, eye_corners=eye_corners)


def _on_skin(head: HeadModel, anchors: SurfacePoints) -> dict[str, np.ndarray]:
    """Corners, weights, rest and modes of points of the skin."""
    corners = np.asarray(head.faces)[np.asarray(anchors.faces)]
    weights = np.asarray(anchors.barycentric, np.float64)
    return {
        "corners": np.concatenate([corners, corners[:, :1]], axis=1),
        "weights": np.concatenate([weights, 0.0 * weights[:, :1]], axis=1),
        "rest": np.zeros((len(corners), 3)),
        "expressions": _modes(np.asarray(head.expressions), corners, weights),
        "identity": _modes(np.asarray(head.identity), corners, weights),
    }


def _modes(basis: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Displacements [k 3 modes] of means of vertices."""
    return np.einsum("kj,ckjx->kxc", weights, basis.astype(np.float64)[:, corners])


def _on_irises(head: HeadModel) -> dict[str, np.ndarray]:
    """Corners, weights, rest and modes of centre and rim of both irises, the right one's first.

    Every mode moves a rigid eyeball, or scales it: an affine map of its vertices, which is solved for and so known
    between them.
    """
    parts_faces, part_of = np.asarray(head.parts_faces), np.asarray(head.parts_face_part)
    found = []
    for name in ("right_eye", "left_eye"):
        ball = np.unique(parts_faces[part_of == head.part_names.index(name)])
        vertices = np.asarray(head.parts_mean, np.float64)[ball]
        centre, radius = vertices.mean(axis=0), np.linalg.norm(vertices - vertices.mean(axis=0), axis=1).mean()
        across = np.sin(_IRIS_ANGLE) * np.array(_IRIS_DIRECTIONS)
        axis = np.sqrt(1.0 - np.sum(across**2, axis=1, keepdims=True))
        points = centre + radius * np.concatenate([across, axis], axis=1)
        corners = np.asarray(head.parts_follow_vertices)[ball[:1]].repeat(len(points), axis=0)
        weights = np.asarray(head.parts_follow_weights, np.float64)[ball[:1]].repeat(len(points), axis=0)
        rest = points - np.einsum("kj,kjx->kx", weights, np.asarray(head.mean, np.float64)[corners])
        affine = np.linalg.lstsq(np.column_stack([np.ones(len(ball)), vertices]), np.eye(len(ball)), rcond=None)[0]
        spread = np.column_stack([np.ones(len(points)), points]) @ affine
        bases = {"expressions": head.parts_expressions, "identity": head.parts_identity}
        modes = {
            name: np.einsum("kb,cbx->kxc", spread, np.asarray(basis, np.float64)[:, ball])
            for name, basis in bases.items()
        }
        found.append({"corners": corners, "weights": weights, "rest": rest, **modes})
    return {name: np.concatenate([eye[name] for eye in found]) for name in found[0]}
