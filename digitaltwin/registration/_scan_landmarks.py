"""Landmarks of a scan, read off rendered views by the landmark detector and looked up on the surface.

A scan may stand anyhow and be of any unit, so it is first looked at from all around; the view whose landmarks, on the
surface, are most like the mean head's tells how it stands. Then the face is looked at from the front, from either side,
from above and below, and a landmark is where the views that see it squarely agree.

The landmarks of the jaw's outline have no place on the surface: each view would put them elsewhere. They are left out.

Letters: n vertices of the scan, k landmarks, w views, s edge of a view in pixels.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Similarity, procrustes_alignment
from digitaltwin.geometry._surface import refuse_where
from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head.markup import CONTOUR, LANDMARK_COUNT
from digitaltwin.perception import Perception, detect_landmarks, load_perception
from digitaltwin.registration._register import MOST_UNLIKE, unlikeness
from digitaltwin.render import rasterize
from digitaltwin.render._zbuffer import screen_points
from digitaltwin.types import InputError, Mesh

_SIZE = 512  # of a view [px]
_FINER = 2  # samples a pixel, each way
_FAR = 6.0  # distance of the eye, in half-widths of the view: nearly parallel rays, as of a long lens
_FACE_WIDTH_MM = 250.0
_ALIKE = 0.12  # unlikeness up to which there is no need to look from elsewhere
_MOST_PASSES = 3  # over the views from the front, until the pose that they show ...
_SAME_DEG = 5.0  # ... is within this of the one they were made for
_SQUARELY = 0.35  # cosine between the surface's normal and the line of sight from which on a view is believed
_APART_MM = 5.0  # from the median of the views, up to which one counts
_FEWEST_HITS = 40
_BACKGROUND = 0.85
# Turns of the head about its own axes, degrees: to the front, aside, from above and below.
_LOOKS_DEG = ((0.0, 0.0), (30.0, 0.0), (-30.0, 0.0), (0.0, 20.0), (0.0, -20.0))


class View(NamedTuple):
    """What a camera sees of a scan."""

    face: Int[np.ndarray, "2s 2s"]
    """-1 where there is none."""
    barycentric: Float[np.ndarray, "2s 2s 3"]
    picture: Float[np.ndarray, "s s 3"]
    """sRGB."""
    squarely: Float[np.ndarray, "2s 2s"]
    """Cosine between the surface's normal and the line of sight, whichever side is seen."""


def find_landmarks(head: HeadModel, scan: Mesh, *, perception: Perception | None = None) -> Float[np.ndarray, "104 3"]:
    """Find the landmarks of a scan of a head.

    Args:
        head: The model, whose mean tells what a head looks like.
        scan: With a texture or colours if there are; without, a lit grey surface is looked at.
        perception: The networks; None for those shipped.

    Returns:
        In the scan's own frame and unit; NaN for the jaw's outline and where no view shows the surface.

    Raises:
        InputError: No face is found from any side, or a face of the mesh has a corner that is not finite.
    """
    lost = np.any(~np.isfinite(scan.vertices), axis=1)
    refuse_where("scan faces", np.any(lost[scan.faces], axis=1), "have corners that are not finite", "remove them")
    perception = load_perception() if perception is None else perception
    expected = np.asarray(landmark_points(head, head.mean), np.float64)
    placement = _first_sight(expected, scan, perception)
    for _ in range(_MOST_PASSES):
        views = [_read(scan, *from_front(placement, yaw, pitch_deg=pitch), perception) for yaw, pitch in _LOOKS_DEG]
        found = _agreed(views, placement.scale)
        stands = _stand(expected, found)
        if stands is None:
            raise InputError("scan: the face on it cannot be read from the front; give its landmarks.")
        before, placement = placement, stands.placement
        if _between_deg(before, placement) < _SAME_DEG:
            break
    return found


