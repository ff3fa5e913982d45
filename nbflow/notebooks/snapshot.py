"""Saves names of a notebook in one kernel, and gives them back in another. Carried: standard library, Python 3.9.

Names are saved one by one, so that a later step loads what it reads and nothing else. Names that share something that
can be changed, and has no name of its own, are saved together. Whatever is another name's value is written as that
name's token, and so one object stays one object. Files are called by a digest of what they hold.

numpy and pandas are used where the kernel has loaded them, and never imported for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import dis
import enum
import errno
import fractions
import functools
import gc
import hashlib
import importlib
import importlib.util
import io
import json
import linecache
import os
import pathlib
import pickle
import re
import sys
import threading
import time
import types
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

MIME = "application/vnd.nbflow.snapshot+json"
SHORT = 1000
"""Characters of JSON that stand in the reference itself."""
LARGE = 64 * 1024
"""Bytes from which an array inside of something else has a file of its own."""
CHUNK = 256 * 1024
"""Bytes that are written, read and hashed at once: what was just written is still in the processor's cache."""
UNNAMED = "$nbflow unnamed"
"""What the column of a Series without a name is called in its file."""
REASON = 150
"""Characters of a reason, at most."""

Ref = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it is told, not raised to anybody
    """A name that is not saved or not given back, with the reason: words that follow the name."""


class Gone(Exception):  # noqa: N818
    """A file that is not there, or not what it was."""


def of_the_machine(problem: BaseException) -> bool:
    """Whether an error says nothing about the value: there is no memory or no space, and later there may be."""
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(problem, MemoryError)


# What has no identity that counts, and what cannot be saved -----------------------------------------------------------

_ATOMS = {
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis), type(NotImplemented)),
    *(dt.date, dt.time, dt.datetime, dt.timedelta, dt.timezone),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, types.CodeType, types.BuiltinFunctionType),
}
"""Types whose objects cannot be changed and hold nothing that can."""

