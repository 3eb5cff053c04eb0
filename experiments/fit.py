"""The console command ``digitaltwin fit`` as a module: ``python -m experiments.fit`` takes the same flags."""

import sys

from digitaltwin.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
