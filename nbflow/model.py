"""Workflows: a frozen tree of steps. What cannot be run cannot be made.

A loader turns text into these records once; after that nobody asks what a thing is. Values that are known
only while a run is at work are :class:`Binding` objects, which the engine resolves in a scope.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias

from .errors import DefinitionError, did_you_mean
from .types import OnError
from .values import Value, digest

NodeId: TypeAlias = tuple[str, ...]
"""Who a node is, for people: the step ids on the way down; an item's part is ``parent:template:index``."""

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

    def again(self, kind: str, exception: str | None) -> bool:
        """Tell whether a failure of this kind is one to try again."""
        return kind in self.on or (exception is not None and exception in self.on)

    def pause(self, attempt: int, key: str) -> float:
        """Give the seconds to wait after an attempt; equal for equal keys, so that a replay repeats it."""
        seconds = min(self.delay * self.factor ** (attempt - 1), self.max_delay)
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
    needs: tuple[str, ...] | None = None
    """Ids of the steps it waits for; ``None``: the one above it."""
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

    @cached_property
    def code_digest(self) -> str:
        """Digest of kind and content: the first part of the fingerprint of its nodes, what an edit changes."""
        return digest([self.kind, self.content], 6)

    @cached_property
    def work_digest(self) -> str:
        """Digest of what decides its work besides: goes with the parameters into the second part."""
        return digest(self.work(), 6)


@dataclass(frozen=True, kw_only=True)
class TaskStep(Step):
    """A step that does work outside the engine."""

    parameters: Binding = NOTHING
    """Resolves to a mapping of names to values."""
    retry: Retry = START_PROBLEMS


@dataclass(frozen=True, kw_only=True)
class NotebookStep(TaskStep):
    """One papermill execution of a notebook, in a fresh kernel."""

    kind: ClassVar[str] = "notebook"

    path: str
    """The notebook's file, relative to the workflow's folder."""
    source: str = ""
    """Digest of the notebook's code cells with the tags that decide what runs."""
    outputs: tuple[str, ...] = ()
    """Names whose values are its output; none: those of the cell tagged ``results``."""
    kernel: str = ""
    """Name of the kernel."""
    cwd: str = "notebook"
    """``notebook`` (its own directory), ``item`` (an empty folder), or a path relative to the workflow's folder."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables added to the kernel's environment."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are masked in everything written."""
    cell_timeout: float | None = None
    """Seconds that each cell may take."""

    def work(self) -> Value:
        """Give outputs, kernel, directory and environment."""
        return {
            "outputs": list(self.outputs),
            "kernel": self.kernel,
            "cwd": self.cwd,
            "env": [list(pair) for pair in self.env],
        }

    @property
    def content(self) -> str:
        """Digest of the notebook's code."""
        return self.source


@dataclass(frozen=True, kw_only=True)
class CallStep(TaskStep):
    """A Python function that runs in the worker's thread; its return value is the output."""

    kind: ClassVar[str] = "call"

    function: str
    """``package.module:function``."""
    source: str = ""
    """Digest of the source of the function's module."""

    def work(self) -> Value:
        """Give the function's name."""
        return {"function": self.function}

    @property
    def content(self) -> str:
        """Digest of the module."""
        return self.source


@dataclass(frozen=True, kw_only=True)
class ShellStep(TaskStep):
    """A shell command, or a program with its arguments.

    Its parameters are ``run`` (text, or a list of values), ``env`` (a mapping of names to values) and ``cwd``
    (text, or nothing).
    """

    kind: ClassVar[str] = "shell"

    shell: bool = True
    """Whether ``run`` is text for ``/bin/sh``; else it is a list: the program, and its arguments."""
    format: str = "text"
    """``text``, or ``json``: then the output has ``data``, read from stdout."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are masked in everything written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in ("text", "json"):
            raise DefinitionError(f"format is {self.format!r} in step {self.id!r}", "It is text or json.")

    def work(self) -> Value:
        """Give how the command is taken, and its output."""
        return {"shell": self.shell, "format": self.format}


@dataclass(frozen=True, kw_only=True)
class FanOut(Step):
    """One step, or a list of them, for each item of a list."""

    kind: ClassVar[str] = "fan-out"
    leaf: ClassVar[bool] = False

    items: Binding
    body: Block
    """The item's step, or its list of steps."""
    single: bool = True
    """Whether an item is one step (its output is the item's), or a list (``{id: output}``)."""
    name: str = "item"
    """What the item is called inside."""
    max_concurrency: Binding = Literal(1)
    """Items in flight at most."""
    on_error: OnError = "halt"
    max_failures: int | None = None
    """The n-th failure in item order stops the items after it; implies ``continue``."""
    varying: tuple[str, ...] = ()
    """Keys of an item by which people call it; none: all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_failures is not None and self.max_failures < 1:
            raise DefinitionError(f"max_failures is {self.max_failures} in step {self.id!r}", "It is a number from 1.")
        if self.single and len(self.body.steps) != 1:
            raise DefinitionError(f"fan-out {self.id!r} has {len(self.body.steps)} steps as its one step")
        if isinstance(self.max_concurrency, Literal) and not _is_window(self.max_concurrency.value):
            raise DefinitionError(
                f"max_concurrency is {self.max_concurrency.value!r:.40} in step {self.id!r}",
                "It is a whole number from 1.",
            )


def _is_window(value: Value) -> bool:
    """Whether it says how many items may be in flight: a whole number from 1, also as text; null is 1."""
    if value is None:
        return True
    try:
        number = int(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0
    except (ValueError, OverflowError):
        return False
    return number >= 1 and (isinstance(value, str) or number == value)


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

    def __init__(self, steps: Sequence[Step]) -> None:
        order, waits = _in_order(steps)
        dependents: list[list[int]] = [[] for _ in order]
        for place, before in enumerate(waits):
            for other in before:
                dependents[other].append(place)
        object.__setattr__(self, "steps", tuple(order))
        object.__setattr__(self, "waits", tuple(waits))
        object.__setattr__(self, "dependents", tuple(map(tuple, dependents)))


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
class StepList(Step):
    """A list of steps as one: the run itself, or an item of several steps."""

    kind: ClassVar[str] = "steps"
    leaf: ClassVar[bool] = False

    block: Block


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A definition, complete and valid."""

    name: str
    block: Block
    inputs: Mapping[str, Value] = field(default_factory=dict)
    """Values of its inputs."""
    max_workers: int = 4
    """Tasks in flight in the whole run."""
    timeout: float | None = None
    """Seconds the whole run may take."""


def label(item: Value, varying: Sequence[str] = ()) -> str:
    """Give what people call an item: its varying parameters.

    Examples
    --------
    >>> label({"city": "Cairo", "year": 2026}, ["city"])
    'city=Cairo'
    >>> label(3)
    '3'
    """
    if not isinstance(item, dict):
        return _short(item)
    names = [name for name in varying if name in item] or list(item)
    return " ".join(f"{name}={_short(item[name])}" for name in names)


def _short(value: Value) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
