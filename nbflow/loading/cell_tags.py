"""Tags of cells: which cells are a step, and what is said of it; or what is wrong, cell by cell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from keyword import iskeyword
from typing import Any

from .. import definition as d
from ..errors import DefinitionError
from ..source import PREFIXES, SETUP, WORDS, Cell, Notebook, marks, owners

__all__ = ["Part", "Parts", "read_parts"]

OF_STEPS = ("needs", "each", "as", "max", "retry")
"""Tags that only the cell has which begins a step."""
ONE = ("step", "each", "as", "max", "timeout", "retry")
"""Tags of which a cell has one at most."""


@dataclass
class Part:
    """The cells of one step, with what their tags say."""

    id: str
    first: Cell
    """The cell that begins it."""
    needs: tuple[str, ...] | None = None
    each: str = ""
    """The list that it runs over; empty: it runs once."""
    item: str = "item"
    """The name that has the element."""
    most: int = 1
    """Items at a time."""
    timeout: str | None = None
    retry: int | None = None

    @property
    def called(self) -> str:
        """What people call it in messages."""
        return f"cell {self.first.number} (step {self.id})"


@dataclass
class Parts:
    """The parts of a notebook, and what is wrong with their tags."""

    notebook: Notebook
    name: str
    """How messages call the notebook."""
    setup: list[Cell] = field(default_factory=list)
    steps: list[Part] = field(default_factory=list)
    problems: list[DefinitionError] = field(default_factory=list)

    def problem(self, cell: Cell, message: str, remedy: str = "") -> None:
        """Note what is wrong with a cell."""
        place = f"{self.name}: cell {cell.number}"
        self.problems.append(DefinitionError(f"{place}: {message}", remedy, place))

    def command(self, cell: Cell, *words: str) -> str:
        """Give what gives a cell a tag."""
        return shlex.join(["nbflow", "tag", str(self.notebook.path), str(cell.number), *words])


def read_parts(notebook: Notebook, name: str) -> Parts:
    """Find the parts of a notebook.

    Parameters
    ----------
    notebook : Notebook
    name : str
        How messages call it.
    """
    parts = Parts(notebook, name)
    for cell, owner in zip(notebook.cells, owners(notebook.cells), strict=True):
        _check(parts, cell)
        said = _by_prefix(cell.tags)
        if "step" in said:
            _begin(parts, cell, said)
            continue
        if owner == SETUP and cell.source.strip():
            parts.setup.append(cell)
        if lost := [f"{prefix}:{value}" for prefix in OF_STEPS for value in said.get(prefix, ())]:
            told = f"has {lost[0]}, and no step begins here"
            above = (
                f"Put it on cell {parts.steps[-1].first.number}, or begin a step here" if parts.steps else "Begin one"
            )
            parts.problem(cell, told, f"{above}: {parts.command(cell, 'step:NAME')}")
    return parts


def _begin(parts: Parts, cell: Cell, said: Mapping[str, list[str]]) -> None:
    """Take in a step."""
    step_id = said["step"][0]
    earlier = next((part for part in parts.steps if part.id == step_id), None)
    if not d.ID.fullmatch(step_id):
        rule = "A letter or _, then letters, digits, _ and -"
        parts.problem(cell, f"step:{step_id} is no step id", f"{rule}: step:{_id_like(step_id)}")
    elif step_id == SETUP:
        parts.problem(cell, "step:setup is what runs first in every kernel", "Tag it setup, or choose another name.")
    elif earlier is not None:
        told = f"begins step {step_id}, and so does cell {earlier.first.number}"
        parts.problem(cell, told, f"Give one of them a name of its own: {parts.command(cell, 'step:NAME')}")
    if before := sorted({SETUP, "parameters"} & cell.tags):
        told = f"begins step {step_id} and is tagged {before[0]}, which runs before all steps"
        parts.problem(cell, told, "Split the cell, and tag each of the two.")
    needs = [one for value in said.get("needs", ()) for one in re.split(r"[,+]", value) if one]
    if needs and "" in said["needs"]:
        told = f"needs: says that the step waits for nothing, and needs:{needs[0]} contradicts it"
        parts.problem(cell, told, "Keep one of them.")
    parts.steps.append(
        Part(
            step_id,
            cell,
            tuple(needs) if "needs" in said else None,
            _variable(parts, cell, "each", said, ""),
            _variable(parts, cell, "as", said, "item"),
            _count(parts, cell, "max", said) or 1,
            next(iter(said.get("timeout", ())), None),
            _count(parts, cell, "retry", said),
        )
    )
    if "each" not in said and (alone := sorted({"as", "max"} & said.keys())):
        parts.problem(cell, f"has {alone[0]}:{said[alone[0]][0]}, and no items", "Name a list to run over: each:cities")


def _id_like(text: str) -> str:
    """Give a step id that is like a text.

    Examples
    --------
    >>> _id_like("sp ace"), _id_like("1"), _id_like("é")
    ('sp-ace', 'step1', 'clean')
    """
    like = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "clean"
    return like if d.ID.fullmatch(like) else f"step{like}"


def _variable(parts: Parts, cell: Cell, prefix: str, said: Mapping[str, list[str]], default: str) -> str:
    name = said.get(prefix, [default])[0]
    if prefix in said and (iskeyword(name) or not d.NAME.fullmatch(name)):
        told = ", for it is a word of Python" if iskeyword(name) else ""
        remedy = "each: names a list of the notebook, as: what its element is called."
        parts.problem(cell, f"{prefix}:{name} names no variable{told}", remedy)
    return name


def _count(parts: Parts, cell: Cell, prefix: str, said: Mapping[str, list[str]]) -> int | None:
    if prefix not in said:
        return None
    text = said[prefix][0]
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    parts.problem(cell, f"{prefix}:{text} is no whole number from 1", f"Write it like this: {prefix}:4")
    return None


# -- tags that are nearly right -----------------------------------------------------------------------------------


_LATE = re.compile(r"(?:\s*#.*\n)+\s*(%%\w+)")
"""A magic of the whole cell where IPython takes it for one of the line, which there is not."""


def _check(parts: Parts, cell: Cell) -> None:
    """Note tags that are nearly right, two where there can be one, and first lines that differ or come too late."""
    raw: Any = parts.notebook.data["cells"]
    tags: list[str] = raw[cell.position].get("metadata", {}).get("tags", [])
    for tag in tags:
        if right := _meant(tag):
            remedy = f"{parts.command(cell, '--remove', tag)}\n{parts.command(cell, right)}"
            parts.problem(cell, f"the tag {tag!r} means nothing. Did you mean {right!r}?", remedy)
    if not {"skip-execution", "raises-exception"} & cell.tags and (late := _LATE.match(cell.source)):
        told = f"{late[1]!r} stands below a comment, and is a magic of the cell in its first line only"
        parts.problem(cell, told, "Put the comment below it.")
    tagged, said = _by_prefix(tags), _by_prefix(marks(parts.notebook.path, cell.number, cell.source))
    for prefix in ONE:
        if len(values := tagged.get(prefix, [])) > 1:
            parts.problem(cell, f"has {prefix}: {len(values)} times: {', '.join(values)}", "Keep one of them.")
    for prefix in tagged.keys() & said.keys():
        if sorted(tagged[prefix]) != sorted(said[prefix]):
            one, other = (f"{prefix}:{','.join(values)}" for values in (tagged[prefix], said[prefix]))
            parts.problem(cell, f"its tags say {one}, and its first line says {other}", "Keep one of them.")


def _meant(tag: str) -> str:
    """Give what a tag that means nothing was perhaps meant to be.

    Examples
    --------
    >>> _meant("stp:load"), _meant("needs=load"), _meant("STEP: a"), _meant("result"), _meant("remove-input")
    ('step:load', 'needs:load', 'step:a', 'results', '')
    """
    name, sign, value = (part.strip() for part in tag.replace("=", ":", 1).partition(":"))
    near = get_close_matches(name.lower(), PREFIXES if sign else WORDS, n=1, cutoff=0.75)
    known = tag in WORDS or tag.partition(":")[0] in PREFIXES
    return f"{near[0]}{sign}{value}" if near and not known else ""


def _by_prefix(tags: Iterable[str]) -> dict[str, list[str]]:
    """Give the values of tags that have one."""
    found: dict[str, list[str]] = {}
    for tag in sorted(tags):
        prefix, sign, value = tag.partition(":")
        if sign and prefix in PREFIXES:
            found.setdefault(prefix, []).append(value)
    return found
