"""What tasks print, made fit to read and to keep: plain lines, both ends of long texts, and the log of one task."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

from .masking import Masker, StreamMasker

__all__ = ["Ends", "Fold", "TaskLog", "both_ends", "first_line", "folded", "gap", "plain", "short"]

_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[@-Z\\-_]?"  # other escapes
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f\x80-\x9f]"  # what is left, but tab and newline
)
_CONTROL_BYTES = bytes([*range(9), *range(11, 32), 127])
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
LONGEST_LINE = 65536
LONGEST_NOTE = 100
"""Characters that the note of what was left out never exceeds."""
PIECES = 1000
"""Pieces of an end that wait to be joined, at most."""

SHOWN_EVERY = 0.1
"""Seconds between two lines that are shown as the last one."""


def plain(text: str) -> str:
    r"""Give the text without control sequences.

    Examples
    --------
    >>> plain("\x1b[31mKeyError\x1b[0m: 'city'\x07")
    "KeyError: 'city'"
    """
    if text.isascii() and text.isprintable():
        return text
    if text.isascii() and len(data := text.encode("ascii")) == len(data.translate(None, _CONTROL_BYTES)):
        return text  # much faster than the pattern, and what most cells print
    return _CONTROL.sub("", text)


def folded(text: str) -> str:
    r"""Give the text as a terminal shows it: what a carriage return overwrote is gone.

    Examples
    --------
    >>> folded("10%\r50%\r100%\ndone\r\n")
    '100%\ndone\r\n'
    """
    return _OVERWRITTEN.sub("", text) if "\r" in text else text


def short(text: str, longest: int = 200) -> str:
    r"""Give the first line of a text, cut where it is long.

    Examples
    --------
    >>> short("bad value\nin three\nlines"), short("x" * 300, 5)
    ('bad value', 'xxxx…')
    """
    line = first_line(text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def first_line(text: str) -> str:
    """Give the first line of a text, however long it is."""
    return plain(text.strip().partition("\n")[0])


LOGGED = ", all of it is in the log"


def both_ends(text: str, longest: int, rest: str = LOGGED) -> str:
    r"""Give a text whole, or its beginning and its end where it is long, and where the rest is.

    Examples
    --------
    >>> both_ends("x" * 5000 + "y" * 5000, 10)
    'xxxxx\n… 10.0 kB left out, all of it is in the log …\nyyyyy'
    """
    half = longest // 2
    return text if len(text) <= longest else text[:half] + gap(len(text) - 2 * half, rest) + text[-half:]


def gap(characters: int, rest: str = LOGGED) -> str:
    r"""Give the note that stands where a part of a text was left out.

    Examples
    --------
    >>> gap(3_200_000)
    '\n… 3.2 MB left out, all of it is in the log …\n'
    """
    if characters >= 10_000_000:
        size = f"{characters / 1e6:.0f} MB"
    else:
        size = f"{characters / 1e6:.1f} MB" if characters >= 100_000 else f"{characters / 1e3:.1f} kB"
    return f"\n… {size} left out{rest} …\n"


class Fold:
    r"""Folds a stream that comes in chunks; holds back a line that is not finished.

    Examples
    --------
    >>> fold = Fold()
    >>> fold.feed("fit\n 10%\r"), fold.feed(" 90%\r100%"), fold.now, fold.rest()
    ('fit\n', '', '100%', '100%\n')
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = ""

    @property
    def now(self) -> str:
        """The unfinished line as it stands on the screen."""
        return plain(_last_written(self._open))

    def feed(self, chunk: str) -> str:
        """Give the lines that are finished."""
        text = self._open + chunk
        end = text.rfind("\n") + 1
        self._open = text[end:]
        if "\r" in self._open:
            ended = self._open.endswith("\r")
            self._open = _last_written(self._open) + ("\r" if ended else "")
        done = text[:end]
        if len(self._open) > LONGEST_LINE:
            done, self._open = done + self._open, ""
        if "\r" in done:
            done = "\n".join(_last_written(line) for line in done.split("\n"))
        return plain(done)

    def rest(self) -> str:
        """Give the unfinished line as a finished one: nothing more comes for now."""
        line, self._open = self.now, ""
        return line + "\n" if line else ""


