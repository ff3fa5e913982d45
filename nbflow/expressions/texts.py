# ruff: noqa: FBT002 - names, order and defaults of the arguments are Jinja's
"""Filters of text and numbers: those of Jinja, strict, and refused before their result is too large."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from jinja2 import Environment
from jinja2 import filters as jinja
from jinja2.utils import url_quote

from .limits import ExpressionError, Meter, joined, text_fits
from .operations import described, is_number, json_text, measured, measured_text, number, whole

Function: TypeAlias = Callable[..., object]
"""A filter or test: takes what counts the operations, the value, and its arguments."""

_JINJA: Final = Environment()  # noqa: S701 - nothing here is HTML
_UNSET: Final = object()


# Of text


def _of_text(function: Callable[[str], object], cost: int = 0) -> Function:
    """Give the filter of a function that takes text, of so many operations for each character."""

    def of_text(meter: Meter, value: object) -> object:
        text = measured_text(meter, value)
        meter.spend(cost * len(text))
        return function(text)

    return of_text


def _center(meter: Meter, value: object, width: object = 80) -> object:
    return measured_text(meter, value).center(whole(width, "width"))


def _indent(meter: Meter, value: object, width: object = 4, first: object = False, blank: object = False) -> object:
    text = measured_text(meter, value)
    pad = width if isinstance(width, str) else " " * whole(width, "width")
    text_fits(len(text) + len(pad) * (len(f"{text}\n".splitlines()) - (not first)))
    return jinja.do_indent(text, pad, bool(first), bool(blank))


def _replace(meter: Meter, value: object, old: object, new: object, count: object = -1) -> object:
    text, before, after = (measured_text(meter, part) for part in (value, old, new))
    most = whole(count, "count")
    times = text.count(before) if most < 0 else min(most, text.count(before))
    text_fits(len(text) + times * (len(after) - len(before)))
    return text.replace(before, after, most)


def _trim(meter: Meter, value: object, chars: object = None) -> object:
    text, signs = measured_text(meter, value), None if chars is None else measured_text(meter, chars)
    meter.spend(len(text) * len(signs or "") // 1000)
    return text.strip(signs)


def _truncate(
    meter: Meter,
    value: object,
    length: object = 255,
    killwords: object = False,
    end: object = "...",
    leeway: object = 5,
) -> object:
    text, behind = measured_text(meter, value), measured_text(meter, end)
    most, slack = whole(length, "length", len(behind)), whole(leeway, "leeway", 0)
    return jinja.do_truncate(_JINJA, text, most, bool(killwords), behind, slack)


def _urlencode(meter: Meter, value: object) -> object:
    if isinstance(value, str) or not isinstance(value, (Mapping, Sequence)):
        return _quoted(meter, value, query=False)
    pairs = value.items() if isinstance(value, Mapping) else value
    return joined("&", ("=".join(_quoted(meter, part, query=True) for part in (key, part)) for key, part in pairs))


def _quoted(meter: Meter, value: object, *, query: bool) -> str:
    text = measured_text(meter, value)
    meter.spend(len(text))
    return url_quote(text, for_qs=query)


def _wordwrap(
    meter: Meter,
    value: object,
    width: object = 79,
    break_long_words: object = True,
    wrapstring: object = "\n",
    break_on_hyphens: object = True,
) -> object:
    text, between, most = measured_text(meter, value), measured_text(meter, wrapstring), whole(width, "width", 1)
    longest = max(map(len, text.split()), default=0)
    meter.spend(4 * len(text) + longest * longest // most // 1000)  # each break of a long word copies its rest
    wrapped = jinja.do_wordwrap(_JINJA, text, most, bool(break_long_words), "\n", bool(break_on_hyphens))
    text_fits(len(wrapped) + wrapped.count("\n") * (len(between) - 1))
    return wrapped.replace("\n", between)


_CONVERSION: Final = re.compile(r"%(?:\(([^()%]*)\))?([#0\- +]*)(\d*)(?:\.(\d*))?[hlL]?(.?)", re.DOTALL)


def _format(meter: Meter, value: object, /, *args: object, **kwargs: object) -> object:
    if args and kwargs:
        raise ExpressionError("either all values have names, or none has.")
    return joined("", _filled(meter, measured_text(meter, value), iter(args), kwargs))


def _filled(meter: Meter, text: str, values: Iterator[object], named: Mapping[str, object]) -> Iterator[str]:
    """Give the parts of a text, with values in the places of ``%03d`` and ``%(name)s``."""
    at = 0
    for found in _CONVERSION.finditer(text):
        yield text[at : found.start()]
        at = found.end()
        if found[5] == "%":
            yield "%"
            continue
        value = next(values, _UNSET) if found[1] is None else named.get(found[1], _UNSET)
        if value is _UNSET:
            raise ExpressionError(f"there is no value for {found[0]!r}.")
        yield _converted(meter, found, value)
    yield text[at:]
    if next(values, _UNSET) is not _UNSET:
        raise ExpressionError("there are more values than places for them.")


def _converted(meter: Meter, found: re.Match[str], value: object) -> str:
    """Give the text of one value, as its place says."""
    _, flags, width, precision, letter = found.groups()
    for size in (width, precision):
        text_fits(int(size or 0))
    spec = f"%{flags}{width}{'' if precision is None else '.' + precision}{letter}"
    if letter == "s":
        return spec % measured_text(meter, value)
    if letter in tuple("diouxXeEfFgG") and is_number(value):
        return spec % value
    raise ExpressionError(
        f"{found[0]!r} does not write {described(value)}.",
        "Text is written by %s, numbers by %d, %f, %e, %g, %x or %o.",
    )


# Of numbers, and between text and values


def _abs(meter: Meter, value: object) -> object:  # noqa: ARG001
    return abs(number(value))


def _filesizeformat(meter: Meter, value: object, binary: object = False) -> object:  # noqa: ARG001
    return jinja.do_filesizeformat(number(value), bool(binary))


def _float(meter: Meter, value: object, default: object = _UNSET) -> object:  # noqa: ARG001
    return _or_default(jinja.FILTERS["float"](value, None), default)


def _int(meter: Meter, value: object, default: object = _UNSET, base: object = 10) -> object:  # noqa: ARG001
    return _or_default(jinja.FILTERS["int"](value, None, base), default)


def _or_default(converted: object, default: object) -> object:
    if converted is None and default is _UNSET:
        raise ExpressionError("it is no number.", "Where it may be something else, give what stands for it: `int(0)`.")
    return default if converted is None else converted


def _round(
    meter: Meter,  # noqa: ARG001
    value: object,
    precision: object = 0,
    method: Literal["common", "ceil", "floor"] = "common",
) -> object:
    return jinja.do_round(number(value), whole(precision, "precision", -300, 300), method)


def _from_json(meter: Meter, value: object) -> object:
    if not isinstance(value, str):
        raise ExpressionError("it is no text.")
    meter.spend(len(value) // 10)
    return json.loads(value)


def _tojson(meter: Meter, value: object, indent: object = None) -> object:
    return json_text(measured(meter, value), None if indent is None else whole(indent, "indent", 0, 100))


TEXT_FILTERS: Final[dict[str, Function]] = {
    "abs": _abs,
    "capitalize": _of_text(str.capitalize),
    "center": _center,
    "filesizeformat": _filesizeformat,
    "float": _float,
    "format": _format,
    "from_json": _from_json,
    "indent": _indent,
    "int": _int,
    "lower": _of_text(str.lower),
    "replace": _replace,
    "round": _round,
    "string": measured_text,
    "title": _of_text(jinja.do_title, cost=1),
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _of_text(str.upper),
    "urlencode": _urlencode,
    "wordcount": _of_text(jinja.do_wordcount, cost=1),
    "wordwrap": _wordwrap,
}
"""Those whose result is text or a number, and ``from_json``."""
