"""The former name of ``python -m experiments.figures --only=deformation``, kept for scripts."""

import warnings

from absl import flags

from digitaltwin.cli import run_command
from experiments.figures import __main__ as figures

flags.adopt_module_key_flags(figures)

if __name__ == "__main__":
    warnings.warn("run python -m experiments.figures --only=deformation instead.", FutureWarning, stacklevel=1)
    flags.FLAGS.set_default("only", ["deformation"])
    run_command(figures.main)
