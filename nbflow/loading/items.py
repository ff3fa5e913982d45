"""Items: what a notebook is mapped over, with values that fit its parameters and places for messages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product
from math import prod
from pathlib import Path
from typing import Any

from ..errors import ParameterError, did_you_mean
from ..source import Notebook, Parameter
from ..values import Value
from .parameters import MisfitError, brief, check, converter, shared_values
from .tables import ABSENT, Column, read_table

__all__ = ["Items", "assignments", "build_items", "from_command_line"]

MOST = 1_000_000
"""Items of one run; more is a mistake in the grid, or a generator without an end."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a notebook is mapped over."""

    rows: list[dict[str, Value]]
    """Parameters of each item, without the shared ones."""
    shared: dict[str, Value]
    """Parameters that all items have."""
    varying: tuple[str, ...]
    """Names by which items are called: those whose values differ, or all if none does."""
    places: list[str]
    """Where each item stands: ``cities.csv:18``, ``item 3``."""
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Words:
    """What the ways to give items are called, where they were given."""

    parameters: str
    columns: Callable[[Sequence[str]], str]


_PYTHON = _Words("parameters", lambda names: f"columns={list(names)!r}")
_COMMAND = _Words("-p", lambda names: f"--columns {shlex.quote(','.join(names))}")


@dataclass(frozen=True, slots=True)
class _Factor:
    """Columns of equal length; items are the product of all factors."""

    source: str
    """What gave it: ``cities.csv``, ``--grid``."""
    columns: dict[str, Column]
    length: int
    place: Callable[[int], str]
    """Gives the place of a row, counted from 0."""
    text: bool = False
    """Whether cells are text that has no type yet."""
    comma: bool = False
    """Whether ``1,5`` may be a number."""
    own: bool = True
    """Whether its places are those of the items."""


def build_items(
    notebook: Notebook,
    *,
    items: Any = None,
    grid: Mapping[str, Iterable[Any]] | None = None,
    zip: Mapping[str, Iterable[Any]] | None = None,  # noqa: A002 - the name of the option
    parameters: Mapping[str, Any] | None = None,
    columns: Iterable[str] | None = None,
    place: str = "",
) -> Items:
    """Give the items of a map, from Python values.

    Parameters
    ----------
    notebook : Notebook
        Whose parameters they are.
    items : path, DataFrame, or iterable, optional
        A table, or one mapping per item, in item order; plain values for a notebook with one parameter.
    grid : mapping of names to lists, optional
        Every combination is an item; the last name varies fastest.
    zip : mapping of names to lists, optional
        Lists of equal length, taken side by side.
    parameters : mapping, optional
        What all items share.
    columns : iterable of str, optional
        The columns of ``items`` that are used; all by default.
    place : str, optional
        Where the shared parameters were given, for messages.

    Raises
    ------
    ParameterError
        If anything does not fit the notebook.
    TargetError
        If there is no such table.
    """
    factors = []
    if items is not None:
        factors.append(_selected(_given_items(items, notebook), _names(columns)))
    elif columns is not None:
        raise ParameterError("columns is given without items.", "It says which columns of items are used.")
    factors += [
        _grid_factor({name: _values("grid", name, values)}, "grid") for name, values in _mapping("grid", grid).items()
    ]
    if zip:
        lists = {name: _values("zip", name, values) for name, values in _mapping("zip", zip).items()}
        factors.append(_zip_factor(lists, "zip"))
    return _build(notebook, factors, _mapping("parameters", parameters), _PYTHON, place)


def from_command_line(
    notebook: Notebook,
    *,
    items: str | Path | None = None,
    grid: Sequence[str] = (),
    zip: Sequence[str] = (),  # noqa: A002 - the name of the option
    parameters: Sequence[str] = (),
    columns: str | None = None,
) -> Items:
    """Give the items of a map, from the texts of the command line.

    Parameters
    ----------
    notebook : Notebook
        Whose parameters they are.
    items : str or Path, optional
        A table.
    grid, zip : sequence of str, optional
        ``name=a,b`` each.
    parameters : sequence of str, optional
        ``name=value`` each.
    columns : str, optional
        ``a,b``: the columns of the table that are used.

    Raises
    ------
    ParameterError, TargetError
        As :func:`build_items`.
    """
    factors = []
    if items is not None:
        factors.append(_selected(_table(Path(items)), columns.split(",") if columns is not None else None))
    elif columns is not None:
        raise ParameterError("--columns is given without --items.", "It says which columns of the table are used.")
    factors += [_grid_factor({name: cells}, "--grid", text=True) for name, cells in _lists("--grid", grid).items()]
    if zip:
        factors.append(_zip_factor(_lists("--zip", zip), "--zip", text=True))
    return _build(notebook, factors, assignments("-p", parameters), _COMMAND, "-p")


