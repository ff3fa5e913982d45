"""The runner of calls: a Python function in the worker's own thread."""

from __future__ import annotations

from importlib import import_module

from ..outcome import Outcome, completed, failed
from ..steps import CallStep
from ..task import Context, Task
from ..values import NotAValueError, result


class CallRunner:
    """Calls functions. Shared by all workers' threads; keeps nothing.

    A function cannot be interrupted from outside; one that does not come back in time is given up by the driver.
    """

    def __call__(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002 - a call leaves no files
        """Call the function with the task's parameters; its return value is the output."""
        step = task.step
        assert isinstance(step, CallStep), "the driver sends each kind of task to its own runner"
        module, _, name = step.function.partition(":")
        value = getattr(import_module(module), name)(**task.parameters)
        try:
            return completed(result(value))
        except NotAValueError as problem:
            return failed("output", f"{step.function} returned {problem}, which cannot be kept")
