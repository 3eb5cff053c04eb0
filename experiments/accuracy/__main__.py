"""Measure how near the avatar of one picture comes to the person, in millimetres, beside baselines.

    python -m experiments.accuracy --out=accuracy

Pictures of people whose shape is known (evaluation subjects), from the front, turned and smiling, go through
:func:`digitaltwin.create_avatar`, which gets no focal length. The avatar's neutral skin is scored on the true shape by
the protocol of :mod:`digitaltwin.evaluation`, after rigid and after similarity alignment. So are baselines that need no
picture (the mean head, the head model's mean of the person's group, and the group mean of the training set), and the
part of the person within the identity basis. Subjects of the database have the head's topology, so errors between
corresponding points are measured for them also, and an error ablation fits their pictures with oracle inputs.

The folder is continued where a run was stopped; what an earlier version of the chain has made of a picture is kept too,
so name another folder after a change. Writes accuracy.md (tables), accuracy.json (summary), accuracy.csv and
correspondences.csv (every error by person), accuracy.png (pictures and heat maps); in pictures, scans, predictions and
groups.csv what was scored, in the layout of ``python -m experiments.evaluate``; in reports the chain's reports.
"""

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.cli._command import keep_compiled_programs
from digitaltwin.synthesis._config import SceneConfig

_OUT = flags.DEFINE_string("out", "out/accuracy", "Folder for the results; made if it is missing, continued if not.")
_PEOPLE = flags.DEFINE_integer("people", 40, "Number of subjects of the database.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", SceneConfig.seed, "Seed of the pictures.", lower_bound=0)
_RESIDUAL = flags.DEFINE_float(
    "residual_mm", SceneConfig.residual_mm, "Root mean square of the out-of-basis residual.", 0.0
)
_FREE = flags.DEFINE_bool("rigid_motion_free", True, "Whether the residual contains no rigid motion of the face.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that score side by side.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "One subject from the front, one crop, no scan, no error ablation.")
flags.DEFINE_alias("remainder_mm", "residual_mm")
flags.DEFINE_alias("still", "rigid_motion_free")


def main() -> None:
    """Read the flags, fill the folder, print the tables."""
    from digitaltwin.evaluation import ProtocolConfig
    from digitaltwin.evaluation._accuracy import CROP_MM
    from digitaltwin.evaluation._cases import VIEWS
    from digitaltwin.evaluation._scored_pairs import worker_pool
    from digitaltwin.io._files import make_folder
    from experiments.accuracy.run import measure

    keep_compiled_programs()
    out, quick = make_folder(_OUT.value), _QUICK.value
    config = SceneConfig(1 if quick else _PEOPLE.value, _SEED.value, _RESIDUAL.value, _FREE.value)
    with worker_pool(_WORKERS.value) as executor:
        tables = measure(
            out,
            config,
            views=VIEWS[:1] if quick else VIEWS,
            crops_mm=(CROP_MM,) if quick else ProtocolConfig().crops_mm,
            only_subjects=quick,
            executor=executor,
        )
    print(tables)


if __name__ == "__main__":
    run_command(main)