def assignments(option: str, given: Iterable[str]) -> dict[str, str]:
    """Give names and texts of ``name=text`` options.

    Raises
    ------
    ParameterError
        Without ``=`` or name, and for a name that stands twice.

    Examples
    --------
    >>> assignments("-p", ["year=2026", "title=a=b"])
    {'year': '2026', 'title': 'a=b'}
    """
    found: dict[str, str] = {}
    one_value = option in ("-p", "-i")
    for text in given:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name:
            example = "city=Oslo" if one_value else "city=Oslo,Lima"
            raise ParameterError(f"{option} {text!r} is not NAME=VALUE.", f"Write it like this: {option} {example}")
        if name in found:
            merged = (
                "Keep one of the two."
                if one_value
                else f"Put them together: {option} {shlex.quote(f'{name}={found[name]},{value}')}"
            )
            raise ParameterError(f"{option} {name} is given twice: {found[name]!r} and {value!r}.", merged)
        found[name] = value
    return found


def _lists(option: str, given: Sequence[str]) -> dict[str, Column]:
    lists: dict[str, Column] = {}
    if not given:
        return lists
    from .documents import flow_items  # PyYAML is loaded for those who have something for it

    for name, text in assignments(option, given).items():
        try:
            lists[name] = list(flow_items(text))
        except ParameterError as problem:
            raise ParameterError(f"{option} {name}: {problem.message}", problem.remedy) from None
        if not lists[name]:
            raise ParameterError(f"{option} {name} has no values.", f"Write it like this: {option} {name}=A,B")
    return lists


# Factors


def _grid_factor(columns: dict[str, Column], option: str, *, text: bool = False) -> _Factor:
    cells = next(iter(columns.values()))
    return _Factor(option, columns, len(cells), lambda _: option, text=text, own=False)


def _zip_factor(columns: dict[str, Column], option: str, *, text: bool = False) -> _Factor:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ParameterError(
            f"The lists of {option} are not of equal length: {shown}.",
            f"{option} takes them side by side; for every combination use {option.replace('zip', 'grid')}.",
        )
    length = next(iter(lengths.values()))
    return _Factor(option, columns, length, lambda row: f"{option}, value {row + 1}", text=text, own=False)


def _table(path: Path) -> _Factor:
    table = read_table(path)
    return _Factor(str(path), table.columns, len(table.lines), table.place, text=table.text, comma=table.comma)


def _given_items(items: Any, notebook: Notebook) -> _Factor:
    if isinstance(items, (str, Path)):
        return _table(Path(items))
    if hasattr(items, "to_dicts"):  # polars
        return _mappings(items.to_dicts(), notebook)
    if hasattr(items, "to_dict") and hasattr(items, "columns"):
        return _frame(items)
    if isinstance(items, Mapping):
        raise ParameterError(
            "items is a mapping, and it takes a list with one mapping for each run.",
            f"For lists of values by name use grid={{{', '.join(f'{n!r}: [...]' for n in list(items)[:3])}}}.",
        )
    if not isinstance(items, Iterable) or isinstance(items, (bytes, set, frozenset)):
        raise ParameterError(
            f"items is {brief(items)} ({type(items).__name__}), which is no list.",
            'It takes a file, a DataFrame, or a list with one mapping for each run: items=[{"city": "Oslo"}].',
        )
    return _mappings(items, notebook)


def _frame(frame: Any) -> _Factor:
    """Give the columns of a DataFrame; what it calls missing is an empty cell, as in the CSV that it came from."""
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str):
            remedy = "Name the columns by text: frame.columns = [...], or frame.reset_index()."
            raise ParameterError(f"items: the DataFrame has a column called {name!r}, which is no text.", remedy)
        if names.count(name) > 1:
            raise ParameterError(f"items: the DataFrame has two columns called {name!r}.", "Rename one of them.")
    columns: dict[str, Column] = {}
    for name in names:
        missing = frame[name].isna().tolist()
        cells = frame[name].tolist()
        if any(missing):  # pandas turned the integers of this column into floats
            present = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
            whole = all(isinstance(cell, float) and cell.is_integer() for cell in present)
            cells = [
                ABSENT if gone else int(cell) if whole else cell for cell, gone in zip(cells, missing, strict=True)
            ]
        columns[name] = cells
    return _Factor("items", columns, len(frame), lambda row: f"items, row {row}")


