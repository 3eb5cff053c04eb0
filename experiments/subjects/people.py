"""The head's population beside real people: means, spreads, depths of the profile.

Letters: v skin vertices, n people, d depths.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digitaltwin.head import HeadModel
from digitaltwin.head._population import draw_identities
from digitaltwin.head.markup import (
    BROWS,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    NOSE_TIP,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
)
from experiments._shared.people import Faces, lay_on_skin, load_model, rigid_motion, without_rigid_motion

FIGURES = Path(__file__).with_name("people.json")
SOURCE = "ICT-FaceKit light model, MIT, (c) 2020 USC Institute for Creative Technologies: figures alone"
DRAWN = 2000
LARGEST_MEAN_MM, LARGEST_SPREAD_PERCENT = 0.6, 5.0
LARGEST_DEPTH_PERCENT, LARGEST_DEPTH_RATIO = 5.0, 1.25
DEPTHS = ("nose_protrusion", "inner_eye_distance", "brow_depth", "chin_depth")
_CHIN = ((-0.5, -110.0), (0.5, -80.0))  # x and y, on the mean head, of the foremost point of the chin


class PeopleFigures(NamedTuple):
    """What is known of people's faces."""

    mean_off_mm: float
    """Root mean square distance of the mean head's face from theirs, size kept."""
    spread_mm: tuple[float, float]
    """Root mean square distance of a face from their mean, of what the basis can follow: size kept, and free."""
    outside_mm: tuple[float, float]
    """What the basis cannot follow of them, likewise."""
    depths_mm: dict[str, tuple[float, float, float]]
    """Mean and standard deviation of each of :data:`DEPTHS`, and the deviation that is left within the basis."""


def measure_figures(head: HeadModel, model: Path) -> PeopleFigures:
    """Measure people on a model of scans."""
    face, mean = np.asarray(head.regions.face), np.asarray(head.mean, np.float64)
    people = lay_on_skin(head, load_model(model)).symmetric(np.asarray(head.mirror))
    rotation, shift = rigid_motion(people.mean[face], mean[face])
    people = Faces(people.mean @ rotation.T + shift, people.modes @ rotation.T)
    basis = np.asarray(head.identity, np.float64)
    spread, outside = [], []
    for with_scale in (False, True):
        modes, span = (_of_face(rows, mean, face, with_scale=with_scale) for rows in (people.modes, basis))
        span = np.linalg.qr(span.T)[0]
        within = modes @ span
        spread.append(float(np.sqrt((within**2).sum() / face.sum())))
        outside.append(float(np.sqrt((modes**2).sum() / face.sum() - spread[-1] ** 2)))
    drawn = np.random.default_rng(0).normal(size=(DRAWN, len(people.modes)))
    of_face = np.linalg.qr(basis[:, face].reshape(len(basis), -1).T)[0]
    within = people.modes.copy()
    flat = people.modes[:, face].reshape(len(within), -1)
    within[:, face] = (flat @ of_face @ of_face.T).reshape(within[:, face].shape)
    whole, part = (
        _moments(measure_depths(head, people.mean + np.tensordot(drawn, modes, 1))) for modes in (people.modes, within)
    )
    depths = {name: (*whole[name], part[name][1]) for name in DEPTHS}
    off = float(np.sqrt(((people.mean - mean)[face] ** 2).sum(1).mean()))
    return PeopleFigures(off, (spread[0], spread[1]), (outside[0], outside[1]), depths)


def draw_figures(head: HeadModel) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
    """Measure people drawn from equally weighted groups: spread of their faces, size kept and free, and depths."""
    rng = np.random.default_rng(0)
    group = np.arange(DRAWN) % len(head.group_names)
    mean, face = np.asarray(head.mean, np.float64), np.asarray(head.regions.face)
    offsets = np.tensordot(draw_identities(head, rng, group), np.asarray(head.identity, np.float64), 1)
    spread = [
        float(np.sqrt((_of_face(offsets, mean, face, with_scale=free) ** 2).sum() / face.sum() / DRAWN))
        for free in (False, True)
    ]
    return (spread[0], spread[1]), _moments(measure_depths(head, mean + offsets))


