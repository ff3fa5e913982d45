"""Lines of a progress picture, computed from progress alone, for bars and logs alike."""

from __future__ import annotations

import json

from ..events import AttemptFailed, GateOpened, NodeFinished, Warned
from ..model import node_text
from ..outcome import Outcome
from ..state import Active, Progress
from .amounts import duration
from .escape import called, fit, for_terminal, left, width

NARROWEST_BAR = 10
"""Columns of the overall bar below which words go."""
LEGIBLE = 16
"""Columns of an error message below which other words of its line go."""
WIDEST = 120
"""Columns that a picture takes at most; further apart, its parts do not belong together."""


def done(progress: Progress) -> int:
    """Give how many tasks are through: cancelled ones are not, nor those that wait for one that failed."""
    counts = progress.counts
    return counts["completed"] + counts["failed"] + counts["aborted"]


def total(progress: Progress) -> int:
    """Give how many tasks there are, as far as that is known."""
    return max(progress.total, progress.ended + len(progress.active))


def percent(progress: Progress) -> str:
    """Give ``' 42%'``; rounded down, for 100 % means that nothing is left."""
    return f"{100 * done(progress) // max(1, total(progress)):3}%"


def words(progress: Progress, now: float, room: int | None = None) -> str:
    """Give ``17/40, 1 failed, 4 running   2:10, 3:05 left``, with less of it where room is short.

    Parameters
    ----------
    now : float
        Seconds since 1970.
    room : int, optional
        Columns; when too few, the estimate goes first, then what runs, what was kept and the clock.
    """
    failed = progress.counts["failed"]
    count = f"{done(progress):,}/{total(progress):,}"
    kept = f", {progress.kept:,} kept" if progress.kept else ""
    bad = f", {failed:,} failed" if failed else ""
    state = f", {len(progress.active):,} running" if progress.active else ""
    if progress.finished is not None and progress.status not in ("completed", "failed"):
        state = f", {progress.status}"
    begun = progress.started > 0
    clock = f"   {duration((progress.finished or now) - progress.started)}" if begun else ""
    remaining = None if progress.finished is not None else progress.remaining(now)
    estimate = "" if remaining is None or not clock else f", {duration(remaining)} left"
    candidates = (
        f"{count}{kept}{bad}{state}{clock}{estimate}",
        f"{count}{kept}{bad}{state}{clock}",
        f"{count}{kept}{bad}{clock}",
        f"{count}{bad}{clock}",
        f"{count}{bad}",
    )
    return next((each for each in candidates if room is None or len(each) <= room), count)


def label_columns(widest: int, columns: int) -> int:
    """Give how wide the column of labels is, so that rows are aligned: at most a third of the screen."""
    return min(widest, max(8, columns // 3))


def place(task: Active) -> str:
    """Give ``cell  6/11``, or that it is only beginning."""
    if not task.cells:
        return "running"
    if not task.cell:
        return "starting"
    digits = len(str(task.cells))
    return f"cell {task.cell:>{digits}}/{task.cells}"


def doing(task: Active) -> str:
    """Give what a task is at: its cell's heading, else the last line that it printed."""
    again = f"attempt {task.attempt}  " if task.attempt > 1 else ""
    return again + for_terminal(task.heading or task.line)


def row(task: Active, now: float, columns: int, labels: int) -> str:
    """Give the line of a task at work, in exactly so many columns."""
    took = duration(now - task.started)
    name = called(for_terminal(task.label), labels)
    if columns < width(f"  {name}  {place(task)}  {took}"):
        return spread(f"  {for_terminal(task.label)}", took, columns)
    return spread(f"  {name}  {left(place(task), 10)}  {doing(task)}", took, columns)


def spread(begin: str, end: str, columns: int) -> str:
    """Give both ends of a line with spaces between, in exactly so many columns."""
    room = columns - width(end) - 2
    return f"{left(begin, room)}  {end}" if room > 0 else left(begin, columns)


def ended(word: str, label: str, outcome: Outcome, columns: int, labels: int) -> str:
    """Give the line of a task that ended; columns or labels 0: as wide as it is."""
    error = outcome.error
    cell = "" if error is None else error.place
    message = "" if error is None else for_terminal(error.message)
    name = for_terminal(label)
    begin = f"  {word}  {called(name, labels) if labels else name}"
    where = f"{cell:<7}  " if cell else ""
    took = duration(outcome.seconds)
    if not columns:
        return f"{f'{begin}  {where}{message}'.rstrip()}  {took}"
    if error is not None and columns - width(f"{begin}  {where}  {took}") < min(width(message), LEGIBLE):
        short = f"{begin}  {message}"  # what went wrong is worth more than where and how long
        return left(short if columns - width(f"{begin}  ") > LEGIBLE // 2 else f"  {word}  {name}  {message}", columns)
    return spread(f"{begin}  {where}{message}", took, columns)


def quoted(text: str) -> str:
    """Give text as it is typed in Python."""
    return json.dumps(for_terminal(text), ensure_ascii=False)


def answered(gate: GateOpened, target: str) -> str:
    """Give what answers a gate from Python: its first option, and which others there are.

    Parameters
    ----------
    target : str
        What the run is called there.
    """
    first, *others = map(quoted, gate.options)
    rest = f"  # or {' or '.join(others)}" if others else ""
    return f"nbflow.answer({quoted(target)}, {quoted(node_text(gate.node))}, {first}){rest}"


def questions(progress: Progress, target: str, most: int) -> list[str]:
    """Give the open gates, each with what answers it from Python.

    Parameters
    ----------
    target : str
        What the run is called there.
    most : int
        Gates at most; how many more there are is said.
    """
    lines: list[str] = []
    for gate in list(progress.gates.values())[:most]:
        lines.append(f"  {for_terminal(gate.label)}  {for_terminal(gate.message)}")
        lines += [f"    see {for_terminal(gate.show)}"] if gate.show is not None else []
        lines.append(f"    {answered(gate, target)}")
    more = len(progress.gates) - most
    return [*lines, f"  ... {more:,} more"] if more > 0 else lines


def failure(event: NodeFinished, columns: int, labels: int) -> str:
    """Give the line of a task that failed."""
    return ended("failed", event.label, event.outcome, columns, labels)


def again(event: AttemptFailed, label: str, columns: int, labels: int) -> str:
    """Give the line of an attempt that failed and is followed by another."""
    return ended(f"attempt {event.attempt} failed", label, event.outcome, columns, labels)


def warning(event: Warned, columns: int) -> str:
    """Give the line of a warning; never cut where there is no screen."""
    line = f"  warning  {for_terminal(event.message)}"
    return fit(line, columns) if columns else line