def _mappings(items: Iterable[Any], notebook: Notebook) -> _Factor:
    rows = list(islice(items, MOST + 1))
    if len(rows) > MOST:
        raise _too_many(f"more than {MOST:,}", "items")
    if rows and not isinstance(rows[0], Mapping):
        name = _only_parameter(notebook, rows[0])
        rows = [{name: row} if not isinstance(row, Mapping) else row for row in rows]
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            remedy = 'Each item is a mapping of names to values: {"city": "Oslo"}.'
            raise ParameterError(f"item {number} is {brief(row)}, which is no mapping.", remedy, f"item {number}")
        names.update(dict.fromkeys(row))
    for name in names:
        if not isinstance(name, str):
            raise ParameterError(f"items: {name!r} is no name of a parameter.", "Names are text.")
    columns: dict[str, Column] = {name: [row.get(name, ABSENT) for row in rows] for name in names}
    return _Factor("items", columns, len(rows), lambda row: f"item {row}")


def _only_parameter(notebook: Notebook, value: Any) -> str:
    """Give the parameter that plain values are for: the one without a default, or the only one."""
    required = [p.name for p in notebook.parameters if not p.has_default]
    names = [p.name for p in notebook.parameters]
    for candidates in (required, names):
        if len(candidates) == 1:
            return candidates[0]
    name = (required or names or ["city"])[0]
    raise ParameterError(
        f"item 1 is {brief(value)}, and {notebook.name} has no single parameter that it could be for.",
        f'Say the name: items=[{{"{name}": {brief(value)}}}, ...], or grid={{"{name}": [{brief(value)}, ...]}}.',
    )


def _selected(factor: _Factor, columns: Sequence[str] | None) -> _Factor:
    if columns is None:
        return factor
    names = [name.strip() for name in columns]
    known = list(factor.columns)
    for name in names:
        if name not in factor.columns and (factor.length or known):
            raise ParameterError(
                f"{factor.source} has no column {name!r}.{did_you_mean(name, known)}", f"It has: {', '.join(known)}."
            )
    kept = {name: factor.columns[name] for name in names if name in factor.columns}
    return _Factor(factor.source, kept, factor.length, factor.place, factor.text, factor.comma)


def _names(columns: Iterable[str] | None) -> list[str] | None:
    if columns is None:
        return None
    return columns.split(",") if isinstance(columns, str) else list(columns)


