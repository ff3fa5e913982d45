"""Packing: one name, or several that belong together, as a stream."""

from __future__ import annotations

import collections
import copyreg
import enum
import functools
import gc
import hashlib
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

from .arrays import address_of, is_written_through, map_of, owner_of
from .codes import import_module_of, is_code, is_made, module_of, module_with, source_of, uses
from .files import Budget
from .frames import apart
from .helpers import (
    HELPER_IDS,
    as_bases,
    fill_attributes,
    fill_cell,
    fill_class,
    fill_enum,
    fill_exception,
    fill_function,
    fill_object,
    new_cached,
    new_cell,
    new_class,
    new_code,
    new_enum,
    new_exception,
    new_function,
    new_function_of,
    new_kind,
    new_look,
    new_map,
    new_masked,
    new_row,
    the_sign,
)
from .natures import ATOMS, Ref, Unsavable, generator_of, of_the_machine, sign_of, singles

if TYPE_CHECKING:
    from .saving import Save

_SPECIAL = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
_OF_MEMBERS = ("_value_", "_name_", "_sort_order_", "__objclass__")
"""What each member of an enum has."""

VIEWS = {
    type(getattr(kind(), name)()): getattr(kind, name)
    for kind in (dict, collections.OrderedDict)
    for name in ("keys", "values", "items")
}
"""Views of dicts, and what makes them."""


def is_array_kind(kind: type) -> bool:
    """Whether a class is a subclass of ``numpy.ndarray`` that is pickled as that is."""
    array: Any = getattr(sys.modules.get("numpy"), "ndarray", ())
    return issubclass(kind, array) and kind is not array and is_reduced_by(kind, array)


def is_reduced_by(kind: type, base: type) -> bool:
    """Whether a class is pickled as its base is, and has no ways of its own."""
    ways = ("__reduce__", "__reduce_ex__", "__setstate__")
    return all(attribute_of(kind, way) is attribute_of(base, way) for way in ways)


def has_own_init(kind: type[BaseException]) -> bool:
    """Whether an exception is made in a way of its own, and pickled as builtin ones are."""
    makes = (attribute_of(kind, "__init__"), attribute_of(kind, "__new__"))
    pickled = (attribute_of(kind, "__reduce__"), attribute_of(kind, "__reduce_ex__"))
    usual = not any(isinstance(one, types.FunctionType) for one in pickled)
    has_slots = any(vars(one).get("__slots__") for one in kind.__mro__)  # only its own __init__ fills them
    return usual and not has_slots and any(isinstance(one, (types.FunctionType, staticmethod)) for one in makes)


def attribute_of(kind: type, name: str) -> Any:
    """Give what a class or its bases define under a name, and ask no metaclass."""
    return next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None)


def names_beside(kind: type) -> list[Any]:
    """Give what has a name in the module of a class."""
    return list(getattr(sys.modules.get(kind.__module__), "__dict__", {}).values())


class External:
    """What stands in a pickle for an array or a frame that has a file of its own."""

    def __init__(self, stem: str) -> None:
        self.stem = stem


def digest_alone(cloudpickle: Any, value: object) -> str | None:
    """Give a digest of a value for itself, in this process; None where it can be packed only as we do it."""
    digest = hashlib.sha256()

    class Sink:
        def write(self, data: Any) -> int:
            digest.update(data)
            return memoryview(data).nbytes

    class Alone(cloudpickle.Pickler):  # type: ignore[misc] # the kernel's cloudpickle has no types
        def reducer_override(self, one: Any) -> Any:
            generator = generator_of(one)
            if generator is not None:
                return getattr, generator
            if is_array_kind(type(one)) and getattr(one, "__dict__", None):
                return tuple, ((one.__reduce_ex__(5), one.__dict__),)
            if issubclass(type(one), BaseException):
                before = (one.__cause__, one.__context__, one.__suppress_context__)
                return tuple, ((one.__reduce_ex__(5), before),)
            return super().reducer_override(one)

    buffers: list[pickle.PickleBuffer] = []
    try:
        Alone(Sink(), protocol=5, buffer_callback=buffers.append).dump(value)
        for buffer in buffers:
            digest.update(buffer.raw())
    except Exception as problem:
        # Whatever a library raises, there is another way to tell.
        if of_the_machine(problem):
            raise
        return None
    return digest.hexdigest()


