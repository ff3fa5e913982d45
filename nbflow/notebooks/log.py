"""The log of one task: what it printed, written while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..masking import Masker, StreamMasker
from .text import Fold, plain

__all__ = ["TaskLog"]

SHOWN_EVERY = 0.1
"""Seconds between two lines that are shown as the last one."""


class TaskLog:
    """Writes what a task prints to a file, line by line, without secrets and control characters.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    masker : Masker
        Knows the secrets.
    show : callable
        Gets the last line that was printed, at most ten times a second.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self, path: Path, masker: Masker, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        self._masker = masker
        self._streams: dict[str, tuple[StreamMasker, Fold]] = {}
        self._show = show
        self._clock = clock
        self._shown = float("-inf")

    def close(self) -> None:
        """Write what was held back, and close the file."""
        self.settle()
        self._file.close()

    def cell(self, number: int, heading: str) -> None:
        """Write that a cell begins."""
        self.settle()
        self._write(f"--- cell {number}  {plain(self._masker.text(heading))}".rstrip() + "\n")

    def printed(self, stream: str, text: str) -> None:
        """Take a piece of what was printed to a stream (``stdout``, ``stderr``, ``kernel``)."""
        if stream not in self._streams:
            self._streams[stream] = (self._masker.stream(), Fold())
        masker, fold = self._streams[stream]
        done = fold.feed(masker.feed(text))
        self._write(done)
        now = self._clock()
        if now - self._shown >= SHOWN_EVERY:
            line = fold.now.strip() or _last_line(done)
            if line:
                self._shown = now
                self._show(line)

    def failed(self, traceback: str) -> None:
        """Write the traceback of an error."""
        self.settle()
        self._write(plain(self._masker.text(traceback)).rstrip() + "\n")

    def settle(self) -> None:
        """Write what was held back: a cell ended."""
        for masker, fold in self._streams.values():
            self._write(fold.feed(masker.rest()) + fold.rest())

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text)
            self._file.flush()


def _last_line(text: str) -> str:
    end = text.rstrip()
    return end[end.rfind("\n") + 1 :].strip()[:500]
