"""Tagging: gives the tags of a notebook's cells, adds some or removes some, and leaves every other byte as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from pathlib import Path
from typing import Any, NamedTuple

from ..definition import ID, NAME
from ..durations import seconds
from ..errors import DefinitionError, ParameterError, StoreError, TargetError, did_you_mean
from ..files import write_atomically
from ..source import EXAMPLES, PREFIXES, SETUP, WORDS, Cell, marks, owners, read_cells

__all__ = ["TaggedCell", "TaggedNotebook", "add_tag", "read_tags", "remove_tag"]

ONE = frozenset(PREFIXES) - {"needs"}
"""Tags with a value of which a cell has one at most: the new one takes the old one's place."""
OF_STEPS = frozenset(PREFIXES) - {"step", "timeout"}
"""Tags with a value that mean nothing on a cell that begins no step."""
OF_ITEMS = frozenset({"as", "max"})
"""Tags with a value that mean nothing without ``each:``."""
BEFORE = frozenset({SETUP, "parameters"})
"""Tags of cells that go into every kernel, before those of a step."""


@dataclass(frozen=True, slots=True)
class TaggedCell:
    """A code cell with its tags, whether or not they make sense."""

    number: int
    """Its place among the code cells, from 1."""
    position: int
    """Its index among all cells of the file."""
    source: str
    tags: tuple[str, ...]
    """The tags in its metadata, in their order."""
    said: tuple[str, ...]
    """What a first line ``# nbflow: ...`` says in place of tags."""
    step: str
    """Where it goes: the id of a step, ``setup``, or nowhere, which is an empty text."""
    sound: bool = True
    """Whether its tags are a list of texts."""

    @property
    def begins(self) -> bool:
        """Whether a step begins here."""
        return any(_prefix(tag) == "step" for tag in (*self.tags, *self.said))

    @property
    def code(self) -> str:
        """The first line that is code, else the first comment; may be empty."""
        lines = [line for line in self.source.splitlines() if line.strip()]
        return next((line for line in lines if not _COMMENT.match(line)), next(iter(lines), ""))


@dataclass(frozen=True)
class TaggedNotebook:
    """A notebook's file, read for its tags: also one that cannot be run because of them."""

    path: Path
    text: str = field(repr=False)
    """The file."""
    cells: tuple[TaggedCell, ...]
    """The code cells."""
    mistake: DefinitionError | None = None
    """What stands in the way of running it; where several things do, the first."""

    def cell(self, number: int) -> TaggedCell:
        """Give a code cell.

        Raises
        ------
        TargetError
            If there is no such cell.
        """
        if 1 <= number <= len(self.cells):
            return self.cells[number - 1]
        count = f"{len(self.cells)} code cell" + "s" * (len(self.cells) != 1)
        raise TargetError(
            f"{self.path.name} has no cell {number}: it has {count}.",
            "Cells are counted from 1, among the code cells only.",
        )


def read_tags(path: Path) -> TaggedNotebook:
    """Read the tags of a notebook in any language, whatever mistakes are in them.

    Parameters
    ----------
    path : Path
        The notebook.

    Raises
    ------
    TargetError
        If there is no such file, or it cannot be read.
    DefinitionError
        If it is no notebook of format 4.
    """
    mistake = None
    try:
        read_cells(path)
    except DefinitionError as problem:
        mistake = problem
    try:
        text = path.read_bytes().decode("utf-8")
        raw = _raw_cells(text)
    except OSError as problem:
        raise TargetError(f"{path} cannot be read: {problem.strerror}.") from None
    except (ValueError, RecursionError):
        raise mistake or DefinitionError(f"{path.name} was changed while it was read.", "Try it again.") from None
    return TaggedNotebook(path, text, tuple(_tagged_cells(path, raw)), mistake)


