"""The driver: the only loop and the only writer. It moves the machine and carries out what it says.

``stimulus = inbox.get()`` → ``commands = machine.handle(stimulus)`` → write the events among them → tell
reporters → carry the commands out. Nothing leaves the process before its line is written, and nobody else
touches the state: workers, timers, people and other processes put something into the inbox.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

from .engine.machine import Machine
from .engine.protocol import (
    Answered,
    Begin,
    Breath,
    Cancel,
    Command,
    Continue,
    Finish,
    Hold,
    Interrupt,
    Measure,
    Measured,
    SetTimer,
    Start,
    Stimulus,
    TaskEnded,
    TimerFired,
)
from .engine.recorded import Recorded
from .events import (
    CellFinished,
    CellStarted,
    Event,
    GateAnswered,
    GateOpened,
    Moved,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunHeld,
    RunStarted,
    TaskEvent,
    Warned,
)
from .files import DiskFullError, is_full
from .instruction import Instruction
from .memory import Room
from .model import NodeId, Step, node_text
from .outcome import Failure, Outcome, failed
from .overlaps import Overlaps
from .printing import both_ends, short
from .state import RunState
from .task import Context, Places, Runner, Task
from .types import RunStatus, Status, StopReason
from .values import NotAValueError, Value, result

GRACE: Mapping[StopReason, float] = {"cancel": 3.0, "timeout": 10.0}
"""Seconds between interrupt and kill."""
LAST = 1.0
"""Seconds that a killed task has to come back before it is given up."""
TEND = 0.25
"""Seconds between two looks at the run folder: commands, heartbeat, fsync, checkpoint."""

LOOK = 1.0
"""Seconds between two looks at the memory of tasks while a start is held back."""
LOOKING = 0.05
"""The share of the time that these looks take at most."""

TRACEBACK, MESSAGE = 20_000, 600
"""Characters of a failure that go into the journal at most."""

BATCH = 64
"""Messages taken in one turn at most: their events go out in one write."""

ENDS: frozenset[Status] = frozenset({"completed", "failed", "skipped", "paused", "cancelled", "aborted"})
"""How a task may end."""

RUN_STATUS: Mapping[Status, RunStatus] = {
    "completed": "completed",
    "skipped": "completed",
    "failed": "failed",
    "paused": "paused",
    "aborted": "aborted",
    "cancelled": "interrupted",
    "pending": "interrupted",  # only a part was asked for; see _of_parts
}


class Ledger(Protocol):
    """What the driver writes into: journal, checkpoint, heartbeat; and where commands come in."""

    def write(self, events: Sequence[Event]) -> None:
        """Write the lines of these events out of the process; raises OSError, and then none of them stands."""
        ...

    def tend(self, state: RunState, now: float) -> list[Instruction]:
        """Do what is due (fsync, heartbeat, checkpoint) and give the instructions that came from outside."""
        ...

    def make_room(self) -> None:
        """Free what was reserved for a full disk."""
        ...

    def close(self, state: RunState, now: float) -> None:
        """Write the last checkpoint, fsync, and let go of the run."""
        ...


class Asker(Protocol):
    """Asks a person who is there, one question at a time."""

    def ask(self, gate: GateOpened, answer: Callable[[str | None], None]) -> None:
        """Ask, and come back at once; the answer is given later, once, from any thread: ``None`` is none."""
        ...

    def withdraw(self) -> None:
        """The question needs no answer any more."""
        ...


class Stopper:
    """Asks one task to stop: by interrupt, then by kill. Changed by the driver, heard by the runner."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.kill = False
        self._listeners: list[Callable[[], None]] = []

    def ask(self, reason: StopReason) -> None:
        """Ask to stop; the first reason stays."""
        self.reason = self.reason or reason
        self._call()

    def ask_now(self) -> None:
        """There is no time left for an interrupt."""
        self.reason = self.reason or "cancel"
        self.kill = True
        self._call()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the callback called at each change, at once if there was one; gives the function that ends it."""
        self._listeners.append(callback)
        if self.reason is not None:
            callback()
        return lambda: self._listeners.remove(callback)

    def _call(self) -> None:
        for listener in list(self._listeners):
            listener()


@dataclass(frozen=True, slots=True)
class _Stop:
    """Somebody wants the run to end."""

    why: str
    now: bool = False
    """Whether tasks are killed at once."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What somebody says to a gate; no choice: the one who was asked has none."""

    node: NodeId
    choice: str | None
    by: str


