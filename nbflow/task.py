"""Tasks: what a runner is given, and what it may use while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from .events import TaskEvent
from .model import NodeId, TaskStep
from .outcome import Outcome
from .types import StopReason
from .values import Value, located


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt at one leaf node."""

    node: NodeId
    key: str
    """Who the node is, by values: the same over resumes."""
    step: TaskStep
    parameters: dict[str, Value]
    """Names and values, resolved; a :class:`~nbflow.values.File` in them has its whole path when a runner gets it."""
    attempt: int
    """Counted from 1, over crashes and resumes."""
    label: str
    """What people call it: ``city=Cairo``; the step's id outside of fan-outs."""
    index: int | None
    """The item's index from 0; ``None`` outside of fan-outs."""
    fingerprint: str
    """What it does, with what: ``code.parameters.waits``, three digests."""
    environment: dict[str, Value] = field(default_factory=dict)
    """Variables for its process; null takes one away."""
    given: dict[str, Value] = field(default_factory=dict)
    """What earlier steps left for it that its fingerprint knows by theirs; files are relative to the run folder."""

    def at(self, folder: Path) -> Task:
        """Give the task as its runner gets it: files of the run have whole paths, which no fingerprint knows.

        Parameters
        ----------
        folder : Path
            The run folder.
        """
        given, variables = located(self.parameters, str(folder)), located(self.environment, str(folder))
        return replace(self, parameters=given, environment=variables)


@dataclass(frozen=True, slots=True)
class Places:
    """Where one attempt writes; absolute paths, free when it starts, none of them made yet."""

    folder: Path
    """The run folder: paths in outcomes are relative to it."""
    notebook: Path
    """The executed notebook of a task that completed."""
    failed: Path
    """The executed notebook of one that did not."""
    log: Path
    """stdout, stderr and the kernel's own stderr, written live."""
    artifacts: Path
    """Folder for values too large for the journal, and for frames and arrays."""
    item: Path
    """Folder of the item's own (``NBFLOW_ITEM_DIR``, ``--cwd item``)."""


class Stop(Protocol):
    """Tells a runner that it should stop: first by interrupt, then by kill."""

    @property
    def reason(self) -> StopReason | None:
        """Why, or ``None`` while nobody asked."""
        ...

    @property
    def kill(self) -> bool:
        """Whether there is no more time for an interrupt."""
        ...

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the callback called from another thread at each change, at once if there was one.

        Gives the function that ends it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the driver lends to a runner for one task."""

    places: Places
    stop: Stop
    tell: Callable[[TaskEvent], None]
    """Reports what happens inside; from any thread, never blocks."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables for the task's process that count where neither our environment nor the task's has them."""
    began: Callable[[int], None] = lambda _pid: None
    """Tells the id of the process that does the work, so that its memory is counted; from any thread, never blocks."""


class Runner(Protocol):
    """Runs one kind of task. Shared by all workers' threads, so it keeps no state."""

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Do the work of one attempt; an exception is a failure of kind ``error`` with its traceback."""
        ...
