"""What the command line prints around a run: its head, its end, and lists of runs; lines, not printed here."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..outcome import Failure
from ..state import Active
from ..types import RunStatus, Status
from .escape import fit, for_terminal, left, width
from .table import GAP, INDENT, Grid, Row, table

__all__ = [
    "Ending",
    "Failed",
    "Planned",
    "RunLine",
    "Standing",
    "duration",
    "ending",
    "explain",
    "failures",
    "head",
    "size",
    "status_list",
    "status_one",
    "table",
]

WIDTH = 79
MOST_FAILURES = 10
MOST_ROWS = 12
"""Rows of the table at the end; the whole table has a command."""


def duration(seconds: float) -> str:
    """Give seconds as people write them.

    Examples
    --------
    >>> duration(41.3), duration(185), duration(3723)
    ('0:41', '3:05', '1:02:03')
    """
    if not math.isfinite(seconds):
        return "-"
    whole = max(0, math.floor(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Give bytes as people write them.

    Examples
    --------
    >>> size(512), size(12_345_678)
    ('512 B', '12.3 MB')
    """
    if count < 1000:
        return f"{count} B"
    value, units = float(count), iter(("kB", "MB", "GB", "TB", "PB"))
    unit = ""
    while value >= 999.95 and (following := next(units, "")):
        value, unit = value / 1000, following
    return f"{value:.1f} {unit}"


def head(
    name: str, total: int, workers: int, kernel: str, run_id: str, kept: int = 0, unfinished: str = ""
) -> list[str]:
    """Give the lines above a run.

    Parameters
    ----------
    kept : int
        Items that are done already.
    unfinished : str
        The id of an earlier run of the same notebook that could be resumed, if there is one.

    Examples
    --------
    >>> print(*head("forecast.ipynb", 40, 4, "python3", "20261123-0301-7f3a"), sep="\\n")
    forecast.ipynb  40 items, 4 at a time (-j)  kernel python3
    run 20261123-0301-7f3a                      Ctrl-C stops, nbflow resume goes on
    """
    items = f"{_count(total, 'item')}{f', {kept:,} kept' if kept else ''}, {workers} at a time (-j)"
    first = f"{for_terminal(name)}{GAP}{items}{GAP}"
    run, hint = f"run {run_id}{GAP}", "Ctrl-C stops, nbflow resume goes on"
    column = max(len(run), min(width(first), WIDTH - len(hint)))
    lines = [f"{first}kernel {for_terminal(kernel)}", f"{run:<{column}}{hint}"]
    if unfinished:
        lines.append(
            f"{for_terminal(unfinished)} is unfinished; nbflow resume {quoted(unfinished)} goes on with that one"
        )
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def quoted(target: str) -> str:
    """Give a target as it can be typed into a shell."""
    return shlex.quote(for_terminal(target))


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed, as people look it up."""

    label: str
    """``city=Cairo``."""
    cell: int | None
    """The failed cell, from 1."""
    message: str
    notebook: str | None
    """The executed notebook, as a path from the working directory."""
    index: int | None
    """The item's index from 0."""

    @classmethod
    def of(cls, label: str, error: Failure | None, notebook: str | None, index: int | None) -> Failed:
        """Give the failure of an outcome's error."""
        error = error or Failure("error", "failed")
        return cls(label, error.cell, error.message, notebook, index)

    @property
    def place(self) -> str:
        """The cell, in words."""
        return "" if self.cell is None else f"cell {self.cell}"


@dataclass(frozen=True, slots=True)
class Ending:
    """What there is to say when a run has ended."""

    status: RunStatus
    total: int
    """Items, all of them."""
    counts: Mapping[Status, int]
    """Ended items by status."""
    target: str
    """What to call in commands: the notebook's file, or the run's id."""
    reason: str = ""
    """Why it was interrupted: ``Ctrl-C``, ``SIGTERM``, ``cancelled``, ``disk full``."""
    kept: int = 0
    """Completed items that an earlier working had done."""
    ran: bool = True
    """Whether anything was started at all."""
    failures: Sequence[Failed] = ()
    """In item order."""
    rows: Sequence[Row] = ()
    """The results table, in item order; each row has ``status``."""
    columns: Sequence[str] = ()
    """Its columns, in order."""
    warnings: Sequence[str] = ()
    seconds: float = 0.0
    options: str = ""
    """What every command needs behind the target, such as ``--state-dir D``."""

    @property
    def failed(self) -> int:
        """How many items failed."""
        return self.counts.get("failed", 0)

    @property
    def done(self) -> int:
        """How many items completed."""
        return self.counts.get("completed", 0) + self.counts.get("skipped", 0)

    @property
    def missing(self) -> int:
        """How many items have no result and did not fail."""
        return max(0, self.total - self.done - self.failed)


