"""The console script: ``digitaltwin PHOTO ...``, ``digitaltwin register|evaluate|fit ...``."""

import importlib
import sys
from collections.abc import Sequence

from digitaltwin.cli._command import Command, run

COMMANDS = {
    "avatar": "Turn photos into textured, rigged heads; what digitaltwin does without the name of a command.",
    "register": "Register a scan: bring the head's skin onto it, and transfer its texture.",
    "evaluate": "Score meshes on scans.",
    "fit": "Fit the head to a file of landmarks, millions of them.",
}
"""What the console script can do, by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script.

    Args:
        arguments: Of the command line, without the program's name; those of this process by default.

    Returns:
        The exit code: 0 when done, 1 after a defect, 2 where the input or a flag cannot be used, 130 after SIGINT.

    Example:
        >>> main(["--version"]) == 0
        digitaltwin ...
        True
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["--version"]:
        from digitaltwin._version import __version__

        print(f"digitaltwin {__version__}")
        return 0
    if arguments[:1] and arguments[0] in COMMANDS:
        return run(load_command(arguments[0]), arguments[1:])
    command = load_command("avatar")
    listed = "\n".join(f"    digitaltwin {name:<10}{text}" for name, text in COMMANDS.items())
    described = f"{command.description}\n\nCommands, each with --help:\n\n{listed}"
    return run(command._replace(description=described), arguments)


def load_command(name: str) -> Command:
    """Import one command of :data:`COMMANDS`; the others are not needed."""
    return importlib.import_module(f"digitaltwin.cli._{name}").COMMAND
