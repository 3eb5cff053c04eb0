"""How near the avatar of one picture comes to the person: errors in millimetres, beside those of guesses.

    python -m experiments.accuracy --out=accuracy

Pictures of people whose shape is known (:mod:`experiments.sitters`), from the front and turned, go through
:func:`digitaltwin.create_avatar`, which is told nothing of the lens. The avatar's neutral skin is scored on the true
shape by the protocol of :mod:`digitaltwin.evaluation`, its size kept and its size free; so are two guesses that need no
picture, the mean head and the mean of the person's group, the head model's and that of the group's training people, and
what of the person the identity basis holds. Subjects of the database have the head's topology, so for them also the
distances of true counterparts are measured, also of fits that are told more of the truth (:mod:`experiments.causes`).

The folder is continued where a run was stopped; what an earlier version of the chain has made of a picture is kept too,
so name another folder after a change. Writes accuracy.md (the tables), accuracy.csv and accuracy.json (every number),
accuracy.png (pictures and heat maps); in pictures, scans, predictions and groups.csv what was scored, in the layout of
``python -m experiments.evaluate``; in reports what the chain says of every avatar.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from absl import flags

from digitaltwin.evaluation import ProtocolConfig
from digitaltwin.io._files import make_folder
from digitaltwin.synthesis import SceneConfig
from experiments import command
from experiments.gallery import measure
from experiments.likeness import CROP_MM
from experiments.sitters import VIEWS

_OUT = flags.DEFINE_string("out", "out/accuracy", "Folder for the results; made if it is missing, continued if not.")
_PEOPLE = flags.DEFINE_integer("people", 20, "Subjects of the database.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", SceneConfig.seed, "Of the pictures.", lower_bound=0)
_REMAINDER = flags.DEFINE_float("remainder_mm", SceneConfig.residual_mm, "What the basis lacks of the people.", 0.0)
_STILL = flags.DEFINE_bool("still", True, "Whether that is freed of the face's rigid motion.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that score side by side.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "One subject from the front, one crop, no scan, no causes.")


def main() -> None:
    """Read the flags, fill the folder, print the tables."""
    command.keep_compiled_programs()
    out, quick = make_folder(_OUT.value), _QUICK.value
    config = SceneConfig(1 if quick else _PEOPLE.value, _SEED.value, _REMAINDER.value, _STILL.value)
    with ProcessPoolExecutor(_WORKERS.value, mp_context=get_context("spawn")) as executor:
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
    command.run(main)
