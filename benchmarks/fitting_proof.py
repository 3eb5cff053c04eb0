"""The former name of ``python -m benchmarks.fitting.verification``, kept for scripts."""

import sys

from absl import flags

from benchmarks import harness
from benchmarks.fitting import verification

flags.adopt_module_key_flags(verification)

if __name__ == "__main__":
    print("benchmarks.fitting_proof is now benchmarks.fitting.verification.", file=sys.stderr)
    harness.run(verification.main)