_FIXED = (
    *(tuple, frozenset, enum.Enum, type, types.ModuleType, types.FunctionType, pickle.PickleBuffer, pathlib.PurePath),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo, property, staticmethod, classmethod),
    *(types.MethodType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
"""Types whose objects cannot be changed themselves; what they hold is looked at."""

_LIBRARY_FIXED = (
    *(("numpy", "generic"), ("numpy", "dtype"), ("numpy", "ufunc")),
    *(("pandas", "Index"), ("pandas.api.extensions", "ExtensionDtype"), ("pandas", "Interval"), ("pandas", "Period")),
)

_CACHED: Any = type(functools.lru_cache(abs))
_LOCKS = (type(threading.Lock()), type(threading.RLock()))

_REFUSED: tuple[tuple[str, str], ...] = (
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


def _loaded(rows: tuple[tuple[str, str], ...]) -> tuple[type, ...]:
    """Give those of the classes whose modules this process has imported."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in rows]
    return tuple(one for one in found if isinstance(one, type))


def _called(value: object) -> str:
    """Give what a thing is called in a reason: ``a sqlite3.Connection``."""
    kind = type(value)
    name = "generator" if kind is types.GeneratorType else f"{kind.__module__}.{kind.__qualname__}"
    name = name.removeprefix("builtins.").removeprefix("__main__.") if sys.version_info >= (3, 9) else name
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _reason(text: str) -> str:
    text = _line(text)
    return text if len(text) <= REASON else text[: REASON - 3] + "..."


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """Give what a value holds, each with how it is reached."""
    if isinstance(value, dict):
        yield from ((f"[{key!r:.30}]", one) for key, one in list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{place}]", one) for place, one in enumerate(value))
    closure = getattr(value, "__closure__", None) if isinstance(value, types.FunctionType) else None
    for name, cell in zip(value.__code__.co_freevars if closure else (), closure or ()):  # noqa: B905 - Python 3.9
        try:
            yield f" {name}", cell.cell_contents
        except ValueError:  # nothing was assigned to it yet
            continue
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, (dict, types.MappingProxyType)):
        yield from ((f".{name}", one) for name, one in list(attributes.items()) if isinstance(name, str))
    for slot in getattr(type(value), "__slots__", ()):
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
        for step, inner in () if type(one) in _ATOMS else _held(one):
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


def _trouble(value: object, culprit: object, problem: Exception) -> str:
    """Give why a value cannot be saved: what in it is the trouble, and where that is."""
    if isinstance(problem, RecursionError) or isinstance(problem.__context__, RecursionError):
        return "is nested too deeply to be saved"
    way = _where(value, culprit)
    words = f"is {_called(culprit)}" if way == "" else f"holds {_called(culprit)}" + (f" (in {way})" if way else "")
    by_nature = isinstance(problem, Unsavable) or "cannot pickle" in str(problem)
    return _reason(words if by_nature else f"{words}, which raises {type(problem).__name__}: {problem}")


# Limits ---------------------------------------------------------------------------------------------------------------


def _amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


class Budget:
    """What one save may take.

    Parameters
    ----------
    most : int
        Bytes that may be written, in all.
    seconds : float
        How long it may take, in all.
    """

    def __init__(self, most: float, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.start = time.monotonic()
        self.written = 0
        self.lock = threading.Lock()

    def look(self) -> None:
        """Look at the clock."""
        if time.monotonic() - self.start > self.seconds:
            raise Refused(f"was not saved within the {self.seconds:g} s that saving may take")

    def take(self, size: int) -> None:
        """Take so many bytes, before they are written."""
        self.look()
        if size > self.most:
            raise Refused(f"is {_amount(size)}, and at most {_amount(self.most)} are saved")
        with self.lock:
            if self.written + size > self.most:
                beside = f"is {_amount(size)}, beside {_amount(self.written)} of other names"
                raise Refused(f"{beside}, and at most {_amount(self.most)} are saved in all")
            self.written += size


# Files ----------------------------------------------------------------------------------------------------------------


class Files:
    """The folder of saved values: a file is called by the digest of what it holds, and is there whole or not at all.

    Parameters
    ----------
    folder : str
        The run folder; the files are in ``names`` in it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def path(self, relative: str) -> Path:
        """Give where a file is."""
        return self.folder / relative

    def there(self, relative: str) -> bool:
        """Whether there is such a file."""
        return self.path(relative).exists()

    def make(self, relative: str | Callable[[], str], write: Callable[[Path], None], budget: Budget) -> None:
        """Make a file under another name, and give it its own once it is whole, and that is known."""
        self.path("names").mkdir(parents=True, exist_ok=True)
        temporary = self.path(f"names/.{uuid.uuid4().hex}.tmp")
        try:
            write(temporary)
            budget.look()
            temporary.replace(self.path(relative if isinstance(relative, str) else relative()))
        finally:
            if temporary.exists():
                temporary.unlink()

    def sizes(self) -> set[int]:
        """Give the sizes of the arrays that are there: one of another size is certainly new."""
        names = self.path("names")
        return {one.stat().st_size for one in names.glob("*.npy")} if names.is_dir() else set()

    def seen(self, relative: str) -> Ref:
        """Give size and SHA-256 of a file that is there."""
        digest, size = hashlib.sha256(), 0
        with self.path(relative).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return {"size": size, "sha256": digest.hexdigest()}

    def read(self, part: Ref) -> bytes:
        """Give what is in a file, once it is certain that it is what was written.

        Raises
        ------
        Gone
            If it is not.
        """
        try:
            with self.path(part["path"]).open("rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise Gone(part["path"]) from None
        if hashlib.sha256(data).hexdigest() != part["sha256"]:
            raise Gone(part["path"])
        return data


def _digest(chunks: Iterable[Any], budget: Budget) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        budget.look()
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _hashing(digest: Any, *, apart: bool) -> Iterator[Callable[[Any], object]]:
    """Give what puts chunks into a digest: at once, or in a thread of its own while the next one is got."""
    if not apart:
        yield digest.update
        return
    with ThreadPoolExecutor(1) as pool:  # one worker: the chunks stay in order
        hashed: list[Future[None]] = []
        yield lambda chunk: hashed.append(pool.submit(digest.update, chunk))
        for one in hashed:
            one.result()


def _write_chunks(
    path: Path, chunks: Iterable[Any], budget: Budget, digest: Any = None, *, apart: bool = False
) -> None:
    with path.open("wb", buffering=0) as file, _hashing(digest or hashlib.sha256(), apart=apart) as update:
        for chunk in chunks:
            budget.look()
            if digest is not None:
                update(chunk)
            view = memoryview(chunk).cast("B")
            while view:  # a write of the system may be a partial one
                view = view[file.write(view) :]


# Arrays ---------------------------------------------------------------------------------------------------------------


def _plain_array(value: Any) -> bool:
    """Whether an array has a type that ``.npy`` keeps."""
    np = sys.modules["numpy"]
    if value.dtype.hasobject or value.dtype.kind not in "biufcmMSUV" or value.dtype.metadata:
        return False
    return bool(np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(value.dtype)) == value.dtype)


def _memory(value: Any) -> Any:
    """Give the bytes of a contiguous array as they are in memory."""
    np = sys.modules["numpy"]
    value = np.asarray(value)
    flat = (value if value.flags.c_contiguous else value.T).reshape(-1)
    return flat.view(np.uint8) if flat.nbytes else flat[:0].view(np.dtype("V1")) if flat.itemsize else np.empty(0, "u1")


def _npy(value: Any) -> Iterator[Any]:
    """Give an ``.npy`` file of the array in chunks, without a copy where the array is contiguous."""
    np = sys.modules["numpy"]
    head = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(value)
    try:
        np.lib.format.write_array_header_1_0(head, described)
    except ValueError:  # a structure with very many fields
        np.lib.format.write_array_header_2_0(head, described)
    yield head.getvalue()
    if not value.nbytes:
        return
    if value.flags.c_contiguous or value.flags.f_contiguous:
        flat = _memory(value)
        yield from (flat[start : start + CHUNK] for start in range(0, flat.nbytes, CHUNK))
        return
    flags = ["external_loop", "buffered", "zerosize_ok"]
    rows = np.nditer(value, flags=flags, buffersize=max(CHUNK // value.itemsize, 1), order="C")
    yield from (row.tobytes("C") for row in rows)


def _read_npy(files: Files, part: Ref, *, apart: bool = True) -> Any:
    """Give the array of an ``.npy`` file; it is hashed while it is read, in a thread apart or by and by."""
    np = sys.modules.get("numpy") or __import__("numpy")
    digest = hashlib.sha256()
    try:
        with files.path(part["path"]).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != part["size"]:
                raise Gone(part["path"])
            value, at = _header(np, file)
            file.seek(0)
            digest.update(file.read(at))
            flat = _memory(value)
            with _hashing(digest, apart=apart and flat.nbytes > CHUNK) as update:
                for start in range(0, flat.nbytes, CHUNK):
                    _fill(file, flat[start : start + CHUNK], part)
                    update(flat[start : start + CHUNK])
    except (FileNotFoundError, ValueError):  # a header that is none
        raise Gone(part["path"]) from None
    if digest.hexdigest() != part["sha256"]:
        raise Gone(part["path"])
    return value


def _header(np: Any, file: Any) -> tuple[Any, int]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(file)](file, max_header_size=1 << 20)
    return np.empty(shape, dtype, "F" if fortran else "C"), file.tell()


def _fill(file: Any, chunk: Any, part: Ref) -> None:
    view = memoryview(chunk)
    while view:
        count = file.readinto(view)
        if not count:
            raise Gone(part["path"])
        view = view[count:]


def _array_digest(value: Any, budget: Budget) -> str:
    return _digest(_npy(value), budget)


def _root(value: Any) -> Any:
    """Give what owns the memory of an array."""
    np = sys.modules["numpy"]
    while isinstance(value, np.ndarray) and value.base is not None:
        value = value.base
    return value


# Frames ---------------------------------------------------------------------------------------------------------------


def _is_frame(value: object) -> bool:
    """Whether it is a frame or a series, and of no class of its own."""
    pd = sys.modules.get("pandas")
    return pd is not None and type(value) in (getattr(pd, "DataFrame", None), getattr(pd, "Series", None))


def _is_stable(value: Any, form: str) -> bool:
    """Whether a value that was given back has the digest again that it had: objects in a pickle may be other ones."""
    if form in ("parquet", "series", "frame"):
        return all(one.dtype != object for one in (*_columns(value), *_levels(value.index)))
    return form in ("json", "module", "npy")


def _columns(frame: Any) -> list[Any]:
    return [frame.iloc[:, place] for place in range(frame.shape[1])] if frame.ndim == 2 else [frame]


def _closed(frame: Any) -> bool:
    """Whether nothing in a frame has an identity: there are numbers, texts and the like in it."""
    pd = sys.modules["pandas"]
    kinds = {"string", "empty", "boolean", "date", "decimal", "datetime", "bytes", "time", "integer", "floating"}
    objects = [one for one in _columns(frame) if one.dtype == object]
    objects += [level for level in _levels(frame.index) if level.dtype == object]
    return not frame.attrs and all(pd.api.types.infer_dtype(one, skipna=True) in kinds for one in objects)


def _levels(index: Any) -> list[Any]:
    return list(index.levels) if hasattr(index, "levels") else [index]


def _owners(frame: Any) -> set[int]:
    """Give the ids of what owns the memory of a frame."""
    np = sys.modules["numpy"]
    arrays = [one.array for one in _columns(frame)]
    plain = [one.to_numpy() for one in arrays if type(one).__name__ in ("NumpyExtensionArray", "PandasArray")]
    return {id(_root(one)) for one in plain if isinstance(one, np.ndarray)}


def _frame_digest(frame: Any, budget: Budget) -> str:
    """Give a digest of a frame: of its columns one by one, whatever blocks it keeps them in."""
    digest = hashlib.sha256(type(frame).__name__.encode())
    head = [
        frame.columns if frame.ndim == 2 else frame.name,
        frame.index,
        frame.attrs,
        frame.flags.allows_duplicate_labels,
    ]
    for one in [*head, *(column.array for column in _columns(frame))]:
        budget.look()
        _feed(digest, one)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Put a column into a digest."""
    np = sys.modules["numpy"]
    if type(value).__name__ in ("NumpyExtensionArray", "PandasArray"):
        value = value.to_numpy()
    if type(value) is np.ndarray and _plain_array(value):
        digest.update(f"{value.dtype.str} {value.shape};".encode())
        for start in range(0, len(value), CHUNK // max(value.itemsize, 1) or 1):
            piece = np.ascontiguousarray(value[start : start + (CHUNK // max(value.itemsize, 1) or 1)])
            digest.update(_memory(piece))
        return
    chunked = getattr(value, "_pa_array", None)
    if chunked is not None:
        _feed_arrow(digest, value.dtype, chunked)
        return
    buffers: list[pickle.PickleBuffer] = []
    digest.update(pickle.dumps(value, 5, buffer_callback=buffers.append))
    for buffer in buffers:
        digest.update(buffer.raw())


def _feed_arrow(digest: Any, dtype: Any, chunked: Any) -> None:
    """Put an Arrow column into a digest: what it holds, and not how it is cut into chunks."""
    pa = sys.modules["pyarrow"]
    digest.update(f"{dtype!r} {chunked.type} {len(chunked)};".encode())
    table = pa.table([chunked.combine_chunks()], names=["column"])

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            digest.update(data)
            return memoryview(data).nbytes

    with pa.ipc.new_stream(Sink(), table.schema) as out:
        out.write_table(table)


def _to_parquet(frame: Any, path: Path, digest: str) -> None:
    """Write a frame, and make sure that Parquet gives back what it was."""
    series = frame.ndim == 1
    table = frame.to_frame(UNNAMED if frame.name is None else frame.name) if series else frame
    table.to_parquet(path, engine="pyarrow")
    back = _from_parquet(path, "series" if series else "parquet")
    if _frame_digest(back, Budget(float("inf"), float("inf"))) != digest:
        raise TypeError("Parquet gives back another frame")


def _has_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def _from_parquet(path: Any, form: str) -> Any:
    pd = sys.modules.get("pandas") or __import__("pandas")
    frame = pd.read_parquet(path, engine="pyarrow")
    if form == "parquet":
        return frame
    series = frame.iloc[:, 0]
    return series.rename(None) if series.name == UNNAMED else series


# Code -----------------------------------------------------------------------------------------------------------------

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_used: weakref.WeakKeyDictionary[types.CodeType, frozenset[str]] = weakref.WeakKeyDictionary()


def _uses(code: types.CodeType) -> frozenset[str]:
    """Give the global names that code uses, with all code in it."""
    if code not in _used:
        names = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL}
        inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
        _used[code] = frozenset(names.union(*map(_uses, inner)))
    return _used[code]


def _source(code: types.CodeType) -> tuple[str, int, list[str]] | None:
    """Give the source of a function that stands in no file, as tracebacks and ``inspect`` find it."""
    lines = linecache.cache.get(code.co_filename, ())
    if len(lines) != 4 or lines[1] is not None:
        return None
    codes = [code]
    for one in codes:
        codes += [inner for inner in one.co_consts if isinstance(inner, types.CodeType)]
    last = max(line or 0 for one in codes for _, line in dis.findlinestarts(one))
    return code.co_filename, code.co_firstlineno, lines[2][code.co_firstlineno - 1 : last]


def _keep_source(file: str, first: int, lines: list[str]) -> None:
    there: Any = linecache.cache.get(file, (0, None, []))
    known = list(there[2]) if len(there) > 2 else []
    known += ["\n"] * (first - 1 + len(lines) - len(known))
    known[first - 1 : first - 1 + len(lines)] = lines
    linecache.cache[file] = (sum(map(len, known)), None, known, file)


def _new_cell() -> types.CellType:
    return types.CellType()


def _fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    cell.cell_contents = state[0]


def _fill_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    attributes, special, cells, source = state
    if source is not None:
        _keep_source(*source)
    for cell, contents in cells:
        cell.cell_contents = contents
    function.__dict__.update(attributes)
    for name, value in special.items():
        setattr(function, name, value)


def _new_class(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Make a class, and run nothing of the notebook: what its metaclass and its bases did to it was done before."""
    kind, name, bases, attributes, *_ = arguments
    meta = kind if isinstance(kind, type) else type
    hooked = {one for base in bases if isinstance(base, type) for one in base.__mro__ if _of_notebook(one)}
    hooks = {one: vars(one)["__init_subclass__"] for one in hooked if "__init_subclass__" in vars(one)}
    for one in hooks:
        type.__setattr__(one, "__init_subclass__", classmethod(_nothing))
    try:
        if not _of_notebook(meta):
            return make(*arguments)
        known = next(one for one in meta.__mro__ if not _of_notebook(one))
        return known.__new__(meta, name, bases, dict(attributes))
    finally:
        for one, hook in hooks.items():
            type.__setattr__(one, "__init_subclass__", hook)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _of_notebook(kind: type) -> bool:
    return kind.__module__ == "__main__"


def _code(arguments: tuple[Any, ...], filename: str) -> types.CodeType:
    """Give a code object that knows the file, or the cell, that it was read in: cloudpickle leaves that out."""
    return types.CodeType(*arguments).replace(co_filename=filename)


def _function(code: Any, name: str, closure: Any) -> Any:
    """Stand for :meth:`Restore._function`, which knows the namespace."""
    raise NotImplementedError


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Give a function with an empty ``functools.lru_cache``."""
    return functools.lru_cache(**parameters)(function)


def _itself(value: Any) -> Any:
    return value


def _thaw(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - it stands in a pickle that was checked


def _view(owner: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:  # noqa: FBT001
    """Give an array that looks at the memory of another one."""
    np = sys.modules.get("numpy") or __import__("numpy")
    if isinstance(owner, np.ndarray):
        owner = _memory(owner)
    made = np.ndarray(shape, dtype, owner, offset, strides)
    if made.flags.writeable and not writeable:
        made.flags.writeable = False
    return made


def _array(data: bytes, shape: Any, dtype: Any, order: str, writeable: bool) -> Any:  # noqa: FBT001
    """Give a small array, which owns its memory as it did."""
    np = sys.modules.get("numpy") or __import__("numpy")
    made = np.ndarray(shape, dtype, data, order=order).copy(order)
    made.flags.writeable = writeable
    return made


def _masked(data: Any, mask: Any, fill: Any, hard: bool) -> Any:  # noqa: FBT001
    """Give a masked array that looks at these two."""
    np = sys.modules.get("numpy") or __import__("numpy")
    return np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, fill_value=fill, hard_mask=hard)


_HELPERS: dict[str, Any] = {
    one.__name__: one
    for one in (
        _code,
        _function,
        _new_cell,
        _fill_cell,
        _fill_function,
        _new_class,
        _cached,
        _itself,
        _thaw,
        _view,
        _array,
        _masked,
    )
}
"""What pickles of ours call; they stand in them as persistent ids, because this module has no name in a kernel."""
_HELPER_IDS = {id(one): ("helper", name) for name, one in _HELPERS.items()}
_SPECIAL = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
_JSON_ATOMS: set[type] = {type(None), bool, int, float, str}


# Packing: one name, or several that belong together, as a stream ------------------------------------------------------


class External:
    """What stands in a pickle for an array or a frame that has a file of its own."""

    def __init__(self, stem: str) -> None:
        self.stem = stem


def _alone(cloudpickle: Any, value: object) -> str | None:
    """Give a digest of a value for itself, in this process; None where it can be packed only as we do it."""
    digest = hashlib.sha256()

    class Sink:
        def write(self, data: Any) -> int:
            digest.update(data)
            return memoryview(data).nbytes

    buffers: list[pickle.PickleBuffer] = []
    try:
        cloudpickle.Pickler(Sink(), protocol=5, buffer_callback=buffers.append).dump(value)
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
        self.data: set[str] = set()
        """Tokens of what it holds, is another name's value, and can be changed."""
        self.code: set[str] = set()
        """Tokens of functions and classes that it holds."""
        self.final = True
        """Whether it is packed as it is for good, and not as a sketch."""


class _Sink:
    """Takes a pickle in, piece by piece."""

    def __init__(self, budget: Budget) -> None:
        self.chunks: list[bytes] = []
        self.budget = budget

    def write(self, data: Any) -> int:
        self.budget.look()
        self.chunks.append(data if isinstance(data, bytes) else bytes(data))
        return len(data)


def pickler(cloudpickle: Any) -> Any:
    """Give the class of our picklers; its base is only known once cloudpickle is loaded."""
    made_classes = (cloudpickle._make_skeleton_class, cloudpickle._make_skeleton_enum)  # noqa: SLF001
    by_reference = cloudpickle._should_pickle_by_reference  # noqa: SLF001

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Writes tokens for what has a name, and external files for what is large."""

        def __init__(self, save: Save, packed: Packed) -> None:
            self.sink = _Sink(save.budget)
            super().__init__(self.sink, 5)
            self.save = save
            self.packed = packed
            self.filled: set[int] = set()
            self.culprit: object = None

        def persistent_id(self, value: Any) -> Any:
            kind = type(value)
            if kind in _ATOMS:
                return None
            key = id(value)
            if key in _HELPER_IDS:
                return _HELPER_IDS[key]
            if kind is External:
                return ("file", value.stem)
            token = self.save.named.get(key)
            if token is not None and token not in self.packed.members:
                return self.save.link(self.packed, token)
            if self.save.has_identity(kind):
                self.packed.seen[key] = value
            return None

        def reducer_override(self, value: Any) -> Any:
            self.culprit = value
            if isinstance(value, self.save.refused):
                raise Unsavable
            reduce = self.save.reducers.get(type(value))
            if reduce is not None:
                return reduce(self, value)
            if isinstance(value, type):
                return self.reduce_class(value)
            return super().reducer_override(value)

        def reduce_function(self, value: types.FunctionType) -> Any:
            if by_reference(value):
                return NotImplemented
            self.packed.seen[id(value)] = value
            if value.__globals__ is not self.save.namespace:
                return super().reducer_override(value)
            self.packed.needs |= {name for name in _uses(value.__code__) if self.save.shelf.is_own(name)}
            cells = []
            for cell in value.__closure__ or ():
                self.filled.add(id(cell))
                try:
                    cells.append((cell, cell.cell_contents))
                except ValueError:  # nothing was assigned to it yet
                    continue
            special = {name: getattr(value, name) for name in _SPECIAL if getattr(value, name, None) is not None}
            state = (dict(value.__dict__), special, tuple(cells), _source(value.__code__))
            return _function, (value.__code__, value.__name__, value.__closure__), state, None, None, _fill_function

        def reduce_code(self, value: types.CodeType) -> Any:
            _, arguments = cloudpickle._code_reduce(value)  # noqa: SLF001
            return _code, (arguments, "".join(value.co_filename))  # a copy: text that is shared would be a memo's entry

        def reduce_cached(self, value: Any) -> Any:
            if cloudpickle._lookup_module_and_qualname(value) is not None:  # noqa: SLF001
                return NotImplemented
            self.packed.seen[id(value)] = value
            return _cached, (value.__wrapped__, value.cache_parameters()), dict(value.__dict__)

        def reduce_cached_property(self, value: Any) -> Any:  # before Python 3.12 it has a lock
            return functools.cached_property, (value.func,), {"attrname": value.attrname}

        def reduce_weak(self, value: Any) -> Any:
            return type(value), (dict(value),)

        def reduce_cell(self, value: types.CellType) -> Any:
            self.packed.seen[id(value)] = value
            if id(value) in self.filled:  # the function that it belongs to does it, as soon as that is there
                return _new_cell, ()
            try:
                return _new_cell, (), (value.cell_contents,), None, None, _fill_cell
            except ValueError:
                return _new_cell, ()

        def reduce_class(self, value: type) -> Any:
            made = super().reducer_override(value)
            if not isinstance(made, tuple) or made[0] not in made_classes:
                return made
            self.packed.seen[id(value)] = value
            make, arguments, state, *_ = made
            state[0].pop("__slotnames__", None)  # copyreg's notes, made when the first instance is pickled
            if "__slots__" in state[0] and not issubclass(value, tuple):
                arguments[3]["__slots__"] = state[0].pop("__slots__")
            # Without cloudpickle's own tracking: tokens do that here.
            return _new_class, (make, (*arguments[:-2], None, None)), state, None, None, cloudpickle._class_setstate  # noqa: SLF001

        def reduce_array(self, value: Any) -> Any:
            self.packed.arrays[id(value)] = value
            made = self.save.array_inside(self.packed, value)
            return super().reducer_override(value) if made is None else made

        def reduce_masked(self, value: Any) -> Any:
            nomask = sys.modules["numpy"].ma.nomask
            mask = None if value.mask is nomask else value.mask
            return _masked, (value.data, mask, value._fill_value, value.hardmask)  # noqa: SLF001 - or one is made

        def reduce_frame(self, value: Any) -> Any:
            made = self.save.frame_inside(self.packed, value)
            return super().reducer_override(value) if made is None else made

    return Pickler


def _plain(value: Any, named: dict[int, str], seen: dict[int, Any]) -> bool:
    """Whether a value is lists and dicts of atoms and nothing else, none of them twice; notes them in ``seen``."""
    todo = [value]
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
        if len(inner) > SHORT:
            return False
        if not _JSON_ATOMS.issuperset(map(type, inner)):
            todo.extend(inner)
    return True


def _short(value: Any) -> str | None:
    """Give the JSON of a plain value, if it is short."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # an int of more digits than Python writes; too deep
        return None
    return text if len(text) <= SHORT else None


class Known:
    """What a shelf knows of a name: the value that it had, and what that shares.

    Parameters
    ----------
    value : object
        Not kept: what is deleted in the notebook is gone.
    token : str
        Who the object is, in every kernel of the run.
    ref : dict, optional
        Where it is saved.
    state : str, optional
        What changes are told from: two equal states are one value. None where nobody looked.
    """

    def __init__(self, value: object, token: str, ref: Ref | None, state: str | None) -> None:
        self.at = id(value)
        self.weak = _weak(value)
        self.token = token
        self.ref = ref
        self.state = state
        self.shape = state
        """What its packing is told from: equal where it would be packed the same, beside the names that there are."""
        self.shares: set[str] = set()
        """Names that share with it what can be changed, or memory."""
        self.holds: set[str] = set()
        """Names of functions and classes in it."""

    def has(self, value: object) -> bool:
        """Whether that is the object."""
        return id(value) == self.at and (self.weak is None or self.weak() is value)


def _weak(value: object) -> weakref.ref[object] | None:
    try:
        return weakref.ref(value)
    except TypeError:
        return None


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
    """

    def __init__(self, shelf: Shelf, names: Iterable[str], affected: set[str] | None, budget: Budget) -> None:
        self.shelf = shelf
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
        self.fixed = (*_FIXED, *_loaded(_LIBRARY_FIXED))
        self.identity: dict[type, bool] = {}
        self.refused = (*_LOCKS, *_loaded(_REFUSED))
        self.reducers = self._reducers()
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
        self.sketch = True
        for name in dict.fromkeys([*names, *shelf.known]):
            if name in self.namespace and (name in names or shelf.known[name].has(self.namespace[name])):
                self.enter(name)
        self.names = [name for name in dict.fromkeys(names) if name in self.namespace]

    def _reducers(self) -> dict[Any, Callable[[Any, Any], Any]]:
        kind = self.shelf.pickler
        rows = {types.FunctionType: kind.reduce_function, types.CellType: kind.reduce_cell, _CACHED: kind.reduce_cached}
        rows[types.CodeType] = kind.reduce_code
        rows[functools.cached_property] = kind.reduce_cached_property
        rows.update(dict.fromkeys((weakref.WeakKeyDictionary, weakref.WeakValueDictionary), kind.reduce_weak))
        rows.update(dict.fromkeys(_loaded((("numpy", "ndarray"), ("numpy", "memmap"))), kind.reduce_array))
        rows.update(dict.fromkeys(_loaded((("numpy.ma", "MaskedArray"),)), kind.reduce_masked))
        rows.update(dict.fromkeys(_loaded((("pandas", "DataFrame"), ("pandas", "Series"))), kind.reduce_frame))
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
        if type(value) not in _ATOMS and not empty and not self._elsewhere(value):
            self.named[id(value)] = token

    def _elsewhere(self, value: Any) -> bool:
        """Whether a value is a module, or stands in one."""
        if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
            return True
        return is_code(value) and bool(self.shelf.cloudpickle._should_pickle_by_reference(value))  # noqa: SLF001

    def is_affected(self, token: str) -> bool:
        """Whether it has to be looked at."""
        known = self.known.get(token)
        if known is None or known.ref is None or self.affected is None:
            return True
        return not self.affected.isdisjoint(self.names_of[token])

    def _more(self, *, needs: bool) -> bool:
        """Look at what was packed: whether names have to be added, or to be put together."""
        wanted = set().union(*(one.needs for one in self.packed.values())) if needs else set()
        linked = {self.names_of[token][0] for token in self.packed}
        added = [name for name in sorted(wanted | linked) if name in self.namespace and name not in self.names]
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
            lookers.setdefault(id(_root(array)), []).append(array)
        owners = (bytearray, bytes, *_loaded((("numpy", "ndarray"),)))
        shared = {root for root, found in lookers.items() if len(found) > 1 and isinstance(_root(found[0]), owners)}
        found = not shared <= self.shared_memory
        self.shared_memory |= shared
        return found

    def _take_arrays(self, *, dry: bool) -> None:
        """Hash the arrays of the sketches, side by side; one that is certainly new is written on the way."""
        found = {id(one): one for packed in self.packed.values() for one in packed.large.values()}
        arrays = [one for key, one in found.items() if not _is_frame(one) and key not in self.stems]
        old = {id(self.values[token]) for token, known in self.known.items() if known.state is not None}
        sizes = self.shelf.files.sizes() if arrays and not dry else set()

        def take(array: Any) -> None:
            with suppress(Refused):  # it is too large, or over time: packing and writing will say so
                size = len(next(_npy(array))) + array.nbytes
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
            _write_chunks(file, _npy(array), self.budget, digest, apart=apart)

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
            return _trouble(self.values[token], problem.culprit, problem.problem)
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
        (packed.code if code else packed.data).add(token)
        if code:
            packed.needs.add(self.names_of[token][0])
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
        if known is None or known.ref is None:
            return None
        # While the state is learnt of what was just given back, it is what it was given back from.
        is_new = self.learns and known.shape is not None and known.shape == known.ref.get("stem")
        return known.ref if is_new or known.shape == self.packed[token].form["stem"] else None

    def _simple(self, packed: Packed, value: Any) -> bool:
        """Pack what needs no pickle."""
        if isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value:
            packed.form = {"form": "module", "module": value.__name__, "stem": "module:" + value.__name__}
            return True
        seen: dict[int, Any] = {}
        if _plain(value, self.named, seen):
            text = _short(value)
            if text is not None:
                packed.seen = {key: one for key, one in seen.items() if one is not value}
                packed.form = {"form": "json", "text": text, "stem": "json:" + text}
                return True
        if self._is_array_file(value):
            packed.arrays[id(value)] = value
            packed.form = {"form": "npy", "stem": self._large(packed, value)}
            return True
        if _is_frame(value) and _closed(value):
            packed.memory |= _owners(value)
            packed.form = {"form": "series" if value.ndim == 1 else "parquet", "stem": self._large(packed, value)}
            return True
        return False

    def _is_array_file(self, value: Any) -> bool:
        np = sys.modules.get("numpy")
        if np is None or type(value) not in (np.ndarray, np.memmap) or id(_root(value)) in self.shared_memory:
            return False
        return bool(value.flags.writeable and 0 not in value.strides and _plain_array(value))

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
            digest = _frame_digest(value, self.budget) if _is_frame(value) else _array_digest(value, self.budget)
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
        packed.seen[id(pickling)] = pickling  # its memo keeps what was made while pickling
        packed.chunks = pickling.sink.chunks
        stem = "sketch"
        if not self.sketch or packed.final:
            stem = _digest(packed.chunks, self.budget)
        packed.form = {"form": "pickle", "stem": stem}

    def array_inside(self, packed: Packed, value: Any) -> Any:
        """Reduce an array that something else holds; None where numpy does it itself."""
        np = sys.modules["numpy"]
        owner = _root(value)
        if owner is not value and id(owner) in self.shared_memory and not value.dtype.hasobject:
            start = _start(value) - _start(owner)
            return _view, (owner, start, value.shape, value.strides, value.dtype, value.flags.writeable)
        if not _plain_array(value):
            return None
        if value.nbytes >= LARGE and value.flags.writeable:
            return _itself, (External(self._large(packed, value)),)
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        data = np.asarray(value).tobytes(order)
        return _array, (data, value.shape, value.dtype, order, value.flags.writeable)

    def frame_inside(self, packed: Packed, value: Any) -> Any:
        """Reduce a frame that something else holds; None where pandas does it itself."""
        if not _closed(value):
            return None
        packed.memory |= _owners(value)
        size = value.memory_usage()
        if (size if value.ndim == 1 else size.sum()) < LARGE:
            return _thaw, (pickle.dumps(value, 5),)
        return _itself, (External(self._large(packed, value)),)

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
        if not _is_frame(value):
            return self._write(stem, "npy", len(next(_npy(value))) + value.nbytes, _npy(value))
        form = "series" if value.ndim == 1 else "parquet"
        for kind, suffix in ((form, "parquet"), ("frame", "frame")):
            path = f"names/{stem}.{suffix}"
            if self.shelf.files.there(path):
                return {"form": kind, "stem": stem, "path": path, **self.shelf.files.seen(path)}
        return self._write_frame(stem, form, value)

    def _write_frame(self, stem: str, form: str, value: Any) -> Ref:
        files = self.shelf.files
        if _has_parquet():
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
        data = pickle.dumps(value, 5)
        self._write(stem, "frame", len(data), [data])
        return {"form": "frame", "stem": stem, "path": f"names/{stem}.frame", **files.seen(f"names/{stem}.frame")}

    def _parquet(self, value: Any, file: Path, stem: str) -> None:
        _to_parquet(value, file, stem)
        self.budget.take(file.stat().st_size)

    def _write(self, stem: str, form: str, size: int, chunks: Iterable[Any]) -> Ref:
        files, path = self.shelf.files, f"names/{stem}.{form}"
        if not files.there(path):
            self.budget.take(size)
            files.make(path, lambda file: _write_chunks(file, chunks, self.budget), self.budget)
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
            ref["holds"] = sorted(self._names_of(packed.data) - {name})
            ref["shares"] = sorted((self._names_of({token, *packed.members}) | self.beside(token)) - {name})
            found[name] = ref
        return found

    def state(self, token: str) -> str | None:
        """Give what changes of a token's value are told from: of a pickle not its own digest, for that depends on which
        other names there are."""
        if token not in self.packed:
            return self.known[token].state
        packed = self.packed[token]
        form = packed.form
        if form["form"] != "pickle" or packed.code or packed.needs or is_code(self.values[token]):
            return str(form["stem"])
        if token not in self.alone:
            self.alone[token] = _alone(self.shelf.cloudpickle, self.values[token]) or form["stem"]
        return self.alone[token]

    def shape(self, token: str) -> str | None:
        """Give what the packing of a token's value is told from."""
        return str(self.packed[token].form["stem"]) if token in self.packed else self.known[token].shape

    def _ref(self, token: str, packed: Packed) -> Ref:
        stem = packed.form["stem"]
        ref = {**packed.form, **self.files.get(stem, {})}
        value = self.values[token]
        ref["type"] = f"{type(value).__module__}.{type(value).__qualname__}"
        if type(value) not in _ATOMS:
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
        own = self._roots(self.packed[token])
        others = [other for other, one in self.packed.items() if not own.isdisjoint(self._roots(one))] if own else []
        return {name for other in others for name in self.names_of[other]}

    def _roots(self, packed: Packed) -> set[int]:
        return packed.memory | {id(_root(one)) for one in packed.arrays.values()}

    def _names_of(self, tokens: Iterable[str]) -> set[str]:
        return {name for token in tokens for name in self.names_of.get(token, ())}

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


def is_code(value: object) -> bool:
    """Whether a value is a function or a class."""
    return isinstance(value, (type, types.FunctionType))


def _start(value: Any) -> int:
    """Give the address where a thing's memory begins."""
    np = sys.modules["numpy"]
    array = value if isinstance(value, np.ndarray) else np.frombuffer(value, "u1")
    return int(array.__array_interface__["data"][0])


def _files(ref: Ref) -> list[Ref]:
    """Give all files of a reference: its own, and those that loading it reads."""
    own = {key: ref[key] for key in ("form", "stem", "path", "size", "sha256")}
    return [own, *ref.get("parts", ())]


# Giving back ----------------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Reads our pickles."""

    def __init__(self, data: bytes, restore: Restore, parts: dict[str, Ref]) -> None:
        super().__init__(io.BytesIO(data))
        self.restore = restore
        self.parts = parts

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "helper":
            return self.restore.helpers[pid[1]]
        if pid[0] == "file":
            return self.restore.file(self.parts[pid[1]])
        return self.restore.named(pid[1], pid[2], self.parts)


class Restore:
    """One restoring of names.

    Parameters
    ----------
    shelf : Shelf
        What is known from before.
    refs : dict
        References, by name.
    """

    def __init__(self, shelf: Shelf, refs: dict[str, Ref], *, apart: bool = False) -> None:
        self.shelf = shelf
        self.refs = refs
        self.apart = apart
        """Whether they come from a kernel beside the others: what has the same token may be another object there."""
        self.wanted = {ref["id"]: ref for ref in refs.values() if "id" in ref}
        self.objects: dict[str, Any] = {}
        """By token."""
        self.large: dict[int, tuple[Any, str]] = {}
        """Arrays and frames that were read, with their digests, by id."""
        self.working: set[str] = set()
        self.read = 0
        self.fetched: dict[str, Any] = {}
        """Arrays that were read ahead, by stem; each is given once, for it is one object."""
        self.problems: dict[str, str] = {}
        self.missing: set[str] = set()
        self.helpers = {**_HELPERS, "_function": self._function}
        for name, known in shelf.known.items():
            there = name in shelf.namespace and known.has(shelf.namespace[name])
            wanted = self.wanted.get(known.token)
            same = there and known.ref and (wanted is None or _place(wanted) == _place(known.ref))
            if same and (not apart or is_code(shelf.namespace[name])):
                self.objects[known.token] = shelf.namespace[name]

    def _function(self, code: Any, name: str, closure: Any) -> types.FunctionType:
        return types.FunctionType(code, self.shelf.namespace, name, None, closure)

    def all(self) -> dict[str, Any]:
        """Give the values of those names that can be given back; notes the others."""
        values: dict[str, Any] = {}
        self._fetch()

        def take(name: str, ref: Ref) -> None:
            values[name] = self.value(ref)

        lists = {name: ref["items"] for name, ref in self.refs.items() if ref["form"] == "list"}
        for name, ref in self.refs.items():
            if name not in lists:
                self.trying(name, functools.partial(take, name, ref), ref)
        values.update({name: [None] * len(items) for name, items in lists.items()})
        for place in range(max(map(len, lists.values()), default=0)):
            self._take_item(place, {name: items for name, items in lists.items() if place < len(items)}, values)
        return {name: one for name, one in values.items() if name not in self.problems}

    def _take_item(self, place: int, lists: dict[str, list[Ref | None]], values: dict[str, Any]) -> None:
        """Give the names that one item of a fan-out left: each item has had a kernel of its own."""
        refs = {name: ref for name, items in lists.items() if (ref := items[place]) is not None}
        inner = Restore(self.shelf, refs, apart=True)
        for token, made in self.objects.items():  # classes that are restored beside are those of its objects
            ours, theirs = self.wanted.get(token), inner.wanted.get(token)
            if is_code(made) and (theirs is None or (ours is not None and _place(theirs) == _place(ours))):
                inner.objects.setdefault(token, made)
        for name, value in inner.all().items():
            values[name][place] = value
        self.read += inner.read
        self.problems.update(inner.problems)
        self.missing |= inner.missing

    def _fetch(self) -> None:
        """Read the arrays that have names of their own, side by side."""
        fresh = [ref for ref in self.refs.values() if ref["form"] == "npy" and ref["id"] not in self.objects]
        unique = {ref["stem"]: ref for ref in fresh}

        def read(ref: Ref) -> None:
            with suppress(Gone):  # it is read once more, and told
                self.fetched[ref["stem"]] = _read_npy(self.shelf.files, ref, apart=False)

        if len(unique) > 1:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(read, unique.values()))

    def trying(self, name: str, work: Callable[[], None], ref: Ref | None = None) -> None:
        """Do a part of it, and note what was wrong."""
        try:
            work()
        except Gone as problem:
            parts = [one["path"] for one in (ref or {}).get("parts", ())]
            self.missing |= {str(problem), *(path for path in parts if not self.shelf.files.there(path))}
        except Refused as problem:
            self.problems[name] = str(problem)
        except Exception as problem:
            # Whatever loading it raises, the other names count.
            if of_the_machine(problem):
                raise
            self.problems[name] = _failure(problem)

    def value(self, ref: Ref) -> Any:
        """Give what a reference stands for."""
        token = ref.get("id")
        if token is None:
            return self._load(ref, None)
        return self.named(token, ref["stem"], {})

    def named(self, token: str, stem: str, parts: dict[str, Ref]) -> Any:
        """Give the object of a token: the one that is there, the one that is wanted, or what it was."""
        if token in self.objects:
            return self.objects[token]
        ref = self.wanted.get(token)
        if ref is None or token in self.working:
            ref = parts.get(stem) or _without_file(stem)
        self.working.add(token)
        try:
            value = self._load({"parts": list(parts.values()), **ref}, token)
        finally:
            self.working.discard(token)
        return self.objects.setdefault(token, value)

    def _load(self, ref: Ref, token: str | None) -> Any:
        form = ref["form"]
        if form == "json":
            return json.loads(ref["text"])
        if form == "module":
            return importlib.import_module(ref["module"])
        if form == "setup":
            return self._of_setup(ref["stem"].partition(":")[2])
        if form != "pickle":
            return self.file(ref)
        parts = {one["stem"]: one for one in ref.get("parts", ())}
        data = self.shelf.files.read(ref)
        self.read += len(data)
        members = _Unpickler(data, self, parts).load()
        for other, value in members.items():
            self.objects.setdefault(other, value)
        return members[ref.get("member", token)]

    def _of_setup(self, name: str) -> Any:
        if name not in self.shelf.namespace:
            raise Refused("is made by a setup cell, and was not made in this kernel")
        return self.shelf.namespace[name]

    def file(self, part: Ref) -> Any:
        """Give what is in the file of an array or a frame."""
        self.read += part["size"]
        if part["form"] == "npy":
            value = self.fetched.pop(part["stem"], None)
            value = _read_npy(self.shelf.files, part) if value is None else value
        else:
            data = self.shelf.files.read(part)
            value = _thaw(data) if part["form"] == "frame" else _from_parquet(io.BytesIO(data), part["form"])
        self.large[id(value)] = value, part["stem"]
        return value


def _place(ref: Ref) -> tuple[Any, Any]:
    return ref["stem"], ref.get("id")


def _without_file(stem: str) -> Ref:
    """Give the reference of what stands in its stem."""
    form, _, text = stem.partition(":")
    return {"form": form, "text": text, "module": text, "stem": stem}


# What is no name: the settings of the interpreter and of libraries, and the states of random generators ---------------


class Row(NamedTuple):
    """Something that a step may have set, and that a later one sees."""

    module: str
    name: str
    take: Callable[[Any], Any]
    """Gives it as it is."""
    give: Callable[[Any, Any], None]
    """Makes it so."""
    usual: Any = None
    """What it is in a kernel that nothing was set in; None for what it was at the kernel's start."""
    early: bool = False
    """Whether it has to be so before anything is imported."""
    apart: Callable[[Any, Any], Any] = lambda _, now: now
    """Gives what is written, of how it was at the start and how it is."""


OF_THE_TASK = frozenset({"NBFLOW_INDEX", "NBFLOW_ITEM_DIR", "NBFLOW_RUN_ID"})
"""Variables that tell a kernel which task it works at; no settings of a step."""


def _environ(module: Any) -> dict[str, str]:
    return {name: value for name, value in module.environ.items() if name not in OF_THE_TASK}


def _environ_apart(start: dict[str, str], now: dict[str, str]) -> dict[str, str | None]:
    return {name: now.get(name) for name in sorted(start.keys() | now.keys()) if start.get(name) != now.get(name)}


def _set_environ(module: Any, value: dict[str, str | None]) -> None:
    for name, one in value.items():
        if one is None:
            module.environ.pop(name, None)
        else:
            module.environ[name] = one


def _set_path(module: Any, value: list[str]) -> None:
    module.path[:] = value


def _set_filters(module: Any, value: list[Any]) -> None:
    module.resetwarnings()  # forgets what was looked up in the old ones
    module.filters[:] = value


def _context(module: Any) -> Any:
    found = module.getcontext()
    return [found.prec, found.rounding, found.Emin, found.Emax, found.capitals, found.clamp]


def _set_context(module: Any, value: list[Any]) -> None:
    found = module.getcontext()
    found.prec, found.rounding, found.Emin, found.Emax, found.capitals, found.clamp = value


def _print_options(module: Any) -> dict[str, Any]:
    return {name: one for name, one in module.get_printoptions().items() if _USUAL_PRINTING.get(name) != one}


def _set_print_options(module: Any, value: dict[str, Any]) -> None:
    there = module.get_printoptions()
    module.set_printoptions(**{name: one for name, one in {**_USUAL_PRINTING, **value}.items() if name in there})


_USUAL_PRINTING: dict[str, Any] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
    "override_repr": None,
}


def _pandas_options(module: Any) -> dict[str, Any]:
    # There is no public list of the options with their defaults.
    config = sys.modules["pandas._config.config"]
    rows = {name: row for name, row in config._registered_options.items() if name not in config._deprecated_options}  # noqa: SLF001
    return {name: found for name, row in rows.items() if (found := module.get_option(name)) != row.defval}


def _set_pandas_options(module: Any, value: dict[str, Any]) -> None:
    for name in _pandas_options(module).keys() - value.keys():
        module.reset_option(name)
    for name, one in value.items():
        module.set_option(name, one)


def _rc(module: Any) -> dict[str, Any]:
    """Give what differs; asking rcParams itself for the backend would choose one."""
    pairs = ((name, dict.__getitem__(module.rcParams, name)) for name in module.rcParams if "backend" not in name)
    return {name: one for name, one in pairs if one != dict.__getitem__(module.rcParamsDefault, name)}


def _set_rc(module: Any, value: dict[str, Any]) -> None:
    usual = {name: dict.__getitem__(module.rcParamsDefault, name) for name in _rc(module).keys() - value.keys()}
    module.rcParams.update({**usual, **value})


_INLINE = "matplotlib_inline.backend_inline"


def _show_inline(module: Any, value: bool) -> None:  # noqa: ARG001, FBT001
    """Have figures shown as pictures, which else begins with the first one that is made."""
    if value:
        importlib.import_module(_INLINE)


_USUAL_ERRORS = {"divide": "warn", "invalid": "warn", "over": "warn", "under": "ignore"}

SETTINGS = (
    Row("os", "directory", lambda os: os.getcwd(), lambda os, value: os.chdir(value), early=True),
    Row("os", "environ", _environ, _set_environ, early=True, apart=_environ_apart),
    Row("sys", "path", lambda sys: list(sys.path), _set_path, early=True),
    Row("sys", "recursion", lambda sys: sys.getrecursionlimit(), lambda sys, value: sys.setrecursionlimit(value)),
    Row("warnings", "filters", lambda warnings: list(warnings.filters), _set_filters),
    Row("decimal", "context", _context, _set_context),
    Row("numpy", "printing", _print_options, _set_print_options, {}),
    Row(
        "numpy",
        "errors",
        lambda np: dict(sorted(np.geterr().items())),
        lambda np, value: np.seterr(**value),
        _USUAL_ERRORS,
    ),
    Row("pandas", "options", _pandas_options, _set_pandas_options, {}),
    Row("matplotlib", "rc", _rc, _set_rc, {}),
    Row("matplotlib.pyplot", "inline", lambda _: _INLINE in sys.modules, _show_inline, usual=False),
)
RANDOM = (
    Row("random", "random", lambda random: random.getstate(), lambda random, value: random.setstate(value)),
    Row("numpy.random", "numpy", lambda one: one.get_state(), lambda one, value: one.set_state(value)),
)


class Settings:
    """Some rows of what is no name, as they were when it was made and as they are.

    Parameters
    ----------
    rows : tuple of Row
        Which.
    cloudpickle : module
        What writes them.
    """

    def __init__(self, rows: tuple[Row, ...], cloudpickle: Any) -> None:
        self.rows = rows
        self.cloudpickle = cloudpickle
        self.is_known = False
        """Whether something else than the start has been saved or given: then what is as at the start is told, too."""
        self.start: dict[str, Any] = {}
        for row in rows:
            with contextlib.suppress(OSError):  # the working directory may be gone
                if row.module in sys.modules:
                    self.start[row.name] = row.take(sys.modules[row.module])

    def changed(self) -> tuple[bytes | None, dict[str, Exception]]:
        """Give all that is not as at the start, None if nothing ever was; and what cannot be written, with why."""
        found, failed = {}, {}
        for row in self.rows:
            if row.module in sys.modules:
                try:
                    now = row.take(sys.modules[row.module])
                    usual = self.start.get(row.name) if row.usual is None else row.usual
                    if self._bytes(now) != self._bytes(usual):
                        found[row.name] = self._bytes(row.apart(usual, now))
                except Exception as problem:  # noqa: BLE001 - a value of an option may be anything
                    failed[row.name] = problem
        self.is_known = self.is_known or bool(found)
        return (pickle.dumps(found, 5) if self.is_known else None), failed

    def _bytes(self, value: Any) -> bytes:
        return bytes(self.cloudpickle.dumps(value, 5))

    def give(self, data: bytes, *, early: bool) -> None:
        """Make it so again."""
        found = pickle.loads(data)  # noqa: S301 - it was checked
        self.is_known = True
        for row in self.rows:
            if row.early == early and row.name in found:
                row.give(importlib.import_module(row.module), pickle.loads(found[row.name]))  # noqa: S301


MOST_REACHED = 200_000
"""Objects that are looked at for what shares something with a name that cannot be saved."""


def _reached(value: object, namespace: dict[str, Any]) -> set[int]:
    """Give the ids of what can be changed and is reached from a value; not through modules, classes and functions."""
    found: dict[int, object] = {}
    todo = [value]
    while todo and len(found) < MOST_REACHED:
        one = todo.pop()
        if id(one) in found or one is namespace or isinstance(one, (types.ModuleType, type, types.FunctionType)):
            continue
        found[id(one)] = one
        todo += gc.get_referents(one)
    return {key for key, one in found.items() if type(one) not in _ATOMS and not isinstance(one, _FIXED)}


# The shelf ------------------------------------------------------------------------------------------------------------


class Shelf:
    """What a kernel knows of its names between steps; there is one in a kernel's process.

    Parameters
    ----------
    namespace : dict
        The notebook's variables.
    folder : str
        The run folder; files go to ``names`` in it.
    cloudpickle : str
        Folder of the package cloudpickle, wherever that is; the kernel's environment may lack it.
    """

    def __init__(self, namespace: dict[str, Any], folder: str, cloudpickle: str) -> None:
        self.namespace = namespace
        self.files = Files(folder)
        self.cloudpickle = _load_cloudpickle(cloudpickle)
        self.pickler = pickler(self.cloudpickle)
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        self.hidden: dict[str, Any] = dict(shell.user_ns_hidden) if shell is not None else {}
        self.setup: set[str] = set()
        self.known: dict[str, Known] = {}
        self.settings = {
            "settings": Settings(SETTINGS, self.cloudpickle),
            "random": Settings(RANDOM, self.cloudpickle),
        }
        self.there: set[str] = set()
        """Names that there were when it last looked."""

    def is_own(self, name: str) -> bool:
        """Whether a name is the notebook's, and there; IPython keeps names of its own beside them."""
        if name not in self.namespace or (name.startswith("__") and name.endswith("__")):
            return False
        return name not in self.hidden or self.hidden[name] is not self.namespace[name]

    def token(self, name: str, value: object) -> str:
        """Give the token of an object: that which it has, or a new one."""
        if type(value) in _ATOMS:
            return f"value:{name}"
        own = self.known.get(name)
        for known in (own, *self.known.values()) if own else self.known.values():
            if known.has(value):
                return known.token
        return uuid.uuid4().hex[:16]

    def restore(
        self,
        names: dict[str, Ref],
        *,
        setup: Sequence[str] = (),
        watch: Sequence[str] = (),
        settings: Ref | None = None,
        random: Ref | None = None,
        environ: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Put names into the namespace.

        Parameters
        ----------
        names : dict
            References, as :meth:`save` gave them; see :func:`along` for what goes with a name.
        setup : sequence of str
            Names that setup cells made in this kernel.
        watch : sequence of str
            Names that the coming step may touch: their present state is learnt.
        settings, random : dict, optional
            As :meth:`save` gave them.
        environ : dict, optional
            Variables that tell which task comes.

        Returns
        -------
        dict
            ``read``: bytes; ``problems``: for each name that is not given back the reason, and for ``$settings`` and
            ``$random``; ``missing``: files that are
            gone, or not what they were. If there are any, no name is bound.
        """
        os.environ.update(environ or {})
        self._learn_setup(setup)
        restore = Restore(self, names)
        given = {"settings": settings, "random": random}
        for kind, ref in given.items():
            restore.trying(f"${kind}", functools.partial(self._give, kind, ref, early=True))
        values = restore.all()
        for kind, ref in given.items():
            restore.trying(f"${kind}", functools.partial(self._give, kind, ref, early=False))
        if not restore.missing:
            self._bind(values, names)
            self._look(values, [*watch, *filter(self._is_cheap, setup)], restore)
        self.there = set(self.namespace)
        return {"read": restore.read, "problems": restore.problems, "missing": sorted(restore.missing)}

    def _is_cheap(self, name: str) -> bool:
        """Whether a name of setup is looked at unasked: code and plain values are; a large frame is not."""
        value = self.namespace.get(name)
        return is_code(value) or type(value) in _ATOMS

    def _give(self, kind: str, ref: Ref | None, *, early: bool) -> None:
        if ref is not None:
            self.settings[kind].give(self.files.read(ref), early=early)

    def _keep(self, kind: str, unsaved: dict[str, str]) -> Ref | None:
        """Save settings, or states of random generators."""
        data, failed = self.settings[kind].changed()
        for name, problem in failed.items():
            if of_the_machine(problem):
                raise problem
            unsaved[f"${kind}"] = _reason(f"{name}: cannot be saved ({type(problem).__name__}: {problem})")
        if data is None:
            return None
        sha = hashlib.sha256(data).hexdigest()
        path = f"names/{sha}.state"
        if not self.files.there(path):
            budget = Budget(float("inf"), float("inf"))
            self.files.make(path, lambda file: _write_chunks(file, [data], budget), budget)
        return {"form": "state", "path": path, "size": len(data), "sha256": sha}

    def _learn_setup(self, setup: Sequence[str]) -> None:
        """Note what setup cells made: later kernels have it, too."""
        for name in setup:
            if name in self.namespace and name not in self.setup:
                self.setup.add(name)
                value = self.namespace[name]
                ref = {"form": "setup", "stem": f"setup:{name}", "id": f"setup:{name}"}
                self.known[name] = Known(value, f"setup:{name}", None if type(value) in _ATOMS else ref, None)

    def _bind(self, values: dict[str, Any], refs: dict[str, Ref]) -> None:
        for name, value in values.items():
            ref = refs[name]
            state = None if ref["form"] in ("setup", "list") else ref["stem"]
            self.namespace[name] = value
            known = self.known[name] = Known(value, ref.get("id", f"value:{name}"), ref, state)
            known.shares = {*ref.get("shares", ()), *ref.get("holds", ())}
            known.holds = set(ref.get("needs", ()))
        for name in values:
            for other in refs[name].get("holds", ()):
                if other in self.known:
                    self.known[other].shares.add(name)  # where that is bound anew, this one holds what has no name then

    def _look(self, values: dict[str, Any], names: Sequence[str], restore: Restore) -> None:
        """Learn the state of names from which a later save tells changes: pickles may differ between processes."""
        restored = {name for name, value in values.items() if _is_stable(value, restore.refs[name]["form"])}
        wanted = [name for name in dict.fromkeys(names) if name in self.namespace and name not in restored]
        wanted = [name for name in wanted if name in values or name not in self.known or not self.known[name].state]
        look = Save(self, wanted, set(wanted), Budget(float("inf"), float("inf")))
        look.stems.update(restore.large)
        look.pack_all(dry=True)
        connected = look.connected()
        for name in wanted:
            token = look.tokens[name]
            if token in look.packed:
                known = self.known.setdefault(name, Known(self.namespace[name], token, None, None))
                known.state, known.shape = look.state(token), look.packed[token].form["stem"]
                known.shares |= (connected[token] | look.beside(token)) - {name}
                known.holds |= look.packed[token].needs

    def save(
        self, names: Sequence[str] | None, *, touched: Sequence[str] | None = None, most: float, seconds: float
    ) -> dict[str, Any]:
        """Save those of the names that are new or changed.

        Parameters
        ----------
        names : sequence of str, optional
            What later steps read; what there is not is left out. Without it all names.
        touched : sequence of str, optional
            What the step may have read or assigned; anything, without it.
        most : float
            Bytes that may be written.
        seconds : float
            How long it may take.

        Returns
        -------
        dict
            ``names``: references of what is new, changed, or saved here first; ``changed``: names whose value is not
            what it was; ``unsaved``: for each name that is not saved the reason, and for ``$settings``;
            ``settings``, ``random``;
            ``wrote``: bytes; ``seconds``.
        """
        budget = Budget(most, seconds)
        if names is None:
            names = [name for name in self.namespace if not name.startswith("_") and name not in _OF_IPYTHON]
        save = Save(self, names, self._affected(touched), budget)
        save.pack_all(dry=False)
        save.write_all()
        found, changed, connected = {}, [], save.connected()
        for name, ref in save.refs().items():
            token, known = save.tokens[name], self.known.get(name)
            state = save.state(token)
            same_object = known is not None and (known.token == token or "id" not in ref)
            # The same content under the same token is the same, whatever was learnt of it.
            given = known.ref if known is not None and known.ref is not None else {}
            same_content = "stem" in given and _place(given) == _place(ref)
            if not (known and same_object and (known.state == state or same_content)):
                changed.append(name)
            if not known or known.ref != ref:
                found[name] = ref
            self._note(name, save, ref, state, connected)
        unsaved = {name: save.reason(save.tokens[name]) for name in save.names if save.tokens[name] in save.failed}
        for name in unsaved:
            self.known.pop(name, None)
        lost = {name: self._beside_lost(name, save) for name in unsaved}
        self._forget(touched, set(save.names))
        self.there = set(self.namespace)
        taken = {"wrote": budget.written, "seconds": time.monotonic() - budget.start}
        kept = {kind: self._keep(kind, unsaved) for kind in self.settings}
        return {"names": found, "changed": changed, "unsaved": unsaved, "beside": lost, **kept, **taken}

    def _beside_lost(self, name: str, save: Save) -> list[str]:
        """Give the names that share objects with one that cannot be saved: only together they are what they were."""
        reached = _reached(self.namespace[name], self.namespace)
        found = []
        for other, token in save.tokens.items():
            packed = save.packed.get(token)
            inside = set() if packed is None else packed.seen.keys() | packed.arrays.keys()
            fixed = type(self.namespace[other]) in _ATOMS or isinstance(self.namespace[other], _FIXED)
            if other != name and not fixed and (id(self.namespace[other]) in reached or inside & reached):
                found.append(other)
        return sorted(found)

    def _note(self, name: str, save: Save, ref: Ref, state: str | None, connected: dict[str, set[str]]) -> None:
        known = self.known[name] = Known(self.namespace[name], save.tokens[name], ref, state)
        known.shape = save.shape(known.token)
        known.shares = connected[known.token] | (save.beside(known.token) - {name})
        known.holds = set(ref.get("needs", ()))

    def _forget(self, touched: Sequence[str] | None, saved: Iterable[str]) -> None:
        """Forget names that may be bound to something else by now: the object of an id may be another one."""
        for name, known in list(self.known.items()):
            there = name in self.namespace and known.has(self.namespace[name])
            sure = known.weak is not None or name in saved or type(self.namespace.get(name)) in _ATOMS
            if not there or not (sure or (touched is not None and name not in touched)):
                del self.known[name]

    def _affected(self, touched: Sequence[str] | None) -> set[str] | None:
        """Give the names that may have changed: those that were touched, and what shares something with them."""
        if touched is None or any(name in self.there and name not in self.known for name in touched):
            return None
        found: set[str] = set()
        todo = list(touched)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                known = self.known.get(name)
                todo += [*known.shares, *known.holds] if known else []
        return found


def _failure(problem: Exception) -> str:
    return _reason(f"cannot be given back ({type(problem).__name__}: {_line(problem)})")


def along(names: Iterable[str], refs: dict[str, Ref], assigned: Container[str] = ()) -> list[str]:
    """Give the names that have to be restored for some of them to be as they were.

    Parameters
    ----------
    names : iterable of str
        What a step reads.
    refs : dict
        The latest references of all names.
    assigned : container of str
        Those that it binds to something else: what held their values must be there to keep them.

    Returns
    -------
    list of str
        Those that there are, with what their code needs, and with what shares with them something that can be changed.
    """
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name in refs and name not in found:
            found[name] = None
            todo += [*refs[name].get("needs", ()), *refs[name].get("holds", ()), *refs[name].get("shares", ())]
            if name in assigned:
                todo += [other for other, ref in refs.items() if name in ref.get("holds", ())]
    return list(found)


def _load_cloudpickle(folder: str) -> Any:
    """Load nbflow's cloudpickle under a name of its own: the kernel may have another one, or none."""
    name = "_nbflow_cloudpickle"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(folder) / "cloudpickle.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"no cloudpickle in {folder}")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


# Asking ---------------------------------------------------------------------------------------------------------------


class Answer:
    """What the kernel's display machinery hands over."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "snapshot"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's names
        return {MIME: self.text}


_OF_IPYTHON = ("In", "Out", "exit", "quit", "get_ipython", "open")
_shelf: list[Shelf] = []


def answer(arguments: str) -> Answer:
    """Do what is asked for: ``{"do": "restore", "folder": ..., "cloudpickle": ..., "names": ...}``, or ``"save"``.

    Everything but ``do``, ``folder`` and ``cloudpickle`` is an argument of the shelf's method of that name. The shelf
    is made when it is first asked for something; ``{"do": "open"}`` makes it and does nothing else.
    """
    asked = json.loads(arguments)
    do, folder, cloudpickle = asked.pop("do"), asked.pop("folder"), asked.pop("cloudpickle")
    if not _shelf:
        _shelf.append(Shelf(sys.modules["IPython"].get_ipython().user_ns, folder, cloudpickle))
    methods: dict[str, Callable[..., Any]] = {"restore": _shelf[0].restore, "save": _shelf[0].save, "open": dict}
    answer = Answer(json.dumps(methods[do](**asked)))
    watch = sys.modules.get("_nbflow_watch")
    if watch is not None:
        watch.wrote.clear()  # these files are ours, and what the cells wrote has been told
    return answer
