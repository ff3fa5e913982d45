"""Building: a definition becomes a workflow that can run, or all that is wrong with it is told at once."""

from __future__ import annotations

import itertools
import os.path
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypeVar

from .. import definition as d
from .. import model, steps
from ..durations import seconds
from ..errors import DefinitionError, NbflowError, ParameterError, did_you_mean
from ..expressions import Condition, ExpressionError, Reference, bind, condition, template
from ..mistakes import path_text
from ..model import NOTHING, NULL, Binding, Block, Literal, Merged, Names, Retry, has_expression
from ..sizes import size
from ..source import SETUP, Notebook, Parameter, assigned, read_notebook, selected
from ..values import DEEPEST, NotAValueError, Value, argument, passed
from .cell_steps import Links, links, path_of
from .documents import Path as Place
from .functions import Arguments, Module, function_arguments, function_module
from .inputs import Given
from .order import Order
from .parameters import check, shared_values
from .plain import says
from .sight import ListSight, Sight
from .workflow_file import Source, parse, read_workflow, refuse

__all__ = ["MAKERS", "Building", "Built", "Files", "Here", "Kept", "Maker", "OnDisk", "build", "kinds_of"]

Maker: TypeAlias = "Callable[[Any, Here], model.Step]"
"""Makes the step of a definition."""
T = TypeVar("T")
HOLDS = condition(True)  # noqa: FBT003 - it always holds


MOST_STEPS = 5_000
"""Steps of workflows in a workflow: twelve files that name the next one twice would have thousands."""


@dataclass
class Built:
    """A workflow that can run, and what it was made of."""

    block: Block
    inputs: Mapping[str, d.Input]
    notebooks: dict[str, Notebook] = field(default_factory=dict)
    """By the ``path`` of their steps."""
    files: dict[str, str] = field(default_factory=dict)
    """The texts of workflows in it, by their path."""
    functions: dict[str, str] = field(default_factory=dict)
    """Digests of the modules of the functions that are called."""
    kernels: dict[str, None] = field(default_factory=dict)
    """Names of kernels, in order."""
    requires: list[d.Requires] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    steps: int = 0
    """How many steps the workflows in it have, each time that one is named."""


class Files(Protocol):
    """Where a workflow's files are read from."""

    @property
    def folder(self) -> Path:
        """The folder that its paths are relative to."""
        ...

    def notebook(self, path: str) -> Notebook | None:
        """Give a notebook, or nothing where it cannot be looked into any more."""
        ...

    def workflow(self, path: str, kinds: Mapping[str, type[d.Step]]) -> tuple[d.Workflow, Source, str]:
        """Give a definition, where it stands, and its text."""
        ...

    def function(self, text: str, below: str) -> Module:
        """Give a function's module."""
        ...

    def arguments(self, text: str, below: str) -> Arguments | None:
        """Give the arguments of a function that was found, where they can be told."""
        ...

    def has_folder(self, path: str) -> bool:
        """Tell whether there is such a folder."""
        ...

    def check_kernel(self, name: str) -> None:
        """Raise if there is no kernel of this name."""
        ...


@dataclass(frozen=True)
class OnDisk:
    """The files as they stand on disk now."""

    folder: Path
    check_kernel: Callable[[str], None] = lambda _name: None

    def notebook(self, path: str) -> Notebook | None:
        """Give a notebook."""
        return read_notebook(self.folder / path)

    def workflow(self, path: str, kinds: Mapping[str, type[d.Step]]) -> tuple[d.Workflow, Source, str]:
        """Give a definition."""
        definition, source = read_workflow(self.folder / path, path, kinds)
        return definition, source, (self.folder / path).read_text(encoding="utf-8-sig")

    def function(self, text: str, below: str) -> Module:
        """Give a function's module."""
        return function_module(text, self.folder / below)

    def arguments(self, text: str, below: str) -> Arguments | None:
        """Give the arguments of a function."""
        return function_arguments(text, self.folder / below)

    def has_folder(self, path: str) -> bool:
        """Tell whether there is such a folder."""
        return (self.folder / path).is_dir()


@dataclass(frozen=True)
class Kept:
    """The files of a run that is only looked at, as it keeps them."""

    folder: Path
    texts: Mapping[str, str]
    """The workflow files in it, by their paths."""
    copied: Callable[[str], Notebook | None] = lambda _path: None
    """Gives the copy of a notebook, where the run folder has one."""

    def notebook(self, path: str) -> Notebook | None:
        """Give the copy that was run."""
        return self.copied(path)

    def workflow(self, path: str, kinds: Mapping[str, type[d.Step]]) -> tuple[d.Workflow, Source, str]:
        """Give a definition."""
        return (*parse(self.texts[path], path, kinds), self.texts[path])

    def function(self, text: str, below: str) -> Module:  # noqa: ARG002 - as above
        """Give nothing."""
        return Module("")

    def arguments(self, text: str, below: str) -> Arguments | None:  # noqa: ARG002 - as above
        """Give nothing."""
        return None

    def has_folder(self, path: str) -> bool:  # noqa: ARG002 - as above
        """It had."""
        return True

    def check_kernel(self, name: str) -> None:
        """It was there."""