def add_tag(path: Path, cell: int, *tags: str) -> str:
    """Tag a code cell. All the tags are written at once, or none.

    Parameters
    ----------
    path : Path
        The notebook.
    cell : int
        The cell's place among the code cells, from 1.
    *tags : str
        ``parameters``, ``results``, ``raises-exception``, ``skip-execution``, ``setup``; or with a value:
        ``step:clean``, ``needs:load``, ``each:cities``, ``as:city``, ``max:4``, ``timeout:30s``, ``retry:2``. One with
        a value takes the place of the one that begins alike; only of ``needs:`` there can be several, and
        ``needs:load,clean`` is two of them.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    TargetError
        If there is no such notebook or cell.
    DefinitionError
        For a tag that is unknown, means nothing on this cell, or contradicts another cell, another tag or a comment.
    StoreError
        If the file cannot be written.
    """
    tags = tuple(dict.fromkeys(one for tag in tags for one in _several(tag)))
    for tag in tags:
        _check(path, cell, tag)
    _check_once(tags)
    notebook = read_tags(path)
    target = _target(notebook, cell)
    list(marks(path, cell, target.source))  # what is wrong with the comment comes first
    stored = _joined(target, tags)
    if stored == list(target.tags):
        return f"{path.name}: cell {cell} is tagged {', '.join(tags)} already."
    for tag in tags:
        _check_place(notebook, target, tag, stored, tags)
        _check_others(notebook, target, tag)
        _check_comment(notebook, target, _prefix(tag), stored)
    _rewrite(notebook, target, stored)
    return f"{path.name}: cell {cell} is tagged {', '.join(tags)} now."


def remove_tag(path: Path, cell: int, *tags: str) -> str:
    """Remove tags from a code cell; any tags, also those that nbflow does not know. All at once, or none.

    Parameters
    ----------
    path : Path
        The notebook.
    cell : int
        The cell's place among the code cells, from 1.
    *tags : str
        The tags.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    TargetError
        If there is no such notebook or cell.
    DefinitionError
        If a comment in the cell says the same as a tag.
    StoreError
        If the file cannot be written.
    """
    notebook = read_tags(path)
    target = _target(notebook, cell)
    tags = tuple(one for tag in tags for one in ([tag] if tag in target.tags else _several(tag)))
    said = [tag for tag in tags if tag in target.said and tag not in target.tags]
    if said:
        raise DefinitionError(
            f"{path.name}: cell {cell} is marked {', '.join(said)} by its first line, not by a tag.",
            "Delete that line in an editor.",
        )
    gone = [tag for tag in dict.fromkeys(tags) if tag in target.tags]
    if not gone:
        return f"{path.name}: cell {cell} is not tagged {', '.join(tags)}."
    _rewrite(notebook, target, [tag for tag in target.tags if tag not in gone])
    return f"{path.name}: cell {cell} is not tagged {', '.join(gone)} any more."


# Reading

_COMMENT = re.compile(r"\s*(?:#|//|--\s)")
"""How comments begin in the languages of notebooks."""


def _raw_cells(text: str) -> list[dict[str, Any]]:
    """Give the cells of the file; raises ValueError where it has not the shape of a notebook."""
    match json.loads(text.removeprefix("\ufeff")):
        case {"nbformat": 4, "cells": [*cells]} if all(map(_is_cell, cells)):
            return cells
    raise ValueError("no notebook")


def _is_cell(cell: object) -> bool:
    match cell:
        case {"cell_type": str(), **more}:
            source = more.get("source", "")
            lines = source if isinstance(source, list) else [source]
            return isinstance(more.get("metadata", {}), dict) and all(isinstance(line, str) for line in lines)
    return False


def _tagged_cells(path: Path, raw: Sequence[dict[str, Any]]) -> Iterator[TaggedCell]:
    code = [at for at, cell in enumerate(raw) if cell["cell_type"] == "code"]
    found = [_tagged_cell(path, number, at, raw[at]) for number, at in enumerate(code, 1)]
    cells = [Cell(one.number, one.position, one.source, frozenset((*one.tags, *one.said)), "") for one in found]
    for one, owner in zip(found, owners(cells), strict=True):
        yield replace(one, step=owner.removeprefix("step:"))


def _tagged_cell(path: Path, number: int, position: int, raw: dict[str, Any]) -> TaggedCell:
    """Give a cell by itself; where it goes is told by those above."""
    source = "".join(raw.get("source", ""))
    tags = raw.get("metadata", {}).get("tags", [])
    texts = _texts(tags)
    return TaggedCell(number, position, source, texts, _said(path, source), step="", sound=list(texts) == tags)


def _texts(tags: object) -> tuple[str, ...]:
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def _said(path: Path, source: str) -> tuple[str, ...]:
    """Give what the first line says, as far as it can be understood."""
    found: list[str] = []
    try:
        for mark in marks(path, 0, source):
            found.append(mark)  # noqa: PERF402 - what came before a mistake is kept
    except DefinitionError:
        pass  # read_cells told it
    return tuple(dict.fromkeys(found))


# Checking


