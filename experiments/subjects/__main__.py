"""Compare the shipped subjects with published measurements of adults and with people's faces, and draw some of them.

    python -m experiments.subjects --out=out/subjects

Prints Table 1's counts and, for women and men, each measure's published and own mean and standard deviation; writes
subjects.json with the same numbers, subjects.png, 48 of the training subjects, and calipers.png, where each measure is
taken on the mean head. Besides, 2,000 people drawn from the head's groups stand beside people of a model of scans: how
far the mean faces lie apart, how much faces vary, how far noses, brows and chins stand out; people.json holds these
figures, which ``--people`` measures anew. Ends with 1 when a mean of the surveys is more than 5 % off or a standard
deviation more than a factor of 1.5, or when the faces miss people's by more than the limits of
:mod:`experiments.subjects.people`.
"""

from pathlib import Path

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.cli._command import keep_compiled_programs
from digitaltwin.io._files import make_folder

_OUT = flags.DEFINE_string("out", "out/subjects", "Folder for the results; made if it is missing.")
_SIZE = flags.DEFINE_integer("size", 128, "Height of a subject in the picture, in pixels.", lower_bound=32)
_PEOPLE = flags.DEFINE_string(
    "people", None, "ICT-FaceKit's folder, or the file of a head model of scans, to measure people's faces on anew."
)
_QUICK = flags.DEFINE_bool("quick", False, "Six subjects in the picture instead of 48.")


def main() -> None:
    """Compare, print, draw."""
    folder = make_folder(_OUT.value)
    keep_compiled_programs()
    from experiments.subjects.sheet import compare_subjects

    model = Path(_PEOPLE.value) if _PEOPLE.value else None
    compare_subjects(folder, size_px=_SIZE.value, quick=_QUICK.value, model=model)


if __name__ == "__main__":
    run_command(main)