def build(
    definition: d.Workflow, source: Source, files: Files, *, makers: Mapping[type[d.Step], Maker] | None = None
) -> Built:
    """Build a workflow.

    Parameters
    ----------
    definition : Workflow
        What it says.
    source : Source
        Where it stands, for messages.
    files : Files
        Where its files are read from.
    makers : mapping, optional
        What makes the steps of each class; by default those of the built-in kinds.

    Raises
    ------
    DefinitionError
        With all that is wrong.
    """
    built = Built(Block([]), definition.inputs)
    building = Building(definition, source, files, "", built, makers or MAKERS, (source.name,))
    built.block = building.block()
    refuse(building.problems)
    return built


@dataclass
class Building:
    """One workflow file at work, the outermost or one that is a step."""

    definition: d.Workflow
    source: Source
    files: Files
    below: str
    """The path from there to this file's folder."""
    built: Built
    makers: Mapping[type[d.Step], Maker]
    chain: tuple[str, ...]
    """The files on the way here."""
    problems: list[DefinitionError] = field(default_factory=list)
    named: dict[str, Notebook] = field(default_factory=dict)
    """The notebooks by the text that names them."""
    read: dict[str, Notebook | None] = field(default_factory=dict)
    """The notebooks by their paths."""
    linked: dict[str, Links | None] = field(default_factory=dict)
    """What the steps of notebooks are to each other, by the same text."""
    read_whole: bool = False
    """Whether something around this file may read the full records of a fan-out's items."""

    def block(self) -> Block:
        """Give the steps of this file."""
        self.built.requires.append(self.definition.requires)
        self._inputs()
        self.tells = self.read_whole or _reads_outcomes(self.definition)
        for each in _all_steps(self.definition.steps):
            if isinstance(each, d.Notebook):
                self._known(each.notebook)
        sight = Sight(self.definition.inputs, notebooks=self.named)
        given = self.definition.steps
        return self.list(given, _places(("steps",), given), sight, on_failure=self.definition.on_failure)

    def _known(self, text: str) -> None:
        """Read a notebook so that readers of its results can be checked; what is wrong is told where it is used."""
        try:
            found = self.notebook(self.path(text))
        except NbflowError:
            return
        if found is not None:
            self.named[text] = found

    def _inputs(self) -> None:
        from .inputs import fit

        for name, one in self.definition.inputs.items():
            if "default" in one.model_fields_set:
                try:
                    fit(name, one, one.default, text=False)
                except ParameterError as problem:
                    self.problem(("inputs", name, "default"), problem.message, problem.remedy)

    def problem(self, place: Place, message: str, remedy: str = "") -> None:
        """Note what is wrong."""
        self.problems.append(self.source.problem(place, message, remedy))

    def notebook(self, path: str) -> Notebook | None:
        """Give a notebook, which is read once."""
        if path not in self.read:
            self.read[path] = self.files.notebook(path)
        return self.read[path]

    def links(self, text: str, path: str, notebook: Notebook) -> Links | None:
        """Give what the steps of a notebook are to each other; nothing where its names cannot be told."""
        if text not in self.linked:
            given = self.definition.steps
            self.linked[text] = links(notebook, path, text, given) if notebook.language == "python" else None
        return self.linked[text]

    def asked(self, one: d.Cells, *, lists: bool = False) -> tuple[str, ...]:
        """Give the names that expressions ask of some cells; or those over which alone a fan-out runs."""
        found = {name for step_id, name, in_items in self._asked if step_id == one.id and (in_items or not lists)}
        return tuple(sorted(found))

    @cached_property
    def _asked(self) -> frozenset[tuple[str, str, bool]]:
        """The names that expressions ask of steps, and whether as the items of a fan-out."""
        texts = [(text, place[-1] == "items") for place, text in _texts(self.definition.data())]
        return frozenset((a or b, name, items) for text, items in texts for a, b, name in _ASKED.findall(text))

    def path(self, text: str) -> str:
        """Give a path of this file as the outermost workflow says it."""
        return beneath(self.below, text)

    def list(
        self,
        given: Sequence[d.Step],
        places: Sequence[Place],
        sight: Sight,
        *,
        turns: bool = False,
        on_failure: Any = "halt",
    ) -> Block:
        """Give a list of steps, each with its place; turns: it is the body of a loop."""
        ids = {step.id: step for step in given}
        order = Order.of(given)
        before = len(self.problems)
        for i, key, message, remedy in order.problems():
            self.problem((*places[i], key), message, remedy)
        whole = len(self.problems) == before
        made = []
        for step, place in zip(given, places, strict=True):
            near = ListSight(ids, order.ended(step.id), step.id, turns, order.waits, order.behind)
            made.append(Here(self, place, sight.inside(near), step, order.needs[step.id]).step())
        ready = [step for step in made if step is not None]
        return Block(ready, on_failure) if whole and len(ready) == len(given) else Block([])


def _places(place: Place, given: Sequence[d.Step]) -> list[Place]:
    """Give where the steps of a list stand."""
    return [(*place, i) for i in range(len(given))]


