"""One save: what goes together, what changed, and what of it is written."""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrays import address_of, array_digest, is_other_look, is_plain_array, is_written_through, npy, owner_of
from .codes import is_code, is_importable, modules_in
from .files import Budget, digest_of, write_chunks
from .frames import frame_digest, from_parquet, has_parquet, is_closed, is_frame, owners_of, to_parquet
from .helpers import fixed, itself, new_array, new_view, thaw
from .known import Known
from .natures import (
    ATOMS,
    CACHED,
    FIXED,
    LIBRARY_FIXED,
    LOCKS,
    REFUSED,
    Ref,
    Refused,
    Trouble,
    loaded,
    of_the_machine,
    singles,
    trouble_of,
)
from .pickling import External, Packed, digest_alone

if TYPE_CHECKING:
    from .shelf import Shelf

SHORT = 1000
"""Characters of JSON that stand in the reference itself."""
SMALL = 256 * 1024
"""Bytes up to which a value is saved that no step reads yet: a cell that is edited may read it."""
LARGE = 64 * 1024
"""Bytes from which an array inside of something else has a file of its own."""
_HOLDING = {types.BuiltinFunctionType, slice}
"""Atoms that may hold something: the list of ``rows.append``."""
_JSON_ATOMS: set[type] = {type(None), bool, int, float, str}


def _is_plain(value: Any, named: dict[int, str], seen: dict[int, Any]) -> bool:
    """Whether a value is lists and dicts of atoms and nothing else, none of them twice; notes them in ``seen``."""
    todo = [value]
    single = singles()
    if id(value) in single:
        return False
    for one in todo:
        kind = type(one)
        if kind in _JSON_ATOMS:
            continue
        if kind not in (list, dict) or id(one) in seen or (id(one) in named and one is not value):
            return False
        seen[id(one)] = one
        if kind is dict and not all(type(key) is str for key in one):
            return False
        inner = one if kind is list else one.values()
        if len(inner) > SHORT or not single.keys().isdisjoint(map(id, inner)):
            return False
        if not _JSON_ATOMS.issuperset(map(type, inner)):
            todo.extend(inner)
    return True


def _short(value: Any) -> str | None:
    """Give the JSON of a plain value, if it is short."""
    try:
        text = json.dumps(value)
        if len(text) <= SHORT:
            json.dumps(value, ensure_ascii=False).encode()
            return text
    except (ValueError, RecursionError):  # an int of more digits than Python writes; half a character; too deep
        pass
    return None