class Ends:
    r"""Keeps the beginning and the end of a text that comes in chunks, with a note in the middle.

    Parameters
    ----------
    kept : int
        Characters to keep at most, the note among them; at least 400.

    Examples
    --------
    >>> ends = Ends(400)
    >>> for _ in range(90):
    ...     ends.feed("one line!\n")
    >>> ends.text.splitlines()[19:23]
    ['one line!', '', '… 0.6 kB left out, all of it is in the log …', 'one line!']
    """

    __slots__ = ("_gone", "_half", "_head", "_room", "_size", "_tail")

    def __init__(self, kept: int) -> None:
        self._half = kept // 2
        self._head = io.StringIO()
        self._room = self._half
        self._tail: list[str] = []
        self._size = 0
        self._gone = 0

    @property
    def left_out(self) -> bool:
        """Whether the text was longer than what is kept."""
        return self._gone > 0 or self._size > self._half

    @property
    def text(self) -> str:
        """What is kept."""
        self._settle()
        head, tail = self._head.getvalue(), "".join(self._tail)
        return head + gap(self._gone + LONGEST_NOTE) + tail[LONGEST_NOTE:] if self._gone else head + tail

    def feed(self, chunk: str) -> None:
        """Take the next chunk."""
        if self._room:
            taken = self._head.write(chunk[: self._room])
            self._room -= taken
            chunk = chunk[taken:]
        if chunk:
            self._tail.append(chunk)
            self._size += len(chunk)
            if self._size > 2 * self._half or len(self._tail) > PIECES:
                self._settle()

    def _settle(self) -> None:
        """Forget what is neither in the beginning nor in the end."""
        over = max(0, self._size - self._half)
        self._tail = ["".join(self._tail)[over:]]
        self._size -= over
        self._gone += over


class TaskLog:
    """Writes what a task prints to a file, line by line, without secrets and control characters.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    masker : Masker
        Knows the secrets.
    show : callable
        Gets the last line that was printed, at most ten times a second.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self, path: Path, masker: Masker, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        self._masker = masker
        self._streams: dict[str, tuple[StreamMasker, Fold]] = {}
        self._show = show
        self._clock = clock
        self._shown = float("-inf")

    def close(self) -> None:
        """Write what was held back, and close the file."""
        self.settle()
        self._file.close()

    def cell(self, number: int, heading: str) -> None:
        """Write that a cell begins."""
        self.settle()
        self._write(f"--- cell {number}  {plain(self._masker.text(heading))}".rstrip() + "\n")

    def printed(self, stream: str, text: str) -> None:
        """Take a piece of what was printed to a stream (``stdout``, ``stderr``, ``kernel``)."""
        if stream not in self._streams:
            self._streams[stream] = (self._masker.stream(), Fold())
        masker, fold = self._streams[stream]
        done = fold.feed(masker.feed(text))
        self._write(done)
        now = self._clock()
        if now - self._shown >= SHOWN_EVERY:
            line = fold.now.strip() or _last_line(done)
            if line:
                self._shown = now
                self._show(line)

    def failed(self, traceback: str) -> None:
        """Write the traceback of an error."""
        self.settle()
        self._write(plain(self._masker.text(traceback)).rstrip() + "\n")

    def settle(self) -> None:
        """Write what was held back: a cell ended."""
        for masker, fold in self._streams.values():
            self._write(fold.feed(masker.rest()) + fold.rest())

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text)
            self._file.flush()


def _last_written(line: str) -> str:
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")


def _last_line(text: str) -> str:
    end = text.rstrip()
    return end[end.rfind("\n") + 1 :].strip()[:500]
