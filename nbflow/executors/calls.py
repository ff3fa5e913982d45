"""The runner of calls: a Python function in the worker's own thread."""

from __future__ import annotations

import sys
import threading
from functools import reduce
from importlib import import_module, reload
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ..outcome import Outcome, completed, failed
from ..steps import CallStep
from ..task import Context, Task
from ..values import NotAValueError, result


class CallRunner:
    """Calls functions. Shared by all workers' threads; keeps nothing.

    Parameters
    ----------
    folder : Path, optional
        The workflow's folder: its modules are found, as if Python was started there.

    A function cannot be interrupted from outside; one that does not come back in time is given up by the driver.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Call the function; what it returns is the output, and a path to a file in it becomes a reference."""
        step = task.step
        assert isinstance(step, CallStep), "the driver sends each kind of task to its own runner"
        module, _, name = step.function.partition(":")
        if self._folder is not None and str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))
        function: Any = reduce(getattr, name.split("."), _module(module, step.source))
        value = function(**task.parameters)
        try:
            return completed(result(value, str(context.places.folder)))
        except NotAValueError as problem:
            told = f"{step.function} returned {problem}, which cannot be kept"
            return failed("output", f"{told}: write it to a file and return its Path, or let a notebook do it")


_LOCK = threading.Lock()
_RAN: dict[str, str] = {}
"""Digests of the modules that were imported here, as they were then."""


def _module(name: str, source: str) -> ModuleType:
    """Import a module; one that was edited since it was imported here is loaded again."""
    with _LOCK:  # two threads that load one module again would see half of it
        before = _RAN.setdefault(name, source)
        module: Any = import_module(name)
        if source and before != source:
            module = reload(module)
            _RAN[name] = source
        return cast("ModuleType", module)
