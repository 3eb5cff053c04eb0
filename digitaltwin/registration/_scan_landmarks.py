"""Landmarks of a scan, detected on rendered views and looked up on the surface.

A scan may have any pose and unit, so it is first rendered from all around; the view whose landmarks, on the surface,
have the smallest Procrustes residual against the mean head's gives its pose. Then the face is rendered from the front,
from either side, from above and below, and a landmark is where the views that face it agree.

The landmarks of the jaw's outline have no place on the surface: each view would put them elsewhere. They are left out.

Letters: n vertices of the scan, k landmarks, w views, s edge of a view in pixels.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Camera, Similarity, SurfacePoints, procrustes_alignment
from digitaltwin.geometry._camera import AXIS_FLIP, camera_points
from digitaltwin.geometry._surface import refuse_where
from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head.markup import CONTOUR, LANDMARK_COUNT
from digitaltwin.perception import detect_landmarks, load_perception
from digitaltwin.perception._detection import Perception
from digitaltwin.registration._register import MAX_PROCRUSTES_RESIDUAL, procrustes_residual
from digitaltwin.render import rasterize
from digitaltwin.render._zbuffer import screen_points
from digitaltwin.types import InputError, Mesh

_SIZE = 512  # of a view [px]
_FINER = 2  # samples a pixel, each way
_FAR = 6.0  # distance of the eye, in half-widths of the view: nearly parallel rays, as of a long lens
_SMALL_RESIDUAL = 0.12  # Procrustes residual up to which there is no need to look from elsewhere
_MOST_PASSES = 3  # over the views from the front, until the pose that they show ...
_SAME_DEG = 5.0  # ... is within this of the one they were made for
_MIN_FACING = 0.35  # cosine between the surface's normal and the line of sight from which on a view is believed
_APART_MM = 5.0  # from the median of the views, up to which one counts
_FEWEST_HITS = 40
_BACKGROUND = 0.85
# Turns of the head about its own axes, degrees: to the front, aside, from above and below.
_VIEWS_DEG = ((0.0, 0.0), (30.0, 0.0), (-30.0, 0.0), (0.0, 20.0), (0.0, -20.0))


class View(NamedTuple):
    """A rendered view of a scan, two samples a pixel each way."""

    face: Int[np.ndarray, "2s 2s"]
    """Face seen at each sample, -1 where there is none."""
    barycentric: Float[np.ndarray, "2s 2s 3"]
    """Weights of that face's corners."""
    picture: Float[np.ndarray, "s s 3"]
    """sRGB in [0, 1], a mean of four samples each."""
    facing_ratio: Float[np.ndarray, "2s 2s"]
    """Cosine between the surface's normal and the line of sight, whichever side is seen; 0 where there is none."""


def find_landmarks(head: HeadModel, scan: Mesh, *, perception: Perception | None = None) -> Float[np.ndarray, "104 3"]:
    """Detect the 104 landmarks on rendered views of a scan, and look them up on its surface.

    Args:
        head: The head model, whose mean tells what a face's landmarks look like.
        scan: The scan, with a texture or colours if it has any; without, it is rendered as a lit grey surface.
        perception: The networks; None for those shipped.

    Returns:
        Positions [104 3] in the scan's own frame and unit; NaN for the jaw's outline and where no view shows the
        surface.

    Raises:
        InputError: No face is found from any side, or a face of the mesh has a corner that is not finite.

    Example:
        >>> from digitaltwin.head import load_head
        >>> from digitaltwin.io import asset_path, read_scan
        >>> find_landmarks(load_head(), read_scan(asset_path("scan.glb"))).shape
        (104, 3)
    """
    lost = np.any(~np.isfinite(scan.vertices), axis=1)
    refuse_where("scan faces", np.any(lost[scan.faces], axis=1), "have corners that are not finite", "remove them")
    perception = load_perception() if perception is None else perception
    expected = np.asarray(landmark_points(head, head.mean), np.float64)
    pose = _first_pose(expected, scan, perception)
    found = np.full((LANDMARK_COUNT, 3), np.nan)
    for _ in range(_MOST_PASSES):
        cameras = [front_camera(pose, yaw_deg=yaw, pitch_deg=pitch) for yaw, pitch in _VIEWS_DEG]
        found = _agreed([_detect(scan, camera, perception) for camera in cameras], pose.scale)
        better = _pose(expected, found)
        if better is None:
            raise InputError("scan: no face is detected on it from the front; give its landmarks.")
        before, pose = pose, better[1]
        if _between_deg(before, pose) < _SAME_DEG:
            break
    return found


