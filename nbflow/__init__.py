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
    from importlib import import_module

    value = getattr(import_module(f".{_ROOMS.get(name, 'api')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
