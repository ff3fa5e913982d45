"""Progress bars, as a terminal and a notebook show them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time

import pyte
import pytest
from tqdm import tqdm

from nbflow.api.plugins import reporter
from nbflow.events import (
    AttemptFailed,
    CellStarted,
    Event,
    FanOutOpened,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunStarted,
    Warned,
)
from nbflow.outcome import Failure, Outcome, failed
from nbflow.reporters.audience import Audience
from nbflow.reporters.bars import CLEAR_BELOW, Bars, _Bar
from nbflow.reporters.escape import width
from nbflow.reporters.lines import Lines
from nbflow.reporters.screen import Scene, screen
from nbflow.reporters.text import duration

MISSING = Outcome("failed", error=Failure("error", "KeyError: 'rain_mm'", cell=5), seconds=41)


class Terminal(io.StringIO):
    """A terminal in memory: what is written to it stands on its screen."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=5000)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal's driver: a line feed returns the carriage
        self.stream = pyte.Stream(self.screen)
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        self.stream.feed(text)
        return len(text)

    def isatty(self) -> bool:
        return True

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    @property
    def text(self) -> list[str]:
        """The lines of the screen, without the empty ones at its end."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def history(self) -> list[str]:
        """What scrolled out at the top."""
        return ["".join(line[i].data for i in range(self.screen.columns)).rstrip() for line in self.screen.history.top]


def bars_on(terminal: Terminal, workers: int = 4, head: tuple[str, ...] = ()) -> Bars:
    bars = Bars(workers, terminal, head, size=terminal.size, colour=False)
    bars.begin()
    return bars


def opened(total: int, workers: int = 4) -> list[Event]:
    return [RunStarted(1000.0, "r", "forecast.ipynb", 1, {}, workers), FanOutOpened(1000.0, ("map",), total)]


def started(index: int, label: str = "", at: float = 1000.0, attempt: int = 1) -> NodeStarted:
    return NodeStarted(at, (f"map:notebook:{index}",), str(index), attempt, label or f"city=c{index}", index)


def finished(index: int, outcome: Outcome, label: str = "", *, kept: bool = False) -> NodeFinished:
    return NodeFinished(
        1041.0, (f"map:notebook:{index}",), str(index), "", outcome, label or f"city=c{index}", index, kept=kept
    )


def cell(index: int, number: int, heading: str, cells: int = 11) -> CellStarted:
    return CellStarted(1000.0, (f"map:notebook:{index}",), number, cells, heading)


def picture(terminal: Terminal) -> Bars:
    """Play the run of the picture up to its middle."""
    bars = bars_on(terminal)
    for event in opened(40):
        bars(event)
    for i in range(16):
        bars(started(i))
        bars(finished(i, Outcome("completed", seconds=30)))
    bars(started(16, "city=Cairo"))
    bars(finished(16, MISSING, "city=Cairo"))
    for i, (city, number, heading, at) in enumerate(
        [
            ("Lima", 6, "Fit the model", 1092.0),
            ("Oslo", 10, "Plot", 1078.0),
            ("London", 0, "", 1129.0),
            ("東京", 2, "Load " * 20, 1100.0),
        ]
    ):
        bars(started(20 + i, f"city={city}", at))
        if number:
            bars(cell(20 + i, number, heading))
    bars.draw(1130.0)
    return bars


def test_the_terminal_shows_the_picture() -> None:
    """A failure above, the overall bar, and an aligned row for each task at work."""
    terminal = Terminal()
    estimate = picture(terminal)._progress.remaining(1130.0)
    lines = terminal.text
    assert estimate
    assert "  failed  city=Cairo   cell 5   KeyError: 'rain_mm'                        0:41" == lines[0]
    assert lines[1].startswith(" 42%|███████████")
    assert lines[1].endswith(f" | 17/40, 1 failed, 4 running   2:10, {duration(estimate)} left")
    assert "  city=Lima    cell  6/11  Fit the model                                   0:38" == lines[2]
    assert "  city=Oslo    cell 10/11  Plot                                            0:52" == lines[3]
    assert "  city=London  running                                                     0:01" == lines[4]
    assert 6 == len(lines)


@pytest.mark.parametrize(("columns", "edge"), [(40, 39), (80, 79), (200, 120)])
def test_every_line_ends_at_the_same_edge(columns: int, edge: int) -> None:
    """At any width the clocks stand below each other, wide letters counted right, and nothing wraps."""
    terminal = Terminal(columns)
    picture(terminal)
    assert 6 == len(terminal.text)
    for line in terminal.screen.display[:6]:
        shown = "".join(char for char in line if char)  # pyte has an empty cell behind a wide letter
        assert edge == width(shown.rstrip())
    assert terminal.text[5].startswith("  city=東京")
    assert "…" in terminal.text[5]


def test_a_narrow_terminal_keeps_the_count_and_the_failures() -> None:
    """Words go before the bar becomes too short to read."""
    terminal = Terminal(40)
    picture(terminal)
    assert " 42%|█" == terminal.text[1][:6]
    assert "17/40, 1 failed" in terminal.text[1]
    assert "left" not in terminal.text[1]


def test_a_row_is_kept_by_its_task_and_taken_by_the_next() -> None:
    """Rows do not jump: the second task keeps the second row while a third takes the first."""
    terminal = Terminal()
    bars = bars_on(terminal, 2)
    for event in [*opened(9), started(0, "city=Oslo"), started(1, "city=Lima")]:
        bars(event)
    bars.draw(1001.0)
    assert ["city=Oslo", "city=Lima"] == [line.split()[0] for line in terminal.text[1:]]
    for event in [finished(0, Outcome("completed"), "city=Oslo"), started(2, "city=Bern")]:
        bars(event)
    bars.draw(1002.0)
    assert ["city=Bern", "city=Lima"] == [line.split()[0] for line in terminal.text[1:]]


def test_the_rows_vanish_and_the_bar_stays_once() -> None:
    """After the end there are the failures and one full bar, and the cursor is below it."""
    terminal = Terminal()
    bars = picture(terminal)
    for i in range(20, 24):
        bars(finished(i, Outcome("completed", seconds=1)))
    for i in range(24, 43):
        bars(finished(i, Outcome("completed", seconds=1)))
    bars(RunFinished(1312.0, "failed"))
    bars.end()
    bars.end()
    assert 2 == len(terminal.text)
    assert terminal.text[1].startswith("100%|█")
    assert terminal.text[1].endswith("█| 40/40, 1 failed   5:12")
    assert (0, 2) == (terminal.screen.cursor.x, terminal.screen.cursor.y)


def test_a_run_that_broke_off_leaves_no_rows() -> None:
    """Even without the run's last event the rows vanish and the bar says how far it was."""
    terminal = Terminal()
    picture(terminal).end()
    assert 2 == len(terminal.text)
    assert terminal.text[1].startswith(" 42%|")
    assert "17/40, 1 failed   2:10" in terminal.text[1]