def _mapping(option: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        example = '{"city": "Oslo"}' if option == "parameters" else '{"city": ["Oslo", "Lima"]}'
        raise ParameterError(f"{option} is {brief(given)}, not a mapping of names.", f"Write it as {option}={example}.")
    return given


def _values(option: str, name: str, values: Any) -> Column:
    if isinstance(values, (set, frozenset)):
        remedy = f'Give it an order: {option}={{"{name}": sorted(...)}}.'
        raise ParameterError(f"{option}: the values of {name} are a set, which has no order.", remedy)
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        remedy = f'Write it as {option}={{"{name}": [{brief(values)}]}}.'
        raise ParameterError(f"{option}: {name} is {brief(values)}, not a list of values.", remedy)
    found = list(islice(values, MOST + 1))
    if len(found) > MOST:
        raise _too_many(f"more than {MOST:,}", option)
    return found


def _too_many(count: str, source: str) -> ParameterError:
    return ParameterError(f"{source} asks for {count} runs.", f"nbflow takes up to {MOST:,} in one map. Make several.")


# Items


def _build(
    notebook: Notebook, factors: list[_Factor], parameters: Mapping[str, Any], words: _Words, place: str
) -> Items:
    _no_clashes(factors, parameters, words)
    _no_foreign_columns(notebook, factors, words)
    given = [*chain.from_iterable(f.columns for f in factors), *parameters]
    empty = any(f.length == 0 for f in factors)
    warnings = check(notebook, [*given, *(p.name for p in notebook.parameters if empty and not p.has_default)])
    shared = shared_values(notebook, parameters, text=words is _COMMAND, place=place)
    total = prod(f.length for f in factors)
    if total > MOST:
        raise _too_many(f"{total:,}", " × ".join(dict.fromkeys(f.source for f in factors)))
    factors = _fitted(notebook, factors)
    rows = _rows(factors)
    return Items(rows, shared, _varying(factors), _places(factors, len(rows)), warnings)


def _no_clashes(factors: list[_Factor], parameters: Mapping[str, Any], words: _Words) -> None:
    owner: dict[str, str] = {}
    for source, names in [*((f.source, f.columns) for f in factors), (words.parameters, parameters)]:
        for name in names:
            if name in owner:
                raise ParameterError(f"{name} is given by {owner[name]} and by {source}.", "Keep one of the two.")
            owner[name] = source


def _no_foreign_columns(notebook: Notebook, factors: list[_Factor], words: _Words) -> None:
    """Refuse columns of a table that are no parameters, and offer the others."""
    if not notebook.parameters_known or notebook.parameters_cell is None:
        return
    known = [p.name for p in notebook.parameters]
    for factor in factors:
        foreign = [name for name in factor.columns if name not in known]
        if factor.own and foreign:
            rest = [name for name in factor.columns if name in known]
            offer = f"\nWithout {'it' if len(foreign) == 1 else 'them'}: {words.columns(rest)}" if rest else ""
            raise ParameterError(
                f"{factor.source}: {notebook.name} has no parameter {', '.join(map(repr, foreign))}."
                f"{did_you_mean(foreign[0], [name for name in known if name not in rest])}",
                f"It has: {notebook.signature_text}.{offer}",
            )


def _fitted(notebook: Notebook, factors: list[_Factor]) -> list[_Factor]:
    """Give the factors with cells that fit, or report the first that does not."""
    known = {p.name: p for p in notebook.parameters}
    fitted = []
    for factor in factors:
        wrong: list[tuple[int, str, str]] = []
        columns: dict[str, Column] = {}
        for name, cells in factor.columns.items():
            parameter = known.get(name, Parameter(name, default_text="its default"))
            convert = converter(parameter, text=factor.text, comma=factor.comma, wanted_by=notebook.name)
            columns[name] = [
                _cell(cell, row, parameter, convert, wrong, notebook.name) for row, cell in enumerate(cells)
            ]
        if wrong:
            raise _first(factor, notebook, wrong)
        fitted.append(_Factor(factor.source, columns, factor.length, factor.place, own=factor.own))
    return fitted


def _cell(
    cell: Any,
    row: int,
    parameter: Parameter,
    convert: Callable[[Value], Value],
    wrong: list[tuple[int, str, str]],
    wanted_by: str,
) -> Any:
    """Give a fitting cell; note down one that does not fit."""
    if cell is ABSENT:
        if not parameter.has_default:
            wrong.append((row, parameter.name, f"is missing, and {wanted_by} has no default for it"))
        return cell
    try:
        return convert(cell)
    except MisfitError as problem:
        wrong.append((row, parameter.name, str(problem)))
        return cell


def _first(factor: _Factor, notebook: Notebook, wrong: list[tuple[int, str, str]]) -> ParameterError:
    row, name, why = min(wrong, key=lambda found: found[0])
    place = factor.place(row)
    parameter = next((p for p in notebook.parameters if p.name == name), None)
    remedies = []
    if parameter is None:
        remedies.append("Parameters are numbers, text, booleans, None, and lists and mappings of them.")
    elif factor.text and factor.own and parameter.has_default:
        remedies.append(f"An empty cell would take the notebook's default ({parameter.default_text}).")
    else:
        remedies.append(f"{notebook.name} says: {parameter} (cell {notebook.parameters_cell}).")
    if len(wrong) > 1:
        remedies.append(f"{len(wrong) - 1} more value{'s do' if len(wrong) > 2 else ' does'} not fit.")
    return ParameterError(f"{place}: {name} {why}.", "\n".join(remedies), place)


def _rows(factors: list[_Factor]) -> list[dict[str, Value]]:
    parts = [_factor_rows(factor) for factor in factors]
    if len(parts) == 1:
        return parts[0]
    return [{name: value for part in combination for name, value in part.items()} for combination in product(*parts)]


def _factor_rows(factor: _Factor) -> list[dict[str, Value]]:
    names = list(factor.columns)
    if not names:
        return [{} for _ in range(factor.length)]
    combined = map(partial(_row, names), *factor.columns.values())
    return list(combined)


def _row(names: Sequence[str], *cells: Any) -> dict[str, Value]:
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell is not ABSENT}


def _varying(factors: list[_Factor]) -> tuple[str, ...]:
    names = [name for factor in factors for name in factor.columns]
    differ = [
        name
        for factor in factors
        for name, cells in factor.columns.items()
        if any(cell is not cells[0] and cell != cells[0] for cell in cells)
    ]
    return tuple(differ or names)


def _places(factors: list[_Factor], count: int) -> list[str]:
    if len(factors) == 1 and factors[0].own:
        return [factors[0].place(row) for row in range(count)]
    own = [factor for factor in factors if factor.own]
    if own and count:
        each = count // own[0].length
        return [f"{own[0].place(row // each)}, item {row}" for row in range(count)]
    return [f"item {row}" for row in range(count)]
