"""The former name of ``python -m experiments.tune``, kept for scripts."""

import sys

from absl import flags

from digitaltwin.cli import run_command
from experiments.tune import __main__ as tune

flags.adopt_module_key_flags(tune)

if __name__ == "__main__":
    print("experiments.weights is now experiments.tune.", file=sys.stderr)
    run_command(tune.main)
