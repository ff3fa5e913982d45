"""The kinds of steps, each a frozen record of what its definition says."""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword
from typing import ClassVar, Literal

from .errors import DefinitionError, ParameterError
from .model import NOTHING, NULL, ONE, Binding, Block, Condition, Ended, Step, TaskStep
from .model import Literal as Constant
from .namespace import RANDOM, SETTINGS, Past, Piece
from .types import OnError, OnExhausted, OnReject, Order, Verdict
from .values import Value


@dataclass(frozen=True, slots=True)
class KernelStart:
    """How the kernels of notebooks start.

    Parameters
    ----------
    cold : bool
        Whether each has a process of its own from the first moment; else they are forked, where there are several, from
        one that has imported what they import.
    preload : tuple of str, optional
        Modules that are imported before the fork; by default known ones that the cells import.
    """

    cold: bool = False
    preload: tuple[str, ...] | None = None

    def data(self) -> dict[str, Value]:
        """Give what JSON can hold of it."""
        return {"cold": self.cold, "preload": None if self.preload is None else list(self.preload)}

    @staticmethod
    def of(data: Value) -> KernelStart | None:
        """Give what :meth:`data` gave; null is nothing."""
        if not isinstance(data, dict):
            return None
        preload = data["preload"]
        return KernelStart(bool(data["cold"]), tuple(map(str, preload)) if isinstance(preload, list) else None)

    @staticmethod
    def said(kernel_start: str | None, preload: object) -> KernelStart | None:
        """Give what somebody said: ``warm`` or ``cold``, and ``auto``, ``off`` or a list of modules; ``None``: nothing.

        Raises
        ------
        ParameterError
            If it is something else.

        Examples
        --------
        >>> KernelStart.said("warm", ["pandas"])
        KernelStart(cold=False, preload=('pandas',))
        """
        if kernel_start is None and preload is None:
            return None
        if kernel_start not in (None, "warm", "cold"):
            raise ParameterError(f"kernel_start is {kernel_start!r:.60}", "It is warm or cold.")
        names = {"auto": None, "off": ()}.get(preload) if isinstance(preload, str) else preload
        if isinstance(preload, str) and preload not in ("auto", "off"):
            names = [name.strip() for name in preload.split(",")]
        if names is not None and not (
            isinstance(names, (list, tuple)) and all(isinstance(name, str) and _is_module(name) for name in names)
        ):
            raise ParameterError(f"preload is {preload!r:.60}", "It is auto, off, or names of modules: [pandas, scipy]")
        if wrong := {"auto", "off", "on"}.intersection(names or ()):
            raise ParameterError(
                f"preload names {min(wrong)!r} among modules", "auto and off stand alone: preload: auto"
            )
        return KernelStart(kernel_start == "cold", None if names is None else tuple(dict.fromkeys(names)))


def _is_module(name: str) -> bool:
    return all(part.isidentifier() and not iskeyword(part) for part in name.split("."))


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
    also: tuple[str, ...] = ()
    """Names whose values later steps ask for besides."""
    lists: tuple[str, ...] = ()
    """Those of them over which fan-outs run."""
    kernel: str = ""
    """Name of the kernel."""
    cwd: str = "notebook"
    """``notebook`` (its own directory), ``item`` (an empty folder), or a path relative to the workflow's folder."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are masked in everything written."""
    cell_timeout: float | None = None
    """Seconds that each cell may take."""
    start: KernelStart = KernelStart()
    """How its kernel starts, which changes nothing of what it does."""

    @property
    def masked(self) -> tuple[str, ...]:
        """Names of the variables whose values it masks."""
        return self.secrets

    def work(self) -> Value:
        """Give outputs, kernel and directory."""
        return {
            "outputs": list(self.outputs),
            "kernel": self.kernel,
            "cwd": self.cwd,
        }

    @property
    def content(self) -> str:
        """Digest of the notebook's code."""
        return self.source

    @property
    def origin(self) -> str:
        """The notebook."""
        return self.path


