"""Builds the head model from the MakeHuman body: cut, scaled to adult measures, reduced, with a basis of identities.

The steps, one function each: :func:`gather` (cut, targets), :func:`metric_scale`, :func:`reduce_parts`, :func:`atlas`,
:func:`identity_basis`, :func:`follow_weights`, :func:`region_masks`, and :func:`build_head`, which calls them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph
import trimesh
from absl import logging
from PIL import Image
from scipy.spatial import KDTree

from digitaltwin.head.markup import ARKIT_EXPRESSIONS
from experiments.assets import makehuman, population, reduction

SKIN_VERTICES = 2700
PARTS_VERTICES = 900
INTERIOR_VERTICES, TONGUE_VERTICES = 490, 130
IDENTITY_COMPONENTS = 100
POPULATION = 900
EYEBALL_RADIUS_MM = 12.4
LID_CLEARANCE_MM = 0.35
SOCKET_DEPTH_MM = 1.0  # how far the socket's lining lies under the eyeball's surface
# MakeHuman's dental arch is 67 mm wide, an adult's about 60; as it is, teeth show between closed lips, and the mouth's
# lining comes through thin cheeks.
ARCH_WIDTH, ARCH_DEPTH_DM = 0.9, 0.02
FACE_RADIUS_MM = 95.0
SKINS_SIZE = 512

# Adult means, men and women [mm]: ANSUR (Gordon et al. 1989, US Army, public domain), rounded.
ADULT_MEANS = {
    "pupil distance": (64.7, 62.3),
    "head breadth": (152.0, 144.0),
    "head length": (197.0, 187.0),
    "face height": (122.0, 113.0),
}
WIDTHS = ("pupil distance", "head breadth")

PARTS = ("interior", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue")


@dataclass
class Source:
    """The cut head at full resolution: skin and parts indices run over ``vertices``."""

    vertices: np.ndarray  # [n 3] dm
    names: list[str]  # targets, "folder/name"
    targets: np.ndarray  # [targets n 3] dm
    uv: np.ndarray  # [m 2] of the body atlas
    mirror: np.ndarray  # [n]
    faces: dict[str, np.ndarray]  # "skin" and each part -> [f 3]
    corners: dict[str, np.ndarray]  # likewise, texture coordinate indices


def gather(data: Path) -> Source:
    """Cuts the head off and reads every target that may shape it."""
    body = makehuman.read_body(data)
    above = makehuman.head_quads(body)
    segment = body.segment[above]
    quads = {
        "left_socket": above[segment == "left_socket"],
        "right_socket": above[segment == "right_socket"],
        "mouth": above[segment == "mouth"],
        "skin": above[np.isin(segment, ["head", "body"])],
        "interior": above[np.isin(segment, ["left_socket", "right_socket", "mouth"])],
    }
    quads |= {part: np.flatnonzero(body.group == helper) for part, helper in makehuman.HELPERS.items()}
    faces, corners = {}, {}
    for part, indices in quads.items():
        faces[part], corners[part] = makehuman.triangulate(body, indices)

    paths = {f"faceunits/{p.stem}": p for p in sorted((data / "faceunits01/targets/faceunits").glob("*.target"))}
    root = data / "mpfb2/targets"
    for folder in (*population.LOCAL_FOLDERS, "macrodetails", "expression/units/caucasian"):
        for p in sorted((root / folder).glob("*.target.gz")):
            if "baby" not in p.name and "child" not in p.name:
                paths[f"{folder}/{p.name.removesuffix('.target.gz')}"] = p
    keep = np.unique(np.concatenate([f.ravel() for f in faces.values()]))
    renumber = np.full(len(body.vertices), -1)
    renumber[keep] = np.arange(len(keep))
    targets = np.stack([makehuman.read_target(p, len(body.vertices))[keep] for p in paths.values()])
    vertices = body.vertices[keep].copy()
    for part in ("upper_teeth", "lower_teeth", "tongue", "mouth"):
        inside = np.setdiff1d(renumber[faces[part]], renumber[faces["skin"]])  # the lips stay
        vertices[inside] *= [ARCH_WIDTH, 1, 1]
        vertices[inside, 2] -= ARCH_DEPTH_DM
    return Source(
        vertices,
        list(paths),
        targets.astype(np.float32),
        body.uv,
        renumber[body.mirror[keep]],
        {part: renumber[f] for part, f in faces.items()},
        corners,
    )


def sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the least-squares sphere."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], np.sum(points**2, 1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def measure(source: Source, vertices: np.ndarray) -> dict[str, float]:
    """The measures of ``ADULT_MEANS`` on one head, in the unit of ``vertices``."""
    skin = np.unique(source.faces["skin"])
    left, right = (sphere(vertices[np.unique(source.faces[f"{side}_eye"])])[0] for side in ("left", "right"))
    eyes = (left + right) / 2
    unit = float(np.linalg.norm(left - right)) / 63  # about one millimetre
    points = (vertices[skin] - eyes) / unit
    middle = points[source.mirror[skin] == skin]
    front = middle[middle[:, 2] > -20]
    sellion = front[(front[:, 1] > -2) & (front[:, 1] < 14)]
    sellion = sellion[np.argmin(sellion[:, 2])]
    low = front[(front[:, 1] < -75) & (front[:, 2] > -15)]
    menton = low[np.argmin(low[:, 1])]
    above_ears = points[points[:, 1] > 35]
    glabella = front[(front[:, 1] > 8) & (front[:, 1] < 40)][:, 2].max()
    return {
        "pupil distance": 63 * unit,
        "head breadth": float(np.ptp(above_ears[:, 0]) * unit),
        "head length": float((glabella - points[:, 2].min()) * unit),
        "face height": float(np.linalg.norm(sellion - menton) * unit),
    }


def metric_scale(source: Source) -> tuple[np.ndarray, dict[str, float]]:
    """Millimetres a decimetre along x, y, z: one least-squares scale over the adult means, and a width factor.

    Also returns the figures, with what is left over of each measure.
    """
    ratios = {name: [] for name in ADULT_MEANS}
    for group in population.GROUPS:
        weights = population.group_weights(source.names, group)
        head = source.vertices + np.tensordot(weights, source.targets, 1)
        for name, value in measure(source, head).items():
            ratios[name].append(np.log(ADULT_MEANS[name][0 if group.startswith("male") else 1] / value))
    mean = {name: float(np.mean(r)) for name, r in ratios.items()}
    width = np.mean([mean[name] for name in WIDTHS])
    other = np.mean([mean[name] for name in mean if name not in WIDTHS])
    figures = {"mm_per_dm": round(float(np.exp(other)), 2), "width_factor": round(float(np.exp(width - other)), 3)}
    for name, r in mean.items():
        fitted = width if name in WIDTHS else other
        figures[f"{name}, percent too large"] = round(float(100 * (np.exp(fitted - r) - 1)), 1)
    return np.exp([width, other, other]), figures


def boundary_loops(faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Vertices of each boundary component, largest first."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    border = unique[times == 1]
    graph = sp.coo_matrix((np.ones(len(border)), border.T), (count, count))
    label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    on_border = np.unique(border)
    loops = [on_border[label[on_border] == k] for k in np.unique(label[on_border])]
    return sorted(loops, key=len, reverse=True)


def rings_around(faces: np.ndarray, start: np.ndarray, rings: int, count: int) -> np.ndarray:
    """Mask of vertices within a number of edges of ``start``."""
    mask = np.zeros(count, bool)
    mask[start] = True
    for _ in range(rings):
        mask[faces[mask[faces].any(1)]] = True
    return mask


def seam_vertices(faces: np.ndarray, corners: np.ndarray, count: int) -> np.ndarray:
    """Mask of vertices that own more than one texture coordinate."""
    pairs = np.unique(np.stack([faces.ravel(), corners.ravel()], 1), axis=0)
    return np.bincount(pairs[:, 0], minlength=count) > 1


def reduce_parts(source: Source, scale: np.ndarray, rng: np.random.Generator) -> tuple[dict, dict, dict]:
    """Reduces skin, interior and tongue.

    Returns:
        Faces and corners of every part with the original indices, and what the skin lost [mm].
    """
    count = len(source.vertices)
    controls = population.sliders(source.names)
    neutral = np.mean([population.group_weights(source.names, g) for g in population.GROUPS], 0)
    weights = [neutral]
    weights += [neutral + np.eye(len(source.names))[i] for i, n in enumerate(source.names) if n.startswith("faceunits")]
    weights += [population.sample_weights(rng, source.names, controls, population.GROUPS[i % 6]) for i in range(24)]
    shapes = scale * (source.vertices + np.tensordot(np.array(weights), source.targets, 1))

    faces, corners = dict(source.faces), dict(source.corners)
    loops = boundary_loops(faces["skin"], count)
    openings = np.concatenate(loops[1:])  # the neck's is the longest
    nose = shapes[0, _nose_tip(source, shapes[0])]
    distance = np.linalg.norm(shapes[0] - nose, axis=1)
    importance = np.where(distance < FACE_RADIUS_MM, 3.0, 1.0)
    for part, target in (("skin", SKIN_VERTICES), ("interior", INTERIOR_VERTICES), ("tongue", TONGUE_VERTICES)):
        locked = seam_vertices(faces[part], corners[part], count)
        for loop in boundary_loops(faces[part], count):
            locked[loop] = True
        if part == "skin":
            locked |= rings_around(faces[part], openings, 2, count)
        if part == "tongue":
            locked[:] = False
            for loop in boundary_loops(faces[part], count):
                locked[loop] = True
            corners[part] = faces[part]
        faces[part], corners[part] = reduction.reduce_mirrored(
            faces[part], corners[part], shapes, source.mirror, locked, importance, target
        )
        logging.info("%s: %d vertices, %d faces", part, len(np.unique(faces[part])), len(faces[part]))
    loss = {}
    for name, some in (("neutral", shapes[:1]), ("expressions", shapes[1:-24:6]), ("people", shapes[-24::3])):
        lost = np.concatenate([distances(shape, source.faces["skin"], faces["skin"]) for shape in some])
        loss[name] = {"mean_mm": round(float(lost.mean()), 3), "max_mm": round(float(lost.max()), 2)}
    return faces, corners, loss


def distances(vertices: np.ndarray, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Distances of a mesh's vertices and face centres from a coarser mesh over some of the same vertices."""
    surface = trimesh.Trimesh(vertices, coarse, process=False)
    points = np.concatenate([vertices[np.unique(fine)], vertices[fine].mean(1)])
    return trimesh.proximity.closest_point(surface, points)[1]


