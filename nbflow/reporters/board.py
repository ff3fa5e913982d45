"""The board: all that a live view shows of a run. Small whatever the number of items, and always the full state."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from ..events import (
    AttemptFailed,
    Event,
    FanOutOpened,
    GateAnswered,
    GateOpened,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunStarted,
    Warned,
)
from ..model import Block, NodeId, Step
from ..state import Progress, RunState, step_path
from ..types import Status
from ..values import Value
from .amounts import duration

WAITING, RUNNING, COMPLETED, FAILED, OTHER = range(5)
"""How an item stands, in one byte."""

CODES: Mapping[Status, int] = {
    "pending": WAITING,
    "running": RUNNING,
    "completed": COMPLETED,
    "failed": FAILED,
    "aborted": FAILED,
    "paused": OTHER,
    "skipped": OTHER,
    "cancelled": OTHER,
}
NAMED = 6
"""Labels that a group of failures keeps."""
KINDS = 200
"""Different failures that are kept; more are only counted."""
LOGGED = 200
"""Lines of the log that are kept."""
BINS = 480
"""Moments that a timeline tells apart."""
SHORTEST = 0.05
"""Seconds that a moment of a timeline has at first."""
LANES = 16
"""Workers that a timeline shows at most."""


@dataclass(frozen=True, slots=True)
class Line:
    """One step in the tree of steps."""

    path: str
    """As :func:`~nbflow.state.step_path` gives it for its nodes."""
    name: str
    depth: int
    kind: str
    items: bool = False
    """Whether it is a fan-out: one row with a strip of its items."""
    whole: bool = True
    """Whether the node of an item is the item, not one of its steps."""
    many: bool = False
    """Whether it stands in a fan-out or a loop, so that there are several of it."""


def outline(block: Block) -> tuple[Line, ...]:
    """Give the tree of steps, in the order of one worker.

    A fan-out over one task is one row; what it runs goes without saying.

    Examples
    --------
    >>> from nbflow.testing import FakeStep, fan_out
    >>> flow = Block([FakeStep(id="load"), fan_out([5, 6], id="train", step=FakeStep(id="fit"))])
    >>> [(line.path, line.items) for line in outline(flow)]
    [('load', False), ('train', True)]
    """
    return tuple(_lines(block, "", 0, many=False))


def _lines(block: Block, before: str, depth: int, *, many: bool) -> Iterator[Line]:
    for step in block.steps:
        path = f"{before}{step.id}"
        items, repeats = step.kind == "fan-out", step.kind in ("fan-out", "while", "do-while")
        whole = items and bool(getattr(step, "single", False))
        yield Line(path, step.name or step.id, depth, step.kind, items, whole, many)
        if whole and _is_task(step):
            continue
        for inner in step.blocks:
            yield from _lines(inner, f"{path}{':' if repeats else '/'}", depth + 1, many=many or repeats)


def _is_task(step: Step) -> bool:
    return all(one.leaf for block in step.blocks for one in block.steps)


def items_around(node: NodeId) -> Iterator[tuple[NodeId, int]]:
    """Give the fan-outs and loops in which a node stands, from the outermost, each with its item or turn.

    Examples
    --------
    >>> list(items_around(("train:fit:3", "score")))
    [(('train',), 3)]
    """
    for depth, part in enumerate(node):
        words = part.split(":")
        for at in range(2, len(words), 2):
            yield (*node[:depth], ":".join(words[: at - 1])), int(words[at])


@dataclass(slots=True)
class Strip:
    """How the items of a fan-out stand, one byte each; of one that is opened several times, all of them."""

    codes: bytearray = field(default_factory=bytearray)
    _done: bytearray = field(default_factory=bytearray)
    """Whether something in an item has ended."""
    _begins: dict[NodeId, int] = field(default_factory=dict)

    def open(self, node: NodeId, total: int) -> None:
        """Learn how many items there are."""
        if node not in self._begins:
            self._begins[node] = len(self.codes)
            self.codes.extend(bytes(total))
            self._done.extend(bytes(total))

    def mark(self, node: NodeId, index: int, code: int) -> None:
        """Learn how one stands."""
        begin = self._begins.get(node)
        if begin is not None and begin + index < len(self.codes):
            self.codes[begin + index] = code

    def has_done(self, node: NodeId, index: int) -> bool:
        """Whether something in an item has ended."""
        begin = self._begins.get(node)
        return begin is not None and begin + index < len(self._done) and bool(self._done[begin + index])

    def begun(self, node: NodeId, index: int) -> None:
        """Something in an item ended: it is at work, unless it is known how it ended."""
        begin = self._begins.get(node)
        if begin is not None and begin + index < len(self.codes):
            self._done[begin + index] = 1
            self.codes[begin + index] = self.codes[begin + index] or RUNNING

    def count(self, code: int) -> int:
        """Give how many stand so."""
        return self.codes.count(code)

    def bins(self, most: int) -> bytes:
        """Give at most so many codes: of items together the one that a person should see.

        Examples
        --------
        >>> Strip(bytearray([2, 2, 2, 3, 1, 0, 0, 0])).bins(4)
        b'\\x02\\x03\\x01\\x00'
        """
        total = len(self.codes)
        if total <= most:
            return bytes(self.codes)
        cuts = [place * total // most for place in range(most + 1)]
        return bytes(_foremost(self.codes[a:b]) for a, b in itertools.pairwise(cuts))


def _foremost(codes: bytearray) -> int:
    for code in (FAILED, RUNNING, WAITING, OTHER):
        if code in codes:
            return code
    return COMPLETED


@dataclass(slots=True)
class Failures:
    """Tasks that failed with the same words in the same place."""

    first: NodeFinished
    count: int = 0
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that ended, as a row of the results."""

    place: tuple[int, ...]
    """Where it stands in the order of one worker."""
    label: str
    status: Status
    seconds: float
    values: Mapping[str, Value]