@dataclass(frozen=True, kw_only=True)
class CellsStep(NotebookStep):
    """Some cells of a notebook: in the kernel of the step above it, or in a fresh one with the names that they read."""

    kind: ClassVar[str] = "cells"

    piece: Piece | None = None
    """What it is to other steps of its notebook; ``None``: its names do not go from step to step."""
    earlier: tuple[Piece, ...] = ()
    """The steps of its notebook that it waits for, in order."""
    named: frozenset[str] = frozenset()
    """Ids of the steps that it says it needs."""
    leaves: frozenset[str] | None = frozenset()
    """Names that are saved behind it, if they are new or changed: see :class:`Links`; ``None``: all."""
    offers: frozenset[str] = frozenset()
    """Names that it assigns and no later step may read: they are saved, too, if they are small."""
    wanted: frozenset[str] | None = frozenset()
    """Those of the names that it leaves that later steps may read; ``None``: all."""
    assigned: tuple[str, ...] = ()
    """Those of its parameters that are assigned right before its own cells."""
    counts: frozenset[str] | None = None
    """Those of its parameters that it, or the cells which prepare its kernel, may read; ``None``: all."""
    prepared: frozenset[str] = frozenset()
    """Names that the cells assign which prepare its kernel."""
    passes: frozenset[str] = frozenset()
    """Ids of the steps that only run those cells: its own kernel is prepared, whether it says it needs them or not."""
    notebook_secrets: tuple[str, ...] = ()
    """The ``secrets`` of all steps of its notebook."""
    prepares: bool = False
    """Whether it only runs the cells that prepare each kernel, for the first time."""
    goes_on: str = ""
    """Id of the step in whose kernel it goes on, if that is still there."""
    goes_on_in: str = ""
    """Id of the step that goes on in its kernel."""
    gathers: bool = False
    """Whether it is an item's step, so that what it leaves is given to later steps in a list."""

    @property
    def masked(self) -> tuple[str, ...]:
        """Names of the variables whose values it masks."""
        return (*self.secrets, *self.notebook_secrets)

    @property
    def tells_nothing(self) -> bool:
        """Whether nothing of it is left for later steps: setup runs in each kernel, and items give only results."""
        return self.prepares or (self.gathers and not self.leaves)

    def work(self) -> Value:
        """Give what notebooks do, and what it gives besides."""
        work = super().work()
        assert isinstance(work, dict), "it is a mapping"
        return {**work, "also": list(self.also)} if self.also else work

    @property
    def said(self) -> Value:
        """What stands in a workflow of its parameters that it may read, and of its environment."""
        if self.written is None:
            return None
        assert isinstance(self.written, list), "it was built so"
        parameters, environment = self.written
        return [self._counted(parameters), environment]

    def given_digest(self, parameters: Value, environment: Value = None) -> str:
        """Give the digest of what it is given and may read."""
        return super().given_digest(self._counted(parameters), environment)

    def _counted(self, parameters: Value) -> Value:
        """Give those of some parameters that it may read."""
        if self.counts is None or not isinstance(parameters, dict):
            return parameters
        return {name: value for name, value in parameters.items() if name in self.counts}

    def follows(self, ended: Ended) -> frozenset[str] | None:
        """Give the steps that it names, and those whose names it reads."""
        if self.piece is None:
            return None
        return (self.named - self.passes) | _sources(self.earlier, self.piece, self.wanted, ended)


