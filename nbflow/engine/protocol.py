"""What goes in and out of the machine, and what step kinds ask of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..events import Event
from ..model import Block, NodeId
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
class Hold:
    """Start nothing new until :class:`Continue`: somebody paused the run."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on after a hold."""


@dataclass(frozen=True, slots=True)
class Breath:
    """Comes out when more could be done at once; handed in again when the outside has been heard."""


Stimulus: TypeAlias = Begin | TaskEnded | TimerFired | Cancel | Hold | Continue | Breath

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


Command: TypeAlias = Event | Start | SetTimer | Interrupt | Breath | Finish

# -- between a kind and the machine -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """Run the task once; answered with :class:`Tried`."""

    parameters: dict[str, Value]


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
class Steps:
    """Run a list of steps; answered with :class:`Ended`."""

    block: Block


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


Effect: TypeAlias = Attempt | Again | Steps | Items
Answer: TypeAlias = Tried | Ended | None
Flow: TypeAlias = Generator[Effect, Answer, Outcome]
"""A step kind at work: yields what it wants done, is sent what came of it, returns its outcome."""


def attempt(parameters: dict[str, Value]) -> Generator[Effect, Answer, Tried]:
    """Run the task once."""
    answer = yield Attempt(parameters)
    assert isinstance(answer, Tried)
    return answer


def again(outcome: Outcome, delay: float) -> Generator[Effect, Answer, None]:
    """Record that the attempt failed, and wait."""
    yield Again(outcome, delay)


def steps(block: Block) -> Generator[Effect, Answer, Ended]:
    """Run a list of steps."""
    answer = yield Steps(block)
    assert isinstance(answer, Ended)
    return answer


def each(items: list[Value], window: int, warning: str) -> Generator[Effect, Answer, Ended]:
    """Run the body of a fan-out for each item."""
    answer = yield Items(items, window, warning)
    assert isinstance(answer, Ended)
    return answer