def test_a_long_label_takes_a_third_of_the_line() -> None:
    """What a task does must stay readable beside its name, of which the end is shown too: there items differ."""
    terminal = Terminal(61)
    bars = bars_on(terminal)
    for event in [*opened(2), started(0, "path=" + "x" * 80 + " n=3"), cell(0, 1, "Load")]:
        bars(event)
    bars.draw(1001.0)
    assert "  path=xxxxx…xxxxx n=3  cell  1/11  Load" == terminal.text[1][:41].rstrip()


def test_an_interrupted_run_does_not_look_full() -> None:
    """Cancelled items are not done."""
    terminal = Terminal()
    bars = bars_on(terminal)
    for event in [
        *opened(4),
        started(0),
        started(1),
        finished(0, Outcome("completed")),
        finished(1, Outcome("cancelled")),
    ]:
        bars(event)
    bars(RunFinished(1003.0, "interrupted"))
    bars.end()
    assert terminal.text[0].startswith(" 25%|")
    assert terminal.text[0].endswith("| 1/4, interrupted   0:03")


def test_all_but_one_is_not_a_hundred_percent() -> None:
    """Percents are rounded down."""
    terminal = Terminal()
    bars = bars_on(terminal)
    for event in [*opened(1000), *(finished(i, Outcome("completed")) for i in range(999))]:
        bars(event)
    bars.draw(1001.0)
    assert terminal.text[0].startswith(" 99%|")


