"""The population that heads are drawn from: people's faces, surveys' skulls, and MakeHuman's groups as far as likely.

Letters: n targets, g groups, m measures.
"""

from dataclasses import dataclass

import numpy as np
from absl import logging

from digitaltwin.head._anthropometry import Measurements, published
from experiments.build_assets import population
from experiments.build_assets.gaussian import (
    Gaussian,
    fit_coefficients,
    limit_shares,
    replace_marginal,
    rescale_functions,
)
from experiments.build_assets.targets import Targets

SAMPLES = 6000
SINGLE_DEVIATION = 0.1  # of each target of the face by itself, besides its slider: less is left of people with it
FACE_FOLDERS = ("forehead", "eyebrows", "eyes", "nose", "mouth", "chin", "cheek", "asym")
FACE_NOISE_MM = 0.5  # of a coordinate; smaller, and the skull is told by what the face cannot tell
ROUNDS = 3

# The nine calipers by vertices of MakeHuman's body; eyeballs' centres and tragions are means of several.
CALIPERS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "head_length": ((234,), (962,)),
    "head_breadth": ((7565,), (860,)),
    "head_height": ((12023, 5424), (881,)),
    "bizygomatic_breadth": ((7037,), (268,)),
    "face_height": ((132,), (747,)),
    "nose_breadth": ((7099,), (337,)),
    "nose_height": ((132,), (317,)),
    "lip_length": ((10404,), (3736,)),
}
SKULL = ("head_length", "head_breadth", "head_height")

OFFSET_NOISE_MM = 30.0  # of a coordinate of MakeHuman's groups: so far only are they believed
SURVEY_NOISE_MM = 0.7
AGE_NOISE_MM = 8.0  # likewise of its old and young
LARGEST_SHARE = 0.7  # of the variance of any feature between groups and ages; 0.54 of the breadth of noses is
AGE_STD = 13.6 / 65  # of the slider, over the subjects' ages


@dataclass(frozen=True)
class Statistics:
    """The population's distribution of target coefficients."""

    everybody: Gaussian  # groups equally weighted
    groups: np.ndarray  # [g n] means less everybody's
    age: np.ndarray  # [n] per unit of the age slider


def slider_prior(targets: Targets, names: list[str], sizes: np.ndarray, rng: np.random.Generator) -> Gaussian:
    """Take mean and covariance of random people over MakeHuman's sliders, groups equally weighted.

    Args:
        targets: The targets.
        names: All names of the source's targets.
        sizes: Each group's factor of size.
        rng: Random numbers.
    """
    controls, groups = population.sliders(names), np.arange(SAMPLES) % len(population.GROUPS)
    weights = np.array([population.sample_weights(rng, names, controls, population.GROUPS[g]) for g in groups])
    size = sizes[groups] * rng.normal(1.0, population.SIZE_DEVIATION, SAMPLES)
    coefficients = targets.of_weights(targets.chosen(weights, names), size)
    alone = [SINGLE_DEVIATION**2 * name.startswith(FACE_FOLDERS) for name in targets.names]
    return Gaussian(coefficients.mean(0), np.cov(coefficients.T, bias=True) + np.diag(alone))


@dataclass(frozen=True)
class Measures:
    """The calipers as linear functions of the coefficients, about the reference."""

    names: tuple[str, ...]
    reference: np.ndarray  # [m] mm
    slopes: np.ndarray  # [n m]


def linear_measures(targets: Targets, number_in_body: np.ndarray, eyes: list[np.ndarray]) -> Measures:
    """Differentiate the calipers' distances by the coefficients.

    Args:
        targets: The targets.
        number_in_body: Number in MakeHuman's body of each vertex of ``targets``, skin first.
        eyes: Vertices of ``targets`` that make each eyeball.
    """
    place = {int(number): k for k, number in enumerate(number_in_body[: targets.skin_count])}
    ends = {name: tuple([place[v] for v in end] for end in pair) for name, pair in CALIPERS.items()}
    ends = {"pupil_distance": tuple(eyes), **ends}
    reference, slopes = [], []
    for name in Measurements._fields:
        first, second = ends[name]
        between = targets.reference[first].mean(0) - targets.reference[second].mean(0)
        length = np.linalg.norm(between)
        moved = targets.displacements[:, first].mean(1) - targets.displacements[:, second].mean(1)
        reference.append(length)
        slopes.append(moved @ between / length)
    return Measures(Measurements._fields, np.array(reference), np.array(slopes).T)


def population_statistics(
    targets: Targets, measures: Measures, prior: Gaussian, people: Gaussian, groups: np.ndarray, age: np.ndarray
) -> Statistics:
    """Put people's faces and surveys' skulls into the sliders' population, and groups into it.

    The two are put in by turns: skulls, then faces, which stay as they are measured. Then a group's mean is the most
    probable head that differs from everybody's as the surveys say, and a little as MakeHuman's group does; those are
    caricatures, which in directions in which people vary little would need ten times people's variance. Groups and age
    take no more than :data:`LARGEST_SHARE` of the variance of any direction.

    Args:
        targets: The targets.
        measures: The calipers.
        prior: The sliders' population.
        people: People's faces, see :mod:`experiments.build_assets.people`.
        groups: Coefficients [g n] of MakeHuman's average people of each group.
        age: Coefficients [n] a unit of its age slider.
    """
    figures = [[published(name, group) for name in measures.names] for group in population.GROUPS]
    means, stds = (np.array([[getattr(f, part) for f in row] for row in figures]) for part in ("mean_mm", "std_mm"))
    skull = [measures.names.index(name) for name in SKULL]
    slopes, wanted = measures.slopes[:, skull], means.mean(0)[skull] - measures.reference[skull]
    spread = np.sqrt((stds**2).mean(0) + means.var(0))[skull]
    face, everybody = targets.of_face, prior
    for _ in range(ROUNDS):
        everybody = rescale_functions(everybody, slopes, wanted, spread)
        everybody = replace_marginal(everybody, face, FACE_NOISE_MM, people)

    covariance = everybody.covariance
    groups, differ = groups - groups.mean(0), means - means.mean(0)
    # Both are observed at once: the surveys' rows are scaled so that their noise is that of the others.
    scale = OFFSET_NOISE_MM / SURVEY_NOISE_MM
    between = fit_coefficients(
        np.concatenate([face, scale * measures.slopes], axis=1),
        covariance,
        np.concatenate([groups @ face, scale * differ], axis=1),
        OFFSET_NOISE_MM,
    )
    older = fit_coefficients(face, covariance, (age @ face)[None], AGE_NOISE_MM)
    weights = np.r_[np.full(len(groups), len(groups) ** -0.5), AGE_STD][:, None]
    limited = limit_shares(weights * np.concatenate([between, older]), covariance, LARGEST_SHARE) / weights
    per_vertex = np.sqrt(((limited @ face) ** 2).sum(1) / targets.face.sum())
    logging.info(
        "groups differ from everybody by %s mm of the face, a year by %.3f",
        per_vertex[:-1].round(2),
        per_vertex[-1] / 65,
    )
    return Statistics(everybody, limited[:-1], limited[-1])