def _prefix(tag: str) -> str:
    """Give what stands before the colon of a tag with a value; of others nothing."""
    prefix, sign, _ = tag.partition(":")
    return prefix if sign else ""


_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_FORMS: Mapping[str, tuple[re.Pattern[str], str, str]] = {
    "step": (ID, "is no step id", "A letter or _, then letters, digits, _ and -: step:clean"),
    "needs": (ID, "is no step id", "A letter or _, then letters, digits, _ and -: needs:load"),
    "each": (NAME, "names no variable", "Name a list that the notebook assigns: each:cities"),
    "as": (NAME, "names no variable", "Name the variable that is given one element: as:city"),
    "max": (_COUNT, "is no whole number from 1", "Say how many items may run at a time: max:4"),
    "retry": (_COUNT, "is no whole number from 1", "Say how often it is tried: retry:2"),
}
"""The form of a value, what one is that has it not, and the remedy."""


def _several(tag: str) -> list[str]:
    """Give the tags that are meant: ``needs:load,clean`` is two, for no tag may have a comma."""
    return [f"needs:{one}" for one in _needed(tag)] or [tag] if "," in tag else [tag]


def _check(path: Path, cell: int, tag: str) -> None:
    """Refuse what is no tag."""
    name, sign, value = tag.partition(":")
    if "," in tag and name not in ONE:
        apart = " ".join(tag.replace(",", " ").split())
        raise DefinitionError(
            f"{path.name}: cell {cell}: {tag!r} is no tag, for it has a comma.",
            f"Jupyter opens no such notebook. Give several tags one by one: {apart}",
        )
    if sign and name == "timeout":
        try:
            seconds(value, "the time-out")
        except ParameterError as problem:
            raise DefinitionError(f"{tag!r} is no tag: {problem.message}", problem.remedy) from None
    elif sign and name in _FORMS:
        form, told, remedy = _FORMS[name]
        values = _needed(tag) if name == "needs" else [value]
        wrong = next((one for one in values if not form.fullmatch(one) or (form is NAME and iskeyword(one))), None)
        if wrong is not None:
            raise DefinitionError(f"{tag!r} is no tag: {wrong!r} {told}.", remedy)
        if tag == f"step:{SETUP}":
            told = f"{tag!r} is no tag: {SETUP} is what runs first in every kernel."
            raise DefinitionError(told, f"Give the step another name, or tag the cell {SETUP}.")
    elif tag not in WORDS:
        raise DefinitionError(
            f"{tag!r} is no tag that nbflow knows.{_meant(tag)}",
            f"The tags are: {', '.join(WORDS)}, and with a value: {', '.join(EXAMPLES)}.",
        )


def _needed(tag: str) -> list[str]:
    """Give the steps that a tag ``needs:`` names; it may name several, and none where a step needs nothing."""
    prefix, _, value = tag.partition(":")
    return [one for one in re.split(r"[,+\s]+", value) if one] if prefix == "needs" else []


def _meant(tag: str) -> str:
    name, sign, value = (part.strip() for part in tag.replace("=", ":", 1).partition(":"))
    name = name.lower()
    if not sign:
        return did_you_mean(name, [*WORDS, *(f"{one}:" for one in PREFIXES)])
    return did_you_mean(f"{name}:{value}", [*(f"{one}:{value}" for one in PREFIXES), *WORDS])


def _check_once(tags: Sequence[str]) -> None:
    """Refuse two values for one thing."""
    seen: dict[str, str] = {}
    for tag in tags:
        prefix = _prefix(tag)
        if prefix in ONE and seen.setdefault(prefix, tag) != tag:
            raise DefinitionError(f"{seen[prefix]} and {tag}: a cell has one {prefix}: at most.", "Give one of them.")


def _target(notebook: TaggedNotebook, number: int) -> TaggedCell:
    """Give the cell that is to be tagged."""
    cell = notebook.cell(number)
    if notebook.mistake is not None and not cell.sound:
        raise notebook.mistake
    return cell


def _joined(cell: TaggedCell, tags: Sequence[str]) -> list[str]:
    """Give the tags that are to stand in the cell's metadata."""
    replaced = {_prefix(tag) for tag in tags} & ONE
    kept = [tag for tag in cell.tags if _prefix(tag) not in replaced or tag in tags]
    return [*kept, *(tag for tag in dict.fromkeys(tags) if tag not in {*kept, *cell.said})]


