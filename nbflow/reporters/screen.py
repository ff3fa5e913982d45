"""Where people watch a run: in a notebook, in a terminal, or in neither; and the reporter for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Event
from typing import Literal, TextIO

from .audience import Reporter
from .board import Line
from .controls import Controls


def screen(file: TextIO | None = None) -> Literal["notebook", "terminal", "log"]:
    """Tell what a file (stderr by default) is, to the person who watches."""
    if "ipykernel.zmqshell" in sys.modules and _has_shell():
        return "notebook" if not find_spec("ipywidgets") or _draws_widgets() else "log"
    file = file or sys.stderr
    return "terminal" if file.isatty() and os.environ.get("TERM") != "dumb" else "log"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and how one working at a run is shown."""

    workers: int
    """Tasks in flight at most: rows of the picture."""
    file: TextIO | None = None
    """Terminal or log; stderr by default. A notebook shows its picture in the cell."""
    head: Sequence[str] = ()
    """Lines above all others, in a terminal or a log."""
    asking: Event | None = None
    """Set while a question to a person has the terminal for itself; without it nobody is asked there."""
    target: str = ""
    """What the run is called in Python: a notebook shows how its gates are answered."""
    lines: Sequence[Line] = ()
    """The tree of steps, for a notebook."""
    controls: Controls | None = None
    """What buttons in a notebook do; without it there are none."""


def _widgets(scene: Scene) -> Reporter:
    if find_spec("ipywidgets") is None:
        return _page(scene)
    from .dashboard import Dashboard

    return Dashboard(scene.lines, scene.controls, scene.target)


def _page(scene: Scene) -> Reporter:
    from .still import Still

    return Still(scene.lines, scene.controls, scene.target)


def _bars(scene: Scene) -> Reporter:
    from .bars import Bars

    return Bars(scene.workers, scene.file, scene.head, asking=scene.asking)


def _lines(scene: Scene) -> Reporter:
    from .lines import Lines

    return Lines(scene.file, scene.head)


REPORTERS: Mapping[str, Callable[[Scene], Reporter]] = {
    "bars": _bars,
    "lines": _lines,
    "page": _page,
    "widgets": _widgets,
}
"""The reporters that are always there; their libraries are loaded when one is made."""


def _has_shell() -> bool:
    from IPython import get_ipython  # a kernel has loaded it

    return get_ipython() is not None


def _draws_widgets() -> bool:
    """Tell whether tqdm found a notebook, not the console of Spyder or Qt."""
    from tqdm.auto import tqdm

    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
