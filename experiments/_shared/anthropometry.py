"""Heads beside published measurements of adults, and their portraits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from digitaltwin.head import HeadModel
from digitaltwin.head._anthropometry import Measurements, measure, published, published_mixture
from digitaltwin.head._population import GENDERS, Subjects
from digitaltwin.io.assets import asset_path
from digitaltwin.render import portrait_camera, render_head
from digitaltwin.texture import apply_tone, eye_texture
from digitaltwin.texture._pyramid import halve
from digitaltwin.texture._skins import load_skin

LARGEST_DEVIATION_PERCENT = 5.0
LARGEST_RATIO = 1.5


class Comparison(NamedTuple):
    """One measure of one gender."""

    measure: str
    """Name of the measure."""
    gender: str
    """Either "female" or "male"."""
    published_mean_mm: float
    """Mean that the survey predicts for this mixture of groups [mm]."""
    published_std_mm: float
    """Standard deviation that the survey predicts for it [mm]."""
    survey_mean_mm: float
    """Mean of the survey's whole sample of that gender [mm]."""
    source: str
    """The survey."""
    mean_mm: float
    """Mean of the heads compared [mm]."""
    std_mm: float
    """Their standard deviation [mm]."""

    @property
    def off_percent(self) -> float:
        """The mean's distance from the survey's mixture, in per cent of that."""
        return 100 * (self.mean_mm / self.published_mean_mm - 1)

    @property
    def off_survey_percent(self) -> float:
        """The mean's distance from the whole survey's, in per cent of that."""
        return 100 * (self.mean_mm / self.survey_mean_mm - 1)

    @property
    def ratio(self) -> float:
        """The ratio of the standard deviation to the survey's."""
        return self.std_mm / self.published_std_mm

    @property
    def passes(self) -> bool:
        """Whether mean and standard deviation are near enough."""
        near = abs(self.off_percent) < LARGEST_DEVIATION_PERCENT
        return near and 1 / LARGEST_RATIO < self.ratio < LARGEST_RATIO


def compare(head: HeadModel, neutral: Float[Array, "n v 3"], group: Int[Array, " n"]) -> list[Comparison]:
    """Compare every measure of the women and of the men with the surveys.

    Args:
        head: The model whose topology the heads have.
        neutral: Heads in the head frame [mm].
        group: Group of each head, an index into ``head.group_names``.

    Returns:
        Nine measures of each gender.
    """
    measured = {name: np.asarray(values, np.float64) for name, values in _measure_many(head, neutral)._asdict().items()}
    gender_of = np.array([GENDERS.index(name.split("-")[0]) for name in head.group_names])[np.asarray(group)]
    counts = np.bincount(np.asarray(group), minlength=len(head.group_names))
    rows = []
    for number, gender in enumerate(GENDERS):
        mine = gender_of == number
        mixture = {name: int(n) for name, n in zip(head.group_names, counts) if name.startswith(f"{gender}-") and n}
        for name, values in measured.items():
            survey = published(name, gender)
            values = values[mine]
            rows.append(
                Comparison(
                    name,
                    gender,
                    *published_mixture(name, mixture),
                    survey.mean_mm,
                    survey.source,
                    float(values.mean()),
                    float(values.std(ddof=1)),
                )
            )
    return rows


def table(rows: list[Comparison]) -> str:
    """Format the comparison as a Markdown table, its sources below."""
    sources = list(dict.fromkeys(row.source for row in rows))
    lines = [
        "| measure [mm] | gender | published | source | subjects | mean off | off whole survey | std | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.measure.replace('_', ' ')} | {row.gender} "
            f"| {row.published_mean_mm:.1f} ± {row.published_std_mm:.1f} | {sources.index(row.source) + 1} "
            f"| {row.mean_mm:.1f} ± {row.std_mm:.1f} | {row.off_percent:+.1f} % "
            f"| {row.off_survey_percent:+.1f} % | x {row.ratio:.2f} | {'pass' if row.passes else 'FAIL'} |"
        )
    return "\n".join(lines + [""] + [f"{number}. {source}" for number, source in enumerate(sources, 1)])


@jax.jit
def _measure_many(head: HeadModel, neutral: Float[Array, "n v 3"]) -> Measurements:
    # One head after another: all at once, thousands would take gigabytes.
    return jax.lax.map(lambda vertices: measure(head, vertices), neutral, batch_size=64)


def draw_portrait(
    head: HeadModel,
    subjects: Subjects,
    number: int,
    neutral: Float[Array, "v 3"],
    *,
    yaws: tuple[float, ...],
    size: int,
) -> Float[np.ndarray, "h w 3"]:
    """Draw a head in skin, tone and irises of one of the subjects, seen from several sides [rad].

    It is rendered twice as large, for smooth edges.
    """
    skin = load_skin(asset_path(f"skins/{subjects.skin_names[int(subjects.skin[number])]}.jpg"), size=1024)
    texture = np.asarray(apply_tone(jnp.asarray(skin.pixels), subjects.tone[number]))
    eyes = eye_texture(jax.random.key(number), iris=subjects.iris[number])
    shots, crop, rest = [], 2 * (size // 8), np.zeros(len(head.expressions), np.float32)
    for yaw in yaws:
        camera = portrait_camera(yaw=yaw, width_mm=315.0, size_px=2 * size)
        shot = render_head(head, camera, neutral, rest, texture=texture, eye_texture=eyes, size_px=2 * size)
        shots.append(shot[:, crop : 2 * size - crop])
    return np.asarray(halve(jnp.asarray(np.concatenate(shots, axis=1))))
