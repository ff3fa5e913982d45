"""What a notebook shows of a run, as HTML: one string per region while it works, one small page when it has ended.

Nothing here knows of widgets. What stays in a notebook reads without style sheets and scripts, for a notebook that
is not trusted has none: pictures are PNG files in the text, details fold by themselves.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from ..state import Active, Progress, step_path
from ..types import Status
from . import picture
from .amounts import count_of, duration
from .board import FAILED, LANES, RUNNING, Board, Ended, Failures, Line, Strip
from .escape import for_terminal
from .png import data_uri
from .table import cell_text, numbers

MOST_RUNNING = 16
"""Tasks at work that are shown."""
MOST_FAILURES = 8
"""Groups of failures that are shown."""
MOST_ROWS = 20
"""Rows of the results table that are shown."""
MOST_LINES = 30
"""Steps that are shown."""
MOST_LOG = 12
"""Lines of the log that are shown."""
APART = 80
"""Items up to which each has a place of its own in the strip."""
WIDE = 400
"""Places of a strip of more items."""
MOST_WARNINGS = 4
"""Warnings that are shown."""
WIDEST_NAME = 32
"""Characters of the column with the names of steps, at most."""
TRACEBACK = 6000
"""Characters at the end of a traceback that are shown."""

COLOURS = [(127, 127, 127, 90), (47, 128, 237, 255), (46, 158, 91, 255), (214, 69, 69, 255), (185, 122, 14, 255)]
"""Waiting, running, completed, failed, other: each stands out in light and in dark."""
CLEAR = (0, 0, 0, 0)

STYLE = """<style>
.nbf { --nbf-good: #1b7a43; --nbf-bad: #b3261e; --nbf-busy: #1a66c9; --nbf-warn: #8a5700;
  --nbf-ink: var(--jp-ui-font-color1, #212121); --nbf-soft: var(--jp-content-font-color2, #5f6368);
  --nbf-line: var(--jp-border-color2, #dcdcdc); --nbf-fill: var(--jp-layout-color2, #eee); }
[data-jp-theme-light="false"] .nbf { --nbf-good: #6dd58c; --nbf-bad: #ff9a92; --nbf-busy: #8ab8ff; --nbf-warn: #f2b84b;
  --nbf-soft: #b8bcc2; }
.nbf { color: var(--nbf-ink); max-width: 60rem; }
.nbf .widget-html-content, .nbf .jupyter-widget-html-content { line-height: 1.45; font-size: 13px; align-self: stretch;
  width: 100%; overflow: visible; }
.nbf .widget-html, .nbf .jupyter-widgets.widget-html { height: auto; min-height: 0; margin: 0; width: auto;
  overflow: visible; }
.nbf-head { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; padding-top: 2px; }
.nbf-name { font-weight: 600; font-size: 14px; overflow-wrap: anywhere; }
.nbf-soft { color: var(--nbf-soft); }
.nbf-good { color: var(--nbf-good); } .nbf-bad { color: var(--nbf-bad); }
.nbf-busy { color: var(--nbf-busy); } .nbf-warn { color: var(--nbf-warn); }
.nbf-clock { margin-left: auto; font-variant-numeric: tabular-nums; color: var(--nbf-soft); white-space: nowrap; }
.nbf-bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--nbf-fill);
  margin: 5px 0; }
.nbf-bar > i { display: block; height: 100%; }
.nbf-strip { display: block; height: 10px; image-rendering: pixelated; max-width: 100%; border-radius: 2px; }
.nbf-wide { width: 100%; } .nbf-alone { padding: 5px 0 3px; }
.nbf table.nbf-t { border-collapse: collapse; margin: 2px 0; width: 100%; table-layout: auto; font-size: 12.5px; }
.nbf .nbf-t td, .nbf .nbf-t th { padding: 1px 12px 1px 0; text-align: left; vertical-align: top; border: 0;
  color: inherit; background: none; font-variant-numeric: tabular-nums; }
.nbf .nbf-t th { color: var(--nbf-soft); font-weight: 500; border-bottom: 1px solid var(--nbf-line); }
.nbf .nbf-t td.nbf-r, .nbf .nbf-t th.nbf-r { text-align: right; white-space: nowrap; }
.nbf .nbf-t td.nbf-n { white-space: nowrap; }
.nbf .nbf-t td.nbf-l { width: 99%; max-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.nbf-h { font-weight: 600; margin: 7px 0 1px; }
.nbf-f { border-left: 3px solid var(--nbf-bad); padding: 1px 0 1px 9px; margin: 5px 0; overflow-wrap: anywhere; }
.nbf pre { margin: 4px 0; font-size: 12px; line-height: 1.35; white-space: pre-wrap; overflow-wrap: anywhere;
  color: inherit; background: none; max-height: 24em; overflow: auto; }
.nbf-judged { max-height: 22em; overflow: auto; border: 1px solid var(--nbf-line); padding: 2px 10px; margin: 4px 0; }
.nbf-judged table { border-collapse: collapse; margin: 4px 0; font-size: 12.5px; }
.nbf .nbf-judged td, .nbf .nbf-judged th { padding: 1px 10px; text-align: right; border: 0; color: inherit;
  background: none; }
.nbf a { color: var(--nbf-busy); }
.nbf-k { max-width: 20em; overflow: hidden; text-overflow: ellipsis; } .nbf-x { overflow-x: auto; }
.nbf-note { margin: 3px 0; overflow-wrap: anywhere; }
.nbf-gate { border-left: 3px solid var(--nbf-warn); padding: 1px 0 1px 9px; margin: 6px 0 2px; }
.nbf .jupyter-button, .nbf .widget-button, .nbf .widget-toggle-button { width: auto; min-width: 0; padding: 0 12px;
  height: 26px; line-height: 26px; margin: 2px 6px 2px 0; }
.nbf .jupyter-button:focus-visible { outline: 2px solid var(--nbf-busy); outline-offset: 1px; }
.nbf .widget-toggle-button.mod-active { box-shadow: none; color: inherit; background: var(--nbf-fill);
  border-bottom: 2px solid var(--nbf-busy); }
.nbf .nbf-fold.widget-toggle-button, .nbf .nbf-fold.widget-toggle-button.mod-active { width: 18px; height: 20px;
  line-height: 20px; padding: 0; margin: 1px 4px 0 0; background: none; border: 0; color: var(--nbf-soft); }
.nbf .nbf-step { align-items: flex-start; flex-flow: row nowrap !important; }
.nbf-step > .widget-html { flex: 1 1 auto; }
.nbf-flat { padding-left: 22px; }
.nbf-w, .nbf-s { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .nbf-s { min-width: 15ch; }
.nbf progress { vertical-align: middle; accent-color: var(--nbf-busy); margin: 0 4px 0 0; }
.nbf-row { flex-flow: row wrap; align-items: center; overflow: visible; }
</style>"""

WORDS: Mapping[str, tuple[str, str]] = {
    "pending": ("waiting", "soft"),
    "running": ("running", "busy"),
    "completed": ("completed", "good"),
    "failed": ("failed", "bad"),
    "aborted": ("aborted", "bad"),
    "held": ("paused", "warn"),
    "paused": ("waits for an answer", "warn"),
    "waiting": ("waits for an answer", "warn"),
    "skipped": ("skipped", "soft"),
    "cancelled": ("cancelled", "warn"),
    "interrupted": ("interrupted", "warn"),
    "created": ("waiting", "soft"),
}
"""What each status is called, and its colour."""


def text(value: str) -> str:
    """Give text of a user's as HTML."""
    return escape(for_terminal(value))


def shown_status(progress: Progress) -> str:
    """Give how a run stands, in a word; one that is held is paused, and one with nothing but questions waits."""
    if progress.status != "running":
        return progress.status
    return "held" if progress.held else "waiting" if progress.gates and not progress.active else "running"


def word(status: str) -> str:
    """Give a status in its colour."""
    called, colour = WORDS[status]
    return f'<span class="nbf-{colour}">{called}</span>'


# -- regions ----------------------------------------------------------------------------------------------------------


def head(board: Board, now: float) -> str:
    """Give name, status and clock."""
    progress = board.progress
    status = shown_status(progress)
    called, colour = WORDS[status]
    reason = f" ({text(progress.reason)})" if progress.reason else ""
    failed = progress.counts["failed"]
    counts = [f"{picture.done(progress):,}/{picture.total(progress):,}"]
    counts += [f"{progress.kept:,} kept"] if progress.kept else []
    counts += [f'<span class="nbf-bad">{failed:,} failed</span>'] if failed else []
    counts += [f"{len(progress.active):,} running"] if progress.active else []
    clock = duration((progress.finished or now) - progress.started) if progress.started else ""
    left = None if progress.finished is not None or progress.held else progress.remaining(now)
    eta = f", {duration(left)} left" if left is not None else ""
    return (
        f'<div class="nbf-head"><span class="nbf-name">{text(progress.name)}</span>'
        f'<span class="nbf-{colour} nbf-status">{called}{reason}</span>'
        f'<span class="nbf-counts">{", ".join(counts)}</span><span class="nbf-clock">{clock}{eta}</span></div>'
    )


def bar(progress: Progress) -> str:
    """Give the overall bar: completed, failed, running; the rest waits."""
    total = max(1, picture.total(progress))
    failed = progress.counts["failed"] + progress.counts["aborted"]
    parts = [(progress.counts["completed"], 2), (failed, 3), (len(progress.active), 1)]
    drawn = "".join(
        f'<i style="width:{100 * count / total:.3f}%;background:{_css(colour)}"></i>'
        for count, colour in parts
        if count
    )
    done = picture.done(progress)
    named = f'role="progressbar" aria-label="tasks done" aria-valuemin="0" aria-valuemax="{total}"'
    return f'<div class="nbf-bar" {named} aria-valuenow="{done}">{drawn}</div>'


def _css(colour: int) -> str:
    red, green, blue, _ = COLOURS[colour]
    return f"rgb({red},{green},{blue})"


def strip(items: Strip) -> str:
    """Give the items of a fan-out as a picture, with its numbers for who cannot see it."""
    total = len(items.codes)
    if not total:
        return ""
    codes = items.bins(WIDE)
    if total <= APART:  # a place of six pixels, and a gap of two
        row = b"".join(bytes([code] * 6 + [len(COLOURS)] * 2) for code in codes)
        size = f"width:{len(row)}px"
    else:
        row, size = codes, "width:100%"
    words = f"{items.count(2):,} completed, {items.count(FAILED):,} failed, {items.count(RUNNING):,} running"
    picture_of = data_uri([row], [*COLOURS, CLEAR])
    return f'<img class="nbf-strip" style="{size}" src="{picture_of}" alt="{total:,} items: {words}">'


def tree(board: Board, lines: Sequence[Line]) -> str:
    """Give rows of the tree of steps; of a map, whose numbers stand in its head, the strip alone."""
    if len(board.lines) == 1 and board.lines[0].items:
        return f'<div class="nbf-alone">{strip(board.strips[board.lines[0].path])}</div>'
    rows = []
    named = min(WIDEST_NAME, max((len(line.name) + 2 * line.depth for line in board.lines), default=0))
    for line in lines[:MOST_LINES]:
        name = f'<div class="nbf-w" style="width:{named + 1}ch"><span style="padding-left:{2 * line.depth}ch">'
        said = f"{name}{text(line.name)}</span></div>"
        rows.append(f'<tr><td class="nbf-n">{said}</td>{_state_cells(board, line)}</tr>')
    more = len(lines) - MOST_LINES
    rows += [f'<tr><td class="nbf-soft" colspan="3">… {more:,} more steps</td></tr>'] if more > 0 else []
    return f'<table class="nbf-t">{"".join(rows)}</table>' if rows else ""


def _state_cells(board: Board, line: Line) -> str:
    if line.items:
        items = board.strips[line.path]
        total = len(items.codes)
        counts = [f"{items.count(2):,}/{total:,}"] if total else []
        counts += [f'<span class="nbf-bad">{items.count(FAILED):,} failed</span>'] if items.count(FAILED) else []
        counts += [f"{items.count(RUNNING):,} running"] if items.count(RUNNING) else []
        words = ", ".join(counts) or word(board.states.get(line.path, "pending"))
        return _state_cell(words, strip(items))
    if line.many:
        tally: Mapping[Status, int] = board.tallies.get(line.path, {})
        words = ", ".join(f"{count:,} {word(status)}" for status, count in tally.items())
        return _state_cell(words or word(_standing(board, line)))
    return _state_cell(word(_standing(board, line)))


def _state_cell(words: str, drawn: str = "") -> str:
    return f'<td class="nbf-n"><div class="nbf-s">{words}</div></td><td class="nbf-l">{drawn}</td>'


def _standing(board: Board, line: Line) -> Status:
    """Give how a step stands; one that holds others runs while one of them does."""
    known = board.states.get(line.path)
    if known is not None:
        return known
    below = (f"{line.path}/", f"{line.path}:")
    active = (step_path(node) for node in list(board.progress.active))
    begun = any(at.startswith(below) for at in itertools.chain(board.states, board.tallies, active))
    return "running" if begun and board.progress.status == "running" else "pending"


def running(board: Board, now: float) -> str:
    """Give the tasks at work: what they are at, and the last that they said."""
    tasks = list(board.progress.active.values())
    if not tasks:
        return ""
    rows = "".join(_task(task, now) for task in tasks[:MOST_RUNNING])
    more = len(tasks) - MOST_RUNNING
    rest = f'<div class="nbf-soft">… {more:,} more</div>' if more > 0 else ""
    return f'<div class="nbf-h">running</div><table class="nbf-t">{rows}</table>{rest}'


def _task(task: Active, now: float) -> str:
    again = f"attempt {task.attempt}  " if task.attempt > 1 else ""
    place = picture.place(task).replace("running", "").replace("  ", " ")
    said = "".join(f"{_progress(one.done, one.total)}{text(one.text)} " for one in task.bars[-2:])
    if not said:
        said = f'<span class="nbf-soft">{text(task.line)}</span>' if task.line else ""
    words = f"{text(again + task.heading)}{'  ' if task.heading and said else ''}{said}"
    return (
        f'<tr><td class="nbf-n"><div class="nbf-k">{text(task.label)}</div></td>'
        f'<td class="nbf-n nbf-soft">{text(place)}</td>'
        f'<td class="nbf-l">{words}</td><td class="nbf-r">{duration(now - task.started)}</td></tr>'
    )


def _progress(done: float, total: float) -> str:
    if total <= 0:
        return ""
    return f'<progress value="{min(done, total):g}" max="{total:g}" style="width:6em;height:8px"></progress> '


def failures(board: Board, links: Mapping[str, str], *, folded: bool) -> str:
    """Give what failed, equal errors together.

    Parameters
    ----------
    links : mapping of str to str
        Addresses of executed notebooks, by their path in the run folder.
    folded : bool
        Whether this is the page that stays, in which tracebacks can be folded out; the other is drawn again and again.
    """
    groups = list(board.failures.values())
    if not groups:
        return warnings(board)
    parts = [_failure(group, links, folded=folded) for group in groups[:MOST_FAILURES]]
    more = len(groups) - MOST_FAILURES + board.other_failures
    parts += [f'<div class="nbf-soft">… {count_of(more, "other error")}</div>'] if more > 0 else []
    return f'<div class="nbf-h nbf-bad">failed</div>{"".join(parts)}{warnings(board)}'


def warnings(board: Board) -> str:
    """Give what a person should know although nothing failed, the newest first."""
    told = list(board.progress.warnings)
    lines = [f'<div class="nbf-warn nbf-note">{text(one.message)}</div>' for one in reversed(told[-MOST_WARNINGS:])]
    more = len(told) - MOST_WARNINGS
    return "".join([*lines, *([f'<div class="nbf-soft">… {more:,} more warnings</div>'] if more > 0 else [])])


def _failure(group: Failures, links: Mapping[str, str], *, folded: bool) -> str:
    outcome = group.first.outcome
    assert outcome.error is not None
    error = outcome.error
    place = f"{error.place}  " if error.place else ""
    others = group.count - len(group.labels)
    named = ", ".join(text(label) for label in group.labels) + (f", … {others:,} more" if others else "")
    count = f"{group.count:,} times: " if group.count > 1 else ""
    link = ""
    if outcome.notebook is not None and outcome.notebook in links:
        address = escape(links[outcome.notebook], quote=True)
        tab = "" if folded else ' target="_blank" rel="noopener"'  # a widget's link would take the page's place
        link = f' <a href="{address}"{tab}>open the notebook</a>'
    trace = ""
    if folded and error.traceback:
        cut = error.traceback[-TRACEBACK:]
        trace = f"<details><summary>traceback</summary><pre>{escape(cut)}</pre></details>"
    return (
        f'<div class="nbf-f"><b>{text(place + error.message)}</b><br>'
        f'<span class="nbf-soft">{count}{named}</span>{link}{trace}</div>'
    )


def results(board: Board, by: str = "", *, falling: bool = False, most: int = MOST_ROWS) -> str:
    """Give the table of results, by a column."""
    if not board.ended:
        return '<div class="nbf-soft">no task has ended yet</div>'
    rows = board.rows(by, most=most, falling=falling)
    names = board.columns
    numeric = {name for name in names if all(_is_number(row.values.get(name)) for row in rows)}
    heads = "".join(f"<th{_right(name in numeric)}>{text(name)}</th>" for name in names)
    columns = {name: _column(rows, name, numeric=name in numeric) for name in names}
    lines = "".join(_result(row, [columns[name][at] for name in names], names, numeric) for at, row in enumerate(rows))
    hidden = len(board.ended) - len(rows)
    more = f'<div class="nbf-soft">… {hidden:,} more: run.to_frame()</div>' if hidden else ""
    first, last = "<th>task</th>", '<th>status</th><th class="nbf-r">time</th>'
    return f'<div class="nbf-x"><table class="nbf-t"><tr>{first}{heads}{last}</tr>{lines}</table></div>{more}'


def _result(row: Ended, texts: Sequence[str], names: Sequence[str], numeric: set[str]) -> str:
    pairs = zip(names, texts, strict=True)
    cells = "".join(f"<td{_right(name in numeric)}>{escape(shown)}</td>" for name, shown in pairs)
    return (
        f'<tr><td class="nbf-n"><div class="nbf-k">{text(row.label)}</div></td>{cells}'
        f'<td class="nbf-n">{word(row.status)}</td><td class="nbf-r">{duration(row.seconds)}</td></tr>'
    )


def _column(rows: Sequence[Ended], name: str, *, numeric: bool) -> list[str]:
    """Give the texts of a column: numbers with the same count of decimals."""
    if numeric:
        texts = numbers([row.values.get(name) for row in rows])
        return [text if row.values.get(name) is not None else "" for row, text in zip(rows, texts, strict=True)]
    found = [cell_text(row.values[name]) if name in row.values else "" for row in rows]
    return [text if len(text) <= 40 else text[:39] + "…" for text in found]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _right(numeric: bool) -> str:  # noqa: FBT001 - a fact, not an option
    return ' class="nbf-r"' if numeric else ""


def timeline(board: Board, now: float) -> str:
    """Give what each worker did when, as a picture."""
    progress = board.progress
    until = progress.finished or now
    lanes = board.timeline.lanes(until)
    if not lanes:
        return '<div class="nbf-soft">nothing has begun yet</div>'
    gap = bytes(len(lanes[0]))
    used = max(1, round((until - progress.started) / board.timeline.seconds * len(lanes[0])))
    rows = [bytes(row[:used]) for lane in lanes for row in (lane, lane, lane, gap)]
    address = data_uri(rows, [CLEAR, *COLOURS])
    height = 4 * len(rows)
    more = progress.max_workers - LANES
    rest = f'<div class="nbf-soft">{LANES} of {progress.max_workers:,} workers</div>' if more > 0 else ""
    axis = (
        f'<div class="nbf-soft" style="display:flex;justify-content:space-between"><span>0:00</span>'
        f"<span>{duration(until - progress.started)}</span></div>"
    )
    alt = f"what {count_of(len(lanes), 'worker')} did over {duration(until - progress.started)}"
    return f'<img class="nbf-strip nbf-wide" style="height:{height}px" src="{address}" alt="{alt}">{axis}{rest}'


def log(board: Board) -> str:
    """Give the newest lines of the log."""
    lines = list(board.log)[-MOST_LOG:]
    if not lines:
        return '<div class="nbf-soft">nothing has happened since this view began</div>'
    rows = "".join(_logged(*line) for line in reversed(lines))
    return f'<table class="nbf-t">{rows}</table>'


def _logged(at: float, what: str, words: str) -> str:
    colour = {"failed": "bad", "warning": "warn", "completed": "good", "asks": "warn"}.get(what, "soft")
    when = time.strftime("%H:%M:%S", time.localtime(at)) if at else ""
    return (
        f'<tr><td class="nbf-n nbf-soft">{when}</td><td class="nbf-n nbf-{colour}">{text(what)}</td>'
        f'<td class="nbf-l">{text(words)}</td></tr>'
    )


def questions(board: Board, target: str) -> str:
    """Give the open gates where there are no buttons, each with what answers it from Python."""
    return "".join(
        f'<div class="nbf-gate"><b>{text(gate.label)}</b>  {text(gate.message)}'
        f"<pre>{escape(picture.answered(gate, target))}</pre></div>"
        for gate in list(board.progress.gates.values())[:MOST_FAILURES]
    )


# -- what stays -------------------------------------------------------------------------------------------------------


def summary(board: Board, target: str, links: Mapping[str, str], now: float) -> str:
    """Give the page that stays in the notebook: small, and legible without styles."""
    progress = board.progress
    status, _ = WORDS[shown_status(progress)]
    reason = f" ({text(progress.reason)})" if progress.reason else ""
    parts = [f"<div><b>{text(progress.name)}</b> {status}{reason}: {escape(sentence(progress, now))}</div>"]
    alone = len(board.lines) == 1
    for line in filter(lambda line: line.items, board.lines):
        items = board.strips[line.path]
        named = "" if alone else f"{text(line.name)} "
        parts += [f"<div>{named}{_still(items)}</div>"] if items.codes else []
    if not alone:
        parts.append(f"<details><summary>steps</summary>{tree(board, board.lines)}</details>")
    parts += [_failure(group, links, folded=True) for group in list(board.failures.values())[:MOST_FAILURES]]
    more = len(board.failures) - MOST_FAILURES + board.other_failures
    parts += [f"<div>… {count_of(more, 'other error')}</div>"] if more > 0 else []
    parts.append(warnings(board))
    parts.append(questions(board, target))
    if board.ended:
        table = results(board)
        parts.append(f"<details><summary>results</summary>{table}</details>")
    parts += [f"<pre>{escape(hint)}</pre>" for hint in hints(progress, target)]
    return f'<div class="nbf-still">{"".join(parts)}</div>'


def _still(items: Strip) -> str:
    codes = items.bins(WIDE)
    row = b"".join(bytes([code] * 8) for code in codes) if len(codes) <= APART else codes
    return f'<img src="{data_uri([row] * 8, COLOURS)}" alt="{_alt(items)}">'


def _alt(items: Strip) -> str:
    counts = Counter(items.codes)
    return f"{len(items.codes):,} items, {counts[2]:,} completed, {counts[FAILED]:,} failed"


def sentence(progress: Progress, now: float) -> str:
    """Give how far a run came, in one line."""
    return picture.words(progress, now).replace("   ", ", ")


def attached(target: str) -> str:
    """Give what shows a run again."""
    return f"nbflow.attach({picture.quoted(target)})"


def hints(progress: Progress, target: str) -> list[str]:
    """Give what goes on with the run, from Python."""
    match progress.status:
        case "failed" | "interrupted":
            return [f"nbflow.resume({picture.quoted(target)})"]
        case "running" | "created":
            return [attached(target)]
        case _:
            return []


def plain(board: Board, target: str, now: float) -> str:
    """Give the same as text, for where there is no HTML."""
    progress = board.progress
    if progress.status == "created":
        return f"{attached(target)} shows this run"
    lines = [f"{for_terminal(progress.name)}  {WORDS[shown_status(progress)][0]}  {sentence(progress, now)}"]
    for group in list(board.failures.values())[:MOST_FAILURES]:
        error = group.first.outcome.error
        assert error is not None
        place = f"{error.place}  " if error.place else ""
        count = f"  ({group.count:,} times)" if group.count > 1 else ""
        lines.append(f"  failed  {for_terminal(group.labels[0])}  {place}{for_terminal(error.message)}{count}")
    lines += picture.questions(progress, target, MOST_FAILURES)
    lines += [f"  {hint}" for hint in hints(progress, target)]
    return "\n".join(lines)
