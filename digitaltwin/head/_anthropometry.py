"""Adult head measurements: nine calipers on a head of the model's topology, and what surveys of adults found.

A caliper sits where the survey's landmark is: at a landmark of :mod:`digitaltwin.head.markup`, at a vertex, or at
whichever vertex of a region is farthest out, as a caliper is slid until it is widest. Vertices and regions are chosen
on the *mean* head, so that they are the same for everybody, and every measure is differentiable. A breadth is taken
between a vertex and its mirror image.

===================== ==================================================================================================
measure               between
===================== ==================================================================================================
pupil distance        centres of the eyeballs (eyes that look straight ahead have their pupils there)
head length           glabella, the foremost point between the brows, and the farthest point of the back of the head
head breadth          the widest two points of the scalp above the ears
head height           tragion, at the upper edge of the tragus, midway between both ears, and the crown above it
bizygomatic breadth   the widest two points over the cheekbones' arches, at least 20 mm ahead of the tragus
face height           sellion, the deepest point of the nose's root, and menton, under the chin
nose breadth          the widest two points of the wings, without the crease behind them
nose height           sellion and subnasale, where septum and upper lip meet
lip length            the corners of the closed mouth
===================== ==================================================================================================

Surveys press soft tissue a little and feel for bone (zygion, menton) where a surface only shows skin; bigonial
breadth is left out because its landmark, the angle of the jaw, cannot be seen on skin at all.

Letters: v skin vertices, i identity components, g groups.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.head._model import HeadModel, landmark_points, parts_vertices
from digitaltwin.head.markup import CONTOUR, MOUTH_LEFT, MOUTH_RIGHT, NOSE

_SELLION, _MENTON = int(NOSE[0]), int(CONTOUR[8])


class Measurements(NamedTuple):
    """One head's nine caliper measurements [mm]."""

    pupil_distance: Float[Array, ""]
    """Distance of the eyeballs' centres."""
    head_length: Float[Array, ""]
    """Distance of the glabella and the farthest point of the back of the head."""
    head_breadth: Float[Array, ""]
    """Breadth of the scalp above the ears, where it is widest."""
    head_height: Float[Array, ""]
    """Distance of the crown and the middle of both tragions."""
    bizygomatic_breadth: Float[Array, ""]
    """Breadth over the cheekbones' arches, where it is widest."""
    face_height: Float[Array, ""]
    """Distance of sellion and menton."""
    nose_breadth: Float[Array, ""]
    """Breadth of the nose's wings, where it is widest."""
    nose_height: Float[Array, ""]
    """Distance of sellion and subnasale."""
    lip_length: Float[Array, ""]
    """Distance of the corners of the closed mouth."""


class Calipers(NamedTuple):
    """The two points of every measure, in the order of ``Measurements``."""

    first: Float[Array, "measures 3"]
    """One end of each [mm]; the subject's left one of a breadth."""
    second: Float[Array, "measures 3"]
    """The other end [mm]."""


