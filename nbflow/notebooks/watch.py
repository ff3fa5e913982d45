"""Remembers which files a kernel opens for writing. Carried into kernels: standard library, Python 3.8."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

MOST = 10000
"""Paths that are remembered."""


def begin() -> None:
    """Begin to remember in this kernel, in the name ``wrote`` of this module."""
    globals()["wrote"] = watch()


def watch() -> dict[str, str]:
    """Begin to remember; gives the mapping of paths, as they were named, to the folder it happened in."""
    wrote: dict[str, str] = {}
    writing = os.O_WRONLY | os.O_RDWR

    def hook(event: str, args: Any) -> None:
        if event == "open":
            if not args[2] & writing:
                return
            path = args[0]
        elif event == "os.rename":
            path = args[1]
        elif event == "sqlite3.connect":
            path = args[0]
        else:
            return
        if len(wrote) < MOST and not isinstance(path, int):
            try:
                wrote[os.fsdecode(path)] = os.getcwd()  # noqa: PTH109 - called for each file that is opened
            except (OSError, TypeError, ValueError):
                return  # the folder is gone, or the name is none: nothing that could be told

    sys.addaudithook(hook)
    return wrote


def written(wrote: dict[str, str], folder: str) -> list[str]:
    """Give the remembered files that lie below a folder, relative to it; none that is hidden."""
    top = Path(folder).resolve()
    found = set()
    for path, cwd in list(wrote.items()):
        whole = Path(cwd, path).resolve()
        if top not in whole.parents or not whole.is_file():
            continue
        parts = whole.relative_to(top).parts
        if not any(part.startswith(".") or part == "__pycache__" for part in parts):
            found.add("/".join(parts))
    return sorted(found)