@dataclass
class Here:
    """One step at work: where it stands, what it sees, and what makes the parts of it."""

    building: Building
    place: Place
    sight: Sight
    definition: d.Step
    needs: tuple[str, ...] | None
    """Ids of the steps that it waits for."""

    def step(self) -> model.Step | None:
        """Give the step, or nothing if something is wrong with it."""
        before = len(self.building.problems)
        try:
            made = self.building.makers[type(self.definition)](self.definition, self)
        except DefinitionError as problem:
            self.building.problem(self.place, problem.message, problem.remedy)
            return None
        return made if len(self.building.problems) == before else None

    def problem(self, message: str, remedy: str = "", *keys: str | int) -> None:
        """Note what is wrong with a part of the step."""
        self.building.problem((*self.place, *keys), message, remedy)

    # -- what every step has ---------------------------------------------------------------------------

    @property
    def common(self) -> dict[str, Any]:
        """Give what every step says, for the constructor of its class."""
        one = self.definition
        return {
            "id": one.id,
            "name": one.name or "",
            "needs": self.needs,
            "when": None if one.when is None else self.condition(one.when, "when"),
            "continue_on_error": one.continue_on_error,
            "timeout": self.seconds(one.timeout),
        }

    @property
    def task(self) -> dict[str, Any]:
        """Give what every task says besides."""
        one, defaults = self.definition, self.building.definition.defaults
        assert isinstance(one, d.Task)
        timeout = one.timeout if one.timeout is not None else defaults.timeout
        memory = one.memory if one.memory is not None else defaults.memory
        policy = one.retry or defaults.retry
        retry = {} if policy is None else {"retry": self.retry(policy, "retry")}
        needed = None if memory is None else size(memory)
        return {**self.common, "timeout": self.seconds(timeout), "memory": needed, **retry}

    @staticmethod
    def seconds(text: float | str | None) -> float | None:
        """Give the seconds of a time."""
        return None if text is None else seconds(text)

    def retry(self, given: d.Retry, *keys: str) -> Retry:
        """Give a policy."""
        for word in given.on:
            if word not in d.RETRY_WORDS and not word[:1].isupper():
                hint = did_you_mean(word, list(d.RETRY_WORDS))
                remedy = f"It is one of {', '.join(d.RETRY_WORDS)}, or the name of an exception."
                self.problem(f"{word!r} is no kind of failure.{hint}", remedy, *keys, "on")
        delay, most = self.seconds(given.delay) or 0.0, self.seconds(given.max_delay) or 3600.0
        return Retry(given.attempts, tuple(given.on), delay, given.factor, given.jitter, most, given.alone)

    # -- expressions -----------------------------------------------------------------------------------

    def binding(self, value: Any, *keys: str | int, sight: Sight | None = None) -> Binding:
        """Give a value, in which any text may hold expressions."""
        before = len(self.building.problems)
        try:
            plain = passed(value)
            for place, text in _texts(plain):
                self._checked(partial(bind, text), (*keys, *place), sight)
            return bind(plain) if len(self.building.problems) == before else NULL
        except NotAValueError as problem:
            self.problem(f"is or holds {problem}, which no step can be given", "", *keys)
        except ExpressionError as problem:  # in a key, or it is nested too deep
            self.problem(problem.message, problem.remedy, *keys)
        return NULL

    @staticmethod
    def written(parameters: Mapping[str, Any], environment: Mapping[str, Any] = MappingProxyType({})) -> Value:
        """Give parameters and environment as they stand there, for what an edit changes."""
        try:
            return [argument(dict(parameters)), argument(dict(environment))]
        except NotAValueError:
            return None  # it is told where it is bound

    def text(self, text: str, *keys: str | int) -> Binding:
        """Give a text that may hold expressions."""
        return self._checked(lambda: template(text), keys, None) or NULL

    def expression(self, text: Value, *keys: str | int) -> Binding:
        """Give the value of an expression; the braces may be left out."""
        if not isinstance(text, str):
            return Literal(text)
        braced = text if "{{" in text else f"{{{{ {text} }}}}"
        return self._checked(lambda: template(braced), keys, None) or NULL

    def condition(self, value: d.Condition, *keys: str | int, sight: Sight | None = None) -> Condition:
        """Give a condition."""
        return self._checked(lambda: condition(value), keys, sight) or HOLDS

    def _checked(self, make: Callable[[], T], keys: Place, sight: Sight | None) -> T | None:
        try:
            made = make()
        except ExpressionError as problem:
            self.problem(problem.message, problem.remedy, *keys)
            return None
        for reference in getattr(made, "references", ()):
            for message, remedy in self._seen(reference, sight or self.sight):
                shown = f"{{{{ {reference.expression} }}}}"
                self.problem(f"{message} (in {shown:.90})", remedy, *keys)
        return made

    @staticmethod
    def _seen(reference: Reference, sight: Sight) -> Iterator[tuple[str, str]]:
        return sight.problems(reference)

    def literal(self, text: str, *keys: str | int) -> str:
        """Give a text that must hold no expression."""
        if "{{" in text:
            self.problem(
                f"is {text!r:.60}, and cannot be an expression",
                "What runs is known before the run: use if or switch to choose.",
                *keys,
            )
        return text

    # -- lists -----------------------------------------------------------------------------------------

    def block(
        self, given: Sequence[d.Step] | None, *keys: str | int, sight: Sight | None = None, turns: bool = False
    ) -> Block:
        """Give a list of steps in it."""
        places = _places((*self.place, *keys), given or ())
        return self.building.list(given or (), places, sight or self.sight, turns=turns)

    def one(self, given: d.Step, *keys: str | int, sight: Sight | None = None) -> Block:
        """Give the one step in it, as a list."""
        return self.building.list([given], [(*self.place, *keys)], sight or self.sight)

    def distinct(self) -> None:
        """Note ids that stand in more than one list of the step."""
        seen: dict[str, Place] = {}
        for keys, given in self.definition.lists():
            for i, step in enumerate(given):
                if seen.setdefault(step.id, keys) != keys:
                    told = f"the id {step.id!r} stands in two lists of one step"
                    self.problem(told, "Give each an id of its own.", *keys, i, "id")


