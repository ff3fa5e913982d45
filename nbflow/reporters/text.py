"""What the command line prints around a run: its head, its end, and lists of runs; lines, not printed here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..state import Active
from ..types import RunStatus
from .amounts import count_of, duration, size
from .ending import WIDTH, Ending, Failed, Waiting, ending, failures, quoted
from .escape import for_terminal, left, width, wrapped
from .table import GAP, INDENT, Grid, Row, table

__all__ = [
    "Earlier",
    "Ending",
    "Failed",
    "Planned",
    "RunLine",
    "Standing",
    "Waiting",
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


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run of the same notebook or workflow that has not come to its end."""

    run_id: str
    worker: str = ""
    """Who works at it (``process 4711``); empty: nobody, and it could be resumed."""

    @property
    def line(self) -> str:
        """How it stands, and what to type about it."""
        name, typed = for_terminal(self.run_id), quoted(self.run_id)
        if self.worker:
            return f"{name} is at work in {for_terminal(self.worker)}: nbflow status {typed}"
        return f"{name} is unfinished: nbflow resume {typed}"


def head(
    name: str,
    total: int,
    workers: int,
    kernel: str,
    run_id: str,
    kept: int = 0,
    earlier: Earlier | None = None,
    columns: int | None = None,
    what: str = "item",
) -> list[str]:
    """Give the lines above a run.

    Parameters
    ----------
    kept : int
        Items that are done already.
    earlier : Earlier, optional
        An earlier run that is at work, or could be resumed.
    columns : int, optional
        Columns of the terminal; where two facts do not fit side by side, they stand one below the other.
    what : str
        What is counted.

    Examples
    --------
    >>> print(*head("forecast.ipynb", 40, 4, "python3", "20261123-0301-7f3a"), sep="\\n")
    forecast.ipynb  40 items, 4 at a time (-j)  kernel python3
    run 20261123-0301-7f3a                      Ctrl-C stops, nbflow resume goes on
    """
    known = f", {kept:,} {'tasks ' if what == 'step' else ''}kept" if kept else ""
    items = f"{count_of(total, what)}{known}, {workers} at a time (-j)"
    first = f"{for_terminal(name)}{GAP}{items}{GAP}"
    run, hint = f"run {run_id}{GAP}", "Ctrl-C stops, nbflow resume goes on"
    column = max(len(run), min(width(first), WIDTH - len(hint)))
    under = f"kernel {for_terminal(kernel)}" if kernel else ""
    lines = [f"{first}{under}".rstrip(), f"{run:<{column}}{hint}"]
    if columns is not None and max(map(width, lines)) > columns:
        lines = [line for line in (for_terminal(name), items, under, run.rstrip(), hint) if line]
    return [*lines, earlier.line] if earlier is not None else lines


ROOMY = 96
"""Columns from which the list of runs says when each began; the run's id tells it too."""


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
            "file": row.name,
            "status": row.status,
            "done": f"{row.done:,}/{row.total:,}",
            "failed": row.failed or None,
            "size": size(row.size),
            "started": _when(row.started),
        }
        for row in rows
    ]
    names = list(words[0])
    shown = names if columns >= ROOMY else [name for name in names if name != "started"]
    left_out = [name for name in names if name not in shown]
    return table(words, shown, columns, len(words), ("run", "status", "done"), left_out)


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


def explain(rows: Sequence[Planned], columns: int = WIDTH, what: str = "item") -> list[str]:
    """Give each item, or what else is counted, with what would happen to it and why, and the sum."""
    runs = sum(row.runs for row in rows)
    words: list[Row] = [{"index": row.index, what: row.label, "": "runs" if row.runs else ""} for row in rows]
    names = ["index", what, ""] if any(row.index is not None for row in rows) else [what, ""]
    kept = len(rows) - runs
    verdict = (
        f"{count_of(runs, what)} would run, {kept:,} {'is' if kept == 1 else 'are'} kept" if runs else "nothing to do"
    )
    if not rows:
        return [verdict]
    grid = Grid.of(words, names, columns, ("index", ""))
    reasons = ["reason", *(for_terminal(row.reason) for row in rows)]
    begin = max(map(width, [grid.head, *grid.rows]))
    lines = zip([grid.head, *grid.rows], reasons, strict=True)  # a reason is told whole: it says what will be repeated
    told = [line for row, reason in lines for line in wrapped(left(row, begin) + GAP, reason, columns)]
    return [*told, *grid.notes, "", verdict]