def _sources(pieces: tuple[Piece, ...], reader: Piece, wanted: frozenset[str] | None, ended: Ended) -> frozenset[str]:
    """Give the ids of the pieces that left what one reads, or may leave to later steps as it was; and of those that
    will run and may leave it."""
    outcomes = {piece.id: outcome for piece in pieces if (outcome := ended(piece.id)) is not None}
    past = Past(pieces, {step_id: outcome.names for step_id, outcome in outcomes.items()})
    read = past.known() if reader.reads is None else reader.reads
    coming_along = past.wanted(reader.reads, reader.assigns)
    names = {*read, *coming_along}  # what comes along is left anew, too
    names |= reader.perhaps if wanted is None else reader.perhaps & wanted
    givers = {giver.id for name in (*names, SETTINGS, RANDOM) for giver in past.sources(name)}
    givers |= {piece.id for _, entry in coming_along.values() for piece, _ in past.changers(entry)}
    coming = (piece for piece in pieces if piece.id in outcomes and outcomes[piece.id].status == "pending")
    met = {piece.id for piece in coming if reader.reads is None or any(map(piece.touches, names))}
    return frozenset(givers | met)


@dataclass(frozen=True, kw_only=True)
class ShellStep(TaskStep):
    """A shell command, or a program with its arguments; its parameters are ``run`` and ``cwd``."""

    kind: ClassVar[str] = "shell"

    shell: bool = True
    """Whether ``run`` is text for a shell; else it is a program and its arguments."""
    format: Literal["text", "json"] = "text"
    """With ``json`` the output has ``data``, read from what it printed."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are masked in everything written."""

    def work(self) -> Value:
        """Give what its parameters do not say."""
        return {"shell": self.shell, "format": self.format}


@dataclass(frozen=True, kw_only=True)
class CallStep(TaskStep):
    """A Python function that runs in the worker's thread; its return value is the output."""

    kind: ClassVar[str] = "call"

    function: str
    """``package.module:function``."""
    source: str = ""
    """Digest of the source of the function's module."""
    folder: str = ""
    """The folder of the workflow's in which the module was found; empty: it is where Python finds modules."""
    named: str = ""
    """The function with the folder of its file, as the outermost workflow says it: ``sub/helpers:f``."""

    def work(self) -> Value:
        """Give the function's name."""
        return {"function": self.function}

    @property
    def content(self) -> str:
        """Digest of the module."""
        return self.source

    @property
    def origin(self) -> str:
        """The function, and the folder of its module."""
        return self.named or self.function


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
    item_name: str = "item"
    """What the item is called inside."""
    max_concurrency: Binding = ONE
    """Items in flight at most."""
    on_error: OnError = "halt"
    max_failures: int | None = None
    """The n-th failure in item order stops the items after it; implies ``continue``."""
    varying: tuple[str, ...] = ()
    """Keys of an item by which people call it; none: all of them."""
    order: Order = "items"
    """``longest-first`` starts what took longest in an earlier run; only with ``on_error: continue``."""
    says_step: bool = True
    """Whether people call an item by its step too: ``fit city=Cairo``. That of a map goes without saying."""
    tells_outcomes: bool = False
    """Whether a later step reads its ``outcomes``, a full record of each item."""
    leaves: tuple[str, ...] = ()
    """Names of a notebook that later steps find as lists, with a value for each item."""
    made_of: frozenset[str] = frozenset()
    """Ids of the steps that its items come from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_failures is not None and self.max_failures < 1:
            raise DefinitionError(f"max_failures is {self.max_failures} in step {self.id!r}", "It is a number from 1.")
        if self.single and len(self.body.steps) != 1:
            raise DefinitionError(f"fan-out {self.id!r} has {len(self.body.steps)} steps as its one step")
        if isinstance(self.max_concurrency, Constant) and not _is_window(self.max_concurrency.value):
            raise DefinitionError(
                f"max_concurrency is {self.max_concurrency.value!r:.40} in step {self.id!r}",
                "It is a whole number from 1.",
            )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (self.body,)

    def follows(self, ended: Ended) -> frozenset[str] | None:
        """Give what its step follows, where that is told, with the steps that it names.

        The steps that its items come from count by the values of the items, which each item has.
        """
        inner = self.body.steps[0]
        followed = inner.follows(ended) if self.single else None
        return None if followed is None else followed | (frozenset(self.needs or ()) - inner.passes)


def _is_window(value: Value) -> bool:
    """Whether it says how many items may be in flight: a whole number, also as text; null and below 1 is 1."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return False
    return isinstance(value, str) or number == value


