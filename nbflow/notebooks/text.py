"""Text as kernels print it, made fit to read: carriage returns folded, control sequences taken out."""

from __future__ import annotations

import re

__all__ = ["Fold", "ends", "first_line", "folded", "left_out", "plain", "short"]

_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[@-Z\\-_]?"  # other escapes
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f\x80-\x9f]"  # what is left, but tab and newline
)
_CONTROL_BYTES = bytes([*range(9), *range(11, 32), 127])
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
LONGEST_LINE = 65536


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


def ends(text: str, longest: int) -> str:
    r"""Give a text whole, or its beginning and its end where it is long.

    Examples
    --------
    >>> ends("x" * 5000 + "y" * 5000, 10)
    'xxxxx\n… 10.0 kB left out, all of it is in the log …\nyyyyy'
    """
    half = longest // 2
    return text if len(text) <= longest else text[:half] + left_out(len(text) - 2 * half) + text[-half:]


def left_out(characters: int) -> str:
    """Give the note that stands where so many characters are missing."""
    if characters >= 10_000_000:
        size = f"{characters / 1e6:.0f} MB"
    else:
        size = f"{characters / 1e6:.1f} MB" if characters >= 100_000 else f"{characters / 1e3:.1f} kB"
    return f"\n… {size} left out, all of it is in the log …\n"


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


def _last_written(line: str) -> str:
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")