def is_coloured(scan: Mesh) -> bool:
    """Tell whether a scan has colours: a texture and where it belongs, or those of its vertices."""
    return (scan.texture is not None and scan.uv is not None) or scan.colours is not None


def colours_at(scan: Mesh, points: SurfacePoints) -> Float[np.ndarray, "n 3"] | None:
    """Look up a scan's colours.

    Args:
        scan: The scan.
        points: Points of its surface.

    Returns:
        sRGB in [0, 1], a texture bilinear; None for a scan without colours.
    """
    if scan.texture is not None and scan.uv is not None:
        height, width = scan.texture.shape[:2]
        uv = points.interpolate(scan.uv, scan.faces if scan.uv_faces is None else scan.uv_faces).T
        u, v = np.where((uv < 0.0) | (uv > 1.0), uv % 1.0, uv)  # textures repeat beyond their borders
        places = np.stack([(1.0 - v) * height - 0.5, u * width - 0.5])
        planes = [map_coordinates(plane, places, order=1, mode="nearest") for plane in np.moveaxis(scan.texture, 2, 0)]
        return np.stack(planes, axis=-1)
    if scan.colours is not None:
        return points.interpolate(scan.colours, scan.faces)
    return None


def _first_pose(expected: np.ndarray, scan: Mesh, perception: Perception) -> Similarity:
    """The pose under which a scan, rendered from all around, is most like a face."""
    best = None
    for directions in (_axes(), _corners()):
        for direction in directions:
            points, _ = _detect(scan, _outside_camera(scan, direction), perception)
            found = _pose(expected, points)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
            if best is not None and best[0] < _SMALL_RESIDUAL:
                return best[1]
        if best is not None:
            return best[1]
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


def _outside_camera(scan: Mesh, direction: np.ndarray) -> Camera:
    """A camera that shows the whole scan from a direction."""
    used = scan.vertices[np.unique(scan.faces)]
    low, high = np.quantile(used, [0.005, 0.995], axis=0)
    up = (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (0.0, 0.0, 1.0)
    distance = _FAR * 0.55 * float(np.linalg.norm(high - low))
    middle = (low + high) / 2.0
    return Camera.look_at(middle + distance * direction, middle, up=up, **_intrinsics(_SIZE))


def front_camera(
    scan_from_head: Similarity, *, yaw_deg: float, pitch_deg: float = 0.0, width_mm: float = 250.0, size: int = _SIZE
) -> Camera:
    """A camera for :func:`render_scan` that shows the head on a scan from the front, turned.

    Args:
        scan_from_head: The head's pose on the scan.
        yaw_deg: Turn of the head to its own left.
        pitch_deg: Turn of the head down.
        width_mm: Width of the picture at the head's origin.
        size: Edge of the picture [px].

    Returns:
        The camera, in the scan's frame and unit.
    """
    distance = _FAR * scan_from_head.scale * width_mm / 2.0
    turned = Camera.orbit(
        yaw=np.deg2rad(yaw_deg), pitch=np.deg2rad(pitch_deg), distance_mm=distance, **_intrinsics(size)
    )
    rotation = turned.rotation @ scan_from_head.rotation.T
    translation = turned.translation - AXIS_FLIP * (rotation @ scan_from_head.translation)
    return turned._replace(rotation=rotation, translation=translation)


def _intrinsics(size: int) -> dict[str, Any]:
    """Of a long lens: half the picture's width is a sixth of the distance."""
    return {"focal_px": size * _FAR / 2.0, "principal_point_px": (size / 2.0, size / 2.0)}


def _detect(
    scan: Mesh, camera: Camera, perception: Perception
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, " k"]]:
    """The landmarks that a camera sees, on the surface, and their facing ratios; NaN and 0 where there is none."""
    view = render_scan(scan, camera, size=_SIZE)
    points, facing = np.full((LANDMARK_COUNT, 3), np.nan), np.zeros(LANDMARK_COUNT)
    try:
        face = detect_landmarks(view.picture.astype(np.float32), perception=perception)
    except InputError:
        return points, facing
    column, row = np.floor(np.asarray(face.landmarks_px) * _FINER).astype(int).T
    inside = (row >= 0) & (column >= 0) & (row < len(view.face)) & (column < len(view.face))
    inside[CONTOUR] = False
    index = np.flatnonzero(inside)
    index = index[view.face[row[index], column[index]] >= 0]
    row, column = row[index], column[index]
    hit = SurfacePoints(view.face[row, column], view.barycentric[row, column])
    points[index] = hit.interpolate(scan.vertices, scan.faces)
    facing[index] = view.facing_ratio[row, column]
    return points, facing


