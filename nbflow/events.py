"""Events: facts about a run, in the order in which they became true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .model import NodeId
from .outcome import Failure, Outcome
from .types import RunStatus, Status
from .values import Value


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began, or was taken up again."""

    at: float
    """Seconds since 1970, as in all events."""
    run_id: str
    name: str
    """The notebook or workflow file, as people call it."""
    epoch: int
    """1 at the start, one more with each resume."""
    inputs: Value
    """The values that all tasks share."""
    max_workers: int
    """Tasks in flight at most."""
    forgets: tuple[str, ...] = ()
    """Keys of tasks whose records somebody did not want any more; ``*`` is all of them."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long items took in an earlier run, by key: the order in which ``longest-first`` starts them."""


@dataclass(frozen=True, slots=True)
class FanOutOpened:
    """A fan-out knows its items."""

    at: float
    node: NodeId
    total: int
    """How many items."""


@dataclass(frozen=True, slots=True)
class StepsOpened:
    """Tasks are known of that no fan-out counts as its items; told, and not journaled."""

    at: float
    node: NodeId
    total: int
    """How many more."""


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A task began an attempt."""

    at: float
    node: NodeId
    key: str
    attempt: int
    label: str
    """What people call it: ``city=Cairo``; in a workflow ``fit city=Cairo``."""
    index: int | None
    """The item's index from 0; ``None`` outside of fan-outs."""
    items: tuple[Value, ...] = ()
    """The items in which it stands, from the outermost; not journaled."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed, and there will be another."""

    at: float
    node: NodeId
    key: str
    attempt: int
    outcome: Outcome
    delay: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A node ended."""

    at: float
    node: NodeId
    key: str
    fingerprint: str
    """Of tasks; empty for containers, which are always computed again."""
    outcome: Outcome
    label: str
    index: int | None
    leaf: bool = True
    """Whether it is a task (or a gate), not a container."""
    kept: bool = False
    """Answered from the record of an earlier epoch; not journaled again."""
    items: tuple[Value, ...] = ()
    """The items in which it stands, from the outermost; not journaled."""

    @property
    def failed_itself(self) -> bool:
        """Whether it failed, and not only because something in it did."""
        error = self.outcome.error
        return self.outcome.status == "failed" and (self.leaf or (error is not None and error.node is None))


@dataclass(frozen=True, slots=True)
class GateOpened:
    """A gate waits for a person."""

    at: float
    node: NodeId
    key: str
    fingerprint: str
    """What it is asked about: an answer holds for this alone."""
    message: str
    options: tuple[str, ...]
    """The answers, by name."""
    show: str | None
    """A file to be judged, relative to the workflow's folder."""
    label: str
    index: int | None
    items: tuple[Value, ...] = ()
    """The items in which it stands, from the outermost; not journaled."""


@dataclass(frozen=True, slots=True)
class GateAnswered:
    """A person answered a gate."""

    at: float
    node: NodeId
    key: str
    fingerprint: str
    choice: str
    """Name of the option."""
    by: str
    """Who, and by what means."""


@dataclass(frozen=True, slots=True)
class CellStarted:
    """A code cell began."""

    at: float
    node: NodeId
    cell: int
    """Its place among the code cells, from 1."""
    cells: int
    """The place of the last one that will run."""
    heading: str
    """The nearest heading above it, or its first comment; may be empty."""


@dataclass(frozen=True, slots=True)
class CellFinished:
    """A code cell ended."""

    at: float
    node: NodeId
    cell: int
    status: Status
    seconds: float


@dataclass(frozen=True, slots=True)
class Printed:
    """A task printed; reporters show the last line."""

    at: float
    node: NodeId
    line: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar that a task shows: tqdm's, or a widget."""

    text: str
    """What stands beside it: ``epochs``, ``12/40 [00:03<00:07]``."""
    done: float
    total: float
    """How much there is; 0 where nobody knows."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The progress bars that a task shows now, the newest last; told, and not journaled."""

    at: float
    node: NodeId
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class RunHeld:
    """Somebody paused the run, or had it go on."""

    at: float
    held: bool
    """Whether nothing new starts."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should know although nothing failed."""

    at: float
    node: NodeId | None
    message: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A working of the run ended."""

    at: float
    status: RunStatus
    error: Failure | None = None
    """What decided, where one thing did."""
    reason: str = ""
    """Why it was interrupted: ``cancelled``, ``Ctrl-C``, ``SIGTERM``, ``disk full``, or empty."""


Event: TypeAlias = (
    RunStarted
    | FanOutOpened
    | StepsOpened
    | NodeStarted
    | AttemptFailed
    | NodeFinished
    | GateOpened
    | GateAnswered
    | CellStarted
    | CellFinished
    | Printed
    | Moved
    | Warned
    | RunHeld
    | RunFinished
)
"""Everything that ``on_event=`` and reporters are told."""

TaskEvent: TypeAlias = CellStarted | CellFinished | Printed | Moved | Warned
"""What a runner reports; never journaled, except warnings."""
