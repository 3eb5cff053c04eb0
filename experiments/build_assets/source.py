"""The head cut from MakeHuman's body with every target that may shape it, and its size in millimetres."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.build_assets import makehuman, population

# MakeHuman's dental arch is 67 mm wide, an adult's about 60; as it is, teeth show between closed lips, and the mouth's
# lining comes through thin cheeks.
ARCH_WIDTH, ARCH_DEPTH_DM = 0.9, 0.02

# Adult means, men and women [mm]: ANSUR (Gordon et al. 1989, US Army, public domain), rounded.
ADULT_MEANS = {
    "pupil distance": (64.7, 62.3),
    "head breadth": (152.0, 144.0),
    "head length": (197.0, 187.0),
    "face height": (122.0, 113.0),
}
WIDTHS = ("pupil distance", "head breadth")


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
    body_vertices: np.ndarray  # [n] numbers in MakeHuman's body, which no release has changed


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
        keep,
    )


def sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the least-squares sphere."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], np.sum(points**2, 1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def measure(source: Source, vertices: np.ndarray) -> dict[str, float]:
    """Take the measures of ``ADULT_MEANS`` on one head, in the unit of ``vertices``."""
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


def metric_scale(source: Source) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Millimetres a decimetre along x, y, z: one least-squares scale over the adult means, and a width factor.

    MakeHuman's groups differ in size by more than adults do (its average Asian woman is a tenth smaller than the
    others), so each also gets a factor that brings its own measures to those of its gender.

    Returns:
        Scale [3], factors [6] of the groups, and the figures, with what is left over of each measure.
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
    fitted = np.array([width if name in WIDTHS else other for name in mean])
    sizes = np.exp(np.mean([ratios[name] for name in mean], axis=0) - fitted.mean())
    figures |= {f"size of {group}": round(float(size), 3) for group, size in zip(population.GROUPS, sizes)}
    return np.exp([width, other, other]), sizes, figures
