"""What pickles of ours call when they are read; they stand in them by their names here."""

from __future__ import annotations

import contextlib
import functools
import linecache
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .arrays import memory_of


def _keep_source(file: str, first: int, lines: list[str]) -> None:
    there: Any = linecache.cache.get(file, (0, None, []))
    known = list(there[2]) if len(there) > 2 else []
    known += ["\n"] * (first - 1 + len(lines) - len(known))
    known[first - 1 : first - 1 + len(lines)] = lines
    linecache.cache[file] = (sum(map(len, known)), None, known, file)


def new_cell() -> types.CellType:
    """Give a cell of a closure, with nothing in it yet."""
    return types.CellType()


def fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Put into a cell what it holds."""
    cell.cell_contents = state[0]


def fill_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Give a function its attributes, its defaults and the like, what its cells hold, and its source."""
    attributes, special, cells, source = state
    if source is not None:
        _keep_source(*source)
    for cell, contents in cells:
        cell.cell_contents = contents
    function.__dict__.clear()  # one of setup that is filled again may have more
    function.__dict__.update(attributes)
    for name, value in {**dict.fromkeys(("__doc__", "__defaults__", "__kwdefaults__")), **special}.items():
        setattr(function, name, value)


@contextlib.contextmanager
def _unhooked(bases: tuple[Any, ...]) -> Iterator[None]:
    """Let a class be made without the ``__init_subclass__`` of the notebook's classes."""
    hooked = {one for base in bases if isinstance(base, type) for one in base.__mro__ if _of_notebook(one)}
    hooks = {one: vars(one)["__init_subclass__"] for one in hooked if "__init_subclass__" in vars(one)}
    for one in hooks:
        type.__setattr__(one, "__init_subclass__", classmethod(_nothing))
    try:
        yield
    finally:
        for one, hook in hooks.items():
            type.__setattr__(one, "__init_subclass__", hook)


def new_class(make: Callable[..., type], arguments: tuple[Any, ...], token: str = "") -> type:  # noqa: ARG001
    """Make a class, and run nothing of the notebook: what its metaclass and its bases did to it was done before.

    :meth:`Restore._class` stands before it, which knows those that setup has made.
    """
    meta, name, bases, attributes, *_ = arguments
    with _unhooked(bases):
        if not _of_notebook(meta):
            return make(*arguments)
        made: type = _known(meta).__new__(meta, name, bases, dict(attributes))
        return made


_OF_CLASSES = {"__module__", "__doc__", "__slots__", "__slotnames__", "__annotations__", "_abc_impl"}
_OF_CLASSES |= {"__static_attributes__", "__firstlineno__", "__annotate_func__", "__annotations_cache__"}


def as_bases(kind: type) -> dict[str, Any]:
    """Give what a class has as a base of the notebook has it: cloudpickle leaves that out, and either may change."""
    bases = [vars(base) for base in kind.__mro__[1:] if _of_notebook(base)]
    own = sorted(vars(kind).keys() - _OF_CLASSES - {"__dict__", "__weakref__"})
    # Spelt as cloudpickle spells names: not interned, so that pickles do not differ.
    return {"".join(name): vars(kind)[name] for name in own if any(_is_there(kind, name, base) for base in bases)}


def _is_there(kind: type, name: str, base: Mapping[str, Any]) -> bool:
    """Whether a base has an attribute of a class: the same object."""
    return name in base and base[name] is vars(kind)[name]


def fill_class(kind: type, state: tuple[Any, ...]) -> None:
    """Give a class its attributes; one of setup that is filled again loses those that the step has deleted."""
    fill, content = state
    fixed = (types.GetSetDescriptorType, types.MemberDescriptorType)
    bases = [vars(base) for base in kind.__mro__[1:] if not _of_notebook(base)]
    for name, value in list(vars(kind).items()):
        if name in content[0] or name in _OF_CLASSES or isinstance(value, fixed):
            continue
        # What a library's base has as well is no part of the state: Protocol gives each class its own mark again.
        if not any(_is_there(kind, name, base) for base in bases):
            type.__delattr__(kind, name)
    fill(kind, content)


def new_enum(meta: Any, name: str, bases: tuple[type, ...], make: Any, members: dict[str, Any], how: Any) -> type:
    """Make an enum with its members, and run nothing of the notebook: each is made by ``make``, with what it takes."""
    todo = iter(members.values())

    def new(kind: type, *_: Any) -> Any:
        arguments, value = next(todo)
        made = make.__new__(kind, *arguments)
        made._value_ = value
        return made

    body = _known(meta).__prepare__(name, bases)
    for key, one in {"__new__": new, "__init__": _nothing, **dict.fromkeys(members)}.items():
        body[key] = one
    with _unhooked(bases):
        made: type = _known(meta).__new__(meta, name, bases, body, **how)
    for key in ("__init__", "__new_member__"):  # its own ones come with its state
        type.__delattr__(made, key)
    return made


def fill_enum(kind: Any, state: tuple[Any, ...]) -> None:
    """Give an enum what it has beside its members, and these what they have beside their values."""
    fill, attributes, members, values = state
    fill(kind, attributes)
    for name, own in members.items():
        vars(kind.__members__[name]).update(own)
    for value, name in values:
        kind._value2member_map_.setdefault(value, kind.__members__[name])


