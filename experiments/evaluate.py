"""The console command ``digitaltwin evaluate`` as a module: ``python -m experiments.evaluate`` takes the same flags."""

import sys

from digitaltwin.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