@dataclass(frozen=True, slots=True)
class _Kill:
    """The time of an interrupted task is over: kill it, or give it up."""

    node: NodeId
    attempt: int
    step: Literal["kill", "give up"]


@dataclass(frozen=True, slots=True)
class _Landed:
    """An attempt came back from its worker, perhaps after it was given up."""

    task: Task
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Process:
    """An attempt has a process."""

    task: Task
    pid: int


@dataclass(frozen=True, slots=True)
class _Look:
    """Somebody wants to see the state as it is between two events."""

    see: Callable[[RunState], None]


_Message: TypeAlias = "Stimulus | _Stop | _Reply | _Kill | _Landed | _Process | _Look | TaskEvent"


@dataclass(slots=True)
class _Flight:
    """A task that a worker has."""

    task: Task
    stop: Stopper
    future: Future[Outcome]
    pid: int | None = None
    """The process that does the work, where it is not ours."""


@dataclass
class Driver:
    """Runs one epoch of a run to its end, in a thread of its own.

    Parameters
    ----------
    machine : Machine
        What to do.
    executor : concurrent.futures.Executor
        Where tasks run.
    runners : mapping of step class to Runner
        How tasks run.
    places : callable
        Gives the files of an attempt.
    ledger : Ledger
        Where events are written.
    started : RunStarted
        The first event of this epoch.
    tell : callable
        Is told each event after it was written, in order.
    asker : Asker, optional
        Asks a person who is there; without one the run pauses when nothing but gates is left.
    answers : mapping, optional
        What was chosen already, and by whom, for gates that will open.
    clock : callable, optional
        Seconds since 1970.
    grace : mapping, optional
        Seconds between interrupt and kill, for each reason to stop.
    last : float, optional
        Seconds that a killed task has to come back before it is given up.
    left_out : Recorded, optional
        How tasks stand that are left out, for only others were asked for.
    overlaps : Overlaps, optional
        Notices who wrote the same file as another at the same time.
    variables : mapping of str to str, optional
        Variables for the processes of tasks, where nobody has set them.
    measure : callable, optional
        Gives the bytes that processes use, by their ids, and the bytes that there are for all tasks together.
    """

    machine: Machine
    executor: Executor
    runners: Mapping[type[Step], Runner]
    places: Callable[[Task], Places]
    ledger: Ledger
    started: RunStarted
    tell: Callable[[Event], None]
    asker: Asker | None = None
    answers: Mapping[NodeId, tuple[str, str]] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    grace: Mapping[StopReason, float] = field(default_factory=lambda: GRACE)
    last: float = LAST
    left_out: Recorded = field(default_factory=Recorded)
    overlaps: Overlaps = field(default_factory=Overlaps)
    """Who wrote the same file as another at the same time."""
    variables: Mapping[str, str] = field(default_factory=dict)
    measure: Callable[[Sequence[int]], tuple[Mapping[int, int], int]] = field(default_factory=Room)
    state: RunState = field(default_factory=RunState)
    """What the events add up to; written by the driver's thread only."""
    crashed: BaseException | None = None
    """What ended the driver itself; a bug, told to the caller."""

    def __post_init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._flights: dict[NodeId, _Flight] = {}
        self._timers: list[tuple[float, int, _Message]] = []
        self._order = itertools.count()
        self._commands: list[Command] = []
        self._given = dict(self.answers)
        self._gates: dict[NodeId, GateOpened] = {}
        self._asked: NodeId | None = None  # the gate about which the person who is there was asked
        self._declined: set[NodeId] = set()  # gates to which that person had no answer
        self._warned: set[str] = set()
        self._why = ""
        self._full: OSError | None = None
        self._unwritten: list[Event] = []
        self._outcome: Outcome | None = None
        self._next_tend = 0.0
        self._next_look = 0.0
        self.done = threading.Event()
        """Set when everything is written."""

    # -- called from other threads --------------------------------------------------------------------

    def cancel(self, why: str = "cancelled", *, now: bool = False) -> None:
        """End the run: nothing new starts, tasks are interrupted and after 3 s killed; ``now`` kills at once."""
        self._inbox.put(_Stop(why, now))

    def pause(self) -> None:
        """Start nothing new; what runs goes on."""
        self._inbox.put(Hold())

    def unpause(self) -> None:
        """Go on."""
        self._inbox.put(Continue())

    def answer(self, node: NodeId, choice: str, by: str) -> None:
        """Answer a gate."""
        self._inbox.put(_Reply(node, choice, by))

    def look(self, see: Callable[[RunState], None]) -> None:
        """Have a function called with the state between two events, in the driver's thread, or here when that is done.

        What is told after it begins with the event that follows.
        """
        seen = threading.Event()
        problems: list[Exception] = []

        def once(state: RunState) -> None:
            try:
                see(state)
            except Exception as problem:  # noqa: BLE001 - it is the one's who looks, not the run's
                problems.append(problem)
            seen.set()

        self._inbox.put(_Look(once))
        while not seen.wait(0.05):
            if self.done.is_set() and not seen.is_set():  # nobody changes it any more
                once(self.state)
        if problems:
            raise problems[0]

    def note(self, event: Warned) -> None:
        """Publish a warning with the others, in order."""
        self._inbox.put(event)

    def start(self) -> None:
        """Run in a thread of its own, so that a KeyboardInterrupt cannot strike inside a write."""
        threading.Thread(target=self.run, name="nbflow-driver", daemon=True).start()

    # -- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end."""
        try:
            self._publish([self.started])
            self._act(Begin())
            self._flush()
            while self._outcome is None:
                self._turn()
            self._finish()
        except BaseException as problem:  # noqa: BLE001 - the caller's thread raises it; this one has nobody above it
            self.crashed = problem
            for flight in self._flights.values():
                flight.stop.ask_now()
            self._tell_crash(problem)
            self.abandon()
        finally:
            self.executor.shutdown(wait=False)
            self.done.set()

    def _tell_crash(self, problem: BaseException) -> None:
        """Have nobody believe that it goes on; the journal has no such line, and readers see an interrupted run."""
        reason = f"nbflow itself failed: {type(problem).__name__}: {short(str(problem), MESSAGE)}"
        finished = RunFinished(self.clock(), "interrupted", None, reason)
        with contextlib.suppress(Exception):  # what it failed of is told, and matters more
            self.state.apply(finished)
            self.tell(finished)

    def abandon(self) -> None:
        """Let go of the run, which has not begun or cannot go on; another process may take it up."""
        with contextlib.suppress(Exception):  # what it is abandoned for is told, and matters more
            self.ledger.close(self.state, self.clock())
        self.executor.shutdown(wait=False)
        self.done.set()

    def _turn(self) -> None:
        now = time.monotonic()
        due = min(self._timers[0][0] if self._timers else now + TEND, self._next_tend)
        try:
            self._take(self._inbox.get(timeout=max(0.0, due - now)) if due > now else self._inbox.get_nowait())
            for _ in range(BATCH):  # what came meanwhile goes out in the same write
                self._take(self._inbox.get_nowait())
        except queue.Empty:
            pass
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._take(heapq.heappop(self._timers)[2])
        if self.machine.short and now >= self._next_look:
            self._act(self._measured())
        self._flush()
        self._ask()
        if now >= self._next_tend:
            self._next_tend = now + TEND
            self._tend()

    def _tend(self) -> None:
        if self._full is not None:
            return
        try:
            words = self.ledger.tend(self.state, self.clock())
        except OSError as problem:
            self._disk_full(problem)
            return
        for told in words:
            self._command(told)

    def _take(self, message: _Message) -> None:
        match message:
            case _Stop():
                if self.machine.stuck:  # nothing is at work: the gates stay open, and the run is paused
                    self._leave_gates()
                    return
                self._why = self._why or message.why
                self._act(Cancel())
                self._flush()
                if message.now:
                    for flight in self._flights.values():
                        self._kill(_Kill(flight.task.node, flight.task.attempt, "kill"))
            case _Reply():
                self._reply(message)
            case _Kill():
                self._kill(message)
            case _Landed(task, outcome):
                landed = self._flights.get(task.node)
                if landed is not None and landed.task is task:  # else it was given up
                    del self._flights[task.node]
                    self._act(TaskEnded(task.node, outcome))
            case _Process(task, pid):
                begun = self._flights.get(task.node)
                if begun is not None and begun.task is task:
                    begun.pid = pid
            case _Look():
                message.see(self.state)
            case Hold():
                self._hold(message, held=True)
            case Continue():
                self._hold(message, held=False)
            case Begin() | TaskEnded() | TimerFired() | Answered() | Cancel() | Breath():
                self._act(message)
            case Measured():
                self._act(message)
            case _:
                self._publish([message])

    def _hold(self, message: Hold | Continue, *, held: bool) -> None:
        if held != self.state.progress.held:
            self._publish([RunHeld(self.clock(), held)])
        self._act(message)

    def _command(self, told: Instruction) -> None:
        match told.word:
            case "answer":
                self._reply(_Reply(tuple(told.node.split("/")), told.choice, told.by))
            case "cancel":
                self.cancel("nbflow cancel")
            case "pause":
                self.pause()
            case "unpause":
                self.unpause()
            case "taken over":
                self.cancel("taken over by another process", now=True)
            case _:
                self._publish([Warned(self.clock(), None, f"an unknown command came in: {told.word!r}")])

    def _act(self, stimulus: Stimulus) -> None:
        """Move the machine; what it says is written and carried out at the next flush."""
        self._commands += self.machine.handle(stimulus, self.clock())

    def _flush(self) -> None:
        """Write the events among the commands, then carry the others out, in order."""
        commands, self._commands = self._commands, []
        events: list[Event] = []
        for command in commands:
            if not isinstance(command, (Start, SetTimer, Interrupt, Breath, Finish, Measure)):
                events.append(standing(command, self.left_out))
                events += self._noticed(command)
        written = self._publish(events)
        for command in commands:
            self._carry_out(command, written=written)

    def _carry_out(self, command: Command, *, written: bool) -> None:
        match command:
            case Start(task):
                if written:
                    self._start(task)
                else:
                    self._flights[task.node] = _Flight(task, Stopper(), Future())
                    self._inbox.put(_Landed(task, Outcome("cancelled")))
            case SetTimer():
                self._in(command.seconds, TimerFired(command))
            case Interrupt():
                for node in command.nodes:
                    self._interrupt(node, command.reason)
            case Breath():
                self._inbox.put(command)
            case Measure():
                self._inbox.put(self._measured())
            case Finish(outcome):
                self._outcome = outcome
            case GateOpened():
                self._gates[command.node] = command
                if (given := self._given.pop(command.node, None)) is not None:  # once: asked again, it is open
                    self._inbox.put(_Reply(command.node, *given))
            case NodeFinished():
                self._close_gate(command.node)
            case _:
                pass  # events are out already

    def _measured(self) -> Measured:
        """Look at the memory of the tasks at work."""
        began = time.monotonic()
        pids = {node: flight.pid for node, flight in self._flights.items() if flight.pid is not None}
        using, room = self.measure(list(pids.values()))
        now = time.monotonic()
        self._next_look = now + max(LOOK, (now - began) / LOOKING)
        return Measured({node: using[pid] for node, pid in pids.items()}, room)

    def _in(self, seconds: float, message: _Message) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), message))

    # -- gates ----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask the person who is there about the first open gate; with nobody there, and nothing else to do, pause."""
        if not self._gates or self._asked is not None:
            return
        gate = next((gate for node, gate in self._gates.items() if node not in self._declined), None)
        if self.asker is not None and gate is not None:
            self._asked = node = gate.node
            self.asker.ask(gate, lambda choice: self._inbox.put(_Reply(node, choice, "terminal")))
        elif self._idle:
            self._tend()  # an answer may have come from outside
            if self._idle:
                self._leave_gates()

    @property
    def _idle(self) -> bool:
        """Whether nothing but open gates is left, and nothing came in."""
        return self.machine.stuck and not self._commands and self._inbox.empty()

    def _leave_gates(self) -> None:
        """Nobody answers: what the gates ask stays open."""
        for node in list(self._gates):
            self._act(Answered(node, None))
        self._gates.clear()
        self._flush()

    def _reply(self, reply: _Reply) -> None:
        gate = self._gates.get(reply.node)
        if reply.choice is None:
            self._declined.add(reply.node)
            if self._asked == reply.node:
                self._asked = None
            self._publish(
                [Warned(self.clock(), reply.node, f"{node_text(reply.node)} was not answered and stays open")]
            )
        elif gate is None:
            self._publish([Warned(self.clock(), None, f"{node_text(reply.node)} was answered, but does not ask")])
        elif reply.choice not in gate.options:
            options = ", ".join(gate.options)
            message = f"{node_text(reply.node)} was answered {reply.choice!r}, but takes {options}"
            self._publish([Warned(self.clock(), None, message)])
        elif self._publish([GateAnswered(self.clock(), gate.node, gate.key, gate.fingerprint, reply.choice, reply.by)]):
            self._close_gate(gate.node)
            self._act(Answered(gate.node, reply.choice))

    def _close_gate(self, node: NodeId) -> None:
        """It asks no more."""
        self._gates.pop(node, None)
        self._declined.discard(node)
        if self._asked == node:
            self._asked = None
            if self.asker is not None:
                self.asker.withdraw()

    # -- writing --------------------------------------------------------------------------------------

    def _publish(self, events: Sequence[Event]) -> bool:
        """Write events, take them into the state, tell them; tells whether new work may start."""
        if events:
            self._write(events)
        for event in events:
            self.state.apply(event)
            self.tell(event)
        return self._full is None

    def _write(self, events: Sequence[Event]) -> None:
        """Write events; what finds no room is kept in memory, and tried again with the next ones."""
        if self._full is not None:
            events = [event for event in events if not isinstance(event, NodeStarted)]  # it will not start
        self._unwritten += events
        try:
            self.ledger.write(self._unwritten)
        except OSError as problem:
            self._disk_full(problem)
        else:
            self._unwritten = []

    def _disk_full(self, problem: OSError) -> None:
        """Start nothing more, free what was kept back for this, and end."""
        if self._full is not None:
            return
        self._full = problem
        self._unwritten = [event for event in self._unwritten if not isinstance(event, NodeStarted)]
        self.ledger.make_room()
        self._write([])
        self._inbox.put(_Stop(_no_room(problem)))

    def _noticed(self, event: Event) -> list[Event]:
        """Give warnings that follow from an event."""
        match event:
            case NodeStarted():
                self.overlaps.started(event.node)
            case NodeFinished(leaf=True, kept=False):
                messages = [
                    *event.outcome.warnings,
                    *self.overlaps.finished(event.node, event.label, event.outcome.wrote),
                ]
                fresh = [message for message in messages if message not in self._warned]
                self._warned.update(fresh)
                own = {message: f"{event.label}: {message}" for message in event.outcome.warnings}
                late = event.node in self._gates and event.outcome.status == "paused"  # others let go of it before
                told = [f"{event.label} was not answered in time and stays open"] if late else []
                return [Warned(event.at, event.node, own.get(message, message)) for message in [*fresh, *told]]
            case _:
                pass
        return []

    # -- tasks ----------------------------------------------------------------------------------------

    def _start(self, task: Task) -> None:
        stop = Stopper()
        tell = self._inbox.put
        context = Context(self.places(task), stop, tell, self.variables, lambda pid: tell(_Process(task, pid)))
        given = task.at(context.places.folder)
        future = self.executor.submit(work, self.runners[type(task.step)], given, context)
        self._flights[task.node] = _Flight(task, stop, future)
        future.add_done_callback(lambda done: self._landed(task, done))

    def _landed(self, task: Task, done: Future[Outcome]) -> None:
        if done.cancelled():
            return  # it was given up before it had begun
        problem = done.exception()
        if isinstance(problem, DiskFullError):
            self._inbox.put(_Stop(_no_room(problem)))
            outcome = Outcome("cancelled", attempts=task.attempt)
        elif problem is not None:
            outcome = _exception(problem)
        else:
            outcome = done.result()
        self._inbox.put(_Landed(task, outcome))

    def _interrupt(self, node: NodeId, reason: StopReason) -> None:
        flight = self._flights.get(node)
        if flight is None:
            return
        first = flight.stop.reason is None or reason == "cancel"
        flight.stop.ask(reason)
        if first:
            self._in(self.grace[reason], _Kill(node, flight.task.attempt, "kill"))

    def _kill(self, message: _Kill) -> None:
        flight = self._flights.get(message.node)
        if flight is None or flight.task.attempt != message.attempt:
            return
        if message.step == "kill":
            flight.stop.ask_now()
            self._in(self.last, replace(message, step="give up"))
            return
        flight.future.cancel()  # a pool of ours has a fresh thread then
        self._take(_Landed(flight.task, replace(_given_up(flight), attempts=message.attempt)))

    # -- the end --------------------------------------------------------------------------------------

    def _finish(self) -> None:
        assert self._outcome is not None
        status = self._of_parts() if self._outcome.status == "pending" else RUN_STATUS[self._outcome.status]
        if self._full is not None:
            status = "interrupted"
        while True:
            try:
                last = self._inbox.get_nowait()
            except queue.Empty:
                break
            match last:
                case CellStarted() | CellFinished() | Printed() | Moved() | Warned():
                    self._publish([last])
                case _Look():
                    last.see(self.state)
                case _:
                    pass  # it comes too late
        reason = self._why if status == "interrupted" else ""
        self._publish([RunFinished(self.clock(), status, self._outcome.error, reason)])
        try:
            self.ledger.close(self.state, self.clock())
        except OSError as problem:  # the journal's lines stand; readers see an interrupted run
            self.state.apply(RunFinished(self.clock(), "interrupted", self._outcome.error, _no_room(problem)))

    def _of_parts(self) -> RunStatus:
        """Give the status of a run of which only a part was asked for: all of it may be recorded."""
        parts = {event.outcome.status for event in self.state.nodes.values() if event.leaf}
        return RUN_STATUS[next((status for status in ("pending", "failed") if status in parts), "completed")]


