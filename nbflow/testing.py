"""For tests, ours and those of plug-ins: steps that do what a test says, and runs without threads or clocks."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from .driver import work
from .engine.kinds import KINDS, Kind, task
from .engine.machine import Machine
from .engine.protocol import (
    Answered,
    Begin,
    Breath,
    Cancel,
    Command,
    Finish,
    Flow,
    Interrupt,
    SetTimer,
    Start,
    TaskEnded,
    TimerFired,
)
from .engine.recorded import Recorded
from .events import AttemptFailed, Event, GateAnswered, GateOpened, NodeFinished, NodeStarted, StepsOpened
from .model import Binding, Block, Literal, Name, Names, NodeId, Step, TaskStep, Workflow, node_text
from .outcome import Outcome, Record, completed
from .steps import FanOut
from .task import Context, Runner, Task
from .values import Value

__all__ = [
    "FakeStep",
    "ItemParameters",
    "PausingStep",
    "Simulated",
    "check_runner",
    "fan_out",
    "records",
    "simulate",
    "testing_kinds",
    "workflow",
]


@dataclass(frozen=True, kw_only=True)
class FakeStep(TaskStep):
    """A task that does what the test says; it has no files and no process."""

    kind: ClassVar[str] = "fake"

    parameters: Binding = field(default_factory=lambda: Literal({}))
    code: str = ""
    """Stands for its source: another code, another fingerprint."""

    @property
    def content(self) -> str:
        """Its code."""
        return self.code


@dataclass(frozen=True, kw_only=True)
class PausingStep(Step):
    """A step that waits for a person who is not there."""

    kind: ClassVar[str] = "pausing"


def _pause(step: PausingStep, names: Names) -> Flow:  # noqa: ARG001 - the shape of a kind
    yield from ()
    return Outcome("paused")


testing_kinds: Mapping[type[Step], Kind] = {**KINDS, FakeStep: task, PausingStep: _pause}
"""The built-in kinds and those of this module."""


def fan_out(items: Sequence[Value], step: Step | Sequence[Step] = (), *, id: str = "map", **keys: object) -> FanOut:  # noqa: A002
    """Give a fan-out over these items, by default of one :class:`FakeStep` that gets ``{"item": item}``.

    Examples
    --------
    >>> fan_out([1, 2], max_concurrency=Literal(2)).items
    Literal(value=[1, 2])
    """
    steps = [step] if isinstance(step, Step) else list(step)
    body = Block(steps or [FakeStep(id="item", parameters=ItemParameters())])
    return FanOut(id=id, items=Literal(list(items)), body=body, single=len(body.steps) == 1, **keys)  # type: ignore[arg-type]  # any key of a fan-out


@dataclass(frozen=True, slots=True)
class ItemParameters:
    """A binding that gives ``{"item": the item}``."""

    def resolve(self, names: Names) -> Value:
        """Give the mapping."""
        return {"item": Name("item").resolve(names)}


def workflow(*steps: Step, max_workers: int = 4) -> Workflow:
    """Give a workflow of these steps."""
    return Workflow(name="test", block=Block(steps), max_workers=max_workers)


@dataclass
class Simulated:
    """What came of a simulated run."""

    events: list[Event] = field(default_factory=list)
    """In order; a real run would journal them."""
    outcome: Outcome | None = None
    """How it ended; ``None`` if it was cut off."""
    started: list[Task] = field(default_factory=list)
    most_running: int = 0
    """Tasks in flight at most."""
    clock: float = 0.0
    """Seconds that passed on the manual clock."""

    def finished(self, node: str) -> Outcome:
        """Give how a node ended."""
        return next(e.outcome for e in self.events if isinstance(e, NodeFinished) and node_text(e.node) == node)


def simulate(
    flow: Workflow,
    answer: Callable[[Task], Outcome],
    *,
    choose: Callable[[int], int] = lambda count: 0,  # noqa: ARG005 - the first
    gates: Callable[[GateOpened], str | None] = lambda gate: None,  # noqa: ARG005 - nobody is there
    kinds: Mapping[type[Step], Kind] | None = None,
    recorded: Recorded | None = None,
    cut_after: int | None = None,
    cancel_after: int | None = None,
    max_workers: int | None = None,
) -> Simulated:
    """Run a workflow with values only: no thread, no file, no clock.

    Parameters
    ----------
    flow : Workflow
        What to run.
    answer : callable
        Gives how a task ends; called when it ends.
    choose : callable, optional
        Of so many tasks in flight, and gates that will be answered, gives the index of the one that ends next: any
        interleaving can be had.
    gates : callable, optional
        Gives the choice of a person, or ``None`` if nobody answers; called when a gate opens.
    kinds : mapping, optional
        The generator of each class of step; by default :data:`testing_kinds`.
    recorded : Recorded, optional
        What earlier epochs did.
    cut_after : int, optional
        Events after which the process dies: exactly so many are written.
    cancel_after : int, optional
        Ended tasks after which somebody cancels.

    Examples
    --------
    >>> done = simulate(workflow(fan_out([3, 5])), lambda task: Outcome("completed", task.parameters["item"]))
    >>> done.outcome.output["map"]["results"]
    [3, 5]
    """
    machine = Machine(flow, recorded, kinds=kinds or testing_kinds, max_workers=max_workers)
    run = Simulated()
    flying: list[Task | GateAnswered] = []
    left: list[NodeId] = []
    timers: list[tuple[float, int, SetTimer]] = []
    commands: list[Command] = machine.handle(Begin(), 0.0)
    ended = 0
    while True:
        breath = None
        for command in commands:
            match command:
                case Start(new):
                    flying.append(new)
                    run.started.append(new)
                    run.most_running = max(run.most_running, machine.running)
                case SetTimer():
                    heapq.heappush(timers, (run.clock + command.seconds, len(timers) + len(run.events), command))
                case Finish(outcome):
                    run.outcome = outcome
                case Breath():
                    breath = command
                case StepsOpened():
                    pass  # it is not journaled
                case Interrupt():
                    pass  # these tasks do not listen: they end as the test says
                case _:
                    if cut_after == len(run.events):
                        return run
                    run.events.append(command)
                    if isinstance(command, GateOpened):
                        choice = gates(command)
                        if choice is None:
                            left.append(command.node)
                        else:
                            about = (command.node, command.key, command.fingerprint, choice, "a test")
                            flying.append(GateAnswered(run.clock, *about))
        if run.outcome is not None:
            return run
        if breath is not None:
            commands = machine.handle(breath, run.clock)
        elif cancel_after is not None and ended == cancel_after:
            cancel_after = None
            commands = machine.handle(Cancel(), run.clock)
        elif flying:
            one = flying.pop(choose(len(flying)))
            if isinstance(one, GateAnswered):
                if cut_after == len(run.events):
                    return run
                run.events.append(one)
                commands = machine.handle(Answered(one.node, one.choice), run.clock)
            else:
                ended += 1
                commands = machine.handle(TaskEnded(one.node, answer(one)), run.clock)
        elif machine.stuck:
            commands = machine.handle(Answered(left.pop(0), None), run.clock)
        else:
            assert timers, "the machine waits for nothing and has not finished"
            run.clock, _, timer = heapq.heappop(timers)
            commands = machine.handle(TimerFired(timer), run.clock)


def records(*runs: Simulated) -> Recorded:
    """Give what these runs left behind, as the journal would tell it to the next epoch."""
    answers: dict[str, Record] = {}
    attempts: dict[str, int] = {}
    flying: set[tuple[int, str]] = set()
    for epoch, event in ((epoch, event) for epoch, run in enumerate(runs) for event in run.events):
        match event:
            case GateAnswered():
                answers[event.key] = Record(event.fingerprint, completed({"choice": event.choice}))
            case NodeStarted():
                flying.add((epoch, event.key))
                attempts[event.key] = attempts.get(event.key, 0) + 1
            case AttemptFailed():
                flying.discard((epoch, event.key))
            case NodeFinished(leaf=True, kept=False) if (
                event.outcome.status == "cancelled" and (epoch, event.key) in flying
            ):
                flying.discard((epoch, event.key))
                attempts[event.key] -= 1
            case NodeFinished(leaf=True, kept=False) if event.outcome.status in ("completed", "failed"):
                answers[event.key] = Record(event.fingerprint, event.outcome)
                attempts.pop(event.key, None)
            case _:
                pass
    return Recorded(answers, attempts)


def check_runner(runner: Runner, tasks: Sequence[Task], context: Callable[[Task], Context]) -> list[Outcome]:
    """Check that a runner keeps no state: all tasks at once end as they do one after the other.

    Parameters
    ----------
    runner : Runner
        The runner of a plug-in.
    tasks : sequence of Task
        At least two, with different parameters.
    context : callable
        Gives the context of a task.

    Returns
    -------
    list of Outcome
        In the order of the tasks.

    Raises
    ------
    AssertionError
        If an outcome differs, or the runner changed its own attributes.
    """
    before = dict(vars(runner)) if hasattr(runner, "__dict__") else {}
    alone = [work(runner, one, context(one)) for one in tasks]
    together: dict[NodeId, Outcome] = {}
    barrier = threading.Barrier(len(tasks))

    def at_once(one: Task) -> None:
        barrier.wait(timeout=30)
        together[one.node] = work(runner, one, context(one))

    threads = [threading.Thread(target=at_once, args=(one,)) for one in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, outcome in zip(tasks, alone, strict=True):
        same = together[one.node]
        assert (outcome.status, outcome.output) == (same.status, same.output), f"{node_text(one.node)} ended otherwise"
    after = dict(vars(runner)) if hasattr(runner, "__dict__") else {}
    assert before == after, "a runner is shared by all workers' threads and keeps no state"
    return alone
