"""Progress bars in a terminal: one for the whole run, and a row for each task at work."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tqdm.std import tqdm

from ..events import AttemptFailed, Event, NodeFinished, Warned
from ..model import NodeId
from ..state import Progress
from . import picture
from .escape import for_file, for_terminal
from .escape import width as columns_of

CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\r\x1b[J"
RED = "\x1b[31m"
PLAIN = "\x1b[0m"
PLAIN_TQDM: dict[str, Any] = {"disable": False, "delay": 0, "dynamic_ncols": False}
"""Against ``TQDM_DISABLE`` and its like, which change defaults of every tqdm: ours would break off."""


class _Frame(io.StringIO):
    """Collects what tqdm writes, so that a whole picture reaches the terminal in one piece."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file

    def show(self) -> None:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        self._file.write(for_file(text, self._file))
        self._file.flush()


class _Bar(tqdm):  # type: ignore[type-arg]  # it iterates over nothing
    """A tqdm whose words are ours, with a lock and without the monitor: others' bars are not touched."""

    monitor_interval = 0
    line = ""
    """All that it shows, where it is a row without a bar."""
    before = ""
    behind = ""

    def __str__(self) -> str:
        return self.line or str(super().__str__())

    @property
    def format_dict(self) -> Any:
        return {**super().format_dict, "before": self.before, "behind": self.behind}

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Clear what stood there by the terminal's own means: tqdm counts columns wrongly in some scripts."""
        return lambda text: file.write(f"\r{text}{CLEAR_LINE}")


_Bar.set_lock(threading.RLock())  # the default one is shared with other processes, and can outlive its owner


