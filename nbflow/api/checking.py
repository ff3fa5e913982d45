"""Checking workflows without running them: what is wrong, their graph, and the schema of their files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import definition as d
from ..errors import NbflowError
from ..loading.building import OnDisk, build
from ..loading.workflow_file import read_workflow
from ..source import read_notebook
from .kinds import all_kinds, kinds, makers
from .requests import check_kernel
from .requirements import check_requirements, doubts

__all__ = ["Checked", "checked", "graph_lines", "mermaid", "schema_data"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to say of one file."""

    file: str
    problems: tuple[NbflowError, ...] = ()
    warnings: tuple[str, ...] = ()
    steps: int = 0

    def lines(self) -> list[str]:
        """Give it for people."""
        told = [f"warning: {self.file}: {text}" for text in self.warnings]
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
        if path.suffix == ".ipynb":
            read_notebook(path)
            return Checked(file, steps=1)
        definition, source = read_workflow(path, file, kinds())
        folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 - symlinks stay as they are named
        built = build(definition, source, OnDisk(folder, check_kernel), makers=makers())
        check_requirements(built, source)
        built.warnings += doubts(built.block, folder, os.environ)
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
    definition, _ = read_workflow(Path(file), file, kinds())
    return mermaid(definition)


def mermaid(definition: d.Workflow) -> list[str]:
    """Give the graph of a workflow: steps as boxes, what they wait for as arrows, lists inside of steps as frames.

    Examples
    --------
    >>> flow = d.Workflow(steps=[d.Call(id="a", call="m:f"), d.Gate(id="b", gate="Sure?")])
    >>> print(*mermaid(flow), sep="\\n")
    flowchart TD
      s0["a<br/>m:f"]
      s1{{"b<br/>Sure?"}}
      s0 --> s1
    """
    return ["flowchart TD", *_Graph().list(definition.steps, "  ")]


class _Graph:
    def __init__(self) -> None:
        self._count = 0

    def list(self, steps: Sequence[d.Step], indent: str) -> Iterator[str]:
        """Give the lines of a list of steps."""
        names: dict[str, str] = {}
        for place, step in enumerate(steps):
            name = names[step.id] = f"s{self._count}"
            self._count += 1
            yield from self._step(step, name, indent)
            above = [steps[place - 1].id] if place else []
            own = [other for other in getattr(step, "wait_for", []) if other in names]
            waits = list(dict.fromkeys([*(step.needs if step.needs is not None else above), *own]))
            for other in waits:
                if other in names:
                    label = "|when|" if step.when is not None else ""
                    yield f"{indent}{names[other]} -->{label} {name}"

    def _step(self, step: d.Step, name: str, indent: str) -> Iterator[str]:
        lists = [(keys, inner) for keys, inner in step.lists() if inner]
        if not lists:
            opened, closed = ('{{"', '"}}') if isinstance(step, d.Gate) else ('["', '"]')
            label = "<br/>".join(_escaped(text) for text in (step.name or step.id, _said(step)) if text)
            yield f"{indent}{name}{opened}{label}{closed}"
            return
        yield f'{indent}subgraph {name}["{_escaped(step.name or step.id)}"]'
        if head := _said(step):  # not in the title: one of two lines would lie over what is in the frame
            opened, closed = ('{"', '"}') if isinstance(step, (d.If, d.Switch)) else ('(["', '"])')
            yield f"{indent}  {name}h{opened}{_escaped(head)}{closed}"
        for keys, inner in lists:
            first = f"s{self._count}"
            if len(lists) > 1:
                first = f"{name}_{self._count}"
                yield f'{indent}  subgraph {first}["{_escaped(str(keys[-1]))}"]'
                yield from self.list(inner, f"{indent}    ")
                yield f"{indent}  end"
            else:
                yield from self.list(inner, f"{indent}  ")
            if head:
                yield f"{indent}  {name}h --> {first}"
        yield f"{indent}end"


def _said(step: d.Step) -> str:
    """Give what a step says of itself: what it runs, over what it goes, on what it depends."""
    data = step.data()
    key = next((key for key in step.keys if key in data), "")
    said = data.get("if" if key == "if" else key, "")
    text = said if isinstance(said, (str, bool)) else json.dumps(said) if not isinstance(step, d.DoWhile) else ""
    words = {"items": "for each ", "grid": "for each ", "if": "if ", "while": "while ", "switch": "switch "}
    plain = str(text).strip()
    if plain.startswith("{{") and plain.endswith("}}") and plain.count("{{") == 1:
        plain = plain[2:-2].strip()
    if key == "wait_for":
        plain = f"gathers {', '.join(said) if isinstance(said, list) else said}"
    shown = f"{words.get(key, '')}{plain}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _escaped(text: str) -> str:
    """Give text that Mermaid takes as text."""
    plain = " ".join(text.split())
    return "".join(f"#{ord(c)};" if c in '"#;<>&{}[]()|`\\' else c for c in plain)


# -- the schema ---------------------------------------------------------------------------------------------------


def schema_data() -> dict[str, Any]:
    """Give the JSON Schema of workflow files, with the kinds of installed plug-ins."""
    whole = d.Workflow.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = whole.pop("$defs", {})
    refs = []
    for kind in all_kinds():
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
