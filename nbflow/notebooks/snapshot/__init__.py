"""Saves names of a notebook in one kernel, and gives them back in another. Carried: standard library, Python 3.9.

Names are saved one by one, so that a later step loads what it reads and nothing else. Names that share something that
can be changed, and has no name of its own, are saved together. Whatever is another name's value is written as that
name's token, and so one object stays one object. Files are called by a digest of what they hold.

numpy and pandas are used where the kernel has loaded them, and never imported for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from .shelf import Shelf

PARTS = (
    *("natures", "files", "arrays", "frames", "codes", "helpers", "known", "pickling", "saving", "restoring"),
    *("settings", "shelf"),
)
"""Its modules, each behind those that it needs: so a kernel gets them that does not see our files."""

MIME = "application/vnd.nbflow.snapshot+json"


class Answer:
    """What the kernel's display machinery hands over."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "snapshot"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's names
        return {MIME: self.text}


_shelf: list[Shelf] = []


def answer(arguments: str) -> Answer:
    """Do what is asked for: ``{"do": "restore", "folder": ..., "cloudpickle": ..., "names": ...}``, or ``"save"``.

    Everything but ``do``, ``folder`` and ``cloudpickle`` is an argument of the shelf's method of that name. The shelf
    is made when it is first asked for something; ``{"do": "open"}`` makes it and does nothing else.
    """
    asked = json.loads(arguments)
    do, folder, cloudpickle = asked.pop("do"), asked.pop("folder"), asked.pop("cloudpickle")
    if not _shelf:
        _shelf.append(Shelf(sys.modules["IPython"].get_ipython().user_ns, folder, cloudpickle))
    methods: dict[str, Callable[..., Any]] = {"restore": _shelf[0].restore, "save": _shelf[0].save, "open": dict}
    answer = Answer(json.dumps(methods[do](**asked)))
    watch = sys.modules.get("_nbflow_watch")
    if watch is not None:
        watch.wrote.clear()  # these files are ours, and what the cells wrote has been told
    return answer