# -- notebooks ----------------------------------------------------------------------------------------------------


def _notebook(one: d.Notebook, here: Here) -> model.Step:
    path = here.building.path(here.literal(one.notebook, "notebook"))
    found = _read(here, path, one.notebook, "notebook")
    return _notebook_step(one, here, path, found, steps.NotebookStep)


def _cells(one: d.Cells, here: Here) -> model.Step:
    path = here.building.path(here.literal(one.cells, "cells"))
    found = _read(here, path, one.cells, "cells")
    more: dict[str, Any] = {}
    if found is not None:
        tags = sorted({tag for cell in found.cells for tag in cell.tags} | {SETUP})
        for i, tag in enumerate(one.tags):
            if tag not in tags:
                hint = did_you_mean(tag, tags)
                here.problem(f"no cell of {found.name} is tagged {tag!r}.{hint}", _tags(tags), "tags", i)
        linked = _linked(here, one.cells, path, found)
        more = {} if linked is None else linked.of(one, here.sight)
        found = selected(found, one.tags)
        here.building.built.warnings += () if linked is None else _missing(one, here, linked, found)
        shown = one.outputs or found.result_names
        asked = here.building.asked(one)
        more |= {
            "also": tuple(name for name in asked if name not in shown),
            "lists": here.building.asked(one, lists=True),
        }
        path = path_of(path, one)
    return _notebook_step(one, here, path, found, partial(steps.CellsStep, **more))


def _tags(tags: Sequence[str]) -> str:
    return f"Tags there are: {', '.join(tags)}." if tags else "It has no tags: nbflow tag NOTEBOOK CELL TAG"


def _missing(one: d.Cells, here: Here, linked: Links, found: Notebook) -> Iterator[str]:
    """Warn of names that nothing in the file gives; something else may: a startup file of the kernel, an extension."""
    for name, place, other in linked.missing(one, here.sight):
        if any(says(cell, name) for cell in found.cells):
            who = f"step {other} assigns, and does not wait for that step" if other else "no cell before assigns"
            where = f"{path_text((*here.place, 'cells'))}: cell {place.cell}, line {place.line} of {found.name}"
            yield f"{where} reads {name!r}, which {who}: " + (
                f"needs: [{other}]" if other else f"names: {{{name}: VALUE}}"
            )


def _linked(here: Here, text: str, path: str, notebook: Notebook) -> Links | None:
    """Give what the steps of a notebook are to each other; what is wrong with it is told where it is named first."""
    try:
        return here.building.links(text, path, notebook)
    except DefinitionError as problem:
        here.building.linked[text] = None
        here.problem(f"{notebook.name}: {problem.message}", problem.remedy, "cells")
        return None


def _read(here: Here, path: str, text: str, key: str) -> Notebook | None:
    """Give a notebook; what is wrong with it is told where it is named first."""
    try:
        return here.building.named.get(text) or here.building.notebook(path)
    except NbflowError as problem:
        here.building.read[path] = None
        here.problem(problem.message, problem.remedy, key)
        return None


def _notebook_step(
    one: d.Notebook | d.Cells, here: Here, path: str, found: Notebook | None, kind: Callable[..., steps.NotebookStep]
) -> model.Step:
    defaults, built = here.building.definition.defaults, here.building.built
    kernel = one.kernel or defaults.kernel or (found.kernel if found is not None else "") or "python3"
    if kernel not in built.kernels:
        try:
            here.building.files.check_kernel(kernel)
            built.kernels[kernel] = None
        except NbflowError as problem:
            here.problem(problem.message, problem.remedy, *(("kernel",) if one.kernel else ()))
    if found is not None:
        built.notebooks[path] = found
        _check_parameters(one, here, found)
        _check_outputs(one, here, found)
    cwd = one.cwd or defaults.cwd or "notebook"
    if cwd not in ("notebook", "item"):
        cwd = here.building.path(here.literal(cwd, "cwd"))
        if not here.building.files.has_folder(cwd):
            here.problem(f"is {cwd!r}: no such folder", "It is notebook, item, or a folder that is there.", "cwd")
    _check_secrets(one.secrets, here)
    env = {**(defaults.env or {}), **one.env}
    return kind(
        **here.task,
        path=path,
        source=found.digest_given(one.parameters) if found is not None else "",
        outputs=tuple(one.outputs),
        kernel=kernel,
        cwd=cwd,
        secrets=tuple(one.secrets),
        start=_start(one, defaults),
        parameters=_with_names(one, here, _typed(here.binding(one.parameters, "parameters"), found)),
        environment=here.binding(env, "env"),
        written=here.written({**one.parameters, **_names(one)}, env),
    )


