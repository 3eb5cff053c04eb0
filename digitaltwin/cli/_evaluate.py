"""``digitaltwin evaluate``: errors of any method's meshes on scans."""

from dataclasses import replace
from pathlib import Path

from absl import flags

from digitaltwin._stages import stage
from digitaltwin.cli._command import Command, Speaker, define_common
from digitaltwin.io._files import check_folder, make_folder
from digitaltwin.types import InputError


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_string("predictions", None, "Folder of the predictions.", flag_values=values)
    flags.DEFINE_string("scans", None, "Folder of the scans, or of the challenge's data.", flag_values=values)
    flags.DEFINE_enum(
        "layout", "folders", ["folders", "now", "stirling"], "Whose folders and rules these are.", flag_values=values
    )
    flags.DEFINE_string("images", None, "The list of NoW's photos; its validation set by default.", flag_values=values)
    flags.DEFINE_string("groups", None, "File of rows NAME,group; one group without.", flag_values=values)
    flags.DEFINE_string("out", "out/evaluation", "Folder for the results; made if it is missing.", flag_values=values)
    flags.DEFINE_integer("workers", 2, "Processes side by side.", lower_bound=1, flag_values=values)
    flags.DEFINE_bool(
        "with_scale", None, "Whether a prediction's size is fitted; by default as the layout's.", flag_values=values
    )
    flags.DEFINE_float("unit_mm", 1.0, "Millimetres in the predictions' unit: 1000 for metres.", flag_values=values)
    flags.DEFINE_bool(
        "dense_correspondence", False, "Deform predictions onto the scans too: errors between corresponding points.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_alias("bent", "dense_correspondence", flag_values=values)
    flags.DEFINE_bool("by_area", False, "Whether vertices count by the areas of their faces.", flag_values=values)
    flags.DEFINE_bool(
        "quick", False, "Score the mean head on eight subjects of the shipped database.", flag_values=values
    )
    define_common(values)


def work(values: flags.FlagValues, _: list[str]) -> None:
    """Score, print the table, write everything."""
    out = check_folder(values.out)
    if not values.quick:
        if values.predictions is None or values.scans is None:
            raise InputError("--predictions and --scans: name both folders, or use --quick for an example.")
        for folder in (values.predictions, values.scans):
            if not Path(folder).is_dir():
                raise InputError(f"{folder}: there is no such folder; check the path.")
    speaker = Speaker(quiet=values.quiet)
    speaker.say(f"{values.predictions or 'mean head'} -> {out}: errors and sheet (scores that stand are used)")
    with speaker.stages():
        seconds: dict[str, float] = {}
        with stage(seconds, "start"):
            from digitaltwin.evaluation._sheet import evaluate_folders, find_layout, make_example, pyplot

            pyplot()  # before anything is made, so that it is not done in vain

            predictions, scans, groups = values.predictions, values.scans, values.groups
            if values.quick:
                predictions, scans, groups = make_example(make_folder(out / "example"))
            layout = "folders" if values.quick else values.layout
            pairs, config, measure = find_layout(layout, predictions, scans, groups=groups, images=values.images)
        config = replace(
            config,
            by_area=values.by_area,
            dense_correspondence=values.dense_correspondence,
            unit_mm=values.unit_mm,
        )
        if values.with_scale is not None:
            config = replace(config, icp=replace(config.icp, with_scale=values.with_scale))
        quiet = True if values.quiet else None
        with stage(seconds, "score"):
            sheet = evaluate_folders(out, pairs, config, measure, workers=values.workers, quiet=quiet)
    widths = [max(len(str(cell)) for cell in column) + 2 for column in zip(*sheet.rows)]
    for row in sheet.rows:
        print("".join(f"{cell!s:>{width}}" for cell, width in zip(row, widths)))
    print(sheet.together)


COMMAND = Command(
    usage="digitaltwin evaluate --predictions=DIR --scans=DIR [--groups=groups.csv] [--out=DIR]\n"
    "digitaltwin evaluate --layout=now --predictions=DIR --scans=NoW_Dataset/final_release_version",
    description="""\
Score any method's meshes on scans: a table, curves over the crop, bars by group, heat maps, one page.

Predictions and scans are paired by name; --layout scores the folders of a challenge by its own rules. --quick makes
folders of eight subjects, predicts the mean head for all of them, and scores that. A run that was stopped goes on where
it was. Writes errors.csv (one row for each prediction and crop), table.csv (each group and crop, with 1.96 standard
errors, and how fine the meshes are), curves.png, groups.png, heatmaps.png, and index.html with all of them. Draws with
matplotlib, which has to be installed.""",
    define=define,
    work=work,
)
