"""Pictures of the shipped head: landmarks, contour, the portrait's avatar, expressions, people of all groups."""

import functools
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from digitaltwin import create_avatar
from digitaltwin.fitting import FitConfig, make_fitter
from digitaltwin.fitting._contour import candidates_on, silhouettes
from digitaltwin.fitting._fitter import SlidingContour
from digitaltwin.geometry import project
from digitaltwin.head import HeadModel, landmark_points, load_head, neutral_shape
from digitaltwin.head.markup import BROWS, CONTOUR, LEFT_EYE, MOUTH, NOSE, RIGHT_EYE
from digitaltwin.io._images import write_image
from digitaltwin.io.assets import asset_path
from digitaltwin.render import portrait_camera, render_head
from digitaltwin.render._portrait import picture_grid
from digitaltwin.texture import eye_texture
from digitaltwin.texture._skins import load_skin, skin_paths

GROUP_COLOURS = (
    (CONTOUR, (220, 30, 30)),
    (BROWS, (0, 120, 0)),
    (np.concatenate([LEFT_EYE, RIGHT_EYE]), (0, 70, 220)),
    (NOSE, (170, 0, 170)),
    (MOUTH, (200, 90, 0)),
)
EXPRESSIONS = (
    {},
    {"jawOpen": 0.8},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    {"eyeBlinkLeft": 1.0},
    {"mouthPucker": 1.0},
    {"browInnerUp": 1.0, "mouthFrownLeft": 0.8, "mouthFrownRight": 0.8},
    {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8},
    {"jawOpen": 0.5, "tongueOut": 1.0},
)


@functools.cache
def eyes() -> np.ndarray:
    """Make the eye texture of everybody in the pictures."""
    return np.asarray(eye_texture(jax.random.key(0)))


def no_expression(head: HeadModel) -> np.ndarray:
    """Return expression coefficients of zero."""
    return np.zeros(len(head.expressions), np.float32)


def draw_landmarks(head: HeadModel, skin: np.ndarray) -> np.ndarray:
    """Draw the 104 numbered landmarks and, small, the 468 mesh points on the mean head, front and three-quarter."""
    rest, halves = no_expression(head), []
    for yaw in (0.0, 0.7):
        camera = portrait_camera(yaw=yaw, width_mm=190.0, size_px=900)
        shot = render_head(head, camera, head.mean, rest, texture=skin, eye_texture=eyes(), size_px=900)
        image = Image.fromarray((255 * (0.35 * shot + 0.65)).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for x, y in project(camera, np.asarray(head.mesh_points.interpolate(head.mean, head.faces))):
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(120, 120, 120))
        points = project(camera, np.asarray(landmark_points(head, head.mean)))
        for group, colour in GROUP_COLOURS:
            for number in group:
                x, y = points[number]
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
                draw.text((x + 4, y - 10), str(number), fill=colour)
        halves.append(np.asarray(image, np.float32) / 255)
    return np.concatenate(halves, axis=1)


def draw_contour(head: HeadModel, skin: np.ndarray) -> np.ndarray:
    """Draw where the contour slides on the mean head: candidates, silhouettes joined, anchors; by reach and turn."""
    rows = []
    for reach_mm in (FitConfig.contour_reach_mm, FitConfig.paper().contour_reach_mm):
        fitter = make_fitter(head, FitConfig(contour_reach_mm=reach_mm))
        contour = cast(SlidingContour, fitter.contour)
        candidates = candidates_on(head.mean, contour.corners, contour.barycentric, closed=fitter.closed_contour)
        for yaw_deg in (0.0, 20.0, 40.0, -60.0):
            camera, rest = portrait_camera(yaw=np.deg2rad(yaw_deg), width_mm=230.0, size_px=420), no_expression(head)
            shot = render_head(head, camera, head.mean, rest, texture=skin, eye_texture=eyes(), size_px=420)
            image = Image.fromarray((255 * (0.6 * shot + 0.4)).astype(np.uint8))
            draw = ImageDraw.Draw(image)
            places = project(camera, np.asarray(candidates.points.reshape(-1, 3)))
            for x, y in places:
                draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(90, 90, 90))
            outline = places[np.asarray(silhouettes(jax.tree.map(jnp.float32, camera), candidates))]
            draw.line([tuple(point) for point in outline], fill=(220, 30, 30), width=2)
            for x, y in project(camera, np.asarray(landmark_points(head, head.mean)))[CONTOUR]:
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(0, 70, 220))
            rows.append(np.asarray(image, np.float32) / 255)
    return picture_grid(rows, 4)


def draw_expressions(head: HeadModel, skin: np.ndarray) -> np.ndarray:
    """Draw some expressions of the mean head."""
    camera, shots = portrait_camera(yaw=0.35, width_mm=215.0, size_px=320), []
    for weights in EXPRESSIONS:
        beta = np.array([weights.get(name, 0.0) for name in head.expression_names], np.float32)
        shots.append(render_head(head, camera, head.mean, beta, texture=skin, eye_texture=eyes(), size_px=320))
    return picture_grid(shots, 4)


def draw_people(head: HeadModel) -> np.ndarray:
    """Draw the six group means and six random people, each with a skin of its group."""
    rng, shots = np.random.default_rng(5), []
    skins = {path.stem: path for path in skin_paths()}
    for row in range(2):
        for number, group in enumerate(head.group_names):
            identity = np.asarray(head.group_identity[number])
            if row:
                identity = 0.5 * identity + 0.8 * rng.normal(size=identity.shape) * np.asarray(head.identity_std)
            skin = load_skin(skins[f"{group}-young"], size=1024).pixels
            camera, rest = portrait_camera(yaw=0.5, width_mm=330.0, size_px=320), no_expression(head)
            person = neutral_shape(head, jnp.asarray(identity, jnp.float32))
            shots.append(render_head(head, camera, person, rest, texture=skin, eye_texture=eyes(), size_px=320))
    return picture_grid(shots, 6)


def draw(folder: Path, *, quick: bool) -> None:
    """Draw them all into a folder; only the landmarks for a first look."""
    head = load_head()
    skin = load_skin(asset_path("skins/male-caucasian-young.jpg"), size=1024).pixels
    write_image(folder / "landmarks.png", draw_landmarks(head, skin))
    if quick:
        return
    write_image(folder / "contour.png", draw_contour(head, skin))
    write_image(folder / "avatar.png", create_avatar(asset_path("portrait.png")).preview(480))
    write_image(folder / "expressions.png", draw_expressions(head, skin))
    write_image(folder / "people.png", draw_people(head))
