"""What people see: nbflow in a terminal of several sizes, in a log, and when it is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyte
import pytest

WAITS = """# Fit the model
import os, time
open(f'at-{city}', 'w').close()
while not os.path.exists(f'go-{city}'):
    time.sleep(0.02)
if city == 'Cairo':
    raise KeyError('rain_mm')"""
CELLS = [
    ("parameters", "city: str = 'Oslo'"),
    ("", WAITS),
    ("results", "# Score it\nrmse = len(city) * 0.317\nn_days = 365"),
]


class Terminal:
    """A terminal with a command in it.

    Parameters
    ----------
    command : str
        What is typed behind ``nbflow``.
    columns, lines : int
        Its size.
    env : mapping, optional
        What is set besides.
    """

    def __init__(self, command: str, columns: int, lines: int, env: Mapping[str, str] | None = None) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        unset = ("COLUMNS", "LINES", "NO_COLOR", "NBFLOW_STATE_DIR")
        around = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nbflow", *command.split()],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**around, "TERM": "xterm-256color", **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: void(fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
        )
        os.close(theirs)

    def lines(self) -> list[str]:
        """Give all lines that were shown, those that scrolled away too."""
        above = ["".join(row[x].data for x in range(self.screen.columns)) for row in self.screen.history.top]
        found = [line.rstrip() for line in [*above, *self.screen.display]]
        while found and not found[-1]:
            found.pop()
        return found

    def until(self, holds: Callable[[list[str]], bool], seconds: float = 60) -> list[str]:
        """Read until the lines are as they should be, and give them."""
        end = time.monotonic() + seconds
        while not holds(self.lines()):
            assert time.monotonic() < end, "\n".join(self.lines())
            if not self._read(0.2) and self.process.poll() is not None:
                assert holds(self.lines()), "\n".join(self.lines())
        return self.lines()

    def end(self, seconds: float = 60) -> list[str]:
        """Read to the end, and give all lines."""
        end = time.monotonic() + seconds
        while self._read(0.2) or self.process.poll() is None:
            assert time.monotonic() < end, "\n".join(self.lines())
        return self.lines()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            new = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.raw += new
        self._stream.feed(new)
        return bool(new)

    def close(self) -> None:
        """End it, and what is in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)


def void(_: object) -> None:
    """Forget a value."""


Open = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Opens terminals, and closes them at the end."""
    opened: list[Terminal] = []

    def open_(*args: Any, **keywords: Any) -> Terminal:
        opened.append(Terminal(*args, **keywords))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a notebook whose items wait until they are told to go on."""
    monkeypatch.delenv("NBFLOW_STATE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": [tag] if tag else []},
            "outputs": [],
            "source": source,
        }
        for tag, source in CELLS
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    data = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}, "cells": cells}
    (tmp_path / "forecast.ipynb").write_text(json.dumps(data))
    return tmp_path


def go(place: Path, *cities: str) -> None:
    """Let items go on."""
    for city in cities:
        (place / f"go-{city}").touch()


def there(lines: list[str], *patterns: str) -> bool:
    """Whether each pattern is found in a line."""
    return all(any(re.search(pattern, line) for line in lines) for pattern in patterns)


def timeless(lines: list[str]) -> list[str]:
    """Give the lines with the same times and ids in all runs, and bars of one length."""
    text = "\n".join(lines)
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "20261123-030112-7f3a", text)
    text = re.sub(r"\b\d:\d\d\b", "0:01", text)
    text = re.sub(r"(completed|failed   ) {2,}\d+\.\d+", r"\1  1.234", text)
    return re.sub(r"█+[▏▎▍▌▋▊▉]?", "██", text).split("\n")


MAP = "map forecast.ipynb --grid city=Oslo,Lima,Cairo -j 2"

