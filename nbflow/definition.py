"""Definitions: what a workflow file says, or the same made of constructors. Closed: an unknown key is an error.

These records check the shape alone. What they refer to (steps, inputs, notebooks) is checked when a definition
is built into a :class:`nbflow.model.Workflow`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .durations import seconds
from .errors import DefinitionError, ManyProblemsError, ParameterError, did_you_mean
from .mermaid import mermaid
from .mistakes import path_text, place_of, words
from .sizes import size, size_or_share
from .steps import KernelStart
from .types import OnError, OnExhausted, OnFailure, OnReject, Order, Verdict

__all__ = [
    "Call",
    "Cells",
    "Defaults",
    "DoWhile",
    "FanIn",
    "FanOut",
    "Gate",
    "GateOption",
    "If",
    "Input",
    "Notebook",
    "Requires",
    "Retry",
    "Shell",
    "Step",
    "SubWorkflow",
    "Switch",
    "Task",
    "While",
    "Workflow",
    "refuse",
]

ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RETRY_WORDS = ("dead-kernel", "timeout", "start", "error", "memory")


def refuse(message: str) -> PydanticCustomError:
    """Give the error of a field, whose message goes on behind its path."""
    return PydanticCustomError("nbflow", cast("Any", message))


def _duration(value: float | str) -> float | str:
    try:
        seconds(value)
    except ParameterError as problem:
        raise refuse(f"is {_shown(value)}: a time is a number of seconds above 0, or like 30s, 10m, 1h30m") from problem
    return value


def _size(value: float | str) -> float | str:
    try:
        size(value)
    except ParameterError as problem:
        raise refuse(f"is {_shown(value)}: a size is a number of bytes, or like 500MB, 4GB, 1.5GiB") from problem
    return value


def _size_or_share(value: float | str) -> float | str:
    try:
        size_or_share(value, 1)
    except ParameterError as problem:
        words = "a number of bytes, or like 500MB, 4GB, 1.5GiB, or 80% of what there is"
        raise refuse(f"is {_shown(value)}: it is {words}") from problem
    return value


def _id(text: str) -> str:
    if not ID.fullmatch(text):
        raise refuse(f"is {text!r:.60}: an id is a letter or _, then letters, digits, _ and -")
    return text


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise refuse(f"is {text!r:.60}: a name is a letter or _, then letters, digits and _")
    return text


def _list_of_text(value: object) -> object:
    """One text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _present(value: str) -> str:
    if not value.strip():
        raise refuse("is empty")
    return value


def _scalar(value: object) -> object:
    if not isinstance(value, (str, bool, int, float)):
        raise refuse(f"is {_shown(value)}: it is text, a number, or true or false")
    return value


def _shown(value: object) -> str:
    words = {dict: "a mapping", list: "a list", type(None): "null", bool: str(value).lower()}
    return words.get(type(value), f"{value!r:.60}")


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _number_or_text(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise refuse(f"is {_shown(value)}: it is a whole number from 1, or an expression")
    return value


def _condition(value: object) -> object:
    if not isinstance(value, (bool, str)) or value == "":
        raise refuse(f"is {_shown(value)}: a condition is true, false, or an expression such as inputs.n > 3")
    return value


def _kernel_start(value: object) -> object:
    if value not in ("warm", "cold"):
        raise refuse(f"is {_shown(value)}: it is warm, or cold")
    return value


def _preload(value: object) -> object:
    try:
        KernelStart.said(None, value)
    except ParameterError as problem:
        raise refuse(f"is {value!r:.60}: it is auto, off, or a list of names of modules, such as [pandas]") from problem
    return value


def _list_or_text(value: object) -> object:
    if not isinstance(value, (list, str)):
        raise refuse(f"is {_shown(value)}: it is a list, or an expression that gives one")
    return value


def _command(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and not any(isinstance(part, (dict, list)) or part is None for part in value):
        return value
    raise refuse(f"is {_shown(value)}: it is text for a shell, or a list of a program and its arguments")


_DURATION_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
_SIZE_SCHEMA = {"anyOf": [{"type": "number", "minimum": 1}, {"type": "string"}]}
_ANY: dict[str, object] = {}

Duration = Annotated[Any, PlainValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[Any, PlainValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
SizeOrShare = Annotated[Any, PlainValidator(_size_or_share), WithJsonSchema(_SIZE_SCHEMA)]
Id = Annotated[str, AfterValidator(_id), Field(pattern=f"^{ID.pattern}$")]
Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_present)]
Texts = Annotated[list[str], BeforeValidator(_list_of_text)]
Value: TypeAlias = Annotated[Any, WithJsonSchema(_ANY)]
Start = Annotated[str, PlainValidator(_kernel_start), WithJsonSchema({"enum": ["warm", "cold"]})]
Preload = Annotated[
    Any,
    PlainValidator(_preload),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "off"]}, {"type": "array", "items": {"type": "string"}}]}),
]
Condition = Annotated[bool | str, PlainValidator(_condition), WithJsonSchema({"type": ["boolean", "string"]})]
ListOrText = Annotated[list[Any] | str, PlainValidator(_list_or_text), WithJsonSchema({"type": ["array", "string"]})]
NumberOrText = Annotated[
    int | float | str, PlainValidator(_number_or_text), WithJsonSchema({"type": ["number", "string"]})
]
Command = Annotated[
    list[Any] | str, PlainValidator(_command), WithJsonSchema({"type": ["array", "string"], "minItems": 1})
]
Scalar = Annotated[Any, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})]


