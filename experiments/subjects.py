"""Compare the shipped subjects with published measurements of adults, and draw some of them.

    python -m experiments.subjects --out=out/subjects

Prints Table 1's counts and, for women and men, each measure's published and own mean and standard deviation; writes
subjects.json with the same numbers, subjects.png, 48 of the training people, and calipers.png, where each measure is
taken on the mean head. Ends with 1 when a mean is more
than 5 % off or a standard deviation more than a factor of 1.5.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from PIL import Image, ImageDraw

from digitaltwin.head import (
    HeadModel,
    Measurements,
    Subjects,
    load_head,
    load_subjects,
    measure,
    neutral_shape,
    place_calipers,
    published,
    published_mixture,
    select,
)
from digitaltwin.head.database import GENDERS
from digitaltwin.io.assets import asset_path
from digitaltwin.io.files import make_folder, write_json
from digitaltwin.io.images import write_image
from digitaltwin.texture import apply_tone, eye_texture, load_skin
from digitaltwin.texture.pyramid import halve
from experiments import command
from experiments.studio import Studio, grid

_OUT = flags.DEFINE_string("out", "out/subjects", "Folder for the results; made if it is missing.")
_SIZE = flags.DEFINE_integer("size", 128, "Height of a person in the picture, in pixels.", lower_bound=32)
_QUICK = flags.DEFINE_bool("quick", False, "Six people in the picture instead of 48.")

LARGEST_DEVIATION_PERCENT = 5.0
LARGEST_RATIO = 1.5
PEOPLE_A_GROUP = {"african": 5, "asian": 9, "caucasian": 10}  # of each gender; no more are there of the first
COLUMNS = 8
CALIPER_COLOURS = ("red", "blue", "green", "purple", "brown", "black", "darkorange", "teal", "magenta")


class Comparison(NamedTuple):
    """One measure of one gender."""

    measure: str
    gender: str
    published_mean_mm: float
    """What the survey predicts for these people's mixture of groups."""
    published_deviation_mm: float
    survey_mean_mm: float
    """Of the survey's whole sample of that gender."""
    source: str
    mean_mm: float
    deviation_mm: float

    @property
    def off_percent(self) -> float:
        """How far the mean is off."""
        return 100 * (self.mean_mm / self.published_mean_mm - 1)

    @property
    def off_survey_percent(self) -> float:
        """How far it is off the whole survey's."""
        return 100 * (self.mean_mm / self.survey_mean_mm - 1)

    @property
    def ratio(self) -> float:
        """Of the standard deviations."""
        return self.deviation_mm / self.published_deviation_mm

    @property
    def passes(self) -> bool:
        """Whether mean and standard deviation are near enough."""
        near = abs(self.off_percent) < LARGEST_DEVIATION_PERCENT
        return near and 1 / LARGEST_RATIO < self.ratio < LARGEST_RATIO


def count_people(subjects: Subjects) -> dict[str, tuple[int, int]]:
    """Training and test people of each group."""
    group, test = np.asarray(subjects.group), np.asarray(subjects.test)
    return {
        name: (int(((group == number) & ~test).sum()), int(((group == number) & test).sum()))
        for number, name in enumerate(subjects.group_names)
    }


def compare(head: HeadModel, subjects: Subjects) -> list[Comparison]:
    """Every measure of the women and of the men."""
    many = jax.jit(jax.vmap(lambda identity: measure(head, neutral_shape(head, identity))))
    measured = {name: np.asarray(values, np.float64) for name, values in many(subjects.identity)._asdict().items()}
    counts = np.bincount(np.asarray(subjects.group), minlength=len(subjects.group_names))
    rows = []
    for number, gender in enumerate(GENDERS):
        mine = np.asarray(subjects.gender) == number
        mixture = {name: int(n) for name, n in zip(subjects.group_names, counts) if name.startswith(f"{gender}-") and n}
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
    """The comparison as a Markdown table, its sources below."""
    sources = list(dict.fromkeys(row.source for row in rows))
    lines = [
        "| measure [mm] | gender | published | source | ours | mean off | off whole survey | deviation | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.measure.replace('_', ' ')} | {row.gender} "
            f"| {row.published_mean_mm:.1f} ± {row.published_deviation_mm:.1f} | {sources.index(row.source) + 1} "
            f"| {row.mean_mm:.1f} ± {row.deviation_mm:.1f} | {row.off_percent:+.1f} % "
            f"| {row.off_survey_percent:+.1f} % | x {row.ratio:.2f} | {'pass' if row.passes else 'FAIL'} |"
        )
    return "\n".join(lines + [""] + [f"{number}. {source}" for number, source in enumerate(sources, 1)])


