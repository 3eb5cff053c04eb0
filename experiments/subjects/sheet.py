"""The subjects beside the surveys: table, numbers, portraits and calipers."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw

from digitaltwin.geometry import project
from digitaltwin.head import HeadModel, load_head, load_subjects, neutral_shape, select_subjects
from digitaltwin.head._anthropometry import Measurements, place_calipers
from digitaltwin.head._population import Subjects
from digitaltwin.io._files import write_json
from digitaltwin.io._images import write_image
from digitaltwin.io.assets import asset_path
from digitaltwin.render import portrait_camera, render_head
from digitaltwin.render._portrait import picture_grid
from digitaltwin.texture import eye_texture
from digitaltwin.texture._skins import load_skin
from experiments._shared.anthropometry import LARGEST_DEVIATION_PERCENT, LARGEST_RATIO, compare, draw_portrait, table
from experiments.subjects.people import SOURCE, compare_with_people, load_figures, measure_figures

SHOWN_OF_A_GROUP = {"african": 5, "asian": 9, "caucasian": 10}  # of each gender; no more are there of the first
COLUMNS = 6
CALIPER_COLOURS = ("red", "blue", "green", "purple", "brown", "black", "darkorange", "teal", "magenta")


def count_subjects(subjects: Subjects) -> dict[str, tuple[int, int]]:
    """Count the training and test subjects of each group."""
    group, test = np.asarray(subjects.group), np.asarray(subjects.test)
    return {
        name: (int(((group == number) & ~test).sum()), int(((group == number) & test).sum()))
        for number, name in enumerate(subjects.group_names)
    }


def choose_subjects(subjects: Subjects, share: dict[str, int]) -> np.ndarray:
    """Choose training subjects: of each group a number spread over its ages, by group."""
    group, test, age = (np.asarray(x) for x in (subjects.group, subjects.test, subjects.age_years))
    chosen = []
    for number, name in enumerate(subjects.group_names):
        mine = np.flatnonzero((group == number) & ~test)
        mine = mine[np.argsort(age[mine], kind="stable")]
        chosen.append(mine[np.linspace(0, len(mine) - 1, share[name.split("-")[1]]).round().astype(int)])
    return np.concatenate(chosen)


def draw_calipers(head: HeadModel, *, size: int) -> np.ndarray:
    """Draw the calipers of every measure on the mean head, from three sides, named in their colours."""
    skin = load_skin(asset_path("skins/male-caucasian-young.jpg"), size=1024).pixels
    calipers, views = place_calipers(head, head.mean), []
    eyes, rest = np.asarray(eye_texture(jax.random.key(0))), np.zeros(len(head.expressions), np.float32)
    for yaw in (0.0, -0.7, -np.pi / 2):
        camera = portrait_camera(yaw=yaw, width_mm=370.0, size_px=size)
        shot = render_head(head, camera, head.mean, rest, texture=skin, eye_texture=eyes, size_px=size)
        image = Image.fromarray((255 * (0.5 * shot + 0.5)).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        first, second = (project(camera, np.asarray(ends)) for ends in (calipers.first, calipers.second))
        for row, (name, colour) in enumerate(zip(Measurements._fields, CALIPER_COLOURS)):
            draw.line([tuple(first[row]), tuple(second[row])], fill=colour, width=2)
            for x, y in (first[row], second[row]):
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
            if not views:
                draw.text((8, 8 + 14 * row), name.replace("_", " "), fill=colour)
        views.append(np.asarray(image, np.float32) / 255)
    return np.concatenate(views, axis=1)


def compare_subjects(folder: Path, *, size_px: int, quick: bool, model: Path | None = None) -> None:
    """Print the comparison, write its numbers and draw the subjects.

    Args:
        folder: An existing folder.
        size_px: Height of a subject in the picture.
        quick: Whether to draw six subjects instead of 48.
        model: A model of scans to measure people on; by default the figures are taken that were measured before.

    Raises:
        RuntimeError: The subjects miss the published measurements, or the population misses people's faces.
    """
    head, subjects = load_head(), load_subjects()
    counts = count_subjects(subjects)
    training = select_subjects(subjects, ~subjects.test)
    neutral = jax.jit(jax.vmap(neutral_shape, in_axes=(None, 0)))(head, training.identity)
    rows = compare(head, neutral, training.group)
    print("| group | training | test |\n|---|---|---|")
    for name, (train, test) in counts.items():
        print(f"| {name} | {train} | {test} |")
    print(f"| all | {sum(c[0] for c in counts.values())} | {sum(c[1] for c in counts.values())} |\n")
    print(table(rows))
    write_json(
        folder / "subjects.json",
        {
            "counts": counts,
            "limits": {"mean_percent": LARGEST_DEVIATION_PERCENT, "std_ratio": LARGEST_RATIO},
            "measurements": [
                row._asdict()
                | {"off_percent": row.off_percent, "off_survey_percent": row.off_survey_percent, "ratio": row.ratio}
                | {"passes": row.passes}
                for row in rows
            ],
        },
    )
    people = load_figures() if model is None else measure_figures(head, model)
    beside, missed = compare_with_people(head, people)
    print(f"\n{beside}")
    write_json(folder / "people.json", {"source": SOURCE, "figures": people._asdict()})
    share = dict.fromkeys(SHOWN_OF_A_GROUP, 1) if quick else SHOWN_OF_A_GROUP
    portraits = [
        draw_portrait(
            head, subjects, int(k), neutral_shape(head, subjects.identity[k]), yaws=(0.0, 0.6, np.pi / 2), size=size_px
        )
        for k in choose_subjects(subjects, share)
    ]
    write_image(folder / "subjects.png", picture_grid(portraits, min(COLUMNS, len(portraits))))
    write_image(folder / "calipers.png", draw_calipers(head, size=4 * size_px))
    print(f"\n{folder}: subjects.png, calipers.png, subjects.json, people.json")
    failed = [f"{row.measure} of {row.gender}" for row in rows if not row.passes] + missed
    if failed:
        raise RuntimeError(f"the shipped population misses surveys or people's faces: {', '.join(failed)}")