class Bars:
    """Draws progress in a terminal.

    Parameters
    ----------
    workers : int
        Rows at most.
    file : TextIO, optional
        The terminal; stderr by default.
    head : sequence of str
        Lines above the bars.
    size : callable, optional
        Gives columns and lines of the terminal; asked at each picture, so that it may change.
    asking : threading.Event, optional
        Set while a question to a person has the terminal for itself.
    colour : bool, optional
        Whether failures are red; by default unless ``NO_COLOR`` is set.
    """

    def __init__(
        self,
        workers: int,
        file: TextIO | None = None,
        head: Sequence[str] = (),
        *,
        size: Callable[[], tuple[int, int]] | None = None,
        colour: bool | None = None,
        asking: threading.Event | None = None,
    ) -> None:
        self._file = file or sys.stderr
        self._frame = _Frame(self._file)
        self._head = head
        self._workers = workers
        self._size = size or self._measured
        self._colour = not os.environ.get("NO_COLOR") if colour is None else colour
        self._asking = asking
        self._unanswered: set[NodeId] = set()  # gates that the person who is there left open
        self._progress = Progress()
        self._above: list[Callable[[int, int], str]] = []  # lines for the next picture, by columns and labels
        self._labels = 0
        self._places: list[NodeId | None] = []
        self._overall: _Bar | None = None
        self._rows: list[_Bar] = []
        self._drawn = (0, 0)
        self._now = 0.0

    def begin(self) -> None:
        """Write the head and the empty bar."""
        self._frame.write("".join(f"{line}\n" for line in self._head))
        if self._head and self._head[-1]:
            self._frame.write("\n")
        self._overall = self._bar(0)
        self.draw(self._now)

    def __call__(self, event: Event) -> None:
        """Take an event in; drawn at the next :meth:`draw`."""
        task = self._progress.active.get(event.node) if isinstance(event, AttemptFailed) else None
        self._progress.apply(event)
        match event:
            case NodeFinished(kept=False) if event.failed_itself:
                failed = event
                self._align(failed.label)
                self._above.append(lambda columns, labels: picture.failure(failed, columns, labels))
            case AttemptFailed():
                attempt, label = event, task.label if task else ""
                self._above.append(lambda columns, labels: picture.again(attempt, label, columns, labels))
            case Warned():
                warned = event
                if warned.node is not None:
                    self._unanswered.add(warned.node)
                self._above.append(lambda columns, _: picture.warning(warned, columns))
            case _:
                pass

    def draw(self, now: float) -> None:
        """Show the newest state; a question has the terminal for itself."""
        self._now = now
        if self._asking is not None:
            asked = any(node not in self._unanswered for node in self._progress.gates)
            if asked and not self._asking.is_set():
                self._clear()
                self._asking.set()
            elif not asked:
                self._asking.clear()
            if asked:
                return
        self._draw()
        self._frame.write("\r")  # the terminal shows ^C where the cursor stands: there the next picture covers it
        self._frame.show()

    def _clear(self) -> None:
        """Take the picture away, and leave the lines above it."""
        self._draw()
        for bar in self._rows:
            bar.close()
        self._rows.clear()
        self._places.clear()
        self._frame.write(CLEAR_BELOW)
        self._frame.show()

    def end(self) -> None:
        """Take the rows away, and leave the overall bar as it stands."""
        if self._overall is None:
            return
        self._progress.active.clear()
        self._draw()
        self._overall.close()
        self._overall = None
        self._frame.show()

    def _draw(self) -> None:
        overall = self._overall
        if overall is None:
            return
        columns, lines = self._size()
        width = max(1, min(columns - 1, picture.WIDEST))  # in the last column a terminal would begin a new line
        self._place(max(0, lines - 2))
        for task in self._progress.active.values():
            self._align(task.label)
        labels = picture.label_columns(self._labels, width)
        if self._above or self._drawn not in ((columns, lines), (0, 0)):
            self._frame.write(CLEAR_BELOW + "".join(f"{self._painted(line(width, labels))}\n" for line in self._above))
            self._above.clear()
        self._drawn = (columns, lines)
        self._draw_overall(overall, width)
        for bar, node in zip(self._rows, self._places, strict=True):
            bar.line = picture.row(self._progress.active[node], self._now, width, labels) if node else " "
            bar.display()

    def _draw_overall(self, bar: _Bar, width: int) -> None:
        progress = self._progress
        bar.n, bar.total, bar.ncols = picture.done(progress), max(1, picture.total(progress)), width
        bar.before = f"{picture.percent(progress)}|"
        bar.behind = f"| {picture.words(progress, self._now, width - len(bar.before) - 2 - picture.NARROWEST_BAR)}"
        bar.colour = "red" if self._colour and progress.counts["failed"] else None
        bar.display()

    def _place(self, limit: int) -> None:
        """Give each task at work a row that it keeps, and as many rows as are needed."""
        active = self._progress.active
        places = [node if node in active else None for node in self._places[:limit]]
        if not self._progress.waiting:
            places = [node for node in places if node is not None]  # nothing comes any more: close up
        new = iter([node for node in active if node not in places])
        places = [next(new, None) if node is None else node for node in places]
        places += list(new)[: max(0, min(limit, self._workers) - len(places))]
        while places and places[-1] is None:
            places.pop()
        self._places = places
        while len(self._rows) > len(places):
            self._rows.pop().close()
        while len(self._rows) < len(places):
            self._rows.append(self._bar(len(self._rows) + 1))

    def _bar(self, position: int) -> _Bar:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        return _Bar(
            total=1,
            position=position,
            leave=position == 0,
            file=self._frame,
            ascii=not encoding.lower().startswith("utf"),
            bar_format="{before}{bar}{behind}",
            nrows=10_000,  # how many rows fit is decided here
            **PLAIN_TQDM,
        )

    def _align(self, label: str) -> None:
        self._labels = max(self._labels, columns_of(for_terminal(label)))

    def _painted(self, line: str) -> str:
        return (
            line.replace("  failed", f"  {RED}failed{PLAIN}", 1)
            if self._colour and line.startswith("  failed")
            else line
        )

    def _measured(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):  # not a terminal, or closed
            columns, lines = shutil.get_terminal_size()
        return columns or 80, lines or 24
