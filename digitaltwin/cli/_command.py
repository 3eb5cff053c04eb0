"""What every command does around its own work: flags, exit codes, signals, the first line and a line for each stage.

Nothing here imports JAX, NumPy or Pillow, so that ``--help``, a mistyped flag and a missing file are answered at once.
"""

import _thread
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from absl import flags

from digitaltwin._stages import listen
from digitaltwin.io._files import make_folder
from digitaltwin.types import InputError

DONE, DEFECT, UNUSABLE_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: the work is done; a defect of this program; the input cannot be used, and one line says why; SIGINT."""

_HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}
_PROGRAMS = "jax-programs-"
_ABANDONED_S = 30 * 86400.0
_AGAIN_S = 0.05  # after which what dropped an interrupt has returned
_MIN_COMPILE_S = 0.1  # the chain has hundreds of smaller programs, which compile faster than a cache of them is kept


class Command(NamedTuple):
    """A command with flags of its own, which may be parsed and run any number of times in one process."""

    usage: str
    """How it is called, one way a line."""
    description: str
    """What it does: the first line is a sentence."""
    define: Callable[[flags.FlagValues], None]
    """Defines the flags."""
    work: Callable[[flags.FlagValues, list[str]], int | None]
    """Does the work, given the flags and the arguments without one; returns the exit code, None for 0."""
    takes: str | None = None
    """What arguments without a flag are: ``"photos"``; None if there are none."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Run a command on the arguments of the command line, program name left out.

    Returns:
        The exit code. Nothing is raised, but for ``SystemExit`` after SIGTERM.
    """
    if not _HELP.isdisjoint(_before_dashes(arguments)):
        return guard(lambda: print(help_text(command), flush=True))
    values = flags.FlagValues()
    command.define(values)
    values.set_gnu_getopt(True)  # flags may follow photos
    try:
        rest = values(["digitaltwin", *arguments])[1:]
        if rest and command.takes is None:
            raise flags.Error(f"{rest[0]}: every argument needs the name of its flag")
    except flags.Error as error:
        print(f"{_one_line(error)} (--help lists the flags)", file=sys.stderr)
        return UNUSABLE_INPUT
    return guard(lambda: command.work(values, rest))


def run_command(main: Callable[[], int | None], *, arguments: Sequence[str] | None = None) -> None:
    """Run a command whose flags are absl's global ones, and leave the process with its exit code.

    For programs outside the library: ``python -m experiments.subjects``, ``python -m benchmarks.fitting``. The flags
    are parsed before ``main`` is called.

    Args:
        main: Does the work, and raises :class:`~digitaltwin.types.InputError` where the input cannot be used.
        arguments: The command line with the program's name; that of this process by default.

    Raises:
        SystemExit: Always, with 0 when done, 1 after a defect, 2 for unusable input, 130 after SIGINT.

    Example:
        >>> run_command(lambda: None, arguments=["program"])
        Traceback (most recent call last):
        SystemExit: 0
    """
    arguments = sys.argv if arguments is None else arguments
    try:
        module_help = sys.modules["__main__"].__doc__ or ""
        if not _HELP.isdisjoint(_before_dashes(arguments[1:])):
            text = f"{module_help.strip()}\n\nFlags:\n{_flag_texts(_main_flags())}"
            sys.exit(guard(lambda: print(text, flush=True)))
        rest = flags.FLAGS(arguments)[1:]
        if rest:
            raise flags.Error(f"{rest[0]}: every argument needs the name of its flag")
    except flags.Error as error:
        print(f"{_one_line(error)} (--help lists the flags)", file=sys.stderr)
        sys.exit(UNUSABLE_INPUT)
    sys.exit(guard(main))


def guard(main: Callable[[], int | None]) -> int:
    """Call ``main``, and turn however it ends into an exit code, with one line on stderr unless it is done."""
    with _terminable(), _plain_warnings():
        try:
            with _interruptible():
                return main() or DONE
        except InputError as error:
            print(error, file=sys.stderr)
            return UNUSABLE_INPUT
        except KeyboardInterrupt:
            print("interrupted: nothing was left half-written", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # whoever read the output has enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes and closes it at its end
            return DONE
        except Exception:
            report_defect()
            return DEFECT


def report_defect() -> None:
    """Print the exception that is being handled, and ask for a report."""
    traceback.print_exc()
    print("This is a defect of digitaltwin: please report it together with the lines above.", file=sys.stderr)


class Speaker:
    """Says on stderr what is being done; silent if it is told to be."""

    def __init__(self, *, quiet: bool):
        self.quiet = quiet

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def problem(self, line: str) -> None:
        """Print one line about what went wrong, however quiet."""
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def stages(self, indent: str = "  ") -> Iterator[None]:
        """Print a line with the seconds of every stage that ends within the block."""
        with listen(lambda name, seconds: self.say(f"{indent}{name:<12}{seconds:7.2f} s")):
            yield


def define_common(values: flags.FlagValues) -> None:
    """Define the flags that every command has."""
    flags.DEFINE_bool(
        "quiet", False, "Say nothing on the way: only the result, and what went wrong.", flag_values=values
    )


def help_text(command: Command) -> str:
    """Format what ``--help`` prints."""
    values = flags.FlagValues()
    command.define(values)
    listed = _flag_texts(values[name] for name in values)
    return f"{command.usage}\n\n{command.description.strip()}\n\nFlags:\n{listed}"


def keep_compiled_programs() -> None:
    """Keep what JAX compiles on disk, so that the next process need not compile it again.

    Avatars need no such thing, as their programs are stored by the library itself (:mod:`digitaltwin.io._programs`);
    this is for all else that a command compiles. It goes where JAX is told to keep it (``JAX_COMPILATION_CACHE_DIR``),
    else into a folder of the user's cache that belongs to the package's present sources. A folder that cannot be
    written only costs time: it is done without.
    """
    import jax

    from digitaltwin.io._store import package_sources, store_folder

    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_S)
        return
    base = store_folder()
    if base is None:
        return
    folder = base / f"{_PROGRAMS}{package_sources().split()[-1][:16]}"
    try:
        make_folder(folder)
        for other in base.glob(f"{_PROGRAMS}*"):  # of sources that have changed since
            if other != folder and other.stat().st_mtime < time.time() - _ABANDONED_S:
                shutil.rmtree(other, ignore_errors=True)
    except (InputError, OSError):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", -1)  # a bound would mean a locked look at all of it each time
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # they would put the folder's path into keys
    # JAX's default would leave out what compiles in under a second, which together is most of a command.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_S)


def _before_dashes(arguments: Sequence[str]) -> list[str]:
    """Arguments up to ``--``, after which nothing is a flag."""
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _main_flags() -> list[flags.Flag]:
    """List the global flags that the program itself defines, not those of libraries it imports."""
    return flags.FLAGS.get_key_flags_for_module(sys.argv[0])


def _flag_texts(found: Iterable[flags.Flag]) -> str:
    lines = []
    for flag in sorted(found, key=lambda flag: flag.name):
        if flag.boolean:
            shown = f"--[no]{flag.name}"
        else:
            choices = getattr(flag.parser, "enum_values", None)
            shown = f"--{flag.name}={'|'.join(choices) if choices else flag.name.split('_')[0].upper()}"
        default = "" if flag.default is None or flag.boolean and not flag.default else f" (default: {flag.default})"
        text = str(flag.help)
        lines.append(f"  {shown}\n        {text.partition('>: ')[2] if text.startswith('<') else text}{default}")
    return "\n".join(lines)


@contextmanager
def _terminable() -> Iterator[None]:
    """End the process by an exception on SIGTERM, so that temporary files go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Interrupt once more where Python has dropped a KeyboardInterrupt.

    It drops, with a traceback on stderr, what is raised in a destructor, or in a callback of the garbage collector or
    of a weak reference. JAX has both kinds of callback, and while it traces, one interrupt in a hundred comes just then
    (findings/jax_interrupt_lost.sh).
    """
    reported, timers = sys.unraisablehook, list[threading.Timer]()

    def report(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            reported(dropped)
            return
        timers.append(threading.Timer(_AGAIN_S, _interrupt_main))
        timers[-1].start()

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = reported
        for timer in timers:
            timer.cancel()


def _interrupt_main() -> None:
    """Send SIGINT to the main thread, which a signal also wakes; Windows has none that could."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print the library's warnings about a result as plain lines on stderr."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    logger = logging.getLogger("absl")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
