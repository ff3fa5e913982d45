"""The machine: the tree of live generators, and the heap of work in the order of one worker.

``handle(stimulus, now)`` moves it and gives the commands to carry out, in order. A free worker always takes
the work that stands first in the order of one worker: so one worker *is* the meaning of a workflow, and more
of them only make it sooner. Halting, cancel and time-out are one question asked upward
(:attr:`nbflow.engine.nodes.Node.dead`), not flags pushed down.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from ..errors import NbflowError
from ..events import AttemptFailed, FanOutOpened, GateOpened, NodeFinished, NodeStarted, StepsOpened, Warned
from ..model import Block, NodeId, Step, TaskStep, Workflow, node_text
from ..outcome import CANCELLED, Failure, Outcome, failed
from ..sizes import about
from ..steps import FanOut, StepList
from ..task import Task
from ..types import StopReason
from ..values import Value
from .kinds import KINDS, SKIPPED, Kind, guarded
from .nodes import Group, ItemGroup, Node, StepGroup, token
from .protocol import (
    Again,
    Answer,
    Answered,
    Ask,
    Attempt,
    Begin,
    Breath,
    Cancel,
    Chosen,
    Command,
    Continue,
    Finish,
    Hold,
    Interrupt,
    Items,
    Measure,
    Measured,
    SetTimer,
    Skip,
    Start,
    Steps,
    Stimulus,
    TaskEnded,
    TimerFired,
    Tried,
)
from .recorded import Recorded
from .scope import Scope

MOVES = 500
"""Nodes moved in one call, so that a replay of a hundred thousand items stays open to Ctrl-C."""


LEFT_OUT = Outcome("pending", attempts=0)
"""What a run that was told to do only something else does not do; it is not journaled."""


class Machine:
    """One epoch of a run.

    Parameters
    ----------
    workflow : Workflow
        What to do.
    recorded : Recorded, optional
        What earlier epochs did.
    kinds : mapping, optional
        The generator of each class of step; by default the built-in ones.
    max_workers : int, optional
        Tasks in flight at most; by default the workflow's.
    limited : bool, optional
        Whether there is a limit to the memory of all tasks together; else only those are held back that say how much
        they need.
    """

    def __init__(
        self,
        workflow: Workflow,
        recorded: Recorded | None = None,
        *,
        kinds: Mapping[type[Step], Kind] = KINDS,
        max_workers: int | None = None,
        limited: bool = False,
    ) -> None:
        self._recorded = recorded or Recorded()
        self._kinds = kinds
        self._workers = max_workers or workflow.max_workers
        self._now = 0.0
        self._out: list[Command] = []
        self._todo: deque[tuple[Node, Answer]] = deque()
        self._heap: list[tuple[tuple[int, ...], int, Node]] = []  # path, arrival, a task or an open group's owner
        self._arrivals = 0
        self._replays: deque[tuple[ItemGroup, int]] = deque()  # fan-outs whose recorded items are answered first
        self._live: dict[NodeId, Node] = {}
        self._running: dict[NodeId, Node] = {}
        self._resting: dict[NodeId, Node] = {}  # between two attempts
        self._asking: dict[NodeId, Node] = {}  # gates that wait for a person
        self._limited = limited
        self._memory: Measured | None = None  # how it stands; forgotten when this stimulus has been handled
        self._measuring = False
        self._short = False
        self._told_short = False
        self._held = False
        self._aborted = False
        root = StepList(id="run", block=workflow.block, timeout=workflow.timeout)
        names = {"inputs": dict(workflow.inputs), "context": dict(workflow.context), "steps": {}}
        self._root = Node(root, (), "", Scope(names), None, 0)

    @property
    def running(self) -> int:
        """How many tasks are in flight."""
        return len(self._running)

    @property
    def stuck(self) -> bool:
        """Whether nothing can go on before a person has answered."""
        return bool(self._asking) and not (self._running or self._resting or self._heap or self._todo or self._replays)

    @property
    def short(self) -> bool:
        """Whether a start is held back for memory; some other task is at work then, and its end is looked at."""
        return self._short

    @property
    def live(self) -> int:
        """How many nodes there are now, containers included."""
        return len(self._live)

    def handle(self, stimulus: Stimulus, now: float) -> list[Command]:
        """Take one stimulus in and give what must be done now, in order.

        Parameters
        ----------
        stimulus : Stimulus
            What happened outside.
        now : float
            When, in seconds since 1970; it is only written into events.
        """
        self._now = now
        self._short = False
        match stimulus:
            case Begin():
                self._begin(self._root)
            case TaskEnded(node_id, outcome):
                self._tried(self._running.pop(node_id), outcome)
            case TimerFired(timer):
                self._fired(timer)
            case Answered(node_id, choice):
                self._answered(node_id, choice)
            case Cancel():
                self._stop(self._root, "cancel")
            case Hold():
                self._held = True
            case Continue():
                self._held = False
            case Measured():
                self._memory, self._measuring = stimulus, False
            case Breath():
                pass  # what was to be done is done below
        self._settle()
        self._memory = None
        out, self._out = self._out, []
        return out

    # -- the loop -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        for _ in range(MOVES):
            if self._todo:
                self._send(*self._todo.popleft())
            elif not self._fill():
                return
        self._out.append(Breath())

    def _send(self, node: Node, answer: Answer) -> None:
        assert node.flow is not None
        try:
            effect = node.flow.send(answer)
        except StopIteration as end:
            self._ended(node, end.value)
            return
        except Exception as problem:  # noqa: BLE001 - bindings and plug-ins may raise anything; it fails their node
            self._ended(node, _unresolved(problem))
            return
        match effect:
            case Attempt():
                self._want(node, effect)
            case Again():
                self._rest(node, effect)
            case Ask():
                self._ask(node, effect)
            case Skip():
                self._skip(node, effect)
            case Steps(block, names, turn):
                if not (node.group is not None and node.group.counts_tasks and isinstance(node.step, StepList)):
                    self._count(node, block, 0)
                earlier = node.children if turn else None
                self._open(node, StepGroup(node, block, names, turn, earlier))
            case Items():
                self._open_items(node, effect)

    def _fill(self) -> bool:
        """Do the first thing that may be done now; tell whether there was one."""
        if self._replays:
            self._replay(*self._replays.popleft())
            return True
        if not self._heap:
            return False
        node = self._heap[0][2]
        if not node.dead and (self._held or len(self._running) >= self._workers):
            return False
        if not node.dead and node.children is None and not self._has_room(node):
            return False  # nothing behind it overtakes it
        heapq.heappop(self._heap)
        if node.children is not None:
            node.children.waiting = False
            self._pull(node.children)
        elif node.dead:
            self._ended(node, CANCELLED)
        else:
            self._start(node)
        return True

    def _has_room(self, node: Node) -> bool:
        """Whether a task may start beside those at work; with none at work it always may."""
        if not self._running:
            return True
        if node.alone or next(iter(self._running.values())).alone:  # one that is alone is the only one
            return False
        need = _memory_of(node)
        if need is None and not self._limited:
            return True
        if self._memory is None:
            if not self._measuring:
                self._measuring = True
                self._out.append(Measure())
            return False
        using = self._memory.used
        taken = sum(max(_memory_of(other) or 0, using.get(other.id, 0)) for other in self._running.values())
        if taken + (need or 0) <= self._memory.room:
            return True
        self._short = True
        if not self._told_short:
            self._told_short = True
            words = f"tasks at work use or reserve {about(taken)} of {about(self._memory.room)}"
            self._out.append(Warned(self._now, None, f"starts wait for memory: {words}"))
        return False

    # -- groups -------------------------------------------------------------------------------------

    def _open(self, node: Node, group: Group) -> None:
        node.children = group
        self._advance(group)

    def _open_items(self, node: Node, effect: Items) -> None:
        assert isinstance(node.step, FanOut), "the kind that yields Items is the fan-out's"
        self._out.append(FanOutOpened(self._now, node.id, len(effect.items)))
        if effect.items and not (node.step.single and node.step.body.steps[0].leaf):
            self._count(node, node.step.body, len(effect.items))
        if effect.warning:
            self._out.append(Warned(self._now, node.id, effect.warning))
        group = ItemGroup(node, node.step, effect.items, effect.window, self._recorded.seconds)
        if self._recorded.answers and isinstance(group.body, TaskStep):
            node.children = group
            self._replays.append((group, 0))
        else:
            self._open(node, group)

    def _count(self, node: Node, block: Block, items: int) -> None:
        """Tell of the tasks of a list; of the items of a fan-out, which count as one each, of the others."""
        tasks = sum(step.leaf for step in block.steps)
        more = items * (tasks - 1) if items else tasks
        if more:
            self._out.append(StepsOpened(self._now, node.id, more))

    def _replay(self, group: ItemGroup, place: int) -> None:
        """Answer a recorded item at once: that needs no worker and no room in the window."""
        if place == group.size or group.owner.dead:
            self._advance(group)
            return
        self._replays.appendleft((group, place + 1))
        if group.key(place) in self._recorded.answers:
            node = group.make(place)
            answer = self._recall(node)
            if answer is not None:
                self._adopt(node)
                self._ended(node, answer, kept=True)

    def _pull(self, group: Group) -> None:
        """Make the next node of a group that stood first in the heap."""
        place = None if group.answered or group.owner.dead else group.next()
        if place is not None:
            group.taken(place)
            self._begin(group.make(place))
        self._advance(group)

    def _advance(self, group: Group) -> None:
        """Let an open group wait for its next node, or answer its owner when all of it has ended."""
        if group.answered or any(group is other for other, _ in self._replays):
            return
        place = None if group.owner.dead else group.next()
        if place is not None and not group.waiting:
            group.waiting = True
            self._push(group.owner, group.path(place))
        elif place is None and not group.live:
            group.answered = True
            self._todo.append((group.owner, group.ended()))

    def _push(self, node: Node, path: tuple[int, ...]) -> None:
        self._arrivals += 1
        heapq.heappush(self._heap, (path, self._arrivals, node))

    # -- nodes --------------------------------------------------------------------------------------

    def _adopt(self, node: Node) -> None:
        self._live[node.id] = node
        node.began = self._now
        if node.group is not None:
            node.group.live += 1

    def _begin(self, node: Node) -> None:
        self._adopt(node)
        if node.spared is not None:
            self._ended(node, node.spared, kept=node.spared.status == "pending")
            return
        kind = self._kinds[type(node.step)]
        node.flow = kind(node.step, node.names) if node.step.when is None else guarded(node.step, node.names, kind)
        self._todo.append((node, None))
        if node.step.timeout is not None and not node.step.leaf:
            self._out.append(SetTimer(node.id, "timeout", 0, node.step.timeout))

    def _recall(self, node: Node) -> Outcome | None:
        """Give the recorded answer of a task that has not begun, if there is one."""
        assert isinstance(node.step, TaskStep)
        if node.step.when is not None:
            return None  # whether it runs is asked in its turn
        try:
            parameters = node.step.parameters.resolve(node.names)
            environment = node.step.environment.resolve(node.names)
        except Exception:  # noqa: BLE001 - whatever it is, it fails the item when that is opened in its turn
            return None
        return self._answer(node, parameters, environment)

    def _answer(self, node: Node, parameters: Value, environment: Value) -> Outcome | None:
        """Give the recorded answer of a task; what it did then is what steps behind it wait for."""
        assert isinstance(node.step, TaskStep)
        wanted = _fingerprint(node, parameters, environment)
        answer = self._recorded.answer(node.key, wanted)
        if answer is None and node.step.written is not None and node.key in self._recorded.answers:
            earlier = f"{node.step.earlier_fingerprint(parameters, environment)}.{_waits(node)}"
            answer = self._recorded.answer(node.key, earlier)
        node.fingerprint = self._recorded.answers[node.key].fingerprint if answer is not None else wanted
        return answer

    def _want(self, node: Node, wanted: Attempt) -> None:
        """Answer a task from the record, or let it wait for a worker."""
        if not node.fingerprint:
            node.parameters, node.environment, node.given = wanted.parameters, wanted.environment, wanted.given
            answer = self._answer(node, node.parameters, node.environment)
            if answer is not None:
                self._ended(node, answer, kept=True)
                return
            if not self._recorded.allows(node.key):
                self._ended(node, LEFT_OUT, kept=True)
                return
            assert isinstance(node.step, TaskStep)
            ended, begun = self._recorded.counted(node.key)
            node.attempt = ended + begun
            node.tries = min(begun, node.step.retry.attempts - 1)
            node.alone = node.step.retry.alone and node.key in self._recorded.to_retry
        self._push(node, node.path)

    def _start(self, node: Node) -> None:
        step = node.step
        assert isinstance(step, TaskStep)
        node.attempt += 1
        node.tries += 1
        node.began = self._now
        self._running[node.id] = node
        called = (node.label, node.index, node.items)
        self._out.append(NodeStarted(self._now, node.id, node.key, node.attempt, *called))
        what = (node.parameters, node.attempt, node.label, node.index, node.fingerprint, node.environment, node.given)
        self._out.append(Start(Task(node.id, node.key, step, *what)))
        if step.timeout is not None:
            self._out.append(SetTimer(node.id, "timeout", node.attempt, step.timeout))

    def _tried(self, node: Node, outcome: Outcome) -> None:
        assert isinstance(node.step, TaskStep)
        left = 0 if node.dead else node.step.retry.attempts - node.tries
        outcome = outcome if outcome.attempts == node.attempt else replace(outcome, attempts=node.attempt)
        self._todo.append((node, Tried(outcome, node.tries, left, node.key)))

    def _ask(self, node: Node, ask: Ask) -> None:
        """Answer a gate from the record, or let it wait for a person; that holds no worker."""
        if not node.fingerprint:
            node.fingerprint = _fingerprint(node, {"message": ask.message, "show": ask.show}, {})
            choice = self._recorded.choice(node.key, node.fingerprint)
            if choice is not None:
                node.recalled = True
                self._todo.append((node, Chosen(choice)))
                return
        node.recalled = False
        if node.dead:
            self._ended(node, CANCELLED)
            return
        node.attempt += 1  # a timer of an earlier question is not its own
        self._asking[node.id] = node
        about = (ask.message, ask.options, ask.show, node.label, node.index, node.items)
        self._out.append(GateOpened(self._now, node.id, node.key, node.fingerprint, *about))
        if node.step.timeout is not None:
            self._out.append(SetTimer(node.id, "timeout", node.attempt, node.step.timeout))

    def _answered(self, node_id: NodeId, choice: str | None) -> None:
        if (node := self._asking.pop(node_id, None)) is not None:  # else it was answered, or is not needed any more
            self._todo.append((node, Chosen(choice)))

    def _skip(self, node: Node, effect: Skip) -> None:
        """Tell that the steps of a list are skipped."""
        group = StepGroup(node, effect.block)
        self._count(node, effect.block, 0)
        for place in range(group.size):
            self._out.append(self._told(group.make(place), SKIPPED))
        self._todo.append((node, None))

    def _rest(self, node: Node, effect: Again) -> None:
        self._out.append(AttemptFailed(self._now, node.id, node.key, node.attempt, effect.outcome, effect.delay))
        assert isinstance(node.step, TaskStep)
        node.alone = node.step.retry.alone
        self._resting[node.id] = node
        self._out.append(SetTimer(node.id, "retry", node.attempt, effect.delay))

    def _fired(self, timer: SetTimer) -> None:
        node = self._live.get(timer.node, self._root)
        if node.id != timer.node or node.attempt != timer.attempt:
            return  # it ended before its time was up
        if timer.what == "retry":
            if self._resting.pop(node.id, None) is not None:
                self._todo.append((node, None))
        elif node.id in self._asking:
            self._answered(node.id, None)
        elif node.step.leaf:
            self._out.append(Interrupt((node.id,), "timeout"))
        else:
            self._stop(node, "timeout")

    def _stop(self, node: Node, reason: StopReason) -> None:
        """Start nothing more below this node, and interrupt what runs there."""
        node.expired = reason
        below = tuple(other.id for other in self._running.values() if other.under(node))
        if below:
            self._out.append(Interrupt(below, reason))
        self._end_waiting()
        if node.children is not None:
            self._advance(node.children)

    def _end_waiting(self) -> None:
        """End what rests between two attempts, or asks a person, behind a halt."""
        for waiting in (self._resting, self._asking):
            for node in [node for node in waiting.values() if node.dead]:
                if waiting.pop(node.id, None) is not None:  # else the end of another has ended it
                    self._ended(node, CANCELLED)

    def _told(self, node: Node, outcome: Outcome, *, kept: bool = False) -> NodeFinished:
        leaf = node.step.leaf
        called = (node.label, node.index, leaf, kept, node.items)
        return NodeFinished(self._now, node.id, node.key, node.fingerprint, outcome, *called)

    def _ended(self, node: Node, outcome: Outcome, *, kept: bool = False) -> None:
        del self._live[node.id]
        node.flow = None
        if not node.step.leaf:
            outcome = self._container(node, outcome)
        group = node.group
        if group is None:
            self._out.append(Finish(replace(outcome, status="aborted") if self._aborted else outcome))
            return
        self._out.append(self._told(node, outcome, kept=kept or node.recalled))
        if outcome.error is not None and outcome.error.node is None:
            outcome = replace(outcome, error=replace(outcome.error, node=node_text(node.id)))
        before = group.halt
        group.end(node.place, outcome, _mark(node, outcome), node.step)
        if group.halt < before and (self._resting or self._asking):
            self._end_waiting()
        if outcome.status == "aborted" and not self._aborted:
            self._aborted = True  # a person's word is the one exception to order
            self._stop(self._root, "cancel")
        self._advance(group)

    def _container(self, node: Node, outcome: Outcome) -> Outcome:
        """Give a container's outcome with its seconds, and the truth about its time-out."""
        seconds = self._now - node.began
        if node.expired == "timeout" and outcome.status != "completed" and self._root.expired != "cancel":
            error = Failure("timeout", f"no time left after {node.step.timeout:g} s")
            return Outcome("failed", outcome.output, error, seconds)
        return replace(outcome, seconds=seconds)


def _memory_of(node: Node) -> int | None:
    """Give the bytes that a task says it needs."""
    assert isinstance(node.step, TaskStep)
    return node.step.memory


def _mark(node: Node, outcome: Outcome) -> int:
    """Give the digest of what a node did and how it ended: what the steps behind it wait for."""
    if node.children is not None:
        return node.children.token(outcome.status)
    return token(node.fingerprint or node.entry, outcome.status)


def _unresolved(problem: Exception) -> Outcome:
    """Give the outcome of a step whose expressions, or whose kind, raised."""
    name = type(problem).__name__
    told = problem.message if isinstance(problem, NbflowError) else f"{name}: {problem}"
    return failed("expression", told, name)


def _fingerprint(node: Node, parameters: Value, environment: Value) -> str:
    """Give what a task does, with what, after what; each part tells a person why it differs."""
    step = node.step
    return f"{step.code_digest}.{step.given_digest(parameters, environment)}.{_waits(node)}"


def _waits(node: Node) -> str:
    return node.entry[:12] or "-"
