"""For tests, ours and those of plug-ins: steps that do what a test says, and runs without threads or clocks."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ClassVar

from .driver import NotAnOutcomeError, output_of, work
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
    Measure,
    Measured,
    SetTimer,
    Start,
    TaskEnded,
    TimerFired,
)
from .engine.recorded import Recorded
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
from .model import Binding, Block, Literal, Name, Names, NodeId, Step, TaskStep, Workflow, node_text
from .outcome import Outcome, failed
from .reporters.audience import Reporter
from .steps import FanOut
from .store import journal
from .task import Context, Runner, Task
from .types import StopReason
from .values import Value

__all__ = [
    "FakeStep",
    "ItemParameters",
    "PausingStep",
    "Simulated",
    "check_executor",
    "check_reporter",
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
    looks: list[int] = field(default_factory=list)
    """Each time that memory was measured: how many events there were by then."""

    def finished(self, node: str) -> Outcome:
        """Give how a node ended."""
        return next(e.outcome for e in self.events if isinstance(e, NodeFinished) and node_text(e.node) == node)


def simulate(
    flow: Workflow,
    answer: Callable[[Task], Outcome | None],
    *,
    choose: Callable[[int], int] = lambda count: 0,  # noqa: ARG005 - the first
    person: Callable[[GateOpened], str | None] = lambda gate: None,  # noqa: ARG005 - nobody is there
    recorded: Recorded | None = None,
    kinds: Mapping[type[Step], Kind] = testing_kinds,
    cut_after: int | None = None,
    cancel_after: int | None = None,
    max_workers: int | None = None,
    measure: Callable[[Sequence[Task]], tuple[Mapping[NodeId, int], int]] | None = None,
) -> Simulated:
    """Run a workflow with values only: no thread, no file, no clock.

    Parameters
    ----------
    flow : Workflow
        What to run.
    answer : callable
        Gives how a task ends; called when it ends. ``None``: it hangs until it is interrupted.
    choose : callable, optional
        Of so many tasks in flight, and questions with an answer, gives the index of the one that ends next: any
        interleaving can be had.
    person : callable, optional
        Gives the option that is chosen at a gate; called when it opens. ``None``: nobody answers it.
    recorded : Recorded, optional
        What earlier epochs did.
    kinds : mapping, optional
        The generators of the kinds in it; by default :data:`testing_kinds`.
    cut_after : int, optional
        Events after which the process dies: exactly so many are written.
    cancel_after : int, optional
        Ended tasks after which somebody cancels.
    measure : callable, optional
        Gives the bytes that each of the tasks at work uses, and those that there are for all of them together, which
        is a limit then. Without it there is always room.

    Examples
    --------
    >>> done = simulate(workflow(fan_out([3, 5])), lambda task: Outcome("completed", task.parameters["item"]))
    >>> done.outcome.output["map"]["results"]
    [3, 5]
    """
    limited = measure is not None
    machine = Machine(flow, recorded, kinds=kinds, max_workers=max_workers, limited=limited)
    return _Simulation(machine, answer, person, cut_after, measure or _always_room).run(choose, cancel_after)


def _always_room(tasks: Sequence[Task]) -> tuple[Mapping[NodeId, int], int]:  # noqa: ARG001 - there is
    return {}, 2**63


@dataclass
class _Simulation:
    """A run at work."""

    machine: Machine
    answer: Callable[[Task], Outcome | None]
    person: Callable[[GateOpened], str | None]
    cut_after: int | None
    measure: Callable[[Sequence[Task]], tuple[Mapping[NodeId, int], int]]
    told: Simulated = field(default_factory=Simulated)
    flying: list[Task] = field(default_factory=list)
    chosen: list[tuple[GateOpened, str]] = field(default_factory=list)
    """Gates whose answer is on its way."""
    gates: dict[NodeId, GateOpened] = field(default_factory=dict)
    """Gates that are open."""
    hanging: dict[NodeId, Task] = field(default_factory=dict)
    stopped: dict[NodeId, Outcome] = field(default_factory=dict)
    """How the hanging tasks end that were interrupted."""
    timers: list[tuple[float, int, SetTimer]] = field(default_factory=list)
    ended: int = 0
    breath: Breath | None = None
    measuring: bool = False
    cut: bool = False

    def run(self, choose: Callable[[int], int], cancel_after: int | None) -> Simulated:
        """Move it to its end, or to where it is cut off."""
        commands: list[Command] = self.machine.handle(Begin(), 0.0)
        while True:
            for command in commands:
                if not self.cut:
                    self._obey(command)
            if self.cut or self.told.outcome is not None:
                return self.told
            if self.breath is not None:
                stimulus: Breath | Cancel | Measured | None = self.breath
                self.breath = None
            elif self.measuring:
                self.measuring = False
                self.told.looks.append(len(self.told.events))
                stimulus = Measured(*self.measure([*self.flying, *self.hanging.values()]))
            elif cancel_after is not None and self.ended == cancel_after:
                cancel_after, stimulus = None, Cancel()
            else:
                stimulus = None
            commands = self.machine.handle(stimulus, self.told.clock) if stimulus is not None else self._next(choose)

    def _obey(self, command: Command) -> None:
        run = self.told
        match command:
            case Start(new):
                self.flying.append(new)
                run.started.append(new)
                run.most_running = max(run.most_running, len(self.flying) + len(self.hanging))
            case SetTimer():
                due = run.clock + command.seconds
                heapq.heappush(self.timers, (due, len(self.timers) + len(run.events), command))
            case Finish(outcome):
                run.outcome = outcome
            case Breath():
                self.breath = command
            case Measure():
                self.measuring = True
            case StepsOpened():
                pass  # it is not journaled
            case Interrupt(nodes, reason):
                for node in nodes:  # only those that hang listen: the others end as the test says
                    if node in self.hanging:
                        self.flying.append(self.hanging.pop(node))
                        self.stopped[node] = _stopped(reason, self.flying[-1])
            case _:
                self._write(command)
                if isinstance(command, GateOpened):
                    self.gates[command.node] = command
                    choice = self.person(command)
                    if choice is not None:
                        self.chosen.append((command, choice))
                elif isinstance(command, NodeFinished):
                    self.gates.pop(command.node, None)

    def _write(self, event: Event) -> None:
        if self.cut_after is not None and len(self.told.events) >= self.cut_after:
            self.cut = True
        else:
            self.told.events.append(event)

    def _next(self, choose: Callable[[int], int]) -> list[Command]:
        """Let the next thing happen: a task ends, a person answers, or time passes."""
        run = self.told
        self.chosen = [one for one in self.chosen if self.gates.get(one[0].node) is one[0]]
        if self.flying or self.chosen:
            place = choose(len(self.flying) + len(self.chosen))
            if place < len(self.flying):
                return self._land(self.flying.pop(place))
            gate, choice = self.chosen.pop(place - len(self.flying))
            del self.gates[gate.node]
            self._write(GateAnswered(run.clock, gate.node, gate.key, gate.fingerprint, choice, "test"))
            return [] if self.cut else self.machine.handle(Answered(gate.node, choice), run.clock)
        if self.machine.stuck:
            left, self.gates = self.gates, {}
            return [command for node in left for command in self.machine.handle(Answered(node, None), run.clock)]
        assert self.timers, "the machine waits for nothing and has not finished"
        run.clock, _, timer = heapq.heappop(self.timers)
        return self.machine.handle(TimerFired(timer), run.clock)

    def _land(self, one: Task) -> list[Command]:
        outcome = self.stopped.pop(one.node, None) or self.answer(one)
        if outcome is None:
            self.hanging[one.node] = one
            return []
        self.ended += 1
        return self.machine.handle(TaskEnded(one.node, outcome), self.told.clock)


def _stopped(reason: StopReason, task: Task) -> Outcome:
    """Give how a task ends that was asked to stop."""
    if reason == "cancel":
        return Outcome("cancelled")
    seconds = task.step.timeout
    return failed("timeout", "no time left" if seconds is None else f"no time left after {seconds:g} s")


def records(*runs: Simulated) -> Recorded:
    """Give what these runs left behind, as the journal would tell it to the next epoch."""
    events: list[Event] = []
    for epoch, run in enumerate(runs, 1):
        events.append(RunStarted(0.0, "test", "test", epoch, {}, 1))
        events += (event for event in run.events if not (isinstance(event, NodeFinished) and event.kept))
    found = journal.records(events)
    return Recorded(found.answers, found.attempts, to_retry=found.to_retry)


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
        If an outcome differs, or cannot be kept, or the runner changed its own attributes.
    """
    given: list[tuple[Task, object]] = []

    def noted(task: Task, context: Context) -> Outcome:
        given.append((task, outcome := runner(task, context)))
        return outcome

    before = dict(vars(runner)) if hasattr(runner, "__dict__") else {}
    alone = [work(noted, one, context(one)) for one in tasks]
    for one, outcome in given:
        try:
            output_of(outcome)
        except NotAnOutcomeError as problem:
            raise AssertionError(f"{node_text(one.node)} {problem}") from None
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


