"""The sliding contour: where on the skin the outline of a turned face lies (Cao et al. 2014, the paper's reference 7).

A landmark on the jaw's outline marks no fixed point of the skin: as the head turns, the outline wanders over the cheek.
So some forty lines run over the skin, across the outline, from behind it (ear, underside of the jaw) into the face.
For every pose each line has one *silhouette* point, where the surface is seen most nearly edge-on,

    argmin_j |n_j . v_j|,      n_j the normal at the line's j-th candidate, v_j the unit direction it is seen in,

and the silhouette points of neighbouring lines, joined, are the outline in the image. A contour landmark belongs to
the point of that polyline nearest to it. The choice is held fixed within a Gauss-Newton step.

A line that is seen from one side throughout crosses no silhouette, and what of it is nearest to edge-on is a matter of
chance. On the near side of a turned head, where it is seen from without, its hind end counts: the border of the face in
front of the ear. On the far side, where the silhouette has moved beyond its reach into the face, its other end does.

Letters: l lines, j candidates on each, c sliding landmarks, g = l or l - 1 segments of the polyline.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.geometry import Camera
from digitaltwin.geometry._barycentric import interpolate
from digitaltwin.geometry._camera import camera_from_head
from digitaltwin.geometry._normals import normalize
from digitaltwin.types import InputError

LINE_SPACING_MM = 7.0
"""Distance of the lines along the outline: some forty of them from ear to ear."""
SPACING_MM = 6.0
"""Distance of a line's candidates along the skin. Silhouettes are sought no finer: within half of it the skin leaves
the line of sight by 0.1 mm."""
_PIVOT_MM = 40.0  # depth below the skin of the point that a line's rays start from


class ContourLines(NamedTuple):
    """Candidates on lines across the outline, neighbouring lines side by side."""

    corners: Int[np.ndarray, "l j 3"]
    """The three skin vertices around each candidate."""
    barycentric: Float[np.ndarray, "l j 3"]
    """Weights of these vertices, which sum to one."""


class Correspondence(NamedTuple):
    """The point of the outline that each contour landmark belongs to: between the silhouettes of two neighbours."""

    first: Int[Array, " c"]
    """Line of the segment's first end."""
    second: Int[Array, " c"]
    """Line of its second end."""
    share: Float[Array, " c"]
    """Weight of the second; the first has one minus it."""


class Candidates(NamedTuple):
    """The candidates on one neutral shape."""

    points: Float[Array, "l j 3"]
    """Positions in the head frame [mm]."""
    normals: Float[Array, "l j 3"]
    """Unit normals there, outward; zero where a line has ended."""


