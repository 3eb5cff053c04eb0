from ._command import keep_compiled_programs as keep_compiled_programs
from ._command import run_command as run_command
from ._main import main as main