def _nose_tip(source: Source, vertices: np.ndarray) -> int:
    skin = np.unique(source.faces["skin"])
    middle = skin[source.mirror[skin] == skin]
    return int(middle[np.argmax(vertices[middle, 2])])


@dataclass(frozen=True)
class Island:
    """One chart of the new atlas: ``body = offset + matrix @ unbend(new)``."""

    box: np.ndarray  # [2 2] its bounding box in the new atlas, low and high corner
    matrix: np.ndarray  # [2 2]
    offset: np.ndarray  # [2]
    bend: np.ndarray  # [2] magnification of the middle along u and v; 0 leaves an axis alone
    focus: np.ndarray  # [2] what is magnified, in [-1, 1] of the straight box

    def bend_unit(self, t: np.ndarray) -> np.ndarray:
        """Monotone map of [-1, 1] onto itself, steepest at the focus."""
        k, c = np.where(self.bend > 0, self.bend, 1e-6), self.focus
        low, high = np.arctan(k * (-1 - c)), np.arctan(k * (1 - c))
        return 2 * (np.arctan(k * (t - c)) - low) / (high - low) - 1

    def unbend_unit(self, t: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`bend_unit`."""
        k, c = np.where(self.bend > 0, self.bend, 1e-6), self.focus
        low, high = np.arctan(k * (-1 - c)), np.arctan(k * (1 - c))
        return c + np.tan(low + (t + 1) / 2 * (high - low)) / k

    def from_body(self, uv: np.ndarray) -> np.ndarray:
        """New coordinates of a point of the body atlas."""
        straight = np.linalg.solve(self.matrix, (uv - self.offset).T).T
        return self.box.mean(0) + self.bend_unit(straight) * np.ptp(self.box, axis=0) / 2

    def to_body(self, uv: np.ndarray) -> np.ndarray:
        """Body atlas coordinates of a point of this island."""
        unit = np.clip((uv - self.box.mean(0)) / (np.ptp(self.box, axis=0) / 2), -1.02, 1.02)
        return self.unbend_unit(unit) @ self.matrix.T + self.offset


@dataclass
class Atlas:
    """New texture coordinates, and the way back to the body atlas they came from."""

    uv: np.ndarray  # [m 2] new coordinates, indexed like the source's
    islands: list[Island]

    def body_uv(self, uv: np.ndarray) -> np.ndarray:
        """Body atlas coordinates [... 2] of points [... 2] of the new atlas, by the nearest island."""
        gap = np.stack([np.max(np.maximum(i.box[0] - uv, uv - i.box[1]), -1) for i in self.islands])
        nearest = gap.argmin(0)
        result = np.zeros_like(uv)
        for number, island in enumerate(self.islands):
            result[nearest == number] = island.to_body(uv[nearest == number])
        return result


def atlas(source: Source, corners: dict[str, np.ndarray]) -> Atlas:
    """Lays the head's islands over the unit square.

    The face-and-scalp island lies on its side in the body atlas: it is turned upright, takes the upper 70 %, and is
    bent so that the face gets nearly twice the resolution of an even scale. Throat, mouth sock and eye sockets share
    the strip below.
    """
    used = np.concatenate([corners["skin"], corners["interior"]])
    graph = sp.coo_matrix((np.ones(2 * len(used)), used[:, [0, 1, 1, 2]].reshape(-1, 2).T), (len(source.uv),) * 2)
    label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    indices = np.unique(used)
    groups = [indices[label[indices] == k] for k in np.unique(label[indices])]
    groups.sort(key=lambda i: -float(np.prod(np.ptp(source.uv[i], axis=0))))
    margin, split = 0.008, 0.30
    strip_width = sum(float(np.ptp(source.uv[i, 0])) for i in groups[1:])
    new, islands, left = np.zeros_like(source.uv), [], margin
    for number, group in enumerate(groups):
        low, high = source.uv[group].min(0), source.uv[group].max(0)
        half = (high - low) / 2
        if number == 0:
            box = np.array([[margin, split], [1 - margin, 1 - margin]])
            matrix = np.array([[0.0, -half[0]], [half[1], 0.0]])  # a quarter turn: the face stands upright
            bend, focus = np.array([2.0, 1.6]), np.array([0.0, -0.3])
        else:
            width = (1 - margin * len(groups)) * (high - low)[0] / strip_width
            box = np.array([[left, margin], [left + width, split - 2 * margin]])
            left += width + margin
            matrix, bend, focus = np.diag(half), np.zeros(2), np.zeros(2)
        island = Island(box, matrix, (low + high) / 2, bend, focus)
        new[group] = island.from_body(source.uv[group])
        islands.append(island)
    return Atlas(new, islands)


def rigid(points: np.ndarray, onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation that carry ``points`` closest to ``onto`` (Kabsch)."""
    a, b = points.mean(0), onto.mean(0)
    u, _, vt = np.linalg.svd((points - a).T @ (onto - b))
    rotation = (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
    return rotation, b - rotation @ a


def seat_eyeball(lids: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Centres [heads 3] of a ball of the adult radius that rests behind the lid margins [heads m 3].

    Gauss-Newton on the distances to the margin; sideways the ball stays near ``guess``, which carries the pupil
    distance. MakeHuman's own eyeballs are a third too large and cut through narrow lids.
    """
    stay = np.diag([10.0, 0.05, 0.05])
    centre = guess.copy()
    for _ in range(20):
        ray = lids - centre[:, None]
        distance = np.linalg.norm(ray, axis=2)
        normal = ray / distance[..., None]
        residual = distance - (EYEBALL_RADIUS_MM + LID_CLEARANCE_MM)
        hessian = np.einsum("hmx,hmy->hxy", normal, normal) + stay
        gradient = np.einsum("hmx,hm->hx", normal, residual) - (centre - guess) @ stay
        centre = centre + np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return centre


@dataclass
class Population:
    """Random adults, rigidly aligned, in mm."""

    skin: np.ndarray  # [heads v 3]
    parts: np.ndarray  # [heads p 3]
    group_skin: np.ndarray  # [6 v 3]
    mean_skin: np.ndarray  # [v 3]
    mean_parts: np.ndarray  # [p 3]


def sample_population(
    source: Source,
    scale: np.ndarray,
    skin: np.ndarray,
    parts: np.ndarray,
    eyes: list[np.ndarray],
    sockets: list[tuple[np.ndarray, list[np.ndarray]]],
    lid_loops: list[np.ndarray],
    twins: np.ndarray,
    rng: np.random.Generator,
) -> Population:
    """Draws the population; every head is moved rigidly onto the mean's face, eyeballs keep their size.

    ``eyes`` lists, for each eye, which of ``parts`` belong to it; ``sockets`` which line its socket behind the rim, and
    for each of them the ``skin`` vertices of the rim beside it, if any. The lining is laid just under the ball's
    surface: MakeHuman's socket, made for a ball a third larger, would stand before ours in the eye's corners. What is
    left to be seen of it is a narrow slope from the lids to the ball. ``lid_loops`` says which of ``skin`` form
    a lid margin, ``twins`` is the mirror image of each vertex, skin first.
    """
    controls = population.sliders(source.names)
    weights = [population.group_weights(source.names, g) for g in population.GROUPS]
    weights += [
        population.sample_weights(rng, source.names, controls, population.GROUPS[i % 6]) for i in range(POPULATION)
    ]
    weights = np.array(weights)
    index = np.concatenate([skin, parts])
    n = len(skin)
    flat = (source.targets[:, index] * scale).reshape(len(source.names), -1)
    heads = (weights @ flat).reshape(len(weights), -1, 3) + scale * source.vertices[index]
    heads[6:] *= rng.normal(1, population.SIZE_DEVIATION, (POPULATION, 1, 1))
    mean = heads[:6].mean(0)
    centres = [sphere(mean[n:][eye])[0] for eye in eyes]
    mean = mean - (centres[0] + centres[1]) / 2
    face = np.linalg.norm(mean[:n] - mean[np.argmax(mean[:n, 2])], axis=1) < FACE_RADIUS_MM
    for _ in range(2):
        for head in heads:
            rotation, shift = rigid(head[:n][face], mean[:n][face])
            head[:] = head @ rotation.T + shift
        mean = heads[6:].mean(0)
    balls = []
    for eye, (socket, rims) in zip(eyes, sockets):  # a rigid ball of one size: only its centre varies
        guess = np.stack([sphere(head[n:][eye])[0] for head in [*heads, mean]])
        lids = lid_loops[int(np.argmin([np.linalg.norm(mean[lid].mean(0) - guess[-1]) for lid in lid_loops]))]
        lids = lids[np.abs(mean[lids, 0] - mean[lids, 0].mean()) < 9]
        centre = seat_eyeball(np.concatenate([heads[:, lids], mean[None, lids]]), guess)
        for members, radius in ((eye, EYEBALL_RADIUS_MM), (socket, EYEBALL_RADIUS_MM - SOCKET_DEPTH_MM)):
            direction = mean[n:][members] - (guess[-1] if members is eye else centre[-1])
            if members is socket:
                for row, rim in enumerate(rims):
                    if len(rim):
                        direction[row] = mean[rim].mean(0) - centre[-1]
            direction *= radius / np.linalg.norm(direction, axis=1, keepdims=True)
            heads[:, n + members] = centre[:-1, None] + direction
            mean[n + members] = centre[-1] + direction
        balls.append(centre[-1])
    # Every person's mirror image is as likely: it makes the mean symmetric, and each component even or odd.
    flip = np.array([-1.0, 1.0, 1.0])
    heads = np.concatenate([heads, heads[6:, twins] * flip])
    heads[:6] = (heads[:6] + heads[:6, twins] * flip) / 2
    mean = (mean + mean[twins] * flip) / 2
    origin = (balls[0] + balls[1]) / 2 * [0, 1, 1]
    mean, heads = mean - origin, heads - origin
    return Population(heads[6:, :n], heads[6:, n:], heads[:6, :n], mean[:n], mean[n:])


def identity_basis(people: Population) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Principal components of the skin, and what the parts do along with them.

    Returns:
        basis [i v 3] (orthonormal), deviation [i] mm, parts [i p 3], group coefficients [6 i], percent of the variance.
    """
    count = len(people.skin)
    skin = (people.skin - people.mean_skin).reshape(count, -1)
    _, singular, vt = np.linalg.svd(skin, full_matrices=False)
    energy = np.cumsum(singular**2) / np.sum(singular**2)
    basis = vt[:IDENTITY_COMPONENTS]
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])[:, None]
    coefficients = skin @ basis.T
    deviation = np.sqrt(np.mean(coefficients**2, 0))
    parts = (people.parts - people.mean_parts).reshape(count, -1)
    parts = np.linalg.lstsq(coefficients, parts, rcond=None)[0]
    groups = (people.group_skin - people.mean_skin).reshape(6, -1) @ basis.T
    shape = (IDENTITY_COMPONENTS, -1, 3)
    variance = round(float(100 * energy[IDENTITY_COMPONENTS - 1]), 3)
    return basis.reshape(shape), deviation, parts.reshape(shape), groups, variance


def follow_weights(
    mean_skin: np.ndarray,
    mean_parts: np.ndarray,
    shared: dict[int, int],
    ball_of: dict[int, str],
    part_of: np.ndarray,
    loops: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Four skin vertices and weights that carry each parts vertex along with unforeseen skin displacements.

    The interior hangs on the rim it shares with the skin (``shared``); a rigid part (eyeball with its socket's lining,
    ``ball_of``; teeth; tongue) follows four vertices around it as one piece, so that it keeps its shape.
    """
    vertices = np.zeros((len(mean_parts), 4), int)
    weights = np.zeros((len(mean_parts), 4))
    for number, name in enumerate(PARTS):
        mine = np.flatnonzero(part_of == number)
        if name == "interior":
            for p in map(int, mine):
                if p in ball_of:
                    continue
                if p in shared:
                    vertices[p], weights[p] = shared[p], [1, 0, 0, 0]
                    continue
                rim = min(loops, key=lambda r: np.min(np.linalg.norm(mean_skin[r] - mean_parts[p], axis=1)))
                distance = np.linalg.norm(mean_skin[rim] - mean_parts[p], axis=1)
                nearest = np.argsort(distance)[:4]
                inverse = 1 / (distance[nearest] + 1e-3)
                vertices[p], weights[p] = rim[nearest], inverse / inverse.sum()
            continue
        centre = mean_parts[mine].mean(0)
        rim = min(loops, key=lambda r: np.linalg.norm(mean_skin[r].mean(0) - centre))
        points = mean_skin[rim]
        corners = [points[:, 0].argmin(), points[:, 0].argmax()]
        if name.endswith("eye"):
            corners += [points[:, 1].argmin(), points[:, 1].argmax()]
            chosen = rim[corners]
            mine = np.concatenate([mine, [p for p, eye in ball_of.items() if eye == name]]).astype(int)
        else:
            # Upper teeth move with the nose's base, lower teeth and tongue with the chin.
            drop = {"upper_teeth": 12.0}.get(name, -22.0)
            wanted = points.mean(0) + np.array([[-12, drop, 0], [12, drop, 0], [-5, drop, 5], [5, drop, 5]])
            chosen = KDTree(mean_skin).query(wanted)[1]
        vertices[mine], weights[mine] = chosen, 0.25
    return vertices, weights


def region_masks(data: Path, mean: np.ndarray, faces: np.ndarray, corners: np.ndarray, body_uv, loops) -> dict:
    """Face, eyes, lips, scalp, neck as vertex masks; lips and face from MakeHuman's own UV masks."""

    def painted(name: str) -> np.ndarray:
        image = np.asarray(Image.open(data / f"mpfb2/textures/mpfb_{name}.jpg").convert("L")) / 255.0
        height, width = image.shape
        uv = body_uv[corners]
        value = image[
            np.clip(((1 - uv[..., 1]) * height).astype(int), 0, height - 1),
            np.clip((uv[..., 0] * width).astype(int), 0, width - 1),
        ]
        mask = np.zeros(len(mean))
        np.maximum.at(mask, faces, value)
        return mask > 0.35

    nose = mean[np.argmax(mean[:, 2])]
    mouth, *eyes = sorted(loops[1:], key=len, reverse=True)
    eye_distance = np.min([KDTree(mean[eye]).query(mean)[0] for eye in eyes], 0)
    ears = painted("ears")
    # The hairline runs from above the forehead, in front of the ears, to the nape.
    y, z = mean[:, 1], mean[:, 2]
    hairline = np.where(z > -40, 58 - 0.25 * (z + 20), np.interp(z, [-150, -75, -40], [-75, 0, 52]))
    jaw = np.interp(z, [-110, -80, -20, 20], [-70, -75, -108, -120])
    return {
        "face": np.linalg.norm(mean - nose, axis=1) < FACE_RADIUS_MM,
        "eyes": eye_distance < 14,
        "lips": painted("lips") | rings_around(faces, mouth, 1, len(mean)),
        "scalp": (y > hairline) & ~ears,
        "neck": (y < jaw) & ~ears & (y < -60),
    }


def symmetrise(displacements: np.ndarray, names: list[str], twins: np.ndarray) -> np.ndarray:
    """Averages each expression with the mirror image of its opposite; MakeHuman's differ by up to a millimetre."""
    swap = {"Left": "Right", "Right": "Left", "left": "right", "right": "left"}
    opposite = [re.sub("|".join(swap), lambda m: swap[m.group()], name) for name in names]
    partner = [names.index(name) for name in opposite]
    return (displacements + displacements[partner][:, twins] * [-1, 1, 1]) / 2


def build_head(data: Path) -> tuple[dict[str, np.ndarray], dict, Atlas]:
    """Everything of the head model but the anchors, which are measured on renders of it."""
    rng = np.random.default_rng(0)
    source = gather(data)
    logging.info(
        "cut: %d skin vertices, %d interior, %d targets",
        len(np.unique(source.faces["skin"])),
        len(np.unique(source.faces["interior"])),
        len(source.names),
    )
    scale, figures = metric_scale(source)
    faces, corners, loss = reduce_parts(source, scale, rng)

    skin = np.unique(faces["skin"])
    count = len(source.vertices)
    skin_number = np.full(count, -1)
    skin_number[skin] = np.arange(len(skin))
    parts, part_faces, part_corners, part_label, face_part = [], [], [], [], []
    offset = 0
    for number, name in enumerate(PARTS):
        index = np.unique(faces[name])
        renumber = np.full(count, -1)
        renumber[index] = offset + np.arange(len(index))
        parts.append(index)
        part_faces.append(renumber[faces[name]])
        part_corners.append(corners[name])
        part_label.append(np.full(len(index), number))
        face_part.append(np.full(len(faces[name]), number))
        offset += len(index)
    parts, part_faces = np.concatenate(parts), np.concatenate(part_faces)
    part_label, face_part = np.concatenate(part_label), np.concatenate(face_part)
    if len(skin) > SKIN_VERTICES or len(parts) > PARTS_VERTICES:
        raise ValueError(f"{len(skin)} skin and {len(parts)} parts vertices: more than asked for")

    shared = {p: int(skin_number[v]) for p, v in enumerate(parts) if part_label[p] == 0 and skin_number[v] >= 0}
    sockets = []
    for side in ("left_socket", "right_socket"):
        lining = set(np.unique(source.faces[side]).tolist())
        members = np.array([p for p, v in enumerate(parts) if part_label[p] == 0 and v in lining and p not in shared])
        beside = [np.unique(part_faces[(part_faces == p).any(1)]) for p in members]
        sockets.append((members, [np.array([shared[p] for p in ring if p in shared], int) for ring in beside]))
    eyes = [np.flatnonzero(part_label == PARTS.index(f"{side}_eye")) for side in ("left", "right")]
    local_faces = skin_number[faces["skin"]]
    loops = boundary_loops(local_faces, len(skin))
    lid_loops = sorted(loops[1:], key=len)[:2]
    number = {v: i for i, v in enumerate(skin)}
    twins = np.array([number[v] for v in source.mirror[skin]])
    number = {v: len(skin) + i for i, v in enumerate(parts)}
    twins = np.concatenate([twins, [number[v] for v in source.mirror[parts]]])
    people = sample_population(source, scale, skin, parts, eyes, sockets, lid_loops, twins, rng)
    identity, deviation, parts_identity, groups, variance = identity_basis(people)

    names = {n.split("/")[-1]: i for i, n in enumerate(source.names) if n.startswith("faceunits/")}
    other = {n.split("/")[-1]: i for i, n in enumerate(source.names) if n.startswith("expression/")}

    def displacement(chosen: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Of skin and parts; an eyeball turns as its target turns it, without the target's distortion."""
        which = list(chosen.values())
        moved = source.targets[which][:, np.concatenate([skin, parts])] * scale
        for eye in eyes:
            rest = source.vertices[parts[eye]]
            ball = people.mean_parts[eye]
            centre = sphere(ball)[0]
            for row, target in enumerate(which):
                rotation, _ = rigid(rest, rest + source.targets[target][parts[eye]])
                moved[row, len(skin) + eye] = (ball - centre) @ rotation.T - (ball - centre)
        for socket, _ in sockets:
            moved[:, len(skin) + socket] = 0
        moved = symmetrise(moved, list(chosen), twins)
        return moved[:, : len(skin)], moved[:, len(skin) :]

    expressions, parts_expressions = displacement({n: names[n] for n in ARKIT_EXPRESSIONS})
    other_expressions, parts_other = displacement(other)

    layout = atlas(source, corners)
    skin_uv = np.unique(corners["skin"])
    uv_number = np.full(len(source.uv), -1)
    uv_number[skin_uv] = np.arange(len(skin_uv))
    parts_uv, parts_uv_faces = parts_texture_coordinates(people.mean_parts, part_faces, face_part, part_corners, layout)

    ball_of = {int(p): side for side, (socket, _) in zip(("left_eye", "right_eye"), sockets) for p in socket}
    follow, weights = follow_weights(people.mean_skin, people.mean_parts, shared, ball_of, part_label, loops[1:])
    regions = region_masks(data, people.mean_skin, local_faces, corners["skin"], source.uv, loops)
    arrays = {
        "mean": people.mean_skin,
        "faces": local_faces,
        "uv": layout.uv[skin_uv],
        "uv_faces": uv_number[corners["skin"]],
        "expressions": expressions,
        "other_expressions": other_expressions,
        "identity": identity,
        "identity_deviation": deviation,
        "group_identity": groups,
        "parts_mean": people.mean_parts,
        "parts_faces": part_faces,
        "parts_uv": parts_uv,
        "parts_uv_faces": parts_uv_faces,
        "parts_expressions": parts_expressions,
        "parts_other_expressions": parts_other,
        "parts_identity": parts_identity,
        "parts_follow_vertices": follow,
        "parts_follow_weights": weights,
        "parts_face_part": face_part,
        "mirror": skin_number[source.mirror[skin]],
        **{f"regions.{name}": mask for name, mask in regions.items()},
    }
    # The interior's two kinds look different: wet pink beside the eyes, dark in the mouth.
    lining = np.isin(part_faces, np.concatenate([members for members, _ in sockets])).any(1)
    arrays["parts_face_part"] = np.where(lining & (face_part == 0), len(PARTS), face_part)
    names_ = {
        "expression_names": list(ARKIT_EXPRESSIONS),
        "other_expression_names": list(other),
        "group_names": list(population.GROUPS),
        "part_names": ["mouth_sock", *PARTS[1:], "eye_sockets"],
        "figures": {"metric": figures, "reduction": loss, "identity_variance_percent": variance},
    }
    return arrays, names_, layout


def parts_texture_coordinates(mean_parts, faces, face_part, corners, layout: Atlas) -> tuple[np.ndarray, np.ndarray]:
    """Interior: its islands of the atlas. Eyes: azimuthal equidistant about the gaze. Teeth, tongue: seen from above.

    An eye's uv is ``1/2 + theta / (2 pi) (cos phi, sin phi)`` with theta the angle from straight ahead and phi counted
    from +x (the subject's left) to +y, so that the pupil is the centre of its texture.
    """
    uv, uv_faces, offset = [], [], 0
    for number, name in enumerate(PARTS):
        mine = faces[face_part == number]
        if name == "interior":
            index, inverse = np.unique(corners[number], return_inverse=True)
            uv.append(layout.uv[index])
            uv_faces.append(offset + inverse.reshape(-1, 3))
        else:
            index, inverse = np.unique(mine, return_inverse=True)
            points = mean_parts[index]
            if name.endswith("eye"):
                d = points - sphere(points)[0]
                d /= np.linalg.norm(d, axis=1, keepdims=True)
                theta, phi = np.arccos(np.clip(d[:, 2], -1, 1)), np.arctan2(d[:, 1], d[:, 0])
                uv.append(0.5 + theta[:, None] / (2 * np.pi) * np.c_[np.cos(phi), np.sin(phi)])
            else:
                plane = points[:, [0, 2]]
                uv.append((plane - plane.min(0)) / np.ptp(plane, axis=0))
            uv_faces.append(offset + inverse.reshape(-1, 3))
        offset += len(uv[-1])
    return np.concatenate(uv), np.concatenate(uv_faces)