class Part(BaseModel):
    """A part of a definition: closed, exact in its types, and never changed. Null is the same as not there."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_by_name=True, validate_by_alias=True, use_enum_values=True
    )

    def __init__(self, **data: Any) -> None:
        """Make one; what is wrong is told as of a file.

        Raises
        ------
        DefinitionError
            With all that is wrong.
        """
        try:
            super().__init__(**data)
        except ValidationError as problem:
            errors = problem.errors(include_url=False)
        else:
            return
        called = f"{type(self).__name__} {data['id']}" if "id" in data else type(self).__name__
        names = list(type(self).model_fields)
        found = []
        for error in errors:
            place = place_of(error)
            message, remedy = words(error, names if len(place) == 1 else [])
            path = path_text(place)
            found.append(DefinitionError(f"{called}: {path}{': ' if path else ''}{message}", remedy, called))
        raise found[0] if len(found) == 1 else ManyProblemsError(found)

    # Who reads a file comes by another way, and gathers the problems of all its parts: RootModel has this mark too.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    def data(self) -> dict[str, Any]:
        """Give it as it would be written: what was not said is left out."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Retry(Part):
    """When a failed task is tried again."""

    attempts: int = Field(ge=1)
    """How many times it is started at most, the first time included."""
    on: Texts = ["dead-kernel", "timeout", "start", "error"]
    """Kinds of failure, or names of exceptions."""
    delay: Duration | None = None
    """Time before the second attempt."""
    factor: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    jitter: bool = True
    max_delay: Duration | None = None
    alone: bool = False
    """Whether it is tried again only when nothing else of the run runs, and nothing else starts meanwhile."""