class Packed:
    """What came of packing a name, or several that belong together."""

    def __init__(self, members: frozenset[str]) -> None:
        self.members = members
        """Tokens of what is packed together."""
        self.form: Ref = {}
        """The reference, without its member and what it shares."""
        self.chunks: list[bytes] = []
        """The stream, where it is a pickle."""
        self.large: dict[str, Any] = {}
        """Arrays and frames that have files of their own, by stem."""
        self.seen: dict[int, Any] = {}
        """What can be changed and has no name, by id; kept, so that no other thing gets its id."""
        self.arrays: dict[int, Any] = {}
        """The arrays in it, by id."""
        self.memory: set[int] = set()
        """The ids of what owns the memory of its frames."""
        self.needs: set[str] = set()
        """Global names that its code uses."""
        self.order: list[str] = []
        """Tokens of what it holds, is another name's value, and can be changed: as they stand in it, each as often."""
        self.code: set[str] = set()
        """Tokens of functions and classes that it holds."""
        self.final = True
        """Whether it is packed as it is for good, and not as a sketch."""

    @property
    def data(self) -> set[str]:
        """Tokens of what it holds that is another name's value, and no code."""
        return {*self.order}


class _Sink:
    """Takes a pickle in, piece by piece."""

    def __init__(self, budget: Budget) -> None:
        self.chunks: list[bytes] = []
        self.budget = budget

    def write(self, data: Any) -> int:
        self.budget.look()
        self.chunks.append(data if isinstance(data, bytes) else bytes(data))
        return len(data)


