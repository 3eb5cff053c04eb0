"""The sheet of pictures and heat maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from digitaltwin.evaluation import ProtocolConfig
from digitaltwin.evaluation._accuracy import TITLES, Scores
from digitaltwin.evaluation._cases import EvaluationSubject, views_of
from digitaltwin.evaluation._sheet import draw_heat_map, png, pyplot
from experiments.accuracy.metrics import all_pairs

plt = pyplot()  # now, so that nothing is measured in vain where it is not installed

SHOWN_BASELINES = ("mean", "group")
SHOWN = 5
"""Number of subjects on the sheet."""


def draw_sheet(
    folder: Path,
    subjects: Sequence[EvaluationSubject],
    scores: Scores,
    reports: dict[str, dict[str, Any]],
    views: Sequence[str],
    crop: int,
) -> bytes:
    """Draw a row a person: each picture with its avatar's heat map, then those of two baselines; the scan last.

    Above each heat map stands the ARMSE at one of the crops after rigid alignment.
    """
    pairs = {pair.name: pair for pair in all_pairs(folder)}
    people = sorted((s for s in subjects if s.within is not None), key=lambda s: s.group)
    shown = [people[i] for i in np.unique(np.linspace(0, len(people) - 1, SHOWN).round().astype(int))]
    shown += [subject for subject in subjects if subject.within is None]
    columns = 2 * len(views) + len(SHOWN_BASELINES)
    figure, axes = plt.subplots(
        len(shown), columns, figsize=(2 * columns + 0.8, 2.5 * len(shown)), squeeze=False, layout="constrained"
    )
    drawn = None
    for line, subject in zip(axes, shown):
        errors = scores["rigid"][subject.name]
        there = views_of(subject.name, views)
        for axis, view in zip(line[::2], there):
            picture = Image.open(folder / "pictures" / f"{subject.name}-{view}.png")
            axis.imshow(_near_the_face(picture, reports[subject.name][view]))
            axis.set_title(subject.name if view == views[0] else view, fontsize=8)
        for axis, name in zip([*line[1 : 2 * len(views) : 2], *line[2 * len(views) :]], (*views, *SHOWN_BASELINES)):
            if name in views and name not in there:
                continue
            if name in errors:
                drawn = draw_heat_map(axis, pairs[f"{subject.name}/{name}"], ProtocolConfig(), folder / "rigid")
            error = f"{errors[name].armse[crop]:.2f} mm" if name in errors else "refused"
            axis.set_title(f"{TITLES[name]}: {error}", fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.4, label="prediction outside the truth, mm")
    return png(figure)


def _near_the_face(picture: Image.Image, report: dict[str, Any]) -> Image.Image:
    """Cut a square about the face that was found; all of a picture that was refused."""
    if "refused" in report:
        return picture
    left, top, right, bottom = report["report"]["face"]["box_px"]
    middle, reach = np.array([left + right, top + bottom]) / 2, 1.1 * (bottom - top)
    reach = min(reach, *middle, *(picture.size - middle))
    corners = np.concatenate([middle - reach, middle + reach]).round().astype(int)
    return picture.crop(tuple(corners.tolist()))