def _names(one: d.Notebook | d.Cells) -> Mapping[str, Value]:
    return one.names if isinstance(one, d.Cells) else {}


def _with_names(one: d.Notebook | d.Cells, here: Here, given: Binding) -> Binding:
    """Give parameters with the names that are assigned behind them."""
    names = _names(one)
    return Merged((given, here.binding(names, "names"))) if names else given


def _start(one: d.Notebook | d.Cells, defaults: d.Defaults) -> steps.KernelStart:
    """Give how its kernel starts: what it says, else what holds for all."""
    kernel_start = one.kernel_start or defaults.kernel_start
    preload = one.preload if one.preload is not None else defaults.preload
    return steps.KernelStart.said(kernel_start, preload) or steps.KernelStart()


def _check_parameters(one: d.Notebook | d.Cells, here: Here, found: Notebook) -> None:
    known = [parameter.name for parameter in found.parameters]
    listed = found.parameters_known and found.parameters_cell is not None
    strange = [name for name in one.parameters if listed and name not in known]
    for name in strange:
        _check_names(here, found, [name, *known], "parameters", name)
    _check_names(here, found, [name for name in one.parameters if name not in strange], "parameters")
    for name, value in one.parameters.items():
        if name in known and not has_expression(value):
            try:
                shared_values(found, {name: value}, text=False)
            except ParameterError as problem:
                here.problem(problem.message, problem.remedy, "parameters", name)

        elif name in known:
            _check_input(here, found, found.parameters[known.index(name)], value)


_FOR_EXAMPLE: Mapping[str, Value] = {
    **dict.fromkeys(("string", "path", "date"), "2026-01-31"),
    "number": 1.0,
    "integer": 1,
    "boolean": True,
    "array": [],
    "object": {},
    "any": None,
}
"""A value of each type of input; one that fits whatever some other value of the type would."""


def _check_input(here: Here, found: Notebook, parameter: Parameter, value: Any) -> None:
    """Check a parameter that is given an input as it is: its type is known."""
    name = re.fullmatch(r"\{\{\s*inputs\.(\w+)\s*\}\}", value.strip()) if isinstance(value, str) else None
    declared = here.sight.inputs.get(name[1]) if name is not None else None
    if name is None or declared is None or declared.type == "any" or parameter.type.choices:
        return
    try:
        shared_values(found, {parameter.name: _FOR_EXAMPLE[declared.type]}, text=False)
    except ParameterError:
        told = f"inputs.{name[1]} is of the type {declared.type}, but {found.name} wants {parameter.type}"
        filters = {"str": "string", "int": "int", "float": "float"}
        fitting = next((filters[kind] for kind in parameter.type.kinds if kind in filters), "")
        can = fitting and declared.type in ("string", "integer", "number")
        remedy = f'Convert it: "{{{{ inputs.{name[1]} | {fitting} }}}}"' if can else ""
        here.problem(told, remedy, "parameters", parameter.name)


def _check_outputs(one: d.Notebook | d.Cells, here: Here, found: Notebook) -> None:
    """Warn of results that no cell gives: by other ways than an assignment there may be one all the same."""
    names = assigned(found) if one.outputs else None
    for i, name in enumerate(one.outputs):
        if names is not None and name not in names:
            hint = did_you_mean(name, sorted(names))
            place = path_text((*here.place, "outputs", i))
            here.building.built.warnings.append(f"{place}: no cell of {found.name} assigns {name!r}.{hint}")


def _check_names(here: Here, found: Notebook, names: list[str], *keys: str) -> None:
    try:
        here.building.built.warnings += check(found, names)
    except ParameterError as problem:
        remedy = re.sub(r"-p (\w+)=VALUE.*", r"parameters: {\1: VALUE}", problem.remedy)
        here.problem(problem.message, remedy, *keys)


@dataclass(frozen=True)
class _Typed:
    """Parameters that are made to fit their notebook when the step is reached."""

    given: Binding
    notebook: Notebook

    def resolve(self, names: Names) -> Value:
        """Give the values.

        Raises
        ------
        ParameterError
            If one does not fit.
        """
        values = self.given.resolve(names)
        assert isinstance(values, dict), "parameters are a mapping"
        return shared_values(self.notebook, values, text=False)


def _typed(given: Binding, notebook: Notebook | None) -> Binding:
    return given if notebook is None or (isinstance(given, Literal) and not given.value) else _Typed(given, notebook)


