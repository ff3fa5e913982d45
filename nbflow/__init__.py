"""Run one notebook over many parameter sets: in parallel, resumable, and honest about what happened.

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
    from .api import Item, Planned, Run, cancel, clean, logs, map, results, resume, status  # noqa: A004 - what it does
    from .errors import NbflowError, RefusedError, RunFailedError
    from .values import File

__all__ = [
    "File",
    "Item",
    "NbflowError",
    "Planned",
    "RefusedError",
    "Run",
    "RunFailedError",
    "cancel",
    "clean",
    "logs",
    "map",
    "results",
    "resume",
    "status",
]

_ROOMS = {"File": "values", "NbflowError": "errors", "RefusedError": "errors", "RunFailedError": "errors"}


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


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
