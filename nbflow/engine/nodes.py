"""Live nodes and the groups of their children: what there is while something runs, and no longer."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from array import array
from bisect import insort
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Literal

from ..model import Block, Names, NodeId, Step
from ..model import label as label_of
from ..outcome import CANCELLED, Failure, Outcome
from ..steps import FanOut, StepList
from ..types import Status, StopReason
from ..values import Value, canonical
from .protocol import Ended, Flow
from .scope import Scope, StepNames

HALTING: frozenset[Status] = frozenset({"failed", "paused", "cancelled", "aborted"})
"""What stops the steps behind it in a list."""


class Node:
    """One step instance while it is at work.

    Its place says where it stands in its group, its path where it stands in the order of one worker.
    """

    __slots__ = (
        "alone",
        "attempt",
        "began",
        "children",
        "entry",
        "environment",
        "expired",
        "fingerprint",
        "flow",
        "given",
        "group",
        "id",
        "index",
        "items",
        "key",
        "label",
        "names",
        "parameters",
        "path",
        "place",
        "recalled",
        "spared",
        "step",
        "tries",
        "where",
    )

    def __init__(self, step: Step, node_id: NodeId, key: str, names: Names, group: Group | None, place: int) -> None:
        owner = group.owner if group is not None else None
        self.step = step
        self.id = node_id
        self.key = key
        self.names = names
        self.group = group
        self.place = place
        self.path: tuple[int, ...] = group.path(place) if group is not None else ()
        self.label = ""
        self.where: str = owner.where if owner is not None else ""  # what people call the items in which it stands
        self.items: tuple[Value, ...] = owner.items if owner is not None else ()
        self.index: int | None = owner.index if owner is not None else None
        self.entry = group.entry(place) if group is not None else ""
        self.flow: Flow | None = None
        self.children: Group | None = None
        self.fingerprint = ""
        self.parameters: dict[str, Value] = {}
        self.environment: dict[str, Value] = {}
        self.given: dict[str, Value] = {}
        self.attempt = 0  # the number of the last attempt, over all epochs
        self.tries = 0  # attempts since the last recorded end: what the retry policy counts
        self.alone = False  # its next attempt, or the one at work, is to have the run for itself
        self.began = 0.0
        self.expired: StopReason | None = None  # its time is up, or somebody cancelled
        self.recalled = False  # a person answered it in an earlier epoch
        self.spared: Outcome | None = None  # how it ends without having begun, for what it waits for did not complete

    @property
    def dead(self) -> bool:
        """Whether nothing new may start here: it is over, or some place before it, at any depth, has halted."""
        node: Node | None = self
        while node is not None:
            group = node.group
            if node.expired or (group is not None and node.place > group.halt):
                return True
            node = group.owner if group is not None else None
        return False

    def under(self, other: Node) -> bool:
        """Whether it is that node, or stands anywhere below it."""
        node: Node | None = self
        while node is not None and node is not other:
            node = node.group.owner if node.group is not None else None
        return node is other


class Group(ABC):
    """The children of a node: who may start, how each ended, and the first place that halted."""

    counts_tasks = False
    """Whether it has counted the tasks in the lists of its children."""

    def __init__(self, owner: Node, size: int) -> None:
        self.owner = owner
        self.size = size
        self.halt = size  # the first place, in order, that halted; behind the last while none did
        self.live = 0
        self.waiting = False  # stands in the machine's heap
        self.answered = False
        self.outcomes: list[Outcome | None] = [None] * size
        self.tokens = array("Q", bytes(8 * size))

    @abstractmethod
    def next(self) -> int | None:
        """Give the first place whose node may be made now."""

    @abstractmethod
    def make(self, place: int) -> Node:
        """Make the node of a place."""

    def path(self, place: int) -> tuple[int, ...]:
        """Give where the node of a place stands in the order of one worker."""
        return (*self.owner.path, place)

    @abstractmethod
    def taken(self, place: int) -> None:
        """Learn that the node of this place has been made."""

    @abstractmethod
    def entry(self, place: int) -> str:
        """Give the digest of what the node at this place waits for."""

    @abstractmethod
    def _ended(self, place: int, outcome: Outcome, step: Step) -> None:
        """Learn how a child ended; may move the halt."""

    def end(self, place: int, outcome: Outcome, token: int, step: Step) -> None:
        """Take in how a child ended."""
        self.live -= 1
        self.outcomes[place] = outcome
        self.tokens[place] = token
        self._ended(place, outcome, step)

    def ended(self) -> Ended:
        """Give how the group ended, by the places up to the first that halted; nothing in it is at work."""
        for place, outcome in enumerate(self.outcomes[: self.halt]):
            if outcome is None:
                self.halt = place  # cut off from outside: the first that was not reached decides
                break
        seen = [outcome or CANCELLED for outcome in self.outcomes[: self.halt + 1]]
        unknown = next((place for place, outcome in enumerate(seen) if outcome.status == "pending"), None)
        if unknown is not None:
            return Ended("pending", seen, unknown)  # it stands before the halt, and might decide
        if self.halt < self.size:
            return Ended(seen[self.halt].status, seen, self.halt)
        return Ended(self._status(seen), seen, self.first_lost(seen))

    def _status(self, seen: list[Outcome]) -> Status:  # noqa: ARG002 - others look at them
        """Give the status of a group that no place has halted."""
        return "completed"

    def first_lost(self, seen: list[Outcome]) -> int | None:  # noqa: ARG002 - others look at them
        """Give the place that decided although it halted nothing."""
        return None

    def token(self, status: Status) -> int:
        """Give the digest of what the group did, after what, by the places that count."""
        return token(self.owner.entry + self._done(), status)

    def _done(self) -> str:
        """Give what the children did, those that count."""
        return self.tokens[: self.halt + 1].tobytes().hex()


class StepGroup(Group):
    """The steps of a list: each may start when those it waits for have ended.

    Parameters
    ----------
    owner : Node
        Whose steps they are.
    block : Block
        The list.
    names : Names, optional
        What the list sees; by default what its owner does.
    turn : int, optional
        Which turn of a loop it is.
    earlier : Group, optional
        The turn before.
    """

    def __init__(
        self,
        owner: Node,
        block: Block,
        names: Names | None = None,
        turn: int | None = None,
        earlier: Group | None = None,
    ) -> None:
        super().__init__(owner, len(block.steps))
        self.block = block
        self._names = names or owner.names
        self._turn = turn
        self._earlier = earlier.outcomes if earlier is not None else ()
        self._entry = owner.entry if earlier is None else _hash(owner.entry, str(earlier.token("completed"))).hex()
        self._lost = 0  # places that failed or wait for one that did, where others go on
        self._unknown = 0  # places that are not done, and those that wait for one
        self._open = [len(waits) for waits in block.waits]
        self._ready = [place for place, count in enumerate(self._open) if not count]  # a heap: it is sorted

    def next(self) -> int | None:
        """Give the first step that waits for nothing any more."""
        return self._ready[0] if self._ready and self._ready[0] < self.halt else None

    def taken(self, place: int) -> None:  # noqa: ARG002 - it is the first
        """Learn that the first ready step has been made."""
        heapq.heappop(self._ready)

    def id(self, step: Step) -> NodeId:
        """Give who a step of the list is; those of an item and of a turn stand beside each other: ``train:fit:3``."""
        owner = self.owner.id
        if self._turn is not None:
            return (*owner[:-1], f"{owner[-1]}:{step.id}:{self._turn}")
        if owner and owner[-1].endswith(f":*:{self.owner.place}"):
            return (*owner[:-1], f":{step.id}:".join(owner[-1].rsplit(":*:", 1)))
        return (*owner, step.id)

    def key(self, step: Step) -> str:
        """Give who it is for resumes: by ids, values of items, and the turn."""
        return _hash(self.owner.key, *([] if self._turn is None else [str(self._turn)]), step.id).hex()

    def make(self, place: int) -> Node:
        """Make a step's node."""
        step = self.block.steps[place]
        names = StepNames(self.block, self.outcomes, self.block.before[place], self._names, self._earlier)
        node = Node(step, self.id(step), self.key(step), names, self, place)
        if self._turn is not None:
            node.where = _joined(node.where, f"turn {self._turn}")
        node.label = _joined(step.name or step.id, node.where)
        if lost := [other for other in self.block.waits[place] if self._lost >> other & 1]:
            node.spared = _left(f"waits for {self.block.steps[lost[0]].id}, which did not complete", "skipped")
        elif self._unknown and (unknown := [at for at in self._made_of(place) if self._unknown >> at & 1]):
            node.spared = _left(f"waits for {self.block.steps[unknown[0]].id}", "pending")
        return node

    def entry(self, place: int) -> str:
        """Chain the steps it waits for, since notebooks talk through files."""
        waits = self._follows(place)
        return _hash(self._entry, *(str(self.tokens[p]) for p in waits)).hex() if waits else self._entry

    def _made_of(self, place: int) -> Sequence[int]:
        """Give the places without which it is not known what there is to do."""
        at = self.block.at
        return sorted({*self._follows(place), *(at[one] for one in self.block.steps[place].made_of if one in at)})

    def _follows(self, place: int) -> Sequence[int]:
        """Give the places whose work counts for a step: where they are not told, those that it waits for."""
        at = self.block.at
        followed = self.block.steps[place].follows(
            lambda step_id: self.outcomes[at[step_id]] if step_id in at else None
        )
        return self.block.waits[place] if followed is None else sorted(at[one] for one in followed if one in at)

    def _ended(self, place: int, outcome: Outcome, step: Step) -> None:
        """A step halts its list unless its failure is tolerated."""
        if outcome.status in HALTING and not tolerated(outcome, step):
            if outcome.status != "failed" or self.block.on_failure == "halt":
                self.halt = min(self.halt, place)
                return
            self._lost |= 1 << place
        elif outcome.status == "pending":
            self._unknown |= 1 << place
        elif any(self._lost >> other & 1 for other in self.block.waits[place]):
            self._lost |= 1 << place
        for other in self.block.dependents[place]:
            self._open[other] -= 1
            if not self._open[other]:
                heapq.heappush(self._ready, other)

    def _status(self, seen: list[Outcome]) -> Status:
        """A list whose other steps went on after a failure has failed all the same."""
        return "failed" if self._lost and self.first_lost(seen) is not None else "completed"

    def first_lost(self, seen: list[Outcome]) -> int | None:
        """Give the first place that failed while others went on."""
        return next((place for place in range(len(seen)) if self._lost >> place & 1), None)


