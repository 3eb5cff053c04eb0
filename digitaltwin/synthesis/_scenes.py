"""Renders of people whose shape, expression and camera are known, and what the networks read off them.

They tune and judge the fit: ``python -m experiments.weights``. Tuning and test people are different persons; their
skins are those of the subjects, with painted brows and hair, for the networks know no bald people. A selfie's distance
and focal length, two lamps, a plain or graded background; yaw is spread evenly over :data:`YAW_BINS_DEG`.

The subjects lie in the span of the head's identity basis, and nobody real does. So each person gets a *remainder*: a
smooth random field, orthogonal to that basis, of a given size on the face (its root mean square).

Letters: n renders, v vertices, e expressions, k landmarks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from digitaltwin.geometry import Camera, camera_points
from digitaltwin.geometry._normals import normalize
from digitaltwin.head import HeadModel, Subjects, express, landmark_points, load_subjects, neutral_shape, parts_vertices
from digitaltwin.head.markup import ALIGNMENT, CONTOUR, LEFT_EYE_OUTER, NOSE, RIGHT_EYE_OUTER
from digitaltwin.io import load_arrays, save_arrays, write_image
from digitaltwin.io._files import make_folder
from digitaltwin.io.assets import asset_path
from digitaltwin.perception import detect_landmarks
from digitaltwin.render import Lighting, head_surfaces, interpolate, rasterize, render_mesh
from digitaltwin.texture import apply_tone, eye_texture, load_skin
from digitaltwin.texture._layout import oval_distance, rasterize_uv
from digitaltwin.types import InputError

YAW_BINS_DEG = (0.0, 10.0, 20.0, 30.0, 45.0)
"""Borders of the bins over which the turns of the heads are spread, either way."""
TILT_DEG = 15.0
"""Largest pitch and roll."""
NEUTRAL_SHARE = 0.2
"""Share of renders without an expression."""
EXPRESSION_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("browDown*", "browInnerUp", "browInnerUp browOuterUp*"),
    ("eyeBlink*", "eyeSquint*", "eyeWide*"),
    ("eyeLookInLeft eyeLookOutRight", "eyeLookOutLeft eyeLookInRight", "eyeLookUp*", "eyeLookDown*"),
    ("cheekSquint*", "noseSneer*", "cheekPuff"),
    ("jawOpen", "jawOpen", "jawLeft", "jawRight", "jawForward"),
    ("mouthSmile*", "mouthSmile*", "mouthFrown*", "mouthPucker", "mouthFunnel", "mouthStretch*", "mouthPress*",
     "mouthUpperUp*", "mouthLowerDown*", "mouthLeft", "mouthRight", "mouthDimple*", "mouthRollLower"),
)  # fmt: skip
"""Units that exclude one another on a face; an expression takes one choice of some families. ``*``: of both sides."""

_SIZES = ((640, 512), (512, 640), (576, 576))  # height, width; few, for each is compiled
_DISTANCE_MM = (400.0, 1200.0)
_FOCAL_PER_SIDE = (0.7, 2.0)  # 24 to 70 mm on a 35-mm film
_PX_PER_MM = (1.0, 2.1)  # at the face
_TEXTURE_SIZE = 1024
_BUMPS = 60
_ACROSS = 0.4  # what a pixel across the head counts, when a place on the outline is looked for, against one along it


@dataclass(frozen=True)
class TruthConfig:
    """What decides the renders."""

    count: int = 120
    """Renders; every other one is for tests. Each depends on the seed and its number, not on the count."""
    seed: int = 0
    remainder_mm: float = 1.5
    """Root mean square over the face of what of a person's shape the identity basis lacks."""
    still: bool = False
    """Whether that is freed of the face's rigid motion, half of it, which no comparison of shapes counts."""


