"""Descriptions: one line for any value, equal in two processes where the values are. Carried into kernels as source."""

from __future__ import annotations

from typing import Any


def describe(value: Any, seen: Any = None) -> str:
    """Give a line that tells all of a value; what cannot be told (a generator, a connection) only by its type."""
    import collections
    import enum
    import functools
    import hashlib
    import logging
    import pathlib
    import types

    seen = {} if seen is None else seen
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"

    def inner(part: Any) -> str:
        return describe(part, seen)

    def hashed(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()[:12]

    if (
        value is None
        or kind in (bool, int, float, complex, str, bytes, range, slice)
        or isinstance(value, (enum.Enum, pathlib.PurePath))
    ):
        text = repr(value).replace(str(pathlib.Path.cwd()), ".")  # two runs have two folders
        return text if len(text) < 200 else f"{name} {hashed(text.encode())}"
    if id(value) in seen:
        return f"<{seen[id(value)][0]}>"
    seen[id(value)] = (len(seen), value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, (types.FunctionType, types.MethodType)):
        function = getattr(value, "__func__", value)
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        own = [
            function.__defaults__,
            function.__kwdefaults__,
            function.__dict__,
            cells,
            getattr(value, "__self__", None),
        ]
        return f"function {function.__qualname__} {hashed(function.__code__.co_code)} {inner(own)}"
    if isinstance(value, type):
        if value.__module__ != "__main__":
            return f"class {name} {value.__qualname__}"
        own = {key: part for key, part in vars(value).items() if not key.startswith("__") and not callable(part)}
        if issubclass(value, enum.Enum):  # beside its members it keeps which combinations were ever made
            own = {key: part for key, part in own.items() if not key.startswith("_")}
        own = {
            key: part for key, part in own.items() if not key.startswith("_abc") and key not in ("_make", "_replace")
        }
        listed = [f"{key}: {inner(own[key])}" for key in sorted(own)]  # in which order they stand says nothing
        return f"class {value.__qualname__} {[base.__name__ for base in value.__mro__]} {listed}"
    if name == "weakref.WeakKeyDictionary":
        return name  # what singledispatch has looked up before
    if name == "numpy.ndarray" or name.startswith("numpy.ma."):
        if value.dtype.hasobject:
            return f"array {value.dtype} {value.shape} {inner(value.tolist())}"
        mask = inner(value.mask) if hasattr(value, "mask") else ""
        data = getattr(value, "data", value)
        plain = __import__("numpy").asarray(value)
        return f"array {value.dtype} {value.shape} {hashed(plain.tobytes())} {mask}{len(data)}"
    if name.startswith("pandas.") and hasattr(value, "index") and hasattr(value, "to_numpy"):
        frame = value.to_frame("values") if not hasattr(value, "columns") else value
        parts = [list(map(str, frame.dtypes)), list(frame.columns), list(frame.columns.names)]
        parts += [str(frame.index.dtype), list(frame.index.names), frame.index.to_list(), frame.attrs]
        parts += [frame.iloc[:, at].to_list() for at in range(frame.shape[1])]
        return f"{name} {frame.shape} {hashed(inner(parts).encode())}"
    if name.startswith("pandas.") and hasattr(value, "to_list"):
        return f"{name} {value.dtype} {len(value)} {hashed(inner(value.to_list()).encode())}"
    if isinstance(value, dict):
        items = [f"{inner(key)}: {inner(part)}" for key, part in value.items()]
        more = inner(value.default_factory) if isinstance(value, collections.defaultdict) else ""
        return f"{name} {{{', '.join(items)}}} {more}{_own(value, inner)}"
    if isinstance(value, (set, frozenset)):
        return f"{name} {{{', '.join(sorted(describe(part) for part in value))}}}"
    if isinstance(value, (list, tuple, collections.deque)):
        return f"{name} [{', '.join(map(inner, value))}]{_own(value, inner)}"
    if isinstance(value, functools.partial):
        return f"partial {inner([value.func, value.args, value.keywords])}"
    if hasattr(value, "cache_info") and hasattr(value, "__wrapped__"):
        return f"cached {inner(value.__wrapped__)}"  # what it remembers is no value of it
    if name == "numpy.random._generator.Generator":
        return f"{name} {inner(value.bit_generator.state)}"
    if name.startswith("scipy.stats") and hasattr(value, "kwds"):
        return f"{name} {inner([value.dist.name, value.args, value.kwds])}"  # else it holds the generator of all
    if name == "random.Random":
        return f"{name} {hashed(repr(value.getstate()).encode())}"
    if name.startswith("matplotlib."):
        return f"{name} {len(getattr(value, 'axes', None) or []) if hasattr(value, 'get_axes') else ''}"
    if (
        hasattr(value, "__next__")
        or hasattr(value, "fileno")
        or name.startswith(("_thread.", "sqlite3.", "_io.", "asyncio."))
    ):
        return name
    if hasattr(value, "__dict__") or hasattr(kind, "__slots__"):
        slots = [slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ()) if isinstance(slot, str)]
        own = {slot: getattr(value, slot) for slot in slots if hasattr(value, slot) and not slot.startswith("__")}
        own.update(getattr(value, "__dict__", {}))
        if isinstance(value, logging.Logger):
            own = {key: part for key, part in own.items() if key not in ("_cache", "manager")}  # those of all loggers
        if own:
            return f"{name} {inner(own)}"
    text = repr(value)
    return name if " at 0x" in text else f"{name} {text}"


def _own(value: Any, inner: Any) -> str:
    """Describe the attributes that a subclass of a container has."""
    own = getattr(value, "__dict__", None)
    return f" {inner(own)}" if own else ""
