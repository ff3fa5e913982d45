"""The runner of shell steps."""

from __future__ import annotations

from pathlib import Path

from ..outcome import Outcome
from ..task import Context, Task


class ShellRunner:
    """Runs commands."""

    def __init__(self, folder: Path, run_id: str) -> None:
        pass

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Run one."""
        raise NotImplementedError
