# ruff: noqa: FBT002 - names, order and defaults of the arguments are Jinja's
"""Filters and tests: Jinja's own, by key instead of attribute, strict, and within limits.

What a function here does not do itself, Jinja's does. A filter that makes something large of something
small refuses it first; what comes out is measured as well, while it is put together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from jinja2 import Environment, UndefinedError
from jinja2 import filters as jinja
from jinja2 import tests as jinja_tests

from ..errors import did_you_mean
from .limits import IF_MISSING, ExpressionError, Meter, Size, joined
from .operations import (
    Missing,
    contains,
    described,
    is_number,
    lookup,
    measured_text,
    number,
    orderable,
    ordered,
    present,
    same,
    whole,
)
from .texts import TEXT_FILTERS, Function

_Attribute: TypeAlias = str | int | None


class CallError(ExpressionError):
    """A filter or test failed; the message names it."""


class KeyEnvironment(Environment):
    """Jinja's environment, in which nothing has attributes, and filters of items are ours."""

    def getitem(self, obj: object, argument: object) -> object:
        """Give what stands under a key."""
        return lookup(obj, argument)

    def getattr(self, obj: object, attribute: str) -> object:
        """Give what stands under a key."""
        return lookup(obj, attribute)

    def call_filter(
        self,
        name: str,
        value: object,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        context: object = None,
        eval_ctx: object = None,  # noqa: ARG002 - the signature is Jinja's
    ) -> object:
        """Give what a filter makes of an item."""
        assert isinstance(context, Run), "no other context calls a filter"
        return context.filter(name, value, args or (), kwargs or {})

    def call_test(
        self,
        name: str,
        value: object,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        context: object = None,
        eval_ctx: object = None,  # noqa: ARG002 - the signature is Jinja's
    ) -> bool:
        """Tell whether a test holds for an item."""
        assert isinstance(context, Run), "no other context calls a test"
        return context.test(name, value, args or (), kwargs or {})


ENVIRONMENT: Final = KeyEnvironment(undefined=Missing)