def test_kept_items_count_at_once() -> None:
    """A resume begins where the last one ended, and says so."""
    terminal = Terminal()
    bars = bars_on(terminal)
    for event in [
        *opened(40),
        *(finished(i, Outcome("completed", seconds=9), kept=True) for i in range(38)),
        started(38),
    ]:
        bars(event)
    bars.draw(1005.0)
    assert terminal.text[0].startswith(" 95%|")
    assert terminal.text[0].endswith("| 38/40, 38 kept, 1 running   0:05")


def test_failures_of_an_earlier_working_are_no_news() -> None:
    """What is kept is counted, not told again."""
    terminal = Terminal()
    bars = bars_on(terminal)
    for event in [*opened(2), finished(0, MISSING, kept=True)]:
        bars(event)
    bars.draw(1005.0)
    assert 1 == len(terminal.text)


def test_an_attempt_a_warning_and_users_text_are_harmless_lines() -> None:
    """Nothing that a notebook prints or is called can move the cursor."""
    terminal = Terminal()
    bars = bars_on(terminal)
    for event in [
        *opened(2),
        started(0, "city=\x1b[2Jx\n"),
        AttemptFailed(1.0, ("map:notebook:0",), "0", 1, failed("dead-kernel", "died\x1b[5A"), 0.0),
        Warned(1.0, None, "model.pkl\r changed"),
        started(0, "city=\x1b[2Jx\n", attempt=2),
        cell(0, 1, "\x1b]0;title\x07Load"),
    ]:
        bars(event)
    bars.draw(1001.0)
    assert terminal.text[0].startswith("  attempt 1 failed  city=x ")
    assert "  warning  model.pkl  changed" == terminal.text[1]
    assert "  city=x   cell  1/11  attempt 2  Load" == terminal.text[3][:40].rstrip()


def test_a_low_terminal_shows_fewer_rows() -> None:
    """Sixteen tasks on eight lines: the head, the bar and the rows never scroll away."""
    terminal = Terminal(80, 8)
    bars = bars_on(terminal, 16)
    for event in [*opened(40), *(started(i) for i in range(16))]:
        bars(event)
    for now in range(1001, 1009):
        bars.draw(float(now))
    assert 7 == len(terminal.text)
    assert "16 running" in terminal.text[0]
    assert [] == terminal.history


def test_a_new_size_of_the_terminal_is_a_new_picture() -> None:
    """Lines fit the new width at the next picture."""
    terminal = Terminal(100)
    bars = picture(terminal)
    bars.draw(1130.5)
    assert CLEAR_BELOW not in terminal.pieces[-1]
    terminal.screen.resize(24, 50)
    bars.draw(1131.0)
    assert terminal.pieces[-1].startswith(CLEAR_BELOW)  # real terminals fold what no longer fits
    assert 1 == sum("17/40" in line for line in terminal.text)
    assert 1 == sum("city=Lima" in line for line in terminal.text)
    assert all(len(line) <= 50 for line in terminal.text)


def test_a_picture_reaches_the_terminal_in_one_piece() -> None:
    """No flicker, and nothing of others between the parts of a picture."""
    terminal = Terminal()
    bars = picture(terminal)
    before = len(terminal.pieces)
    bars.draw(1131.0)
    assert 1 == len(terminal.pieces) - before