class Truth(NamedTuple):
    """Renders: what is true of them, and what was read off them. Host arrays; one render, or many in a leading axis."""

    neutral: Float[np.ndarray, "*n v 3"]
    """The person without expression, head frame [mm]."""
    vertices: Float[np.ndarray, "*n v 3"]
    """With it, unposed."""
    expression: Float[np.ndarray, "*n e"]
    camera: Camera
    angles_deg: Float[np.ndarray, "*n 3"]
    """Yaw (positive: to the subject's left), then pitch, then roll."""
    image_size: Int[np.ndarray, "*n 2"]
    """Height and width [px]."""
    subject: Int[np.ndarray, "*n"]
    """Index into the subjects."""
    group: Int[np.ndarray, "*n"]
    """The subject's."""
    test: Bool[np.ndarray, "*n"]
    """Whether a test person; the others are for tuning."""
    found: Bool[np.ndarray, "*n"]
    """Whether the networks found the face; what follows is 0 where they did not."""
    landmarks_px: Float[np.ndarray, "*n k 2"]
    """The 104 landmarks as detected."""
    mesh_px: Float[np.ndarray, "*n 478 2"]
    scores: Float[np.ndarray, "*n e"]
    """Expression as read off the render."""


def make_truth(head: HeadModel, folder: str | Path, config: TruthConfig) -> Truth:
    """The renders, from the folder where it holds them; those missing are made, a second each.

    Args:
        head: the shipped head.
        folder: of ``render-000.npz`` and the pictures, ``render-000.png``; made if it is missing. A run that was
            stopped goes on where it was.
        config: what decides the renders.

    Returns:
        Those on which a face was found.

    Raises:
        InputError: the folder cannot be used, or holds renders of other settings.
    """
    folder = make_folder(folder)
    subjects = load_subjects()
    people = cast(subjects, config)
    dresser = Dresser(head, subjects)
    rows = []
    for number in tqdm(range(config.count), desc="renders", unit=" renders"):
        path = folder / f"render-{number:03d}.npz"
        if not path.is_file():
            scene = draw_scene(head, subjects, int(people[number]), number, config)
            looks = np.random.default_rng([config.seed, number, 3])
            picture = render(head, scene, *dresser.dress(int(people[number]), looks), looks)
            write_image(path.with_suffix(".png"), picture)
            save_render(path, observe(scene, picture), number, config)
        rows.append(_load(path, number, config))
    truth = Truth(*(jax.tree.map(lambda *parts: np.stack(parts), *field) for field in zip(*rows)))
    if not truth.found.all():
        logging.info("no face found on renders %s", np.flatnonzero(~truth.found).tolist())
    return take(truth, truth.found)


def take(truth: Truth, chosen: np.ndarray) -> Truth:
    """Some of the renders: a mask over them, or which ones."""
    return jax.tree.map(lambda part: part[chosen], truth)


def yaw_bin(truth: Truth) -> Int[np.ndarray, " n"]:
    """The bin of each render's yaw."""
    return np.digitize(np.abs(truth.angles_deg[:, 0]), YAW_BINS_DEG[1:-1])


# What is drawn at random


