"""Notebooks as workflows: the tags of the cells become a definition, or all that is wrong is told at once, by cells."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import definition as d
from ..errors import DefinitionError
from ..mistakes import path_text
from ..source import SETUP, Notebook, Parameter, read_notebook
from ..values import Value
from .cell_steps import Links, cells_of, links
from .cell_tags import Parts, read_parts
from .documents import Path as Place
from .lint import look
from .workflow_file import Source, define, read_workflow, refuse

__all__ = ["CellSource", "read_file", "read_steps"]


class CellSource(Source):
    """Where the steps of a notebook stand: messages name cells.

    Parameters
    ----------
    name : str
        The file as people know it.
    cells : sequence of str
        What people call each step: ``cell 4 (step clean)``.
    """

    def __init__(self, name: str, cells: Sequence[str]) -> None:
        super().__init__(name)
        self._cells = cells

    def problem(self, place: Place, message: str, remedy: str = "") -> DefinitionError:
        """Give the error of one part."""
        match place:
            case ("steps", int(at), *more) if at < len(self._cells):
                inner = [part for part in more if part not in ("step", "cells")]
                path = path_text(tuple(inner))
                return DefinitionError(
                    f"{self.name}: {self._cells[at]}: {path}{': ' if path else ''}{message}", remedy, self.name
                )
            case _:
                return super().problem(place, message, remedy)


def read_file(
    path: Path, name: str, known: Mapping[str, type[d.Step]], given: Collection[str] = ()
) -> tuple[d.Workflow, Source]:
    """Read a workflow, from a file of its own or from the tags of a notebook.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        How messages call it; empty: by the file's name.
    known : mapping
        The classes of steps by their keys.
    given : collection of str, optional
        Names of inputs that are given.

    Raises
    ------
    TargetError, DefinitionError
        As :func:`read_workflow` and :func:`read_steps`.
    """
    return read_steps(path, name, given) if path.suffix == ".ipynb" else read_workflow(path, name, known)


def read_steps(path: Path, name: str = "", given: Collection[str] = ()) -> tuple[d.Workflow, CellSource]:
    """Read the steps of a notebook.

    Parameters
    ----------
    path : Path
        The notebook.
    name : str, optional
        How messages call it; by default the file's name.
    given : collection of str, optional
        Names of parameters that are given: also those without a plain default are inputs then.

    Raises
    ------
    TargetError
        If there is no such file.
    DefinitionError
        With all that is wrong.
    """
    name = name or path.name
    notebook = read_notebook(path)
    _refuse_others(notebook, name)
    parts = read_parts(notebook, name)
    if not parts.steps and not parts.problems:
        raise DefinitionError(
            f"{name}: no cell begins a step, so there is nothing to run step by step",
            f"nbflow tag {shlex.quote(str(path))} {notebook.cells[0].number} step:load\n"
            f"nbflow map {shlex.quote(str(path))} runs it as a whole",
            name,
        )
    refuse(parts.problems)
    inputs = _inputs(notebook, given)
    steps = list(_steps(parts, path.name, {one: f"{{{{ inputs.{one} }}}}" for one in inputs}))
    source = CellSource(
        name, [f"cell {cell.number} (setup)" for cell in parts.setup[:1]] + [p.called for p in parts.steps]
    )
    try:
        told = links(notebook, path.name, path.name, steps)
    except DefinitionError as problem:  # a cell that Python cannot read: who looks into it does not know the file
        raise _in_file(problem, name) from None
    found = look(notebook, name, told, steps, {part.id: part.each for part in parts.steps if part.each})
    refuse(found.problems)
    source.warnings += found.warnings
    drawn = _drawn(parts, steps, told, found.order)
    listed: list[Value] = [{**step.data(), **drawn.get(step.id, {})} for step in steps]
    whole: dict[str, Any] = {"nbflow": 1, "on_failure": "continue", "inputs": inputs, "steps": listed}
    return define(whole, source), source


def _in_file(problem: DefinitionError, name: str) -> DefinitionError:
    """Give a problem of a cell with the name of the file."""
    if not problem.place.startswith("cell "):
        return problem
    return DefinitionError(f"{name}: {problem.message}", problem.remedy, f"{name}: {problem.place}")


def _refuse_others(notebook: Notebook, name: str) -> None:
    if notebook.language != "python":
        raise DefinitionError(
            f"{name}: names can be told of Python only, and this notebook is written in {notebook.language}",
            f"nbflow map {shlex.quote(str(notebook.path))} runs it as a whole",
            name,
        )


def _steps(parts: Parts, text: str, parameters: Mapping[str, Value]) -> Iterator[d.Step]:
    if parts.setup:
        yield d.Cells(id=SETUP, cells=text, tags=[SETUP], parameters=dict(parameters))
    for part in parts.steps:
        more: dict[str, Any] = {}
        own: dict[str, Any] = {"cells": text, "tags": [f"step:{part.id}"], "parameters": dict(parameters)}
        if part.needs is not None:
            more["needs"] = list(part.needs) or [SETUP for _ in parts.setup[:1]]
        if part.timeout is not None:
            own["timeout"] = part.timeout
        if part.retry is not None:
            own["retry"] = d.Retry(attempts=part.retry)
        if not part.each:
            yield d.Cells(id=part.id, **own, **more)
        else:
            inner = d.Cells(id=part.id, **own, names={part.item: f"{{{{ {part.item} }}}}"})
            over: dict[str, Any] = {"items": [], "as": part.item, "max_concurrency": part.most}
            yield d.FanOut(id=part.id, **over, on_error="continue", step=inner, **more)


def _drawn(
    parts: Parts, steps: Sequence[d.Step], told: Links, order: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Value]]:
    """Give where the items of fan-outs come from: the last step before each that may have touched the list.

    Items of other fan-outs cannot have changed it, each has its own; they may only have left a list under its name.
    """
    pieces = {step.id: told.piece(cells_of(step), step.id) for step in steps}
    each = {part.id for part in parts.steps if part.each}
    found: dict[str, dict[str, Value]] = {}
    for part in filter(lambda part: part.each, parts.steps):
        touching = [
            one
            for one in order[part.id]
            if (part.each in (pieces[one].assigns or ()) if one in each else pieces[one].touches(part.each))
        ]
        if not touching:  # the step itself may assign any name, which is too late for what it runs over
            what = f"step {part.id} runs over {part.each!r} (each:), which no step before it assigns"
            parts.problem(part.first, what, "Assign it in a setup cell, or in a step before this one.")
            continue
        where = f"steps.{touching[-1]}" if touching[-1].isidentifier() else f"steps['{touching[-1]}']"
        given = touching[-1] == SETUP and part.each in cells_of(steps[0]).parameters and not told.prepares(part.each)
        items = f"inputs.{part.each}" if given else f"{where}.output.{part.each}"
        found[part.id] = {"items": f"{{{{ {items} }}}}"}
    refuse(parts.problems)
    return found


# -- parameters ---------------------------------------------------------------------------------------------------

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}


def _inputs(notebook: Notebook, given: Collection[str]) -> dict[str, Any]:
    """Give the inputs that the parameters of a notebook are: those whose default is a value, or that are given."""
    return {one.name: _input(one) for one in notebook.parameters if _is_plain(one) or one.name in given}


def _is_plain(one: Parameter) -> bool:
    """Whether it can be an input that need not be given; null is as good as nothing there."""
    return not one.has_default or one.default is not None


def _input(one: Parameter) -> dict[str, Any]:
    kinds = [kind for kind in one.type.kinds if kind != "none"]
    known = len(kinds) == 1 and kinds[0] in _TYPES and "none" not in one.type.kinds
    kind = _TYPES[kinds[0]] if known else "any"
    if set(kinds) == {"int", "float"} and "none" not in one.type.kinds:
        kind = "number"
    if kind == "integer" and not one.type.strict:
        kind = "number"  # 3 may become 2.5, as papermill would let it
    choices = {"enum": list(one.type.choices)} if one.type.choices else {}
    default = {"default": one.default} if one.has_default and _is_plain(one) else {}
    return {"type": kind, **choices, **default}
