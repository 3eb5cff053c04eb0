"""Scenes drawn at random: a subject, an expression and a camera.

Tuning and test subjects are different persons. Each scene has a selfie's distance and focal length; yaw is spread
evenly over the bins. What is drawn depends on the seed and on the scene's number alone.

Letters: n scenes, e expressions.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from digitaltwin.geometry import Camera
from digitaltwin.geometry._camera import AXIS_FLIP
from digitaltwin.head import HeadModel, express, landmark_points, neutral_shape
from digitaltwin.head._population import Subjects
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.synthesis._config import SceneConfig
from digitaltwin.synthesis._residual import draw_residual
from digitaltwin.synthesis._scene import YAW_BINS_DEG, Scene, camera_on_host

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
    """Draw a camera that sees the face's middle [mm, head frame] near the image's."""
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
    return camera_on_host((turn.as_matrix(), translation, focal_px, np.asarray(size)[::-1] / 2))