END = """\
forecast.ipynb  3 items, 2 at a time (-j)  kernel python3
run 20261123-030112-7f3a                   Ctrl-C stops, nbflow resume goes on

  failed  city=Cairo  cell 2   KeyError: 'rain_mm'                         0:01
100%|██| 3/3, 1 failed   0:01

  city    rmse  n_days  status     seconds
  Oslo   1.268     365  completed  1.234
  Lima   1.268     365  completed  1.234
  Cairo      -       -  failed     1.234

1 of 3 failed, 2 are done and kept:
  city=Cairo  cell 2  KeyError: 'rain_mm'
    nbflow-runs/forecast.ipynb/20261123-030112-7f3a/2_Cairo.failed.ipynb

  run it again      nbflow resume forecast.ipynb
  the whole table   nbflow results forecast.ipynb -o results.csv
  what it printed   nbflow logs forecast.ipynb 2"""


def test_a_terminal_shows_what_is_at_work_and_then_how_it_went(place: Path, terminal: Open) -> None:
    """80×24: two rows while two items run, a failed one above the bar, one bar all the time, the end below it."""
    shown = terminal(MAP, 80, 24)
    lines = shown.until(lambda seen: there(seen, r"city=Oslo +cell 2/3 +Fit", r"city=Lima +cell 2/3 +Fit"))
    assert there(lines, r"^  0%\|.*\| 0/3, 2 running   0:\d\d$")
    assert 1 == sum("/3, " in line for line in lines)
    go(place, "Oslo")
    lines = shown.until(lambda seen: there(seen, r"city=Cairo +cell 2/3"))
    assert not there(lines, r"city=Oslo"), "its row belongs to Cairo now"
    assert there(lines, r"^ 33%\|.*\| 1/3, 2 running   0:\d\d, 0:\d\d left$")
    rows = [line for line in lines if "cell 2/3" in line]
    assert {rows[0].index("cell")} == {row.index("cell") for row in rows}
    assert {79} == {len(line) for line in lines if re.search(r"cell 2/3|running", line)}, "all end in one column"
    go(place, "Cairo")
    lines = shown.until(lambda seen: there(seen, r"failed  city=Cairo  cell 2   KeyError: 'rain_mm'"))
    assert there(lines, r"2/3, 1 failed, 1 running")
    go(place, "Lima")
    lines = shown.end()
    assert 1 == shown.process.returncode
    assert END.split("\n") == timeless(lines)
    assert b"\x1b[31mfailed\x1b[0m" in shown.raw


@pytest.mark.parametrize(
    ("columns", "height"), [(20, 8), *(pytest.param(*size, marks=pytest.mark.long) for size in [(40, 12), (200, 50)])]
)
def test_no_size_of_terminal_tears_the_picture(columns: int, height: int, place: Path, terminal: Open) -> None:
    """Narrow or wide, no line is broken by the terminal while items run, and there is one bar."""
    go(place, "Oslo", "Cairo")
    shown = terminal(MAP, columns, height, {"NO_COLOR": "1"})
    lines = shown.until(lambda seen: there(seen, r"2/3", "city=Lima", "^  failed"))
    assert 1 == sum(bool(re.search(r"^ 66%", line)) for line in lines)
    bar = next(line for line in lines if "66%" in line)
    assert len(bar) <= min(columns, 120)
    failed = next(line for line in lines if line.startswith("  failed"))
    assert columns < 40 or "KeyErr" in failed
    assert failed.count("…") <= 1
    go(place, "Lima")
    lines = shown.end()
    assert there(lines, r"100%\|", "1 of 3 failed", "nbflow resume")
    assert 1 == sum("/3" in line and "%" in line for line in lines), "one bar is left"
    assert b"\x1b[31m" not in shown.raw


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(place: Path, terminal: Open) -> None:
    """No traceback, no torn picture: what is done, what has not run, and the command that goes on."""
    go(place, "Oslo")
    shown = terminal(MAP, 80, 24)
    shown.until(lambda seen: there(seen, "1/3", r"city=Cairo +cell 2/3"))
    shown.type(b"\x03")
    lines = shown.end()
    assert 130 == shown.process.returncode
    assert there(
        lines, r"stopped by Ctrl-C: 1 of 3 are done and kept, 2 have not finished", r"go on +nbflow resume forecast"
    )
    assert not there(lines, "Traceback|Error")
    assert 1 == sum(bool(re.search(r"^ *\d+%\|", line)) for line in lines), (
        "the ^C that the terminal shows tears nothing"
    )