def _check_secrets(names: Sequence[str], here: Here) -> None:
    for name in names:
        if not d.NAME.fullmatch(name):
            here.problem(f"{name!r} is no name of an environment variable", "", "secrets")


# -- calls and commands -------------------------------------------------------------------------------------------


def _call(one: d.Call, here: Here) -> model.Step:
    text = here.literal(one.call, "call")
    module = Module("")
    try:
        module = here.building.files.function(text, here.building.below)
        _check_arguments(one, here)
    except NbflowError as problem:
        here.problem(problem.message, problem.remedy, "call")
    named = here.building.path(text) if module.folder else text  # each folder may have a module of this name
    here.building.built.functions[named] = module.source
    return steps.CallStep(
        **here.task,
        function=text,
        source=module.source,
        folder=module.folder,
        named=named,
        parameters=here.binding(one.arguments, "arguments"),
        written=here.written(one.arguments),
    )


def _check_arguments(one: d.Call, here: Here) -> None:
    known = here.building.files.arguments(one.call, here.building.below)
    if known is None:
        return
    takes = f"It takes: {', '.join(known.taken)}." if known.taken else "It takes none."
    for name in one.arguments:
        if name not in known.taken:
            hint = did_you_mean(name, list(known.taken))
            here.problem(f"{one.call} has no argument {name!r}.{hint}", takes, "arguments", name)
    for name in known.needed:
        if name not in one.arguments:
            told = f"{one.call} needs {name}, and it has no default"
            here.problem(told, f"arguments: {{{name}: VALUE}}", "arguments")


def _shell(one: d.Shell, here: Here) -> model.Step:
    if isinstance(one.run, str) and "{{" in one.run:
        here.problem(
            "an expression inside the text of a command would be read by the shell",
            'Give it by env, and use the variable: env: {CITY: "{{ city }}"}, run: echo "$CITY"',
            "run",
        )
        run: Binding = NULL
    else:
        run = Literal(one.run) if isinstance(one.run, str) else here.binding(one.run, "run")
    defaults = here.building.definition.defaults
    _check_secrets(one.secrets, here)
    cwd, env = one.cwd or defaults.cwd or "notebook", {**(defaults.env or {}), **one.env}
    cwd = "." if cwd == "notebook" else cwd  # as for a notebook: where the file stands
    below = here.building.below
    given = {"run": run, "cwd": _Directory(here.text(cwd, "cwd"), below)}
    return steps.ShellStep(
        **here.task,
        shell=isinstance(one.run, str),
        format=one.format,
        secrets=tuple(one.secrets),
        parameters=Record(tuple(given.items())),
        environment=here.binding(env, "env"),
        written=here.written({"run": one.run, "cwd": cwd if "{{" in cwd else _directory(cwd, below)}, env),
    )


def _directory(cwd: str, below: str) -> str:
    return cwd if cwd == "item" else beneath(below, cwd)


@dataclass(frozen=True)
class _Directory:
    """A directory: a path is relative to the file's folder, which is told once its expressions have values."""

    text: Binding
    below: str
    """The folder of the file, as the outermost workflow says it."""

    def resolve(self, names: Names) -> Value:
        """Give it as the outermost workflow says it."""
        value = self.text.resolve(names)
        return _directory(value, self.below) if isinstance(value, str) else value


@dataclass(frozen=True)
class Record:
    """A mapping of names to bindings."""

    parts: tuple[tuple[str, Binding], ...]

    def resolve(self, names: Names) -> Value:
        """Give the values by their names."""
        return {name: part.resolve(names) for name, part in self.parts}


# -- people, branches, loops --------------------------------------------------------------------------------------


def _gate(one: d.Gate, here: Here) -> model.Step:
    options: tuple[steps.Option, ...] = steps.APPROVE_OR_REJECT
    if one.options is not None:
        options = tuple(steps.Option(option.name.strip(), option.outcome) for option in one.options)
        names = [option.name for option in options]
        if len(set(names)) < len(names):
            here.problem(f"has an option twice: {', '.join(names)}", "", "options")
    return steps.GateStep(
        **here.common,
        message=here.text(one.gate, "gate"),
        options=options,
        on_reject=one.on_reject,
        show=NULL if one.show is None else here.text(one.show, "show"),
        answer_from=NULL if one.answer_from is None else here.expression(one.answer_from, "answer_from"),
    )


def _if(one: d.If, here: Here) -> model.Step:
    here.distinct()
    return steps.If(
        **here.common,
        condition=here.condition(one.condition, "if"),
        then=here.block(one.then, "then"),
        otherwise=here.block(one.else_, "else"),
    )


def _switch(one: d.Switch, here: Here) -> model.Step:
    here.distinct()
    texts = [case.strip() for case in one.cases]
    if len(set(texts)) < len(texts):
        here.problem("has a case twice", "Cases are compared without the spaces around them.", "cases")
    return steps.Switch(
        **here.common,
        value=here.expression(one.switch, "switch"),
        cases=tuple((case, here.block(given, "cases", case)) for case, given in one.cases.items()),
        default=here.block(one.default, "default"),
    )


def _while(one: d.While, here: Here) -> model.Step:
    return steps.While(**_loop(one, here, one.steps, "steps"))