PATIENCE = 30.0
"""Seconds that a check waits for what should come at once."""


def check_executor(make: Callable[[int], Executor]) -> None:
    """Check that an executor keeps what the driver relies on.

    Calls run side by side, as many as it was made for and no more; their results and exceptions come back in futures,
    also those that are no ``Exception``; a callback of a future is called; ``shutdown(wait=False)`` does not wait.

    Parameters
    ----------
    make : callable
        Makes one; gets the calls in flight at most.

    Raises
    ------
    AssertionError
        If it does otherwise.

    Examples
    --------
    >>> from nbflow.executors.threads import ThreadExecutor
    >>> check_executor(ThreadExecutor)
    """
    width = 3
    executor = make(width)
    begun, told, go = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def call(number: int) -> int:
        begun.release()
        assert go.wait(2 * PATIENCE)
        if number == 4:
            raise SystemExit(number)
        return number * number

    futures = [executor.submit(call, number) for number in range(2 * width)]
    for future in futures:
        future.add_done_callback(lambda _: told.release())
    for count in range(width):
        assert begun.acquire(timeout=PATIENCE), f"{count} run at a time, and {width} should"
    assert not begun.acquire(timeout=0.2), f"more than {width} run at a time"
    go.set()
    problems = [future.exception(PATIENCE) for future in futures]
    assert [one and repr(one) for one in problems] == [None, None, None, None, "SystemExit(4)", None], problems
    good = [future.result() for future, problem in zip(futures, problems, strict=True) if problem is None]
    assert good == [0, 1, 4, 9, 25], good
    assert all(told.acquire(timeout=PATIENCE) for _ in futures), "a callback was not called"
    go.clear()
    hanging = executor.submit(go.wait, PATIENCE)
    executor.shutdown(wait=False)
    assert not hanging.done(), "shutdown(wait=False) waited"
    go.set()
    assert hanging.result(PATIENCE)


