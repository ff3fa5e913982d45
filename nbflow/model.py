"""Workflows: a frozen tree of steps. What cannot be run cannot be made.

A loader turns text into these records once; after that nobody asks what a thing is. Values that are known
only while a run is at work are :class:`Binding` objects, which the engine resolves in a scope.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias

from .errors import DefinitionError, did_you_mean
from .outcome import Outcome
from .types import OnFailure
from .values import Value, digest

NodeId: TypeAlias = tuple[str, ...]
"""Who a node is, for people: the step ids on the way down; an item's part is ``parent:template:index``."""

Ended: TypeAlias = "Callable[[str], Outcome | None]"
"""Gives how a step of a list ended, by its id; ``None`` if there is none, or it has not ended."""

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def node_text(node: NodeId) -> str:
    """Give the text of a node's id.

    Examples
    --------
    >>> node_text(("train:fit:3", "score"))
    'train:fit:3/score'
    """
    return "/".join(node)


class Names(Protocol):
    """What a binding may see: the names of a scope."""

    def __getitem__(self, name: str) -> Value:
        """Give the value of a name, or raise KeyError."""
        ...


class Binding(Protocol):
    """A value that is known when its step is reached."""

    def resolve(self, names: Names) -> Value:
        """Give the value in this scope."""
        ...


class Condition(Protocol):
    """A question that is answered when its step is reached."""

    def holds(self, names: Names) -> bool:
        """Tell whether it is so in this scope."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the definition."""

    value: Value

    def resolve(self, names: Names) -> Value:  # noqa: ARG002 - a literal needs no names
        """Give the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Name:
    """The value of a name: ``item``, ``index``, ``inputs``, or what a fan-out calls its item."""

    name: str

    def resolve(self, names: Names) -> Value:
        """Give the value of the name."""
        return names[self.name]


@dataclass(frozen=True, slots=True)
class Merged:
    """Mappings laid over each other; later ones win."""

    parts: tuple[Binding, ...]

    def resolve(self, names: Names) -> Value:
        """Give one mapping."""
        merged: dict[str, Value] = {}
        for part in self.parts:
            mapping = part.resolve(names)
            assert isinstance(mapping, dict), "the loader merges mappings only"
            merged.update(mapping)
        return merged


NOTHING = Literal({})
NULL = Literal(None)
ONE = Literal(1)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed task is tried again."""

    attempts: int = 2
    """How many times it is started at most, the first time included."""
    on: tuple[str, ...] = ("start",)
    """Kinds of failure, or names of exceptions, after which it is tried again."""
    delay: float = 0.0
    """Seconds before the second attempt."""
    factor: float = 2.0
    """What the delay is multiplied with from attempt to attempt."""
    jitter: bool = True
    """Whether the delay is made shorter by up to a half, differently for each node."""
    max_delay: float = 3600.0
    """Seconds that a delay never exceeds."""
    alone: bool = False
    """Whether it is tried again only when nothing else of the run runs, and nothing else starts meanwhile."""

    def again(self, kind: str, exception: str | None) -> bool:
        """Tell whether a failure of this kind is one to try again.

        Who tries again after dead kernels, or errors, does so also when memory is known to be the reason.
        """
        kinds = {kind, "dead-kernel" if exception == "DeadKernelError" else "error"} if kind == "memory" else {kind}
        return not kinds.isdisjoint(self.on) or (exception is not None and exception in self.on)

    def pause(self, attempt: int, key: str) -> float:
        """Give the seconds to wait after an attempt; equal for equal keys, so that a replay repeats it."""
        try:
            seconds = min(self.delay * self.factor ** (attempt - 1), self.max_delay)
        except OverflowError:  # after a thousand attempts that double it, long past the cap
            seconds = self.max_delay if self.delay else 0.0
        if self.jitter and seconds:
            seconds *= 0.5 + int(digest([key, attempt], 4), 16) / 2**33
        return seconds


START_PROBLEMS = Retry(attempts=3, on=("start",))
"""The default: a kernel that did not start is tried again; nothing of the notebook had run."""


def retries(again: int) -> Retry:
    """Give the policy of ``--retry N``: after anything that may pass by itself, up to N attempts in all."""
    return Retry(attempts=max(1, again), on=("dead-kernel", "timeout", "start", "error"))


