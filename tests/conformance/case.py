"""Cases: each file is a workflow and what must come of it.

``rule`` says what it shows, ``workflow`` is the text of its file (lines are counted from its first), ``files`` are
those beside it (a notebook is a list of cells), ``inputs`` (or ``texts``, as on a command line) and ``answers`` are
what it is given.

``expect`` is what comes of it: ``refused`` (parts of the messages, for what cannot begin), or ``status``, ``nodes``
(all that one worker reaches: a status, or a mapping of status, output, has (some of the output), error, attempts),
``behind`` (nodes that may be reached besides: behind a place that halts later, such as an open gate), ``output``,
``because`` (a part of the run's error), ``waits_for`` (the gates that stay open), ``warnings``, ``at_once`` (tasks in
flight at most). ``runs`` are the tasks that start, in the order of one worker.

``then`` are resumes, each with what differs: ``edit`` (old text: new text, in the workflow), ``files``, ``inputs``,
``answers``, ``changed``, ``from``, ``only``, ``force``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat

from nbflow.loading.documents import load_document

FOLDER = Path(__file__).parent / "cases"
_TOP = {"rule", "workflow", "files", "inputs", "texts", "answers", "expect", "runs", "then", "real", "uncut"}
_THEN = {"edit", "files", "inputs", "answers", "changed", "from", "only", "force", "expect", "runs"}
_EXPECT = {"refused", "status", "nodes", "output", "because", "waits_for", "warnings", "at_once", "behind"}
_NODE = {"status", "output", "has", "error", "attempts"}


@dataclass(frozen=True)
class Expect:
    """What must come of a round."""

    refused: list[str] = field(default_factory=list)
    status: str = "completed"
    nodes: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    because: str = ""
    waits_for: list[str] | None = None
    warnings: list[str] = field(default_factory=list)
    at_once: int | None = None
    behind: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Round:
    """A start, or a resume."""

    workflow: str
    files: Mapping[str, Any]
    inputs: Mapping[str, Any]
    texts: Mapping[str, str]
    answers: Mapping[str, list[str]]
    expect: Expect
    runs: list[str] | None
    changed: str = "ask"
    from_: str | None = None
    only: str | None = None
    force: bool = False

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, content in {**self.files, "workflow.yml": self.workflow}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_notebook(content) if name.endswith(".ipynb") else content, encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """A file."""

    name: str
    rule: str
    rounds: list[Round]
    real: bool
    uncut: str
    """Why a resume may give something else."""


def _notebook(cells: list[str]) -> str:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text, id=f"c{i}") for i, text in enumerate(cells)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.writes(made)


def _closed(data: Any, known: set[str], where: str) -> dict[str, Any]:
    assert isinstance(data, dict), f"{where} is no mapping"
    assert set(data) <= known, f"{where} has {set(data) - known}"
    return data


def _expect(data: Any, where: str) -> Expect:
    _closed(data, _EXPECT, where)
    assert ("refused" in data) != ("nodes" in data), f"{where} says what is refused, or all nodes"
    nodes = {}
    for node, told in (data.get("nodes") or {}).items():
        one = {"status": told} if isinstance(told, str) else _closed(told, _NODE, f"{where}: {node}")
        nodes[node] = {"status": "completed", **one}
    return Expect(**{**data, "nodes": nodes})


def _answers(data: Any) -> dict[str, list[str]]:
    return {gate: [given] if isinstance(given, str) else given for gate, given in (data or {}).items()}


def read(path: Path) -> Case:
    """Give the case of a file."""
    data = _closed(load_document(path.read_text("utf-8"), path.name)[0], _TOP, path.name)
    now = Round(
        workflow=data["workflow"],
        files=data.get("files", {}),
        inputs=data.get("inputs", {}),
        texts=data.get("texts", {}),
        answers=_answers(data.get("answers")),
        expect=_expect(data["expect"], path.name),
        runs=data.get("runs"),
    )
    rounds = [now]
    for place, more in enumerate(data.get("then", []), 1):
        _closed(more, _THEN, f"{path.name}: then {place}")
        text = now.workflow
        for old, new in more.get("edit", {}).items():
            assert old in text, f"{path.name}: then {place}: there is no {old!r}"
            text = text.replace(old, new)
        now = replace(
            now,
            workflow=text,
            files={**now.files, **more.get("files", {})},
            inputs={**now.inputs, **more.get("inputs", {})},
            answers=_answers(more.get("answers")),
            expect=_expect(more["expect"], f"{path.name}: then {place}"),
            runs=more.get("runs"),
            changed=more.get("changed", "rerun"),
            from_=more.get("from"),
            only=more.get("only"),
            force=more.get("force", False),
        )
        rounds.append(now)
    return Case(path.stem, data["rule"], rounds, data.get("real", False), data.get("uncut", ""))


CASES = [read(path) for path in sorted(FOLDER.glob("*.yml"))]