def _do_while(one: d.DoWhile, here: Here) -> model.Step:
    return steps.DoWhile(**_loop(one, here, one.do, "do"))


def _loop(one: d.While | d.DoWhile, here: Here, body: Sequence[d.Step], key: str) -> dict[str, Any]:
    ids = {step.id: step for step in body}
    first_turn = isinstance(one, d.While)  # its condition is asked before there was one
    after = ListSight(ids, frozenset() if first_turn else frozenset(ids), turns=True)
    return {
        **here.common,
        "condition": here.condition(one.condition, "while", sight=here.sight.inside(after)),
        "block": here.block(body, key, turns=True),
        "max_iterations": one.max_iterations,
        "on_exhausted": one.on_exhausted,
    }


# -- fan-out and fan-in -------------------------------------------------------------------------------------------


def _fan_out(one: d.FanOut, here: Here) -> model.Step:
    inside = here.sight.with_names("item", one.as_, "index")
    if one.as_ in ("inputs", "steps", "context", "fan_in", "index"):
        here.problem(f"is {one.as_!r}, which means something else", "Choose another name.", "as")
    if one.step is not None:
        body = here.one(one.step, "step", sight=inside)
    else:
        body = here.block(one.steps, "steps", sight=inside)
    if not body.steps:
        body = Block([steps.StepList(id="item", block=Block([]))])  # what is wrong with it has been noted
    runs_on = one.on_error or ("continue" if one.max_failures is not None else "halt")
    body, leaves = _gathering(body, here) if one.step is not None else (body, ())
    items = _items(one, here)
    return steps.FanOut(
        **here.common,
        items=items,
        body=body,
        leaves=leaves,
        made_of=frozenset(_steps_in(items)),
        single=one.step is not None,
        item_name=one.as_,
        max_concurrency=here.binding(one.max_concurrency, "max_concurrency"),
        on_error=runs_on,
        max_failures=one.max_failures,
        order=one.order,
        tells_outcomes=here.building.tells,
    )


def _gathering(body: Block, here: Here) -> tuple[Block, tuple[str, ...]]:
    """Give the step of each item, and the names that it leaves: those of its results that are read."""
    step = body.steps[0]
    if not isinstance(step, steps.CellsStep) or step.piece is None or step.path not in here.building.built.notebooks:
        return body, ()
    shown = step.outputs or here.building.built.notebooks[step.path].result_names
    read = tuple(name for name in shown if step.wanted is None or name in step.wanted)
    return Block([replace(step, leaves=frozenset(read), gathers=True)]), read


def _steps_in(items: Binding) -> Iterator[str]:
    """Give the ids of the steps that a binding reads."""
    for reference in getattr(items, "references", ()):
        if reference.root == "steps" and reference.path:
            yield str(reference.path[0])


def _items(one: d.FanOut, here: Here) -> Binding:
    if one.grid is None:
        assert one.items is not None
        if isinstance(one.items, str) and "{{" not in one.items:
            here.problem(
                f"is text, {one.items!r:.60}", f'A list, or an expression: items: "{{{{ {one.items} }}}}"', "items"
            )
        return here.binding(one.items, "items")
    for name, values in one.grid.items():
        if isinstance(values, str) and "{{" not in values:
            remedy = f'A list, or an expression: {name}: "{{{{ {values} }}}}"'
            here.problem(f"is text, {values!r:.60}", remedy, "grid", name)
    axes = {name: here.binding(values, "grid", name) for name, values in one.grid.items()}
    return Grid(tuple(axes.items()))


@dataclass(frozen=True)
class Grid:
    """Every combination of some lists, the last one running fastest."""

    axes: tuple[tuple[str, Binding], ...]

    def resolve(self, names: Names) -> Value:
        """Give one mapping per combination."""
        lists = [(name, axis.resolve(names)) for name, axis in self.axes]
        for name, values in lists:
            if not isinstance(values, list):
                raise ParameterError(f"grid.{name} is {type(values).__name__} {values!r:.40}, not a list")
        combined = itertools.product(*(values for _, values in lists))  # type: ignore[arg-type]  # lists, as asked above
        return [dict(zip([name for name, _ in lists], each, strict=True)) for each in combined]


def _fan_in(one: d.FanIn, here: Here) -> model.Step:
    for step_id in one.wait_for:
        _check_target(step_id, here)
    inside = here.sight.with_names("fan_in")
    return steps.FanIn(
        **here.common,
        wait_for=tuple(one.wait_for),
        output=here.binding(one.output, "output", sight=inside) if one.output else NOTHING,
    )


def _check_target(step_id: str, here: Here) -> None:
    nearest = next((each for each in here.sight.lists if step_id in each.steps), None)
    if nearest is None:
        known = [k for each in here.sight.lists for k, step in each.steps.items() if isinstance(step, d.FanOut)]
        hint = did_you_mean(step_id, known)
        here.problem(f"there is no step {step_id!r} in this list or around it.{hint}", "", "wait_for")
    elif step_id == nearest.me:
        here.problem(f"{step_id!r} is the step itself, or one around it", "It can wait for others only.", "wait_for")
    elif not isinstance(nearest.steps[step_id], d.FanOut):
        here.problem(f"{step_id!r} is no fan-out", "A fan-out has items or grid.", "wait_for")
    elif step_id not in nearest.seen:
        here.problem(
            f"{nearest.me!r}, around this step, does not wait for {step_id!r}",
            f"Add it: {nearest.with_need(step_id)}",
            "wait_for",
        )