def _check_place(
    notebook: TaggedNotebook, cell: TaggedCell, tag: str, stored: Sequence[str], tags: Sequence[str]
) -> None:
    """Refuse what means nothing on this cell: without a step, without a list, or where a step would need itself."""
    place, prefix = f"{notebook.path.name}: cell {cell.number}", _prefix(tag)
    all_tags = (*stored, *cell.said)
    there = {_prefix(one) for one in all_tags}
    if prefix in OF_STEPS and "step" not in there:
        raise DefinitionError(
            f"{place} begins no step, and without one {tag} means nothing.", _where_instead(notebook, cell, tags)
        )
    if prefix in OF_ITEMS and "each" not in there:
        raise DefinitionError(
            f"{place} has no each:, and without a list {tag} means nothing.",
            f"Name the list as well:\n{_command(notebook, cell, 'each:LIST', *tags)}",
        )
    itself = [one for one in _needed(tag) if f"step:{one}" in all_tags]
    if itself:
        raise DefinitionError(f"{place} begins step {itself[0]}, which cannot need itself.", "Name other steps.")
    if prefix == "needs" and "needs:" in all_tags and (others := [one for one in all_tags if _needed(one)]):
        raise DefinitionError(
            f"{place}: needs: says that the step waits for nothing, and {others[0]} contradicts it.",
            "Keep one of them.",
        )
    if (
        (prefix == "step" or tag in BEFORE)
        and "step" in there
        and (before := [one for one in all_tags if one in BEFORE])
    ):
        raise DefinitionError(
            f"{place} cannot begin a step and be tagged {before[0]}, for that runs before all steps.",
            "Split the cell, and tag each of the two.",
        )


def _where_instead(notebook: TaggedNotebook, cell: TaggedCell, tags: Sequence[str]) -> str:
    """Give the commands that put tags where a step begins."""
    given = {_prefix(tag) for tag in tags}
    lists = ["each:LIST"] if given & OF_ITEMS and "each" not in given else []
    here = f"egin a step here:\n{_command(notebook, cell, 'step:NAME', *lists, *tags)}"
    first = next((one for one in notebook.cells if one.begins and one.step == cell.step), None)
    if first is None or any(first.step in _needed(tag) for tag in tags):
        return f"B{here}"
    of_steps = [tag for tag in tags if _prefix(tag) in OF_STEPS]
    there = _command(notebook, first, *lists, *of_steps)
    return f"Give that to the cell that begins the step:\n{there}\nOr b{here}"


def _check_others(notebook: TaggedNotebook, cell: TaggedCell, tag: str) -> None:
    """Refuse what only one cell can have and another one has."""
    if (tag != "parameters" and _prefix(tag) != "step") or tag in (*cell.tags, *cell.said):
        return
    other = next((one for one in notebook.cells if tag in (*one.tags, *one.said)), None)
    if other is None:
        return
    remedy = f"Remove it there first:\n{_command(notebook, other, '--remove', tag)}"
    if tag not in other.tags:
        remedy = f"Change the first line of cell {other.number} first, which says so."
    raise DefinitionError(
        f"{notebook.path.name}: cell {other.number} is tagged {tag} already, and there can be only one.", remedy
    )


def _check_comment(notebook: TaggedNotebook, cell: TaggedCell, prefix: str, stored: Sequence[str]) -> None:
    """Refuse tags that say one thing where the first line says another."""
    new = sorted({tag for tag in stored if prefix and _prefix(tag) == prefix})
    said = sorted(tag for tag in cell.said if prefix and _prefix(tag) == prefix)
    if new and said and new != said:
        raise DefinitionError(
            f"{notebook.path.name}: the first line of cell {cell.number} says {', '.join(said)}, "
            f"and {', '.join(new)} contradicts it.",
            "Change that line in an editor.",
        )


def _command(notebook: TaggedNotebook, cell: TaggedCell, *words: str) -> str:
    return shlex.join(["nbflow", "tag", str(notebook.path), str(cell.number), *words])


# The text


def _rewrite(notebook: TaggedNotebook, cell: TaggedCell, tags: list[str]) -> None:
    """Write the notebook with other tags of one cell."""
    _replace(notebook.path.resolve(), _tagged(notebook.text, cell.position, tags).encode("utf-8"))


class _Member(NamedTuple):
    """A member of an object in the text."""

    key: str
    at: int
    """Where its key starts."""
    start: int
    """Where its value starts."""
    end: int


