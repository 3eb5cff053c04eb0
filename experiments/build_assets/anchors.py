"""Where the points of the face mesh lie on the head: found by rendering heads and asking the network.

Random heads with random skins, expressions and poses are rendered; the network places its 468 points in each picture;
a ray through each point meets the head at a face and barycentric weights, which name one point of the *mean* head.
The medians over the pictures, made symmetric and put back onto the skin, are the anchors. Points of the lid margins are
then moved to the nearest point of the edge loops they mean, those of the inner lips to the lines where lips touch.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from absl import logging
from scipy.spatial import KDTree
from tqdm import tqdm

from digitaltwin.geometry import SurfacePoints
from digitaltwin.geometry._rotations import matrix_from_rotation_vector
from digitaltwin.head import HeadModel, express, neutral_shape, parts_vertices
from digitaltwin.head.markup import (
    INTERIOR_PARTS,
    LANDMARK_COUNT,
    LANDMARK_MIRROR,
    LEFT_EYE,
    MESH_INNER_LIPS,
    MESH_LEFT_EYE,
    MESH_OVAL,
    MESH_POINT_COUNT,
    MESH_RIGHT_EYE,
    MOUTH,
    RIGHT_EYE,
)
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.perception._detection import detect_face_mesh
from digitaltwin.perception._landmarks import landmarks_from_mesh
from digitaltwin.render import portrait_lighting, rasterize, render_mesh
from digitaltwin.render._zbuffer import screen_points
from digitaltwin.types import InputError, Mesh
from experiments.build_assets.lips import lip_seal

FIGURES = Path(__file__).with_name("anchors.npz")
"""The anchors that ship. They define where landmarks lie, so they stay when the population changes: they were measured
on heads of MakeHuman's sliders. What the networks find elsewhere, in this view or that, is their bias."""
PICTURES = 90
SIZE_PX = 512
DISTANCE_MM = 650.0
FOCAL_PX = 1150.0
MAX_YAW, MAX_PITCH = 0.40, 0.15
SEARCH_PX = 14  # how far from a point outside the skin the nearest skin pixel may be
LINE_POINTS = 41
EXPRESSION_SHARE = 0.06  # mean strength: enough to move the lips, too little to leave the neutral face


class LipRim(NamedTuple):
    """The line along which lips touch, and the skin of one of them."""

    points: np.ndarray  # [c 3] from the right corner of the mouth to the left
    faces: np.ndarray  # numbers of the lip's faces


@dataclass
class Hits:
    """Places on the mean head that the rays met; NaN where they met nothing."""

    mesh: np.ndarray  # [pictures 468 3] mm
    landmarks: np.ndarray  # [pictures 104 3] mm
    yaw: np.ndarray  # [pictures] rad


