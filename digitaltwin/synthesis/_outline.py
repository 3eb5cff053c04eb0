"""Contour landmarks put where an annotator of pictures would draw them: on the visible outline of the face.

Letters: n scenes, k landmarks.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from digitaltwin.geometry._camera import camera_points
from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head.markup import CONTOUR, LEFT_EYE_OUTER, NOSE, RIGHT_EYE_OUTER
from digitaltwin.render import rasterize
from digitaltwin.synthesis._scene import Scene
from digitaltwin.texture._layout import oval_distance

# A pixel across the head counts this much against one along it, when a place on the outline is looked for.
_ACROSS = 0.4


def outline_landmarks(head: HeadModel, scenes: Scene, *, noise_percent: float, seed: int) -> Float[np.ndarray, "n k 2"]:
    """Put the detected contour landmarks where an annotator of pictures would draw them.

    A contour anchor that is seen stays at its true place. One that the head itself hides goes to the visible outline of
    the face, across rather than up or down: edges between faces turned to and from the camera, with nothing in front of
    them, on the face or at most 30 mm behind its oval, but not the outlines of nose, lids and lips.

    Args:
        head: The model.
        scenes: Scenes with detected landmarks, many in a leading axis.
        noise_percent: Standard deviation of a normal error in each coordinate [% of the outer eye corners' distance].
        seed: Seed of the errors.

    Returns:
        All landmarks [px]: the contour's moved, the others as detected.

    Example:
        >>> import jax
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig, draw_scene
        >>> from digitaltwin.synthesis._pictures import oracle_detections
        >>> head = load_head()
        >>> scene = oracle_detections(head, draw_scene(head, load_subjects(), 3, 0, SceneConfig()))
        >>> scenes = jax.tree.map(lambda part: np.asarray(part)[None], scene)
        >>> outline_landmarks(head, scenes, noise_percent=2.0, seed=0).shape
        (1, 104, 2)
    """
    rng = np.random.default_rng([seed, 5])
    nose = np.asarray(landmark_points(head, head.mean))[NOSE]
    cheeks = KDTree(nose).query(np.asarray(head.mean))[0] > 18.0
    cheeks &= (oval_distance(head) > -30.0) & ~np.asarray(head.regions.eyes | head.regions.lips)
    edges, sides = _edges_between_faces(np.asarray(head.faces))
    kept = cheeks[edges].all(axis=1)
    moved = scenes.landmarks_px.copy()
    for row in range(len(moved)):
        one = scenes.take(np.asarray(row))
        camera = jax.tree.map(jnp.asarray, one.camera)
        points = np.asarray(camera_points(camera, jnp.asarray(one.vertices)))
        view = _View(head, one, points)
        anchors = np.asarray(landmark_points(head, jnp.asarray(points)))
        corners = points[np.asarray(head.faces)]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.sum(normals * corners[:, 0], axis=1) < 0
        turning = edges[kept & (facing[sides[:, 0]] != facing[sides[:, 1]])]
        share = np.linspace(0, 1, 9)[None, :, None]
        outline = (points[turning[:, :1]] * (1 - share) + points[turning[:, 1:]] * share).reshape(-1, 3)
        outline_px = view.pixels(outline[~view.hidden(outline, 1.5)])
        place, hidden = view.pixels(anchors[CONTOUR]), view.hidden(anchors[CONTOUR], 2.5)
        if hidden.any() and len(outline_px):
            place[hidden] = outline_px[KDTree(view.upright(outline_px)).query(view.upright(place[hidden]))[1]]
        eyes = anchors[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER]]
        eye_px = one.camera.focal_px * np.linalg.norm(eyes[0] - eyes[1]) / eyes[:, 2].mean()
        moved[row, CONTOUR] = place + rng.normal(size=place.shape) * eye_px * noise_percent / 100
    return moved


class _View:
    """What of a posed head its camera sees."""

    def __init__(self, head: HeadModel, one: Scene, points: np.ndarray):
        self.camera = one.camera
        self.height, self.width = (int(edge) for edge in one.image_size)
        screen = jnp.asarray(np.concatenate([self.pixels(points), points[:, 2:]], axis=1), jnp.float32)
        depth = np.asarray(rasterize(screen, head.faces, image_hw=(self.height, self.width)).depth)
        # The farthest of nine pixels: what lies right on an outline is not to be hidden by its own surface.
        padded = np.pad(depth, 1, constant_values=np.inf)
        self.depth = np.max(
            [padded[y : y + self.height, x : x + self.width] for y in range(3) for x in range(3)], axis=0
        )

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project camera-frame points [mm] to the image."""
        return np.asarray(self.camera.focal_px * points[:, :2] / points[:, 2:] + self.camera.principal_point_px)

    def upright(self, points_px: np.ndarray) -> np.ndarray:
        """Turn image positions along and across the head's vertical; what is across counts less."""
        up = np.asarray(self.camera.rotation)[:2, 1] * [1, -1]
        up /= np.linalg.norm(up)
        return points_px @ np.stack([up, _ACROSS * np.array([-up[1], up[0]])], axis=1)

    def hidden(self, points: np.ndarray, tolerance_mm: float) -> np.ndarray:
        """Tell which camera-frame points lie behind the skin, or outside the image."""
        column, row = np.floor(self.pixels(points)).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < self.width) & (row < self.height)
        seen = self.depth[np.clip(row, 0, self.height - 1), np.clip(column, 0, self.width - 1)]
        return ~inside | (points[:, 2] > seen + tolerance_mm)


def _edges_between_faces(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that two faces share, and those faces."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    order = np.lexsort(edges.T)
    edges, face = edges[order], order // 3
    shared = np.flatnonzero((edges[1:] == edges[:-1]).all(axis=1))
    return edges[shared], np.stack([face[shared], face[shared + 1]], axis=1)
