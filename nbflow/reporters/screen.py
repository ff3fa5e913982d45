"""Where people watch a run: in a notebook, in a terminal, or in neither; and the reporter for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from threading import Event
from typing import Literal, TextIO

from .audience import Reporter


def screen(file: TextIO | None = None) -> Literal["notebook", "terminal", "log"]:
    """Tell what a file (stderr by default) is, to the person who watches."""
    if "ipykernel.zmqshell" in sys.modules and _has_shell():
        return "notebook" if find_spec("ipywidgets") and _draws_widgets() else "log"
    file = file or sys.stderr
    return "terminal" if file.isatty() and os.environ.get("TERM") != "dumb" else "log"


def reporter(
    workers: int, file: TextIO | None = None, head: Sequence[str] = (), asking: Event | None = None, target: str = ""
) -> Reporter:
    """Give what shows a run where people watch it.

    Parameters
    ----------
    workers : int
        Tasks in flight at most: rows of the picture.
    file : TextIO, optional
        Terminal or log; stderr by default. A notebook shows its bars in the cell.
    head : sequence of str
        Lines above all others, in a terminal or a log.
    asking : threading.Event, optional
        Set while a question to a person has the terminal for itself; without it nobody is asked there.
    target : str, optional
        What the run is called in Python: a notebook shows how its gates are answered.
    """
    match screen(file):
        case "notebook":
            from .widgets import WidgetBars

            return WidgetBars(workers, target)
        case "terminal":
            from .bars import Bars

            return Bars(workers, file, head, asking=asking)
        case "log":
            from .lines import Lines

            return Lines(file, head)


def _has_shell() -> bool:
    from IPython import get_ipython  # a kernel has loaded it

    return get_ipython() is not None


def _draws_widgets() -> bool:
    """Tell whether tqdm found a notebook, not the console of Spyder or Qt."""
    from tqdm.auto import tqdm

    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
