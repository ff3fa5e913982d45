"""Limits: what an expression may use up and make; and the one error of all that goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from jinja2 import UndefinedError

from ..errors import NbflowError
from ..values import DEEPEST

IF_MISSING: Final = "Where it may be missing, write `| default(...)` behind it."
"""The remedy where something was used that is not there."""

LONGEST_TEXT: Final = 1_000_000
"""Characters of one text."""
MOST_ITEMS: Final = 1_000_000
"""Items of a list or mapping, with those of the lists and mappings inside of it."""
MOST_CHARACTERS: Final = 10_000_000
"""Characters of all texts in a list or mapping."""
MOST_BITS: Final = 4096
"""Bits of a whole number."""
MOST_OPERATIONS: Final = 5_000_000
"""Operations of one evaluation: parts evaluated, and items touched."""


class ExpressionError(NbflowError):
    """An expression cannot be read, or has no value.

    Its place is the text of the expression; there is none as long as only the part is known that is wrong.
    """


class Located:
    """Makes an :class:`ExpressionError` that names an expression of every exception inside of it.

    Parameters
    ----------
    text : str
        The text of the expression.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        """Raise the error; one that names an expression already stays."""
        if not isinstance(problem, Exception) or (isinstance(problem, ExpressionError) and problem.place):
            return
        match problem:
            case NbflowError():
                why, remedy = problem.message, problem.remedy
            case UndefinedError():
                why, remedy = str(problem), IF_MISSING
            case RecursionError():
                why, remedy = "it is nested too deep.", ""
            case _:
                why, remedy = str(problem) or type(problem).__name__, ""
        line = " ".join(self.text[:200].split())
        shown = line if len(line) <= 80 else f"{line[:77]}..."
        raise ExpressionError(f"in `{shown}`: {' '.join(why.split()):.500}", remedy, place=self.text) from problem


def text_fits(length: int) -> None:
    """Refuse a text of this many characters, if that is too many."""
    if length > LONGEST_TEXT:
        raise ExpressionError(f"a text would have more than {LONGEST_TEXT:,} characters.")


def list_fits(count: int) -> None:
    """Refuse a list of this many items, if that is too many."""
    if count > MOST_ITEMS:
        raise ExpressionError(f"a list would have more than {MOST_ITEMS:,} items.")


def number_fits(bits: int) -> None:
    """Refuse a whole number of this many bits, if that is too many."""
    if bits > MOST_BITS:
        raise ExpressionError(f"a number would have more than {MOST_BITS:,} bits.")


def joined(separator: str, texts: Iterable[str]) -> str:
    """Give the texts as one; refuse it as soon as it is too long."""
    parts: list[str] = []
    length = -len(separator)
    for text in texts:
        length += len(separator) + len(text)
        text_fits(length)
        parts.append(text)
    return separator.join(parts)


class Meter:
    """Counts the operations of one evaluation, and ends it when there are too many."""

    def __init__(self) -> None:
        self.left = MOST_OPERATIONS

    def spend(self, count: int = 1) -> None:
        """Count operations."""
        self.left -= count
        if self.left < 0:
            raise ExpressionError(f"it takes more than {MOST_OPERATIONS:,} operations.")

    def touch(self, value: object) -> None:
        """Count what it takes to go through a value: one for each item, or for each hundred characters."""
        if isinstance(value, str):
            self.spend(len(value) // 100)
        elif not isinstance(value, (int, float)) and isinstance(value, (Mapping, Sequence)):
            self.spend(len(value))


class Size:
    """Items and characters of a value, counted while it grows."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.items = 0
        self.characters = 0

    def add(self, value: object, depth: int = 0) -> None:
        """Count what is in a value, and refuse it at a limit."""
        if isinstance(value, str):
            text_fits(len(value))
            self.characters += len(value)
            if self.characters > MOST_CHARACTERS:
                raise ExpressionError(f"a list would have more than {MOST_CHARACTERS:,} characters.")
        elif isinstance(value, int):
            number_fits(value.bit_length())
        elif isinstance(value, (Mapping, Sequence)):
            if depth > DEEPEST:
                raise ExpressionError(f"a value would be nested more than {DEEPEST} deep.")
            self.grow(len(value))
            for part in value.values() if isinstance(value, Mapping) else value:
                self.add(part, depth + 1)

    def grow(self, count: int) -> None:
        """Count items, and refuse them at the limit."""
        self.meter.spend(count)
        self.items += count
        list_fits(self.items)
