"""How a node ended: its status, output, error, seconds and attempts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .types import Status
from .values import Value

_NO_NAMES: Mapping[str, Value] = {}
"""One for all: a run of a million items has a million outcomes without any."""

FailureKind: TypeAlias = str
"""A word of ``retry: on``: ``error``, ``timeout``, ``dead-kernel``, ``start``, ``memory``, ``input``; or
``expression``, ``cancelled``, ``output``, which are never retried. ``memory`` is what is known to be that: the system
counted that it ended the process for it, or the task raised MemoryError."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node failed."""

    kind: FailureKind
    """What sort of failure: the words that ``retry: on`` knows."""
    message: str
    """One line for people: ``KeyError: 'rain_mm'``."""
    exception: str | None = None
    """Name of the exception's class, where there was one: ``KeyError``."""
    cell: int | None = None
    """The failed cell: its place among the code cells of the notebook, counted from 1."""
    traceback: str | None = None
    """The traceback as plain text."""
    node: str | None = None
    """The id of the node below in which it happened; none: it happened here."""

    @property
    def place(self) -> str:
        """``cell 5``; empty where there is none, or where a time-out's own words name it."""
        named = self.kind == "timeout" and re.search(rf"\bcell {self.cell}\b", self.message)
        return "" if self.cell is None or named else f"cell {self.cell}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a node ended, or that it has not: the record that journal, checkpoint and people share."""

    status: Status
    output: Value = None
    """What it gives to later steps: for a notebook a mapping of names to values."""
    error: Failure | None = None
    seconds: float = 0.0
    """Seconds of work; of the last attempt."""
    attempts: int = 1
    """How many times it was started, crashes included."""
    notebook: str | None = None
    """The executed notebook, relative to the run folder."""
    log: str | None = None
    """What it printed, relative to the run folder."""
    names: Mapping[str, Value] = field(default_factory=lambda: _NO_NAMES)
    """Names of its notebook that it left for later steps: where each is saved, or why it is not."""
    wrote: tuple[str, ...] = ()
    """Files beside the notebook that it opened for writing, relative to its directory; not kept in the journal."""
    warnings: tuple[str, ...] = ()
    """What a person should know although it did not fail; not kept in the journal."""

    @property
    def passed_over(self) -> bool:
        """Whether nobody wants it: its condition does not hold, or another branch was taken."""
        return self.status == "skipped" and self.error is None


def completed(output: Value = None) -> Outcome:
    """Give the outcome of work that ended well."""
    return Outcome("completed", output)


def failed(kind: FailureKind, message: str, exception: str | None = None, traceback: str | None = None) -> Outcome:
    """Give the outcome of work that failed."""
    return Outcome("failed", error=Failure(kind, message, exception, None, traceback))


CANCELLED = Outcome("cancelled", attempts=0)
"""What waited and will not run."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is on disk of a leaf that ended, found by its key."""

    fingerprint: str
    """What it did with what; three digests: ``code.parameters.waits``."""
    outcome: Outcome
