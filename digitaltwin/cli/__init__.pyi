from ._command import run_command as run_command
from ._main import main as main
