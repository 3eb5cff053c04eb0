"""Scenes whose truth is known: a subject, an expression and a camera, drawn at random; their pictures and landmarks.

They tune and test the fit. Tuning and test subjects are different persons. Each scene has a selfie's distance and focal
length, two lamps, a plain or graded background; yaw is spread evenly over :data:`YAW_BINS_DEG`. What is drawn depends
on the seed and on the scene's number alone.

Letters: n scenes, v vertices, e expressions, k landmarks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from digitaltwin.geometry import AXIS_FLIP, Camera, camera_points, project
from digitaltwin.geometry._normals import normalize
from digitaltwin.head import (
    HeadModel,
    Subjects,
    express,
    landmark_points,
    load_subjects,
    neutral_shape,
    parts_vertices,
)
from digitaltwin.head.markup import ALIGNMENT, MESH_POINT_COUNT
from digitaltwin.io import load_arrays, save_arrays, write_image
from digitaltwin.io._resumable import ResumableJob
from digitaltwin.perception import detect_landmarks
from digitaltwin.render import HEAD_GLOSS, Lighting, head_meshes, render_mesh
from digitaltwin.synthesis._appearance import SubjectAppearance
from digitaltwin.synthesis._config import SceneConfig
from digitaltwin.synthesis._residual import draw_residual
from digitaltwin.types import InputError

YAW_BINS_DEG = (0.0, 10.0, 20.0, 30.0, 45.0)
"""Borders of the bins over which the yaw of the heads is spread, to either side [degrees]."""
TILT_DEG = 15.0
"""Largest pitch and roll [degrees]."""
NEUTRAL_SHARE = 0.2
"""Share of scenes without an expression."""
EXPRESSION_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("browDown*", "browInnerUp", "browInnerUp browOuterUp*"),
    ("eyeBlink*", "eyeSquint*", "eyeWide*"),
    ("eyeLookInLeft eyeLookOutRight", "eyeLookOutLeft eyeLookInRight", "eyeLookUp*", "eyeLookDown*"),
    ("cheekSquint*", "noseSneer*", "cheekPuff"),
    ("jawOpen", "jawOpen", "jawLeft", "jawRight", "jawForward"),
    ("mouthSmile*", "mouthSmile*", "mouthFrown*", "mouthPucker", "mouthFunnel", "mouthStretch*", "mouthPress*",
     "mouthUpperUp*", "mouthLowerDown*", "mouthLeft", "mouthRight", "mouthDimple*", "mouthRollLower"),
)  # fmt: skip
"""Units that exclude one another on a face; an expression takes one choice of some families; ``*``: both sides."""

_SIZES = ((640, 512), (512, 640), (576, 576))  # height, width; few, for each is compiled
_DISTANCE_MM = (400.0, 1200.0)
_FOCAL_PER_SIDE = (0.7, 2.0)  # 24 to 70 mm on a 35-mm film
_PX_PER_MM = (1.0, 2.1)  # at the face


class Scene(NamedTuple):
    """The truth of a scene, and what was detected in its picture; one scene, or many in a leading axis.

    Arrays live on the host: scenes are many and small.
    """

    neutral: Float[np.ndarray, "*n v 3"]
    """The person without expression, in the head frame [mm]."""
    vertices: Float[np.ndarray, "*n v 3"]
    """The person with the expression, in the head frame [mm]."""
    expression: Float[np.ndarray, "*n e"]
    """Expression coefficients."""
    camera: Camera
    """Pose and intrinsics, NumPy arrays."""
    angles_deg: Float[np.ndarray, "*n 3"]
    """Yaw (positive: to the subject's left), then pitch, then roll."""
    image_size: Int[np.ndarray, "*n 2"]
    """Height and width [px]."""
    subject: Int[np.ndarray, "*n"]
    """Index into the subjects."""
    group: Int[np.ndarray, "*n"]
    """Index of the subject's group."""
    test: Bool[np.ndarray, "*n"]
    """Whether the subject is held out for tests; the others are for tuning."""
    found: Bool[np.ndarray, "*n"]
    """Whether a face was detected in the picture; the fields below are 0 where none was."""
    landmarks_px: Float[np.ndarray, "*n k 2"]
    """The 104 landmarks as detected [px]."""
    mesh_px: Float[np.ndarray, "*n 478 2"]
    """The face mesh as detected [px]."""
    detected_expression: Float[np.ndarray, "*n e"]
    """Expression coefficients as detected."""

    def take(self, chosen: np.ndarray) -> "Scene":
        """Take some of many scenes.

        Args:
            chosen: A mask over them, or indices; a single index takes one scene, without the leading axis.

        Returns:
            Those scenes.
        """
        return jax.tree.map(lambda part: part[chosen], self)

    def yaw_bins(self) -> Int[np.ndarray, " n"]:
        """Find the bin of each scene's yaw, of many scenes.

        Returns:
            Indices of bins between the borders :data:`YAW_BINS_DEG`, 0 for the first.
        """
        return np.digitize(np.abs(self.angles_deg[:, 0]), YAW_BINS_DEG[1:-1])


def make_scenes(head: HeadModel, folder: str | Path, config: SceneConfig) -> Scene:
    """Make scenes, their pictures and what is detected in them, or read them from the folder; a second a scene.

    Args:
        head: The shipped head.
        folder: Holds ``render-000.npz`` and the picture ``render-000.png`` of each scene; it is made if it is missing.
            A run that was stopped goes on where it was.
        config: What decides the scenes.

    Returns:
        The scenes in whose pictures a face was found.

    Raises:
        InputError: The folder cannot be used, or holds scenes of other settings.

    Example:
        >>> import tempfile
        >>> from digitaltwin.head import load_head
        >>> scenes = make_scenes(load_head(), tempfile.mkdtemp(), SceneConfig(count=1))
        >>> scenes.landmarks_px.shape
        (1, 104, 2)
    """
    subjects = load_subjects()
    chosen = draw_subjects(subjects, config)
    appearance = None  # made for the first picture that is missing
    # The settings stand in each file, for a scene depends on them and its number alone: a folder of fewer scenes, or of
    # an older version, is continued.
    job = ResumableJob(folder, {})
    names = [f"render-{number:03d}.npz" for number in range(config.count)]
    rows = []
    with job.begin():
        missing = set(job.missing(names))
        for number in tqdm(range(config.count), desc="renders", unit=" renders", disable=None):
            if names[number] in missing:
                appearance = appearance or SubjectAppearance(head, subjects)
                path, subject = job.folder / names[number], int(chosen[number])
                scene = draw_scene(head, subjects, subject, number, config)
                rng = np.random.default_rng([config.seed, number, 3])
                picture = render_scene(head, scene, *appearance.textures(subject, rng), rng)
                write_image(path.with_suffix(".png"), picture)
                save_scene(path, detect_scene(scene, picture), number, config)
            rows.append(_load(job.folder / names[number], number, config))
    scenes = Scene(*(jax.tree.map(lambda *parts: np.stack(parts), *field) for field in zip(*rows)))
    if not scenes.found.all():
        logging.info("no face found on renders %s", np.flatnonzero(~scenes.found).tolist())
    return scenes.take(scenes.found)


# What is drawn at random


def draw_subjects(subjects: Subjects, config: SceneConfig) -> Int[np.ndarray, " n"]:
    """Draw a subject for each scene: tuning and test subjects in turn, all groups alike, none again before need be.

    Args:
        subjects: All of them.
        config: Count and seed.

    Returns:
        Indices of subjects; fewer scenes are the beginning of more.

    Example:
        >>> from digitaltwin.head import load_subjects
        >>> subjects = load_subjects()
        >>> subjects.test[draw_subjects(subjects, SceneConfig(count=4))].tolist()
        [False, True, False, True]
    """
    rng = np.random.default_rng(config.seed)
    group, test = np.asarray(subjects.group), np.asarray(subjects.test)
    groups = len(subjects.group_names)
    queues = {
        (g, t): rng.permutation(np.flatnonzero((group == g) & (test == t))) for g in range(groups) for t in (0, 1)
    }
    taken = dict.fromkeys(queues, 0)
    chosen = []
    for number in range(config.count):
        pair = number // 2
        key = ((pair + pair // 12) % groups, number % 2)  # shifted, for yaw bins follow one another by the pair too
        chosen.append(queues[key][taken[key] % len(queues[key])])
        taken[key] += 1
    return np.array(chosen)


def draw_scene(
    head: HeadModel,
    subjects: Subjects,
    subject: int,
    number: int,
    config: SceneConfig,
    *,
    angles_deg: Sequence[float] | None = None,
    expression: Float[np.ndarray, " e"] | None = None,
) -> Scene:
    """Draw everything that is true of one scene; nothing is detected yet.

    Args:
        head: The model.
        subjects: All of them.
        subject: Index of the subject that is shown.
        number: Number of the scene, a seed: scenes of one number differ only in what is given.
        config: What decides the scenes.
        angles_deg: Yaw, pitch and roll; drawn by default.
        expression: Expression coefficients; drawn by default.

    Returns:
        The scene, ``found`` false.

    Example:
        >>> from digitaltwin.head import load_head, load_subjects
        >>> scene = draw_scene(load_head(), load_subjects(), 3, 0, SceneConfig(), angles_deg=(20.0, 0.0, 0.0))
        >>> scene.angles_deg.tolist(), scene.image_size.tolist()
        ([20.0, 0.0, 0.0], [576, 576])
    """
    rng = np.random.default_rng([config.seed, number, 1])
    person = np.random.default_rng([config.seed, subject, 2])  # a subject of two scenes has one face
    neutral = np.asarray(neutral_shape(head, subjects.identity[subject]), np.float64)
    neutral += draw_residual(head, person, size_mm=config.residual_mm, rigid_motion_free=config.rigid_motion_free)
    # Drawn even where they are given, so that what is drawn after them stays the same.
    drawn = draw_expression(head.expression_names, rng)
    expression = drawn if expression is None else np.asarray(expression, np.float32)
    vertices = express(head, jnp.asarray(neutral, jnp.float32), jnp.asarray(expression))
    place = number // 2 % (len(YAW_BINS_DEG) - 1)
    yaw = rng.uniform(YAW_BINS_DEG[place], YAW_BINS_DEG[place + 1]) * rng.choice([-1, 1])
    angles = np.array([yaw, *rng.uniform(-TILT_DEG, TILT_DEG, 2)])
    angles = angles if angles_deg is None else np.asarray(angles_deg, np.float64)
    size = np.array(_SIZES[rng.integers(len(_SIZES))])
    return Scene(
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
        detected_expression=np.zeros_like(expression),
    )


def draw_expression(names: Sequence[str], rng: np.random.Generator) -> Float[np.ndarray, " e"]:
    """Draw an expression: two or three choices of ``EXPRESSION_FAMILIES``, now and then (20 %) none.

    Args:
        names: Names of the expressions, as ``HeadModel.expression_names``.
        rng: Generator.

    Returns:
        Expression coefficients: 0, or from 0.3 to 0.9.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head
        >>> int((draw_expression(load_head().expression_names, np.random.default_rng(0)) > 0).sum())
        6
    """
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
    """Make a camera that has a point of the head frame at a given place of the camera frame.

    Args:
        middle: The point in the head frame [mm].
        angles_deg: Yaw (positive: to the subject's left), pitch and roll of the head.
        size: Height and width of the image [px].
        focal_px: Focal length.
        ray_mm: Place of the point in the camera frame.

    Returns:
        The camera, NumPy arrays, its principal point in the middle of the image.

    Example:
        >>> camera = aim_camera(np.zeros(3), (0.0, 0.0, 0.0), np.array([640, 512]), focal_px=900.0, ray_mm=[0, 0, 500])
        >>> camera.translation.tolist(), camera.principal_point_px.tolist()
        ([0.0, 0.0, 500.0], [256.0, 320.0])
    """
    yaw, pitch, roll = np.deg2rad(angles_deg)
    turn = Rotation.from_rotvec([0, 0, roll]) * Rotation.from_rotvec([pitch, 0, 0]) * Rotation.from_rotvec([0, yaw, 0])
    translation = np.asarray(ray_mm) - AXIS_FLIP * turn.apply(middle)
    return _camera((turn.as_matrix(), translation, focal_px, np.asarray(size)[::-1] / 2))


# Pictures


def render_scene(
    head: HeadModel,
    scene: Scene,
    texture: Float[Array, "size size 3"],
    eyes: Float[Array, "eye eye 3"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "h w 3"]:
    """Render the picture of one scene, in random light before a random background.

    Args:
        head: The model.
        scene: One scene.
        texture: Skin texture, sRGB; :meth:`SubjectAppearance.textures` draws it.
        eyes: Eye texture, sRGB.
        rng: Generator of light and background.

    Returns:
        The picture, sRGB in [0, 1].

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig
        >>> head, subjects = load_head(), load_subjects()
        >>> rng = np.random.default_rng(0)
        >>> skin, eyes = SubjectAppearance(head, subjects).textures(3, rng)
        >>> render_scene(head, draw_scene(head, subjects, 3, 0, SceneConfig()), skin, eyes, rng).shape
        (576, 576, 3)
    """
    height, width = (int(edge) for edge in scene.image_size)
    neutral, expression = jnp.asarray(scene.neutral), jnp.asarray(scene.expression)
    parts = parts_vertices(head, neutral, expression)
    camera = jax.tree.map(jnp.asarray, scene.camera)
    top, bottom = rng.uniform(0.15, 0.95, (2, 3))
    bottom = bottom if rng.random() < 0.5 else top
    down = np.linspace(0, 1, height)[:, None, None]
    picture = render_mesh(
        head_meshes(
            head,
            camera_points(camera, jnp.asarray(scene.vertices)),
            camera_points(camera, parts),
            texture=texture,
            eye_texture=eyes,
        ),
        camera.focal_px,
        camera.principal_point_px,
        image_hw=(height, width),
        lighting=_draw_lighting(rng),
        background=jnp.asarray(np.broadcast_to(top + (bottom - top) * down, (height, width, 3)), jnp.float32),
        gloss=HEAD_GLOSS,
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


def detect_scene(scene: Scene, picture: Float[np.ndarray, "h w 3"]) -> Scene:
    """Detect landmarks, face mesh and expression in the picture of one scene.

    Args:
        scene: One scene.
        picture: Its picture, sRGB in [0, 1].

    Returns:
        The scene with what was detected; unchanged, ``found`` false, where there is no face.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig
        >>> head, subjects = load_head(), load_subjects()
        >>> scene = draw_scene(head, subjects, 3, 0, SceneConfig())
        >>> bool(detect_scene(scene, np.full((576, 576, 3), 0.5, np.float32)).found)  # a grey picture
        False
    """
    try:
        face = detect_landmarks(picture)
    except InputError:
        return scene
    return scene._replace(
        found=np.array(True),
        landmarks_px=np.asarray(face.landmarks_px),
        mesh_px=np.asarray(face.mesh_px)[:, :2],
        detected_expression=np.asarray(face.scores),
    )


def oracle_detections(head: HeadModel, scene: Scene) -> Scene:
    """Fill one scene's detections with what networks without errors would find: oracle inputs of an ablation.

    Args:
        head: The model.
        scene: One scene.

    Returns:
        The scene with ``found`` true, the projected landmarks and mesh points, and its own expression. The ten points
        of the irises, which the head has no anchors for, are 0.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig
        >>> head, subjects = load_head(), load_subjects()
        >>> scene = oracle_detections(head, draw_scene(head, subjects, 3, 0, SceneConfig()))
        >>> scene.landmarks_px.shape
        (104, 2)
    """
    camera = jax.tree.map(jnp.asarray, scene.camera)
    vertices = jnp.asarray(scene.vertices)
    mesh = np.zeros_like(scene.mesh_px)
    mesh[:MESH_POINT_COUNT] = project(camera, head.mesh_points.interpolate(vertices, head.faces))
    return scene._replace(
        found=np.array(True),
        landmarks_px=np.asarray(project(camera, landmark_points(head, vertices))),
        mesh_px=mesh,
        detected_expression=scene.expression,
    )


# Files

_FORMER_SETTINGS = {"remainder_mm": "residual_mm", "still": "rigid_motion_free"}
_FORMER_FIELDS = {"scores": "detected_expression"}


def _settings(number: int, config: SceneConfig) -> dict[str, Any]:
    return {"number": number, **{name: value for name, value in asdict(config).items() if name != "count"}}


def save_scene(path: Path, scene: Scene, number: int, config: SceneConfig) -> None:
    """Write what is true of one scene and what was detected in its picture."""
    arrays = scene._asdict()
    camera = arrays.pop("camera")
    arrays |= {f"camera.{name}": value for name, value in camera._asdict().items()}
    save_arrays(path, arrays, {"unit": "mm, px, degrees", **_settings(number, config)})


def _load(path: Path, number: int, config: SceneConfig) -> Scene:
    arrays, metadata = load_arrays(path)
    # A file may be older than a setting, which then has its default, or than a name.
    arrays = {_FORMER_FIELDS.get(name, name): value for name, value in arrays.items()}
    metadata = {_FORMER_SETTINGS.get(name, name): value for name, value in metadata.items()}
    wanted, defaults = _settings(number, config), asdict(SceneConfig())
    differing = [name for name, value in wanted.items() if metadata.get(name, defaults.get(name)) != value]
    if differing:
        raise InputError(f"{path}: is of other settings ({', '.join(differing)}); name another folder, or remove it.")
    camera = _camera(arrays.pop(f"camera.{name}") for name in Camera._fields)
    return Scene(camera=camera, **arrays)


def _camera(parts: Iterable[Any]) -> Camera:
    """A camera of NumPy arrays."""
    return Camera(*(np.asarray(part, np.float32) for part in parts))  # pyright: ignore[reportArgumentType]