class ItemGroup(Group):
    """The items of a fan-out: a cursor, a window, and who each item is by its value."""

    counts_tasks = True

    def __init__(
        self, owner: Node, step: FanOut, items: list[Value], window: int, seconds: Mapping[str, float]
    ) -> None:
        super().__init__(owner, len(items))
        self.step = step
        self.items = items
        self.body: Step = step.body.steps[0] if step.single else StepList(id=step.id, block=step.body)
        self._window = window
        self._cursor = 0
        self._runs_on = step.on_error == "continue" or step.max_failures is not None
        self._allowed = step.max_failures or (len(items) + 1 if self._runs_on else 1)
        self._failed: list[int] = []  # places, in order
        self._who = array("Q", bytes(8 * len(items)))  # digests of the items' values
        self._known = 0
        self._seen = _Seen(len(items))
        self._repeated: dict[int, int] = {}  # places whose value came before: how often
        self._order: Sequence[int] = range(len(items))  # in which they start
        self._turns: Sequence[int] = self._order  # by place: which one it is in that order
        if step.order == "longest-first" and seconds:
            self._order = sorted(self._order, key=lambda place: -seconds.get(self.key(place), float("inf")))
            self._turns = sorted(self._order, key=self._order.__getitem__)  # the inverse

    def next(self) -> int | None:
        """Give the next item, while the window has room and nothing has halted before it."""
        while self._cursor < self.size and self._passed(self._order[self._cursor]):
            self._cursor += 1
        return self._order[self._cursor] if self.live < self._window and self._cursor < self.size else None

    def path(self, place: int) -> tuple[int, ...]:
        """Give where an item stands in the order of one worker: in that in which they start."""
        return (*self.owner.path, self._turns[place])

    def _passed(self, place: int) -> bool:
        """Whether it is answered from the record already, or stands behind a halt."""
        return self.outcomes[place] is not None or place > self.halt

    def taken(self, place: int) -> None:  # noqa: ARG002 - it stands at the cursor
        """Learn that an item has been opened."""
        self._cursor += 1

    def make(self, place: int) -> Node:
        """Make an item's node, in a scope of its own."""
        owner, value = self.owner, self.items[place]
        template = self.body.id if self.step.single else "*"
        node_id = (*owner.id[:-1], f"{owner.id[-1]}:{template}:{place}")
        names = Scope({"item": value, self.step.item_name: value, "index": place}, owner.names)
        node = Node(self.body, node_id, self.key(place), names, self, place)
        node.index = place
        item = label_of(value, self.step.varying, self.step.item_name) or f"item {place}"
        node.where = _joined(owner.where, item)
        node.label = _joined(self.body.name or self.body.id, node.where) if self.step.says_step else node.where
        node.items = (*owner.items, value)
        return node

    def key(self, place: int) -> str:
        """Give who the item is: its value, and how often that came before; never its position."""
        self._know(place)
        return _hash(self.owner.key, self.body.id, str(self._who[place]), str(self._repeated.get(place, 0))).hex()

    def _know(self, place: int) -> None:
        """Learn who the items are, up to this one."""
        while self._known <= place:
            who = int.from_bytes(_hash(canonical(self.items[self._known])), "big")
            self._who[self._known] = who
            if count := self._seen.add(who):
                self._repeated[self._known] = count
            self._known += 1

    def _done(self) -> str:
        """Give who did what; in which order the items stand says nothing, so their digests are added up."""
        count = min(self.halt + 1, self.size)
        self._know(count - 1)
        pairs = islice(zip(self._who, self.tokens, strict=True), count)
        return f"{sum(int.from_bytes(_hash(f'{who} {did}', size=16), 'big') for who, did in pairs) % 2**128:032x}"

    def entry(self, place: int) -> str:  # noqa: ARG002 - the same for all items
        """An item waits for what its fan-out waits for."""
        return self.owner.entry

    def _ended(self, place: int, outcome: Outcome, step: Step) -> None:
        """The n-th failure in item order halts; so does what a person, a pause or a cancel stopped."""
        match outcome.status:
            case "failed" if self.step.max_failures is not None or not tolerated(outcome, step):
                insort(self._failed, place)
                if len(self._failed) >= self._allowed:
                    self.halt = min(self.halt, self._failed[self._allowed - 1])
            case "cancelled" | "aborted":
                self.halt = min(self.halt, place)
            case "paused" if not self._runs_on:
                self.halt = min(self.halt, place)
            case _:
                pass

    def _status(self, seen: list[Outcome]) -> Status:
        """A fan-out is paused if an item is, and has failed if one did whose failure is not tolerated."""
        for outcome in seen:
            if outcome.status == "paused":
                return outcome.status
        return "failed" if any(not tolerated(seen[place], self.body) for place in self._failed) else "completed"


