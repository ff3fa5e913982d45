"""Plans: what a resume would do, asked of the machine without doing anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..events import Event, FanOutOpened, GateOpened, NodeFinished, StepsOpened
from ..model import Names, NodeId, Step, Workflow
from ..outcome import Outcome
from ..steps import GateStep
from ..task import Task
from .kinds import KINDS, Kind, gate
from .machine import Machine
from .protocol import Answered, Begin, Breath, Finish, Flow, Start, Stimulus, TaskEnded
from .recorded import Compared, Recorded, difference, equal_but_code

Reason: TypeAlias = Literal["never ran", "interrupted", "failed", "code", "parameters", "waits"]
"""Why a task would run; the last three: it finished, but what it does, its parameters, or what it waits for changed."""

WOULD_RUN = Outcome("pending", attempts=0)


@dataclass(frozen=True, slots=True)
class Planned:
    """A task that would run."""

    task: Task
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do: tasks that would run, and how the others are answered."""

    tasks: tuple[Planned, ...]
    events: tuple[Event, ...]
    """What would be told at once: items, and nodes answered from the record."""
    outcome: Outcome

    @property
    def kept(self) -> tuple[NodeFinished, ...]:
        """The tasks that are answered from the record, or left out."""
        return tuple(
            event for event in self.events if isinstance(event, NodeFinished) and event.kept and not _waits(event)
        )

    @property
    def waiting(self) -> tuple[NodeFinished, ...]:
        """The steps, at any depth, of which nothing is known before what they wait for has run; it is their error."""
        return tuple(event for event in self.events if isinstance(event, NodeFinished) and _waits(event))

    @property
    def gates(self) -> tuple[GateOpened, ...]:
        """The gates that would wait for a person."""
        return tuple(event for event in self.events if isinstance(event, GateOpened))

    @property
    def total(self) -> int:
        """How many items are known of."""
        return sum(event.total for event in self.events if isinstance(event, FanOutOpened))


def _waits(event: NodeFinished) -> bool:
    error = event.outcome.error
    return event.outcome.status == "pending" and error is not None and error.node is None


def plan(workflow: Workflow, recorded: Recorded, kinds: Mapping[type[Step], Kind] = KINDS) -> Plan:
    """Give what a run of this workflow with these records would do."""
    machine = Machine(workflow, recorded, kinds={**kinds, GateStep: _asked}, max_workers=1)
    stimuli: deque[Stimulus] = deque([Begin()])
    tasks: list[Planned] = []
    events: list[Event] = []
    asked: set[NodeId] = set()
    outcome = WOULD_RUN
    while stimuli:
        for command in machine.handle(stimuli.popleft(), 0.0):
            match command:
                case Start(task):
                    tasks.append(Planned(task, why(task, recorded)))
                    stimuli.append(TaskEnded(task.node, WOULD_RUN))
                case Breath():
                    stimuli.append(command)
                case Finish(outcome):
                    pass
                case GateOpened():
                    asked.add(command.node)
                    events.append(command)
                    stimuli.append(Answered(command.node, None))
                case NodeFinished(leaf=True) if command.node in asked and command.outcome.status == "pending":
                    events.append(replace(command, outcome=replace(command.outcome, status="paused")))
                case NodeFinished() | FanOutOpened() | StepsOpened():
                    events.append(command)
                case _:
                    pass  # nothing was started, so there is nothing to time or to stop
    return Plan(tuple(tasks), tuple(events), outcome)


def _asked(step: GateStep, names: Names) -> Flow:
    """Leave open what a person would say, and go on with what does not wait for it."""
    outcome = yield from gate(step, names)
    return replace(outcome, status="pending") if outcome.status == "paused" else outcome


def why(task: Task, recorded: Recorded) -> Reason:
    """Give why a task is not answered from the record."""
    record = recorded.answers.get(task.key)
    if record is None:
        return "interrupted" if recorded.attempts.get(task.key) or task.key in recorded.begun else "never ran"
    if record.outcome.status != "completed":
        return "failed" if record.outcome.status == "failed" else "interrupted"
    return difference(record.fingerprint, task.fingerprint) or "never ran"


@dataclass(frozen=True, slots=True)
class Repeated:
    """Finished work that an edit would repeat."""

    changed: Mapping[str, NodeId]
    """The tasks that do something else now, by their keys."""
    behind: int = 0
    """How many tasks and answers besides wait for these."""


def repeated(
    found: Plan, now: Workflow, kept: Workflow, recorded: Recorded, kinds: Mapping[type[Step], Kind] = KINDS
) -> Repeated:
    """Give what would be repeated although a person may want it kept.

    Parameters
    ----------
    found : Plan
        What would be done.
    now : Workflow
        What to do.
    kept : Workflow
        The same with the values that hold if what finished is kept.
    recorded : Recorded
        What earlier epochs did.
    """
    if not found.gates and all(one.reason not in ("code", "parameters") for one in found.tasks):
        return Repeated({})
    stays = {event.key for event in found.kept}
    lost = [e for e in plan(kept, replace(recorded, same=equal_but_code), kinds).kept if e.key not in stays]
    compared = Compared(recorded.answers, statuses=recorded.statuses)
    plan(now, compared, kinds)
    changed = {event.key: event.node for event in lost if event.key in compared.differing}
    return Repeated(changed, len(lost) - len(changed))