def cast_rays(
    points_px: np.ndarray, screen: np.ndarray, faces: np.ndarray, seen: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Positions on the mean head under image points.

    Args:
        points_px: [k 2].
        screen: [v 3] pixel positions and depth of the rendered skin.
        faces: [f 3] of the skin.
        seen: [h w] index of the skin face each pixel sees, -1 elsewhere.
        mean: [v 3] vertices of the mean head.
    """
    rows, columns = np.nonzero(seen >= 0)
    distance, nearest = KDTree(np.c_[columns + 0.5, rows + 0.5]).query(points_px)
    corner = faces[seen[rows[nearest], columns[nearest]]]
    triangle = screen[corner]
    p, q = triangle[:, 1, :2] - triangle[:, 0, :2], triangle[:, 2, :2] - triangle[:, 0, :2]
    d = points_px - triangle[:, 0, :2]
    area = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    b, c = (d[:, 0] * q[:, 1] - d[:, 1] * q[:, 0]) / area, (p[:, 0] * d[:, 1] - p[:, 1] * d[:, 0]) / area
    weights = np.clip(np.stack([1 - b - c, b, c], 1), 0, 1) / triangle[:, :, 2]
    weights /= weights.sum(1, keepdims=True)
    position = np.einsum("kj,kjx->kx", weights, mean[corner])
    position[distance > SEARCH_PX] = np.nan
    return position


def cast_renders(head: HeadModel, skins: list[np.ndarray], eye: np.ndarray, seed: int = 0) -> tuple[Hits, np.ndarray]:
    """Renders heads, runs the network, casts the rays; also returns the first pictures as a contact sheet."""
    rng = np.random.default_rng(seed)
    mean, skin_faces = np.asarray(head.mean), np.asarray(head.faces)
    groups = [head.parts_face_part == i for i in range(len(head.part_names))]
    colours = {"upper_teeth": (0.86, 0.83, 0.76), "lower_teeth": (0.86, 0.83, 0.76), "tongue": (0.72, 0.36, 0.36)}
    principal = jnp.full(2, SIZE_PX / 2)
    faces = jnp.concatenate([head.faces, head.parts_faces + len(mean)])
    see = jax.jit(lambda screen: rasterize(screen, faces, image_hw=(SIZE_PX, SIZE_PX)).face)
    mesh, landmarks, yaws, sheet = [], [], [], []
    for number in tqdm(range(PICTURES), desc="anchors"):
        identity = rng.normal(size=len(head.identity_std)) * np.asarray(head.identity_std)
        strength = rng.exponential(EXPRESSION_SHARE, len(head.expression_names)).clip(0, 0.5)
        strength[[i for i, n in enumerate(head.expression_names) if n.startswith(("eyeLook", "tongue"))]] = 0
        neutral = neutral_shape(head, jnp.asarray(identity, jnp.float32))
        beta = jnp.asarray(strength, jnp.float32)
        yaw = 0.0 if number % 3 == 0 else rng.uniform(-MAX_YAW, MAX_YAW)
        rotation = matrix_from_rotation_vector(jnp.array([rng.uniform(-MAX_PITCH, MAX_PITCH), yaw, 0.0]))
        points = jnp.concatenate([express(head, neutral, beta), parts_vertices(head, neutral, beta)])
        camera = (points + jnp.array([0.0, 35.0, 0.0])) @ rotation.T * jnp.array([1.0, -1.0, -1.0])
        camera = camera + jnp.array([0.0, 0.0, DISTANCE_MM])
        skin = jnp.asarray(skins[rng.integers(len(skins))])
        surfaces = [Mesh(camera[: len(mean)], head.faces, head.uv, head.uv_faces, skin)]
        for name, mine in zip(head.part_names, groups):
            texture = eye if name.endswith("eye") else np.full((1, 1, 3), colours.get(name, 0), np.float32)
            texture = skin if name in INTERIOR_PARTS else jnp.asarray(texture, jnp.float32)
            part = (camera[len(mean) :], head.parts_faces[mine], head.parts_uv, head.parts_uv_faces[mine], texture)
            surfaces.append(Mesh(*part))
        picture = render_mesh(
            tuple(surfaces),
            FOCAL_PX,
            principal,
            image_hw=(SIZE_PX, SIZE_PX),
            lighting=portrait_lighting(),
            background=jnp.asarray(rng.uniform(0.2, 0.8, 3), jnp.float32),
        ).colour
        try:
            found, _, _ = detect_face_mesh(picture)
        except InputError:
            logging.info("picture %d: no face found", number)
            continue
        screen = screen_points(camera, FOCAL_PX, principal)
        seen = np.asarray(see(screen))
        seen = np.where(seen < len(skin_faces), seen, -1)
        image_points = np.asarray(found.points)[:MESH_POINT_COUNT, :2]
        targets = np.concatenate([image_points, np.asarray(landmarks_from_mesh(jnp.asarray(image_points)))])
        hit = cast_rays(targets, np.asarray(screen), skin_faces, seen, mean)
        mesh.append(hit[:MESH_POINT_COUNT])
        landmarks.append(hit[MESH_POINT_COUNT:])
        yaws.append(yaw)
        if len(sheet) < 24:
            shown = np.asarray(picture).copy()
            for x, y in targets:
                shown[int(np.clip(y, 1, SIZE_PX - 2)), int(np.clip(x, 1, SIZE_PX - 2))] = (0, 1, 0)
            sheet.append(shown)
    rows = [np.concatenate(sheet[i : i + 6], 1) for i in range(0, len(sheet) - 5, 6)]
    return Hits(np.array(mesh), np.array(landmarks), np.array(yaws)), np.concatenate(rows)


def mirror_pairs(points: np.ndarray) -> np.ndarray:
    """Left-right partner of each point of a nearly symmetric set."""
    return np.asarray(KDTree(points).query(points * [-1, 1, 1])[1])


def on_skin(head: HeadModel, points: np.ndarray, *, faces: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face, one of those numbered ``faces`` or any, and barycentric weights on the mean skin."""
    faces = np.arange(len(head.faces)) if faces is None else faces
    surface = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces)[faces], process=False)
    nearest, _, face = trimesh.proximity.closest_point(surface, points)
    weights = trimesh.triangles.points_to_barycentric(surface.triangles[face], nearest)
    weights = np.clip(weights, 0, 1)
    return faces[face], weights / weights.sum(1, keepdims=True)


