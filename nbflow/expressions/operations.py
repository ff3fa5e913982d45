"""Operations on values: strict about types, and refused before their result is too large."""

from __future__ import annotations

import datetime as dt
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import PurePath
from typing import Final, TypeGuard

from jinja2 import StrictUndefined, nodes

from ..errors import did_you_mean
from ..values import File, Value, argument
from .limits import IF_MISSING, LONGEST_TEXT, ExpressionError, Meter, Size, joined, list_fits, number_fits, text_fits

_TIMES: Final = (dt.date, dt.time, dt.timedelta)
_SCALARS: Final = (bool, int, float, type(None), File, *_TIMES)


# What a value is


def kind(value: object) -> str:
    """Give what people call the type of a value."""
    return next((name for types, name in _KINDS if isinstance(value, types)), type(value).__name__)


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (str, "text"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (type(None), "none"),
    (Mapping, "a mapping"),
    (Sequence, "a list"),
    (dt.datetime, "a date with time"),
    (dt.date, "a date"),
    (dt.time, "a time"),
    (dt.timedelta, "a duration"),
    (File, "a file"),
)


def described(value: object) -> str:
    """Give a value and its kind for a message: ``'5' (text)``, ``a list of 3``."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return f"{kind(value)} of {len(value)}"
    shown = repr(value[:40] if isinstance(value, str) else value)
    return f"{shown:.60} ({kind(value)})"


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: object) -> float:
    """Give an argument that is a number."""
    if is_number(value):
        return value
    raise ExpressionError(f"{described(present(value))} is no number.")


def whole(value: object, name: str, least: int = -LONGEST_TEXT, most: int = LONGEST_TEXT) -> int:
    """Give an argument that is a whole number, from ``least`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ExpressionError(f"{name} is {described(value)}, and no whole number from {least:,} to {most:,}.")
    return value


def plain(value: object) -> Value:
    """Give a value of plain types: views are read, tuples become lists.

    Raises
    ------
    ExpressionError
        If it is, or contains, something that is not there or is no value.
    """
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    raise ExpressionError(f"{described(present(value))} is no value.")


def text_of(value: object) -> str:
    """Give the text form of a value: what it is inside of a text.

    Text stays as it is. Numbers are written as Python writes them, dates as ISO 8601, a file as its path,
    and true, false, lists and mappings as JSON.

    Raises
    ------
    ExpressionError
        For ``None``, and for what is not there.

    Examples
    --------
    >>> [text_of(value) for value in ("a", 5, 0.5, True, [1, None, "x"])]
    ['a', '5', '0.5', 'true', '[1, null, "x"]']
    """
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        raise ExpressionError("none is no text.", "Say what stands for it: `| default('...', true)`.")
    if is_number(value):
        return str(value)
    return json_text(value) if isinstance(value, (bool, Mapping, Sequence)) else str(_portable(value))


def measured_text(meter: Meter, value: object) -> str:
    """Give the text form of a value that is within the limits."""
    return text_of(measured(meter, value))


def measured(meter: Meter, value: object) -> object:
    """Give a value that is within the limits, and not sure to have a text form beyond them."""
    size = Size(meter)
    size.add(value)
    text_fits(size.characters + 2 * size.items)  # JSON has at least two signs for each item
    return value


def json_text(value: object, indent: int | None = None) -> str:
    """Give the JSON text of a value."""
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, default=_portable)
    return joined("", encoder.iterencode(value))


def _portable(value: object) -> object:
    """Give a value of types that JSON has."""
    if isinstance(value, File) and not PurePath(value.path).is_absolute():  # where the run is kept is not known here
        raise ExpressionError(
            f"{described(value)} has no path inside of a text.",
            "Give it alone, as a value of its own, and the step gets its path: '{{ steps.load.output.table }}'",
        )
    return argument(plain(value))


# What is not there


class Missing(StrictUndefined):
    """What is not there: it may be looked into, tested, and given a default, but not used.

    Parameters
    ----------
    why : str, or callable that gives it
        What is missing, in full; called when it is used, as a search for similar keys takes time.
    """

    __slots__ = ("_why",)

    def __init__(self, why: str | Callable[[], str]) -> None:
        super().__init__()
        self._why = why

    @property
    def _undefined_message(self) -> str:
        return self._why if isinstance(self._why, str) else self._why()

    def error(self) -> ExpressionError:
        """Give the error of its use."""
        return ExpressionError(self._undefined_message, IF_MISSING)


def present(value: object) -> object:
    """Give a value, or raise if it is not there."""
    if isinstance(value, Missing):
        raise value.error()
    return value


def lookup(owner: object, key: object, node: nodes.Expr | None = None) -> object:
    """Give what stands under a key or index: never an attribute.

    Parameters
    ----------
    owner : mapping, list or text
        Where it is looked up.
    key : str or int
        Which one.
    node : jinja2.nodes.Expr, optional
        What gave the owner, for the message.
    """
    try:
        if isinstance(owner, Mapping):
            if isinstance(key, str):
                return owner[key]
        elif isinstance(owner, Sequence):
            if isinstance(key, int) and not isinstance(key, bool):
                return owner[key]
        elif isinstance(owner, Missing):
            return owner
    except LookupError:
        pass
    present(key)
    return Missing(lambda: _absent(owner, key, node))


def _absent(owner: object, key: object, node: nodes.Expr | None) -> str:
    where = "(an item)" if node is None else written(node)
    if isinstance(key, str):
        key = key[:60]
    absent = f"{where}{step(key) if isinstance(key, (str, int)) else f'[{described(key)}]'} is not there"
    if isinstance(owner, Mapping):
        return f"{absent}.{did_you_mean(str(key), list(islice(owner, 1000)))}"
    if isinstance(owner, Sequence) and isinstance(key, int):
        return f"{absent}: {where} has {len(owner)} {'characters' if isinstance(owner, str) else 'items'}."
    return f"{absent}: {where} is {described(owner)}."


def written(node: nodes.Node) -> str:
    """Give a reference as a person would write it; dots for what is none."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Const():
            return repr(node.value)
        case nodes.Getattr():
            return written(node.node) + step(node.attr)
        case nodes.Getitem(arg=nodes.Const(value=key)):
            return written(node.node) + step(key)
        case nodes.Getitem():
            return f"{written(node.node)}[{written(node.arg)}]"
        case _:
            return "(...)"


def step(key: str | int) -> str:
    """Give a key as it is written behind what has it: ``.output``, ``['load-data']``, ``[0]``."""
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


# Operators


def same(meter: Meter, left: object, right: object) -> bool:
    """Tell whether two values are equal; nothing is converted, and true is not 1."""
    meter.touch(left)
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(meter, part, right[key]) for key, part in left.items())
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        return len(left) == len(right) and all(same(meter, *pair) for pair in zip(left, right, strict=True))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def contains(meter: Meter, container: object, part: object) -> bool:
    """Tell whether a text has a part, a list an item, or a mapping a key."""
    if isinstance(container, Mapping):
        return isinstance(part, str) and part in container
    meter.touch(container)
    if isinstance(container, str):
        if isinstance(part, str):
            return part in container
    elif isinstance(container, Sequence):
        return any(same(meter, item, part) for item in container)
    raise ExpressionError(f"{described(part)} cannot be in {described(container)}.")


def ordered(sign: str, left: object, right: object) -> bool:
    """Tell whether two numbers, two texts, or two dates stand in this order."""
    orderable([left, right])
    return _ORDERS[sign](left, right)


def orderable(values: Iterable[object]) -> None:
    """Refuse values that have no order: they are all numbers, all text, or all dates."""
    for left, right in pairwise(map(present, values)):
        if not _family(left) or _family(left) != _family(right):
            raise ExpressionError(f"{described(left)} and {described(right)} have no order.")


def _family(value: object) -> tuple[object, ...]:
    """Give what the values have in common that have an order with this one; nothing if it has none."""
    if isinstance(value, _TIMES):
        return type(value), getattr(value, "tzinfo", None) is None
    return (str,) if isinstance(value, str) else (int,) if is_number(value) else ()


_ORDERS: Final[dict[str, Callable[..., bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def arithmetic(meter: Meter, sign: str, left: object, right: object) -> object:
    """Give what one of ``+ - * / // % **`` makes of two values."""
    left, right = _concrete(left), _concrete(right)
    if sign == "%" and isinstance(left, str):
        raise ExpressionError("% is for numbers, not for text.", "Text is filled in by a filter: 'id-%03d' | format(5)")
    if isinstance(left, bool) or isinstance(right, bool):
        raise ExpressionError(f"{described(left)} {sign} {described(right)}: true and false are no numbers.")
    _result_fits(meter, sign, left, right)
    try:
        result = _OPERATORS[sign](left, right)
    except (TypeError, ArithmeticError) as problem:
        glue = "Text and other values are put together by ~." if isinstance(left, str) or isinstance(right, str) else ""
        raise ExpressionError(f"{described(left)} {sign} {described(right)}: {problem}.", glue) from None
    if isinstance(result, complex):
        raise ExpressionError(f"{described(left)} {sign} {described(right)} is no real number.")
    Size(meter).add(result)
    return result


def _concrete(value: object) -> object:
    """Give a list for a view of one: Python adds and multiplies only lists."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, list)) else value


def _result_fits(meter: Meter, sign: str, left: object, right: object) -> None:
    """Refuse an operation whose result would be too large."""
    match sign, left, right:
        case "+", str(), str():
            text_fits(len(left) + len(right))
        case "+", list(), list():
            list_fits(len(left) + len(right))
        case "*", int(), str() | list():
            _result_fits(meter, sign, right, left)
        case "*", str(), int():
            text_fits(len(left) * right)
        case "*", list(), int():
            size = Size(meter)
            size.add(left)
            list_fits(size.items * right)
        case "*", int(), int():
            number_fits(left.bit_length() + right.bit_length() - 1)
        case "**", int(), int():
            number_fits((left.bit_length() - 1) * right)


_OPERATORS: Final[dict[str, Callable[[object, object], object]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
