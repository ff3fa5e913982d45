"""Text from users' data, made harmless for a terminal, and measured as a terminal shows it."""

from __future__ import annotations

import re
import unicodedata
from typing import TextIO

_SEQUENCE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, moves, clearing
    r"|\x1b[ -/]*[0-Z\\^-~]"  # character sets, resets
)
_JOINERS = "\u200c\u200d"  # Persian and emoji need them; they move nothing
_EMOJI_STYLE = "\ufe0f"
_MEDIAL = range(0x1160, 0x1200)  # vowels and finals of Korean, drawn inside the letter before them


def for_terminal(text: str) -> str:
    """Give text that can move, colour and reorder nothing when a terminal shows it, in one line.

    Escape sequences and invisible characters go, line ends and tabs become spaces.

    Examples
    --------
    >>> for_terminal("red: \\x1b[31mCairo\\x1b[0m\\nnext")
    'red: Cairo next'
    """
    if text.isprintable():
        return text
    return "".join(map(_harmless, _SEQUENCE.sub("", text)))


def _harmless(char: str) -> str:
    match unicodedata.category(char):
        case "Zs" | "Zl" | "Zp":
            return " "
        case "Cc":
            return " " if char in "\t\n\r\v\f\x85" else ""
        case "Cf":
            return char if char in _JOINERS else ""
        case "Cs":
            return "\ufffd"  # half a character: it could not even be written
        case _:
            return char


def width(text: str) -> int:
    """Give how many columns a terminal takes for harmless text.

    Examples
    --------
    >>> width("Oslo"), width("東京")
    (4, 4)
    """
    if text.isascii():
        return len(text)
    total, last, before = 0, 0, " "
    for char in text:
        if char == _EMOJI_STYLE and last == 1 and not before.isspace():  # it widens a sign, not a gap
            total, last = total + 1, 2
            continue
        last, before = _columns(char), char
        total += last
    return total


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or ord(char) in _MEDIAL:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, columns: int) -> str:
    """Give the text, cut with ``…`` where it is wider than so many columns.

    Examples
    --------
    >>> fit("a long heading", 8)
    'a long …'
    """
    if width(text) <= columns:
        return text
    if columns < 1:
        return ""
    low, high = 0, min(len(text), 4 * columns + 16)  # the longest beginning that leaves a column for the sign
    while low < high:
        middle = (low + high + 1) // 2
        if width(text[:middle]) < columns:
            low = middle
        else:
            high = middle - 1
    return text[:low] + "…"


def fit_middle(text: str, columns: int) -> str:
    """Give the text, cut with ``…`` in its middle where it is wider than so many columns.

    Examples
    --------
    >>> fit_middle("train-all-the-models:fit:12", 16)
    'train-al…:fit:12'
    """
    if width(text) <= columns or columns < 3:
        return fit(text, columns)
    begin = fit(text, columns - (columns - 1) // 2)
    end = len(text)
    while width(text[end - 1 :]) <= columns - width(begin):
        end -= 1
    return begin + text[end:]


def wrapped(begin: str, text: str, columns: int, most: int | None = None) -> list[str]:
    """Give text behind its beginning, in lines that break between words.

    Parameters
    ----------
    most : int, optional
        So many lines at most, each cut where a word is wider than it; by default nothing is left out.

    Examples
    --------
    >>> wrapped("  review: ", "Publish the report?", 22)
    ['  review: Publish the', '          report?']
    """
    indent = " " * min(width(begin), columns // 2)
    lines, line = [], begin
    for word in text.split(" "):
        glue = "" if line in (begin, indent) else " "
        if glue and width(line) + 1 + width(word) > columns:
            lines.append(line)
            line, glue = indent, ""
        line += glue + word
    lines.append(line)
    if most is None:
        return [each.rstrip() for each in lines]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    return [fit(each, columns).rstrip() for each in lines]


def left(text: str, columns: int) -> str:
    """Give the text in exactly so many columns, filled with spaces behind it.

    Examples
    --------
    >>> left("Oslo", 6) + "|"
    'Oslo  |'
    """
    cut = fit(text, columns)
    return cut + " " * (columns - width(cut))


def called(name: str, columns: int) -> str:
    """Give what something is called in exactly so many columns; names begin alike, so they are cut in their middle.

    Examples
    --------
    >>> called("fit-the-model city=Oslo", 16) + "|"
    'fit-the-…ty=Oslo|'
    """
    return left(fit_middle(name, columns), columns)


def right(text: str, columns: int) -> str:
    """Give the text in exactly so many columns, filled with spaces before it.

    Examples
    --------
    >>> right("3.5", 6)
    '   3.5'
    """
    cut = fit(text, columns)
    return " " * (columns - width(cut)) + cut


def for_file(text: str, file: TextIO) -> str:
    """Give text with ``?`` for what the file's encoding has no sign for."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