class _Box(NamedTuple):
    """A part of the head frame, on the mean head: lowest and highest x, y, z [mm]."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


# Of the subject's left half, where the region lies on both sides: its mirror image is the other end of the caliper.
_FOREHEAD = _Box((-0.5, 14.0, 0.0), (0.5, 30.0, 60.0))
_OCCIPUT = _Box((-0.5, -39.0, -200.0), (0.5, 60.0, -150.0))
_ABOVE_EARS = _Box((42.0, 12.2, -145.0), (100.0, 97.0, 0.0))
_ARCHES = _Box((58.0, -39.0, -41.5), (100.0, -7.0, 0.0))  # from 20 mm ahead of the tragus, below the eyes
# Single vertices are those nearest to a place on the mean head.
_SUBNASALE, _TRAGION, _CROWN = (0.0, -47.7, 32.9), (75.9, -11.5, -62.9), (0.0, 119.9, -65.4)
_WINGS = _Box((14.5, -49.0, 21.4), (19.5, -33.0, 34.5))  # behind them lies the crease towards the cheek


@jax.jit
def place_calipers(
    head: HeadModel, neutral: Float[Array, "v 3"], *, parts: Float[Array, "p 3"] | None = None
) -> Calipers:
    """Place each caliper on a head.

    Args:
        head: The model whose topology ``neutral`` has.
        neutral: Skin without expression [mm], in the head frame unless ``parts`` are given.
        parts: The parts that belong to it, in the same frame; by default the model's (:func:`parts_vertices`).

    Returns:
        Both ends of the nine measures, in the frame of ``neutral``.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> place_calipers(head, head.mean).first.shape
        (9, 3)
    """
    points = landmark_points(head, neutral)
    inner = parts_vertices(head, neutral, jnp.zeros(len(head.expression_names))) if parts is None else parts
    left, right = (_middle_of_part(head, inner, name) for name in ("left_eye", "right_eye"))
    glabella = neutral[jnp.argmax(jnp.where(_inside(head, _FOREHEAD), head.mean[:, 2], -jnp.inf))]
    subnasale, tragion, crown = (_nearest(head, place) for place in (_SUBNASALE, _TRAGION, _CROWN))
    from_glabella = jnp.sum((neutral - glabella[None]) ** 2, axis=1)
    back = neutral[jnp.argmax(jnp.where(_inside(head, _OCCIPUT), from_glabella, -jnp.inf))]
    breadth = jnp.sum((neutral - neutral[head.mirror]) ** 2, axis=1)

    def widest(region: Bool[Array, " v"]) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
        vertex = jnp.argmax(jnp.where(region, breadth, -jnp.inf))
        return neutral[vertex], neutral[head.mirror[vertex]]

    ends = {
        "pupil_distance": (left, right),
        "head_length": (glabella, back),
        "head_breadth": widest(_inside(head, _ABOVE_EARS) & head.regions.scalp),
        "head_height": ((neutral[tragion] + neutral[head.mirror[tragion]]) / 2, neutral[crown]),
        "bizygomatic_breadth": widest(_inside(head, _ARCHES)),
        "face_height": (points[_SELLION], points[_MENTON]),
        "nose_breadth": widest(_inside(head, _WINGS)),
        "nose_height": (points[_SELLION], neutral[subnasale]),
        "lip_length": (points[MOUTH_LEFT], points[MOUTH_RIGHT]),
    }
    first, second = zip(*(ends[name] for name in Measurements._fields))
    return Calipers(jnp.stack(first), jnp.stack(second))


@jax.jit
def measure(head: HeadModel, neutral: Float[Array, "v 3"], *, parts: Float[Array, "p 3"] | None = None) -> Measurements:
    """Measure a head with nine calipers, as surveys of adults do.

    The measures move with skin and parts: turning both changes nothing, scaling both scales all. Where the widest
    place is not unique the gradient is that of one of them.

    Args:
        head: The model whose topology ``neutral`` has.
        neutral: Skin without expression [mm], in the head frame unless ``parts`` are given.
        parts: The parts that belong to it, in the same frame; by default the model's (:func:`parts_vertices`).

    Returns:
        The nine measures [mm]; ``vmap`` for many heads.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> round(float(measure(head, head.mean).pupil_distance), 1)
        61.8
    """
    calipers = place_calipers(head, neutral, parts=parts)
    return Measurements(*jnp.sqrt(jnp.sum((calipers.first - calipers.second) ** 2, axis=1)))


def _inside(head: HeadModel, box: _Box) -> Bool[Array, " v"]:
    low, high = jnp.array(box.low)[None], jnp.array(box.high)[None]
    return jnp.all((head.mean > low) & (head.mean < high), axis=1)


def _nearest(head: HeadModel, place: tuple[float, float, float]) -> Int[Array, ""]:
    """The vertex nearest to a place on the mean head."""
    return jnp.argmin(jnp.sum((head.mean - jnp.array(place)[None]) ** 2, axis=1))


def _middle_of_part(head: HeadModel, vertices: Float[Array, "p 3"], name: str) -> Float[Array, " 3"]:
    """Mean vertex of a part; an eyeball's is its centre to 0.02 mm."""
    belongs = (head.parts_face_part == head.part_names.index(name)).astype(jnp.float32)
    weight = jnp.zeros(len(vertices)).at[head.parts_faces].max(belongs[:, None])
    return jnp.sum(weight[:, None] * vertices, axis=0) / jnp.sum(weight)


class PublishedMeasurement(NamedTuple):
    """Published mean and standard deviation of one measure in one group of adults."""

    measure: str
    """Field of ``Measurements``."""
    group: str
    """A gender ("female") for a whole survey, or one of ``HeadModel.group_names`` ("female-asian")."""
    count: int
    """People measured."""
    mean_mm: float
    """Mean [mm]."""
    std_mm: float
    """Standard deviation [mm]."""
    source: str
    """The survey and its publication."""


NIOSH = (
    "NIOSH head-and-face survey of US respirator users, 2003 (Zhuang and Bradtmiller 2005, J. Occup. Environ. Hyg. "
    "2:567; per-subject data RD-10130-2020-0)"
)
ANSUR = (
    "ANSUR II, US Army personnel, 2012 (Gordon et al. 2014, NATICK/TR-15/007; per-subject public data of 4,082 men and "
    "1,986 women)"
)

