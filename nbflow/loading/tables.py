"""Tables of items: CSV, TSV, JSON, JSON lines and YAML, column by column, with the line of each row."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import ParameterError, TargetError, did_you_mean
from ..values import Value

__all__ = ["ABSENT", "Absent", "Column", "Table", "read_table"]


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    CELL = "an empty cell"


ABSENT: Final = Absent.CELL
"""An empty cell: the notebook's default is taken. None is a value."""

Column: TypeAlias = "list[Value | Absent]"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a file."""

    path: Path
    columns: dict[str, Column]
    """Cells by column, in row order."""
    lines: list[int]
    """The line where each row begins, from 1."""
    text: bool
    """Whether cells are text that has no type yet."""
    comma: bool = False
    """Whether ``1,5`` may be a number (tables separated by semicolons)."""

    def place(self, row: int) -> str:
        """Give file and line of a row, counted from 0."""
        return f"{self.path}:{self.lines[row]}"


def read_table(path: Path) -> Table:
    """Read a table of items.

    Parameters
    ----------
    path : Path
        A ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` or ``.yml`` file in UTF-8, with or without BOM.

    Raises
    ------
    TargetError
        If there is no such file, or it cannot be read.
    ParameterError
        If it is no table, with the line.
    """
    ending = path.suffix.lower()
    if ending not in _READERS:
        raw_is_there(path)
        raise ParameterError(
            f"{path} is of no kind of table that nbflow reads ({ending or 'its name has no ending'}).",
            f"It reads {', '.join(_READERS)}. Others by pandas: nbflow.map(..., items=pandas.read_excel(...)).",
        )
    return _READERS[ending](path, _text(path))


def raw_is_there(path: Path) -> bytes:
    """Give the bytes of a file, or say why there are none.

    Raises
    ------
    TargetError
        If there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        near = sorted(p.name for p in folder.iterdir() if _is_table(p)) if folder.is_dir() else []
        where = "This folder" if folder == Path() else folder
        shown = f"{where} has: {', '.join(near[:8])}." if near else "Give the name of a table: --items FILE"
        raise TargetError(f"There is no table {path}.{did_you_mean(path.name, near)}", shown) from None
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise TargetError(f"{path} cannot be read: {why}.", f"Look at it: ls -ld {shlex.quote(str(path))}") from None


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in _READERS and not path.name.endswith(".nbflow.json")


def _text(path: Path) -> str:
    raw = raw_is_there(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        place = f"{path}:{raw.count(bytes([10]), 0, problem.start) + 1}"
        guess = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        new = path.with_name(f"{path.stem}-utf8{path.suffix}")
        raise ParameterError(
            f"{place}: byte {raw[problem.start]:#04x} is not UTF-8.",
            f"Save it as UTF-8 (in Excel: 'CSV UTF-8'), or convert it:\n"
            f"iconv -f {guess} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(new))}",
            place,
        ) from None


# CSV


def _separated(path: Path, text: str) -> Table:
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(text)
    rows = _rows(path, text, delimiter)
    header = next(rows, None)
    if header is None:
        raise ParameterError(f"{path} is empty.", "Its first line names the columns, each further line is one run.")
    names = _header(path, header[0], [name.strip() for name in header[1]])
    body: list[list[str]] = []
    lines: list[int] = []
    for line, row in rows:
        if len(row) != len(names):
            raise _ragged(path, line, row, names, delimiter)
        body.append(row)
        lines.append(line)
    if not body:
        raise ParameterError(
            f"{path} has a header ({', '.join(names)}) and no rows.", "Add a line for each run.", str(path)
        )
    columns: dict[str, Column] = {
        name: [ABSENT if not cell.strip() else cell for cell in cells]
        for name, cells in zip(names, zip(*body, strict=True), strict=True)
    }
    return Table(path, columns, lines, text=True, comma=delimiter == ";")


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give line and cells of each row that is not blank."""
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t")
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as problem:
            place = f"{path}:{line}"
            remedy = 'A quoted cell ends with " before the next separator; a quote inside it is written "".'
            raise ParameterError(f"{place}: this row cannot be read ({problem}).", remedy, place) from None
        if row is None:
            return
        if len(row) > 1 or lines[reader.line_num - 1].strip():  # "" is one empty cell, and a line of blanks is none
            yield line, row


def _delimiter(text: str) -> str:
    """Give the separator that the header has most of, outside of quotes."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"(?:[^"]|"")*"', "", header)
    return max((",", ";", "\t"), key=bare.count)


def _header(path: Path, line: int, names: list[str]) -> list[str]:
    place = f"{path}:{line}"
    if "" in names:
        number = names.index("") + 1
        remedy = f"Give column {number} a name, or delete it (pandas: to_csv(..., index=False))."
        raise ParameterError(f"{place}: column {number} of {len(names)} has no name.", remedy, place)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        at = [str(i) for i, name in enumerate(names, 1) if name == twice]
        message = f"{place}: the columns {' and '.join(at)} are both called {twice!r}."
        raise ParameterError(message, "Give each column a name of its own, or delete one.", place)
    return names


def _ragged(path: Path, line: int, row: Sequence[str], names: Sequence[str], delimiter: str) -> ParameterError:
    place = f"{path}:{line}"
    cells = f"{len(row)} cell" + "s" * (len(row) != 1)
    remedy = f"A cell with {'a tab' if delimiter == chr(9) else delimiter} in it wants quotes around it."
    if len(row) < len(names):
        remedy = "A cell may be empty, but its separator has to stand."
    columns = f"{len(names)} column" + "s" * (len(names) != 1)
    return ParameterError(f"{place}: this row has {cells}, and the header {columns}.", remedy, place)


# JSON and YAML


def _json(path: Path, text: str) -> Table:
    rows: list[Value] = []
    lines: list[int] = []
    line, counted = 1, 0
    try:
        for at, row in _elements(path, text):
            line, counted = line + text.count("\n", counted, at), at
            rows.append(row)
            lines.append(line)
    except (json.JSONDecodeError, _UnclearError, RecursionError) as problem:
        raise _not_json(path, getattr(problem, "lineno", line), problem) from None
    return _mappings(path, rows, lines)


def _elements(path: Path, text: str) -> Iterator[tuple[int, Value]]:
    """Give position and value of each element of a list: the json module alone would not tell positions."""
    at = _after_blanks(text, 0)
    if text[at : at + 1] != "[":
        _DECODER.decode(text)  # a syntax error is told as one
        raise _no_list(path)
    at = _after_blanks(text, at + 1)
    while text[at : at + 1] != "]":
        try:
            row, end = _DECODER.raw_decode(text, at)
        except _UnclearError as problem:
            raise json.JSONDecodeError(str(problem), text, at) from None
        yield at, row
        at = _after_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    if text[at + 1 :].strip():
        raise json.JSONDecodeError("Extra data", text, at + 1)


_BLANKS = re.compile(r"\s*")


def _after_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _json_lines(path: Path, text: str) -> Table:
    rows: list[Value] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(_DECODER.decode(line))
        except (json.JSONDecodeError, _UnclearError, RecursionError) as problem:
            raise _not_json(path, number, problem) from None
        lines.append(number)
    return _mappings(path, rows, lines)


class _UnclearError(Exception):
    """A key that stands twice, or a number that would become another: JSON allows it, and nobody can mean it."""


def _unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _UnclearError(f"the key {twice!r} stands twice")
    return mapping


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # infinity itself is a word, Infinity, and no number with digits
        raise _UnclearError(f"the number {_beginning(text)} is larger than any float")
    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _UnclearError(f"the number {_beginning(text)} has {len(text)} digits") from None


def _beginning(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:19]}…"


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_float, parse_int=_integer)


def _not_json(path: Path, line: int, problem: Exception) -> ParameterError:
    place = f"{path}:{line}"
    why = "nested too deep" if isinstance(problem, RecursionError) else getattr(problem, "msg", None) or str(problem)
    return ParameterError(f"{place}: this is not JSON ({why}).", f"Mend line {line}.", place)


def _no_list(path: Path) -> ParameterError:
    return ParameterError(
        f"{path} is no list of items.", "It is a list with one mapping of names to values for each run.", str(path)
    )


def _yaml(path: Path, text: str) -> Table:
    from .documents import load_yaml  # PyYAML is loaded for those who have something for it

    rows, lines = load_yaml(text, str(path))
    if not isinstance(rows, list):
        raise _no_list(path)
    return _mappings(path, rows, lines)


def _mappings(path: Path, rows: Sequence[Value], lines: list[int]) -> Table:
    names: dict[str, None] = {}
    for row, line in zip(rows, lines, strict=True):
        if not isinstance(row, dict):
            message = f"{path}:{line}: this item is {row!r:.40}, not a mapping of names to values."
            raise ParameterError(message, "Write it as {name: value}.", f"{path}:{line}")
        names.update(dict.fromkeys(row))
    columns: dict[str, Column] = {
        name: [row.get(name, ABSENT) for row in rows if isinstance(row, dict)] for name in names
    }
    return Table(path, columns, lines, text=False)


_READERS: dict[str, Callable[[Path, str], Table]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".tab": _separated,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".yml": _yaml,
    ".yaml": _yaml,
}