def _sub_workflow(one: d.SubWorkflow, here: Here) -> model.Step:
    outer = here.building
    text = here.literal(one.workflow, "workflow")
    path = outer.path(text)
    if path in outer.chain:
        way = " → ".join([*outer.chain[outer.chain.index(path) :], path])
        raise DefinitionError(f"{text} runs itself: {way}", "A workflow cannot contain itself.")
    try:
        inner, source, outer.built.files[path] = outer.files.workflow(path, kinds_of(outer.makers))
    except NbflowError as problem:
        here.problem(problem.message, problem.remedy, "workflow")
        return steps.SubWorkflow(**here.common, block=Block([]))
    below = os.path.dirname(path)  # noqa: PTH120 - a text
    building = Building(inner, source, outer.files, below, outer.built, outer.makers, (*outer.chain, path))
    building.read_whole = outer.tells
    outer.built.steps += sum(1 for _ in _all_steps(inner.steps))
    if outer.built.steps > MOST_STEPS:
        raise DefinitionError(
            f"{outer.source.name}: with the workflows in it, it has more than {MOST_STEPS:,} steps",
            "Loop over items instead: a workflow file is read again for each step that names it.",
        )
    block = building.block()
    outer.problems += building.problems
    for name in one.inputs:
        if name not in inner.inputs:
            hint = did_you_mean(name, list(inner.inputs))
            has = f"It has: {', '.join(inner.inputs)}." if inner.inputs else "It has no inputs."
            here.problem(f"{text} has no input {name!r}.{hint}", has, "inputs", name)
    missing = [n for n, i in inner.inputs.items() if n not in one.inputs and "default" not in i.model_fields_set]
    for name in missing:
        here.problem(f"{text} needs the input {name}, and it has no default", f"inputs: {{{name}: VALUE}}", "inputs")
    common = here.common
    if common["timeout"] is None:
        common["timeout"] = here.seconds(inner.timeout)
    folder = str((outer.files.folder / below).absolute())
    return steps.SubWorkflow(
        **common,
        block=replace_policy(block, inner.on_failure),
        inputs=Given(tuple(inner.inputs.items()), here.binding(one.inputs, "inputs")),
        context=_Inner(folder),
    )


def beneath(folder: str, text: str) -> str:
    """Give a path that a file says, as the workflow says it from whose folder the file's own is this.

    Examples
    --------
    >>> beneath("sub", "../data"), beneath("sub", "/tmp")
    ('data', '/tmp')
    """
    return text if os.path.isabs(text) else os.path.normpath(os.path.join(folder, text))  # noqa: PTH117, PTH118 - texts


def replace_policy(block: Block, on_failure: Any) -> Block:
    """Give the list with a policy of its own."""
    return block if block.on_failure == on_failure else Block(block.steps, on_failure)


@dataclass(frozen=True)
class _Inner:
    """What the expressions of a workflow in a workflow know of the run."""

    folder: str

    def resolve(self, names: Names) -> Value:
        """Give the run's id, and the folder of the inner file."""
        outer = names["context"]
        assert isinstance(outer, Mapping)
        return {**outer, "workflow_dir": self.folder}


def kinds_of(makers: Mapping[type[d.Step], Maker]) -> dict[str, type[d.Step]]:
    """Give the classes of steps by the keys that name them."""
    return {key: each for each in makers for key in each.keys}


def _all_steps(given: Sequence[d.Step]) -> Iterator[d.Step]:
    """Give all steps of a list, however deep."""
    for step in given:
        yield step
        for _, inner in step.lists():
            yield from _all_steps(inner)


_WHOLE = re.compile(r"\boutcomes\b|\bsteps\b[^{}]*\boutput\b(?!\s*[.\[])")


def _reads_outcomes(definition: d.Workflow) -> bool:
    """Whether something may read the full records of a fan-out's items: then they are kept."""
    return any(_WHOLE.search(text) for _, text in _texts(definition.data()))


_ASKED = re.compile(r"""steps(?:\.(\w+)|\[['"]([\w-]+)['"]\])\.output\.(\w+)""")
"""A result of a step, in an expression."""


def _texts(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Give the texts in a value, each with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, (dict, list)) and len(place) < DEEPEST:
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, (*place, key))


MAKERS: Mapping[type[d.Step], Maker] = {
    d.Notebook: _notebook,
    d.Cells: _cells,
    d.Call: _call,
    d.Shell: _shell,
    d.Gate: _gate,
    d.If: _if,
    d.Switch: _switch,
    d.DoWhile: _do_while,
    d.While: _while,
    d.FanOut: _fan_out,
    d.FanIn: _fan_in,
    d.SubWorkflow: _sub_workflow,
}
"""What makes the steps of the built-in kinds."""