def check_reporter(make: Callable[[], Reporter]) -> None:
    """Check that a reporter takes all that a run may tell, and in any state: it raises nothing.

    Parameters
    ----------
    make : callable
        Makes one.

    Raises
    ------
    AssertionError
        If it raises; the message has the event.
    """
    shown = make()
    events = _all_sorts()
    shown.begin()
    shown.draw(0.0)
    for event in events:
        try:
            shown(event)
            shown.draw(event.at + 0.5)
        except Exception as problem:
            raise AssertionError(f"{type(problem).__name__} by {event}: {problem}") from problem
    shown.end()
    empty = make()
    empty.begin()
    empty.end()  # also a run that could not begin comes to this


def _all_sorts() -> list[Event]:
    """Give the events of a run with all that may happen."""
    outcome = failed("error", "KeyError: 'x'\x1b[2J", "KeyError", "Traceback ...")
    one, other, sure = ("map:fit:0",), ("map:fit:1",), ("sure",)
    return [
        RunStarted(1.0, "20260101-0000-abcd", "w.yml", 1, {}, 2),
        StepsOpened(1.0, (), 2),
        FanOutOpened(1.0, ("map",), 2),
        NodeStarted(1.0, one, "k1", 1, "city=Oslo", 0),
        NodeStarted(1.0, other, "k2", 1, "city=\u6771\u4eac\n", 1),
        CellStarted(2.0, one, 1, 3, "Fit"),
        Printed(2.0, one, "50%"),
        AttemptFailed(3.0, one, "k1", 1, outcome, 1.0),
        NodeStarted(3.0, one, "k1", 2, "city=Oslo", 0),
        CellFinished(4.0, other, 1, "completed", 1.0),
        NodeFinished(4.0, other, "k2", "-.-.-", Outcome("completed", {"x": 1}), "city=\u6771\u4eac\n", 1),
        NodeFinished(5.0, one, "k1", "-.-.-", outcome, "city=Oslo", 0),
        NodeFinished(5.0, ("map",), "m", "", outcome, "map", None, leaf=False),
        Warned(5.0, None, "two items wrote x.csv"),
        GateOpened(6.0, sure, "s", "-.-.-", "Publish?", ("approve", "reject"), None, "sure", None),
        GateAnswered(7.0, sure, "s", "-.-.-", "approve", "somebody"),
        RunFinished(8.0, "failed", outcome.error),
    ]