@dataclass(frozen=True, kw_only=True)
class Step:
    """What every step has. Its class is its kind."""

    kind: ClassVar[str]
    leaf: ClassVar[bool] = True
    """Whether it does something itself; containers are only the sum of what is in them."""

    id: str
    name: str = ""
    """What people call it, where the id does not say enough."""
    needs: tuple[str, ...] | None = None
    """Ids of the steps it waits for; ``None``: the one above it."""
    when: Condition | None = None
    """What must hold for it to run; else it is skipped."""
    continue_on_error: bool = False
    """Whether its failure is tolerated."""
    timeout: float | None = None
    """Seconds it may take."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise DefinitionError(
                f"{self.id!r} is no step id", "An id is a letter or _, then letters, digits, _ and -."
            )

    def work(self) -> Value:
        """Give what decides the work of a task besides its parameters; equal work, equal fingerprint."""
        return {}

    @property
    def content(self) -> str:
        """Digest of the source that a task runs; what an edit changes."""
        return ""

    @property
    def origin(self) -> str:
        """Where that source stands, as people call it."""
        return ""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return ()

    @property
    def passes(self) -> frozenset[str]:
        """Ids of steps that it may say it needs, and that do not count for it otherwise."""
        return frozenset()

    def follows(self, ended: Ended) -> frozenset[str] | None:  # noqa: ARG002 - those that look at outcomes say so
        """Give the ids of the steps whose work counts for its own; ``None``: of all that it waits for."""
        return None

    @property
    def made_of(self) -> frozenset[str]:
        """Ids of the steps whose outputs say what tasks there are in it."""
        return frozenset()

    @cached_property
    def code_digest(self) -> str:
        """Digest of kind and content: the first part of the fingerprint of its nodes, what an edit changes."""
        return digest([self.kind, self.content], 6)

    @cached_property
    def work_digest(self) -> str:
        """Digest of what decides its work besides."""
        return digest(self.work(), 6)

    def given_digest(self, parameters: Value, environment: Value = None) -> str:
        """Give the digest of what a node of it is given: the second part of its fingerprint."""
        return digest([self.work_digest, [parameters, environment] if environment else parameters], 6)


@dataclass(frozen=True, kw_only=True)
class TaskStep(Step):
    """A step that does work outside the engine."""

    parameters: Binding = NOTHING
    """Resolves to a mapping of names to values."""
    environment: Binding = NOTHING
    """Resolves to a mapping of names to values: variables for its process; null takes one away."""
    given: Binding = NOTHING
    """Resolves to what earlier steps left for it; no part of its fingerprint, which has those of these steps."""
    written: Value = None
    """Parameters and environment as they stand in a workflow, which an edit changes like code; null: in none."""
    retry: Retry = START_PROBLEMS
    memory: int | None = None
    """Bytes of memory that it needs, as its workflow says."""

    @property
    def said(self) -> Value:
        """Those of its parameters and its environment that count, as they stand in a workflow."""
        return self.written

    @property
    def fixed(self) -> Value:
        """What its workflow says of its work; what expressions give is left open."""
        return [self.work(), fixed(self.said)]

    @cached_property
    def code_digest(self) -> str:
        """Digests of kind and content, and of what its workflow says."""
        code = digest([self.kind, self.content], 6)
        return code if self.written is None else f"{code}-{digest(self.fixed, 6)}"

    def given_digest(self, parameters: Value, environment: Value = None) -> str:
        """Give the digest of what a node of it is given: where a file says the rest, the values of its expressions."""
        if self.written is None:
            return super().given_digest(parameters, environment)
        return digest(left_open(self.said, [parameters, environment]), 6)

    def earlier_fingerprint(self, parameters: Value, environment: Value) -> str:
        """Give the first parts of what was recorded before files counted as code; it may go when 0.1 is out."""
        return f"{digest([self.kind, self.content], 6)}.{super().given_digest(parameters, environment)}"


def has_expression(written: Value) -> bool:
    """Whether what stands in a definition says it by an expression.

    Examples
    --------
    >>> has_expression(["fit.py", "{{ city }}"])
    True
    """
    if isinstance(written, str):
        return "{{" in written
    if isinstance(written, dict):
        return any(map(has_expression, written.values()))
    return isinstance(written, (list, tuple)) and any(map(has_expression, written))


def fixed(written: Value) -> Value:
    """Give what a definition says without its expressions.

    Examples
    --------
    >>> fixed({"run": ["python", "fit.py", "{{ city }}"]})
    {'run': ['python', 'fit.py', None]}
    """
    if isinstance(written, str):
        return None if has_expression(written) else written
    if isinstance(written, dict):
        return {name: fixed(value) for name, value in written.items()}
    return [fixed(value) for value in written] if isinstance(written, list) else written


def left_open(written: Value, given: Value) -> Value:
    """Give the values that the expressions of a definition gave, each where it stands.

    Examples
    --------
    >>> left_open({"run": ["python", "fit.py", "{{ city }}"]}, {"run": ["python", "fit.py", "Oslo"]})
    {'run': [None, None, 'Oslo']}
    """
    if not has_expression(written):
        return None
    if isinstance(written, dict) and isinstance(given, dict):
        return {name: left_open(one, given.get(name)) for name, one in written.items() if has_expression(one)}
    if isinstance(written, list) and isinstance(given, list):
        return [left_open(one, said) for one, said in zip(written, given, strict=False)]
    return given


@dataclass(frozen=True)
class Block:
    """A list of steps in the order of one worker: topological, ties by their place in the text.

    Parameters
    ----------
    steps : sequence of Step
        As they stand in the text.

    Raises
    ------
    DefinitionError
        For an id that stands twice, an unknown id in ``needs``, or a cycle.
    """

    steps: tuple[Step, ...]
    waits: tuple[tuple[int, ...], ...] = field(init=False)
    """For each step the places of those it waits for; always smaller than its own."""
    dependents: tuple[tuple[int, ...], ...] = field(init=False)
    """For each step the places of those that wait for it."""
    before: tuple[int, ...] = field(init=False)
    """For each step the places that have certainly ended when it starts, as the bits of a number."""
    at: Mapping[str, int] = field(init=False, compare=False)
    """The place of each id."""
    on_failure: OnFailure = "halt"
    """Whether steps that do not wait for a failed one go on."""

    def __init__(self, steps: Sequence[Step], on_failure: OnFailure = "halt") -> None:
        order, waits = _in_order(steps)
        dependents: list[list[int]] = [[] for _ in order]
        for place, before in enumerate(waits):
            for other in before:
                dependents[other].append(place)
        object.__setattr__(self, "steps", tuple(order))
        object.__setattr__(self, "waits", tuple(waits))
        object.__setattr__(self, "dependents", tuple(map(tuple, dependents)))
        before_all: list[int] = []
        for before in waits:
            bits = 0
            for other in before:
                bits |= before_all[other] | 1 << other
            before_all.append(bits)
        object.__setattr__(self, "before", tuple(before_all))
        object.__setattr__(self, "at", {step.id: place for place, step in enumerate(order)})
        object.__setattr__(self, "on_failure", on_failure)


def _in_order(steps: Sequence[Step]) -> tuple[list[Step], list[tuple[int, ...]]]:
    """Give the steps in the order of one worker, and for each the places it waits for."""
    at = {step.id: i for i, step in enumerate(steps)}
    if len(at) < len(steps):
        twice = next(s.id for i, s in enumerate(steps) if at[s.id] != i)
        raise DefinitionError(f"step id {twice!r} stands twice in one list", "Give each step an id of its own.")
    before = [_awaited(step, i, at) for i, step in enumerate(steps)]
    after: list[list[int]] = [[] for _ in steps]
    for i, others in enumerate(before):
        for j in others:
            after[j].append(i)
    missing = [len(others) for others in before]
    ready = [i for i, count in enumerate(missing) if not count]
    place: dict[int, int] = {}
    while ready:
        i = heapq.heappop(ready)
        place[i] = len(place)
        for j in after[i]:
            missing[j] -= 1
            if not missing[j]:
                heapq.heappush(ready, j)
    if len(place) < len(steps):
        circle = ", ".join(repr(step.id) for i, step in enumerate(steps) if i not in place)
        raise DefinitionError(f"steps {circle} wait for each other", "Take one of the needs away.")
    return [steps[i] for i in place], [tuple(sorted(place[j] for j in before[i])) for i in place]


def _awaited(step: Step, i: int, at: dict[str, int]) -> set[int]:
    """Give the positions of the steps that a step waits for: those it names, else the one above it."""
    if step.needs is None:
        return {i - 1} if i else set()
    for other in step.needs:
        if other not in at:
            known = did_you_mean(other, list(at))
            raise DefinitionError(f"step {step.id!r} needs {other!r}, which is no step of its list.{known}")
    return {at[other] for other in step.needs}


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A definition, complete and valid."""

    name: str
    block: Block
    inputs: Mapping[str, Value] = field(default_factory=dict)
    """Values of its inputs."""
    context: Mapping[str, Value] = field(default_factory=dict)
    """What expressions know of the run: ``run_id`` and ``workflow_dir``."""
    max_workers: int = 4
    """Tasks in flight in the whole run."""
    timeout: float | None = None
    """Seconds the whole run may take."""


def label(item: Value, varying: Sequence[str] = (), name: str = "") -> str:
    """Give what people call an item: its varying parameters; the name is that of an item which is one value.

    Examples
    --------
    >>> label({"city": "Cairo", "year": 2026}, ["city"])
    'city=Cairo'
    >>> label(3), label(3, name="depth")
    ('3', 'depth=3')
    """
    if not isinstance(item, dict):
        return f"{name}={_short(item)}" if name else _short(item)
    names = [name for name in varying if name in item] or list(item)
    return " ".join(f"{name}={_short(item[name])}" for name in names)


def _short(value: Value) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
