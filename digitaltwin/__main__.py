"""``python -m digitaltwin`` is the console script ``digitaltwin``."""

import sys

from digitaltwin.cli import main

if __name__ == "__main__":
    sys.exit(main())
