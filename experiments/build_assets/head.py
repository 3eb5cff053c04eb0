"""Builds the head model from the MakeHuman body.

The steps, a module each: the cut and the size (:mod:`experiments.build_assets.source`), fewer vertices
(:mod:`experiments.build_assets.reduction`), the atlas (:mod:`experiments.build_assets.atlas`), identities
(:mod:`experiments.build_assets.identity`); here, what ties parts and skin together, and :func:`build_head`, which calls
them.
"""

import functools
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

from digitaltwin.geometry._topology import boundary_edges
from digitaltwin.head.markup import ARKIT_EXPRESSIONS
from experiments._shared.people import rigid_motion
from experiments.build_assets import population, reduction
from experiments.build_assets.atlas import Atlas, lay_atlas
from experiments.build_assets.gaussian import Gaussian
from experiments.build_assets.identity import Seats, draw_crowd, identity_basis
from experiments.build_assets.source import Source, gather, metric_scale, sphere
from experiments.build_assets.statistics import Statistics, linear_measures, population_statistics, slider_prior
from experiments.build_assets.targets import FACE_RADIUS_MM, Mouth, Targets, identity_targets

SKIN_VERTICES = 2700
PARTS_VERTICES = 900
INTERIOR_VERTICES, TONGUE_VERTICES = 490, 130
PARTS = ("interior", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue")


def boundary_loops(faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Vertices of each boundary component, largest first."""
    border = boundary_edges(faces)
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


@dataclass(frozen=True)
class Cut:
    """The reduced head: which vertices of the source are left, and how they hang together."""

    data: Path
    source: Source
    scale: np.ndarray  # [3] mm a decimetre
    sizes: np.ndarray  # [6] the groups' factors of size
    skin: np.ndarray  # [v] vertices of the source
    parts: np.ndarray  # [p]
    skin_faces: np.ndarray  # [f 3] over the skin
    part_faces: np.ndarray  # [q 3] over the parts
    part_label: np.ndarray  # [p] index into ``PARTS``
    face_part: np.ndarray  # [q]
    corners: dict[str, np.ndarray]  # of the body's texture coordinates
    loops: list[np.ndarray]  # the skin's openings, the neck first
    shared: dict[int, int]  # parts vertices of the rim, and the skin's vertices there
    seats: Seats
    twins: np.ndarray  # [v + p] mirror image of each vertex
    figures: dict
    """What was measured on the way."""

    @functools.cached_property
    def targets(self) -> Targets:
        """The identity targets at the vertices that are left."""
        opening = max(self.loops[1:], key=len)
        mouth = Mouth(self.skin_faces, opening, self.twins[: len(self.skin)], self.shared)
        return identity_targets(self.source, self.scale, self.skin, self.parts, mouth)


def cut_head(data: Path) -> Cut:
    """Cut the head off, bring it to size and reduce it."""
    source = gather(data)
    logging.info(
        "cut: %d skin vertices, %d interior, %d targets",
        len(np.unique(source.faces["skin"])),
        len(np.unique(source.faces["interior"])),
        len(source.names),
    )
    scale, sizes, figures = metric_scale(source)
    faces, corners, loss = reduce_parts(source, scale, np.random.default_rng(0))

    skin = np.unique(faces["skin"])
    count = len(source.vertices)
    skin_number = np.full(count, -1)
    skin_number[skin] = np.arange(len(skin))
    parts, part_faces, part_label, face_part = [], [], [], []
    offset = 0
    for number, name in enumerate(PARTS):
        index = np.unique(faces[name])
        renumber = np.full(count, -1)
        renumber[index] = offset + np.arange(len(index))
        parts.append(index)
        part_faces.append(renumber[faces[name]])
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
    number = {v: i for i, v in enumerate(skin)}
    twins = np.array([number[v] for v in source.mirror[skin]])
    number = {v: len(skin) + i for i, v in enumerate(parts)}
    twins = np.concatenate([twins, [number[v] for v in source.mirror[parts]]])
    return Cut(
        data, source, scale, sizes, skin, parts, local_faces, part_faces, part_label, face_part, corners, loops, shared,
        Seats(eyes, sockets, sorted(loops[1:], key=len)[:2]), twins, {"metric": figures, "reduction": loss},
    )  # fmt: skip


def draw_statistics(cut: Cut, targets: Targets, people: Gaussian, rng: np.random.Generator) -> Statistics:
    """Put people's faces, the surveys' skulls and MakeHuman's groups together."""
    names = cut.source.names

    def coefficients(age: float) -> np.ndarray:
        chosen = np.array([population.group_weights(names, group, age) for group in population.GROUPS])
        return targets.of_weights(targets.chosen(chosen, names), cut.sizes)

    number_in_body = cut.source.body_vertices[np.concatenate([cut.skin, cut.parts])]
    eyes = [len(cut.skin) + eye for eye in cut.seats.eyes]
    return population_statistics(
        targets,
        linear_measures(targets, number_in_body, eyes),
        slider_prior(targets, names, cut.sizes, rng),
        people,
        coefficients(population.MEAN_AGE),
        (coefficients(1.0) - coefficients(0.0)).mean(0),
    )


def build_head(cut: Cut, people: Gaussian) -> tuple[dict[str, np.ndarray], dict, Atlas]:
    """Everything of the head model but the anchors, which are measured on renders of it.

    Args:
        cut: The reduced head.
        people: People's faces in coefficients of its targets.
    """
    rng, source, targets = np.random.default_rng(0), cut.source, cut.targets
    statistics = draw_statistics(cut, targets, people, rng)
    crowd = draw_crowd(targets, statistics, cut.seats, cut.twins, rng)
    basis = identity_basis(targets, statistics, crowd, cut.twins)
    for part, there in cut.shared.items():  # sewn to the skin, not only nearly
        basis.parts[:, part] = basis.skin[:, there]
    skin, parts, part_label, part_faces, face_part = cut.skin, cut.parts, cut.part_label, cut.part_faces, cut.face_part
    mean_skin, mean_parts = crowd.mean[: len(skin)], crowd.mean[len(skin) :]
    eyes, sockets = cut.seats.eyes, cut.seats.sockets

    names = {n.split("/")[-1]: i for i, n in enumerate(source.names) if n.startswith("faceunits/")}
    other = {n.split("/")[-1]: i for i, n in enumerate(source.names) if n.startswith("expression/")}

    def displacement(chosen: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Displace skin and parts; an eyeball turns as its target turns it, without the target's distortion."""
        which = list(chosen.values())
        moved = source.targets[which][:, np.concatenate([skin, parts])] * cut.scale
        for eye in eyes:
            rest = source.vertices[parts[eye]]
            ball = mean_parts[eye]
            centre = sphere(ball)[0]
            for row, target in enumerate(which):
                rotation = rigid_motion(rest, rest + source.targets[target][parts[eye]])[0]
                moved[row, len(skin) + eye] = (ball - centre) @ rotation.T - (ball - centre)
        for socket, _ in sockets:
            moved[:, len(skin) + socket] = 0
        moved = symmetrise(moved, list(chosen), cut.twins)
        return moved[:, : len(skin)], moved[:, len(skin) :]

    expressions, parts_expressions = displacement({n: names[n] for n in ARKIT_EXPRESSIONS})
    other_expressions, parts_other = displacement(other)

    layout = lay_atlas(source, cut.corners)
    skin_uv = np.unique(cut.corners["skin"])
    uv_number = np.full(len(source.uv), -1)
    uv_number[skin_uv] = np.arange(len(skin_uv))
    parts_uv, parts_uv_faces = parts_texture_coordinates(
        mean_parts, part_faces, face_part, [cut.corners[name] for name in PARTS], layout
    )

    ball_of = {int(p): side for side, (socket, _) in zip(("left_eye", "right_eye"), sockets) for p in socket}
    follow, weights = follow_weights(mean_skin, mean_parts, cut.shared, ball_of, part_label, cut.loops[1:])
    regions = region_masks(cut.data, mean_skin, cut.skin_faces, cut.corners["skin"], source.uv, cut.loops)
    arrays = {
        "mean": mean_skin,
        "faces": cut.skin_faces,
        "uv": layout.uv[skin_uv],
        "uv_faces": uv_number[cut.corners["skin"]],
        "expressions": expressions,
        "other_expressions": other_expressions,
        "identity": basis.skin,
        "identity_deviation": basis.std,
        "group_identity": basis.groups,
        "parts_mean": mean_parts,
        "parts_faces": part_faces,
        "parts_uv": parts_uv,
        "parts_uv_faces": parts_uv_faces,
        "parts_expressions": parts_expressions,
        "parts_other_expressions": parts_other,
        "parts_identity": basis.parts,
        "parts_follow_vertices": follow,
        "parts_follow_weights": weights,
        "parts_face_part": face_part,
        "mirror": cut.twins[: len(skin)],
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
        "figures": {
            **cut.figures,
            "identity_variance_percent": basis.variance_percent,
            "identity_of_age": basis.age.round(3).tolist(),
            "lip_rims": {"upper": targets.lips.upper.tolist(), "lower": targets.lips.lower.tolist()},
        },
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
