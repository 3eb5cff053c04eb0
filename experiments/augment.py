"""Make thousands of new heads from the training subjects, in chunks; a stopped run goes on where it was.

    python -m experiments.augment --count=10000 --out=heads

writes heads-00000.npz, heads-00001.npz, ... (vertices [mm], group, key, closest subject and the mixture, one row a
head) and augment.json, which says how they were made. The same seed gives the same bytes. Ends with 0 when done, 2 when
a flag or the folder cannot be used (one line says why and what to do), 1 after a defect of its own.
"""

from absl import flags

from digitaltwin.cli import run_command
from digitaltwin.cli._command import keep_compiled_programs
from digitaltwin.deformation._config import METHOD_NAMES, AugmentConfig

_OUT = flags.DEFINE_string("out", "heads", "Folder for the chunks; made if it is missing, continued if it is not.")
_COUNT = flags.DEFINE_integer("count", AugmentConfig.count, "Heads to make.", 1)
_SEED = flags.DEFINE_integer("seed", AugmentConfig.seed, "Seed of everything random.", 0)
_CHUNK = flags.DEFINE_integer("chunk", AugmentConfig.chunk, "Heads in a file.", 1)
_METHOD = flags.DEFINE_enum(
    "method", AugmentConfig.method, METHOD_NAMES, "Polar mixing; or, as ablations, categorised PCA or none."
)
_ORIGIN = flags.DEFINE_enum("origin", "all", ("all", "group"), "Mix about the mean of all subjects, or of each group.")
_QUICK = flags.DEFINE_bool("quick", False, "At most 200 heads in chunks of 100, for a first look.")


def main() -> None:
    """Read the flags, make what is missing, say where it is."""
    count, chunk = (min(_COUNT.value, 200), min(_CHUNK.value, 100)) if _QUICK.value else (_COUNT.value, _CHUNK.value)
    config = AugmentConfig(count, chunk, _SEED.value, _METHOD.value, _ORIGIN.value == "group")
    keep_compiled_programs()
    from digitaltwin.deformation._folder import augment_folder

    files, new = augment_folder(_OUT.value, config)
    print(f"{_OUT.value}: {config.count} heads in {files} files, {new} of them new")


if __name__ == "__main__":
    run_command(main)