@dataclass(frozen=True, kw_only=True)
class StepList(Step):
    """A list of steps as one: the run itself, or an item of several steps."""

    kind: ClassVar[str] = "steps"
    leaf: ClassVar[bool] = False

    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (self.block,)


@dataclass(frozen=True, kw_only=True)
class FanIn(Step):
    """Gathers what fan-outs gave."""

    kind: ClassVar[str] = "fan-in"
    leaf: ClassVar[bool] = False

    wait_for: tuple[str, ...]
    """Ids of fan-outs of this or an outer list."""
    output: Binding = NOTHING
    """Resolves to a mapping; sees ``fan_in.results``."""


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to a gate."""

    name: str
    outcome: Verdict = "approve"


APPROVE_OR_REJECT = (Option("approve"), Option("reject", "reject"))


@dataclass(frozen=True, kw_only=True)
class GateStep(Step):
    """A question to a person; nothing behind it starts until somebody has answered."""

    kind: ClassVar[str] = "gate"

    message: Binding
    options: tuple[Option, ...] = APPROVE_OR_REJECT
    on_reject: OnReject = "abort"
    show: Binding = NULL
    """A file to be judged, relative to the workflow's folder."""
    answer_from: Binding = NULL
    """Where the answer may stand already: the name of an option; empty or null: a person is asked."""

    def work(self) -> Value:
        """Give the options, and what a rejection does: who chose of two did not choose among three."""
        return {"options": [[option.name, option.outcome] for option in self.options], "on_reject": self.on_reject}


@dataclass(frozen=True, kw_only=True)
class If(Step):
    """One of two lists of steps."""

    kind: ClassVar[str] = "if"
    leaf: ClassVar[bool] = False

    condition: Condition
    then: Block
    otherwise: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (self.then, self.otherwise)


@dataclass(frozen=True, kw_only=True)
class Switch(Step):
    """The list of steps whose case equals a value."""

    kind: ClassVar[str] = "switch"
    leaf: ClassVar[bool] = False

    value: Binding
    cases: tuple[tuple[str, Block], ...]
    """Texts, compared exactly with the text of the value, trimmed."""
    default: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (*(block for _, block in self.cases), self.default)


@dataclass(frozen=True, kw_only=True)
class Loop(Step):
    """A list of steps, turn after turn."""

    leaf: ClassVar[bool] = False

    condition: Condition
    """Sees the steps of the turn that ended last."""
    block: Block
    max_iterations: int = 10
    on_exhausted: OnExhausted = "complete"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_iterations < 1:
            raise DefinitionError(
                f"max_iterations is {self.max_iterations} in step {self.id!r}", "It is a number from 1."
            )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (self.block,)


@dataclass(frozen=True, kw_only=True)
class While(Loop):
    """Steps that are repeated while a condition holds, which is asked before each turn."""

    kind: ClassVar[str] = "while"


@dataclass(frozen=True, kw_only=True)
class DoWhile(Loop):
    """Steps that run once, and again while a condition holds, which is asked after each turn."""

    kind: ClassVar[str] = "do-while"


@dataclass(frozen=True, kw_only=True)
class SubWorkflow(Step):
    """Another workflow as a step, in a scope of its own."""

    kind: ClassVar[str] = "workflow"
    leaf: ClassVar[bool] = False

    block: Block
    inputs: Binding = NOTHING
    """Resolves to the values of its inputs, typed as it declares them."""
    context: Binding = NOTHING
    """Resolves to what its expressions know of the run."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lists of steps in it, in the order of the text."""
        return (self.block,)