def colours_at(
    scan: Mesh, faces: Int[np.ndarray, " p"], barycentric: Float[np.ndarray, "p 3"]
) -> Float[np.ndarray, "p 3"] | None:
    """The scan's colours at points of it.

    Args:
        scan: The scan.
        faces: Face of each point.
        barycentric: Its weights of the face's corners.

    Returns:
        sRGB in [0, 1], a texture bilinear; None for a scan without colours.
    """
    corners = scan.faces[faces]
    if scan.texture is not None and scan.uv is not None:
        height, width = scan.texture.shape[:2]
        uv = np.einsum("pc,pcd->dp", barycentric, scan.uv[corners])
        u, v = np.where((uv < 0.0) | (uv > 1.0), uv % 1.0, uv)  # textures repeat beyond their borders
        places = np.stack([(1.0 - v) * height - 0.5, u * width - 0.5])
        planes = [map_coordinates(plane, places, order=1, mode="nearest") for plane in np.moveaxis(scan.texture, 2, 0)]
        return np.stack(planes, axis=-1)
    if scan.colours is not None:
        return np.einsum("pc,pcd->pd", barycentric, scan.colours[corners])
    return None


class _Stand(NamedTuple):
    """How the mean head would stand to have some landmarks."""

    unlike: float
    """See :func:`digitaltwin.registration._register.unlikeness`."""
    placement: Similarity


def _first_sight(expected: np.ndarray, scan: Mesh, perception: Perception) -> Similarity:
    """The pose under which a scan, looked at from all around, is most like a face."""
    best = None
    for directions in (_axes(), _corners()):
        for direction in directions:
            points, _ = _read(scan, *_from_outside(scan, direction), perception)
            stands = _stand(expected, points)
            if stands is not None and (best is None or stands.unlike < best.unlike):
                best = stands
            if best is not None and best.unlike < _ALIKE:
                return best.placement
        if best is not None:
            return best.placement
    raise InputError(
        "scan: no face is found on it from any side; cut it off below the shoulders, check that its texture was read, "
        "or give its landmarks."
    )


def _between_deg(first: Similarity, second: Similarity) -> float:
    """Angle between two rotations."""
    return float(np.rad2deg(Rotation.from_matrix(first.rotation.T @ second.rotation).magnitude()))


def _axes() -> list[np.ndarray]:
    """From the front of a scan that stands upright and looks along +z, as most do, and along the other axes."""
    return [np.array(axis, float) for axis in ((0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 0, -1), (0, -1, 0), (0, 1, 0))]


def _corners() -> list[np.ndarray]:
    signs = np.stack(np.meshgrid([1.0, -1.0], [1.0, -1.0], [1.0, -1.0]), axis=-1).reshape(-1, 3)
    return list(signs / np.sqrt(3.0))


