"""Checking workflows without running them: what is wrong, their graph, and the schema of their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import definition as d
from ..errors import NbflowError
from ..loading.building import OnDisk, build
from ..loading.notebook_file import read_file
from ..mermaid import mermaid
from ..source import has_steps, read_notebook
from .kinds import all_kinds, kinds, makers
from .requests import check_kernel
from .requirements import check_requirements, doubts

__all__ = ["Checked", "checked", "graph_lines", "schema_data"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to say of one file."""

    file: str
    problems: tuple[NbflowError, ...] = ()
    warnings: tuple[str, ...] = ()
    steps: int = 0
    """Those at the top; of a notebook without any none."""

    def lines(self) -> list[str]:
        """Give it for people."""
        told = [f"warning: {self.file}: {text}" for text in self.warnings]
        if not self.problems and not self.steps:
            return [*told, f"{self.file}: fine as a whole, for nbflow map; no cell begins a step for nbflow run"]
        if not self.problems:
            return [*told, f"{self.file}: fine, {self.steps} step{'' if self.steps == 1 else 's'}"]
        return [
            *told,
            *(line for one in self.problems for line in (f"error: {one.message}", *_indented(one.remedy))),
        ]

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of it."""
        problems = [{"message": one.message, "remedy": one.remedy, "place": one.place} for one in self.problems]
        return {"file": self.file, "valid": not problems, "problems": problems, "warnings": list(self.warnings)}


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())


def checked(file: str) -> Checked:
    """Check a workflow file, or a notebook, with all that it refers to; no code of the user's is run or imported."""
    path = Path(file)
    try:
        if path.suffix == ".ipynb" and not has_steps(read_notebook(path).cells):
            return Checked(file)
        definition, source = read_file(path, file, kinds())
        folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 - symlinks stay as they are named
        built = build(definition, source, OnDisk(folder, check_kernel), makers=makers())
        check_requirements(built, source)
        built.warnings += [*source.warnings, *doubts(built.block, folder, os.environ)]
    except NbflowError as problem:
        several: Sequence[NbflowError] = getattr(problem, "problems", (problem,))
        return Checked(file, tuple(several))
    return Checked(file, warnings=tuple(dict.fromkeys(built.warnings)), steps=len(built.block.steps))


# -- the graph ----------------------------------------------------------------------------------------------------


def graph_lines(file: str) -> list[str]:
    """Give the graph of a workflow file as Mermaid text.

    Raises
    ------
    DefinitionError
        If the file is wrong in its shape.
    """
    definition, _ = read_file(Path(file), file, kinds())
    return mermaid(definition.steps)


# -- the schema ---------------------------------------------------------------------------------------------------


def schema_data() -> dict[str, Any]:
    """Give the JSON Schema of workflow files, with the kinds of installed plug-ins."""
    whole = d.Workflow.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = whole.pop("$defs", {})
    refs = []
    for kind in filter(lambda kind: kind.written, all_kinds()):
        one = kind.definition.model_json_schema(by_alias=True)
        definitions.update(one.pop("$defs", {}))
        name = kind.definition.__name__
        keys = kind.definition.keys
        one["required"] = sorted({*one.get("required", []), *(keys if len(keys) == 1 else ())})
        if len(keys) > 1:
            one["oneOf"] = [{"required": [key]} for key in keys]
        definitions[name] = _nullable(one)
        refs.append({"$ref": f"#/$defs/{name}"})
    definitions["step"] = {"oneOf": refs}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_nullable(whole),
        "title": "nbflow workflow",
        "required": ["nbflow", "steps"],
        "$defs": definitions,
    }
    found: dict[str, Any] = _referred(schema)
    return found


def _referred(schema: Any) -> Any:
    """Put the reference to a step of any kind where the definitions have their mark for it."""
    if isinstance(schema, list):
        return [_referred(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-nbflow") == "step":
        return {"$ref": "#/$defs/step"}
    return {key: _referred(one) for key, one in schema.items()}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Let optional keys be null, which is the same as not there."""
    required = schema.get("required", [])
    properties = {
        key: one
        if key in required or "anyOf" in one or not one or "default" not in one
        else {"anyOf": [one, {"type": "null"}]}
        for key, one in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}
