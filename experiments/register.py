"""The console command ``digitaltwin register`` as a module; without --scan it registers the one that ships."""

import sys
from functools import partial

from digitaltwin.cli._command import run
from digitaltwin.cli._register import COMMAND, work

if __name__ == "__main__":
    sys.exit(run(COMMAND._replace(work=partial(work, sample=True)), sys.argv[1:]))
