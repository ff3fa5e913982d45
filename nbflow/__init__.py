"""Run one notebook over many parameter sets, or workflows of notebooks: in parallel, resumable, and honest.

Examples
--------
>>> import nbflow
>>> run = nbflow.map("forecast.ipynb", grid={"city": ["Oslo", "Lima"]})  # doctest: +SKIP
>>> run.to_frame()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .version import __version__ as __version__  # for those who ask which one they have

if TYPE_CHECKING:
    from .api import (
        Item,
        MapRun,
        Node,
        Planned,
        PlannedNode,
        Run,
        WorkflowRun,
        answer,
        attach,
        cancel,
        clean,
        load,
        logs,
        map,  # noqa: A004 - what it does
        restore,
        results,
        resume,
        run,
        start,
        status,
    )
    from .definition import (
        Call,
        Cells,
        Defaults,
        DoWhile,
        FanIn,
        FanOut,
        Gate,
        GateOption,
        If,
        Input,
        Notebook,
        Requires,
        Retry,
        Shell,
        SubWorkflow,
        Switch,
        While,
        Workflow,
    )
    from .errors import NbflowError, RefusedError, RunFailedError
    from .values import File

__all__ = [
    "Call",
    "Cells",
    "Defaults",
    "DoWhile",
    "FanIn",
    "FanOut",
    "File",
    "Gate",
    "GateOption",
    "If",
    "Input",
    "Item",
    "MapRun",
    "NbflowError",
    "Node",
    "Notebook",
    "Planned",
    "PlannedNode",
    "RefusedError",
    "Requires",
    "Retry",
    "Run",
    "RunFailedError",
    "Shell",
    "SubWorkflow",
    "Switch",
    "While",
    "Workflow",
    "WorkflowRun",
    "answer",
    "attach",
    "cancel",
    "clean",
    "load",
    "logs",
    "map",
    "restore",
    "results",
    "resume",
    "run",
    "start",
    "status",
]

_ROOMS = {
    "File": "values",
    **dict.fromkeys(["NbflowError", "RefusedError", "RunFailedError"], "errors"),
    **dict.fromkeys(["Call", "Cells", "Defaults", "DoWhile", "FanIn", "FanOut", "Gate", "GateOption"], "definition"),
    **dict.fromkeys(["If", "Input", "Notebook", "Requires", "Retry", "Shell", "SubWorkflow"], "definition"),
    **dict.fromkeys(["Switch", "While", "Workflow"], "definition"),
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for: the package itself costs nothing to import."""
    if name not in __all__:
        raise AttributeError(f"module 'nbflow' has no attribute {name!r}")
    value = getattr(_loaded(f".{_ROOMS.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def _loaded(module: str) -> object:
    """Import a module; an interrupt waits until that is done, for Python may keep its import lock for ever else."""
    import signal
    import threading
    from importlib import import_module

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        return import_module(module, __name__)
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))  # noqa: ARG005 - a handler's shape
    try:
        return import_module(module, __name__)
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


def load_ipython_extension(shell: object) -> None:
    """``%load_ext nbflow``: give a notebook ``%nbflow`` and ``%%nbflow``."""
    from .magics import load

    load(shell)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