class Reducer(pickle.Pickler):
    """Writes tokens for what has a name, and external files for what is large; see :func:`pickler`.

    Parameters
    ----------
    save : Save
        Whose names have tokens.
    packed : Packed
        What is packed; notes what it holds.
    """

    library: Any
    """cloudpickle, whose pickler stands behind this class."""

    def __init__(self, save: Save, packed: Packed) -> None:
        self.sink = _Sink(save.budget)
        super().__init__(self.sink, 5)
        self.save = save
        self.packed = packed
        self.filled: set[int] = set()
        self.culprit: object = None
        self.singles = {key: ("of", *one) for key, one in singles().items()}

    def ended(self) -> Reducer:
        """Let go of what it was made for, and that keeps it; what is left is its memo."""
        del self.save, self.packed
        return self

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        key = id(value)
        if kind in ATOMS:
            return self.singles.get(key)
        if key in HELPER_IDS:
            return HELPER_IDS[key]
        if kind is dict and "__name__" in value and (name := module_with(value)):
            return ("of", name, "__dict__")
        if kind is External:
            return ("file", value.stem)
        token = self.save.named.get(key)
        if token is not None and token not in self.packed.members:
            return self.linked(token)
        if self.save.has_identity(kind):
            self.packed.seen[key] = value
        return None

    def linked(self, token: str) -> Any:
        """Give what stands for another name's value."""
        return self.save.link(self.packed, token)

    def reducer_override(self, value: Any) -> Any:
        self.culprit = value
        if isinstance(value, self.save.refused):
            raise Unsavable
        reduce = self._reduce_of(type(value))
        if reduce is not None:
            return reduce(self, value)
        if isinstance(value, type):
            return self.reduce_class(value)
        return super().reducer_override(value)

    def refuse_made(self, value: Any) -> None:
        """Refuse what is, or stands in, a module that a step has made; each kernel has those that setup makes."""
        name = module_of(value)
        if is_made(sys.modules.get(name)):
            shelf = self.save.shelf
            if name not in {module_of(shelf.namespace.get(other)) for other in shelf.setup}:
                raise Unsavable

    def _reduce_of(self, kind: type) -> Any:
        """Give what reduces objects of a type; None where the type itself does it."""
        rows = self.save.reducers
        if kind not in rows:
            rows[kind] = _LOOKS.get(kind, None if kind in self.dispatch_table else self._reduce_by_base(kind))
        return rows[kind]

    def _reduce_by_base(self, kind: type) -> Any:
        if is_array_kind(kind):
            return type(self).reduce_array_kind
        if issubclass(kind, getattr(sys.modules.get("numpy"), "void", ())):
            return type(self).reduce_row
        if issubclass(kind, BaseException):
            return type(self).reduce_exception
        if issubclass(kind, type):
            return None
        if not is_reduced_by(kind, object):
            return type(self).reduce_named
        if attribute_of(kind, "__getattr__") is not None:
            return type(self).reduce_asked
        return type(self).reduce_sign if any(type(one) is kind for one in names_beside(kind)) else None

    def reduce_function(self, value: types.FunctionType) -> Any:
        if self.library._should_pickle_by_reference(value):  # noqa: SLF001
            self.refuse_made(value)
            return NotImplemented
        self.packed.seen[id(value)] = value
        names = value.__globals__
        is_ours = names is self.save.namespace
        if not (is_ours or id(names) in self.save.named or module_with(names)):
            return super().reducer_override(value)
        if is_ours:
            self.packed.needs |= {name for name in uses(value.__code__) if self.save.shelf.is_own(name)}
        cells = []
        for cell in value.__closure__ or ():
            self.filled.add(id(cell))
            try:
                cells.append((cell, cell.cell_contents))
            except ValueError:  # nothing was assigned to it yet
                continue
        special = {name: getattr(value, name) for name in _SPECIAL if getattr(value, name, None) is not None}
        state = (dict(value.__dict__), special, tuple(cells), source_of(value.__code__))
        arguments = (value.__code__, value.__name__, value.__closure__)
        if is_ours:
            return new_function, (*arguments, self._of_setup(value)), state, None, None, fill_function
        return new_function_of, (names, *arguments), state, None, None, fill_function

    def _of_setup(self, value: object) -> str:
        """Give the token of what setup cells make in each kernel: that is filled again, for others hold it there."""
        token = self.save.named.get(id(value), "")
        return token if token.startswith("setup:") else ""

    def reduce_code(self, value: types.CodeType) -> Any:
        _, arguments = self.library._code_reduce(value)  # noqa: SLF001
        filename = "".join(value.co_filename)  # a copy: text that is shared would be a memo's entry
        return new_code, (arguments, filename)

    def reduce_cached(self, value: Any) -> Any:
        if self.library._lookup_module_and_qualname(value) is not None:  # noqa: SLF001
            return NotImplemented
        self.packed.seen[id(value)] = value
        return new_cached, (value.__wrapped__, value.cache_parameters()), dict(value.__dict__)

    def reduce_cached_property(self, value: Any) -> Any:  # before Python 3.12 it has a lock
        return functools.cached_property, (value.func,), {"attrname": value.attrname}

    def reduce_view(self, value: Any) -> Any:
        return VIEWS[type(value)], (gc.get_referents(value)[0],)

    def reduce_proxy(self, value: types.MappingProxyType[Any, Any]) -> Any:
        mapping = gc.get_referents(value)[0]
        classes = [one for one in gc.get_referrers(mapping) if isinstance(one, type)] if "__module__" in mapping else ()
        return (getattr, (classes[0], "__dict__")) if classes else (types.MappingProxyType, (mapping,))

    def reduce_memory(self, value: memoryview) -> Any:
        whole = memoryview(value.obj)
        if any(getattr(value, name) != getattr(whole, name) for name in ("format", "shape", "strides", "readonly")):
            raise Unsavable
        return memoryview, (value.obj,)

    def reduce_weak(self, value: Any) -> Any:
        return type(value), (dict(value),)

    def reduce_cell(self, value: types.CellType) -> Any:
        self.packed.seen[id(value)] = value
        if id(value) in self.filled:  # the function that it belongs to does it, as soon as that is there
            return new_cell, ()
        try:
            return new_cell, (), (value.cell_contents,), None, None, fill_cell
        except ValueError:
            return new_cell, ()

    @property
    def _makers(self) -> tuple[Any, Any]:
        """What cloudpickle makes classes of a notebook with."""
        return self.library._make_skeleton_class, self.library._make_skeleton_enum  # noqa: SLF001

    def reduce_class(self, value: type) -> Any:
        import_module_of(value)
        made: Any = super().reducer_override(value)
        if not isinstance(made, tuple) or made[0] not in self._makers:
            self.refuse_made(value)
            return made
        self.packed.seen[id(value)] = value
        make, arguments, state, *_ = made
        state[0].pop("__slotnames__", None)  # copyreg's notes, made when the first instance is pickled
        if "__slots__" in state[0] and not issubclass(value, tuple):
            arguments[3]["__slots__"] = state[0].pop("__slots__")
        if isinstance(value, enum.EnumMeta):
            return self._reduce_enum(value, state)
        state = ({**as_bases(value), **state[0]}, *state[1:])
        # Without cloudpickle's own tracking: tokens do that here.
        made = (make, (*arguments[:-2], None, None), self._of_setup(value))
        return new_class, made, (self.library._class_setstate, state), None, None, fill_class  # noqa: SLF001

    def _reduce_enum(self, value: Any, state: tuple[dict[str, Any], Any]) -> Any:
        """Reduce an enum: cloudpickle makes its members again from their values alone, and no second names of them."""
        kinds = value._member_type_.__mro__
        make = next(one for one in kinds if isinstance(vars(one).get("__new__"), types.BuiltinFunctionType))
        if make is not object and not hasattr(make, "__getnewargs__"):
            raise Unsavable
        members, own = value.__members__, {}
        taken = {}
        for name, one in members.items():
            taken[name] = (make.__getnewargs__(one) if make is not object else (), one.value)
            own[name] = {key: held for key, held in vars(one).items() if key not in _OF_MEMBERS}
            state[0].pop(name, None)
        if "_generate_next_value_" in vars(value):
            state[0]["_generate_next_value_"] = vars(value)["_generate_next_value_"]
        values = [(key, one.name) for key, one in value._value2member_map_.items() if one.name in members]
        how = {"boundary": value._boundary_} if getattr(value, "_boundary_", None) else {}
        arguments = (type(value), value.__name__, value.__bases__, make, taken, how)
        filling = (self.library._class_setstate, state, own, values)  # noqa: SLF001
        return new_enum, arguments, filling, None, None, fill_enum

    def reduce_array(self, value: Any) -> Any:
        self.packed.arrays[id(value)] = value
        if is_written_through(value):
            self.culprit = map_of(value)
            raise Unsavable
        if value.dtype.hasobject and self.is_shared(value):
            return self._reduce_look(value)
        made = self.save.array_inside(self.packed, value)
        return super().reducer_override(value) if made is None else made

    def is_shared(self, value: Any) -> bool:
        """Whether an array, or a row, shows the memory of an array that others show too."""
        owner = owner_of(value)
        return owner is not value and id(owner) in self.save.shared_memory and value.nbytes > 0

    def _reduce_look(self, value: Any) -> Any:
        owner = owner_of(value)
        whole = owner.flags.c_contiguous or owner.flags.f_contiguous  # else numpy gives it back in another order
        if value.dtype != object or owner.dtype != object or not whole:
            raise Unsavable
        start = (address_of(value) - address_of(owner)) // owner.itemsize
        return new_look, (owner, start, value.shape, value.strides, value.flags.writeable)

    def reduce_row(self, value: Any) -> Any:
        self.packed.arrays[id(value)] = value
        if not self.is_shared(value):
            return super().reducer_override(value)
        if value.dtype.hasobject:
            raise Unsavable
        owner = owner_of(value)
        return new_row, (owner, address_of(value) - address_of(owner), value.dtype)

    def reduce_module(self, value: types.ModuleType) -> Any:
        self.refuse_made(value)
        return super().reducer_override(value)

    def reduce_exception(self, value: BaseException) -> Any:
        """Reduce an exception with those that it came from."""
        made: Any = value.__reduce_ex__(5)
        if has_own_init(type(value)):
            made = (new_exception, (type(value), made[1]), *made[2:])
        cause, context = map(self._savable, (value.__cause__, value.__context__))
        before = (cause, context, value.__suppress_context__)
        if not any(before) or not isinstance(made, tuple) or len(made) > 3:
            return made
        return (*made[:2], (*made[2:], *before), None, None, fill_exception)

    def _savable(self, before: BaseException | None) -> BaseException | None:
        """Give what an exception came from; none where that cannot be saved: the exception itself counts."""
        known = self.save.origins
        if before is not None and id(before) not in known:
            known[id(before)] = None
            try:
                self.save.shelf.pickler(self.save, Packed(frozenset())).dump(before)
            except Exception as problem:
                # Whatever a __reduce__ or __getstate__ raises.
                if of_the_machine(problem):
                    raise
            else:
                known[id(before)] = before
        return known.get(id(before))

    def reduce_asked(self, value: Any) -> Any:
        """Reduce an object with a ``__getattr__``: that would be asked for a ``__setstate__`` before it has a state."""
        made: Any = object.__reduce_ex__(value, 5)
        return (*made, fill_object)

    def reduce_named(self, value: Any) -> Any:
        """Reduce what may call itself by a name: one of the notebook is made again, as no other kernel has it yet."""
        made: Any = value.__reduce_ex__(5)
        if not isinstance(made, str):
            return made
        self.refuse_made(value)
        if module_of(value) != "__main__":
            return made
        kind = type(value)
        if attribute_of(kind, "__new__") is not object.__new__:
            raise Unsavable
        slots = {name: getattr(value, name) for name in copyreg._slotnames(kind) if hasattr(value, name)}  # type: ignore[attr-defined] # noqa: SLF001
        state = (dict(getattr(value, "__dict__", {})), slots)
        return copyreg.__newobj__, (kind,), state, None, None, fill_object  # type: ignore[attr-defined]

    def reduce_sign(self, value: Any) -> Any:
        sign = sign_of(value, self.save.signs)
        if sign is None:
            return super().reducer_override(value)
        self.packed.seen.pop(id(value), None)  # it has a name, in its module
        return the_sign, (sys.modules[sign[0]], sign[1], type(value))

    def reduce_generator(self, value: Any) -> Any:
        generator = generator_of(value)
        if generator is None:
            return super().reducer_override(value)
        self.packed.seen.pop(id(value), None)  # it has a name, in its module
        return getattr, (sys.modules[generator[0]], generator[1])

    def reduce_array_kind(self, value: Any) -> Any:
        """Reduce an array of a subclass: numpy itself forgets whose memory it looks at, and its attributes."""
        made = self.reduce_array(value)
        if not isinstance(made, tuple):
            return made
        attributes = getattr(value, "__dict__", None)
        return new_kind, (*made, type(value)), attributes or None, None, None, fill_attributes

    def reduce_map(self, value: Any) -> Any:
        if value.mode != "r" or value.filename is None or map_of(value) is not value:
            return self.reduce_array(value)
        self.packed.arrays[id(value)] = value
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return new_map, (str(value.filename), value.dtype, value.offset, value.shape, order)

    def reduce_masked(self, value: Any) -> Any:
        nomask = sys.modules["numpy"].ma.nomask
        mask = None if value.mask is nomask else value.mask
        return new_masked, (value.data, mask, value._fill_value, value.hardmask)  # noqa: SLF001 - or one is made

    def reduce_frame(self, value: Any) -> Any:
        made = self.save.frame_inside(self.packed, value)
        return apart(value).__reduce_ex__(5) if made is None else made


class Lone(Reducer):
    """Writes what a value is, whatever other names there are for parts of it; functions and classes that have names are
    these, and nothing of what they are."""

    def linked(self, token: str) -> Any:
        """Give who it is, if it is code."""
        return ("name", token) if is_code(self.save.values[token]) else None


_LOOKS: dict[type, Any] = {
    **dict.fromkeys(VIEWS, Reducer.reduce_view),
    types.MappingProxyType: Reducer.reduce_proxy,
    memoryview: Reducer.reduce_memory,
}
"""What looks at another thing, and shows what that is now."""


def pickler(cloudpickle: Any, kind: type[Reducer] = Reducer) -> type[Reducer]:
    """Give the class of our picklers, once it is known which cloudpickle stands behind it."""
    return type(kind.__name__, (kind, cloudpickle.Pickler), {"library": cloudpickle})