def _tagged(text: str, position: int, tags: list[str]) -> str:
    """Give the notebook's text with other tags of one cell: only the member ``tags`` of its metadata changes."""
    root = {one.key: one for one in _members(text, 1 if text.startswith("\ufeff") else 0)}
    cell, _ = list(_elements(text, root["cells"].start))[position]
    metadata = next((one for one in reversed(list(_members(text, cell))) if one.key == "metadata"), None)
    if metadata is None:
        inside = _blanks(text, cell + 1)
        lead = text[cell + 1 : inside]
        return f'{text[:inside]}"metadata": {json.dumps({"tags": tags})},{lead or " "}{text[inside:]}'
    members = list(_members(text, metadata.start))
    at = max((at for at, one in enumerate(members) if one.key == "tags"), default=None)
    if at is not None and not tags:
        return _tagged(_without(text, metadata, members, at), position, tags)
    if not tags:
        return text
    line = text[text.rfind("\n", 0, metadata.at) + 1 : metadata.at]
    margin = line[: len(line) - len(line.lstrip())]
    unit = margin[: max(1, len(margin) // 3)]  # it stands three levels deep
    tail = ("\r\n" if "\r\n" in text else "\n") + margin if margin == line else ""
    lead = text[metadata.start + 1 : members[0].at] if members else tail and tail + unit
    tight = text[metadata.start - 1] == ":"
    old = text[members[at].start : members[at].end] if at is not None else "[]"
    value = _listed(tags, old, lead, unit, tight=tight, ensure_ascii=text.isascii())
    if at is not None:
        return text[: members[at].start] + value + text[members[at].end :]
    member = f'"tags":{value}' if tight else f'"tags": {value}'
    if not members:
        return text[: metadata.start + 1] + lead + member + tail + text[metadata.end - 1 :]
    comma = "," + (lead if "\n" in lead else "" if tight else " ")
    return _with(text, members, member, comma)


def _listed(tags: Sequence[str], old: str, lead: str, unit: str, *, tight: bool, ensure_ascii: bool) -> str:
    """Give tags as a list in the manner of the metadata around it; those that stand in the old one as they do there."""
    known = {json.loads(old[start:end]): old[start:end] for start, end in _elements(old, 0)}
    texts = [known.get(tag) or json.dumps(tag, ensure_ascii=ensure_ascii) for tag in tags]
    if "\n" in lead and ("\n" in old or not known):
        return f"[{lead}{unit}{f',{lead}{unit}'.join(texts)}{lead}]"
    return f"[{(',' if tight else ', ').join(texts)}]"


def _without(text: str, around: _Member, members: Sequence[_Member], at: int) -> str:
    """Give the text without a member, and without one of the commas beside it."""
    start, end = around.start + 1, around.end - 1
    if at + 1 < len(members):
        start, end = members[at].at, members[at + 1].at
    elif at:
        start, end = members[at - 1].end, members[at].end
    return text[:start] + text[end:]


def _with(text: str, members: Sequence[_Member], tags: str, comma: str) -> str:
    """Give the text with tags among members: in their place where the keys are sorted, else at the end."""
    if len(members) > 1:
        comma = text[members[0].end : members[1].at]
    keys = [one.key for one in members]
    behind = next((one for one in members if one.key > "tags"), None) if keys == sorted(keys) else None
    if behind is not None:
        return text[: behind.at] + tags + comma + text[behind.at :]
    return text[: members[-1].end] + comma + tags + text[members[-1].end :]


_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def _blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _members(text: str, at: int) -> Iterator[_Member]:
    """Give the members of the object that begins here."""
    at = _blanks(text, _blanks(text, at) + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        start = _blanks(text, _blanks(text, after) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        yield _Member(key, at, start, end)
        at = _blanks(text, end)
        at = _blanks(text, at + 1) if text[at] == "," else at


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Give where the elements of the array that begins here start and end."""
    at = _blanks(text, at + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        yield at, end
        at = _blanks(text, end)
        at = _blanks(text, at + 1) if text[at] == "," else at


# The file


def _replace(path: Path, data: bytes) -> None:
    """Put the bytes in the place of the file at once, with its permissions."""
    try:
        # The folder alone would allow it, but a file that its owner may not write is meant to stay.
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
        write_atomically(path, data)
    except OSError as problem:
        raise StoreError(
            f"{path} cannot be written: {problem.strerror}.", f"Look at it: ls -ld {shlex.quote(str(path.parent))}"
        ) from None