class _Seen:
    """Counts how often a digest came before, in a fifth of the memory that a dict of integers takes."""

    def __init__(self, size: int) -> None:
        self._mask = (1 << (2 * size).bit_length()) - 1
        self._table = array("Q", bytes(8 * (self._mask + 1)))  # open addressing; 0 is a free place
        self._again: dict[int, int] = {}

    def add(self, who: int) -> int:
        """Give how often it came before, and count it."""
        who = who or 1
        table, place = self._table, who & self._mask
        while table[place]:
            if table[place] == who:
                self._again[who] = self._again.get(who, 0) + 1
                return self._again[who]
            place = (place + 1) & self._mask
        table[place] = who
        return 0


def tolerated(outcome: Outcome, step: Step) -> bool:
    """Whether this is a failure that its step tolerates."""
    return outcome.status == "failed" and step.continue_on_error


def _left(reason: str, status: Literal["skipped", "pending"]) -> Outcome:
    """Give how a step ends that does not begin."""
    return Outcome(status, error=Failure(status, reason), attempts=0)


def token(fingerprint: str, status: Status) -> int:
    """Give the digest of what a node did and how it ended."""
    return int.from_bytes(_hash(fingerprint, status), "big")


def _joined(*words: str) -> str:
    return " ".join(filter(None, words))


def _hash(*parts: str, size: int = 8) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=size).digest()
