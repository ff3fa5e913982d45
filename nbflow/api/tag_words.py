"""Words for the tags of cells: the list that people see who cannot see them in their editor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..loading.tagging import TaggedCell, TaggedNotebook, add_tag, read_tags, remove_tag
from ..reporters.escape import called, fit, for_terminal, left, right, width
from ..source import SETUP
from ..values import Value

__all__ = ["tag_data", "tag_lines", "tag_words"]

STEP = 20
"""Columns that the id of a step takes at most in a list of cells."""
MOST = 20
"""Lines of code that are shown of one cell."""


def tag_words(notebook: str, cell: int, tags: Sequence[str], *, remove: bool) -> str:
    """Give a cell tags, or take some away; gives the line that says so."""
    return (remove_tag if remove else add_tag)(Path(notebook), cell, *tags)


def tag_data(notebook: str, cell: int | None = None) -> dict[str, Value]:
    """Give the cells of a notebook with their tags, or one of them with its source, as data."""
    found = read_tags(Path(notebook))
    if cell is not None:
        one = found.cell(cell)
        return {**_cell_data(one), "source": one.source}
    mistake = found.mistake
    return {
        "notebook": notebook,
        "cells": [_cell_data(one) for one in found.cells],
        "mistake": {"message": mistake.message, "remedy": mistake.remedy} if mistake is not None else None,
    }


def _cell_data(cell: TaggedCell) -> dict[str, Value]:
    return {
        "cell": cell.number,
        "step": cell.step or None,
        "begins": cell.begins,
        "tags": list(cell.tags),
        "comment": list(cell.said),
        "code": cell.code,
    }


def tag_lines(notebook: str, cell: int | None, columns: int) -> list[str]:
    """Give the lines that show the cells of a notebook with their tags, or one of them with the beginning of its code.

    Parameters
    ----------
    notebook : str
        The file.
    cell : int or None
        The cell's place among the code cells, from 1; all cells by default.
    columns : int
        Columns of the terminal that may be used.
    """
    found = read_tags(Path(notebook))
    if cell is not None:
        return _one_cell(found.cell(cell), columns)
    if not found.cells:
        return ["no code cells"]
    lines = _list_of_cells(found, columns)
    if any(one.said for one in found.cells):
        lines += ["", fit("  behind # stands what the first line of a cell says in place of a tag", columns)]
    if found.mistake is not None:
        remedy = [f"  {for_terminal(line)}" for line in found.mistake.remedy.splitlines()]
        lines += ["", f"mistake: {for_terminal(found.mistake.message)}", *remedy]
    return lines


def _list_of_cells(notebook: TaggedNotebook, columns: int) -> list[str]:
    """Give a line for each cell, and an empty one above each that begins a step."""
    rows: list[tuple[str, ...]] = [("cell", "step", "tags", "code")]
    for one in notebook.cells:
        tags = " ".join([*one.tags, *(["#", *one.said] if one.said else [])]) if one.sound else "?"
        rows.append((str(one.number), *map(_plain, (one.step or "-", tags or "-", one.code))))
    number, step, tagged, code = (max(map(width, column)) for column in zip(*rows, strict=True))
    step = min(step, STEP)
    room = columns - 4 * len("  ") - number - step
    tagged = max(len("tags"), min(tagged, max(room * 3 // 5, room - code)))
    lines = []
    for at, (first, second, third, fourth) in enumerate(rows):
        if at > 1 and notebook.cells[at - 1].begins:
            lines.append("")
        begin = f"  {right(first, number)}  {called(second, step)}  {left(third, tagged)}  "
        lines.append(f"{begin}{fit(fourth, room - tagged)}".rstrip())
    return lines


def _one_cell(cell: TaggedCell, columns: int) -> list[str]:
    """Give a cell's tags, each in a line and none cut, and the beginning of its code."""
    match cell:
        case TaggedCell(step=""):
            where = ""
        case TaggedCell(begins=True, step=step):
            where = f", begins step {step}"
        case TaggedCell(step=step):
            where = f", {step}" if step == SETUP else f", in step {step}"
    said = [f"{tag}  (its first line says so)" for tag in cell.said if tag not in cell.tags]
    tags = [f"  {for_terminal(tag)}" for tag in (*cell.tags, *said)]
    code = [fit(f"    {_plain(line, strip=False)}".rstrip(), columns) for line in cell.source.splitlines()]
    more = [f"    ... {len(code) - MOST:,} more lines"] if len(code) > MOST + 1 else []
    shown = code[: MOST if more else None]
    return [
        for_terminal(f"cell {cell.number}{where}"),
        *(tags or ["  no tags"]),
        *([""] if shown else []),
        *shown,
        *more,
    ]


def _plain(text: str, *, strip: bool = True) -> str:
    """Give a line that a terminal shows as it stands."""
    plain = for_terminal(text.expandtabs(4))
    return plain.strip() if strip else plain