def test_sixteen_threads_and_sixteen_thousand_events_end_in_one_full_bar() -> None:
    """On 80x24, within five seconds: each bar once, n/n at the end, failures above, nothing torn."""
    terminal = Terminal()
    bars = bars_on(terminal, 16)
    audience = Audience.drawing(bars, interval=0.1)
    audience.start()
    begun = time.monotonic()
    for event in opened(16 * 100, 16):
        audience.tell(event)
    together = threading.Barrier(16)

    def work(thread: int) -> None:
        together.wait()
        for i in range(100):
            index = thread * 100 + i
            audience.tell(started(index))
            for number in range(1, 9):
                audience.tell(cell(index, number, "Load"))
            audience.tell(finished(index, MISSING if index % 400 == 0 else Outcome("completed", seconds=1)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audience.tell(RunFinished(1100.0, "failed"))
    audience.close(None)
    assert time.monotonic() - begun < 5
    everything = [*terminal.history, *terminal.text]
    assert 4 == sum(line.startswith("  failed  city=c") for line in everything)
    assert 5 == len(everything)
    assert everything[-1].startswith("100%|█")
    assert everything[-1].endswith("| 1,600/1,600, 4 failed   1:40")


def test_while_at_work_each_bar_stands_once() -> None:
    """In the middle of a run every task has one row and there is one overall bar, whatever was drawn before."""
    terminal = Terminal()
    bars = bars_on(terminal, 16, ("head", "run"))
    for event in opened(64, 16):
        bars(event)
    for i in range(48):
        bars(started(i))
        if i >= 16:
            bars(finished(i - 16, MISSING if i == 20 else Outcome("completed")))
        bars.draw(1000.0 + i)
        everything = [*terminal.history, *terminal.text]
        assert 1 == sum("/64" in line for line in everything)
        assert min(i + 1, 16) == sum(line.startswith("  city=") for line in everything)
        assert ["head", "run", ""] == everything[:3]


def test_our_bars_leave_others_bars_alone() -> None:
    """tqdm's own class keeps its lock and its monitor, and knows nothing of our bars."""
    lock, interval, monitor = tqdm.get_lock(), tqdm.monitor_interval, tqdm.monitor
    picture(Terminal()).end()
    assert lock is tqdm.get_lock()
    assert lock is not _Bar.get_lock()
    assert interval == tqdm.monitor_interval
    assert monitor is tqdm.monitor
    assert 0 == sum(thread.name.startswith("tqdm") for thread in threading.enumerate())


def test_settings_for_others_tqdm_do_not_break_ours() -> None:
    """TQDM_DISABLE and its like change the defaults of every tqdm in the process."""
    program = """if True:
        import io
        from nbflow.events import NodeStarted, RunStarted
        from nbflow.reporters.bars import Bars
        file = io.StringIO()
        bars = Bars(2, file, size=lambda: (60, 20))
        bars.begin()
        bars(RunStarted(0.0, 'r', 'f', 1, {}, 2))
        bars(NodeStarted(0.0, ('a',), 'a', 1, 'city=Oslo', 0))
        bars.draw(1.0)
        bars.end()
        print('city=Oslo' in file.getvalue(), file.getvalue()[-1] == chr(10))
    """
    env = {**os.environ, "TQDM_DISABLE": "1", "TQDM_DELAY": "9", "TQDM_DYNAMIC_NCOLS": "1"}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert ("True True\n", "") == (ended.stdout, ended.stderr)


def test_a_terminal_without_unicode_gets_a_plain_bar() -> None:
    """An old encoding ends no run, and the bar is still a bar."""
    raw = io.BytesIO()
    bars = Bars(2, io.TextIOWrapper(raw, encoding="ascii"), size=lambda: (60, 20), colour=False)
    bars.begin()
    for event in [*opened(2), started(0, "city=東京"), finished(0, Outcome("completed"))]:
        bars(event)
    bars.draw(1001.0)
    bars.end()
    assert b"50%|####" in raw.getvalue()


@pytest.mark.parametrize(("expected", "colour"), [("red", True), ("default", False)])
def test_failures_are_red_where_colour_is_wanted(expected: str, colour: bool) -> None:
    """The word is, the rest of the line is not."""
    terminal = Terminal()
    bars = Bars(2, terminal, size=terminal.size, colour=colour)
    bars.begin()
    for event in [*opened(2), finished(0, MISSING)]:
        bars(event)
    bars.draw(1001.0)
    assert expected == terminal.screen.buffer[0][2].fg
    assert "default" == terminal.screen.buffer[0][10].fg


def test_a_file_is_a_log_and_a_terminal_has_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reporter is chosen by where people watch."""
    monkeypatch.setenv("TERM", "xterm")
    assert "terminal" == screen(Terminal())
    assert isinstance(reporter(None, Scene(4, Terminal())), Bars)
    assert "log" == screen(io.StringIO())
    assert isinstance(reporter(None, Scene(4, io.StringIO())), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert "log" == screen(Terminal())


def test_the_size_of_a_real_terminal_is_asked_each_time() -> None:
    """A pseudo-terminal that is made narrower gets narrower lines."""
    fcntl, struct, termios = (pytest.importorskip(name) for name in ("fcntl", "struct", "termios"))
    upper, lower = os.openpty()
    with os.fdopen(upper, "rb", buffering=0), os.fdopen(lower, "w", encoding="utf-8") as file:
        bars = Bars(2, file, colour=False)
        sizes = []
        for columns in (100, 50):
            fcntl.ioctl(lower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            sizes.append(bars._measured())
    assert [(100, 24), (50, 24)] == sizes