def is_small(value: Any) -> bool:
    """Whether it costs next to nothing to save a value: numbers, texts, a few of them, a short table."""
    kind = type(value)
    if kind in _HOLDING:
        return False
    if kind in ATOMS or (issubclass(kind, loaded((("numpy", "generic"),))) and getattr(value, "base", None) is None):
        return sys.getsizeof(value) <= SMALL
    if kind in (list, tuple, set, frozenset, dict):
        inner = () if len(value) > SHORT else [*value, *value.values()] if kind is dict else value
        plain = ATOMS.difference(_HOLDING).issuperset(map(type, inner))
        return len(value) <= SHORT and plain and sum(map(sys.getsizeof, inner)) <= SMALL
    if is_frame(value):
        return bool(value.size <= SMALL // 8 and is_closed(value) and _bytes(value) <= SMALL)
    plain = kind in loaded((("numpy", "ndarray"),)) and not value.dtype.hasobject
    return plain and value.nbytes <= SMALL and value.base is None


def _bytes(frame: Any) -> int:
    usage = frame.memory_usage(deep=True)
    return int(usage if frame.ndim == 1 else usage.sum())


def _references(names: dict[str, Any], name: str) -> int:
    return sys.getrefcount(names[name])


_ONE = _references({"": []}, "")
"""What is counted where only a name refers to a value."""


NUMBERS = (("numpy", "number"), ("numpy", "bool_"))
"""Numbers that cannot be changed, whoever refers to them: a cell that showed one does."""


def is_small_and_alone(names: dict[str, Any], name: str) -> bool:
    """Whether a value is small, and nothing but its name refers to it, or it cannot be changed: so nobody changes it by
    another way, and it is no part of anything. So is a module, of which only the name is saved."""
    kind = type(names.get(name))
    fixed = kind in ATOMS or issubclass(kind, loaded(NUMBERS))
    alone = name in names and (fixed or _references(names, name) == _ONE)
    try:
        return (alone and is_small(names[name])) or is_importable(names.get(name))
    except Exception as problem:
        # Whatever a library raises that is asked how large it is: nobody has asked for the name.
        if of_the_machine(problem):
            raise
        return False


class Save:
    """One save, or one look at names that writes nothing.

    Parameters
    ----------
    shelf : Shelf
        What is known from before.
    names : iterable of str
        What to save.
    affected : set of str, optional
        Names that may have changed; any may, without it.
    budget : Budget
        What it may take.
    stale : set of str
        Names that only setup has made here, while a step before has changed them: they stand for what that has left.
    """

    def __init__(
        self,
        shelf: Shelf,
        names: Iterable[str],
        affected: set[str] | None,
        budget: Budget,
        stale: frozenset[str] = frozenset(),
    ) -> None:
        self.shelf = shelf
        self.stale = stale
        self.namespace = shelf.namespace
        self.affected = affected
        self.budget = budget
        self.names: list[str] = []
        """What is saved: what was asked for, and what that needs."""
        self.tokens: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.names_of: dict[str, list[str]] = {}
        self.alone: dict[str, str] = {}
        """What changes of pickled values are told from, by token."""
        self.known: dict[str, Known] = {}
        """What is known of what a token stands for."""
        self.named: dict[int, str] = {}
        """Tokens of the objects that stand in pickles as tokens, by id."""
        self.fixed = (*FIXED, *loaded(LIBRARY_FIXED))
        self.identity: dict[type, bool] = {}
        self.refused = (*LOCKS, *loaded(REFUSED))
        self.reducers = self._reducers()
        self.origins: dict[int, BaseException | None] = {}
        """What exceptions came from, by id; nothing for what cannot be saved."""
        self.signs: dict[str, dict[int, str]] = {}
        """Of modules the names of their values, by id."""
        self.together: dict[str, frozenset[str]] = {}
        """For each token those that are packed with it."""
        self.shared_memory: set[int] = set()
        """Ids of what owns memory that several arrays look at."""
        self.packed: dict[str, Packed] = {}
        self.working: list[frozenset[str]] = []
        self.learns = False
        self.circles: list[set[str]] = []
        self.failed: dict[str, Refused] = {}
        self.stems: dict[int, tuple[Any, str]] = {}
        """Digests of arrays and frames that were looked at, by id."""
        self.files: dict[str, Ref] = {}
        """The files that are there, by stem."""
        self.lookers: dict[int, set[str]] | None = None
        """Names by the memory at which they look, when all is packed."""
        self.sketch = True
        for name in dict.fromkeys([*names, *shelf.known]):
            if name in self.namespace and (name in names or shelf.known[name].has(self.namespace[name])):
                self.enter(name)
        self.names = [name for name in dict.fromkeys(names) if name in self.namespace]

    def _reducers(self) -> dict[Any, Callable[[Any, Any], Any] | None]:
        kind = self.shelf.pickler
        rows: dict[Any, Callable[[Any, Any], Any] | None] = {
            types.FunctionType: kind.reduce_function,
            types.CellType: kind.reduce_cell,
            types.ModuleType: kind.reduce_module,
            CACHED: kind.reduce_cached,
        }
        rows[types.CodeType] = kind.reduce_code
        rows[functools.cached_property] = kind.reduce_cached_property
        rows.update(dict.fromkeys((weakref.WeakKeyDictionary, weakref.WeakValueDictionary), kind.reduce_weak))
        rows.update(dict.fromkeys(loaded((("numpy", "ndarray"),)), kind.reduce_array))
        rows.update(dict.fromkeys(loaded((("numpy", "memmap"),)), kind.reduce_map))
        rows.update(
            dict.fromkeys(loaded((("random", "Random"), ("numpy.random", "RandomState"))), kind.reduce_generator)
        )
        rows.update(dict.fromkeys(loaded((("numpy.ma", "MaskedArray"),)), kind.reduce_masked))
        rows.update(dict.fromkeys(loaded((("pandas", "DataFrame"), ("pandas", "Series"))), kind.reduce_frame))
        return rows

    def has_identity(self, kind: type) -> bool:
        """Whether it matters which of two equal objects of a type it is."""
        found = self.identity.get(kind)
        if found is None:
            found = self.identity[kind] = not issubclass(kind, self.fixed)
        return found

    # Which names, and what goes together ---------------------------------------------------------------------------

    def pack_all(self, *, dry: bool) -> None:
        """Pack everything: sketches, until nothing more is found that goes together, and then for good.

        Parameters
        ----------
        dry : bool
            Whether it is only looked at: nothing is written, and nothing added that code needs.
        """
        self.learns = dry
        while True:
            self.packed = {}
            for name in self.names:
                self.pack_name(name)
            if not self._more(needs=not dry):
                break
        self.sketch = False
        self._take_arrays(dry=dry)
        self.packed = {token: one for token, one in self.packed.items() if one.final}
        for name in self.names:
            self.pack_name(name)

    def enter(self, name: str) -> None:
        """Give a name its token: that of its object, if it is known or has another name."""
        value = self.namespace[name]
        token = self.named.get(id(value)) or self.shelf.token(name, value)
        self.tokens[name] = token
        self.values.setdefault(token, value)
        self.names_of.setdefault(token, []).append(name)
        known = self.shelf.known.get(name)
        if known is not None and known.token == token and (known.ref is not None or token not in self.known):
            self.known[token] = known
        empty = type(value) in (tuple, frozenset) and not value
        if type(value) not in ATOMS and not empty and not self.is_elsewhere(value):
            self.named[id(value)] = token

    def is_elsewhere(self, value: Any) -> bool:
        """Whether a value is a module, or stands in one."""
        if issubclass(type(value), (types.ModuleType, types.BuiltinFunctionType)):
            return True
        return is_code(value) and bool(self.shelf.cloudpickle._should_pickle_by_reference(value))  # noqa: SLF001

    def is_affected(self, token: str) -> bool:
        """Whether it has to be looked at."""
        known = self.known.get(token)
        if known is not None and self.stale.issuperset(self.names_of[token]):
            return False
        if known is None or known.ref is None or "stem" not in known.ref or self.affected is None:
            return True  # what items left is saved nowhere as a list
        if self.learns and known.is_unseen:
            return True
        return not self.affected.isdisjoint(self.names_of[token])

    def _more(self, *, needs: bool) -> bool:
        """Look at what was packed: whether names have to be added, or to be put together."""
        wanted = set().union(*(one.needs for one in self.packed.values())) if needs else set()
        linked = {self.names_of[token][0] for token in self.packed}
        there = (wanted | linked) - self.stale
        added = [name for name in sorted(there) if name in self.namespace and name not in self.names]
        for name in added:
            self.names.append(name)
            if name not in self.tokens:
                self.enter(name)
        circles, self.circles = self.circles, []
        merged = self._merge([*circles, *self._sharing()])
        return self._look_at_memory() or merged or any(name in wanted for name in added)

    def _sharing(self) -> list[set[str]]:
        """Give the tokens that share what has no name."""
        owners: dict[int, set[str]] = {}
        for token, one in self.packed.items():
            for key in one.seen:
                owners.setdefault(key, set()).add(token)
        return [tokens for tokens in owners.values() if len(tokens) > 1]

    def _merge(self, groups: list[set[str]]) -> bool:
        found = False
        for group in groups:
            whole = frozenset(group).union(*(self.together.get(token, frozenset({token})) for token in group))
            found = found or any(self.together.get(token) != whole for token in whole)
            self.together.update(dict.fromkeys(whole, whole))
        return found

    def _look_at_memory(self) -> bool:
        """Find the memory that several arrays look at."""
        arrays = {key: array for one in self.packed.values() for key, array in one.arrays.items()}
        lookers: dict[int, list[Any]] = {}
        for array in arrays.values():
            lookers.setdefault(id(owner_of(array)), []).append(array)
        owners = (bytearray, bytes, *loaded((("numpy", "ndarray"),)))
        shared = {root for root, found in lookers.items() if len(found) > 1 and isinstance(owner_of(found[0]), owners)}
        found = not shared <= self.shared_memory
        self.shared_memory |= shared
        return found

    def _take_arrays(self, *, dry: bool) -> None:
        """Hash the arrays of the sketches, side by side; one that is certainly new is written on the way."""
        found = {id(one): one for packed in self.packed.values() for one in packed.large.values()}
        arrays = [one for key, one in found.items() if not is_frame(one) and key not in self.stems]
        old = {id(self.values[token]) for token, known in self.known.items() if known.state is not None}
        sizes = self.shelf.files.sizes() if arrays and not dry else set()

        def take(array: Any) -> None:
            with suppress(Refused):  # it is too large, or over time: packing and writing will say so
                size = len(next(npy(array))) + array.nbytes
                if dry or size in sizes or id(array) in old:
                    self.stem(array)
                else:
                    self._write_new(array, size, apart=len(arrays) == 1)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(take, arrays))

    def _write_new(self, array: Any, size: int, *, apart: bool) -> None:
        digest, files = hashlib.sha256(), self.shelf.files

        def place() -> str:
            return f"names/{digest.hexdigest()}.npy"

        def write(file: Path) -> None:
            write_chunks(file, npy(array), self.budget, digest, apart=apart)

        self.budget.take(size)
        files.make(place, write, self.budget)
        stem = digest.hexdigest()
        self.stems[id(array)] = (array, stem)
        self.files[stem] = {"form": "npy", "stem": stem, "path": place(), "size": size, "sha256": stem}

    # Packing ----------------------------------------------------------------------------------------------------------

    def pack_name(self, name: str) -> None:
        """Pack a name, if it may have changed and can be saved."""
        token = self.tokens[name]
        if token in self.failed or token in self.packed or not self.is_affected(token):
            return
        try:
            self.pack(token)
        except Refused as problem:
            self.failed[token] = problem

    def reason(self, token: str) -> str:
        """Give why a token was not saved."""
        problem = self.failed[token]
        if isinstance(problem, Trouble):
            return trouble_of(self.values[token], problem.culprit, problem.problem)
        return str(problem)

    def pack(self, token: str) -> Packed:
        """Pack what a token stands for, with all that goes with it."""
        packed = Packed(self.together.get(token, frozenset({token})))
        self.working.append(packed.members)
        try:
            if len(packed.members) > 1 or not self._simple(packed, self.values[token]):
                self._pickle(packed)
        finally:
            self.working.pop()
        self.packed.update(dict.fromkeys(packed.members, packed))
        return packed

    def link(self, packed: Packed, token: str) -> Any:
        """Give what stands in a pickle for another name's value."""
        code = is_code(self.values[token])
        if code:
            packed.code.add(token)
            packed.needs.add(self.names_of[token][0])
        else:
            packed.order.append(token)
        if any(token in members for members in self.working):
            start = next(place for place, members in enumerate(self.working) if token in members)
            self.circles.append(set().union(*self.working[start:]))
            return ("name", token, "")
        if token in self.failed:
            raise self.failed[token]
        form, final = self.current(token)
        packed.final = packed.final and final
        return ("name", token, form["stem"])

    def current(self, token: str) -> tuple[Ref, bool]:
        """Give where a token's value is, as it is now, and whether that is for good."""
        if token not in self.packed:
            if not self.is_affected(token):
                return self.known[token].ref or {}, True
            self.pack(token)
        packed = self.packed[token]
        return (packed.final and self.unchanged(token)) or packed.form, packed.final

    def unchanged(self, token: str) -> Ref | None:
        """Give the reference that is known already, if what was packed is what it refers to."""
        known = self.known.get(token)
        if known is None or known.ref is None or "stem" not in known.ref:
            return None
        # While the state is learnt of what was just given back, or made by setup, it is what it was given back from.
        is_new = self.learns and (known.is_unseen or (known.shape is not None and known.shape == known.ref["stem"]))
        is_same = known.shape == self.packed[token].form["stem"] or self._is_array_of_setup(token, known)
        return known.ref if is_new or is_same else None

    def _is_array_of_setup(self, token: str, known: Known) -> bool:
        """Whether it is an array as setup made it: each kernel has it, whoever looks at its memory in this one."""
        if not known.is_of_setup or known.state is None or not self._is_array_file(self.values[token], alone=True):
            return False
        return known.state == self.state(token)

    def _simple(self, packed: Packed, value: Any) -> bool:
        """Pack what needs no pickle."""
        if is_importable(value):
            names = " ".join([value.__name__, *modules_in(value)])
            packed.form = {"form": "module", "module": names, "stem": "module:" + value.__name__}
            return True
        seen: dict[int, Any] = {}
        if _is_plain(value, self.named, seen):
            text = _short(value)
            if text is not None:
                packed.seen = {key: one for key, one in seen.items() if one is not value}
                packed.form = {"form": "json", "text": text, "stem": "json:" + text}
                return True
        if self._is_array_file(value):
            packed.arrays[id(value)] = value
            packed.form = {"form": "npy", "stem": self._large(packed, value)}
            return True
        if is_frame(value) and is_closed(value):
            packed.memory |= owners_of(value)
            packed.form = {"form": "series" if value.ndim == 1 else "parquet", "stem": self._large(packed, value)}
            return True
        return False

    def _is_array_file(self, value: Any, *, alone: bool = False) -> bool:
        """Whether an array has a file of its own; or had it, if nothing else looked at its memory."""
        np = sys.modules.get("numpy")
        if np is None or type(value) is not np.ndarray or (id(owner_of(value)) in self.shared_memory and not alone):
            return False
        if is_written_through(value) or is_other_look(value):
            return False
        return bool(value.flags.writeable and 0 not in value.strides and is_plain_array(value))

    def _large(self, packed: Packed, value: Any) -> str:
        """Give the stem of an array or a frame that has a file of its own."""
        stem = f"sketch {id(value)}" if self.sketch else self.stem(value)
        packed.final = not self.sketch
        packed.large[stem] = value
        return stem

    def stem(self, value: Any) -> str:
        """Give the digest of an array or a frame."""
        found = self.stems.get(id(value))
        if found is None:
            digest = frame_digest(value, self.budget) if is_frame(value) else array_digest(value, self.budget)
            found = self.stems[id(value)] = (value, digest)
        return found[1]

    def _pickle(self, packed: Packed) -> None:
        values = {token: self.values[token] for token in sorted(packed.members)}
        pickling = self.shelf.pickler(self, packed)
        try:
            pickling.dump(values)
        except Refused:
            raise
        except Exception as problem:
            # Whatever a __reduce__ or __getstate__ raises, the other names count.
            if of_the_machine(problem):
                raise
            raise Trouble(pickling.culprit, problem) from None
        for key in (id(values), *map(id, values.values())):
            packed.seen.pop(key, None)
        packed.chunks = pickling.sink.chunks
        packed.seen[id(pickling)] = pickling.ended()  # its memo keeps what was made while pickling
        stem = "sketch"
        if not self.sketch or packed.final:
            stem = digest_of(packed.chunks, self.budget)
        packed.form = {"form": "pickle", "stem": stem}

    def array_inside(self, packed: Packed, value: Any) -> Any:
        """Reduce an array that something else holds; None where numpy does it itself."""
        np = sys.modules["numpy"]
        owner = owner_of(value)
        shared = owner is not value and id(owner) in self.shared_memory and not value.dtype.hasobject
        if shared or is_other_look(value):
            start = address_of(value) - address_of(owner)
            return new_view, (owner, start, value.shape, value.strides, value.dtype, value.flags.writeable)
        if not is_plain_array(value):
            return None
        if value.nbytes >= LARGE:
            return itself if value.flags.writeable else fixed, (External(self._large(packed, value)),)
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        data = np.asarray(value).tobytes(order)
        return new_array, (data, value.shape, value.dtype, order, value.flags.writeable)

    def frame_inside(self, packed: Packed, value: Any) -> Any:
        """Reduce a frame that something else holds; None where pandas does it itself."""
        if not is_closed(value):
            return None
        packed.memory |= owners_of(value)
        size = value.memory_usage()
        if (size if value.ndim == 1 else size.sum()) < LARGE:
            return thaw, (pickle.dumps(value, 5),)
        return itself, (External(self._large(packed, value)),)

    # Writing ----------------------------------------------------------------------------------------------------------

    def write_all(self) -> None:
        """Write what was packed and is not there yet."""
        for token in list(self.packed):
            with suppress(Refused):
                self.write(token)

    def write(self, token: str) -> None:
        """Write what a token stands for, after what that holds."""
        packed = self.packed.get(token)
        if token in self.failed:
            raise self.failed[token]
        if packed is None or self._is_there(packed):
            return
        try:
            for other in sorted((packed.data | packed.code) - packed.members):
                self.write(other)
            for stem, value in packed.large.items():
                if stem not in self.files:
                    self.files[stem] = self._write_large(stem, value)
            if packed.chunks:
                stem = packed.form["stem"]
                self.files[stem] = self._write(stem, "pickle", sum(map(len, packed.chunks)), packed.chunks)
        except Refused as problem:
            self.failed.update(dict.fromkeys(packed.members, problem))
            raise

    def _is_there(self, packed: Packed) -> bool:
        """Whether it is what is known already, and need not be written."""
        if packed.form["stem"] in self.files:
            return True
        return all(self.unchanged(token) for token in packed.members)

    def _write_large(self, stem: str, value: Any) -> Ref:
        if not is_frame(value):
            return self._write(stem, "npy", len(next(npy(value))) + value.nbytes, npy(value))
        form = "series" if value.ndim == 1 else "parquet"
        path = f"names/{stem}.parquet"
        if self.shelf.files.there(path) and self._holds(path, form, stem):
            return {"form": form, "stem": stem, "path": path, **self.shelf.files.seen(path)}
        return self._write_frame(stem, form, value)

    def _holds(self, path: str, form: str, stem: str) -> bool:
        """Whether a file of Parquet is what its name says: somebody may have changed it."""
        try:
            return frame_digest(from_parquet(self.shelf.files.path(path), form), self.budget) == stem
        except Refused:
            raise
        except Exception as problem:
            # Whatever pyarrow raises: it is none.
            if of_the_machine(problem):
                raise
            return False

    def _write_frame(self, stem: str, form: str, value: Any) -> Ref:
        files = self.shelf.files
        if has_parquet():
            path = f"names/{stem}.parquet"
            try:
                files.make(path, lambda file: self._parquet(value, file, stem), self.budget)
            except Refused:
                raise
            except Exception as problem:
                # Whatever it is that Parquet does not take, pickle takes it.
                if of_the_machine(problem):
                    raise
            else:
                return {"form": form, "stem": stem, "path": path, **files.seen(path)}
        data = pickle.dumps(value, 5)  # of equal frames there may be several, each with a file of its own
        made = self._write(hashlib.sha256(data).hexdigest(), "frame", len(data), [data])
        return {**made, "stem": stem}

    def _parquet(self, value: Any, file: Path, stem: str) -> None:
        to_parquet(value, file, stem)
        self.budget.take(file.stat().st_size)

    def _write(self, stem: str, form: str, size: int, chunks: Iterable[Any]) -> Ref:
        files, path = self.shelf.files, f"names/{stem}.{form}"
        if not files.has(path, stem):
            self.budget.take(size)
            files.make(path, lambda file: write_chunks(file, chunks, self.budget), self.budget)
        return {"form": form, "stem": stem, "path": path, "size": size, "sha256": stem}

    # What came of it --------------------------------------------------------------------------------------------------

    def refs(self) -> dict[str, Ref]:
        """Give the references of what was packed and written, by name."""
        found = {}
        for name in self.names:
            token = self.tokens[name]
            if token in self.failed:
                continue
            if token not in self.packed:
                if name not in self.shelf.known:  # a new name of something that is known
                    found[name] = self.known[token].ref or {}
                continue
            packed = self.packed[token]
            ref = dict(self.unchanged(token) or self._ref(token, packed))
            ref["needs"] = sorted(packed.needs)
            ref["holds"] = sorted(self._names_of(packed.data | packed.code) - {name})
            ref["shares"] = sorted((self._names_of({token, *packed.members}) | self.beside(token)) - {name})
            found[name] = ref
        return found

    def leave_out(self, offers: Iterable[str]) -> None:
        """Leave out those names that could not be saved, or look at memory of others: these change it by another way,
        and nobody has asked for the names."""
        shares = {
            name for name in offers if self.tokens[name] in self.failed or self.beside(self.tokens[name]) - {name}
        }
        self.names = [name for name in self.names if name not in shares]

    def held(self, name: str) -> set[str]:
        """Give the names whose values one holds."""
        packed = self.packed.get(self.tokens[name])
        return set() if packed is None else self._names_of(packed.data | packed.code)

    def inside(self, token: str) -> tuple[str, ...] | None:
        """Give the tokens of other data as they stand in what a token stands for; None if it is packed with others."""
        packed = self.packed.get(token)
        return tuple(packed.order) if packed is not None and len(packed.members) == 1 else None

    def with_it(self, name: str) -> set[str]:
        """Give the names of other values that are packed with one: they share what has no name, or hold each other."""
        token = self.tokens[name]
        packed = self.packed.get(token)
        return set() if packed is None else self._names_of(packed.members - {token})

    def state(self, token: str) -> str | None:
        """Give what changes of a token's value are told from: of a pickle not its own digest, for that depends on which
        other names are saved, and packed with it."""
        if token not in self.packed:
            return self.known[token].state
        packed = self.packed[token]
        form = packed.form
        if form["form"] != "pickle":
            return str(form["stem"])
        if token in self.alone:
            return self.alone[token]
        if self._is_array_file(self.values[token], alone=True):
            with suppress(Refused):  # there is no time left
                return self.alone.setdefault(token, self.stem(self.values[token]))
        if _is_plain(self.values[token], {}, {}) and (text := _short(self.values[token])) is not None:
            return self.alone.setdefault(token, "json:" + text)  # as it is told where no part of it has a name
        if packed.code or packed.needs or is_code(self.values[token]):
            found = self._digest_beside(token)
        else:
            found = digest_alone(self.shelf.cloudpickle, self.values[token])
        return self.alone.setdefault(token, found or form["stem"])

    def _digest_beside(self, token: str) -> str | None:
        """Give a digest of a value beside the functions and classes that have names; None where it cannot be told."""
        pickling = self.shelf.lone(self, Packed(frozenset({token})))
        try:
            pickling.dump(self.values[token])
            return digest_of(pickling.sink.chunks, self.budget)
        except Exception as problem:
            # Whatever a __reduce__ or __getstate__ raises: it was packed with others.
            if of_the_machine(problem):
                raise
            return None

    def shape(self, token: str) -> str | None:
        """Give what the packing of a token's value is told from."""
        return str(self.packed[token].form["stem"]) if token in self.packed else self.known[token].shape

    def _ref(self, token: str, packed: Packed) -> Ref:
        stem = packed.form["stem"]
        ref = {**packed.form, **self.files.get(stem, {})}
        value = self.values[token]
        ref["type"] = f"{type(value).__module__}.{type(value).__qualname__}"
        if type(value) not in ATOMS:
            ref["id"] = token
        if ref["form"] == "pickle":
            ref["member"] = token
            ref["parts"] = list(self._parts(packed).values())
        return ref

    def _parts(self, packed: Packed) -> dict[str, Ref]:
        parts = {stem: self.files[stem] for stem in packed.large}
        for token in sorted((packed.data | packed.code) - packed.members):
            ref, _ = self.current(token)
            if "path" in ref:
                parts.update((one["stem"], one) for one in _files(ref))
            elif token in self.packed and "path" in self.files.get(ref["stem"], {}):
                parts[ref["stem"]] = self.files[ref["stem"]]
                parts.update(self._parts(self.packed[token]))
        return parts

    def beside(self, token: str) -> set[str]:
        """Give the names that look at the same memory, if only to read it: a change of one is seen in all."""
        if token not in self.packed:
            return set()
        if self.lookers is None:
            self.lookers = {}
            for other, one in self.packed.items():
                for root in self._roots(one):
                    self.lookers.setdefault(root, set()).update(self.names_of[other])
        return set[str]().union(*(self.lookers[root] for root in self._roots(self.packed[token])))

    def _roots(self, packed: Packed) -> set[int]:
        return packed.memory | {id(owner_of(one)) for one in packed.arrays.values()}

    def end(self) -> None:
        """Let go of the values: problems refer to this object, and would keep them until gc comes."""
        for kept in (self.packed, self.values, self.stems, self.named, self.known, self.failed, self.origins):
            kept.clear()

    def _names_of(self, tokens: Iterable[str]) -> set[str]:
        return {name for token in tokens for name in self.names_of.get(token, ())}

    def holders(self) -> dict[str, set[str]]:
        """Give for each name of a function or a class those that have it inside."""
        found: dict[str, set[str]] = {}
        for token, packed in self.packed.items():
            for name in self._names_of(packed.code):
                found.setdefault(name, set()).update(self.names_of[token])
        return found

    def connected(self) -> dict[str, set[str]]:
        """Give for each token the names that share with it what can be changed."""
        names: dict[str, set[str]] = {}
        for name, token in self.tokens.items():
            names.setdefault(token, set()).add(name)
        found = {token: set(names[token]) for token in names}
        for token, packed in self.packed.items():
            if token in self.failed:
                continue
            for other in packed.data | packed.members:
                found[token] |= names[other]
                found[other] |= names[token]
        return found


def _files(ref: Ref) -> list[Ref]:
    """Give all files of a reference: its own, and those that loading it reads."""
    own = {key: ref[key] for key in ("form", "stem", "path", "size", "sha256")}
    return [own, *ref.get("parts", ())]
