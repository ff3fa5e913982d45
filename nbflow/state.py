"""What a run's events add up to: progress for people, and the nodes that ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .events import (
    AttemptFailed,
    Bar,
    CellFinished,
    CellStarted,
    Event,
    FanOutOpened,
    GateAnswered,
    GateOpened,
    Moved,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunHeld,
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
    bars: tuple[Bar, ...] = ()
    """The progress bars that it shows."""


@dataclass(slots=True)
class Pace:
    """How long the tasks of one step take."""

    count: int = 0
    """Tasks that ended."""
    seconds: float = 0.0
    """Their seconds of work."""

    def mean(self, running: Sequence[float]) -> float:
        """Give the seconds of one task; with those at work that took longer already than the ones that ended."""
        longer = [each for each in running if each * self.count > self.seconds]
        return (self.seconds + sum(longer)) / (self.count + len(longer))


def step_path(node: NodeId) -> str:
    """Give which step a node is an instance of: its id without items and turns.

    Examples
    --------
    >>> step_path(("train:fit:3",)), step_path(("train:fit:3", "score"))
    ('train:fit', 'train:fit/score')
    """
    return "/".join(":".join([part.partition(":")[0], *part.split(":")[1::2]]) for part in node)


def root_of(node: NodeId) -> str:
    """Give the id of the step of the outermost list in which a node stands; empty for the run itself."""
    return node[0].partition(":")[0] if node else ""


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
    held: bool = False
    """Whether somebody paused it: what runs goes on, and nothing new starts."""
    error: Failure | None = None
    total: int = 0
    """Tasks that are known of, without those that nobody wants: in branches not taken, and where ``when`` says no."""
    counts: Counter[Status] = field(default_factory=Counter)
    """Ended tasks by status; ``skipped`` are those that wait for one that did not complete."""
    kept: int = 0
    """Completed tasks answered from an earlier epoch."""
    paces: dict[str, Pace] = field(default_factory=dict)
    """How long the tasks of each step took that ended in this epoch."""
    totals: Counter[str] = field(default_factory=Counter)
    """Tasks that are known of, by the step of the outermost list in which they stand."""
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
        """Estimate the seconds left; ``None`` while there is nothing to go by.

        A task at work takes as long as those of its step that ended in this epoch, one that waits as long as those at
        work: what a step of another kind took says nothing. One that took longer already than the others counts with
        that; when only such are left, nobody knows how long they take.
        """
        took: dict[str, list[float]] = {}
        for task in self.active.values():
            took.setdefault(step_path(task.node), []).append(now - task.started)
        if not took or not self.total or any(step not in self.paces for step in took):
            return None
        means = {step: self.paces[step].mean(seconds) for step, seconds in took.items()}
        rests = [max(0.0, means[step] - each) for step, seconds in took.items() for each in seconds]
        mean = sum(means[step] * len(seconds) for step, seconds in took.items()) / len(rests)
        workers = min(self.max_workers, self.waiting + len(rests))  # the others have nothing left to do
        return max([*rests, (self.waiting * mean + sum(rests)) / max(1, workers)]) or None

    def copy(self) -> Progress:
        """Give the same, of which nothing is shared with what goes on."""
        return replace(
            self,
            counts=Counter(self.counts),
            paces={step: replace(pace) for step, pace in self.paces.items()},
            totals=Counter(self.totals),
            active={node: replace(task) for node, task in self.active.items()},
            gates=dict(self.gates),
            failures=list(self.failures),
            warnings=list(self.warnings),
        )

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
                    task.bars = ()
            case Printed():
                if task := self.active.get(event.node):
                    task.line = event.line
            case Moved():
                if task := self.active.get(event.node):
                    task.bars = event.bars
            case RunHeld():
                self.held = event.held
            case Warned():
                self.warnings.append(event)
            case FanOutOpened() | StepsOpened():
                self.total += event.total
                self.totals[root_of(event.node)] += event.total
            case RunStarted():
                self.run_id, self.name, self.status, self.epoch = (
                    event.run_id,
                    event.name,
                    "running",
                    event.epoch,
                )
                self.inputs, self.max_workers, self.started = event.inputs, event.max_workers, event.at
                self.finished, self.reason, self.error, self.held = None, "", None, False
                self.total, self.kept = 0, 0
                for collected in (self.counts, self.active, self.gates, self.failures, self.warnings):
                    collected.clear()
                self.paces.clear()
                self.totals.clear()
            case RunFinished():
                self.status, self.finished, self.reason, self.error = (
                    event.status,
                    event.at,
                    event.reason,
                    event.error,
                )
                self.held = False
                self.active.clear()
            case NodeFinished() | CellFinished():
                pass  # a container's end and a cell's end move nothing here

    def _finished(self, event: NodeFinished) -> None:
        self.active.pop(event.node, None)
        if event.outcome.status != "paused":
            self.gates.pop(event.node, None)
        if event.outcome.status == "pending":
            return  # it was left out, and waits on
        if event.outcome.passed_over:
            self.total -= 1
            self.totals[root_of(event.node)] -= 1
            return
        self.counts[event.outcome.status] += 1
        if event.kept:
            self.kept += 1
        else:
            self.took(event)
        if event.outcome.status == "failed":
            self.failures.append(event)

    def take_back(self, event: NodeFinished) -> None:
        """Forget that a task ended so: a newer start of the run says otherwise."""
        if event.outcome.passed_over:
            self.total += 1
            self.totals[root_of(event.node)] += 1
            return
        self.counts[event.outcome.status] -= 1
        self.kept -= event.kept
        self.failures = [other for other in self.failures if other.node != event.node]

    def took(self, event: NodeFinished) -> None:
        """Learn how long a task of this epoch took; one that did nothing, or was cut off, tells nothing."""
        if event.outcome.attempts and event.outcome.status in ("completed", "failed"):
            pace = self.paces.setdefault(step_path(event.node), Pace())
            pace.count += 1
            pace.seconds += event.outcome.seconds


@dataclass(slots=True)
class RunState:
    """All that the events of the newest epoch say: its progress, and how each node ended."""

    progress: Progress = field(default_factory=Progress)
    nodes: dict[NodeId, NodeFinished] = field(default_factory=dict)
    """The nodes that ended, each with its outcome, index and label."""
    fans: dict[NodeId, int] = field(default_factory=dict)
    """How many items each fan-out has that was opened."""

    def copy(self) -> RunState:
        """Give the same, of which nothing is shared with what goes on."""
        return RunState(self.progress.copy(), dict(self.nodes), dict(self.fans))

    def apply(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case RunStarted():
                self.nodes.clear()
                self.fans.clear()
            case FanOutOpened():
                self.fans[event.node] = event.total
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
