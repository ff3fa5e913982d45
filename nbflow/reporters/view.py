"""What the views of a run in a notebook have in common: they take events in, or how a run stands."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import Event
from ..state import RunState
from .board import Board, Line
from .controls import Controls, NoControls

__all__ = ["View"]


class View:
    """A board, and what it is called; others draw it.

    Parameters
    ----------
    lines : sequence of Line
        The tree of steps.
    controls : Controls or None
        What buttons do, and what is known of the notebook that shows it; without it there are no buttons.
    target : str
        What the run is called in Python.
    """

    open = False
    """Whether there are widgets that can be shown in another cell too."""
    buttons = False
    """Whether gates can be answered by clicks here."""

    def __init__(self, lines: Sequence[Line], controls: Controls | None, target: str) -> None:
        self.board = Board(lines)
        self._controls = controls or NoControls()
        self._target = target

    def __call__(self, event: Event) -> None:
        """Take an event in; drawn at the next picture."""
        self.board.apply(event)

    def adopt(self, state: RunState) -> None:
        """Take in how a run stands that somebody else works at."""
        self.board.adopt(state)

    def lose(self, problem: str) -> None:
        """Nobody knows any more how it stands."""
        self.board.lose(problem)