def choose_people(subjects: Subjects, share: dict[str, int]) -> np.ndarray:
    """Training people: of each group a number spread over its ages, by group."""
    group, test, age = (np.asarray(x) for x in (subjects.group, subjects.test, subjects.age_years))
    chosen = []
    for number, name in enumerate(subjects.group_names):
        mine = np.flatnonzero((group == number) & ~test)
        mine = mine[np.argsort(age[mine], kind="stable")]
        chosen.append(mine[np.linspace(0, len(mine) - 1, share[name.split("-")[1]]).round().astype(int)])
    return np.concatenate(chosen)


def draw_person(head: HeadModel, subjects: Subjects, number: int, *, size: int) -> np.ndarray:
    """Front and three-quarter view of one of the people, with skin, tone and irises of their own.

    Drawn twice as large, for smooth edges.
    """
    skin = load_skin(asset_path(f"skins/{subjects.skin_names[int(subjects.skin[number])]}.jpg"), size=1024)
    texture = np.asarray(apply_tone(jnp.asarray(skin.pixels), subjects.tone[number]))
    neutral = neutral_shape(head, subjects.identity[number])
    eyes = eye_texture(jax.random.key(number), iris=subjects.iris[number])
    shots, crop = [], 2 * (size // 8)
    for yaw in (0.0, 0.6):
        studio = Studio(head, texture, yaw=yaw, width_mm=315.0, size=2 * size, eyes=eyes)
        shots.append(studio.shoot(neutral, jnp.zeros(len(head.expressions)))[:, crop : 2 * size - crop])
    return np.asarray(halve(jnp.asarray(np.concatenate(shots, axis=1))))


def draw_calipers(head: HeadModel, *, size: int) -> np.ndarray:
    """The calipers of every measure on the mean head, from three sides, named in their colours."""
    skin = load_skin(asset_path("skins/male-caucasian-young.jpg"), size=1024).pixels
    calipers, views = place_calipers(head, head.mean), []
    for yaw in (0.0, -0.7, -np.pi / 2):
        studio = Studio(head, skin, yaw=yaw, width_mm=370.0, size=size)
        shot = studio.shoot(head.mean, jnp.zeros(len(head.expressions)))
        image = Image.fromarray((255 * (0.5 * shot + 0.5)).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        first, second = studio.pixels(calipers.first), studio.pixels(calipers.second)
        for row, (name, colour) in enumerate(zip(Measurements._fields, CALIPER_COLOURS)):
            draw.line([tuple(first[row]), tuple(second[row])], fill=colour, width=2)
            for x, y in (first[row], second[row]):
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
            if not views:
                draw.text((8, 8 + 14 * row), name.replace("_", " "), fill=colour)
        views.append(np.asarray(image, np.float32) / 255)
    return np.concatenate(views, axis=1)


def main() -> None:
    """Compare, print, draw."""
    command.keep_compiled_programs()
    folder = make_folder(_OUT.value)
    head, subjects = load_head(), load_subjects()
    counts = count_people(subjects)
    rows = compare(head, select(subjects, ~subjects.test))
    print("| group | training | test |\n|---|---|---|")
    for name, (train, test) in counts.items():
        print(f"| {name} | {train} | {test} |")
    print(f"| all | {sum(c[0] for c in counts.values())} | {sum(c[1] for c in counts.values())} |\n")
    print(table(rows))
    write_json(
        folder / "subjects.json",
        {
            "counts": counts,
            "limits": {"mean_percent": LARGEST_DEVIATION_PERCENT, "deviation_ratio": LARGEST_RATIO},
            "measurements": [
                row._asdict()
                | {"off_percent": row.off_percent, "off_survey_percent": row.off_survey_percent, "ratio": row.ratio}
                | {"passes": row.passes}
                for row in rows
            ],
        },
    )
    share = dict.fromkeys(PEOPLE_A_GROUP, 1) if _QUICK.value else PEOPLE_A_GROUP
    people = [draw_person(head, subjects, int(k), size=_SIZE.value) for k in choose_people(subjects, share)]
    write_image(folder / "subjects.png", grid(people, min(COLUMNS, len(people))))
    write_image(folder / "calipers.png", draw_calipers(head, size=4 * _SIZE.value))
    print(f"\n{folder}: subjects.png, calipers.png, subjects.json")
    failed = [f"{row.measure} of {row.gender}" for row in rows if not row.passes]
    if failed:
        raise RuntimeError(f"the shipped subjects miss the published measurements: {', '.join(failed)}")


if __name__ == "__main__":
    command.run(main)