class Run(Meter):
    """One evaluation, as filters and tests see it. Those of Jinja take it for their context."""

    environment: Final = ENVIRONMENT

    def filter(self, name: str, value: object, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """Give what a filter makes of a value."""
        self.spend()
        if name not in ("default", "d"):
            _all_present(value, args, kwargs)
        try:
            if name in _MAKES_NOTHING:
                return FILTERS[name](self, value, *args, **kwargs)
            self.touch(value)
            return self._made(FILTERS[name](self, value, *args, **kwargs))
        except Exception as problem:
            raise _call_error(f"the filter {name!r} of {described(value)}", problem) from problem

    def test(self, name: str, value: object, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
        """Tell whether a test holds for a value."""
        self.spend()
        if name not in ("defined", "undefined"):
            _all_present(value, args, kwargs)
        try:
            return bool(TESTS[name](self, value, *args, **kwargs))
        except Exception as problem:
            raise _call_error(f"the test {name!r} of {described(value)}", problem) from problem

    def _made(self, result: object) -> object:
        """Give a result that is within the limits; what comes bit by bit, or as tuples, as lists."""
        size = Size(self)
        if not isinstance(result, (list, Iterator)):
            size.add(result)
            return result
        items: list[object] = []
        for item in result:
            items.append(list(item) if isinstance(item, tuple) else item)
            size.grow(1)
            size.add(items[-1], depth=1)
        return items


def _all_present(value: object, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    for used in (value, *args, *kwargs.values()):
        present(used)


def _call_error(what: str, problem: Exception) -> CallError:
    match problem:
        case CallError():  # it names the filter of an item
            return problem
        case ExpressionError():
            return CallError(f"{what}: {problem.message}", problem.remedy)
        case UndefinedError():
            return CallError(f"{what}: {problem}", IF_MISSING)
        case _:
            return CallError(f"{what}: {str(problem).rstrip('.')}.")


def check_call(
    what: Literal["filter", "test"], name: object, args: Sequence[object], kwargs: Mapping[str, object]
) -> None:
    """Refuse a filter or test that does not exist, and arguments that it does not have."""
    known = FILTERS if what == "filter" else TESTS
    if not isinstance(name, str) or name not in known:
        raise ExpressionError(
            f"there is no {what} {name!r:.60}.{did_you_mean(str(name)[:60], list(known))}",
            f"There are {', '.join(sorted(filter(str.isidentifier, known)))}.",
        )
    try:
        inspect.signature(known[name]).bind(None, None, *args, **kwargs)
    except TypeError as problem:
        raise ExpressionError(f"the {what} {name!r}: {problem}.") from None


# Of lists and mappings


def _items(value: object) -> Collection[object]:
    """Give what a list, mapping or text is made of."""
    if isinstance(value, (Mapping, Sequence)):
        return value
    raise ExpressionError("it has no items.")


def _read(attribute: _Attribute, default: object = None) -> Callable[[object], object]:
    return jinja.make_attrgetter(ENVIRONMENT, attribute, default=default)


def _batch(run: Run, value: object, linecount: object, fill_with: object = None) -> object:  # noqa: ARG001
    return jinja.FILTERS["batch"](_items(value), whole(linecount, "linecount", 1), fill_with)


def _contains(run: Run, value: object, part: object) -> object:
    return contains(run, value, part)


def _default(run: Run, value: object, default_value: object = "", boolean: object = False) -> object:  # noqa: ARG001
    return default_value if isinstance(value, Missing) or (boolean and not value) else value


def _dictsort(
    run: Run,  # noqa: ARG001
    value: object,
    case_sensitive: object = False,
    by: Literal["key", "value"] = "key",
    reverse: object = False,
) -> object:
    if not isinstance(value, Mapping):
        raise ExpressionError("it is no mapping.")
    orderable(value.values() if by == "value" else value)
    return jinja.do_dictsort(value, bool(case_sensitive), by, bool(reverse))


def _first(run: Run, value: object) -> object:
    return jinja.FILTERS["first"](run.environment, _items(value))


def _last(run: Run, value: object) -> object:
    return jinja.FILTERS["last"](run.environment, _items(value))


def _groupby(
    run: Run, value: object, attribute: str | int, default: object = None, case_sensitive: object = False
) -> object:
    orderable(map(_read(attribute, default), _items(value)))
    return jinja.FILTERS["groupby"](run.environment, value, attribute, default, case_sensitive)


def _join(run: Run, value: object, d: object = "", attribute: _Attribute = None) -> object:
    return joined(measured_text(run, d), (measured_text(run, part) for part in map(_read(attribute), _items(value))))


def _length(run: Run, value: object) -> object:  # noqa: ARG001
    return len(_items(value))


NESTED: Final[dict[str, tuple[Literal["filter", "test"], int]]] = {
    "map": ("filter", 0),
    "reject": ("test", 0),
    "rejectattr": ("test", 1),
    "select": ("test", 0),
    "selectattr": ("test", 1),
}
"""Filters that take the name of another one, or of a test: which of the two, and the place of that argument."""


def _of_items(name: str) -> Function:
    what, place = NESTED[name]

    def of_items(run: Run, value: object, /, *args: object, **kwargs: object) -> object:
        if len(args) > place:
            check_call(what, args[place], args[place + 1 :], kwargs)
        return jinja.FILTERS[name](run, _items(value), *args, **kwargs)

    return of_items


def _extreme(name: Literal["min", "max"]) -> Function:
    def extreme(run: Run, value: object, case_sensitive: object = False, attribute: _Attribute = None) -> object:
        orderable(map(_read(attribute), _items(value)))
        return jinja.FILTERS[name](run.environment, value, case_sensitive, attribute)

    return extreme


def _slice(run: Run, value: object, slices: object, fill_with: object = None) -> object:  # noqa: ARG001
    return jinja.sync_do_slice(_items(value), whole(slices, "slices", 1), fill_with)


def _sort(
    run: Run, value: object, reverse: object = False, case_sensitive: object = False, attribute: _Attribute = None
) -> object:
    for keys in zip(*map(jinja.make_multi_attrgetter(ENVIRONMENT, attribute), _items(value)), strict=True):
        orderable(keys)
    return jinja.FILTERS["sort"](run.environment, value, reverse, case_sensitive, attribute)


def _sum(run: Run, value: object, attribute: _Attribute = None, start: object = 0) -> object:  # noqa: ARG001
    return sum(map(number, map(_read(attribute), _items(value))), number(start))


def _unique(run: Run, value: object, case_sensitive: object = False, attribute: _Attribute = None) -> Iterator[object]:  # noqa: ARG001
    read = jinja.make_attrgetter(ENVIRONMENT, attribute, None if case_sensitive else jinja.ignore_case)
    seen = set()
    for item in _items(value):
        key = read(item)
        if (isinstance(key, bool), key) not in seen:  # as 1 and true are one to a set
            seen.add((isinstance(key, bool), key))
            yield item


FILTERS: Final[dict[str, Function]] = {
    **TEXT_FILTERS,
    **{name: _of_items(name) for name in NESTED},
    "batch": _batch,
    "contains": _contains,
    "count": _length,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "first": _first,
    "groupby": _groupby,
    "items": lambda run, value: jinja.do_items(value),  # noqa: ARG005
    "join": _join,
    "last": _last,
    "length": _length,
    "list": lambda run, value: iter(_items(value)),  # noqa: ARG005
    "max": _extreme("max"),
    "min": _extreme("min"),
    "reverse": lambda run, value: jinja.do_reverse(_items(value)),  # noqa: ARG005
    "slice": _slice,
    "sort": _sort,
    "sum": _sum,
    "unique": _unique,
}
"""All filters by name."""

_MAKES_NOTHING: Final = frozenset(("count", "d", "default", "first", "last", "length"))
"""Filters that only look: they go through nothing, and their result was there before."""


# Tests


def _of_value(function: Callable[[object], bool]) -> Function:
    return lambda run, value: function(value)  # noqa: ARG005


def _order(sign: str) -> Function:
    return lambda run, value, other: ordered(sign, value, other)  # noqa: ARG005


def _equal(run: Run, value: object, other: object) -> bool:
    return same(run, value, other)


def _unequal(run: Run, value: object, other: object) -> bool:
    return not same(run, value, other)


def _divisibleby(run: Run, value: object, num: object) -> bool:  # noqa: ARG001
    return number(value) % number(num) == 0


TESTS: Final[dict[str, Function]] = {
    "boolean": _of_value(jinja_tests.test_boolean),
    "defined": _of_value(jinja_tests.test_defined),
    "divisibleby": _divisibleby,
    "even": _of_value(lambda value: number(value) % 2 == 0),
    "false": _of_value(jinja_tests.test_false),
    "float": _of_value(jinja_tests.test_float),
    "in": lambda run, value, seq: contains(run, seq, value),
    "integer": _of_value(jinja_tests.test_integer),
    "iterable": _of_value(jinja_tests.test_iterable),
    "lower": lambda run, value: measured_text(run, value).islower(),
    "mapping": _of_value(jinja_tests.test_mapping),
    "none": _of_value(jinja_tests.test_none),
    "number": _of_value(is_number),
    "odd": _of_value(lambda value: number(value) % 2 == 1),
    "sequence": _of_value(jinja_tests.test_sequence),
    "string": _of_value(jinja_tests.test_string),
    "true": _of_value(jinja_tests.test_true),
    "undefined": _of_value(jinja_tests.test_undefined),
    "upper": lambda run, value: measured_text(run, value).isupper(),
    **dict.fromkeys(("==", "eq", "equalto"), _equal),
    **dict.fromkeys(("!=", "ne"), _unequal),
    **dict.fromkeys((">", "gt", "greaterthan"), _order(">")),
    **dict.fromkeys((">=", "ge"), _order(">=")),
    **dict.fromkeys(("<", "lt", "lessthan"), _order("<")),
    **dict.fromkeys(("<=", "le"), _order("<=")),
}
"""All tests by name."""
