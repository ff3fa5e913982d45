"""Progress without a terminal: lines that a log can keep."""

from __future__ import annotations

import io
import unicodedata

from nbflow.events import (
    AttemptFailed,
    CellStarted,
    Event,
    FanOutOpened,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunStarted,
    Warned,
)
from nbflow.outcome import Failure, Outcome, failed
from nbflow.reporters.lines import Lines
from nbflow.reporters.text import head

MISSING = Outcome("failed", error=Failure("error", "KeyError: 'rain_mm'", cell=5), seconds=41)


class Log(io.StringIO):
    """A file that is no terminal, by its lines."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def opened(total: int) -> list[Event]:
    return [RunStarted(1000.0, "r", "forecast.ipynb", 1, {}, 4), FanOutOpened(1000.0, ("map",), total)]


def started(index: int, label: str = "", attempt: int = 1) -> NodeStarted:
    return NodeStarted(1000.0, (f"map:notebook:{index}",), str(index), attempt, label or f"city=c{index}", index)


def finished(index: int, outcome: Outcome, label: str = "", *, kept: bool = False) -> NodeFinished:
    return NodeFinished(
        1041.0, (f"map:notebook:{index}",), str(index), "", outcome, label or f"city=c{index}", index, kept=kept
    )


def told(*events: Event) -> Log:
    log = Log()
    lines = Lines(log)
    lines.begin()
    for event in events:
        lines(event)
    lines.end()
    return log


def test_the_head_comes_first() -> None:
    """The same two lines as in a terminal."""
    log = Log()
    expected = head("forecast.ipynb", 40, 4, "python3", "r")
    Lines(log, expected).begin()
    assert expected == log.lines


def test_few_items_have_a_line_at_each_end() -> None:
    """Up to a hundred items say when they start and how they ended."""
    log = told(
        *opened(2),
        started(0, "city=Oslo"),
        started(1, "city=Cairo"),
        finished(0, Outcome("completed", seconds=52), "city=Oslo"),
        finished(1, MISSING, "city=Cairo"),
    )
    expected = [
        "  started    city=Oslo",
        "  started    city=Cairo",
        "  completed  city=Oslo  0:52",
        "  failed     city=Cairo  cell 5   KeyError: 'rain_mm'  0:41",
    ]
    assert expected == log.lines


def test_of_many_items_only_failures_have_a_line() -> None:
    """Above a hundred items the log stays readable."""
    log = told(
        *opened(101), started(0), started(1), finished(0, Outcome("completed", seconds=52)), finished(1, MISSING)
    )
    assert ["  failed     city=c1  cell 5   KeyError: 'rain_mm'  0:41"] == log.lines


def test_kept_items_and_cells_have_no_line() -> None:
    """What an earlier working did is no news, and a cell is too small."""
    log = told(
        *opened(2),
        finished(0, MISSING, kept=True),
        CellStarted(1.0, ("map:notebook:1",), 1, 3, "Load"),
        Printed(1.0, ("map:notebook:1",), "hello"),
    )
    assert [] == log.lines


def test_a_failed_attempt_and_a_warning_have_a_line() -> None:
    """Both with the item or the text that a person needs."""
    outcome = failed("dead-kernel", "kernel died (signal 9)")
    log = told(
        *opened(200),
        started(1),
        AttemptFailed(1.0, ("map:notebook:1",), "1", 1, outcome, 0.0),
        Warned(1.0, None, "model.pkl changed\x1b[2J"),
    )
    assert ["  attempt 1 failed  city=c1  kernel died (signal 9)  0:00", "  warning  model.pkl changed"] == log.lines


def test_a_heartbeat_comes_once_a_minute() -> None:
    """By a manual clock: not before a minute has passed, and not twice in one."""
    log = Log()
    lines = Lines(log)
    for event in [*opened(200), started(0), started(1), finished(0, Outcome("completed", seconds=41))]:
        lines(event)
    lines.draw(1059.0)
    assert [] == log.lines
    lines.draw(1060.0)
    lines.draw(1061.0)
    lines.draw(1119.0)
    assert 1 == len(log.lines)
    assert log.lines[0].startswith("  1/200, 1 running   1:00, ")
    lines.draw(1120.0)
    assert 2 == len(log.lines)


def test_no_heartbeat_before_the_start_or_after_the_end() -> None:
    """A run that is over is not at work."""
    log = Log()
    lines = Lines(log)
    lines.draw(10_000.0)
    for event in [*opened(200), RunFinished(1001.0, "completed")]:
        lines(event)
    lines.draw(10_000.0)
    assert [] == log.lines


def test_a_log_has_no_control_characters() -> None:
    """Labels and messages of users cannot bring any in, and carriage returns are not there."""
    nasty = Outcome("failed", error=Failure("error", "bad\x1b[1A\nvalue"))
    log = told(*opened(2), started(0, "city=\x1b[31mre\rd"), finished(0, nasty, "city=\x1b[31mre\rd"))
    assert set() == {char for char in log.getvalue() if unicodedata.category(char) == "Cc"} - {"\n"}
    assert "  failed     city=re d  bad value  0:00" == log.lines[1]


def test_a_file_that_is_not_unicode_gets_question_marks() -> None:
    """An old log encoding ends no run."""
    raw = io.BytesIO()
    lines = Lines(io.TextIOWrapper(raw, encoding="ascii"))
    lines(opened(1)[1])
    lines(started(0, "city=東京"))
    assert b"  started    city=??\n" == raw.getvalue()