def on_loop(head: HeadModel, loop: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point on the border edges between vertices of a loop, as a face and barycentric weights."""
    faces, mean = np.asarray(head.faces), np.asarray(head.mean)
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    _, first, count = np.unique(edges, axis=0, return_index=True, return_counts=True)
    border = first[count == 1]
    border = border[np.isin(edges[border], loop).all(1)]
    face, side = np.divmod(border, 3)
    a, b = faces[face, side], faces[face, (side + 1) % 3]
    start, along = mean[a], mean[b] - mean[a]
    t = np.einsum("ksx,sx->ks", points[:, None] - start, along) / np.sum(along**2, 1)
    t = np.clip(t, 0, 1)
    distance = np.linalg.norm(start + t[..., None] * along - points[:, None], axis=2)
    best = distance.argmin(1)
    share = t[np.arange(len(points)), best]
    weights = np.zeros((len(points), 3))
    rows = np.arange(len(points))
    weights[rows, side[best]] = 1 - share
    weights[rows, (side[best] + 1) % 3] = share
    return face[best], weights


def where_lips_meet(head: HeadModel, mouth: np.ndarray, rims: dict[str, list[int]]) -> tuple[LipRim, LipRim]:
    """Find the line along which the lips touch, where it is seen, and the skins of the upper and of the lower lip.

    Both rims were brought to one height; of the two, the foremost is seen.

    Args:
        head: The head.
        mouth: Border of its skin in the mouth.
        rims: Vertices of both rims, as they were closed (:mod:`experiments.build_assets.lips`).
    """
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    seal = lip_seal(mean, faces, mouth, np.asarray(head.mirror))
    upper, lower = mean[rims["upper"]], mean[rims["lower"]]
    along = np.linspace(max(upper[0, 0], lower[0, 0]), min(upper[-1, 0], lower[-1, 0]), LINE_POINTS)
    (y, z), (y_low, z_low) = ([np.interp(along, rim[:, 0], rim[:, k]) for k in (1, 2)] for rim in (upper, lower))
    line = np.stack([along, (y + y_low) / 2, np.maximum(z, z_low)], axis=1)
    skins = [np.flatnonzero((seal.side[faces] == side).all(1)) for side in (1.0, -1.0)]
    return LipRim(line, skins[0]), LipRim(line, skins[1])


def on_lip(head: HeadModel, rim: LipRim, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Point of a lip's own skin, as a face and barycentric weights, nearest to the rim beside each of some points.

    A closed mouth brings both lips to the same place, so each has only its own faces to choose from.
    """
    along = np.clip(points[:, 0], rim.points[0, 0], rim.points[-1, 0])
    places = np.stack([np.interp(along, rim.points[:, 0], rim.points[:, k]) for k in range(3)], axis=1)
    face, weights = on_skin(head, places, faces=rim.faces)
    return face, weights


def measure_anchors(head: HeadModel, hits: Hits, loops: list[np.ndarray], mirror: np.ndarray) -> tuple[dict, dict]:
    """Measure the anchors, and the spread of what they were found from.

    Args:
        head: The model whose anchors are wanted.
        hits: Result of :func:`cast_renders`.
        loops: The skin's border loops at the eyes and the mouth.
        mirror: Left-right mirror image [468] of each mesh point.

    Returns:
        Anchors by name, and figures [mm] for the metadata.
    """
    mean = np.asarray(head.mean)
    anchors, figures = {}, {}
    mouth = max(loops, key=len)
    eyes = {np.sign(mean[loop, 0].mean()): loop for loop in loops if loop is not mouth}
    for name, points, partner in (("mesh_points", hits.mesh, mirror), ("landmarks", hits.landmarks, LANDMARK_MIRROR)):
        median = np.nanmedian(points, 0)
        median = (median + median[partner] * [-1, 1, 1]) / 2
        face, weights = on_skin(head, median)
        lids = (MESH_LEFT_EYE, MESH_RIGHT_EYE) if name == "mesh_points" else (LEFT_EYE, RIGHT_EYE)
        for which, side in zip(map(np.array, lids), (1.0, -1.0)):
            face[which], weights[which] = on_loop(head, eyes[side], median[which])
        anchors[name] = SurfacePoints(face, weights)
        deviation = np.linalg.norm(points - median, axis=2)
        frontal = np.abs(hits.yaw) < 0.05
        figures[name] = {
            "pictures": len(points),
            "spread_frontal_median_mm": round(float(np.nanmedian(deviation[frontal])), 2),
            "spread_turned_median_mm": round(float(np.nanmedian(deviation[~frontal])), 2),
            "spread_p90_mm": round(float(np.nanpercentile(deviation, 90)), 2),
        }
        if name == "mesh_points":
            oval = deviation[:, np.array(MESH_OVAL)]
            figures["oval"] = {
                "spread_frontal_median_mm": round(float(np.nanmedian(oval[frontal])), 2),
                "spread_turned_median_mm": round(float(np.nanmedian(oval[~frontal])), 2),
            }
    assert len(anchors["landmarks"].faces) == LANDMARK_COUNT
    return anchors, figures


def with_lips(
    head: HeadModel, anchors: dict[str, SurfacePoints], mouth: np.ndarray, rims: dict[str, list[int]]
) -> dict[str, SurfacePoints]:
    """Move the anchors of the inner lips to the lines along which the lips touch, see :func:`where_lips_meet`."""
    upper, lower = where_lips_meet(head, mouth, rims)
    mean, faces = np.asarray(head.mean, np.float64), np.asarray(head.faces)
    lips = np.array(MESH_INNER_LIPS)
    moved = {}
    for name, places_on in (
        ("landmarks", ((MOUTH[12:17], upper), (MOUTH[17:], lower))),
        ("mesh_points", ((lips[:11], upper), (lips[11:], lower))),
    ):
        points = anchors[name]
        face, weights = points.faces.copy(), points.barycentric.astype(np.float64)
        places = points.interpolate(mean, faces)
        for which, rim in places_on:
            face[which], weights[which] = on_lip(head, rim, places[which])
        moved[name] = SurfacePoints(face, weights)
    return moved


def save_anchors(path: Path, head: HeadModel, anchors: dict[str, SurfacePoints], figures: dict) -> None:
    """Write anchors and the figures of how they were found, for heads with the same triangles."""
    arrays = {f"{name}.{part}": array for name, points in anchors.items() for part, array in points._asdict().items()}
    arrays = {name: array.astype(np.float32 if array.dtype.kind == "f" else np.int32) for name, array in arrays.items()}
    save_arrays(path, arrays, {"figures": figures, "faces": _digest(head)})


def load_anchors(path: Path, head: HeadModel) -> tuple[dict[str, SurfacePoints], dict]:
    """Read anchors, and the figures of how they were found.

    Raises:
        ValueError: They are of other triangles.
    """
    arrays, metadata = load_arrays(path)
    if metadata["faces"] != _digest(head):
        raise ValueError(f"{path}: holds anchors on other triangles than the head's; measure them by --measure_anchors")
    anchors = {
        name: SurfacePoints(arrays[f"{name}.faces"], arrays[f"{name}.barycentric"])
        for name in ("landmarks", "mesh_points")
    }
    return anchors, metadata["figures"]


def _digest(head: HeadModel) -> str:
    return hashlib.sha256(np.ascontiguousarray(head.faces, np.int32).tobytes()).hexdigest()


def plain_eye(size: int = 128) -> np.ndarray:
    """Paint a brown iris and a black pupil on white, in the eye's texture coordinates: enough for the network."""
    y, x = np.meshgrid((np.arange(size) + 0.5) / size - 0.5, (np.arange(size) + 0.5) / size - 0.5, indexing="ij")
    angle = 2 * np.pi * np.hypot(x, y)[..., None]
    iris, pupil = np.array([0.33, 0.22, 0.14]), np.array([0.03, 0.03, 0.03])
    colour = np.where(angle < 0.16, pupil, np.where(angle < 0.49, iris, np.array([0.90, 0.88, 0.86])))
    return colour.astype(np.float32)