class Input(Part):
    """An input of a workflow; one without a default must be given."""

    type: Literal["string", "number", "integer", "boolean", "array", "object", "path", "date", "any"] = "string"
    default: Value = None
    enum: list[Any] | None = None
    """The only values there are."""
    items: Input | None = None
    """What the elements of an array, or the values of an object, are."""
    minimum: float | int | None = None
    maximum: float | int | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Input:
        for name in ("minimum", "maximum"):
            if getattr(self, name) is not None and self.type not in ("number", "integer"):
                raise refuse(f"has {name}, which only a number has; it is {_a(self.type)}")
        if self.items is not None and self.type not in ("array", "object"):
            raise refuse(f"has items, which only an array or an object has; it is {_a(self.type)}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise refuse(f"has minimum {self.minimum}, which is above its maximum {self.maximum}")
        return self


class Requires(Part):
    """What must be there before a run begins."""

    python: str | None = None
    """Versions of Python, such as ``>=3.10``."""
    kernels: Texts = []
    packages: Texts = []
    """Packages in the environment of each kernel, such as ``pandas>=2``."""


class Defaults(Part):
    """What holds for all steps that do not say otherwise."""

    kernel: Text | None = None
    kernel_start: Start | None = None
    preload: Preload | None = None
    timeout: Duration | None = None
    memory: Size | None = None
    retry: Retry | None = None
    cwd: Text | None = None
    env: dict[str, Value] | None = None


class Step(Part):
    """What every step may say."""

    keys: ClassVar[tuple[str, ...]] = ()
    """The keys that name the kind."""

    id: Id
    name: str | None = None
    """What people call it."""
    needs: Texts | None = None
    """Ids of the steps that it waits for, instead of the one above it."""
    when: Condition | None = None
    """It is skipped where this does not hold."""
    continue_on_error: bool = False
    timeout: Duration | None = None

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give the lists of steps in it, each with the path to it."""
        return iter(())


class Task(Step):
    """What every step may say that does work."""

    memory: Size | None = None
    """How much memory it needs: it starts where that is there."""
    retry: Retry | None = None


class Notebook(Task):
    """One notebook, in a fresh kernel."""

    keys: ClassVar[tuple[str, ...]] = ("notebook",)

    notebook: Text
    """The file, relative to that of the workflow."""
    parameters: dict[str, Value] = {}
    outputs: Texts = []
    """Names whose values are its output; by default those of the cell tagged ``results``."""
    kernel: Text | None = None
    kernel_start: Start | None = None
    """``warm`` (forked from a kernel that is ready, where there are several), or ``cold``."""
    preload: Preload | None = None
    """Modules that are imported before the fork: ``auto``, ``off``, or a list of names."""
    cwd: Text | None = None
    """``notebook`` (its own folder), ``item`` (an empty one for each item), or a path."""
    env: dict[str, Value] = {}
    secrets: Texts = []
    """Names of environment variables whose values are masked in everything written."""


class Cells(Task):
    """Some cells of a notebook, by their tags, in a fresh kernel."""

    keys: ClassVar[tuple[str, ...]] = ("cells",)

    cells: Text
    """The notebook's file."""
    tags: Texts = Field(min_length=1)
    """Cells with one of these tags run, and those that go with a tag ``step:NAME``; before them those that prepare each
    kernel: tagged ``setup`` or ``parameters``, or above the first step."""
    parameters: dict[str, Value] = {}
    names: dict[Name, Value] = {}
    """Values of names, assigned right before these cells: behind the setup, and behind what other steps left."""
    outputs: Texts = []
    kernel: Text | None = None
    kernel_start: Start | None = None
    preload: Preload | None = None
    cwd: Text | None = None
    env: dict[str, Value] = {}
    secrets: Texts = []


class Call(Task):
    """A Python function, in the worker's thread; its return value is the output."""

    keys: ClassVar[tuple[str, ...]] = ("call",)

    call: Text
    """``package.module:function``."""
    arguments: dict[str, Value] = {}


class Shell(Task):
    """A shell command, or a program with its arguments."""

    keys: ClassVar[tuple[str, ...]] = ("run",)

    run: Command
    env: dict[str, Value] = {}
    """Variables: this is how values reach the command."""
    cwd: Text | None = None
    format: Literal["text", "json"] = "text"
    """With ``json`` the output has ``data``, read from what it printed."""
    secrets: Texts = []


class GateOption(Part):
    """One answer to a gate."""

    name: Text
    outcome: Verdict


class Gate(Step):
    """A question to a person."""

    keys: ClassVar[tuple[str, ...]] = ("gate",)

    gate: Text
    """What is asked."""
    options: list[GateOption] | None = Field(default=None, min_length=1)
    on_reject: OnReject = "abort"
    show: Text | None = None
    """A file to be judged."""
    answer_from: Text | None = None
    """Where the answer may stand already: the name of an option."""


class If(Step):
    """One of two lists of steps."""

    keys: ClassVar[tuple[str, ...]] = ("if",)

    condition: Condition = Field(alias="if")
    then: list[AnyStep]
    else_: list[AnyStep] = Field(default=[], alias="else")

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give both lists."""
        yield ("then",), self.then
        yield ("else",), self.else_


class Switch(Step):
    """The list of steps whose case equals a value."""

    keys: ClassVar[tuple[str, ...]] = ("switch",)

    switch: Scalar
    cases: dict[str, list[AnyStep] | None] = Field(min_length=1)
    default: list[AnyStep] = []

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give the lists of all cases."""
        for case, steps in self.cases.items():
            yield ("cases", case), steps or []
        yield ("default",), self.default


class _Loop(Step):
    max_iterations: int = Field(default=10, ge=1)
    on_exhausted: OnExhausted = "complete"
    """How it ends when it had all its turns and the condition still holds."""


class While(_Loop):
    """Steps that are repeated while a condition holds, which is asked before each turn."""

    keys: ClassVar[tuple[str, ...]] = ("while",)

    condition: Condition = Field(alias="while")
    steps: list[AnyStep] = Field(min_length=1)

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give its body."""
        yield ("steps",), self.steps


class DoWhile(_Loop):
    """Steps that run once, and again while a condition holds, which is asked after each turn."""

    keys: ClassVar[tuple[str, ...]] = ("do",)

    do: list[AnyStep] = Field(min_length=1)
    condition: Condition = Field(alias="while")

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give its body."""
        yield ("do",), self.do


class FanOut(Step):
    """One step, or a list of steps, for each item."""

    keys: ClassVar[tuple[str, ...]] = ("items", "grid")

    items: ListOrText | None = None
    grid: Annotated[dict[str, ListOrText], Field(min_length=1)] | None = None
    """Lists by name; every combination is an item."""
    as_: Name = Field(default="item", alias="as")
    """What the item is called inside."""
    step: AnyStep | None = None
    steps: Annotated[list[AnyStep], Field(min_length=1)] | None = None
    max_concurrency: NumberOrText = 1
    """Items in flight at most."""
    on_error: OnError | None = None
    max_failures: int | None = Field(default=None, ge=1)
    order: Order = "items"

    @model_validator(mode="after")
    def _fits(self) -> FanOut:
        if (self.items is None) == (self.grid is None):
            raise refuse("has items and grid: keep one of them" if self.items is not None else "has no items")
        if (self.step is None) == (self.steps is None):
            raise refuse("has neither step nor steps" if self.step is None else "has step and steps: keep one of them")
        if self.max_failures is not None and self.on_error == "halt":
            raise refuse("has max_failures and on_error: halt, which is max_failures: 1: keep one of them")
        if self.order == "longest-first" and self.on_error != "continue" and self.max_failures is None:
            raise refuse("has order: longest-first, which wants on_error: continue")
        return self

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give its body."""
        if self.step is not None:
            yield ("step",), [self.step]
        else:
            yield ("steps",), self.steps or []


class FanIn(Step):
    """Gathers what fan-outs gave."""

    keys: ClassVar[tuple[str, ...]] = ("wait_for",)

    wait_for: Annotated[Texts, Field(min_length=1)]
    output: dict[str, Value] = {}


class SubWorkflow(Step):
    """Another workflow as a step."""

    keys: ClassVar[tuple[str, ...]] = ("workflow",)

    workflow: Text
    """The file, relative to that of the workflow."""
    inputs: dict[str, Value] = {}


BUILT_IN: tuple[type[Step], ...] = (
    Notebook,
    Cells,
    Call,
    Shell,
    Gate,
    If,
    Switch,
    DoWhile,
    While,
    FanOut,
    FanIn,
    SubWorkflow,
)
"""The kinds that are always there. ``while`` stands behind ``do``, which has it too."""


def kinds(info: ValidationInfo | None = None) -> Mapping[str, type[Step]]:
    """Give the classes of steps by the keys that name them: the built-in ones, and those of plug-ins."""
    known = (info.context or {}).get("kinds") if info is not None else None
    return known or {key: each for each in BUILT_IN for key in each.keys}


def _step(value: object, info: ValidationInfo) -> Step:
    if isinstance(value, Step):
        return value
    if not isinstance(value, dict):
        raise refuse(f"is {_shown(value)}: a step is a mapping, such as {{id: load, notebook: load.ipynb}}")
    known = kinds(info)
    found = list(dict.fromkeys(known[key] for key in known if value.get(key) is not None))
    if found[:2] == [DoWhile, While]:
        found.remove(While)  # its condition
    if len(found) == 1:
        return found[0].model_validate(value, context=info.context, by_name=False)
    if found:
        keys = [key for key in known if value.get(key) is not None]
        raise refuse(f"has {' and '.join(keys)}: exactly one key names what a step is")
    others = [str(key) for key in value if key not in Task.model_fields]
    near = next((hint for key in others if (hint := did_you_mean(key, list(known)))), "")
    raise refuse(f"does not say what it is: one of {', '.join(known)} names the kind.{near}")


AnyStep = Annotated[
    Step,
    PlainValidator(_step),
    PlainSerializer(lambda step: step.data(), return_type=dict[str, Any]),
    WithJsonSchema({"x-nbflow": "step"}),
]
"""A step of any kind, told by its key."""


class Workflow(Part):
    """A workflow.

    Examples
    --------
    >>> flow = Workflow(name="two", steps=[Call(id="one", call="builtins:dict"), Gate(id="sure", gate="Go on?")])
    >>> flow.data()["steps"][1]
    {'id': 'sure', 'gate': 'Go on?'}
    """

    nbflow: Literal[1] = 1
    """Version of this format."""
    name: Text | None = None
    """By default the file's."""
    description: str | None = None
    requires: Requires = Requires()
    inputs: dict[Name, Input] = {}
    defaults: Defaults = Defaults()
    max_workers: int | None = Field(default=None, ge=1)
    """Tasks in flight in the whole run."""
    max_memory: SizeOrShare | None = None
    """Memory that the tasks of the whole run may use together, or a share of what the machine has: ``80%``."""
    timeout: Duration | None = None
    """Time for the whole run."""
    on_failure: OnFailure = "halt"
    """Whether steps that do not wait for a failed one go on."""
    steps: list[AnyStep] = Field(min_length=1)

    def lists(self) -> Iterator[tuple[tuple[str | int, ...], list[Step]]]:
        """Give its steps."""
        yield ("steps",), self.steps

    def data(self) -> dict[str, Any]:
        """Give it as it would be written: what was not said is left out, but for the version of the format."""
        return {"nbflow": self.nbflow, **super().data()}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's names
        """Give the graph for a notebook, which draws it; text elsewhere."""
        fence = "\n".join(["```mermaid", *mermaid(self.steps), "```"])
        return {"text/markdown": fence, "text/plain": repr(self)}


for _each in (If, Switch, While, DoWhile, FanOut, Workflow):
    _each.model_rebuild()
