"""Progress bars in a notebook: tqdm's widgets, made in the cell's own thread, later only updated."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets
from IPython.display import display
from tqdm.auto import tqdm

from ..events import Event
from ..model import NodeId
from ..state import Progress
from . import picture
from .amounts import duration
from .bars import PLAIN_TQDM
from .escape import for_terminal

MOST_ROWS = 16
"""Rows at most; more cost the browser, and nobody reads them."""
MOST_FAILURES = 8
LABEL = "15em"
BAR = "18em"
COLORS = {
    "completed": "var(--jp-success-color1, #388e3c)",
    "failed": "var(--jp-error-color1, #d32f2f)",
    "interrupted": "var(--jp-warn-color1, #f57c00)",
}
"""Of the bar that stays, by status; Jupyter's own where it is Jupyter that shows it."""


class _Bar(tqdm):  # type: ignore[type-arg]  # the class is chosen where it runs
    """A tqdm whose words are ours, without the monitor's thread."""

    monitor_interval = 0
    before = ""
    behind = ""

    @property
    def format_dict(self) -> Any:
        return {**super().format_dict, "before": self.before, "behind": self.behind}


class WidgetBars:
    """Draws progress in the cell that calls :meth:`begin`.

    Parameters
    ----------
    workers : int
        Rows at most.
    target : str, optional
        What the run is called where its gates are answered; by default its name.
    """

    def __init__(self, workers: int, target: str = "") -> None:
        self._target = target
        self._progress = Progress()
        self._workers = min(workers, MOST_ROWS)
        self._places: list[NodeId | None] = [None] * self._workers
        self._rows: list[Any] = []
        self._overall: Any = None
        self._box: Any = None
        self._notes: Any = None
        self._shown: Any = None
        self._now = 0.0

    def begin(self) -> None:
        """Show the bars; in the cell's own thread, for other threads' displays land in other cells."""
        self._overall = _bar()
        self._rows = [_bar() for _ in range(self._workers)]
        for row in self._rows:
            row.container.layout.display = "none"
        self._notes = ipywidgets.HTML()
        self._box = ipywidgets.VBox([self._overall.container, *(r.container for r in self._rows), self._notes])
        self._shown = display(self._bundle(), raw=True, display_id=True)

    def __call__(self, event: Event) -> None:
        """Take an event in; drawn at the next :meth:`draw`."""
        self._progress.apply(event)

    def draw(self, now: float) -> None:
        """Show the newest state."""
        if self._overall is None:
            return
        self._now = now
        progress, bar = self._progress, self._overall
        total = max(1, picture.total(progress))
        style = "danger" if progress.counts["failed"] else ""
        _set(bar, picture.done(progress), total, picture.percent(progress), picture.words(progress, now), style)
        self._place()
        for row, node in zip(self._rows, self._places, strict=True):
            row.container.layout.display = "none" if node is None else "flex"
            if node is not None:
                task = progress.active[node]
                words = "  ".join(
                    filter(None, [picture.place(task), picture.doing(task), duration(now - task.started)])
                )
                _set(row, max(0, task.cell - 1), max(1, task.cells), for_terminal(task.label), words)
        notes = self._below()
        if notes != self._notes.value:  # a new value scrolls and flickers
            self._notes.value = notes

    def end(self) -> None:
        """Put the last picture in place of the widgets: it stays when the kernel that knows them is gone."""
        if self._overall is None:
            return
        self._progress.active.clear()
        self.draw(self._now)
        self._shown.update({"text/html": self._html(), "text/plain": self._text()}, raw=True)
        for bar in [self._overall, *self._rows]:
            bar.n = bar.total  # else tqdm takes it for an error, and leaves it there
            bar.leave = False
            bar.close()
        self._notes.close()
        self._box.close()
        self._overall = None

    def _place(self) -> None:
        """Give each task at work a row that it keeps."""
        active = self._progress.active
        places = [node if node in active else None for node in self._places]
        new = iter([node for node in active if node not in places])
        self._places = [next(new, None) if node is None else node for node in places]

    def _questions(self) -> list[str]:
        return picture.questions(self._progress, self._target or self._progress.name, MOST_FAILURES)

    def _below(self) -> str:
        """Give what stands below the bars: failures, warnings, and what a person is asked."""
        progress = self._progress
        lines = [picture.failure(event, 0, 0) for event in progress.failures[-MOST_FAILURES:]]
        lines += [picture.warning(event, 0) for event in progress.warnings[-MOST_FAILURES:]]
        lines += self._questions()
        return f'<pre style="margin: 4px 0 0">{escape(chr(10).join(lines))}</pre>' if lines else ""

    def _bundle(self) -> dict[str, Any]:
        """Give the widget, with text for where there are none: a page made of the notebook while it runs."""
        return {**self._box._repr_mimebundle_(), "text/plain": self._text()}

    def _words(self) -> str:
        return f"{picture.percent(self._progress).strip()} {picture.words(self._progress, self._now)}"

    def _text(self) -> str:
        failures = [picture.failure(event, 0, 0) for event in self._progress.failures[:MOST_FAILURES]]
        return "\n".join([self._words(), *failures, *self._questions()])

    def _html(self) -> str:
        """Give the last picture, which needs neither styles nor scripts to be read."""
        progress = self._progress
        color = COLORS.get(progress.status, COLORS["interrupted"])
        count, total = picture.done(progress), max(1, picture.total(progress))
        bar = f'<progress value="{count}" max="{total}" style="width: {BAR}; accent-color: {color}"></progress>'
        return f'<div style="font-size: 13px">{bar} {escape(self._words())}</div>{self._below()}'


def _bar() -> Any:
    bar: Any = _Bar(total=1, display=False, bar_format="{before}<bar/>{behind}", leave=True, **PLAIN_TQDM)
    label, body, words = bar.container.children
    label.layout.width, label.layout.flex, body.layout.width = LABEL, "0 0 auto", BAR
    words.layout.flex = "1 1 auto"
    return bar


def _set(bar: Any, count: int, total: int, before: str, behind: str, style: str = "") -> None:
    """Give a bar its numbers and words; traits that stay the same send nothing."""
    body = bar.container.children[1]
    bar.n, bar.total, bar.before, bar.behind = count, total, before, behind
    body.max = total
    body.bar_style = style
    bar.display(check_delay=False)