class Timeline:
    """What each worker did when; its moments grow longer as the run does, so its size stays.

    Examples
    --------
    >>> line = Timeline(began=0.0)
    >>> line.begin(("a",), 0.0); line.end(("a",), 0.16, COMPLETED)
    >>> [bytes(lane[:5]) for lane in line.lanes(0.2)]
    [b'\\x03\\x03\\x03\\x00\\x00']
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._step = SHORTEST
        self._done: list[bytearray] = []
        self._free: list[float] = []
        """Until when each lane is taken."""
        self._open: dict[NodeId, tuple[int, float]] = {}

    def begin(self, node: NodeId, at: float) -> None:
        """Give a task the first lane that is free."""
        taken = {lane for lane, _ in self._open.values()}
        lane = next((lane for lane in range(LANES) if lane not in taken), None)
        if lane is None:
            return
        while len(self._done) <= lane:
            self._done.append(bytearray(BINS))
        self._open[node] = lane, at

    def end(self, node: NodeId, at: float, code: int) -> None:
        """A task ended."""
        if (known := self._open.pop(node, None)) is not None:
            self._fit(at)
            lane, since = known
            self._paint(self._done[lane], since, at, code)

    @property
    def seconds(self) -> float:
        """How long the whole of it is."""
        return BINS * self._step

    def lanes(self, now: float) -> list[bytearray]:
        """Give for each worker what it did at each moment: 0 nothing, else the code of the task and one more."""
        self._fit(now)
        lanes = [bytearray(lane) for lane in self._done]
        for lane, since in self._open.values():
            self._paint(lanes[lane], since, now, RUNNING)
        return lanes

    def _fit(self, at: float) -> None:
        while at - self._began >= BINS * self._step:
            self._step *= 2
            self._done = [bytearray(map(max, lane[::2], lane[1::2])) + bytearray(BINS // 2) for lane in self._done]

    def _paint(self, lane: bytearray, since: float, until: float, code: int) -> None:
        first = max(0, int((since - self._began) / self._step))
        last = max(first + 1, min(BINS, int((until - self._began) / self._step)))
        gap = 1 if last - first > 3 and until < self._began + BINS * self._step else 0  # tasks stand apart
        for place in range(first, min(last - gap, BINS)):
            lane[place] = max(lane[place], code + 1)


class Board:
    """Takes events in, and is what a view shows.

    Parameters
    ----------
    lines : sequence of Line
        The tree of steps.
    """

    def __init__(self, lines: Sequence[Line] = ()) -> None:
        self.lines = tuple(lines)
        self._places = {line.path: place for place, line in enumerate(self.lines)}
        self._fans = {line.path: line for line in self.lines if line.items}
        self.progress = Progress()
        self._forget()

    def _forget(self) -> None:
        self.strips: dict[str, Strip] = {path: Strip() for path in self._fans}
        self.states: dict[str, Status] = {}
        """How steps stand of which there is one."""
        self.tallies: dict[str, Counter[Status]] = {}
        """How steps stand of which there are several: how many of each status."""
        self.failures: dict[tuple[str, int | None, str], Failures] = {}
        self.other_failures = 0
        """How many failed with words that are not kept: there are too many different ones."""
        self.ended: dict[NodeId, Ended] = {}
        self._columns: dict[str, None] = {}
        self.log: deque[tuple[float, str, str]] = deque(maxlen=LOGGED)
        """When, what (``completed``, ``failed``, ``warning``, …), and the words."""
        self.timeline = Timeline(self.progress.started)

    @property
    def columns(self) -> list[str]:
        """Names of results, in the order in which they came."""
        return list(self._columns)

    def rows(self, by: str = "", *, most: int = 0, falling: bool = False) -> list[Ended]:
        """Give the tasks that ended, in the order of one worker, or by a column.

        Parameters
        ----------
        by : str
            ``status``, ``seconds`` or a result; empty: their own order.
        most : int
            At most so many; 0: all.
        falling : bool
            Whether the largest come first.
        """
        rows = sorted(self.ended.values(), key=lambda row: row.place)
        if by == "seconds":
            rows.sort(key=lambda row: row.seconds, reverse=falling)
        elif by == "status":
            rows.sort(key=lambda row: CODES[row.status] != FAILED)
        elif by:
            rows = _by_result(rows, by, falling=falling)
        return rows[:most] if most else rows

    def apply(self, event: Event) -> None:
        """Take one event in."""
        label = _label(event, self.progress)
        self.progress.apply(event)
        match event:
            case RunStarted():
                self._forget()
            case FanOutOpened():
                if (strip := self.strips.get(step_path(event.node))) is not None:
                    strip.open(event.node, event.total)
            case NodeStarted():
                self.timeline.begin(event.node, event.at)
                self._stands(event.node, "running")
                for fan, index in items_around(event.node):
                    self._mark(fan, index, RUNNING)
            case NodeFinished():
                self._finished(event, label)
            case AttemptFailed():
                self.timeline.end(event.node, event.at, FAILED)
                self.states.pop(step_path(event.node), None)  # it waits, and begins anew
                active = {around for node in self.progress.active for around in items_around(node)}
                for fan, index in items_around(event.node):
                    strip = self.strips.get(step_path(fan))
                    if strip is not None and not strip.has_done(fan, index) and (fan, index) not in active:
                        strip.mark(fan, index, WAITING)
                error = event.outcome.error
                words = error.message if error is not None else ""
                self.log.append((event.at, "again", f"{label}  attempt {event.attempt}  {words}"))
            case GateOpened():
                self._stands(event.node, "paused")
                self.log.append((event.at, "asks", f"{event.label}  {event.message}"))
            case GateAnswered():
                self.states.pop(step_path(event.node), None)
                self.log.append((event.at, "answered", f"{step_path(event.node)}  {event.choice}  ({event.by})"))
            case Warned():
                self.log.append((event.at, "warning", event.message))
            case RunFinished():
                self.log.append((event.at, event.status, event.reason))
            case _:
                pass

    def lose(self, problem: str) -> None:
        """Nobody knows any more how it stands."""
        self.progress.status, self.progress.reason = "interrupted", problem
        self.progress.active.clear()

    def adopt(self, state: RunState) -> None:
        """Take in how a run stands, instead of the events that led there."""
        self.progress = state.progress.copy()
        self._forget()
        for fan, total in state.fans.items():
            if (strip := self.strips.get(step_path(fan))) is not None:
                strip.open(fan, total)
        for event in list(state.nodes.values()):
            if event.outcome.status != "pending":
                self._finished(event, event.label)
        self.log.clear()  # when all that happened is told by the journal, not by what came of it
        for task in self.progress.active.values():
            self.timeline.begin(task.node, task.started)
            self._stands(task.node, "running")
            for fan, index in items_around(task.node):
                self._mark(fan, index, RUNNING)
        for gate in self.progress.gates.values():
            self._stands(gate.node, "paused")

    def _finished(self, event: NodeFinished, label: str) -> None:
        status, path = event.outcome.status, step_path(event.node)
        code = CODES[status]
        self.timeline.end(event.node, event.at, code)
        self._stands(event.node, status)
        around = list(items_around(event.node))
        for fan, index in around:
            if (strip := self.strips.get(step_path(fan))) is not None:
                strip.begun(fan, index)
        if around and len(event.node) == len(around[-1][0]):
            fan, index = around[-1]
            line = self._fans.get(step_path(fan))
            if line is not None and (line.whole or f":*:{index}" in event.node[-1]):
                self._mark(fan, index, code)
        if event.failed_itself and event.outcome.error is not None:
            self._failed(path, event, label)
        if event.leaf and status in ("completed", "failed", "aborted"):
            output = event.outcome.output
            values = output if isinstance(output, dict) else {} if output is None else {"output": output}
            place = (self._places.get(_fan_path(path, self._places), 0), *(index for _, index in around))
            self._columns.update(dict.fromkeys(values))
            self.ended[event.node] = Ended(place, label, status, event.outcome.seconds, values)
            if not event.kept:
                words = "" if event.outcome.error is None else f"  {event.outcome.error.message}"
                self.log.append((event.at, status, f"{label}{words}  {duration(event.outcome.seconds)}"))

    def _failed(self, path: str, event: NodeFinished, label: str) -> None:
        error = event.outcome.error
        assert error is not None
        key = (path, error.cell, error.message)
        if key not in self.failures and len(self.failures) >= KINDS:
            self.other_failures += 1
            return
        group = self.failures.setdefault(key, Failures(event))
        group.count += 1
        if len(group.labels) < NAMED:
            group.labels.append(label)

    def _stands(self, node: NodeId, status: Status) -> None:
        path = step_path(node)
        place = self._places.get(path)
        if place is None:
            return
        if not self.lines[place].many:
            self.states[path] = status
        elif status not in ("running", "pending"):
            self.tallies.setdefault(path, Counter())[status] += 1

    def _mark(self, fan: NodeId, index: int, code: int) -> None:
        if (strip := self.strips.get(step_path(fan))) is not None:
            strip.mark(fan, index, code)


def _label(event: Event, progress: Progress) -> str:
    """Give what a task is called; the journal tells it once, at its start."""
    match event:
        case NodeFinished() | AttemptFailed():
            task = progress.active.get(event.node)
            return getattr(event, "label", "") or (task.label if task is not None else step_path(event.node))
        case _:
            return ""


def _fan_path(path: str, known: Mapping[str, int]) -> str:
    """Give the row in which a step is shown: its own, or that of the fan-out over it alone."""
    return path if path in known else path.rpartition(":")[0]


def _by_result(rows: list[Ended], name: str, *, falling: bool) -> list[Ended]:
    """Sort by a result: numbers by size, all else by its text, those without it last."""
    numbers = [(row.values[name], row) for row in rows if isinstance(row.values.get(name), (int, float))]
    texts = [(str(row.values[name]), row) for row in rows if name in row.values]
    pairs = numbers if len(numbers) == len(texts) else texts
    there = [row for _, row in sorted(pairs, key=itemgetter(0), reverse=falling)]  # type: ignore[arg-type, unused-ignore]
    return [*there, *(row for row in rows if name not in row.values)]
