"""The view of a run where a notebook has no widgets: a page that is drawn again, in the cell that began it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from IPython.display import display

from ..events import Event
from ..state import RunState
from . import pages
from .board import Board, Line
from .controls import Controls, NoControls

SECONDS = 1.0
"""Between two pictures: each one makes the page anew."""


class Still:
    """Draws a run as HTML by its display id; its text where there is no HTML either.

    Parameters
    ----------
    lines : sequence of Line
        The tree of steps.
    controls : Controls or None
        Knows the addresses of executed notebooks.
    target : str
        What the run is called in Python.
    """

    open = False
    """There are no widgets to show elsewhere."""
    buttons = False

    def __init__(self, lines: Sequence[Line], controls: Controls | None, target: str) -> None:
        self.board = Board(lines)
        self._controls = controls or NoControls()
        self._target = target
        self._shown: Any = None
        self._drawn = 0.0
        self._page: dict[str, str] = {}

    def begin(self) -> None:
        """Show it in the cell of this thread."""
        if self._shown is None:
            self._page = self._made(time.time())
            self._shown = display(self._page, raw=True, display_id=True)

    def __call__(self, event: Event) -> None:
        """Take an event in; drawn at the next :meth:`draw`."""
        self.board.apply(event)

    def adopt(self, state: RunState) -> None:
        """Take in how a run stands that somebody else works at."""
        self.board.adopt(state)

    def lose(self, problem: str) -> None:
        """Nobody knows any more how it stands."""
        self.board.lose(problem)

    def draw(self, now: float) -> None:
        """Show the newest state, once a second."""
        if self._shown is None or now - self._drawn < SECONDS:
            return
        self._drawn = now
        page = self._made(now)
        if page != self._page:
            self._page = page
            with contextlib.suppress(Exception):  # its cell is gone
                self._shown.update(page, raw=True)

    def end(self) -> None:
        """Show the last picture."""
        self.board.progress.active.clear()
        self._drawn = 0.0
        self.draw(time.time())

    def _made(self, now: float) -> dict[str, str]:
        links = self._controls.links(self.board)
        return {
            "text/html": pages.summary(self.board, self._target, links, now),
            "text/plain": pages.plain(self.board, self._target, now),
        }
