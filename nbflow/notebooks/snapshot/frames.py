"""Frames of pandas: their digests, and their files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import pickle
import sys
from pathlib import Path
from typing import Any

from .arrays import is_plain_array, memory_of, owner_of
from .files import CHUNK, Budget

UNNAMED = "$nbflow unnamed"
"""What the column of a Series without a name is called in its file."""


def is_frame(value: object) -> bool:
    """Whether it is a frame or a series, and of no class of its own."""
    pd = sys.modules.get("pandas")
    return pd is not None and type(value) in (getattr(pd, "DataFrame", None), getattr(pd, "Series", None))


def is_stable(value: Any, form: str) -> bool:
    """Whether a value that was given back has the digest again that it had: objects in a pickle may be other ones."""
    if form in ("parquet", "series", "frame"):
        return all(one.dtype != object for one in (*_columns(value), *_levels(value.index)))
    return form in ("json", "module", "npy")


def _columns(frame: Any) -> list[Any]:
    return [frame.iloc[:, place] for place in range(frame.shape[1])] if frame.ndim == 2 else [frame]


def is_closed(frame: Any) -> bool:
    """Whether nothing in a frame has an identity, or is of a class of the notebook: there are numbers, texts and the
    like in it."""
    pd = sys.modules["pandas"]
    kinds = {"string", "empty", "boolean", "date", "decimal", "datetime", "bytes", "time", "integer", "floating"}
    columns = [*_columns(frame), *_levels(frame.index)]
    objects = [one for one in columns if one.dtype == object]
    labels = [
        *([*_levels(frame.columns), frame.columns.names] if frame.ndim == 2 else [[frame.name]]),
        frame.index.names,
    ]
    labels += [one.dtype.categories for one in columns if isinstance(one.dtype, pd.CategoricalDtype)]
    if frame.attrs or any(_is_of_notebook(one) for one in (*objects, *labels)):
        return False
    return all(pd.api.types.infer_dtype(one, skipna=True) in kinds for one in objects)


def _is_of_notebook(values: Any) -> bool:
    """Whether one of them is of a class of the notebook, which pandas would look for in another kernel."""
    return any(kind.__module__ == "__main__" for kind in set(map(type, values)))


def _levels(index: Any) -> list[Any]:
    return list(index.levels) if hasattr(index, "levels") else [index]


def owners_of(frame: Any) -> set[int]:
    """Give the ids of what owns the memory of a frame."""
    np = sys.modules["numpy"]
    arrays = [one.array for one in _columns(frame)]
    plain = [one.to_numpy() for one in arrays if type(one).__name__ in ("NumpyExtensionArray", "PandasArray")]
    return {id(owner_of(one)) for one in plain if isinstance(one, np.ndarray)}


def apart(frame: Any) -> Any:
    """Give a frame that has its memory for itself, where it shares it until it is written to: pandas knows who shares
    it in this process only."""
    pd = sys.modules["pandas"]
    is_lazy = int(pd.__version__.partition(".")[0]) > 2 or getattr(pd.options.mode, "copy_on_write", False) is True
    blocks = getattr(frame._mgr, "blocks", ()) if is_lazy else ()  # noqa: SLF001 - it is told nowhere else
    if not any(one.refs.has_reference() for one in blocks if getattr(one, "refs", None) is not None):
        return frame
    made = frame.copy()
    made._attrs = frame._attrs  # noqa: SLF001 - the same, and no copy
    return made


def frame_digest(frame: Any, budget: Budget) -> str:
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
    if type(value) is np.ndarray and is_plain_array(value):
        digest.update(f"{value.dtype.str} {value.shape};".encode())
        for start in range(0, len(value), CHUNK // max(value.itemsize, 1) or 1):
            piece = np.ascontiguousarray(value[start : start + (CHUNK // max(value.itemsize, 1) or 1)])
            digest.update(memory_of(piece))
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


def to_parquet(frame: Any, path: Path, digest: str) -> None:
    """Write a frame, and make sure that Parquet gives back what it was."""
    series = frame.ndim == 1
    table = frame.to_frame(UNNAMED if frame.name is None else frame.name) if series else frame
    table.to_parquet(path, engine="pyarrow")
    back = from_parquet(path, "series" if series else "parquet")
    if frame_digest(back, Budget(float("inf"), float("inf"))) != digest:
        raise TypeError("Parquet gives back another frame")


def has_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def from_parquet(path: Any, form: str) -> Any:
    pd = sys.modules.get("pandas") or __import__("pandas")
    frame = pd.read_parquet(path, engine="pyarrow")
    if form == "parquet":
        return frame
    series = frame.iloc[:, 0]
    return series.rename(None) if series.name == UNNAMED else series
