"""Tables of values for a terminal: aligned, cut to its width, honest about what is left out."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath

from ..values import File
from .escape import called, fit, for_terminal, left, right, width

INDENT = "  "
GAP = "  "
WIDEST = 40
"""Columns that a cell takes at most while there is room."""
NARROWEST = 10
"""Columns that a cell keeps when there is not; then whole columns go."""
DIGITS = 4
"""Significant digits of the largest number of a column."""

Row = Mapping[str, object]


def table(
    rows: Sequence[Row],
    columns: Sequence[str],
    width: int = 79,
    limit: int = 20,
    pinned: Collection[str] = ("index", "status", "seconds"),
    left_out: Sequence[str] = (),
) -> list[str]:
    """Give the lines of a table.

    Parameters
    ----------
    rows : sequence of mappings
        Values by column; a missing one and ``None`` are shown as ``-``.
    columns : sequence of str
        In the order in which they stand.
    width : int
        Columns of the terminal that may be used.
    limit : int
        Rows shown at most; how many more there are is said.
    pinned : collection of str
        Columns that stay, uncut, when others have no room.
    left_out : sequence of str
        Columns that somebody has left out already, for want of room: they are named with the others.

    Examples
    --------
    >>> print(*table([{"city": "Oslo", "rmse": 1.8314}, {"city": "Cairo", "rmse": None}], ["city", "rmse"]), sep="\\n")
      city    rmse
      Oslo   1.831
      Cairo      -
    """
    grid = Grid.of(rows[:limit], columns, width, pinned, left_out)
    more = [f"{INDENT}... {len(rows) - limit:,} more"] if len(rows) > limit else []
    return [grid.head, *grid.rows, *more, *grid.notes]


@dataclass(frozen=True, slots=True)
class Grid:
    """The lines of a table, apart, so that others can stand between them."""

    head: str
    rows: list[str]
    notes: list[str]
    """What is not shown."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        columns: Sequence[str],
        room: int,
        pinned: Collection[str] = (),
        left_out: Sequence[str] = (),
    ) -> Grid:
        """Lay out values in so many columns of a terminal."""
        made = [_Column.of(name, [row.get(name) for row in rows]) for name in columns]
        shown = _fitted(made, room - len(INDENT), pinned)
        cells = zip(*(column.cells() for column in shown), strict=True)
        lines = [(INDENT + GAP.join(row)).rstrip() for row in cells]
        hidden = [column.name for column in made if column.name not in {c.name for c in shown}] + list(left_out)
        notes = (
            [fit(f"{INDENT}no room for {len(hidden)} of the columns: {', '.join(map(for_terminal, hidden))}", room)]
            if hidden
            else []
        )
        return cls(lines[0], lines[1:], notes)


@dataclass(slots=True)
class _Column:
    name: str
    texts: list[str]
    """The heading, then a text for each row."""
    numeric: bool
    width: int

    @classmethod
    def of(cls, name: str, values: Sequence[object]) -> _Column:
        present = [value for value in values if value is not None]
        numeric = bool(present) and all(type(value) in (int, float) for value in present)
        texts = [for_terminal(name), *(numbers(values) if numeric else map(cell_text, values))]
        return cls(name, texts, numeric, min(WIDEST, max(map(width, texts))))

    def cells(self) -> list[str]:
        """Give the heading and the texts in its width; those that differ only in their ends are cut before them."""
        if self.numeric:
            return [right(text, self.width) for text in self.texts]
        wide = {text for text in self.texts if width(text) > self.width}
        alike = len({fit(text, self.width) for text in wide}) < len(wide)
        return [(called if alike else left)(text, self.width) for text in self.texts]


def _fitted(columns: list[_Column], room: int, pinned: Collection[str]) -> list[_Column]:
    """Narrow the widest texts, then drop the last columns that are not pinned, until all fits."""
    shown = list(columns)

    def over() -> int:
        return sum(c.width for c in shown) + len(GAP) * (len(shown) - 1) - room

    while (excess := over()) > 0:
        texts = [c for c in shown if not c.numeric and c.name not in pinned and c.width > NARROWEST]
        if texts:
            widest = max(texts, key=lambda c: c.width)
            widest.width = max(NARROWEST, widest.width - excess)
            continue
        loose = [c for c in shown[1:] if c.name not in pinned] or shown[1:]
        if not loose:
            break
        shown.remove(loose[-1])
    if len(shown) < len(columns):  # what was narrowed for a column that went may be wide again
        for column in sorted(shown, key=lambda c: c.width):
            wanted = min(WIDEST, max(map(width, column.texts)))
            column.width = min(wanted, column.width + max(0, -over()))
    return shown


def cell_text(value: object) -> str:
    """Give the text of one value in one line.

    Examples
    --------
    >>> cell_text(File("artifacts/forecast.parquet", 812, "9f"))
    'forecast.parquet'
    >>> cell_text([1, 2.50001, "a"])
    '[1, 2.5, a]'
    """
    match value:
        case None:
            return "-"
        case str():
            return for_terminal(value)
        case bool():
            return str(value)
        case int():
            return _whole(value)
        case float():
            return f"{value:.{DIGITS}g}"
        case File():
            return for_terminal(PurePath(value.path).name)
        case list() | tuple():
            return f"[{_some([cell_text(each) for each in value[:WIDEST]])}]"
        case dict():
            pairs = list(value.items())[:WIDEST]
            return f"{{{_some([f'{for_terminal(str(name))}: {cell_text(each)}' for name, each in pairs])}}}"
        case dt.datetime():
            return value.isoformat(" ")
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return for_terminal(str(value))


def _some(texts: list[str]) -> str:
    return fit(", ".join(texts), WIDEST)


def numbers(values: Sequence[object]) -> list[str]:
    """Give the texts of a column of numbers, with the same count of decimals where that reads well."""
    sizes = [abs(value) for value in values if isinstance(value, float) and value and math.isfinite(value)]
    if not sizes or max(sizes) >= 1e7 or max(sizes) < 1e-3 or (min(sizes) < 1e-2 and max(sizes) >= 1e2):
        return [cell_text(value) for value in values]
    places = max(1, DIGITS - 1 - math.floor(math.log10(max(sizes))))
    texts = [f"{value:.{places}f}" if isinstance(value, float) else cell_text(value) for value in values]
    finite = [text for text, value in zip(texts, values, strict=True) if isinstance(value, float) and "." in text]
    spare = min([places - 1, *(len(text) - len(text.rstrip("0")) for text in finite)])
    return [text[:-spare] if spare and text in finite else text for text in texts]


def _whole(value: int) -> str:
    return str(value) if value.bit_length() <= 53 else f"{Decimal(value):.{DIGITS - 1}e}"  # str() of giants raises
