"""Evaluation subjects, people whose shape is known, and their pictures: subjects of the database, and the shipped scan.

A subject of the database is rendered as in :mod:`digitaltwin.synthesis`, without an expression or smiling. The scan is
rendered with its own photographic texture, which contains its lighting.

Letters: v vertices, f faces, t texture coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from digitaltwin.geometry import Camera, procrustes_alignment
from digitaltwin.geometry._camera import camera_points
from digitaltwin.head import HeadModel, landmark_points, neutral_shape
from digitaltwin.head._population import Subjects
from digitaltwin.head.markup import ALIGNMENT
from digitaltwin.io import read_landmarks
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan
from digitaltwin.render import render_mesh
from digitaltwin.render._shading import flat_lighting
from digitaltwin.synthesis import SceneConfig, SubjectAppearance, render_scene
from digitaltwin.synthesis._drawing import aim_camera, draw_scene
from digitaltwin.synthesis._scene import Scene
from digitaltwin.types import Mesh

VIEWS = ("front", "turned", "smiling")
"""From the front, turned, and from the front with a smile."""
SMILE = {
    "mouthSmileLeft": 0.7,
    "mouthSmileRight": 0.7,
    "mouthUpperUpLeft": 0.3,
    "mouthUpperUpRight": 0.3,
    "cheekSquintLeft": 0.4,
    "cheekSquintRight": 0.4,
    "eyeSquintLeft": 0.3,
    "eyeSquintRight": 0.3,
    "jawOpen": 0.05,
}
"""The expression of the view "smiling"."""
TURN_DEG = 25.0
"""Yaw of a turned head, to either side by turns."""
POSE_JITTER_DEG = 5.0
"""Largest jitter of yaw, pitch and roll either way, because nobody looks straight into a lens; alike for a person's
views."""
SCAN = "scan"
"""Name of the scanned man."""
SCAN_GROUP = "male-caucasian"
"""Group of the scanned man."""

# A telephone at arm's length: 31 mm on a 35-mm film.
_SCAN_SIZE, _SCAN_FOCAL_PX, _SCAN_DISTANCE_MM = (640, 512), 544.0, 450.0
_SCAN_BACKGROUND = (0.72, 0.75, 0.78)
_MM = 1000.0  # the file is in metres


class EvaluationSubject(NamedTuple):
    """A person whose shape is known."""

    name: str
    group: str
    """Gender and ethnicity, as ``HeadModel.group_names`` has them."""
    vertices: Float[np.ndarray, "v 3"]
    """The neutral face [mm], in any frame."""
    faces: Int[np.ndarray, "f 3"]
    landmarks: Float[np.ndarray, "7 3"]
    """The seven of :data:`digitaltwin.io.LANDMARKS`."""
    within: Float[np.ndarray, "v 3"] | None
    """The part of the shape within the identity basis, head frame; None for the scan, whose topology is another."""


@dataclass(frozen=True)
class Render:
    """A picture and the camera that took it."""

    pixels: Float[np.ndarray, "h w 3"]
    """sRGB."""
    camera: Camera
    angles_deg: tuple[float, float, float]
    """Yaw (positive: to the subject's left), pitch, roll."""


def choose_subjects(subjects: Subjects, count: int) -> Int[np.ndarray, " count"]:
    """Choose subjects of all groups in turn, those held out for tests first; fewer are the beginning of more.

    Args:
        subjects: The database.
        count: Number of subjects.

    Returns:
        Their indices.
    """
    group, training = np.asarray(subjects.group), ~np.asarray(subjects.test)
    order = np.lexsort([np.arange(len(group)), training, group])  # by group, in it test people first
    first = np.searchsorted(group[order], group[order])
    rank = np.arange(len(order)) - first
    return order[np.lexsort([group[order], rank])][:count]


def view_angles(view: str, number: int, seed: int) -> tuple[float, float, float]:
    """Return yaw, pitch and roll [degrees] of a subject's head in one of :data:`VIEWS`."""
    jitter = np.random.default_rng([seed, number, 6]).uniform(-POSE_JITTER_DEG, POSE_JITTER_DEG, 3)
    turn = TURN_DEG * (1 - 2 * (number % 2)) if view == "turned" else 0.0
    yaw, pitch, roll = jitter + [turn, 0.0, 0.0]
    return float(yaw), float(pitch), float(roll)


# Subjects


def views_of(name: str, views: Sequence[str]) -> list[str]:
    """Return those of some views that there are of a person: the scanned man does not smile."""
    return [view for view in views if name != SCAN or view != "smiling"]


def subject_name(subject: int) -> str:
    """Return the name of a subject's files."""
    return f"subject-{subject:03d}"


def make_subject(
    head: HeadModel, subjects: Subjects, subject: int, number: int, config: SceneConfig
) -> EvaluationSubject:
    """Make an evaluation subject of the database, with an out-of-basis residual.

    Args:
        head: The head model.
        subjects: The database.
        subject: Index of the subject.
        number: Number of the subject among those evaluated, a seed.
        config: Size of the residual, and the seed.
    """
    neutral = draw_scene(head, subjects, subject, number, config).neutral
    return EvaluationSubject(
        name=subject_name(subject),
        group=subjects.group_names[int(subjects.group[subject])],
        vertices=neutral,
        faces=np.asarray(head.faces),
        landmarks=np.asarray(landmark_points(head, jnp.asarray(neutral)))[ALIGNMENT],
        within=np.asarray(neutral_shape(head, subjects.identity[subject])),
    )


def subject_scene(
    head: HeadModel, subjects: Subjects, subject: int, number: int, view: str, config: SceneConfig
) -> Scene:
    """Draw the scene of a subject's picture; lens and distance are those of the number.

    Args:
        head: The head model.
        subjects: The database.
        subject: Index of the subject.
        number: Number of the subject among those evaluated, a seed.
        view: One of :data:`VIEWS`.
        config: Size of the residual, and the seed.
    """
    shown = SMILE if view == "smiling" else {}
    expression = np.array([shown.get(name, 0.0) for name in head.expression_names], np.float32)
    angles = view_angles(view, number, config.seed)
    return draw_scene(head, subjects, subject, number, config, angles_deg=angles, expression=expression)


def render_subject(
    head: HeadModel,
    subjects: Subjects,
    appearance: SubjectAppearance,
    subject: int,
    number: int,
    view: str,
    config: SceneConfig,
) -> Render:
    """Render that scene; light, brows and hair are those of the number too."""
    scene = subject_scene(head, subjects, subject, number, view, config)
    looks = np.random.default_rng([config.seed, number, 3])
    pixels = render_scene(head, scene, *appearance.textures(subject, looks), looks)
    return Render(pixels, scene.camera, view_angles(view, number, config.seed))


def training_mean(head: HeadModel, subjects: Subjects, group: str) -> Float[np.ndarray, "v 3"]:
    """Return the mean neutral shape [mm] of a group's training subjects."""
    mine = ~np.asarray(subjects.test) & (np.asarray(subjects.group) == subjects.group_names.index(group))
    return np.asarray(neutral_shape(head, jnp.mean(subjects.identity[mine], axis=0)))


# The scan


def make_scan() -> EvaluationSubject:
    """Make the evaluation subject of the shipped scan, in its own frame."""
    scan = read_scan(asset_path("scan.glb"))
    landmarks = read_landmarks(asset_path("scan.csv"), scan.vertices)
    return EvaluationSubject(SCAN, SCAN_GROUP, _MM * scan.vertices, scan.faces, _MM * landmarks, None)


def render_scan(head: HeadModel, view: str) -> Render:
    """Render the scan with its own texture, evenly lit; in "front" its landmarks lie as the mean head's do.

    Args:
        head: The head model.
        view: One of :data:`VIEWS`.
    """
    scan, man = read_scan(asset_path("scan.glb")), make_scan()
    assert scan.uv is not None
    assert scan.texture is not None
    mean_landmarks = np.asarray(landmark_points(head, head.mean), np.float64)[ALIGNMENT]
    head_from_scan = procrustes_alignment(man.landmarks, mean_landmarks)
    angles = (0.0 if view == "front" else TURN_DEG, 0.0, 0.0)
    camera = aim_camera(
        head_from_scan.apply(man.landmarks).mean(axis=0),
        angles,
        np.array(_SCAN_SIZE),
        focal_px=_SCAN_FOCAL_PX,
        ray_mm=[0.0, 0.0, _SCAN_DISTANCE_MM],
    )
    faces = jnp.asarray(scan.faces, jnp.int32)
    surface = Mesh(
        vertices=camera_points(camera, jnp.asarray(head_from_scan.apply(man.vertices), jnp.float32)),
        faces=faces,
        uv=jnp.asarray(scan.uv, jnp.float32),
        uv_faces=faces,
        texture=jnp.asarray(scan.texture, jnp.float32),
    )
    image = render_mesh(
        (surface,),
        camera.focal_px,
        jnp.asarray(camera.principal_point_px),
        image_hw=_SCAN_SIZE,
        lighting=flat_lighting(),
        background=jnp.array(_SCAN_BACKGROUND),
    )
    return Render(np.asarray(image.colour), camera, angles)
