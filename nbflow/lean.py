"""Imports in a process of our own: without the parts of libraries that no run uses.

Only the command line allows it: in the process of others a library does not decide what can be imported.
"""

from __future__ import annotations

import gc
import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["allow", "forbid", "imports", "uncollected"]

_LEFT_OUT = (
    # Formats that jsonschema can check, and that no notebook has; they come with JupyterLab. The first one compiles a
    # grammar when it is imported, for up to two seconds.
    *("rfc3987_syntax", "rfc3987", "isoduration", "webcolors", "fqdn", "idna", "uri_template", "jsonpointer"),
    *("rfc3339_validator", "rfc3986_validator"),
    *("pyarrow.fs", "boto3", "azure", "gcsfs", "github"),  # places where papermill could read and write
)
_LATER = ("requests",)
"""What papermill loads in any case; it is loaded when it is used."""

_allowed = False


def allow() -> None:
    """Let :func:`imports` leave something out: this process is ours alone."""
    global _allowed  # noqa: PLW0603 - it is a fact about the process
    _allowed = True


def forbid() -> None:
    """Leave nothing out any more: functions of the user run in this process, and may import at any moment."""
    global _allowed  # noqa: PLW0603 - it is a fact about the process
    _allowed = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Import what stands in the block while nobody looks for cycles: all of it stays, and none of it is garbage."""
    collected = _allowed and gc.isenabled()
    if collected:
        gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def imports() -> Iterator[None]:
    """Import what stands in the block without what is left out; behind it everything can be imported again."""
    with uncollected(), _left_out():
        yield


@contextmanager
def _left_out() -> Iterator[None]:
    names = [name for name in (*_LEFT_OUT, *_LATER) if _allowed and name not in sys.modules]
    put: dict[str, types.ModuleType | None] = {name: _Later(name) if name in _LATER else None for name in names}
    sys.modules.update(put)  # type: ignore[arg-type]  # None means that it is not there
    try:
        yield
    finally:
        for name, module in put.items():
            if sys.modules.get(name, put) is module:
                del sys.modules[name]


class _Later(types.ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)
