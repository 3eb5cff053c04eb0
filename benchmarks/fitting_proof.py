"""Former name of :mod:`benchmarks.fitting.verification`, which it runs with a warning."""

import sys

from benchmarks import harness
from benchmarks.fitting.verification import main

if __name__ == "__main__":
    print("benchmarks.fitting_proof is now benchmarks.fitting.verification.", file=sys.stderr)
    harness.run(main)
