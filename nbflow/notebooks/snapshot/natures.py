"""What has no identity that counts, what cannot be saved, and how that is told."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import errno
import fractions
import functools
import gc
import pathlib
import pickle
import re
import sys
import threading
import types
import uuid
from collections.abc import Iterator
from typing import Any

Ref = dict[str, Any]
REASON = 150
"""Characters of a reason, at most."""
MOST_OF_KEY = 30
"""Characters of the key of a dict in a reason."""


class Refused(Exception):  # noqa: N818 - it is told, not raised to anybody
    """A name that is not saved or not given back, with the reason: words that follow the name."""


class Gone(Exception):  # noqa: N818
    """A file that is not there, or not what it was."""


def of_the_machine(problem: BaseException) -> bool:
    """Whether an error says nothing about the value: there is no memory or no space, and later there may be."""
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(problem, MemoryError)


ATOMS = {
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis), type(NotImplemented)),
    *(dt.date, dt.time, dt.datetime, dt.timedelta, dt.timezone),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, types.CodeType, types.BuiltinFunctionType),
}
"""Types whose objects cannot be changed and hold nothing that can."""

FIXED = (
    *(tuple, frozenset, enum.Enum, type, types.ModuleType, types.FunctionType, pickle.PickleBuffer, pathlib.PurePath),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo, property, staticmethod, classmethod),
    *(types.MethodType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
"""Types whose objects cannot be changed themselves; what they hold is looked at."""

LIBRARY_FIXED = (
    *(("numpy", "generic"), ("numpy", "dtype"), ("numpy", "ufunc")),
    *(("pandas", "Index"), ("pandas.api.extensions", "ExtensionDtype"), ("pandas", "Interval"), ("pandas", "Period")),
)

CACHED: Any = type(functools.lru_cache(abs))
LOCKS = (type(threading.Lock()), type(threading.RLock()))


REFUSED: tuple[tuple[str, str], ...] = (
    ("types", "GeneratorType"),
    ("types", "CoroutineType"),
    ("types", "AsyncGeneratorType"),
    ("types", "FrameType"),
    ("types", "TracebackType"),
    ("io", "IOBase"),
    ("socket", "socket"),
    ("threading", "Thread"),
    ("threading", "Condition"),
    ("threading", "Event"),
    ("threading", "Semaphore"),
    ("threading", "Barrier"),
    ("_thread", "_local"),
    ("subprocess", "Popen"),
    ("weakref", "ReferenceType"),
    ("weakref", "finalize"),
    ("sqlite3", "Connection"),
    ("sqlite3", "Cursor"),
    ("mmap", "mmap"),
    ("selectors", "BaseSelector"),
    ("asyncio", "Future"),
    ("asyncio", "AbstractEventLoop"),
    ("concurrent.futures", "Executor"),
    ("concurrent.futures", "Future"),
    ("multiprocessing.process", "BaseProcess"),
    ("multiprocessing.pool", "Pool"),
    ("queue", "Queue"),
    ("tempfile", "_TemporaryFileWrapper"),
    ("tempfile", "TemporaryDirectory"),
    ("contextvars", "Context"),
)
"""What means something in its own process only. cloudpickle would read an open file to its end, and call it saved."""


GENERATORS = (("random", "_inst"), ("numpy.random.mtrand", "_rand"))
"""The random generators that modules have for all: what is bound to one is bound to that of its kernel."""


def generator_of(value: object) -> tuple[str, str] | None:
    """Give the module and the name of a module's own random generator; None if it is none."""
    for module, name in GENERATORS:
        if value is getattr(sys.modules.get(module), name, None) is not None:
            return module, name
    return None


SINGLES = (("math", "nan"), ("numpy", "nan"), ("argparse", "SUPPRESS"))
"""Numbers and texts of modules that are told from equal ones: a dict finds ``np.nan``, and no other NaN."""


