"""Former name of :mod:`experiments.tune`, which it runs with a warning."""

import sys

from digitaltwin.cli import run_command
from experiments.tune.__main__ import main

if __name__ == "__main__":
    print("experiments.weights is now experiments.tune.", file=sys.stderr)
    run_command(main)
