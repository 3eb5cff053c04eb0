"""The former name of ``python -m experiments.figures --only=heads``, kept for scripts."""

import sys

from absl import flags

from digitaltwin.cli import run_command
from experiments.figures import __main__ as figures

flags.adopt_module_key_flags(figures)

if __name__ == "__main__":
    print("experiments.pictures is now python -m experiments.figures --only=heads.", file=sys.stderr)
    flags.FLAGS.set_default("only", ["heads"])
    run_command(figures.main)
