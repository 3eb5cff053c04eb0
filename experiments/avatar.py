"""Turn one photo of a face into a textured, rigged head: the console script ``digitaltwin`` with a photo to start from.

    python -m experiments.avatar --image=photo.jpg --out=out

Without a photo it takes the portrait that ships with the package, without --out the folder ``out``.
"""

import sys
from functools import partial

from digitaltwin.cli._avatar import COMMAND, work
from digitaltwin.cli._command import run

if __name__ == "__main__":
    sys.exit(run(COMMAND._replace(work=partial(work, sample=True, out="out")), sys.argv[1:]))
