"""Draw the pictures in ``docs/images`` from what ships, and print the numbers beside them.

    python -m experiments.figures --out=docs/images

draws landmarks.png, contour.png, avatar.png, expressions.png and people.png (``--only=heads``), and
deformation-errors.png, deformation-bend.png and deformation-heads.png (``--only=deformation``), for which it prints
the tables of docs/deformation.md too.
"""

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.cli._command import keep_compiled_programs

SETS = ("heads", "deformation")
_OUT = flags.DEFINE_string("out", "docs/images", "Folder for the pictures; made if it is missing.")
_ONLY = flags.DEFINE_multi_enum("only", list(SETS), SETS, "Which pictures to draw; all by default.")
_QUICK = flags.DEFINE_bool("quick", False, "Only the landmarks; the tube, its errors and the picture of its bend.")


def main() -> None:
    """Draw what was asked for."""
    from digitaltwin.io._files import make_folder
    from experiments.figures import deformation, heads

    keep_compiled_programs()
    folder = make_folder(_OUT.value)
    for name, draw in zip(SETS, (heads.draw, deformation.draw)):
        if name in _ONLY.value:
            draw(folder, quick=_QUICK.value)


if __name__ == "__main__":
    run_command(main)