LOG = """\
forecast.ipynb  3 items, 1 at a time (-j)  kernel python3
run 20261123-030112-7f3a                   Ctrl-C stops, nbflow resume goes on

  started    city=Oslo
  completed  city=Oslo  0:01
  started    city=Lima
  completed  city=Lima  0:01
  started    city=Cairo
  failed     city=Cairo  cell 2   KeyError: 'rain_mm'  0:01"""


def test_a_log_has_a_line_for_each_item_and_no_control_characters(place: Path) -> None:
    """Without a terminal: the head, two lines per item on stderr, the same end on stdout."""
    go(place, "Oslo", "Lima", "Cairo")
    done = nbflow(MAP.replace("-j 2", "-j 1"))
    assert 1 == done.returncode
    assert LOG.split("\n") == timeless(done.stderr.splitlines())
    assert END.split("\n")[6:] == timeless(done.stdout.splitlines())
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr + done.stdout


@pytest.mark.long
def test_quiet_says_nothing_unless_something_failed(place: Path) -> None:
    """For cron: no output, no mail; a failure is told on stderr, with what to type."""
    go(place, "Oslo", "Lima", "Cairo")
    good = nbflow("map forecast.ipynb --grid city=Oslo,Lima --quiet")
    assert (0, "", "") == (good.returncode, good.stdout, good.stderr)
    bad = nbflow("map forecast.ipynb --grid city=Cairo --quiet")
    assert (1, "") == (bad.returncode, bad.stdout)
    assert there(bad.stderr.splitlines(), "KeyError: 'rain_mm'", "nbflow resume forecast.ipynb")


@pytest.mark.long
def test_status_of_a_run_at_work_shows_who_works_and_at_what(place: Path, terminal: Open) -> None:
    """From a second terminal: owner, cell of each item, and the command that stops it; then that it stopped."""
    go(place, "Oslo")
    shown = terminal(MAP, 80, 24)
    shown.until(lambda seen: there(seen, "1/3", r"city=Cairo +cell 2/3"))
    lines = nbflow("status forecast.ipynb").stdout.splitlines()
    assert "forecast.ipynb  running" == lines[0]
    assert there(
        lines, rf"owner .*process {shown.process.pid}", r"city=Lima", r"city=Cairo", "nbflow cancel forecast.ipynb"
    )
    assert 0 == nbflow("cancel forecast.ipynb").returncode
    assert there(shown.end(), "^stopped by nbflow cancel: 1 of 3 are done and kept")
    assert 1 == shown.process.returncode
    assert nbflow("status forecast.ipynb").stdout.startswith("forecast.ipynb  interrupted (nbflow cancel)")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_tmux_shows_the_same(place: Path) -> None:
    """A real terminal program agrees with the emulator of the other tests."""
    go(place, "Oslo", "Lima", "Cairo")
    tmux = ["tmux", "-S", str(place / "tmux"), "-f", "/dev/null"]
    command = f"env -u NO_COLOR {sys.executable} -m nbflow {MAP}; touch ended; sleep 60"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", command], check=True, cwd=place)
    try:
        end = time.monotonic() + 60
        while not (place / "ended").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        seen = subprocess.run([*tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout
        assert END.split("\n") == timeless(seen.rstrip().split("\n"))
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def nbflow(command: str) -> subprocess.CompletedProcess[str]:
    """Run ``nbflow`` without a terminal."""
    words = [sys.executable, "-m", "nbflow", *command.split()]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
