"""What goes in and out of the machine, and what step kinds ask of it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..events import Event
from ..model import Block, Names, NodeId
from ..outcome import Outcome
from ..task import Task
from ..types import Status, StopReason
from ..values import Value

# -- in ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin, or go on."""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """An attempt at a task ended."""

    node: NodeId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of a timer has come."""

    timer: SetTimer


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants the run to end: nothing new starts, what runs is interrupted."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A person chose an option of a gate, or nobody will: ``None``."""

    node: NodeId
    choice: str | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Start nothing new until :class:`Continue`: somebody paused the run."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on after a hold."""


@dataclass(frozen=True, slots=True)
class Breath:
    """Comes out when more could be done at once; handed in again when the outside has been heard."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How memory stands: the answer to :class:`Measure`, or news while a start is held back."""

    used: Mapping[NodeId, int]
    """Bytes that the processes of running tasks use."""
    room: int
    """Bytes that there are for all tasks together."""


Stimulus: TypeAlias = Begin | TaskEnded | TimerFired | Answered | Cancel | Hold | Continue | Breath | Measured

# -- out --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Give this task to a worker."""

    task: Task


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Say so when this time has passed."""

    node: NodeId
    what: Literal["retry", "timeout"]
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ask the tasks of these nodes to stop."""

    nodes: tuple[NodeId, ...]
    reason: StopReason


@dataclass(frozen=True, slots=True)
class Finish:
    """All is done."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Measure:
    """Say how memory stands: a task could start if there is room for it."""


Command: TypeAlias = Event | Start | SetTimer | Interrupt | Breath | Finish | Measure

# -- between a kind and the machine -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """Run the task once; answered with :class:`Tried`."""

    parameters: dict[str, Value]
    environment: dict[str, Value] = field(default_factory=dict)
    given: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tried:
    """How an attempt ended."""

    outcome: Outcome
    number: int
    """Of the attempt, from 1, over crashes and resumes."""
    left: int
    """How many attempts the step's policy still allows."""
    key: str
    """Who the node is."""


@dataclass(frozen=True, slots=True)
class Again:
    """Record that the attempt failed, and come back after a delay."""

    outcome: Outcome
    delay: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a person; answered with :class:`Chosen`."""

    message: str
    options: tuple[str, ...]
    show: str | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a person chose; ``None``: nobody answers now."""

    choice: str | None


@dataclass(frozen=True, slots=True)
class Skip:
    """Record that the steps of a list are skipped."""

    block: Block


@dataclass(frozen=True, slots=True)
class Steps:
    """Run a list of steps; answered with :class:`Ended`."""

    block: Block
    names: Names | None = None
    """What the list sees; by default what its step does."""
    turn: int | None = None
    """Which turn of a loop it is, from 0."""


@dataclass(frozen=True, slots=True)
class Items:
    """Run the body of a fan-out for each item; answered with :class:`Ended`."""

    items: list[Value]
    window: int
    """Items in flight at most."""
    warning: str = ""
    """What a person should know about how the window was told."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a group ended."""

    status: Status
    """``completed``, or that of the place that decided."""
    outcomes: Sequence[Outcome]
    """In order, of the places up to the one that decided."""
    decided: int | None
    """The place that halted the group."""


Effect: TypeAlias = Attempt | Again | Ask | Skip | Steps | Items
Answer: TypeAlias = Tried | Chosen | Ended | None
Flow: TypeAlias = Generator[Effect, Answer, Outcome]
"""A step kind at work: yields what it wants done, is sent what came of it, returns its outcome."""


def attempt(
    parameters: dict[str, Value], environment: dict[str, Value], given: dict[str, Value]
) -> Generator[Effect, Answer, Tried]:
    """Run the task once."""
    answer = yield Attempt(parameters, environment, given)
    assert isinstance(answer, Tried)
    return answer


def again(outcome: Outcome, delay: float) -> Generator[Effect, Answer, None]:
    """Record that the attempt failed, and wait."""
    yield Again(outcome, delay)


def ask(message: str, options: tuple[str, ...], show: str | None) -> Generator[Effect, Answer, str | None]:
    """Ask a person."""
    answer = yield Ask(message, options, show)
    assert isinstance(answer, Chosen)
    return answer.choice


def skip(*blocks: Block) -> Generator[Effect, Answer, None]:
    """Record that the steps of these lists are skipped."""
    for block in blocks:
        yield Skip(block)


def steps(block: Block, names: Names | None = None, turn: int | None = None) -> Generator[Effect, Answer, Ended]:
    """Run a list of steps."""
    answer = yield Steps(block, names, turn)
    assert isinstance(answer, Ended)
    return answer


def each(items: list[Value], window: int, warning: str) -> Generator[Effect, Answer, Ended]:
    """Run the body of a fan-out for each item."""
    answer = yield Items(items, window, warning)
    assert isinstance(answer, Ended)
    return answer
