"""Parameters: what is given is made to fit the parameters of the notebook, or refused by name.

An annotation is strict: ``depth: int`` takes 3, and 3.0 as 3, but neither 2.5 nor true. A bare default is lenient:
``depth = 3`` takes 2.5 and None too. A default of None takes everything. An int for a float becomes a float.
"""

from __future__ import annotations

import ast
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ..errors import ParameterError, did_you_mean
from ..source import Cell, Notebook, Parameter, Type, syntax_tree
from ..values import File, NotAValueError, Value, argument, passed, tagged
from .scalars import Quoted, core, plain

__all__ = ["MisfitError", "check", "converter", "shared_values", "typed"]

_INTEGER = re.compile(r"[-+]?[0-9]+")
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[-+]?\.?(inf|nan|infinity)", re.IGNORECASE)
_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)?")


class MisfitError(Exception):
    """A value that a parameter does not take; its text goes on from the parameter's name."""


def typed(value: Value, parameter: Parameter, *, text: bool) -> Value:
    """Give the value that a parameter gets.

    Parameters
    ----------
    value : Value
        What was given.
    parameter : Parameter
        Whom it is for.
    text : bool
        Whether it is text to be read (command line, CSV) or a value to be checked.

    Raises
    ------
    ParameterError
        If the parameter does not take it.

    Examples
    --------
    >>> from nbflow.source import Type
    >>> typed("1e3", Parameter("depth", type=Type(("int",), strict=True)), text=True)
    1000
    """
    try:
        return converter(parameter, text=text)(value)
    except MisfitError as problem:
        raise ParameterError(f"{parameter.name} {problem}.") from None


def converter(
    parameter: Parameter, *, text: bool, comma: bool = False, wanted_by: str = "it"
) -> Callable[[Value], Value]:
    """Give the function that makes values fit one parameter; a column of a table calls it for each cell.

    Parameters
    ----------
    parameter : Parameter
        Whom the values are for.
    text : bool
        Whether they are text to be read.
    comma : bool, optional
        Whether ``1,5`` is a number, as in tables that are separated by semicolons.
    wanted_by : str, optional
        Whose parameter it is, for messages.

    Returns
    -------
    function
        Takes a value and gives the fitting one, or raises :class:`MisfitError`.
    """
    fit = partial(_read, kind=parameter.type, comma=comma) if text else partial(_fit, kind=parameter.type)

    def convert(value: Value) -> Value:
        try:
            fitting = fit(value)
            tagged(fitting)  # what cannot be written is refused here, by its name
        except _WrongError:
            raise MisfitError(f"is {_shown(value)}, but {wanted_by} wants {parameter.type}") from None
        except NotAValueError as problem:
            raise MisfitError(f"is {problem}, which no parameter can be") from None
        except ParameterError as problem:
            raise MisfitError(f"cannot be read: {problem.message.rstrip('.')}") from None
        return fitting

    return convert


class _WrongError(Exception):
    """The value does not fit."""


def _shown(value: Value) -> str:
    text = repr(str(value)) if isinstance(value, str) else brief(value, 61)
    return text if len(text) <= 60 else text[:57] + "..."


def brief(value: object, size: int = 40) -> str:
    """Give the beginning of a value's text, whatever it is.

    Examples
    --------
    >>> brief([2**20000])
    'a value of the type list'
    """
    try:
        return repr(value)[:size]
    except ValueError:  # Python refuses to write more digits than sys.get_int_max_str_digits()
        return f"a value of the type {type(value).__name__}"


def _kind(value: Value) -> str:
    if isinstance(value, File):
        return "str"  # its path arrives
    return "none" if value is None else type(value).__name__


def _fit(value: Value, kind: Type) -> Value:
    """Give a Python value as the type takes it."""
    return _fitted(passed(value), kind)


def _fitted(value: Value, kind: Type) -> Value:
    if not kind.kinds:
        return value
    given = _kind(value)
    if kind.choices:
        if any(_kind(choice) == given and choice == value for choice in kind.choices):
            return value
        raise _WrongError
    if isinstance(value, int) and given == "int" and "int" not in kind.kinds and "float" in kind.kinds:
        return _as_float(value, kind)
    if isinstance(value, float) and "float" not in kind.kinds and "int" in kind.kinds:
        if not kind.strict:
            return value
        if value.is_integer():
            return int(value)
    if given not in kind.kinds and not (value is None and not kind.strict):
        raise _WrongError
    if kind.item is not None and isinstance(value, list):
        return [_fitted(element, kind.item) for element in value]
    if kind.item is not None and isinstance(value, dict):
        return {key: _fitted(element, kind.item) for key, element in value.items()}
    return value


def _as_float(value: int, kind: Type) -> Value:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number == value:
        return number
    if kind.strict:  # it would arrive as another number
        raise _WrongError
    return value


def _read(value: Value, kind: Type, *, comma: bool) -> Value:
    """Give the value of a text, read as the type says."""
    text = str(argument(value))
    if not kind.kinds:
        return text if isinstance(value, Quoted) else core(text)
    if text in kind.choices:
        return text
    if "str" in kind.kinds and not kind.choices:
        return _text_or_more(text, kind, quoted=isinstance(value, Quoted))
    stripped = text.strip()
    if comma and {"int", "float"} & set(kind.kinds) and _COMMA.fullmatch(stripped):
        stripped = stripped.replace(",", ".")
    number = _number(stripped, kind)
    read = core(stripped) if number is None else number
    if read is None and "none" not in kind.kinds:
        raise _WrongError
    return _fitted(read, kind)


