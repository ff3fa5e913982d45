"""Workflow files: the text becomes a definition, or all that is wrong with it is told at once, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..definition import Part, Step, Workflow, kinds
from ..errors import DefinitionError, ManyProblemsError, ParameterError, TargetError, did_you_mean
from ..mistakes import path_text, place_of, words
from ..values import Value
from .documents import Path as Place
from .documents import load_document

__all__ = ["Source", "define", "dump", "parse", "read_workflow", "refuse"]

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
        self.warnings: list[str] = []
        """What is doubtful where it stands."""

    def problem(self, place: Place, message: str, remedy: str = "") -> DefinitionError:
        """Give the error of one part."""
        near = next((place[:size] for size in range(len(place), 0, -1) if place[:size] in self._lines), ())
        where = f"{self.name}:{self._lines[near]}" if near else self.name
        path = path_text(place)
        return DefinitionError(f"{where}: {path}{': ' if path else ''}{message}", remedy, where)


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
    refuse([source.problem(place_of(error), *words(error, _beside(error, data, known or kinds()))) for error in errors])
    raise AssertionError("an error without a problem")


def _at(data: Any, place: Place) -> Any:
    for part in place:
        try:
            data = data[part]
        except (TypeError, KeyError, IndexError):
            return None
    return data


def _beside(error: Any, data: Any, known: Mapping[str, type[Step]]) -> list[str]:
    """Give the keys that the part takes in which an error stands."""
    around = place_of(error)[:-1]
    return _keys(_at(data, around), around, known)


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
