"""The old place of :mod:`digitaltwin.cli`'s ``run_command`` and ``keep_compiled_programs``."""

from digitaltwin.cli import run_command as run
from digitaltwin.cli._command import DEFECT as DEFECT
from digitaltwin.cli._command import DONE as DONE
from digitaltwin.cli._command import UNUSABLE_INPUT as UNUSABLE_INPUT
from digitaltwin.cli._command import keep_compiled_programs as keep_compiled_programs

__all__ = ["DEFECT", "DONE", "UNUSABLE_INPUT", "keep_compiled_programs", "run"]
