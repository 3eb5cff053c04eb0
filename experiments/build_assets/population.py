"""Random adults over MakeHuman's sliders: which targets a person is made of, and how strongly.

A person is a sum of macro targets (gender x ethnicity x age, and build), of local sliders (each a pair of opposite
targets, left and right tied) and of small asymmetries. Slider deviations of about 0.21 reproduce the spread of
published adult measurements; 0.3 is 1.4 times too wide.
"""

import re
from dataclasses import dataclass

import numpy as np

GENDERS = ("female", "male")
ETHNICITIES = ("african", "asian", "caucasian")
GROUPS = tuple(f"{gender}-{ethnicity}" for gender in GENDERS for ethnicity in ETHNICITIES)

LOCAL_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "chin", "cheek", "asym")
# Not identity: the neck (cut off), whole-head poses, age and weight that the macro targets carry already.
EXCLUDED = re.compile(r"asymm-|head-trans|head-angle|mouth-dimples|head-age|head-fat|neck|laugh-lines|jaw-drop")
OPPOSITES = (
    ("incr", "decr"),
    ("up", "down"),
    ("in", "out"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("compress", "uncompress"),
)
SLIDER_DEVIATION = 0.21
ASYMMETRY_DEVIATION = 0.10
SIZE_DEVIATION = 0.022
MEAN_AGE = 0.3  # 0 = 25 years, 1 = 90 years
# MakeHuman's noses are broader than measured ones; every person's slider is shifted by this much.
NOSE_WIDTH_SHIFT = -0.25


@dataclass(frozen=True)
class Slider:
    """One control: target names of its positive and of its negative side."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    asymmetric: bool


def sliders(names: list[str]) -> list[Slider]:
    """Pairs local target names (``folder/name``) into sliders; left and right twins are tied."""
    available = {n for n in names if n.split("/")[0] in LOCAL_FOLDERS and not EXCLUDED.search(n)}
    used: set[str] = set()
    result = []
    for name in sorted(available):
        if name in used:
            continue
        if name.startswith("asym/"):
            twin = name[:-1] + ("r" if name[-1] == "l" else "l")
            result.append(Slider((name,), (twin,) if twin in available else (), True))
            used |= {name, twin}
            continue
        positive, negative = name, ""
        for pair in OPPOSITES:
            for side, opposite in (pair, pair[::-1]):
                if name.endswith("-" + side) and name[: -len(side)] + opposite in available:
                    positive, negative = name[: -len(side)] + pair[0], name[: -len(side)] + pair[1]
        sides = []
        for target in (positive, negative):
            both = [target]
            if "/l-" in target or "/r-" in target:
                twin = target.replace("/l-", "/r-") if "/l-" in target else target.replace("/r-", "/l-")
                both.append(twin)
            sides.append(tuple(t for t in both if t in available))
        result.append(Slider(sides[0], sides[1], False))
        used |= {*sides[0], *sides[1]}
    return result


def macro_weights(male: float, ethnicity: np.ndarray, age: float, muscle: float, weight: float) -> dict[str, float]:
    """Multilinear weights of the macro targets; ``male`` and ``age`` in [0, 1], build in [-1, 1], 0 average."""
    muscles = {("max" if muscle > 0 else "min") + "muscle": abs(muscle), "averagemuscle": 1 - abs(muscle)}
    weights = {("max" if weight > 0 else "min") + "weight": abs(weight), "averageweight": 1 - abs(weight)}
    result = {}
    for gender, g in (("male", male), ("female", 1 - male)):
        for years, a in (("young", 1 - age), ("old", age)):
            for name, e in zip(ETHNICITIES, ethnicity):
                result[f"macrodetails/{name}-{gender}-{years}"] = g * a * e
            for m_name, m in muscles.items():
                for w_name, w in weights.items():
                    result[f"macrodetails/universal-{gender}-{years}-{m_name}-{w_name}"] = g * a * m * w
    return result


def group_weights(names: list[str], group: str, age: float = MEAN_AGE) -> np.ndarray:
    """Target weights [targets] of the average person of a group, e.g. "female-asian"."""
    gender, ethnicity = group.split("-")
    weights = macro_weights(float(gender == "male"), np.array([e == ethnicity for e in ETHNICITIES], float), age, 0, 0)
    weights["nose/nose-scale-horiz-decr"] = -NOSE_WIDTH_SHIFT
    return np.array([weights.get(name, 0.0) for name in names])


def slider_of_age(years: float) -> float:
    """Age slider of a number of years; whoever is younger than 25 has the shape of 25."""
    return float(np.clip((years - 25) / 65, 0, 1))


def sample_weights(
    rng: np.random.Generator, names: list[str], controls: list[Slider], group: str, *, age: float | None = None
) -> np.ndarray:
    """Target weights [targets] of a random adult of a group; of random age, or of the given age slider."""
    gender, ethnicity = group.split("-")
    centre = float(gender == "male")
    male = np.clip(centre + (1 - 2 * centre) * abs(rng.normal(0, 0.1)), 0, 1)
    admixture = 0.8 * rng.beta(1, 4)
    mix = (1 - admixture) * np.array([e == ethnicity for e in ETHNICITIES]) + admixture * rng.dirichlet([1, 1, 1])
    age = 0.85 * rng.beta(1.1, 2.0) if age is None else age
    build = np.clip(rng.normal(0, [0.35, 0.40]), -1, 1)
    weights = macro_weights(male, mix, age, build[0], build[1])
    for control in controls:
        deviation = ASYMMETRY_DEVIATION if control.asymmetric else SLIDER_DEVIATION * (1 if control.negative else 0.6)
        value = np.clip(rng.normal(0, deviation), -1, 1)
        if any("nose-scale-horiz" in t for t in control.positive):
            value += NOSE_WIDTH_SHIFT
        if not control.negative:
            value = abs(value)
        for target in control.positive if value > 0 else control.negative:
            weights[target] = weights.get(target, 0.0) + abs(value)
    return np.array([weights.get(name, 0.0) for name in names])