def ending(end: Ending, columns: int = WIDTH) -> list[str]:
    """Give the lines below a run: its results, what failed and where, and what to type next.

    Parameters
    ----------
    end : Ending
    columns : int
        Columns of the terminal that may be used.
    """
    blocks = [
        _results(end, columns),
        [f"warning: {for_terminal(text)}" for text in end.warnings],
        [_verdict(end) + (":" if end.failures else ""), *failures(end.failures, columns)],
        _commands(end),
    ]
    lines: list[str] = []
    for block in filter(None, blocks):
        lines += ["", *block] if lines else block
    return lines


def _results(end: Ending, columns: int) -> list[str]:
    """Give the first rows and the failed ones, with the count of those between."""
    if not end.rows or not end.columns or not end.ran:
        return []
    good = [row for row in end.rows if row.get("status") == "completed"]
    bad = [row for row in end.rows if row.get("status") == "failed"]
    if len(end.rows) <= MOST_ROWS:
        first, last = list(end.rows), []
    else:
        last = bad[: MOST_ROWS // 2]
        first = good[: MOST_ROWS - len(last)]
    grid = Grid.of([*first, *last], end.columns, columns, ("status", "seconds"))
    hidden = len(end.rows) - len(first) - len(last)
    more = [f"{INDENT}... {hidden:,} more"] if hidden else []
    return [grid.head, *grid.rows[: len(first)], *more, *grid.rows[len(first) :], *grid.notes]


def _verdict(end: Ending) -> str:
    """Give the sentence that says how it went."""
    of = f"{end.total:,}"
    done = f"{end.done:,} {'is' if end.done == 1 else 'are'} done and kept"
    stopped = {"disk full": "the disk is full", "cancelled": "cancelled", "": "stopped"}
    not_run = f"{end.missing:,} {'has' if end.missing == 1 else 'have'} not run"
    failed = f"{end.failed:,} failed"
    match end.status:
        case "completed" if not end.ran:
            return f"nothing to do: {'it is' if end.total == 1 else f'all {of} are'} done"
        case "completed":
            tolerated = f", {failed}" if end.failed else ""
            kept = f", {end.kept:,} of them kept from before" if end.kept else ""
            return f"{end.done:,} of {of} completed{tolerated} in {duration(end.seconds)}{kept}"
        case "failed":
            parts = [f"{end.failed:,} of {of} failed", done, not_run if end.missing else ""]
            return ", ".join(filter(None, parts))
        case "running" | "created":
            parts = [f"{end.done:,} of {of} {'is' if end.done == 1 else 'are'} done", failed if end.failed else ""]
            return f"{end.status}: {', '.join([*filter(None, parts), f'{end.missing:,} to go'])}"
        case _:
            interrupted = stopped.get(end.reason, f"stopped by {for_terminal(end.reason)}")
            why = interrupted if end.status == "interrupted" else end.status
            parts = [
                f"{end.done:,} of {of} {'is' if end.total == 1 else 'are'} done and kept",
                failed if end.failed else "",
            ]
            parts.append(not_run if end.missing else "")
            return f"{why}: {', '.join(filter(None, parts))}"


def failures(failed: Sequence[Failed], columns: int = WIDTH) -> list[str]:
    """Give the failed items with place, message and notebook; equal ones together, at most ten."""
    groups: dict[tuple[int | None, str], list[Failed]] = {}
    for each in failed:
        groups.setdefault((each.cell, each.message), []).append(each)
    shown = list(groups.values())[:MOST_FAILURES]
    labels = min(30, max((width(for_terminal(group[0].label)) for group in shown), default=0))
    places = max((len(group[0].place) for group in shown), default=0)
    lines: list[str] = []
    for group in shown:
        first = group[0]
        place = f"{first.place:<{places}}{GAP}" if places else ""
        begin = f"{INDENT}{left(for_terminal(first.label), labels)}{GAP}{place}"
        lines += _wrapped(begin, for_terminal(first.message), columns)
        if first.notebook:
            lines.append(f"{INDENT}{INDENT}{for_terminal(first.notebook)}")
        if len(group) > 1:
            others = ", ".join(for_terminal(each.label) for each in group[1:7]) + (", ..." if len(group) > 7 else "")
            lines.append(fit(f"{INDENT}{INDENT}and {len(group) - 1:,} more the same: {others}", columns))
    more = sum(map(len, groups.values())) - sum(map(len, shown))
    return [*lines, f"{INDENT}... {more:,} more"] if more else lines


def _wrapped(begin: str, message: str, columns: int, most: int = 3) -> list[str]:
    """Give a message behind its beginning, in at most three lines."""
    indent = " " * min(width(begin), columns // 2)
    lines, line = [], begin
    for word in message.split(" "):
        glue = "" if line in (begin, indent) else " "
        if glue and width(line) + 1 + width(word) > columns:
            lines.append(line)
            line, glue = indent, ""
        line += glue + word
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    return [fit(each, columns).rstrip() for each in lines]


def _commands(end: Ending) -> list[str]:
    """Give what to type next, each with its reason."""
    target = " ".join(filter(None, [quoted(end.target), end.options]))
    todo: list[tuple[str, str]] = []
    again = f"nbflow resume {target}"
    match end.status:
        case "failed" if not end.missing:
            todo.append((f"run the {end.failed:,} again", again))
        case "failed":
            todo.append((f"run the {end.failed + end.missing:,} left", again))
        case "running":
            todo.append(("stop it", f"nbflow cancel {target}"))
        case "interrupted" | "paused":
            todo.append(("go on" if end.reason != "disk full" else "make space, go on", again))
        case _:
            pass
    if end.done or end.failed:
        todo.append(("the whole table", f"nbflow results {target} -o results.csv"))
    if end.failures:
        which = end.failures[0].index
        item = "" if which is None else f" {which}"
        todo.append(
            ("what it printed", f"nbflow logs {quoted(end.target)}{item}{f' {end.options}' if end.options else ''}")
        )
    reasons = max((len(reason) for reason, _ in todo), default=0)
    return [f"{INDENT}{reason:<{reasons}}   {command}" for reason, command in todo]


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run, in the list of ``nbflow status``."""

    run_id: str
    name: str
    """The notebook, or the workflow's file."""
    status: RunStatus
    done: int
    """Completed items."""
    total: int
    failed: int
    started: float
    """Seconds since 1970."""
    size: int
    """Bytes on disk."""


def status_list(rows: Sequence[RunLine], columns: int = WIDTH) -> list[str]:
    """Give the list of runs, one line each."""
    if not rows:
        return ["no runs here"]
    words = [
        {
            "run": row.run_id,
            "notebook": row.name,
            "status": row.status,
            "done": f"{row.done:,}/{row.total:,}",
            "failed": row.failed or None,
            "size": size(row.size),
            "started": _when(row.started),  # last, for it goes first when there is no room: the id tells it too
        }
        for row in rows
    ]
    return table(words, list(words[0]), columns, len(words), ("run", "status", "done"))


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


@dataclass(frozen=True, slots=True)
class Standing:
    """A run as it stands now, for ``nbflow status`` of one."""

    run_id: str
    name: str
    started: float
    """When its newest working began, in seconds since 1970."""
    now: float
    """Seconds since 1970."""
    end: Ending
    """How far it is; while it runs, what there is to say so far."""
    owner: str = ""
    """Who works at it: ``anna on host7, process 4711``."""
    folder: str = ""
    """The run's folder, as a path from the working directory."""
    active: Sequence[Active] = field(default=())
    """Tasks at work."""


def status_one(standing: Standing, columns: int = WIDTH) -> list[str]:
    """Give how one run stands: what is done, what is at work, what failed, and what to type next."""
    end = standing.end
    facts = [
        ("run", standing.run_id),
        ("started", f"{_when(standing.started)}{_took(end.seconds)}"),
        ("owner", standing.owner),
        ("folder", standing.folder),
    ]
    lines = [f"{for_terminal(standing.name)}{GAP}{end.status}{f' ({for_terminal(end.reason)})' if end.reason else ''}"]
    lines += [f"{INDENT}{name:<9}{for_terminal(text)}" for name, text in facts if text]
    if standing.active:
        work: list[Row] = [
            {
                "running": task.label,
                "cell": f"{task.cell}/{task.cells}" if task.cells else None,
                "heading": task.heading or task.line or None,
                "seconds": duration(standing.now - task.started),
            }
            for task in standing.active
        ]
        lines += ["", *table(work, ["running", "cell", "heading", "seconds"], columns, 20)]
    return [*lines, "", *ending(end, columns)]


def _took(seconds: float) -> str:
    return f", {duration(seconds)} of work" if seconds else ""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a resume would do with an item."""

    index: int | None
    label: str
    runs: bool
    """Whether it would run."""
    reason: str
    """``kept``, ``never ran``, ``failed``, ``parameter year changed``, ``cell 5 changed``."""


def explain(rows: Sequence[Planned], columns: int = WIDTH) -> list[str]:
    """Give each item with what would happen to it and why, and the sum."""
    runs = sum(row.runs for row in rows)
    words: list[Row] = [
        {"index": row.index, "item": row.label, "": "runs" if row.runs else "", "reason": row.reason} for row in rows
    ]
    kept = len(rows) - runs
    verdict = (
        f"{_count(runs, 'item')} would run, {kept:,} {'is' if kept == 1 else 'are'} kept" if runs else "nothing to do"
    )
    if not rows:
        return [verdict]
    return [*table(words, ["index", "item", "", "reason"], columns, len(rows), ("", "reason")), "", verdict]
