"""What a run's events add up to: progress for people, and the nodes that ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .events import (
    AttemptFailed,
    CellFinished,
    CellStarted,
    Event,
    FanOutOpened,
    GateAnswered,
    GateOpened,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunStarted,
    StepsOpened,
    Warned,
)
from .model import NodeId
from .outcome import Failure
from .types import RunStatus, Status
from .values import Value


@dataclass(slots=True)
class Active:
    """A task at work."""

    node: NodeId
    label: str
    index: int | None
    attempt: int
    started: float
    """Seconds since 1970."""
    cell: int = 0
    """The code cell at work, from 1; 0 before the first."""
    cells: int = 0
    """How many code cells there are; 0 where that is not known."""
    heading: str = ""
    line: str = ""
    """The last line it printed."""
    items: tuple[Value, ...] = ()
    """The items in which it stands, from the outermost."""


@dataclass(slots=True)
class Progress:
    """How far a run is: small whatever the number of items, so that pictures are cheap."""

    run_id: str = ""
    name: str = ""
    status: RunStatus = "created"
    epoch: int = 0
    inputs: Value = None
    max_workers: int = 0
    started: float = 0.0
    """When this epoch began, in seconds since 1970."""
    finished: float | None = None
    reason: str = ""
    """Why it was interrupted."""
    error: Failure | None = None
    total: int = 0
    """Tasks that are known of."""
    counts: Counter[Status] = field(default_factory=Counter)
    """Ended tasks by status."""
    kept: int = 0
    """Completed tasks answered from an earlier epoch."""
    worked: float = 0.0
    """Seconds of work of the tasks that ended in this epoch."""
    cut_off: int = 0
    """Tasks that had begun and did not come to their end, of a run that nobody works at."""
    active: dict[NodeId, Active] = field(default_factory=dict)
    """Tasks at work, in the order in which they began."""
    gates: dict[NodeId, GateOpened] = field(default_factory=dict)
    """Gates that wait for a person, in the order in which they opened."""
    failures: list[NodeFinished] = field(default_factory=list)
    """Failed tasks, and containers that failed themselves, in the order in which they ended."""
    warnings: list[Warned] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """How many tasks ended."""
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        """How many known tasks have not begun."""
        return max(0, self.total - self.ended - len(self.active))

    def remaining(self, now: float) -> float | None:
        """Estimate the seconds left from the tasks of this epoch; ``None`` while there is nothing to go by."""
        done = self.ended - self.kept
        if done <= 0 or not self.total:
            return None
        mean = self.worked / done
        rests = [max(0.0, mean - (now - task.started)) for task in self.active.values()]
        workers = min(self.max_workers, self.waiting + len(rests))  # the others have nothing left to do
        return max([*rests, (self.waiting * mean + sum(rests)) / max(1, workers)])

    def apply(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case NodeStarted():
                called = (event.label, event.index, event.attempt, event.at)
                self.active[event.node] = Active(event.node, *called, items=event.items)
            case NodeFinished(leaf=True):
                self._finished(event)
            case NodeFinished() if event.failed_itself:  # then it counts like a task
                self.total += 1
                self.counts["failed"] += 1
                self.failures.append(event)
            case GateOpened():
                self.gates[event.node] = event
            case GateAnswered():
                self.gates.pop(event.node, None)
            case AttemptFailed():
                self.active.pop(event.node, None)
            case CellStarted():
                if task := self.active.get(event.node):
                    task.cell, task.cells, task.heading, task.line = event.cell, event.cells, event.heading, ""
            case Printed():
                if task := self.active.get(event.node):
                    task.line = event.line
            case Warned():
                self.warnings.append(event)
            case FanOutOpened() | StepsOpened():
                self.total += event.total
            case RunStarted():
                self.run_id, self.name, self.status, self.epoch = (
                    event.run_id,
                    event.name,
                    "running",
                    event.epoch,
                )
                self.inputs, self.max_workers, self.started = event.inputs, event.max_workers, event.at
                self.finished, self.reason, self.error = None, "", None
                self.total, self.kept, self.worked = 0, 0, 0.0
                for collected in (self.counts, self.active, self.gates, self.failures, self.warnings):
                    collected.clear()
            case RunFinished():
                self.status, self.finished, self.reason, self.error = (
                    event.status,
                    event.at,
                    event.reason,
                    event.error,
                )
                self.active.clear()
            case NodeFinished() | CellFinished():
                pass  # a container's end and a cell's end move nothing here

    def _finished(self, event: NodeFinished) -> None:
        self.active.pop(event.node, None)
        if event.outcome.status != "paused":
            self.gates.pop(event.node, None)
        if event.outcome.status == "pending":
            return  # it was left out, and waits on
        self.counts[event.outcome.status] += 1
        if event.kept:
            self.kept += 1
        else:
            self.worked += event.outcome.seconds
        if event.outcome.status == "failed":
            self.failures.append(event)


@dataclass(slots=True)
class RunState:
    """All that the events of the newest epoch say: its progress, and how each node ended."""

    progress: Progress = field(default_factory=Progress)
    nodes: dict[NodeId, NodeFinished] = field(default_factory=dict)
    """The nodes that ended, each with its outcome, index and label."""

    def apply(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case RunStarted():
                self.nodes.clear()
            case NodeFinished():
                task = self.progress.active.get(event.node)
                if task is not None and not event.label:  # the journal tells label and index once, at the start
                    event = replace(event, label=task.label, index=task.index)
                self.nodes[event.node] = event if event.index is None else replace(event, at=0.0)
            case _:
                pass
        self.progress.apply(event)


def fold(events: Iterable[Event]) -> RunState:
    """Give the state that events add up to."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state
