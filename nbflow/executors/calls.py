"""The runner of calls: a Python function in the worker's own thread."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from functools import reduce
from types import ModuleType
from typing import Any

from ..outcome import Outcome, completed
from ..steps import CallStep
from ..task import Context, Task
from .modules import installed, room

__all__ = ["CallRunner"]


class CallRunner:
    """Calls functions. Shared by all workers' threads; keeps only the modules that this run has met.

    A function cannot be interrupted from outside; one that does not come back in time is given up by the driver.
    """

    def __init__(self) -> None:
        self._modules: dict[tuple[str, str], ModuleType] = {}

    def __call__(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002 - a call leaves no files
        """Call the function with the task's parameters; its return value is the output."""
        step = task.step
        assert isinstance(step, CallStep), "the driver sends each kind of task to its own runner"
        name = step.function.partition(":")[2]
        with room(step.folder).importable() if step.folder else nullcontext():
            function: Any = reduce(getattr, name.split("."), self._module(step))
            return completed(function(**deepcopy(task.parameters)))  # it may change them, and they are others', too

    def _module(self, step: CallStep) -> ModuleType:
        """Give the function's module, for the whole run as it was when the run met it first."""
        name = step.function.partition(":")[0]
        if not step.folder:
            return installed(name, step.source)
        met = self._modules.get((step.folder, name))
        if met is None:
            met = self._modules[step.folder, name] = room(step.folder).load(name)
        return met