def _known(kind: type) -> Any:
    """Give the nearest base of a class that is not of the notebook."""
    return next(one for one in kind.__mro__ if not _of_notebook(one))


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _of_notebook(kind: type) -> bool:
    return kind.__module__ == "__main__"


def new_code(arguments: tuple[Any, ...], filename: str) -> types.CodeType:
    """Give a code object that knows the file, or the cell, that it was read in: cloudpickle leaves that out."""
    return types.CodeType(*arguments).replace(co_filename=filename)


def new_function(code: Any, name: str, closure: Any, token: str = "") -> Any:
    """Stand for :meth:`Restore._function`, which knows the namespace."""
    raise NotImplementedError


def new_function_of(names: dict[str, Any], code: Any, name: str, closure: Any) -> types.FunctionType:
    """Give a function with globals of its own."""
    return types.FunctionType(code, names, name, None, closure)


def new_cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Give a function with an empty ``functools.lru_cache``."""
    return functools.lru_cache(**parameters)(function)


def itself(value: Any) -> Any:
    """Give what is read from a file of its own."""
    return value


def fixed(array: Any) -> Any:
    """Make an array that is read from a file of its own one that cannot be written to."""
    array.flags.writeable = False
    return array


def thaw(data: bytes) -> Any:
    """Give a small frame, which pandas pickled."""
    return pickle.loads(data)  # noqa: S301 - it stands in a pickle that was checked


def new_view(owner: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:  # noqa: FBT001
    """Give an array that looks at the memory of another one."""
    np = sys.modules.get("numpy") or __import__("numpy")
    if isinstance(owner, np.ndarray):
        owner = memory_of(owner)
    made = np.ndarray(shape, dtype, owner, offset, strides)
    if made.flags.writeable and not writeable:
        made.flags.writeable = False
    return made


def new_look(owner: Any, start: int, shape: Any, strides: Any, writeable: bool) -> Any:  # noqa: FBT001
    """Give an array that looks at the objects of another one."""
    np = sys.modules.get("numpy") or __import__("numpy")
    return np.lib.stride_tricks.as_strided(owner.ravel("K")[start:], shape, strides, writeable=writeable)


def new_row(owner: Any, offset: int, dtype: Any) -> Any:
    """Give a row that looks at the memory of an array."""
    return new_view(owner, offset, (), (), dtype, writeable=True)[()]


def new_array(data: bytes, shape: Any, dtype: Any, order: str, writeable: bool) -> Any:  # noqa: FBT001
    """Give a small array, which owns its memory as it did."""
    np = sys.modules.get("numpy") or __import__("numpy")
    made = np.ndarray(shape, dtype, data, order=order).copy(order)
    made.flags.writeable = writeable
    return made


def new_map(path: str, dtype: Any, offset: int, shape: Any, order: str) -> Any:
    """Give an array that maps a file into memory, to read it."""
    np = sys.modules.get("numpy") or __import__("numpy")
    return np.memmap(path, dtype, "r", offset, shape, order)


def new_kind(make: Callable[..., Any], arguments: tuple[Any, ...], kind: type) -> Any:
    """Give an array of a subclass, on the memory of the one that is made."""
    return make(*arguments).view(kind)


def fill_attributes(value: Any, attributes: dict[str, Any]) -> None:
    """Give an array of a subclass its attributes."""
    value.__dict__.update(attributes)


def the_sign(module: Any, name: str, kind: Any) -> Any:
    """Give what has a name in a module; where that is of another class here, a step had set it: one is made."""
    found = getattr(module, name, None)
    return found if type(found) is kind else kind.__new__(kind)


def new_exception(kind: Any, arguments: tuple[Any, ...]) -> Any:
    """Give an exception without its own ``__init__``, which may take other arguments than those that it kept."""
    known = kind
    while known.__module__ != "builtins":
        known = known.__base__
    made = known.__new__(kind, *arguments)
    known.__init__(made, *arguments)
    return made


def fill_exception(value: BaseException, state: tuple[Any, ...]) -> None:
    """Give an exception its attributes, and those that it came from."""
    *attributes, cause, context, suppress = state
    for one in filter(None, attributes):
        value.__setstate__(one)
    value.__cause__, value.__context__, value.__suppress_context__ = cause, context, suppress


def fill_object(value: Any, state: Any) -> None:
    """Give an object its state, and ask it nothing: its ``__getattr__`` may need what it does not have yet."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(value, "__dict__").update(attributes)
    for name, one in (slots or {}).items():
        object.__setattr__(value, name, one)


def new_masked(data: Any, mask: Any, fill: Any, hard: bool) -> Any:  # noqa: FBT001
    """Give a masked array that looks at these two."""
    np = sys.modules.get("numpy") or __import__("numpy")
    return np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, fill_value=fill, hard_mask=hard)


HELPERS: dict[str, Any] = {
    one.__name__: one
    for one in (
        new_code,
        new_function,
        new_function_of,
        new_cell,
        fill_cell,
        fill_function,
        new_class,
        fill_class,
        new_enum,
        fill_enum,
        new_cached,
        itself,
        fixed,
        thaw,
        new_view,
        new_look,
        new_row,
        new_array,
        new_map,
        new_exception,
        the_sign,
        fill_exception,
        fill_object,
        new_kind,
        fill_attributes,
        new_masked,
    )
}
"""What pickles of ours call; they stand in them as persistent ids, because this module has no name in a kernel."""

HELPER_IDS = {id(one): ("helper", name) for name, one in HELPERS.items()}
