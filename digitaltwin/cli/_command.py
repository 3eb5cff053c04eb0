"""What every command of this folder does around its own work: flags, exit codes, the compilation cache."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
from absl import app, flags, logging

from digitaltwin.io._files import make_folder
from digitaltwin.types import InputError

_CACHE_BYTES = 1_000_000_000
_MIN_COMPILE_S = 0.1  # the chain has hundreds of smaller programs, which compile faster than a cache of them is kept

DONE, DEFECT, UNUSABLE_INPUT = 0, 1, 2
"""Exit codes: the work is done; a defect of this program; the input cannot be used, and one line says why."""


def run(main: Callable[[], None]) -> None:
    """Run a command: parse its flags, call ``main``, leave with the exit code that says how it went."""
    app.run(lambda _: _exit_code(main), flags_parser=_parse)


def keep_compiled_programs() -> None:
    """Keep what JAX compiles on disk, so that the next process need not compile it again.

    In JAX's own choice of folder (``JAX_COMPILATION_CACHE_DIR``) if it has one, whose size is then the owner's affair;
    else in the user's cache folder, up to 1 GB, of which the longest unused goes first. A folder that cannot be written
    only costs time: it is done without.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        try:
            folder = make_folder(Path(base) / "digitaltwin" / "programs")
        except InputError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES)
    # JAX's default would leave out what compiles in under a second, which together is most of the chain.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_S)


def _exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        return UNUSABLE_INPUT
    except Exception:
        traceback.print_exc()
        print("This is a defect of digitaltwin: please report it together with the lines above.", file=sys.stderr)
        return DEFECT
    return DONE


def _parse(arguments: list[str]) -> list[str]:
    """Parse flags; absl on its own ends with 1 after a mistyped flag, and after ``--help`` too."""
    try:
        rest = flags.FLAGS(arguments)[1:]
    except flags.Error as error:
        print(f"{error} (--help lists the flags)", file=sys.stderr)
        sys.exit(UNUSABLE_INPUT)
    except SystemExit:  # only the help flags leave from here
        sys.exit(DONE)
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl's default shows JAX's remarks on every kind of absent device
    if rest:
        print(f"{rest[0]}: every argument needs the name of its flag (--help lists the flags)", file=sys.stderr)
        sys.exit(UNUSABLE_INPUT)
    return rest