def singles() -> dict[int, tuple[str, str]]:
    """Give the module and the name of each of these that there is, by id."""
    rows = [row for row in SINGLES if hasattr(sys.modules.get(row[0]), row[1])]
    return {id(getattr(sys.modules[module], name)): (module, name) for module, name in rows}


def sign_of(value: object, known: dict[str, dict[int, str]]) -> tuple[str, str] | None:
    """Give the module and the name of an object that holds nothing, and so only stands for something, as
    ``dataclasses.MISSING`` does; None if it is none. Notes the names of modules by the ids of their values."""
    kind, module = type(value), type(value).__module__
    if module == "__main__":
        return None
    made = tuple(object.__reduce_ex__(value, 2))
    if made[1] != (kind,) or any(made[2:]):  # a tuple, a text or a number of its class is what it is made of
        return None
    if module not in known:
        names = list(vars(sys.modules[module]).items()) if module in sys.modules else []
        known[module] = {id(one): name for name, one in reversed(names)}
    name = known[module].get(id(value))
    return None if name is None else (module, name)


def loaded(rows: tuple[tuple[str, str], ...]) -> tuple[type, ...]:
    """Give those of the classes whose modules this process has imported."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in rows]
    return tuple(one for one in found if isinstance(one, type))


def _called(value: object) -> str:
    """Give what a thing is called in a reason: ``a sqlite3.Connection``."""
    kind = type(value)
    name = "generator" if kind is types.GeneratorType else f"{kind.__module__}.{kind.__qualname__}"
    name = name.removeprefix("builtins.").removeprefix("__main__.") if sys.version_info >= (3, 9) else name
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def one_line(text: object) -> str:
    """Give a text in one line."""
    return " ".join(str(text).split())


def shortened(text: str) -> str:
    """Give a reason in one line, of at most :data:`REASON` characters and whole words: secrets are masked later on."""
    text = one_line(text)
    return text if len(text) <= REASON else text[: REASON - 3].rpartition(" ")[0] + "..."


def _key(key: object) -> str:
    """Give what is shown of a key: all, or only what it is; the beginning of a secret could not be told from others."""
    with contextlib.suppress(Exception):
        text = repr(key)
        if len(text) <= MOST_OF_KEY:
            return text
    return type(key).__qualname__


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """Give what a value holds, each with how it is reached; no more where it raises something when it is asked."""
    with contextlib.suppress(Exception):
        yield from _asked(value, type(value))


def _asked(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    if issubclass(kind, dict):
        yield from ((f"[{_key(key)}]", one) for key, one in list(value.items()))
    elif issubclass(kind, (list, tuple, set, frozenset)):
        yield from ((f"[{place}]", one) for place, one in enumerate(value))
    closure = getattr(value, "__closure__", None) if kind is types.FunctionType else None
    for name, cell in zip(value.__code__.co_freevars if closure else (), closure or ()):  # noqa: B905 - Python 3.9
        try:
            yield f" {name}", cell.cell_contents
        except ValueError:  # nothing was assigned to it yet
            continue
    if kind is types.FunctionType:
        defaults = value.__defaults__ or ()
        names = value.__code__.co_varnames[: value.__code__.co_argcount][-len(defaults) :]
        yield from ((f" {name}=", one) for name, one in zip(names, defaults))  # noqa: B905 - Python 3.9
        yield from ((f" {name}=", one) for name, one in (value.__kwdefaults__ or {}).items())
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, (dict, types.MappingProxyType)):
        yield from ((f".{name}", one) for name, one in list(attributes.items()) if isinstance(name, str))
    for slot in getattr(kind, "__slots__", ()):
        if isinstance(slot, str) and hasattr(value, slot):
            yield f".{slot}", getattr(value, slot)


def _where(value: object, wanted: object) -> str | None:
    """Give the way from a value to what it holds, ``.lock`` or ``['a'][0]``; empty if it is the value itself."""
    ways: list[tuple[str, object]] = [("", value)]
    seen = {id(value)}
    for way, one in ways:
        if one is wanted:
            return way.strip()
        if len(ways) > 20_000:
            return None
        for step, inner in () if type(one) in ATOMS else _held(one):
            if id(inner) not in seen:
                seen.add(id(inner))
                ways.append((way + step, inner))
    return None


class Unsavable(Exception):  # noqa: N818 - it is told, not raised to anybody
    """Something that cannot be saved by its nature."""


class Trouble(Refused):
    """A name that is not saved because of something in it.

    Parameters
    ----------
    culprit : object
        What that is.
    problem : Exception
        What pickling it raised.
    """

    def __init__(self, culprit: object, problem: Exception) -> None:
        super().__init__()
        self.culprit = culprit
        self.problem = problem


def trouble_of(value: object, culprit: object, problem: Exception) -> str:
    """Give why a value cannot be saved: what in it is the trouble, and where that is."""
    if isinstance(problem, RecursionError) or isinstance(problem.__context__, RecursionError):
        return "is nested too deeply to be saved"
    way = _where(value, culprit)
    words = f"is {_called(culprit)}" if way == "" else f"holds {_called(culprit)}" + (f" (in {way})" if way else "")
    by_nature = isinstance(problem, Unsavable) or "cannot pickle" in str(problem)
    return shortened(words if by_nature else f"{words}, which raises {type(problem).__name__}: {problem}")


MOST_REACHED = 2_000_000
"""Objects, atoms apart, that are looked at for what a value shares with another one."""


def reach(value: object, namespace: dict[str, Any]) -> set[int]:
    """Give the ids of what can be changed and is reached from a value."""
    return {id(one) for one in _reached(value, namespace, set(), set()) if not issubclass(type(one), FIXED)}


def within(value: object, namespace: dict[str, Any]) -> set[int]:
    """Give the ids of what :func:`reach` gives, and of the functions and classes of the notebook that are reached."""
    found = _reached(value, namespace, set(), set())
    return {id(one) for one in found if _is_own(one) or not issubclass(type(one), FIXED)}


def meets(value: object, wanted: set[int], namespace: dict[str, Any], seen: set[int]) -> bool:
    """Whether something wanted is reached from a value, or may be; ``seen``, which grows, leads to nothing of it."""
    walked = set[int]()
    met = any(id(one) in wanted for one in _reached(value, namespace, walked, seen))
    if met or len(walked) >= MOST_REACHED:  # cut off: there may be more behind them
        return True
    seen |= walked
    return False


def _reached(value: object, namespace: dict[str, Any], walked: set[int], seen: set[int]) -> Iterator[object]:
    """Give what is reached from a value but atoms; not through modules, and not through functions and classes but by
    what those of the notebook hold."""
    todo = [value]
    while todo and len(walked) < MOST_REACHED:
        one = todo.pop()
        if id(one) in walked or id(one) in seen or one is namespace or issubclass(type(one), types.ModuleType):
            continue
        walked.add(id(one))
        yield one
        inner: list[Any] = []
        if issubclass(type(one), (type, types.FunctionType)):
            if _is_own(one):
                inner = [*getattr(one, "__bases__", ()), *(held for _, held in _held(one))]
        else:
            inner = gc.get_referents(one)
            if type(one).__module__ == "numpy":  # which tells gc nothing
                array: Any = one
                inner.append(getattr(array, "base", None))
                inner += array.ravel().tolist() if getattr(getattr(array, "dtype", None), "kind", "") == "O" else ()
        todo += () if ATOMS.issuperset(map(type, inner)) else [held for held in inner if type(held) not in ATOMS]


def _is_own(one: object) -> bool:
    """Whether it is a function or a class of the notebook."""
    return issubclass(type(one), (type, types.FunctionType)) and getattr(one, "__module__", "") == "__main__"