def make_contour_lines(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    path: Float[np.ndarray, "a 3"],
    behind_mm: Float[np.ndarray, " a"],
    before_mm: Float[np.ndarray, " a"],
    *,
    inside: Float[np.ndarray, " 3"],
    closed: bool = False,
) -> ContourLines:
    """Lay the lines over a head, on the host: sections of the skin by planes across the outline.

    Args:
        vertices: The mean head [mm].
        faces: Triangles.
        path: The outline's landmarks on it, in order.
        behind_mm: How far the line through each of them runs behind the outline, along the skin.
        before_mm: How far it runs into the face; lines in between interpolate.
        inside: A point of the face well within the outline, such as the tip of the nose; lines run towards it.
        closed: Whether the last landmark of the path neighbours the first.

    Returns:
        The candidates of every line, from behind the outline into the face. A shorter line, and one that meets a hole
        of the skin, repeats its last candidate.

    Raises:
        InputError: The skin has a hole where a line should run.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    origins, tangents, behind, before = _resampled(np.asarray(path, np.float64), behind_mm, before_mm, closed)
    triangles = vertices[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    middles = triangles.mean(axis=1)
    behind, before = np.rint(behind / SPACING_MM).astype(int), np.rint(before / SPACING_MM).astype(int)
    steps = np.arange(-max(behind), max(before) + 1)
    chosen, weights = [], []
    for origin, tangent, first, last in zip(origins, tangents, -behind, before):
        # A normal of the neighbourhood, not of the triangle: a line's plane must not follow every fold of the skin.
        near = np.exp(-0.5 * np.sum((middles - origin) ** 2, axis=1) / 15.0**2)
        normal = near @ normals
        normal -= (normal @ tangent) * tangent
        normal /= np.linalg.norm(normal)
        inward = np.cross(tangent, normal)
        inward *= np.sign(inward @ (np.asarray(inside) - origin))
        across = (triangles - origin) @ tangent
        cut = np.flatnonzero((across.min(axis=1) <= 0.0) & (across.max(axis=1) >= 0.0))
        line_faces, line_weights = _section(triangles[cut], normals[cut], origin, normal, inward, steps)
        kept = np.clip(steps, first, last) - steps[0]
        chosen.append(faces[cut[line_faces[kept]]])
        weights.append(line_weights[kept])
    return ContourLines(np.stack(chosen), np.stack(weights))


def candidate_normals(points: Float[Array, "l j 3"], *, closed: bool) -> Float[Array, "l j 3"]:
    """Unit normals of the surface that the candidates span, by differences along and across the lines.

    They average the skin over a spacing or two, which is what an outline in a photo does as well.

    Args:
        points: The candidates on a neutral shape [mm].
        closed: Whether the last line neighbours the first.

    Returns:
        Unit vectors, of one orientation throughout (inward or outward); zero where a line has ended.
    """

    def difference(values: Float[Array, "l j 3"], axis: int, around: bool) -> Float[Array, "l j 3"]:
        if around:
            return jnp.roll(values, -1, axis) - jnp.roll(values, 1, axis)
        last = values.shape[axis] - 1
        index = jnp.arange(last + 1)
        ahead = jnp.take(values, jnp.minimum(index + 1, last), axis=axis)
        return ahead - jnp.take(values, jnp.maximum(index - 1, 0), axis=axis)

    return normalize(jnp.cross(difference(points, 0, closed), difference(points, 1, False)))


def silhouettes(camera: Camera, candidates: Candidates) -> Int[Array, " l"]:
    """The candidate of each line that is seen most nearly edge-on, ``argmin_j |n_j . v_j|``, or the line's end.

    Of a line seen from without at all candidates it is the hind end, of one seen from within the end in the face.

    Args:
        camera: Pose of the head.
        candidates: Of the contour, on the neutral shape.

    Returns:
        For every line the index of its silhouette among the candidates of all lines, line by line.
    """
    points, normals = candidates
    centre = -jnp.sum(
        camera_from_head(camera.rotation) * camera.translation[:, None], axis=0
    )  # of the camera, head frame
    sight = points - centre[None, None]
    squared = jnp.sum(sight**2, axis=2)
    away = jnp.sum(normals * sight, axis=2)  # positive where the surface is seen from within: the head hides it
    ended = jnp.all(normals == 0.0, axis=2)
    without = jnp.all((away < 0.0) | ended, axis=1, keepdims=True)
    within = jnp.all((away > 0.0) | ended, axis=1, keepdims=True)
    inward = jnp.arange(points.shape[1], dtype=points.dtype)[None]
    facing = away**2 / jnp.where(squared > 0.0, squared, 1.0)
    rank = jnp.where(without, inward, jnp.where(within, -inward, facing))
    edge_on = jnp.argmin(jnp.where(ended, jnp.inf, rank), axis=1)
    return jnp.arange(points.shape[0]) * points.shape[1] + edge_on


def nearest_on_outline(
    outline_px: Float[Array, "l 2"], landmarks_px: Float[Array, "c 2"], *, closed: bool
) -> Correspondence:
    """The point of the outline nearest to each landmark in the image.

    Args:
        outline_px: Image of the lines' silhouette points, in order.
        landmarks_px: Contour landmarks.
        closed: Whether the last point of the outline is joined to the first.

    Returns:
        The correspondences.

    Example:
        >>> import jax.numpy as jnp
        >>> corner = jnp.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
        >>> found = nearest_on_outline(corner, jnp.array([[4.0, 3.0], [12.0, 12.0]]), closed=False)
        >>> found.first.tolist(), found.second.tolist(), found.share.round(3).tolist()
        ([0, 1], [1, 2], [0.4000000059604645, 1.0])
    """
    count = outline_px.shape[0]
    start = jnp.arange(count if closed else count - 1)
    end = (start + 1) % count
    side = outline_px[end] - outline_px[start]
    length = jnp.sum(side**2, axis=1)
    away = landmarks_px[:, None, :] - outline_px[start][None]
    along = jnp.sum(away * side[None], axis=2) / jnp.where(length > 0.0, length, 1.0)[None]
    along = jnp.clip(along, 0.0, 1.0)
    distance = jnp.sum((away - along[..., None] * side[None]) ** 2, axis=2)
    best = jnp.argmin(distance, axis=1)
    share = jnp.take_along_axis(along, best[:, None], axis=1)[:, 0]
    return Correspondence(start[best], end[best], share)


def candidates_on(
    shape: Float[Array, "v 3"], corners: Int[Array, "l j 3"], barycentric: Float[Array, "l j 3"], *, closed: bool
) -> Candidates:
    """The candidates on a neutral shape.

    Args:
        shape: The skin [mm].
        corners: ``ContourLines.corners``.
        barycentric: ``ContourLines.barycentric``.
        closed: Whether the last line neighbours the first.

    Returns:
        Positions and normals.
    """
    flat = interpolate(shape, corners.reshape(-1, 3), barycentric.reshape(-1, 3))
    points = flat.reshape(corners.shape)
    normals = candidate_normals(points, closed=closed)
    from_middle = points - jnp.mean(points, axis=(0, 1), keepdims=True)
    return Candidates(points, jnp.where(jnp.sum(normals * from_middle) < 0.0, -normals, normals))


def _resampled(
    path: np.ndarray, behind: np.ndarray, before: np.ndarray, closed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points at equal distances along a path, its directions there over some millimetres, and the lines' ends."""
    values = np.column_stack([path, behind, before])
    if closed:
        values = np.concatenate([values, values[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(values[:, :3], axis=0), axis=1))])
    count = round(length[-1] / LINE_SPACING_MM)
    at = np.linspace(0.0, length[-1], count, endpoint=not closed)

    def point(s: np.ndarray) -> np.ndarray:
        s = s % length[-1] if closed else np.clip(s, 0.0, length[-1])
        return np.stack([np.interp(s, length, column) for column in values.T], axis=1)

    tangent = (point(at + 15.0) - point(at - 15.0))[:, :3]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return point(at)[:, :3], tangent, point(at)[:, 3], point(at)[:, 4]