_NIOSH_COUNTS = {
    "female": 1454,
    "male": 2543,
    "female-african": 589,
    "female-asian": 220,
    "female-caucasian": 519,
    "male-african": 634,
    "male-asian": 130,
    "male-caucasian": 1367,
}
# Mean and standard deviation [mm] in the order of _NIOSH_COUNTS. The survey's "Black" and "White" are african and
# caucasian here; its "Other", mainly Asian Americans (Zhuang et al. 2005, AIHCE), stands for asian. "female" and "male"
# are the unweighted whole survey, Hispanic people included, and hold more Black people than Table 1 does. From the
# per-subject data as the package faciometry summarises them (niosh2003.json, public domain as the data themselves); the
# paper's own tables weight people to the US workforce and differ a little.
_NIOSH_FIGURES: dict[str, tuple[tuple[float, float], ...]] = {
    "pupil_distance": (
        (63.14, 3.98), (65.07, 3.80), (65.51, 3.77), (61.99, 3.40), (61.17, 3.14), (67.70, 3.64), (64.89, 3.85),
        (64.00, 3.40)),
    "bizygomatic_breadth": (
        (136.24, 6.53), (143.90, 6.86), (137.54, 6.24), (137.83, 6.43), (133.75, 6.17), (144.63, 6.77), (144.69, 7.14),
        (142.92, 6.70)),
    "face_height": (
        (114.23, 6.47), (123.19, 7.16), (116.54, 6.37), (110.82, 6.12), (112.98, 5.78), (125.40, 7.34), (120.76, 7.30),
        (122.57, 6.92)),
    "nose_breadth": (
        (35.82, 4.92), (37.81, 4.80), (40.10, 3.48), (34.99, 3.53), (31.56, 2.60), (43.41, 3.87), (38.28, 4.14),
        (35.31, 3.18)),
    "nose_height": (
        (47.68, 3.81), (51.88, 4.12), (47.37, 3.69), (46.18, 3.69), (48.56, 3.68), (50.78, 4.13), (51.28, 4.36),
        (52.31, 4.05)),
    "lip_length": (
        (49.15, 4.47), (51.65, 4.27), (51.90, 3.88), (46.79, 4.20), (47.06, 3.53), (54.35, 3.91), (50.56, 4.48),
        (50.66, 3.99)),
}  # fmt: skip

PUBLISHED: tuple[PublishedMeasurement, ...] = (
    PublishedMeasurement("head_length", "female", 1986, 189.8, 7.4, ANSUR),
    PublishedMeasurement("head_length", "male", 4082, 199.5, 7.0, ANSUR),
    PublishedMeasurement("head_breadth", "female", 1986, 147.8, 5.2, ANSUR),
    PublishedMeasurement("head_breadth", "male", 4082, 154.3, 5.5, ANSUR),
    PublishedMeasurement("head_height", "female", 1986, 126.5, 6.5, ANSUR),
    PublishedMeasurement("head_height", "male", 4082, 131.1, 6.2, ANSUR),
    *(
        PublishedMeasurement(name, group, count, mean, std, NIOSH)
        for name, figures in _NIOSH_FIGURES.items()
        for (group, count), (mean, std) in zip(_NIOSH_COUNTS.items(), figures)
    ),
)
"""Published means and standard deviations of adults; both surveys are works of the US government."""


def published(measure: str, group: str) -> PublishedMeasurement:
    """Look up the published figures of a measure for a group, or for its gender where a survey has no groups.

    Args:
        measure: Name of the measure, a field of ``Measurements``.
        group: Name of the group, "female-asian", or "female" for all women.

    Returns:
        Mean, standard deviation, count and source.

    Raises:
        KeyError: No survey has such a figure.

    Example:
        >>> published("nose_breadth", "female-asian").mean_mm, published("head_breadth", "female-asian").mean_mm
        (34.99, 147.8)
    """
    for name in (group, group.split("-")[0]):
        for row in PUBLISHED:
            if (row.measure, row.group) == (measure, name):
                return row
    raise KeyError(f"no published {measure} of {group}")


def published_mixture(measure: str, counts: Mapping[str, int]) -> tuple[float, float]:
    """Predict the mean and standard deviation of a mixture of groups from the published figures.

    With shares w: ``mean = sum_g w_g m_g`` and ``variance = sum_g w_g (s_g^2 + (m_g - mean)^2)``.

    Args:
        measure: Name of the measure, a field of ``Measurements``.
        counts: Number of people in each group.

    Returns:
        Mean and standard deviation [mm].

    Example:
        >>> mean, std = published_mixture("nose_breadth", {"male-asian": 178, "male-caucasian": 82})
        >>> round(mean, 1), round(std, 1)
        (37.3, 4.1)
    """
    rows = [published(measure, group) for group in counts]
    share = np.array(list(counts.values())) / sum(counts.values())
    means, stds = np.array([row.mean_mm for row in rows]), np.array([row.std_mm for row in rows])
    mean = share @ means
    return float(mean), float(np.sqrt(share @ (stds**2 + (means - mean) ** 2)))