def _of_face(rows: np.ndarray, mean: np.ndarray, face: np.ndarray, *, with_scale: bool) -> np.ndarray:
    """The face's displacements, flat, without rigid motion and, if it is free, size."""
    still = without_rigid_motion(rows, mean, np.flatnonzero(face))[:, face].reshape(len(rows), -1)
    if with_scale:
        larger = (mean[face] - mean[face].mean(0)).ravel()
        larger /= np.linalg.norm(larger)
        still = still - np.outer(still @ larger, larger)
    return still


def measure_depths(head: HeadModel, skins: np.ndarray) -> np.ndarray:
    """Measure how far nose tip, brows and chin stand over the plane of the outer eye and the mouth corners [n d] mm.

    The second of the four is the distance of the inner eye corners.
    """
    mean = np.asarray(head.mean)
    (left, low), (right, high) = _CHIN
    on_chin = (mean[:, 0] > left) & (mean[:, 0] < right) & (mean[:, 1] > low) & (mean[:, 1] < high)
    chin = np.argmax(np.where(on_chin, mean[:, 2], -np.inf))
    rows = []
    corners = [LEFT_EYE_OUTER, RIGHT_EYE_OUTER, MOUTH_RIGHT, MOUTH_LEFT]
    faces, weights = np.asarray(head.faces)[np.asarray(head.landmarks.faces)], np.asarray(head.landmarks.barycentric)
    for skin in skins:
        points = np.einsum("kc,kcx->kx", weights, skin[faces])
        middle = points[corners].mean(0)
        normal = np.linalg.svd(points[corners] - middle)[2][2]
        normal = normal * np.sign(normal[2])
        brow = points[BROWS[4:6]].mean(0)
        inner = np.linalg.norm(points[LEFT_EYE_INNER] - points[RIGHT_EYE_INNER])
        rows.append(
            [(points[NOSE_TIP] - middle) @ normal, inner, (brow - middle) @ normal, (skin[chin] - middle) @ normal]
        )
    return np.array(rows)


def _moments(depths: np.ndarray) -> dict[str, tuple[float, float]]:
    return {name: (float(column.mean()), float(column.std())) for name, column in zip(DEPTHS, depths.T)}


def load_figures() -> PeopleFigures:
    """Read the figures that were measured on ICT-FaceKit's light model."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text())["figures"]
    figures["depths_mm"] = {name: tuple(pair) for name, pair in figures["depths_mm"].items()}
    return PeopleFigures(**figures)


def compare_with_people(head: HeadModel, people: PeopleFigures) -> tuple[str, list[str]]:
    """Compare the population with people.

    Returns:
        A Markdown table, and what of it misses the limits.
    """
    spread, depths = draw_figures(head)
    lines = ["| people's faces | people | drawn | |", "|---|---|---|---|"]
    failed = []

    def row(name: str, theirs: str, ours: str, passes: bool) -> None:
        lines.append(f"| {name} | {theirs} | {ours} | {'pass' if passes else 'FAIL'} |")
        failed.extend([] if passes else [name])

    off = people.mean_off_mm
    row("mean face, off the scans' mean [mm]", "", f"{off:.2f}", off < LARGEST_MEAN_MM)
    for number, size in enumerate(("kept", "free")):
        ours, theirs = spread[number], people.spread_mm[number]
        near = abs(ours / theirs - 1) < LARGEST_SPREAD_PERCENT / 100
        beyond = f"{theirs:.2f}, and {people.outside_mm[number]:.2f} outside the basis"
        row(f"spread, size {size} [mm]", beyond, f"{ours:.2f} ({100 * (ours / theirs - 1):+.1f} %)", near)
    for name, (mean, std, within) in people.depths_mm.items():
        found, deviation = depths[name]
        near = abs(found - mean) < LARGEST_DEPTH_PERCENT / 100 * abs(mean)
        near &= 1 / LARGEST_DEPTH_RATIO < deviation / within < LARGEST_DEPTH_RATIO
        row(
            f"{name.replace('_', ' ')} [mm]",
            f"{mean:.1f} ± {std:.1f}, {within:.1f} within the basis",
            f"{found:.1f} ± {deviation:.1f}",
            near,
        )
    return "\n".join(lines), failed