def _from_outside(scan: Mesh, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A camera that shows the whole scan: its axes (right, down, forward) as rows, what it looks at, half its width."""
    used = scan.vertices[np.unique(scan.faces)]
    low, high = np.quantile(used, [0.005, 0.995], axis=0)
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, direction)
    right /= np.linalg.norm(right)
    axes = np.stack([right, -np.cross(direction, right), -direction])
    return axes, (low + high) / 2.0, 0.55 * float(np.linalg.norm(high - low))


def from_front(
    placement: Similarity, yaw_deg: float, *, pitch_deg: float = 0.0
) -> tuple[np.ndarray, np.ndarray, float]:
    """A camera for :func:`look` that shows a head which stands so, turned to its left and down.

    Args:
        placement: From the head frame to the scan's.
        yaw_deg: Turn to the head's own left.
        pitch_deg: Turn down.

    Returns:
        Axes, middle, half the width.
    """
    yaw, pitch = np.deg2rad([yaw_deg, pitch_deg])
    about_y = np.array([[np.cos(yaw), 0.0, np.sin(yaw)], [0.0, 1.0, 0.0], [-np.sin(yaw), 0.0, np.cos(yaw)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(pitch), -np.sin(pitch)], [0.0, np.sin(pitch), np.cos(pitch)]])
    axes = np.diag([1.0, -1.0, -1.0]) @ about_x @ about_y @ placement.rotation.T
    middle = placement.apply(np.array([[0.0, 0.0, 0.0]]))[0]
    return axes, middle, placement.scale * _FACE_WIDTH_MM / 2.0


def _read(
    scan: Mesh, axes: np.ndarray, middle: np.ndarray, half_width: float, perception: Perception
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, " k"]]:
    """The landmarks that a camera sees, on the surface, and how squarely; NaN and 0 where there is none."""
    view = look(scan, axes, middle, half_width)
    points, squarely = np.full((LANDMARK_COUNT, 3), np.nan), np.zeros(LANDMARK_COUNT)
    try:
        face = detect_landmarks(view.picture.astype(np.float32), perception=perception)
    except InputError:
        return points, squarely
    column, row = np.floor(np.asarray(face.landmarks_px) * _FINER).astype(int).T
    inside = (row >= 0) & (column >= 0) & (row < len(view.face)) & (column < len(view.face))
    inside[CONTOUR] = False
    index = np.flatnonzero(inside)
    index = index[view.face[row[index], column[index]] >= 0]
    row, column = row[index], column[index]
    corners = scan.vertices[scan.faces[view.face[row, column]]]
    points[index] = np.einsum("kc,kcd->kd", view.barycentric[row, column], corners)
    squarely[index] = view.squarely[row, column]
    return points, squarely


def look(
    scan: Mesh,
    axes: Float[np.ndarray, "3 3"],
    middle: Float[np.ndarray, " 3"],
    half_width: float,
    *,
    size: int = _SIZE,
) -> View:
    """Render a scan, by its own colours or as a grey surface lit from the eye.

    Args:
        scan: The scan.
        axes: The camera's (right, down, forward) as rows.
        middle: What it looks at.
        half_width: Of the picture there, in the scan's unit.
        size: Edge of the picture [px].

    Returns:
        What is seen, two samples a pixel each way, and the picture.
    """
    edge = size * _FINER
    seen = (scan.vertices - middle) @ axes.T / half_width + [0.0, 0.0, _FAR]
    screen = screen_points(jnp.asarray(seen, jnp.float32), edge * _FAR / 2.0, jnp.full(2, edge / 2.0))
    fragments = rasterize(screen, jnp.asarray(scan.faces, jnp.int32), image_hw=(edge, edge))
    face, barycentric = np.asarray(fragments.face), np.asarray(fragments.barycentric, np.float64)
    hit = face >= 0
    corners = seen[scan.faces[face[hit]]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sight = corners.mean(axis=1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(sight, axis=1)
    squarely = np.zeros(face.shape)
    squarely[hit] = np.abs(np.sum(normals * sight, axis=1)) / np.maximum(lengths, 1e-30)
    fine = np.full((*face.shape, 3), _BACKGROUND)
    colours = colours_at(scan, face[hit], barycentric[hit])
    fine[hit] = 0.15 + 0.65 * squarely[hit][:, None] if colours is None else colours
    picture = fine.reshape(size, _FINER, size, _FINER, 3).mean(axis=(1, 3))
    return View(face, barycentric, picture, squarely)


def _stand(expected: np.ndarray, found: np.ndarray) -> _Stand | None:
    """None if they are not a face's."""
    known = np.isfinite(found).all(axis=1)
    if known.sum() < _FEWEST_HITS:
        return None
    try:
        placement = procrustes_alignment(expected[known], found[known], with_scale=True)
    except InputError:
        return None
    unlike = unlikeness(expected[known], placement.inverse().apply(found[known]))
    return _Stand(unlike, placement) if unlike < MOST_UNLIKE else None


def _agreed(views: list[tuple[np.ndarray, np.ndarray]], units_per_mm: float) -> Float[np.ndarray, "104 3"]:
    """Means over the views that see a landmark squarely, and near where most see it."""
    points = np.stack([points for points, _ in views])
    squarely = np.stack([squarely for _, squarely in views])
    trust = np.where(squarely > _SQUARELY, squarely**2, 0.0)
    trusted = np.where(trust[..., None] > 0.0, points, np.nan)
    found = np.full(points.shape[1:], np.nan)
    for landmark in np.flatnonzero(trust.any(axis=0)):
        own, weights = trusted[:, landmark], trust[:, landmark]
        away = np.linalg.norm(own - np.nanmedian(own, axis=0), axis=1)
        counts = (weights > 0.0) & (np.nan_to_num(away, nan=np.inf) <= _APART_MM * units_per_mm)
        if counts.any():
            found[landmark] = np.average(own[counts], axis=0, weights=weights[counts])
    return found
