"""Workflow files: the text becomes a definition, or all that is wrong with it is told at once, each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..definition import Part, Step, Workflow, kinds
from ..errors import DefinitionError, ParameterError, TargetError, did_you_mean
from ..values import Value
from .scalars import Path as Place
from .scalars import load_document

__all__ = ["ManyProblemsError", "Source", "define", "dump", "parse", "read_workflow", "refuse"]

_MOST = 5_000_000
"""Bytes of a workflow file; a larger one is no definition that somebody wrote."""


class Source:
    """Where a definition stands: its name for people, and the line of each of its parts.

    Parameters
    ----------
    name : str
        The file as people know it.
    lines : mapping of paths to int
        Empty for a definition that was made in Python.
    """

    def __init__(self, name: str, lines: Mapping[Place, int] | None = None) -> None:
        self.name = name
        self._lines = lines or {}

    def problem(self, place: Place, message: str, remedy: str = "") -> DefinitionError:
        """Give the error of one part."""
        near = next((place[:size] for size in range(len(place), 0, -1) if place[:size] in self._lines), ())
        where = f"{self.name}:{self._lines[near]}" if near else self.name
        path = path_text(place)
        return DefinitionError(f"{where}: {path}{': ' if path else ''}{message}", remedy, where)


def path_text(place: Place) -> str:
    """Give a path as people read it.

    Examples
    --------
    >>> path_text(("steps", 2, "step", "parameters", "learning rate"))
    "steps[2].step.parameters['learning rate']"
    """
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


class ManyProblemsError(DefinitionError):
    """All that is wrong with a definition.

    Parameters
    ----------
    problems : iterable of DefinitionError
        In the order in which they stand in the file.
    """

    def __init__(self, problems: Iterable[DefinitionError]) -> None:
        self.problems = tuple(problems)
        first, *others = self.problems
        more = [line for other in others for line in (f"error: {other.message}", *_indented(other.remedy))]
        super().__init__(first.message, "\n".join([*first.remedy.splitlines(), *more]), first.place)

    def __reduce__(self) -> tuple[type[ManyProblemsError], tuple[tuple[DefinitionError, ...]]]:
        return ManyProblemsError, (self.problems,)


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())


def refuse(problems: list[DefinitionError]) -> None:
    """Raise what is wrong, if anything is.

    Raises
    ------
    DefinitionError
    """
    distinct = sorted({problem.message: problem for problem in problems}.values(), key=_line)
    if len(distinct) == 1:
        raise distinct[0]
    if distinct:
        raise ManyProblemsError(distinct)


def _line(problem: DefinitionError) -> int:
    line = problem.place.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def read_workflow(path: Path, name: str = "", known: Mapping[str, type[Step]] | None = None) -> tuple[Workflow, Source]:
    """Read a workflow file.

    Parameters
    ----------
    path : Path
        The file, YAML or JSON in UTF-8.
    name : str, optional
        How messages call it; by default its name.
    known : mapping, optional
        The classes of steps by their keys; by default the built-in ones.

    Raises
    ------
    TargetError
        If there is no such file.
    DefinitionError
        With all that is wrong.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST + 1)
    except IsADirectoryError as problem:
        raise TargetError(f"{name}: is a folder, not a workflow file") from problem
    except OSError as problem:
        near = sorted(one.name for one in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        has = f"There are: {', '.join(near[:8])}." if near else "nbflow init makes a small workflow to begin with."
        hint = did_you_mean(path.name, near)
        raise TargetError(f"{name}: {problem.strerror or problem}.{hint}", has) from problem
    if len(raw) > _MOST:
        raise DefinitionError(f"{name}: is larger than {_MOST:,} bytes", "Values of that size belong into files.", name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise DefinitionError(f"{name}:{line}: is not UTF-8 text", "Save it as UTF-8.", f"{name}:{line}") from problem
    return parse(text, name, known)


def parse(text: str, name: str, known: Mapping[str, type[Step]] | None = None) -> tuple[Workflow, Source]:
    """Give the definition of a text.

    Raises
    ------
    DefinitionError
        With all that is wrong.
    """
    try:
        data, lines = load_document(text, name)
    except ParameterError as problem:
        raise DefinitionError(problem.message, problem.remedy, problem.place) from problem
    source = Source(name, lines)
    if not isinstance(data, dict):
        raise source.problem((), "is no mapping", "A workflow begins like this: nbflow: 1")
    if "nbflow" not in data:
        raise source.problem((), "does not say which format it has", "Begin it with: nbflow: 1")
    return define(data, source, known), source


def define(data: Mapping[str, Value], source: Source, known: Mapping[str, type[Step]] | None = None) -> Workflow:
    """Give the definition that plain values say.

    Raises
    ------
    DefinitionError
        With all that is wrong.
    """
    try:
        return Workflow.model_validate(data, context={"kinds": known or kinds()}, by_name=False)
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
    except RecursionError as problem:
        raise source.problem((), "is nested too deep") from problem
    found = [source.problem(_place(error), *_words(error, data, known or kinds())) for error in errors]
    refuse(found)
    raise AssertionError("an error without a problem")


def _place(error: Any) -> Place:
    """Give the path of an error."""
    place: Place = ()
    for part in error["loc"]:
        if part == "[key]":
            continue
        place = (*place, part)
    return place


def _at(data: Any, place: Place) -> Any:
    for part in place:
        try:
            data = data[part]
        except (TypeError, KeyError, IndexError):
            return None
    return data


_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
}


def _words(error: Any, data: Any, known: Mapping[str, type[Step]]) -> tuple[str, str]:
    """Give what is wrong, and a remedy, in our words."""
    kind, context = error["type"], error.get("ctx", {})
    place = error["loc"]
    value = error.get("input")
    if kind == "nbflow":
        return str(error["msg"]), ""
    if kind == "missing":
        return "is missing", ""
    if kind == "model_type" and place[-2:-1] == ("options",):
        shown = value if isinstance(value, str) else "NAME"
        remedy = f"Write it so: {{name: {shown}, outcome: approve}} (or reject)"
        return f"is {_shown(value)}, but it is a mapping", remedy
    if kind == "extra_forbidden":
        names = _keys(_at(data, place[:-1]), place[:-1], known)
        near = did_you_mean(str(place[-1]), names)
        return f"is no key here.{near}", f"There are: {', '.join(names)}." if names and not near else ""
    if kind == "literal_error":
        choices = str(context["expected"]).replace("'", "")
        near = did_you_mean(value, choices.replace(" or ", ", ").split(", ")) if isinstance(value, str) else ""
        return f"is {_shown(value)}, but it is {choices}.{near}", ""
    if kind in _KINDS:
        quote = f"Quote it: '{value}'" if kind == "string_type" and isinstance(value, (int, float)) else ""
        return f"is {_shown(value)}, but it is {_KINDS[kind]}", quote
    if kind in ("greater_than_equal", "greater_than"):
        bound = context.get("ge", context.get("gt"))
        return f"is {_shown(value)}, but it is at least {bound}", ""
    if kind == "too_short":
        return "is empty", ""
    return f"is {_shown(value)}: {error['msg']}", ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r:.60}"


