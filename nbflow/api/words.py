"""Words: the texts of the command line, turned into requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..durations import seconds
from ..loading.items import assignments, from_command_line
from ..loading.tagging import TaggedCell, TaggedNotebook, add_tag, read_tags, remove_tag
from ..reporters.escape import called, fit, for_terminal, left, right, width
from ..sizes import size
from ..source import SETUP, read_notebook
from ..steps import KernelStart
from ..types import Changed
from ..values import Value
from .reading import locate
from .requests import Limits, MapOptions, again_request, map_request, resuming
from .session import Request

__all__ = ["map_words", "resume_words", "run_words", "tag_data", "tag_lines", "tag_words"]

STEP = 20
"""Columns that the id of a step takes at most in a list of cells."""
MOST = 20
"""Lines of code that are shown of one cell."""


def map_words(
    notebook: str,
    *,
    items: str | None,
    grid: Sequence[str],
    zip: Sequence[str],  # noqa: A002 - the option's name
    parameters: Sequence[str],
    columns: str | None,
    jobs: int | None,
    kernel: str | None,
    output: str | None,
    output_dir: str | None,
    name: str | None,
    cwd: str,
    kernel_start: str | None = None,
    preload: str | None = None,
    timeout: str | None,
    memory: str | None = None,
    max_memory: str | None = None,
    retry: int,
    fail_fast: bool,
    max_failures: int | None,
    secret: Sequence[str],
    changed: Changed,
    again: bool,
    state_dir: Path | None,
    ask_first: bool = True,
) -> Request:
    """Check what ``nbflow map`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    found = read_notebook(Path(notebook))
    options = MapOptions(
        max_concurrency=jobs,
        kernel=kernel,
        output=tuple(word.strip() for word in output.split(",")) if output is not None else (),
        output_dir=output_dir,
        name=name,
        cwd=cwd,
        start=KernelStart.said(kernel_start, preload),
        timeout=None if timeout is None else seconds(timeout, "--timeout"),
        memory=None if memory is None else size(memory, "--memory"),
        max_memory=max_memory,
        retry=retry,
        fail_fast=fail_fast,
        max_failures=max_failures,
        secret=tuple(secret),
        changed=changed,
        state_dir=state_dir,
    )
    built = from_command_line(found, items=items, grid=grid, zip=zip, parameters=parameters, columns=columns)
    return again_request(found, built, options, ask_first=ask_first) if again else map_request(found, built, options)


def resume_words(
    target: str,
    *,
    parameters: Sequence[str],
    jobs: int | None,
    changed: Changed,
    from_: str | None,
    only: str | None,
    force: bool,
    take_over: bool,
    fail_fast: bool | None,
    max_failures: int | None,
    timeout: str | None,
    kernel_start: str | None,
    preload: str | None,
    memory: str | None,
    max_memory: str | None,
    ask_first: bool,
    state_dir: Path | None,
) -> Request:
    """Check what ``nbflow resume`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    stored = locate(target, state_dir=state_dir)
    return resuming(stored)(
        stored,
        parameters=assignments("-p", parameters),
        text=True,
        max_concurrency=jobs,
        max_memory=max_memory,
        limits=Limits(
            fail_fast=fail_fast,
            max_failures=max_failures,
            timeout=None if timeout is None else seconds(timeout, "--timeout"),
            start=KernelStart.said(kernel_start, preload),
            memory=None if memory is None else size(memory, "--memory"),
        ),
        changed=changed,
        from_=from_,
        only=only,
        force=force,
        take_over=take_over,
        target=target,
        ask_first=ask_first,
    )


def run_words(
    workflow: str,
    *,
    inputs: Sequence[str],
    jobs: int | None,
    max_memory: str | None = None,
    kernel_start: str | None = None,
    preload: str | None = None,
    state_dir: Path | None,
) -> Request:
    """Check what ``nbflow run`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    from .flow_requests import flow_request

    return flow_request(
        workflow,
        given=assignments("-i", inputs),
        text=True,
        max_workers=jobs,
        max_memory=max_memory,
        start=KernelStart.said(kernel_start, preload),
        state_dir=state_dir,
    )


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