def _text_or_more(text: str, kind: Type, *, quoted: bool) -> Value:
    """Give the value of a text for a type that takes text, and perhaps more."""
    if kind.kinds == ("str",) or quoted:
        return text
    if "none" in kind.kinds and text in ("null", "Null", "NULL"):
        return None
    value = core(text) if text.strip()[:1] in ("[", "{") and {"list", "dict"} & set(kind.kinds) else plain(text.strip())
    if value is None or isinstance(value, str):
        return text
    try:
        return _fitted(value, kind)
    except _WrongError:
        return text


def _number(text: str, kind: Type) -> Value:
    """Give the number of a text for a type that takes numbers; leading zeros are no code there."""
    if "int" in kind.kinds and _INTEGER.fullmatch(text):
        return int(text) if len(text) < 4000 else None
    if "float" in kind.kinds and (_DECIMAL.fullmatch(text) or _WORD.fullmatch(text)):
        number = float(text.replace(".", "", 1) if _WORD.fullmatch(text) else text)
        return number if math.isfinite(number) or _WORD.fullmatch(text) else None
    return None


# Names


def check(notebook: Notebook, names: Iterable[str]) -> list[str]:
    """Check that the notebook has the parameters that are given, and is given those that it needs.

    Parameters
    ----------
    notebook : Notebook
        Whose parameters they are.
    names : iterable of str
        All names that are given, by items or to all.

    Returns
    -------
    list of str
        Warnings: parameters that keep a value computed from an old default.

    Raises
    ------
    ParameterError
        For unknown and for missing names.
    """
    given = list(dict.fromkeys(names))
    if not notebook.parameters_known:
        return []
    if given and notebook.parameters_cell is None:
        raise _untagged(notebook, given)
    known = {p.name: p for p in notebook.parameters}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise _unknown(notebook, unknown, list(known))
    missing = [p for p in notebook.parameters if not p.has_default and p.name not in given]
    if missing:
        names_text = ", ".join(p.name for p in missing)
        raise ParameterError(
            f"{notebook.name} needs {names_text}: no value is given, and no default (cell {notebook.parameters_cell}).",
            f"Give it: -p {missing[0].name}=VALUE (in Python: parameters={{'{missing[0].name}': VALUE}}).",
        )
    return _stale(notebook, given)


def _stale(notebook: Notebook, given: list[str]) -> list[str]:
    found = []
    for parameter in notebook.parameters:
        overridden = [name for name in parameter.computed_from if name in given]
        if overridden and parameter.name not in given:
            found.append(
                f"{parameter.name} = {parameter.default_text} in cell {notebook.parameters_cell} of {notebook.name} is "
                f"computed before {' and '.join(overridden)} is given, so it keeps the value of the default. "
                f"Move that line to the next cell."
            )
    return found


def _unknown(notebook: Notebook, unknown: list[str], known: list[str]) -> ParameterError:
    near = did_you_mean(unknown[0], known)
    what = f"no parameter {unknown[0]!r}" if len(unknown) == 1 else f"no parameters {', '.join(map(repr, unknown))}"
    return ParameterError(f"{notebook.name} has {what}.{near}", f"It has: {notebook.signature_text}.")


def _untagged(notebook: Notebook, given: list[str]) -> ParameterError:
    cell = _likeliest(notebook.cells, given)
    return ParameterError(
        f"{notebook.name} has no cell tagged parameters, so it cannot be given {', '.join(given)}.",
        f"The likeliest is cell {cell}. Tag it:\nnbflow tag {shlex.quote(str(notebook.path))} {cell} parameters",
    )


def _likeliest(cells: Iterable[Cell], given: list[str]) -> int:
    """Give the number of the cell that looks most like parameters: the one that assigns the names, else literals."""
    best, best_score = 1, (0, 0)
    for cell in cells:
        try:
            body = syntax_tree(cell.source).body
        except (SyntaxError, ValueError, RecursionError):
            continue
        names = [name for statement in body if (name := _literal(statement))]
        mostly = len(names) * 2 > len(body)
        score = (sum(name in given for name in names), int(mostly))
        if score > best_score:
            best, best_score = cell.number, score
    return best


def _literal(statement: ast.stmt) -> str:
    """Give the name that a literal is assigned to, or nothing."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value)
        ):
            try:
                ast.literal_eval(value or ast.Constant(None))
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return ""
            return name
    return ""


def shared_values(notebook: Notebook, given: Mapping[str, Value], *, text: bool, place: str = "") -> dict[str, Value]:
    """Give the values of parameters that all items share; their names must have been checked.

    Raises
    ------
    ParameterError
        If one does not fit.
    """
    known = {p.name: p for p in notebook.parameters}
    values: dict[str, Value] = {}
    for name, value in given.items():
        parameter = known.get(name, Parameter(name))
        try:
            values[name] = converter(parameter, text=text, wanted_by=notebook.name)(value)
        except MisfitError as problem:
            start = f"{place}: " if place else ""
            default = (
                f"Without it the notebook's default is taken ({parameter.default_text})."
                if parameter.has_default
                else ""
            )
            raise ParameterError(f"{start}{name} {problem}.", default, place) from None
    return values