def render_scan(scan: Mesh, camera: Camera, *, size: int) -> View:
    """Render a scan, by its own colours or as a grey surface lit from the camera.

    Args:
        scan: The scan.
        camera: A camera that looks at it, in its frame and unit.
        size: Edge of the picture [px].

    Returns:
        The faces seen, and the picture.
    """
    edge = size * _FINER
    # The rasteriser has a nearest depth of its own, so the scan is brought to the same distance whatever its unit.
    seen = camera_points(camera, np.asarray(scan.vertices, np.float64))
    seen *= _FAR / np.median(seen[np.unique(scan.faces), 2])
    principal = jnp.asarray(camera.principal_point_px * _FINER, jnp.float32)
    screen = screen_points(jnp.asarray(seen, jnp.float32), float(camera.focal_px) * _FINER, principal)
    fragments = rasterize(screen, jnp.asarray(scan.faces, jnp.int32), image_hw=(edge, edge))
    face, barycentric = np.asarray(fragments.face), np.asarray(fragments.barycentric, np.float64)
    hit = face >= 0
    corners = seen[scan.faces[face[hit]]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sight = corners.mean(axis=1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(sight, axis=1)
    facing = np.zeros(face.shape)
    facing[hit] = np.abs(np.sum(normals * sight, axis=1)) / np.maximum(lengths, 1e-30)
    fine = np.full((*face.shape, 3), _BACKGROUND)
    colours = colours_at(scan, SurfacePoints(face[hit], barycentric[hit]))
    fine[hit] = 0.15 + 0.65 * facing[hit][:, None] if colours is None else colours
    picture = fine.reshape(size, _FINER, size, _FINER, 3).mean(axis=(1, 3))
    return View(face, barycentric, picture, facing)


def _pose(expected: np.ndarray, found: np.ndarray) -> tuple[float, Similarity] | None:
    """Procrustes residual and pose of the mean head for some landmarks; None if they are not a face's."""
    known = np.isfinite(found).all(axis=1)
    if known.sum() < _FEWEST_HITS:
        return None
    try:
        pose = procrustes_alignment(expected[known], found[known], with_scale=True)
    except InputError:
        return None
    residual = procrustes_residual(expected[known], pose.inverse().apply(found[known]))
    return (residual, pose) if residual < MAX_PROCRUSTES_RESIDUAL else None


def _agreed(views: list[tuple[np.ndarray, np.ndarray]], units_per_mm: float) -> Float[np.ndarray, "104 3"]:
    """Means over the views that face a landmark, and see it near where most do."""
    points = np.stack([points for points, _ in views])
    facing = np.stack([facing for _, facing in views])
    trust = np.where(facing > _MIN_FACING, facing**2, 0.0)
    trusted = np.where(trust[..., None] > 0.0, points, np.nan)
    found = np.full(points.shape[1:], np.nan)
    for landmark in np.flatnonzero(trust.any(axis=0)):
        own, weights = trusted[:, landmark], trust[:, landmark]
        away = np.linalg.norm(own - np.nanmedian(own, axis=0), axis=1)
        counts = (weights > 0.0) & (np.nan_to_num(away, nan=np.inf) <= _APART_MM * units_per_mm)
        if counts.any():
            found[landmark] = np.average(own[counts], axis=0, weights=weights[counts])
    return found