def cast(subjects: Subjects, config: TruthConfig) -> Int[np.ndarray, " n"]:
    """A subject for each render: training and test people in turn, all groups alike, nobody again before need be."""
    rng = np.random.default_rng(config.seed)
    group, test = np.asarray(subjects.group), np.asarray(subjects.test)
    groups = len(subjects.group_names)
    queues = {
        (g, t): rng.permutation(np.flatnonzero((group == g) & (test == t))) for g in range(groups) for t in (0, 1)
    }
    taken = dict.fromkeys(queues, 0)
    people = []
    for number in range(config.count):
        pair = number // 2
        key = ((pair + pair // 12) % groups, number % 2)  # shifted, for yaw bins follow one another by the pair too
        people.append(queues[key][taken[key] % len(queues[key])])
        taken[key] += 1
    return np.array(people)


def draw_scene(
    head: HeadModel,
    subjects: Subjects,
    subject: int,
    number: int,
    config: TruthConfig,
    *,
    angles_deg: Sequence[float] | None = None,
    expression: Float[np.ndarray, " e"] | None = None,
) -> Truth:
    """Everything true of one render; nothing seen yet.

    Args:
        head: the model.
        subjects: all of them.
        subject: who is rendered.
        number: of the render, a seed: scenes of one number differ in what is given only.
        config: what decides the renders.
        angles_deg: yaw, pitch and roll; drawn by default.
        expression: weights; drawn by default.
    """
    rng = np.random.default_rng([config.seed, number, 1])
    person = np.random.default_rng([config.seed, subject, 2])  # who is rendered twice has one face
    neutral = np.asarray(neutral_shape(head, subjects.identity[subject]), np.float64)
    neutral += draw_remainder(head, person, config.remainder_mm, still=config.still)
    # Drawn even where they are given, so that what is drawn after them stays the same.
    drawn = draw_expression(head.expression_names, rng)
    expression = drawn if expression is None else np.asarray(expression, np.float32)
    vertices = express(head, jnp.asarray(neutral, jnp.float32), jnp.asarray(expression))
    place = number // 2 % (len(YAW_BINS_DEG) - 1)
    yaw = rng.uniform(YAW_BINS_DEG[place], YAW_BINS_DEG[place + 1]) * rng.choice([-1, 1])
    angles = np.array([yaw, *rng.uniform(-TILT_DEG, TILT_DEG, 2)])
    angles = angles if angles_deg is None else np.asarray(angles_deg, np.float64)
    size = np.array(_SIZES[rng.integers(len(_SIZES))])
    return Truth(
        neutral=neutral.astype(np.float32),
        vertices=np.asarray(vertices),
        expression=expression,
        camera=_draw_camera(rng, np.asarray(landmark_points(head, vertices))[ALIGNMENT].mean(axis=0), angles, size),
        angles_deg=angles.astype(np.float32),
        image_size=size,
        subject=np.array(subject),
        group=np.asarray(subjects.group[subject]),
        test=np.asarray(subjects.test[subject]),
        found=np.array(False),
        landmarks_px=np.zeros((len(head.landmarks.faces), 2), np.float32),
        mesh_px=np.zeros((478, 2), np.float32),
        scores=np.zeros_like(expression),
    )


def draw_remainder(
    head: HeadModel, rng: np.random.Generator, size_mm: float, *, still: bool = False
) -> Float[np.ndarray, "v 3"]:
    """A smooth displacement field [mm] that the identity basis does not hold: random bumps, 12 to 35 mm wide.

    Args:
        head: the model.
        rng: of the bumps.
        size_mm: root mean square over the face.
        still: whether the face, as a whole, is neither moved nor turned. The basis holds little of such motion, so
            without this some half of the field is one, and alignment leaves 0.4 to 1.2 mm of 1.5.
    """
    mean, face = np.asarray(head.mean, np.float64), np.asarray(head.regions.face)
    centres = mean[rng.choice(np.flatnonzero(face), _BUMPS)]
    width, push = rng.uniform(12, 35, _BUMPS), rng.normal(size=(_BUMPS, 3))
    distance = np.linalg.norm(mean[:, None] - centres[None], axis=2)
    field = np.exp(-((distance / width) ** 2) / 2) @ push
    taken = measured = np.asarray(head.identity, np.float64).reshape(len(head.identity), -1)
    if still:
        motions = _small_motions(mean, face)
        # Measured on the face, taken from the whole head: taken from the face alone they would tear its border.
        taken = np.concatenate([taken, motions.reshape(6, -1)])
        measured = np.concatenate([measured, (motions * face[:, None]).reshape(6, -1)])
    # Stored in half precision, the basis is not quite orthonormal.
    field -= (taken.T @ np.linalg.solve(measured @ taken.T, measured @ field.ravel())).reshape(field.shape)
    return field * (size_mm / np.sqrt(np.mean(np.sum(field[face] ** 2, axis=1))))


def _small_motions(points: np.ndarray, region: np.ndarray) -> Float[np.ndarray, "6 v 3"]:
    """Displacements by three translations and three turns about a region's middle, of like size there."""
    arms = points - points[region].mean(axis=0)
    arms /= np.sqrt(np.mean(np.sum(arms[region] ** 2, axis=1)))
    axes = np.broadcast_to(np.eye(3)[:, None], (3, *points.shape))
    return np.concatenate([axes, np.cross(axes, arms[None])])


def draw_expression(names: Sequence[str], rng: np.random.Generator) -> Float[np.ndarray, " e"]:
    """Two or three choices of :data:`EXPRESSION_FAMILIES`, weights from 0.3 to 0.9; now and then none."""
    expression = np.zeros(len(names), np.float32)
    if rng.random() < NEUTRAL_SHARE:
        return expression
    families = rng.choice(len(EXPRESSION_FAMILIES), rng.integers(2, 4), replace=False)
    for family in families:
        options = EXPRESSION_FAMILIES[family]
        weight = rng.uniform(0.3, 0.9)
        for unit in options[rng.integers(len(options))].split():
            for side in ("Left", "Right") if unit.endswith("*") else ("",):
                lopsided = rng.uniform(0.85, 1.15)
                expression[names.index(unit.replace("*", side))] = np.clip(weight * lopsided, 0.3, 0.9)
    return expression


def _draw_camera(rng: np.random.Generator, middle: np.ndarray, angles_deg: np.ndarray, size: np.ndarray) -> Camera:
    """A camera that sees the face's middle [mm, head frame] near the image's."""
    while True:
        distance = rng.uniform(*_DISTANCE_MM)
        focal = np.exp(rng.uniform(*np.log(_FOCAL_PER_SIDE))) * size.max()
        if _PX_PER_MM[0] < focal / distance < _PX_PER_MM[1]:
            break
    ray = np.array([*rng.uniform(-0.07, 0.07, 2) * size[::-1] / focal, 1.0])
    return aim_camera(middle, angles_deg, size, focal_px=focal, ray_mm=distance * ray)


def aim_camera(
    middle: np.ndarray, angles_deg: Sequence[float] | np.ndarray, size: np.ndarray, *, focal_px: float, ray_mm: Any
) -> Camera:
    """A camera that has a point of the head frame where it is wanted.

    Args:
        middle: the point [mm].
        angles_deg: yaw (positive: to the subject's left), pitch and roll of the head.
        size: height and width of the image [px].
        focal_px: focal length.
        ray_mm: where the point is to be in the camera frame.
    """
    yaw, pitch, roll = np.deg2rad(angles_deg)
    turn = Rotation.from_rotvec([0, 0, roll]) * Rotation.from_rotvec([pitch, 0, 0]) * Rotation.from_rotvec([0, yaw, 0])
    translation = np.asarray(ray_mm) - np.array([1, -1, -1]) * turn.apply(middle)
    return _camera((turn.as_matrix(), translation, focal_px, np.asarray(size)[::-1] / 2))


# Pictures


class Dresser:
    """Textures of subjects: skin in their tone, painted brows and hair, irises."""

    def __init__(self, head: HeadModel, subjects: Subjects):
        self.subjects = subjects
        fragments = rasterize_uv(head.uv, head.uv_faces, _TEXTURE_SIZE)
        self.position = np.asarray(interpolate(fragments, head.mean, head.faces))
        scalp = jnp.asarray(head.regions.scalp, jnp.float32)[:, None]
        self.scalp = np.asarray(interpolate(fragments, scalp, head.faces))[..., 0]
        self.on_skin = np.asarray(fragments.face) >= 0
        points = np.asarray(landmark_points(head, head.mean))
        self.brows = [points[17:22], points[26:21:-1]]  # either from its outer end

    def dress(self, subject: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Textures of skin and eyes; hair and brows are random, skin, tone and irises the person's."""
        subjects = self.subjects
        skin = load_skin(
            asset_path(f"skins/{subjects.skin_names[int(subjects.skin[subject])]}.jpg"), size=_TEXTURE_SIZE
        )
        pixels = np.array(apply_tone(jnp.asarray(skin.pixels), subjects.tone[subject]))
        dark, light = np.array([0.07, 0.055, 0.05]), np.array([0.42, 0.36, 0.28])
        fair = subjects.group_names[int(subjects.group[subject])].endswith("caucasian")
        hair = dark + (light - dark) * (rng.random() if fair else 0.15 * rng.random())
        male = subjects.group_names[int(subjects.group[subject])].startswith("male")
        grain = rng.uniform(0.75, 1.0, self.scalp.shape)
        bald = male and rng.random() < 0.15
        mask = 0.0 if bald else np.clip((self.scalp - 0.3) / 0.4, 0, 1)
        mask = np.maximum(mask, self._brow_mask(rng))[..., None] * grain[..., None]
        pixels += mask * (hair - pixels)
        return jnp.asarray(pixels, jnp.float32), eye_texture(jax.random.key(subject), iris=subjects.iris[subject])

    def _brow_mask(self, rng: np.random.Generator) -> np.ndarray:
        """Hair along the brow landmarks, thinner towards the outer end, a little higher or lower than they say."""
        lift, thickness, density = rng.uniform(-1.5, 1.5), rng.uniform(2.5, 4.0), rng.uniform(0.5, 0.95)
        mask = np.zeros(self.scalp.shape)
        for line in self.brows:
            along = np.linspace(0, 1, 60)
            dense = np.stack([np.interp(along, np.linspace(0, 1, len(line)), line[:, x]) for x in range(3)], axis=1)
            tree = KDTree(dense + [0, lift, 0])
            distance, nearest = tree.query(self.position[self.on_skin], distance_upper_bound=2 * thickness)
            width = thickness * np.interp(np.append(along, 1)[nearest], [0, 0.5, 1], [0.4, 0.9, 1.0])
            mask[self.on_skin] = np.maximum(mask[self.on_skin], np.clip(2 - 2 * distance / width, 0, 1))
        return density * mask


def render(
    head: HeadModel, scene: Truth, texture: Array, eyes: Array, rng: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """The picture of a scene, in random light before a random background."""
    height, width = (int(edge) for edge in scene.image_size)
    neutral, expression = jnp.asarray(scene.neutral), jnp.asarray(scene.expression)
    parts = parts_vertices(head, neutral, expression)
    camera = jax.tree.map(jnp.asarray, scene.camera)
    top, bottom = rng.uniform(0.15, 0.95, (2, 3))
    bottom = bottom if rng.random() < 0.5 else top
    down = np.linspace(0, 1, height)[:, None, None]
    picture = render_mesh(
        head_surfaces(
            head,
            camera_points(camera, jnp.asarray(scene.vertices)),
            camera_points(camera, parts),
            texture=texture,
            eye_texture=eyes,
        ),
        camera.focal_px,
        camera.principal_point_px,
        height=height,
        width=width,
        lighting=_draw_lighting(rng),
        background=jnp.asarray(np.broadcast_to(top + (bottom - top) * down, (height, width, 3)), jnp.float32),
    )
    return np.asarray(picture.colour)


def _draw_lighting(rng: np.random.Generator) -> Lighting:
    """A key light from anywhere in front, a weaker one from elsewhere, surroundings."""
    directions = np.stack([rng.uniform(-1, 1, 2), rng.uniform(-0.9, 0.2, 2), [-0.8, -0.8]], axis=1)
    strengths = np.array([[rng.uniform(0.3, 0.8)], [rng.uniform(0.0, 0.3)]])
    tint = 1 + rng.uniform(-0.08, 0.08, (2, 3))
    around = rng.uniform(0.25, 0.5)
    return Lighting(
        normalize(jnp.asarray(directions, jnp.float32)),
        jnp.asarray(strengths * tint, jnp.float32),
        jnp.full(3, around, jnp.float32),
        jnp.full(3, around * rng.uniform(0.4, 0.8), jnp.float32),
    )


def observe(scene: Truth, picture: Float[np.ndarray, "h w 3"]) -> Truth:
    """The scene with what the networks read off its picture."""
    try:
        face = detect_landmarks(picture)
    except InputError:
        return scene
    return scene._replace(
        found=np.array(True),
        landmarks_px=np.asarray(face.landmarks_px),
        mesh_px=np.asarray(face.mesh_px)[:, :2],
        scores=np.asarray(face.scores),
    )


# Landmarks on the outline


def outline_landmarks(head: HeadModel, truth: Truth, *, noise_percent: float, seed: int) -> Float[np.ndarray, "n k 2"]:
    """The detected landmarks with the contour's put where an annotator of pictures would draw them.

    A contour anchor that is seen stays at its true place. One that the head itself hides goes to the visible outline of
    the face, across rather than up or down: edges between faces turned to and from the camera, with nothing in front of
    them, on the face or at most 30 mm behind its oval, but not the outlines of nose, lids and lips.

    Args:
        head: the model.
        truth: renders.
        noise_percent: deviation of a normal error in each coordinate, of the distance of the outer eye corners.
        seed: of the errors.
    """
    rng = np.random.default_rng([seed, 5])
    nose = np.asarray(landmark_points(head, head.mean))[NOSE]
    cheeks = KDTree(nose).query(np.asarray(head.mean))[0] > 18.0
    cheeks &= (oval_distance(head) > -30.0) & ~np.asarray(head.regions.eyes | head.regions.lips)
    edges, sides = _edges_between_faces(np.asarray(head.faces))
    kept = cheeks[edges].all(axis=1)
    moved = truth.landmarks_px.copy()
    for row in range(len(moved)):
        one = take(truth, np.asarray(row))
        camera = jax.tree.map(jnp.asarray, one.camera)
        points = np.asarray(camera_points(camera, jnp.asarray(one.vertices)))
        sight = _Sight(head, one, points)
        anchors = np.asarray(landmark_points(head, jnp.asarray(points)))
        corners = points[np.asarray(head.faces)]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.sum(normals * corners[:, 0], axis=1) < 0
        turning = edges[kept & (facing[sides[:, 0]] != facing[sides[:, 1]])]
        share = np.linspace(0, 1, 9)[None, :, None]
        outline = (points[turning[:, :1]] * (1 - share) + points[turning[:, 1:]] * share).reshape(-1, 3)
        outline_px = sight.pixels(outline[~sight.hidden(outline, 1.5)])
        place, hidden = sight.pixels(anchors[CONTOUR]), sight.hidden(anchors[CONTOUR], 2.5)
        if hidden.any() and len(outline_px):
            place[hidden] = outline_px[KDTree(sight.upright(outline_px)).query(sight.upright(place[hidden]))[1]]
        eyes = anchors[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER]]
        eye_px = one.camera.focal_px * np.linalg.norm(eyes[0] - eyes[1]) / eyes[:, 2].mean()
        moved[row, CONTOUR] = place + rng.normal(size=place.shape) * eye_px * noise_percent / 100
    return moved


class _Sight:
    """What of a posed head its camera sees."""

    def __init__(self, head: HeadModel, one: Truth, points: np.ndarray):
        self.camera = one.camera
        self.height, self.width = (int(edge) for edge in one.image_size)
        screen = jnp.asarray(np.concatenate([self.pixels(points), points[:, 2:]], axis=1), jnp.float32)
        depth = np.asarray(rasterize(screen, head.faces, height=self.height, width=self.width).depth)
        # The farthest of nine pixels: what lies right on an outline is not to be hidden by its own surface.
        padded = np.pad(depth, 1, constant_values=np.inf)
        self.depth = np.max(
            [padded[y : y + self.height, x : x + self.width] for y in range(3) for x in range(3)], axis=0
        )

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Image positions of camera-frame points."""
        return np.asarray(self.camera.focal_px * points[:, :2] / points[:, 2:] + self.camera.principal_point_px)

    def upright(self, points_px: np.ndarray) -> np.ndarray:
        """Image positions along and across the head's vertical; what is across counts less."""
        up = np.asarray(self.camera.rotation)[:2, 1] * [1, -1]
        up /= np.linalg.norm(up)
        return points_px @ np.stack([up, _ACROSS * np.array([-up[1], up[0]])], axis=1)

    def hidden(self, points: np.ndarray, tolerance_mm: float) -> np.ndarray:
        """Which camera-frame points lie behind the skin, or outside the image."""
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


# Files


def _settings(number: int, config: TruthConfig) -> dict[str, Any]:
    return {"number": number, **{name: value for name, value in asdict(config).items() if name != "count"}}


def save_render(path: Path, truth: Truth, number: int, config: TruthConfig) -> None:
    """Write one render's truth and what was read off it."""
    arrays = truth._asdict()
    camera = arrays.pop("camera")
    arrays |= {f"camera.{name}": value for name, value in camera._asdict().items()}
    save_arrays(path, arrays, {"unit": "mm, px, degrees", **_settings(number, config)})


def _load(path: Path, number: int, config: TruthConfig) -> Truth:
    arrays, metadata = load_arrays(path)
    wanted, younger = _settings(number, config), asdict(TruthConfig())  # a file may be older than some setting
    differing = [name for name, value in wanted.items() if metadata.get(name, younger.get(name)) != value]
    if differing:
        raise InputError(f"{path}: is of other settings ({', '.join(differing)}); name another folder, or remove it.")
    camera = _camera(arrays.pop(f"camera.{name}") for name in Camera._fields)
    return Truth(camera=camera, **arrays)


def _camera(parts: Iterable[Any]) -> Camera:
    """Of host arrays, which stay there: the scenes are many and small."""
    return Camera(*(np.asarray(part, np.float32) for part in parts))  # pyright: ignore[reportArgumentType]
