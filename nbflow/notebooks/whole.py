"""The whole notebook again: the outputs of all steps in their place, and items of a fan-out as a table with links."""

from __future__ import annotations

import copy
import html
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..files import write_atomically
from ..model import NodeId
from ..outcome import Outcome
from ..source import Notebook, owners

__all__ = ["Whole", "executed_name"]

MOST_ROWS = 1000
"""Rows of the table of a fan-out."""
SHARE = 0.05
"""The share of the time that writing it takes while the run goes on."""


def executed_name(notebook: str) -> str:
    """Give the file of a whole notebook; no step's id has a dot, so none is called so.

    Examples
    --------
    >>> executed_name("analysis.ipynb")
    'analysis.executed.ipynb'
    """
    return f"{notebook.removesuffix('.ipynb')}.executed.ipynb"


@dataclass(frozen=True, slots=True)
class Ended:
    """A step, or an item of one, that ended."""

    label: str
    index: int | None
    outcome: Outcome


@dataclass
class Whole:
    """One notebook, made of the executed notebooks of its steps.

    Parameters
    ----------
    notebook : Notebook
        As it was when the run began.
    folder : Path
        The run folder.
    """

    notebook: Notebook
    folder: Path
    ended: dict[str, dict[NodeId, Ended]] = field(default_factory=dict)
    """By the step's id."""
    late: bool = False
    """Whether something has ended that its file does not tell."""
    due: float = 0.0
    """When it may be written again while the run goes on."""
    clock: Callable[[], float] = time.monotonic

    def put(self, step_id: str, node: NodeId, label: str, index: int | None, outcome: Outcome) -> None:
        """Take in how a step, or an item of one, ended."""
        self.ended.setdefault(step_id, {})[node] = Ended(label, index, outcome)
        self.late = True

    def keep_up(self) -> None:
        """Write it as far as it is known, if that has not taken too much of the time."""
        begun = self.clock()
        if begun >= self.due:
            self.catch_up()
            ended = self.clock()
            self.due = ended + (ended - begun) / SHARE

    def catch_up(self) -> None:
        """Write it as far as it is known, if there is something new."""
        if not self.late:
            return
        self.late = False
        path = self.folder / executed_name(self.notebook.name)
        data: dict[str, Any] = copy.deepcopy(dict(self.notebook.data))
        data["metadata"] = {**data.get("metadata", {}), "nbflow": {"ended": self._ended()}}
        data["cells"] = list(self._cells(data["cells"]))
        text = json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True)
        write_atomically(path, f"{text}\n".encode("utf-8", "backslashreplace"))

    def is_written(self) -> bool:
        """Whether its file tells how all of these steps ended: a process may have been killed before it wrote that."""
        try:
            data = json.loads((self.folder / executed_name(self.notebook.name)).read_text(encoding="utf-8"))
            return bool(data["metadata"]["nbflow"]["ended"] == self._ended())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _ended(self) -> dict[str, str]:
        return {"/".join(node): one.outcome.status for step in self.ended.values() for node, one in step.items()}

    def _cells(self, raw: Any) -> Iterator[Any]:
        owner = {
            cell.position: (step.partition(":")[2] or step, cell.number)
            for cell, step in zip(self.notebook.cells, owners(self.notebook.cells), strict=True)
        }
        last = {step: at for at, (step, _) in owner.items()}
        own: dict[str, dict[int, Any]] = {}
        for at, (step, number) in owner.items():
            own.setdefault(step, {})[number] = raw[at]
        executed = {step: self._executed(step, own.get(step, {})) for step in self.ended}
        for at, cell in enumerate(raw):
            if cell["cell_type"] != "code":
                yield cell
                continue
            step, number = owner[at]
            cell.update(outputs=[], execution_count=None)
            cell.setdefault("metadata", {}).pop("execution", None)
            each = [one for one in self.ended.get(step, {}).values() if one.index is not None]
            found = executed.get(step, {})
            if each:
                cell["outputs"] = [summary(each)] if last[step] == at else []
            elif number in found:
                cell.update({key: found[number][key] for key in ("source", "outputs", "execution_count")})
                cell["metadata"] = {**found[number]["metadata"], **cell["metadata"]}
            yield cell
            if "parameters" in cell["metadata"].get("tags", ()) and 0 in found:
                yield found[0]

    def _executed(self, step: str, own: Mapping[int, Any]) -> Mapping[int, Any]:
        """Give the executed cells of a step by the numbers of its cells; 0: the one with the parameters."""
        one = next(reversed(self.ended[step].values()))
        if one.outcome.notebook is None or one.index is not None:
            return {}
        try:
            data = json.loads((self.folder / one.outcome.notebook).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # somebody has taken it away: its cells have no outputs
        ran: list[Any] = []
        found: dict[int, Any] = {}
        for cell in data["cells"]:
            said = cell["metadata"].get("nbflow")
            if "injected-parameters" in cell["metadata"].get("tags", ()):
                found |= {0: cell} if said is None else {}
            elif said is not None and said["step"] == step and not said["repeated"]:
                ran.append(cell)
        return {**found, **dict(_paired(own, ran))}


def _paired(own: Mapping[int, Any], ran: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Give for cells, by their numbers, what was executed of them: since then cells may have come, gone, or changed.

    A cell is the one that it was by its id, or where it has none by its code and its place.
    """
    once = [Counter(cell["id"] for cell in cells if "id" in cell) for cells in (own.values(), ran)]
    by_id = {cell["id"]: cell for cell in ran if "id" in cell and all(one[cell["id"]] == 1 for one in once)}
    known = {number: by_id[cell["id"]] for number, cell in own.items() if cell.get("id") in by_id}
    yield from known.items()
    left = [number for number in own if number not in known]
    rest = [cell for cell in ran if not any(cell is one for one in known.values())]
    matcher = SequenceMatcher(None, [_code(own[number]) for number in left], list(map(_code, rest)), autojunk=False)
    for kind, start, end, first, last in matcher.get_opcodes():
        if kind == "equal" or (kind == "replace" and end - start == last - first and not known):
            yield from zip(left[start:end], rest[first:last], strict=True)


def _code(cell: Any) -> str:
    return "".join(cell["source"])


def summary(each: Sequence[Ended]) -> dict[str, Any]:
    """Give the output of a fan-out: a row for each item, with a link to its notebook."""
    shown = sorted(each, key=lambda one: one.index or 0)
    names = list(dict.fromkeys(name for one in shown for name in _results(one.outcome)))
    head = ["item", "status", "seconds", *names]
    rows = [
        [one.label, one.outcome.status, f"{one.outcome.seconds:.2f}", *_values(one.outcome, names)] for one in shown
    ]
    rows = rows[:MOST_ROWS]
    links = [one.outcome.notebook for one in shown]
    parts = ["<table>", f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>"]
    for row, link in zip(rows, links, strict=False):
        label = html.escape(row[0])
        first = label if link is None else f'<a href="{quote(link)}">{label}</a>'
        parts.append(f"<tr><td>{first}</td>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:])}</tr>")
    more = f"<p>and {len(shown) - len(rows):,} more</p>" if len(shown) > len(rows) else ""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    data = {"text/html": "".join([*parts, "</table>", more]), "text/plain": "\n".join(lines)}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def _results(outcome: Outcome) -> Mapping[str, Any]:
    return outcome.output if isinstance(outcome.output, dict) else {}


def _values(outcome: Outcome, names: Sequence[str]) -> Iterator[str]:
    found = _results(outcome)
    for name in names:
        value = found.get(name)
        text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        yield text if len(text) <= 60 else text[:57] + "..."