def _keys(at: Any, place: Place, known: Mapping[str, type[Step]]) -> list[str]:
    """Give the keys that a part takes."""
    part: type[Part] | None = None
    if not place:
        part = Workflow
    elif isinstance(at, dict):
        part = next((known[key] for key in known if at.get(key) is not None and key in known), None)
        if part is None:
            from ..definition import Defaults, GateOption, Input, Requires, Retry

            named: dict[Any, type[Part]] = {"requires": Requires, "defaults": Defaults, "retry": Retry}
            part = named.get(place[-1]) or (GateOption if "options" in place else Input if "inputs" in place else None)
    if part is None:
        return []
    return [field.alias or name for name, field in part.model_fields.items()]


class _Dumper(yaml.SafeDumper):
    """Writes what reads back the same by the core schema of YAML 1.2."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - nothing is an alias
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    from .scalars import plain

    if "\n" in text and not text.startswith((" ", "\n")) and text.replace("\n", "").isprintable():
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    readable = isinstance(plain(text), str) and text == text.strip() and text != "<<"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if readable else "'")


_Dumper.add_representer(str, _text)


def dump(definition: Workflow) -> str:
    """Give the text of a definition; reading it gives the same definition.

    Examples
    --------
    >>> from nbflow.definition import Call
    >>> print(dump(Workflow(name="one", steps=[Call(id="a", call="builtins:dict", arguments={"x": "NO"})])), end="")
    nbflow: 1
    name: one
    steps:
    - id: a
      call: builtins:dict
      arguments:
        x: NO
    """
    return yaml.dump(definition.data(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