def standing(event: Event, recorded: Recorded) -> Event:
    """Give how a task that was left out stands: as it is recorded, where that answers."""
    if not isinstance(event, NodeFinished) or not event.leaf or event.outcome.status != "pending":
        return event
    outcome = recorded.answer(event.key, event.fingerprint)
    if outcome is None:
        return event
    return replace(event, outcome=outcome, fingerprint=recorded.answers[event.key].fingerprint)


def _no_room(problem: OSError) -> str:
    return "disk full" if is_full(problem) else str(problem)


def _given_up(flight: _Flight) -> Outcome:
    """Give how a task ends that did not come back after it was killed."""
    if flight.stop.reason != "timeout":
        return Outcome("cancelled")
    seconds = flight.task.step.timeout
    left = "no time left" if seconds is None else f"no time left after {seconds:g} s"
    return Outcome("failed", error=Failure("timeout", f"{left}; it did not stop when asked to"))


def work(runner: Runner, task: Task, context: Context) -> Outcome:
    """Run a task in a worker's thread: an exception becomes a failed outcome with its traceback.

    Raises
    ------
    DiskFullError
        When there is no space left for what nbflow itself writes: that is no fault of the task.
    """
    began = time.monotonic()
    try:
        outcome = runner(task, context)
        output = output_of(outcome)
        return replace(outcome, output=output, seconds=_seconds(outcome, began), attempts=task.attempt)
    except NotAnOutcomeError as problem:
        outcome = failed("output", str(problem))
    except DiskFullError:
        raise
    except Exception as problem:  # noqa: BLE001 - whatever a task raises fails that task, and nothing else
        outcome = _exception(problem)
    return replace(outcome, seconds=_seconds(outcome, began), attempts=task.attempt)


