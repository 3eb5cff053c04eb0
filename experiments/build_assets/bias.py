"""The network's bias by the head's direction, measured on renders of people whose landmarks are known."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import logging
from tqdm import tqdm

from digitaltwin.geometry import Camera, project
from digitaltwin.head import HeadModel, landmark_points
from digitaltwin.head.markup import CONTOUR, LANDMARK_MIRROR, MESH_OVAL, MESH_POINT_COUNT
from digitaltwin.io import read_image
from digitaltwin.perception._bias import Bias, direction_features, direction_of_mesh
from digitaltwin.perception._detection import detect_face_mesh
from digitaltwin.perception._landmarks import landmarks_from_mesh
from digitaltwin.synthesis import SceneConfig, make_scenes
from digitaltwin.synthesis._scene import Scene
from digitaltwin.synthesis._scenes import load_scene

SCENES = SceneConfig(count=320, rigid_motion_free=True)
OUTLIER = 4.0  # median distances from the median; occluded points of turned heads
STIFFNESS = 0.01  # of every coefficient but the constant, beside the mean square of its feature


def measure_bias(head: HeadModel, folder: Path, mesh_mirror: np.ndarray) -> tuple[Bias, dict]:
    """Render training subjects, detect their faces, and regress what is missed on yaw and pitch.

    Everybody's mirror image counts as well.

    Args:
        head: The head, with its anchors.
        folder: The renders; made where they are missing.
        mesh_mirror: Left-right mirror image of each of the 468 mesh points.

    Returns:
        The table, and what is left of the errors by it [per cent of the eye distance].
    """
    make_scenes(head, folder, SCENES)
    rows = []
    for number in tqdm(range(SCENES.count), desc="bias"):
        path = folder / f"render-{number:03d}.npz"
        scene = load_scene(path, number, SCENES)
        if scene.found and not scene.test:
            rows.append(_missed(head, scene, path.with_suffix(".png")))
    yaw, pitch, landmarks, mesh = (np.array(column) for column in zip(*rows))
    figures: dict = {"scenes": len(rows)}
    landmark_table, figures["landmarks"] = _regress(yaw, pitch, landmarks, np.asarray(LANDMARK_MIRROR))
    mesh_table, figures["mesh_points"] = _regress(yaw, pitch, mesh, mesh_mirror)
    landmark_table[:, CONTOUR] = 0.0
    mesh_table[:, np.array(MESH_OVAL)] = 0.0
    logging.info("bias: %s", figures)
    return Bias(landmark_table, mesh_table), figures


def _missed(head: HeadModel, scene: Scene, picture: Path) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Yaw, pitch, and by how much each landmark and mesh point is missed, upright, in eye distances."""
    camera = Camera(*map(jnp.asarray, scene.camera))
    vertices = jnp.asarray(scene.vertices)
    points = jnp.concatenate([landmark_points(head, vertices), head.mesh_points.interpolate(vertices, head.faces)])
    true = np.asarray(project(camera, points), np.float64)
    mesh = np.asarray(detect_face_mesh(read_image(picture).pixels)[0].points, np.float64)
    direction = direction_of_mesh(mesh)
    landmarks = landmarks_from_mesh(mesh[:, :2])
    found = np.concatenate([landmarks, mesh[:MESH_POINT_COUNT, :2]])
    missed = (found - true) @ direction.axes.T / direction.size_px
    return direction.yaw, direction.pitch, missed[: len(landmarks)], missed[len(landmarks) :]


def _regress(yaw: np.ndarray, pitch: np.ndarray, missed: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, dict]:
    """Ridge regression of every point's offset, outliers left out; and root mean squares before and after."""
    yaw, pitch = np.concatenate([yaw, -yaw]), np.concatenate([pitch, pitch])
    missed = np.concatenate([missed, missed[:, mirror] * [-1.0, 1.0]])
    features = direction_features(yaw, pitch)
    away = np.linalg.norm(missed - np.median(missed, axis=0), axis=2)
    weights = (away < OUTLIER * np.median(away, axis=0)).astype(np.float64)
    gram = np.einsum("mp,mn,mk->pnk", weights, features, features)
    stiff = STIFFNESS * np.einsum("pnn->pn", gram) * (np.arange(features.shape[1]) > 0)
    gram += stiff[:, :, None] * np.eye(features.shape[1])
    table = np.linalg.solve(gram, np.einsum("mp,mn,mpx->pnx", weights, features, missed)).transpose(1, 0, 2)
    left = missed - np.einsum("mn,npx->mpx", features, table)

    def percent(values: np.ndarray) -> float:
        return round(float(100 * np.sqrt(np.sum(weights[..., None] * values**2) / weights.sum())), 2)

    return table, {"missed": percent(missed), "left": percent(left)}
