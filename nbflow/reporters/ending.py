"""What is printed when a run has ended: its results, what failed and where, and what to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..outcome import Failure
from ..types import RunStatus, Status
from .amounts import duration
from .escape import called, fit, for_terminal, width, wrapped
from .table import GAP, INDENT, Grid, Row

WIDTH = 79
MOST_FAILURES = 10
MOST_ROWS = 12
"""Rows of the table at the end; the whole table has a command."""


def quoted(target: str) -> str:
    """Give a target as it can be typed into a shell."""
    return shlex.quote(for_terminal(target))


ENDED = "its process ended"
"""Why a run was interrupted whose process says nothing any more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed, as people look it up."""

    label: str
    """``city=Cairo``."""
    cell: int | None
    """The failed cell, from 1, where the message does not name it."""
    message: str
    notebook: str | None
    """The executed notebook, as a path from the working directory."""
    index: int | str | None
    """The item's index from 0, or the node's id; none where nothing was printed."""

    @classmethod
    def of(cls, label: str, error: Failure | None, notebook: str | None, index: int | str | None) -> Failed:
        """Give the failure of an outcome's error."""
        error = error or Failure("error", "failed")
        return cls(label, error.cell if error.place else None, error.message, notebook, index)

    @property
    def place(self) -> str:
        """The cell, in words."""
        return "" if self.cell is None else f"cell {self.cell}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gate that waits for a person."""

    node: str
    """Its id, as it is typed."""
    message: str
    options: Sequence[str]
    show: str | None = None
    """A file to be judged, as a path from the working directory."""


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
    cut_off: int = 0
    """Items that had begun and have no end; cancelled ones need not be among them."""
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
    waits: Sequence[Waiting] = ()
    """Gates that wait for a person."""
    what: str = "item"
    """What is counted."""
    seconds: float = 0.0
    limit: str = ""
    """The option by which failures left the rest out: ``--fail-fast``."""
    notebook: str = ""
    """The executed notebook of a run of its steps, as a path from the working directory."""
    options: str = ""
    """What every command needs behind the target, such as ``--state-dir D``."""

    @property
    def failed(self) -> int:
        """How many items failed."""
        return self.counts.get("failed", 0)

    @property
    def done(self) -> int:
        """How many items completed."""
        return self.counts.get("completed", 0)

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
        open_gates(end.waits, end.target, end.options, columns),
        _commands(end, columns),
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
    stopped = {"disk full": "the disk is full", "": "stopped"} | {same: same for same in ("cancelled", ENDED)}
    begun = end.cut_off or end.counts.get("cancelled", 0)
    not_run = f"{end.missing:,} {'has' if end.missing == 1 else 'have'} not {'finished' if begun else 'run'}"
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


def open_gates(waits: Sequence[Waiting], target: str, options: str = "", columns: int = WIDTH) -> list[str]:
    """Give the open questions, each with what answers it."""
    target = " ".join(filter(None, [quoted(target), options]))
    lines = []
    for gate in waits[:MOST_FAILURES]:
        lines += wrapped(f"{INDENT}{for_terminal(gate.node)}{GAP}", for_terminal(gate.message), columns, 3)
        if gate.show is not None:
            lines.append(f"{INDENT}{INDENT}see {for_terminal(gate.show)}")
        answers = "|".join(for_terminal(option) for option in gate.options)
        lines.append(f"{INDENT}{INDENT}nbflow answer {target} {quoted(gate.node)} {answers}")
    more = len(waits) - MOST_FAILURES
    return [*lines, f"{INDENT}... {more:,} more"] if more > 0 else lines


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
        begin = f"{INDENT}{called(for_terminal(first.label), labels)}{GAP}{place}"
        lines += wrapped(begin, for_terminal(first.message), columns, 3)
        if first.notebook:
            lines.append(f"{INDENT}{INDENT}{for_terminal(first.notebook)}")
        if len(group) > 1:
            others = ", ".join(for_terminal(each.label) for each in group[1:7]) + (", ..." if len(group) > 7 else "")
            lines.append(fit(f"{INDENT}{INDENT}and {len(group) - 1:,} more the same: {others}", columns))
    more = sum(map(len, groups.values())) - sum(map(len, shown))
    return [*lines, f"{INDENT}... {more:,} more"] if more else lines


def _commands(end: Ending, columns: int) -> list[str]:
    """Give what to type next, each with its reason before it, or above it where they do not fit side by side."""
    target = " ".join(filter(None, [quoted(end.target), end.options]))
    todo: list[tuple[str, str]] = []
    again = f"nbflow resume {target}"
    match end.status:
        case "failed" if not end.missing:
            todo.append(("run it again" if end.failed == 1 else f"run the {end.failed:,} again", again))
        case "failed":
            todo.append((f"run the {end.failed + end.missing:,} left", again))
            if end.limit:  # a resume keeps it, and may stop at the same failure for ever
                todo.append((f"beyond {end.limit}", f"{again} --no-fail-fast"))
        case "running":
            todo.append(("stop it", f"nbflow cancel {target}"))
        case "interrupted":
            todo.append(("go on" if end.reason != "disk full" else "make space, go on", again))
        case _:
            pass
    if end.notebook:
        todo.append(("the notebook", end.notebook))
    if end.done or end.failed:
        todo.append(("the whole table", f"nbflow results {target} -o results.csv"))
    which = next((failed.index for failed in end.failures if failed.index is not None), None)
    if which is not None:
        words = ["nbflow logs", quoted(end.target), str(which), end.options]
        todo.append(("what it printed", " ".join(filter(None, words))))
    if end.notebook and end.failed and not end.options:
        todo.append(("its names", f"nbflow.restore({json.dumps(end.target, ensure_ascii=False)})  # in Jupyter"))
    reasons = max((len(reason) for reason, _ in todo), default=0)
    lines = [f"{INDENT}{reason:<{reasons}}   {command}" for reason, command in todo]
    if all(width(line) <= columns for line in lines):
        return lines
    return [line for reason, command in todo for line in (f"{INDENT}{reason}", f"{INDENT}{INDENT}{command}")]
