"""The view of a run where a notebook has no widgets: a page that is drawn again, in the cell that began it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from IPython.display import display

from . import pages
from .board import Line
from .controls import Controls
from .view import View

SECONDS = 1.0
"""Between two pictures: each one makes the page anew."""


class Still(View):
    """Draws a run as HTML by its display id; its text where there is no HTML either."""

    def __init__(self, lines: Sequence[Line], controls: Controls | None, target: str) -> None:
        super().__init__(lines, controls, target)
        self._shown: Any = None
        self._drawn = 0.0
        self._page: dict[str, str] = {}

    def begin(self) -> None:
        """Show it in the cell of this thread."""
        if self._shown is None:
            self._page = self._made(time.time())
            self._shown = display(self._page, raw=True, display_id=True)

    def draw(self, now: float) -> None:
        """Show the newest state, once a second."""
        if self._shown is None or now - self._drawn < SECONDS:
            return
        self._drawn = now
        page = self._made(now)
        if page != self._page:
            self._page = page
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
