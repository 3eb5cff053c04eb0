"""The subjects of the paper's Table 1: synthetic subjects of the head's population, matched to surveys of adults.

Letters: n people, i identity components, m measures.
"""

import jax.numpy as jnp
import numpy as np
from absl import logging

from digitaltwin.head import HeadModel
from digitaltwin.head._calibration import calibrate, credible
from digitaltwin.head._population import TABLE_1, Subjects, within_groups
from experiments.build_assets import population, statistics

SEED = 1
CANDIDATES_LEAST, CANDIDATES_FACTOR = 400, 2  # per group: enough for a covariance, and to refuse some
CANDIDATES_TEST = 40

YOUNGEST, OLDEST = 18, 80
AGE_SHAPE = (1.3, 2.6)  # of the beta distribution between them
MEAN_YEARS = 39.0
OLD_SKIN_YEARS = 52  # from here on training subjects have the old skin, before it a young one
HELD_OUT_SKIN, HELD_OUT_YEARS = "middleage", (35, 59)  # the test subjects' skins, and the ages these suit

TONE_STD, TONE_LIMIT = (0.10, 0.06), 2.0  # lightness and redness; limit in standard deviations
IRISES = {  # sRGB, and how often
    "african": (((0.20, 0.12, 0.08), 0.8), ((0.28, 0.17, 0.10), 0.2)),
    "asian": (((0.22, 0.13, 0.08), 0.7), ((0.30, 0.19, 0.11), 0.3)),
    "caucasian": (
        ((0.30, 0.19, 0.11), 0.35),
        ((0.36, 0.25, 0.16), 0.20),
        ((0.33, 0.36, 0.24), 0.15),
        ((0.36, 0.44, 0.52), 0.30),
    ),
}
IRIS_STD = 0.02


def draw_people(
    rng: np.random.Generator, head: HeadModel, age_identity: np.ndarray, ages: np.ndarray, group: str
) -> np.ndarray:
    """Identity coefficients [n i] of random people of a group, with given ages and before calibration.

    Age is one of the things in which people of a group differ: with it known, that much less is left to chance.
    """
    within = within_groups(head) - statistics.AGE_STD**2 * np.outer(age_identity, age_identity)
    older = np.array([population.slider_of_age(years) for years in ages]) - population.slider_of_age(MEAN_YEARS)
    chance = rng.normal(size=(len(ages), len(within))) @ np.linalg.cholesky(within).T
    mean = np.asarray(head.group_identity, np.float64)[head.group_names.index(group)]
    return mean + older[:, None] * age_identity + chance


def draw_appearance(
    rng: np.random.Generator, group: str, ages: np.ndarray, test: bool, skins: list[str]
) -> tuple[np.ndarray, ...]:
    """Draw skin [n], tone [n 2] and iris [n 3] of subjects of a group; a held-out skin for tests, else one of the age.

    MakeHuman's second picture of young Caucasian skin is its Asian one, redrawn little or not at all: a young picture
    held out of one group would leave its twin in another's training.
    """
    mine = [name for name in skins if name.startswith(group)]
    choices = []
    for years in ages:
        word = HELD_OUT_SKIN if test else "old" if years >= OLD_SKIN_YEARS else "young"
        choices.append(skins.index(rng.choice([name for name in mine if word in name])))
    tone = np.clip(rng.normal(size=(len(ages), 2)), -TONE_LIMIT, TONE_LIMIT) * TONE_STD
    colours, shares = zip(*IRISES[group.split("-")[1]])
    iris = np.array(colours)[rng.choice(len(colours), len(ages), p=shares)]
    return np.array(choices), tone, np.clip(iris + rng.normal(0, IRIS_STD, iris.shape), 0.04, 1)


def build_subjects(head: HeadModel, age_identity: np.ndarray, skins: list[str]) -> tuple[Subjects, dict]:
    """Draw everybody of Table 1: those to train on, then those to test on, by group in the head's order.

    Args:
        head: The shipped head.
        age_identity: What a unit of the age slider adds to the identity coefficients [i].
        skins: Names of the shipped skins.

    Returns:
        The subjects, and figures of how they came about.
    """
    rng = np.random.default_rng(SEED)
    people, figures = [], {}
    for number, group in enumerate(head.group_names):
        counts = TABLE_1[group]
        drawn = max(CANDIDATES_LEAST, CANDIDATES_FACTOR * counts[0])
        ages = np.concatenate(
            [
                YOUNGEST + (OLDEST - YOUNGEST) * rng.beta(*AGE_SHAPE, drawn),
                rng.uniform(*HELD_OUT_YEARS, CANDIDATES_TEST),
            ]
        ).round()
        raw = draw_people(rng, head, age_identity, ages, group)
        identity = calibrate(head, raw, group)
        taken = credible(head, identity)
        figures[group] = {
            "refused_percent": round(100 * float(1 - taken.mean()), 1),
            "moved_mm_rms": round(float(np.sqrt(np.mean(np.sum((identity - raw) ** 2, axis=1)) / len(head.mean))), 2),
        }
        logging.info("%s: %s", group, figures[group])
        for test, count in enumerate(counts):
            chosen = np.flatnonzero(taken & ((np.arange(len(ages)) >= drawn) == bool(test)))[:count]
            if len(chosen) < count:
                raise ValueError(f"{group}: only {len(chosen)} of {count} people are credible")
            look = draw_appearance(rng, group, ages[chosen], bool(test), skins)
            people.append((test, identity[chosen], ages[chosen], np.full(count, number), *look, np.full(count, test)))
    people.sort(key=lambda rows: rows[0])  # stable: within each half the groups stay in order
    columns = [np.concatenate(rows) for rows in list(zip(*people))[1:]]
    kinds = (np.float32, np.float32, np.int32, np.int32, np.float32, np.float32, np.bool_)
    arrays = [jnp.asarray(column.astype(kind)) for column, kind in zip(columns, kinds)]
    return Subjects(*arrays, group_names=head.group_names, skin_names=tuple(skins)), figures