def _seconds(outcome: Outcome, began: float) -> float:
    return outcome.seconds or time.monotonic() - began


class NotAnOutcomeError(TypeError):
    """What a runner gave is no record of how its task ended."""


def output_of(given: object) -> Value:
    """Give the output of what a runner gave, as it can be kept; a runner of a plug-in may give anything.

    Raises
    ------
    NotAnOutcomeError
        If it cannot be kept.
    """
    match given:
        case Outcome(status, output, None | Failure(str(), str(), None | str(), None | int(), None | str())):
            if status not in ENDS:
                raise NotAnOutcomeError(f"ended {status!r:.60}, which is none of {', '.join(sorted(ENDS))}")
        case Outcome(error=error):
            raise NotAnOutcomeError(f"ended with the error {error!r:.200}, which cannot be kept")
        case _:
            raise NotAnOutcomeError(f"gave {given!r:.60}, and no nbflow.outcome.Outcome")
    try:
        plain: Value = result(output)
    except NotAValueError as problem:
        raise NotAnOutcomeError(f"returned {problem}, which cannot be kept") from None
    return plain


def _exception(problem: BaseException) -> Outcome:
    """Give the failure of a task that raised; what is said in it may be as long as all data."""
    name = type(problem).__name__
    text = both_ends("".join(traceback.format_exception(problem)), TRACEBACK, "")
    try:
        message = short(str(problem), MESSAGE)
    except Exception as other:  # noqa: BLE001 - it cannot even say what is wrong
        message = f"its text cannot be had: {type(other).__name__}"
    kind = "memory" if isinstance(problem, MemoryError) else "error"
    return Outcome("failed", error=Failure(kind, f"{name}: {message}" if message else name, name, None, text))
