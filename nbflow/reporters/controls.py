"""Controls: what the buttons of a view do, and what a view asks about the notebook it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ..model import NodeId
from .board import Board

__all__ = ["Controls", "NoControls"]


class Controls(Protocol):
    """What the buttons do. Called from whatever thread hears a click, so it only passes on."""

    def cancel(self) -> None:
        """End the run."""
        ...

    def pause(self) -> None:
        """Start nothing new."""
        ...

    def unpause(self) -> None:
        """Go on."""
        ...

    def again(self) -> None:
        """Run what failed or never ran, after the end."""
        ...

    def answer(self, node: NodeId, option: str) -> None:
        """Answer a gate."""
        ...

    def clickable(self) -> bool:
        """Whether clicks are heard now: while a cell runs not every kernel does."""
        ...

    def links(self, board: Board) -> Mapping[str, str]:
        """Give the addresses of executed notebooks, by their paths in the run folder."""
        ...

    def saved(self) -> object:
        """Give something that changes when the notebook is saved."""
        ...

    def judged(self, show: str) -> tuple[Path, str]:
        """Give a file that a gate asks about, and its address."""
        ...


class NoControls:
    """Of a view without buttons."""

    def cancel(self) -> None:
        """There is no button."""

    pause = unpause = again = cancel

    def answer(self, node: NodeId, option: str) -> None:
        """There is no button."""

    def clickable(self) -> bool:
        """Never."""
        return False

    def links(self, board: Board) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's
        """Give none."""
        return {}

    def saved(self) -> object:
        """Nobody knows."""
        return None

    def judged(self, show: str) -> tuple[Path, str]:
        """Give it as it is named."""
        return Path(show), show
