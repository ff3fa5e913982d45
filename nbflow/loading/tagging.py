"""Tagging: adds a tag to a cell of a notebook or removes one, and leaves every other byte of the file as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..durations import seconds
from ..errors import DefinitionError, ParameterError, StoreError, TargetError, did_you_mean
from ..files import write_atomically
from ..source import Cell, read_cells

__all__ = ["TAGS", "add_tag", "remove_tag"]

TAGS = ("parameters", "results", "raises-exception", "skip-execution")
"""Tags without a value; ``timeout:30s`` has one."""


def add_tag(path: Path, cell: int, tag: str) -> str:
    """Tag a code cell.

    Parameters
    ----------
    path : Path
        The notebook.
    cell : int
        The cell's place among the code cells, from 1.
    tag : str
        ``parameters``, ``results``, ``raises-exception``, ``skip-execution``, or ``timeout:30s``.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    TargetError
        If there is no such notebook or cell.
    DefinitionError
        For an unknown tag, or a second cell tagged ``parameters``.
    StoreError
        If the file cannot be written.
    """
    _known(tag)
    target, cells = _cell(path, cell)
    if tag in target.tags:
        return f"{path.name}: cell {cell} is tagged {tag} already."
    other = next((c.number for c in cells if tag == "parameters" and tag in c.tags), None)
    if other is not None:
        raise DefinitionError(
            f"{path.name}: cell {other} is tagged parameters already, and there can be only one.",
            f"Remove it there first:\nnbflow tag {shlex.quote(str(path))} {other} --remove parameters",
        )
    timed = tag.startswith("timeout:")  # a cell has one time-out: the new one takes the old one's place
    kept = [t for t in _stored(path, target) if not (timed and t.startswith("timeout:"))]
    _rewrite(path, target, [*kept, tag])
    return f"{path.name}: cell {cell} is tagged {tag} now."


def remove_tag(path: Path, cell: int, tag: str) -> str:
    """Remove a tag from a code cell; any tag, also one that nbflow does not know.

    Parameters
    ----------
    path : Path
        The notebook.
    cell : int
        The cell's place among the code cells, from 1.
    tag : str
        The tag.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    TargetError
        If there is no such notebook or cell.
    DefinitionError
        If a comment in the cell says the same as the tag.
    StoreError
        If the file cannot be written.
    """
    target, _ = _cell(path, cell)
    stored = _stored(path, target)
    if tag not in stored and tag in target.tags:
        raise DefinitionError(
            f"{path.name}: cell {cell} is marked {tag} by its first line, not by a tag.",
            "Delete that line in an editor.",
        )
    if tag not in stored:
        return f"{path.name}: cell {cell} is not tagged {tag}."
    _rewrite(path, target, [t for t in stored if t != tag])
    return f"{path.name}: cell {cell} is not tagged {tag} any more."


def _known(tag: str) -> None:
    name, sign, value = tag.partition(":")
    if sign and name == "timeout":
        try:
            seconds(value, "the time-out")
        except ParameterError as problem:
            raise DefinitionError(f"{tag!r} is no tag: {problem.message}", problem.remedy) from None
    elif tag not in TAGS:
        raise DefinitionError(
            f"{tag!r} is no tag that nbflow knows.{did_you_mean(tag, list(TAGS))}",
            f"The tags are: {', '.join(TAGS)}, timeout:30s.",
        )


def _cell(path: Path, number: int) -> tuple[Cell, Sequence[Cell]]:
    _, cells = read_cells(path)
    if not 1 <= number <= len(cells):
        count = f"{len(cells)} code cell" + "s" * (len(cells) != 1)
        raise TargetError(
            f"{path.name} has no cell {number}: it has {count}.",
            "Cells are counted from 1, among the code cells only.",
        )
    return cells[number - 1], cells


def _stored(path: Path, cell: Cell) -> list[str]:
    """Give the tags in the cell's metadata, in their order."""
    data, _ = read_cells(path)
    metadata = data["cells"][cell.position].get("metadata", {})  # type: ignore[index,union-attr]  # read_cells has checked the shape
    return [tag for tag in metadata.get("tags", []) if isinstance(tag, str)]


def _rewrite(path: Path, cell: Cell, tags: list[str]) -> None:
    """Write the notebook with other tags of one cell."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as problem:
        raise TargetError(f"{path} cannot be read: {problem.strerror}.") from None
    _replace(path.resolve(), _tagged(text, cell.position, tags).encode("utf-8"))


# The text


def _tagged(text: str, position: int, tags: list[str]) -> str:
    """Give the notebook's text with other tags of one cell: only the value of its ``metadata`` changes."""
    root = dict(_members(text, 1 if text.startswith("\ufeff") else 0))
    cell = list(_elements(text, root["cells"][0]))[position]
    members = dict(_members(text, cell[0]))
    if "metadata" not in members:
        inside = _blanks(text, cell[0] + 1)
        lead = text[cell[0] + 1 : inside]
        return f'{text[:inside]}"metadata": {json.dumps({"tags": tags})},{lead or " "}{text[inside:]}'
    start, end = members["metadata"]
    metadata = json.loads(text[start:end])
    ordered = list(metadata) == sorted(metadata)
    metadata = {**metadata, "tags": tags}
    if not tags:
        del metadata["tags"]
    return text[:start] + _like(text, start, end, metadata, ordered=ordered) + text[end:]


def _like(text: str, start: int, end: int, metadata: object, *, ordered: bool) -> str:
    """Give the JSON of the metadata in the manner of the text around it."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    margin = line[: len(line) - len(line.lstrip())]
    if not margin:  # all in one line
        tight = text[start - 1] == ":"
        return json.dumps(
            metadata, ensure_ascii=False, separators=(",", ":") if tight else (", ", ": "), sort_keys=ordered
        )
    unit = margin[: max(1, len(margin) // 3)]  # it stands three levels deep
    pretty = json.dumps(metadata, ensure_ascii=text[start:end].isascii(), indent=unit, sort_keys=ordered)
    newline = "\r\n" if "\r\n" in text else "\n"
    return pretty.replace("\n", newline + margin)


_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def _blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _members(text: str, at: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Give the keys of the object that begins here, and where their values start and end."""
    at = _blanks(text, _blanks(text, at) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _blanks(text, _blanks(text, at) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        yield key, (start, end)
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
