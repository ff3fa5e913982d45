"""Plans: what a resume would do, asked of the machine without doing anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..events import Event, FanOutOpened, GateOpened, NodeFinished, StepsOpened
from ..model import Step, Workflow
from ..outcome import Outcome
from ..task import Task
from .kinds import KINDS, Kind
from .machine import Machine
from .protocol import Answered, Begin, Breath, Finish, Start, Stimulus, TaskEnded
from .recorded import Recorded

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
        """The tasks that are answered from the record."""
        return tuple(event for event in self.events if isinstance(event, NodeFinished) and event.kept)

    @property
    def gates(self) -> tuple[GateOpened, ...]:
        """The gates that would wait for a person."""
        return tuple(event for event in self.events if isinstance(event, GateOpened))

    @property
    def total(self) -> int:
        """How many items are known of."""
        return sum(event.total for event in self.events if isinstance(event, FanOutOpened))


def plan(workflow: Workflow, recorded: Recorded, kinds: Mapping[type[Step], Kind] = KINDS) -> Plan:
    """Give what a run of this workflow with these records would do."""
    machine = Machine(workflow, recorded, kinds=kinds, max_workers=1)
    stimuli: deque[Stimulus] = deque([Begin()])
    tasks: list[Planned] = []
    events: list[Event] = []
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
                    events.append(command)
                    stimuli.append(Answered(command.node, None))
                case NodeFinished() | FanOutOpened() | StepsOpened():
                    events.append(command)
                case _:
                    pass  # nothing was started, so there is nothing to time or to stop
    return Plan(tuple(tasks), tuple(events), outcome)


def why(task: Task, recorded: Recorded) -> Reason:
    """Give why a task is not answered from the record."""
    record = recorded.answers.get(task.key)
    if record is None:
        return "interrupted" if recorded.attempts.get(task.key) or task.key in recorded.begun else "never ran"
    if record.outcome.status != "completed":
        return "failed" if record.outcome.status == "failed" else "interrupted"
    work, parameters, waits = record.fingerprint.split(".")
    now_work, now_parameters, now_waits = task.fingerprint.split(".")
    if "-" in now_work and "-" not in work:  # recorded before what files say counted as code
        return "waits" if waits != now_waits else "parameters" if now_work.startswith(work) else "code"
    if parameters != now_parameters:
        return "parameters"  # just asked for, so it needs no question, whatever else changed
    return "waits" if waits != now_waits else "code" if work != now_work else "never ran"
