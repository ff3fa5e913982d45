"""Progress as plain lines, for logs, pipes and cron: no control characters, nothing overwritten."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from ..events import AttemptFailed, Event, GateAnswered, GateOpened, NodeFinished, NodeStarted, Warned
from ..model import node_text
from ..state import Progress
from . import picture
from .escape import for_file, for_terminal, width

FEW = 100
"""Items up to which each gets a line when it starts and one when it ends."""
HEARTBEAT = 60.0
"""Seconds between two lines that say how far the run is."""


class Lines:
    """Writes a line for what people would miss, and a heartbeat a minute.

    Parameters
    ----------
    file : TextIO, optional
        Where to; stderr by default.
    head : sequence of str
        Lines above all others.
    """

    def __init__(self, file: TextIO | None = None, head: Sequence[str] = ()) -> None:
        self._file = file or sys.stderr
        self._head = head
        self._progress = Progress()
        self._labels = 0
        self._beat: float | None = None

    def begin(self) -> None:
        """Write the head."""
        self._write(*self._head)

    def __call__(self, event: Event) -> None:
        """Write what the event means to people, if anything."""
        task = self._progress.active.get(event.node) if isinstance(event, AttemptFailed) else None
        self._progress.apply(event)
        match event:
            case NodeStarted():
                self._align(event.label)
                if self._few:
                    self._write(f"  started    {for_terminal(event.label)}")
            case NodeFinished(leaf=True, kept=False):
                self._align(event.label)
                status = event.outcome.status
                if status == "failed" or (self._few and status == "completed"):
                    self._write(picture.ended(f"{status:<9}", event.label, event.outcome, 0, self._labels))
            case NodeFinished(leaf=False) if event.failed_itself:
                self._align(event.label)
                self._write(picture.ended("failed   ", event.label, event.outcome, 0, self._labels))
            case AttemptFailed():
                self._write(picture.again(event, task.label if task else "", 0, self._labels))
            case GateOpened():
                self._write(f"  waits      {for_terminal(event.label)}  {for_terminal(event.message)}")
            case GateAnswered():
                self._write(f"  answered   {for_terminal(node_text(event.node))}  {for_terminal(event.choice)}")
            case Warned():
                self._write(picture.warning(event, 0))
            case _:
                pass

    def draw(self, now: float) -> None:
        """Write a heartbeat, if a minute has passed since the last one."""
        if self._progress.status != "running":
            return
        since = self._progress.started if self._beat is None else self._beat
        if now - since >= HEARTBEAT:
            self._beat = now
            self._write(f"  {picture.words(self._progress, now)}")

    def end(self) -> None:
        """Write nothing more: the end says how it went."""

    @property
    def _few(self) -> bool:
        return self._progress.total <= FEW

    def _align(self, label: str) -> None:
        widest = width(for_terminal(label))
        self._labels = max(self._labels, picture.label_columns(widest, picture.WIDEST))

    def _write(self, *lines: str) -> None:
        if lines:
            self._file.write(for_file("".join(f"{line}\n" for line in lines), self._file))
            self._file.flush()