def _section(
    triangles: np.ndarray,
    normals: np.ndarray,
    origin: np.ndarray,
    normal: np.ndarray,
    inward: np.ndarray,
    steps: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One line: rays from a point below the skin, fanned out in a plane; of a ray's hits the one next to the last."""
    pivot = origin - _PIVOT_MM * normal
    found_faces, found_weights = {}, {}
    for direction in (1, -1):
        ray, last, hit = normal, origin, None
        for step in range(0, direction * (max(direction * steps) + 1), direction):
            hit = _nearest_hit(triangles, normals, pivot, ray, last) or hit  # at the rim of a hole the line ends
            if hit is None:
                raise InputError(
                    f"head: no skin for a contour line at ({', '.join(f'{x:.0f}' for x in origin)}) mm; "
                    "use FitConfig(sliding_contour=False)."
                )
            found_faces[step], found_weights[step], last = hit
            radius = np.linalg.norm(last - pivot)
            angle = direction * SPACING_MM / max(radius, 1.0)
            sideways = np.cross(np.cross(normal, inward), ray)
            ray = np.cos(angle) * ray + np.sin(angle) * sideways
    return np.array([found_faces[s] for s in steps]), np.stack([found_weights[s] for s in steps])


def _nearest_hit(
    triangles: np.ndarray, normals: np.ndarray, pivot: np.ndarray, ray: np.ndarray, last: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Where a ray leaves the skin nearest to a point: face, barycentric weights, position (Moeller and Trumbore)."""
    edge_1, edge_2 = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = np.cross(ray, edge_2)
    determinant = np.sum(edge_1 * across, axis=1)
    safe = np.where(np.abs(determinant) > 1e-12, determinant, np.inf)
    offset = pivot - triangles[:, 0]
    u = np.sum(offset * across, axis=1) / safe
    around = np.cross(offset, edge_1)
    v = np.sum(ray * around, axis=1) / safe
    distance = np.sum(edge_2 * around, axis=1) / safe
    hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0) & (normals @ ray > 0) & np.isfinite(safe)
    if not hit.any():
        return None
    positions = pivot[None] + distance[:, None] * ray[None]
    face = int(np.argmin(np.where(hit, np.linalg.norm(positions - last, axis=1), np.inf)))
    weights = np.clip([1.0 - u[face] - v[face], u[face], v[face]], 0.0, None)
    return face, weights / weights.sum(), positions[face]
