"""Reads results in a kernel, and saves what is too large for JSON. Carried into kernels: standard library, Python 3.8.

``values`` is always the module of that name, which is carried along: nothing of nbflow is imported here.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

MIME = "application/vnd.nbflow.results+json"
LARGE = 32 * 1024
UNNAMED = "$nbflow unnamed"
"""What the column of a Series without a name is called in its file."""


class Refused(Exception):  # noqa: N818 - it is told, not raised to anybody
    """A result that cannot be saved, with the reason."""


def of_the_machine(problem: Exception) -> bool:
    """Whether an error says nothing about the value: there is no memory or no space, and later there may be."""
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(problem, MemoryError)


class Answer:
    """What the kernel's display machinery hands over."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "results"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's names
        return {MIME: self.text}


def answer(values: Any, arguments: str) -> Answer:
    """Give the results, the reasons for those that are none, and the files that were written."""
    names, artifacts, folder, directory, lists = json.loads(arguments)
    watch = sys.modules.get("_nbflow_watch")
    wrote = watch.written(watch.wrote, directory) if watch and directory else []
    namespace = sys.modules["IPython"].get_ipython().user_ns
    output, problems = collect(values, namespace, names, artifacts, folder, lists)
    return Answer(json.dumps([values.dumps(output), problems, wrote]))


class Place:
    """Where the results of one notebook are saved.

    Parameters
    ----------
    values : module
        nbflow's values.
    artifacts : Path
        Folder for large results.
    folder : Path
        What paths are made relative to.
    """

    def __init__(self, values: Any, artifacts: Path, folder: Path) -> None:
        self.values = values
        self.artifacts = artifacts
        self.folder = folder

    def write(self, name: str, form: str, write: Any) -> Any:
        """Write a file so that it is there whole or not at all; gives the reference to it."""
        self.artifacts.mkdir(parents=True, exist_ok=True)
        path = self.artifacts / name
        temporary = self.artifacts / (name + ".tmp")
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            if temporary.exists():
                temporary.unlink()
        return self.reference(path, form)

    def reference(self, path: Path, form: str) -> Any:
        """Give the reference to a file that exists."""
        return self.values.File.of(str(path), str(self.folder), form)


def collect(
    values: Any, namespace: dict[str, Any], names: list[str], artifacts: str, folder: str, lists: Any = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Give the values of the names, and the reasons for those that have none; raises where the machine is the reason.

    Parameters
    ----------
    values : module
        nbflow's values.
    namespace : dict
        The notebook's variables.
    names : list of str
        Which of them.
    artifacts, folder : str
        Of the :class:`Place`.
    lists : list of str
        Names of whose values the elements are wanted: they are what a fan-out runs over.
    """
    place = Place(values, Path(artifacts), Path(folder))
    output, problems = {}, {}
    for name in names:
        if name not in namespace:
            problems[name] = "there is no such name in the notebook"
            continue
        try:
            output[name] = (
                elements(place, name, namespace[name]) if name in lists else save(place, name, namespace[name])
            )
        except (Refused, values.NotAValueError) as problem:
            problems[name] = f"it is {problem}"
        except Exception as problem:
            # Whatever a library raises while it saves, the other results count.
            if of_the_machine(problem):
                raise
            problems[name] = f"it cannot be saved ({type(problem).__name__}: {_line(problem)})"
    return output, problems


def elements(place: Place, name: str, value: Any) -> Any:
    """Give the elements of a list, an array, a range, a column: a fan-out runs over them, so they are plain values.

    Whatever is none is given as it is, and the fan-out says that it is no list: so is a table, which lists its columns.
    """
    if isinstance(value, (str, bytes, dict)):
        return save(place, name, value)
    table = next((kind for kind in type(value).__mro__ if kind.__name__ == "DataFrame"), None)
    if table is not None:
        return save(place, name, value if type(value) is table else table(value))
    try:
        found = list(value)
    except TypeError:
        return save(place, name, value)
    return place.values.result([one.item() if type(one).__module__ == "numpy" else one for one in found])


def save(place: Place, name: str, value: Any) -> Any:
    """Give the value, or the file that it was saved to."""
    if isinstance(value, types.ModuleType):
        raise Refused("a module")
    if isinstance(value, type):
        raise Refused("a class")
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        raise Refused("a function")
    saver = _saver(value)
    if saver is not None:
        return saver(place, name, value)
    if isinstance(value, os.PathLike) and Path(value).is_file():
        return place.reference(Path(value), "file")
    plain = place.values.result(value)
    text = place.values.dumps(plain)
    if len(text) <= LARGE:
        return plain
    return place.write(name + ".json", "json", lambda file: file.write_bytes(text.encode("ascii")))


def _saver(value: Any) -> Any:
    """Give the function that saves a frame, a series or an array; none of these libraries is imported for it."""
    savers = {
        ("pandas", "DataFrame"): _frame,
        ("pandas", "Series"): _series,
        ("numpy", "ndarray"): _array,
    }
    bases = [(base.__module__.partition(".")[0], base.__name__) for base in type(value).__mro__]
    return next((savers[base] for base in bases if base in savers), None)


def _frame(place: Place, name: str, value: Any) -> Any:
    import pandas as pd

    if type(value) is not pd.DataFrame:
        raise Refused(f"a {_called(value)}, and only a plain DataFrame can be saved")
    return _parquet(place, name, value, "parquet", "DataFrame")


def _series(place: Place, name: str, value: Any) -> Any:
    import pandas as pd

    if type(value) is not pd.Series:
        raise Refused(f"a {_called(value)}, and only a plain Series can be saved")
    frame = value.to_frame(UNNAMED if value.name is None else value.name)
    return _parquet(place, name, frame, "series", "Series")


def _parquet(place: Place, name: str, frame: Any, form: str, what: str) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise Refused(f"a {what}, which cannot be saved: no pyarrow in the kernel's environment") from None
    del pa

    def write(file: Path) -> None:
        import pandas as pd

        try:
            frame.to_parquet(file, engine="pyarrow")
            _same(pd.read_parquet(file, engine="pyarrow"), frame)
        except Exception as problem:
            if of_the_machine(problem):
                raise
            raise Refused(f"a {what} that Parquet does not give back as it was ({_line(problem)})") from None

    return place.write(name + ".parquet", form, write)


def _same(back: Any, frame: Any) -> None:
    """Make sure that what was read back is what was saved, to the last type."""
    import pandas as pd

    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_freq=False)
    if list(map(type, back.columns)) != list(map(type, frame.columns)):
        raise TypeError("names of columns change their type")
    columns = [(back.iloc[:, i], frame.iloc[:, i]) for i in range(frame.shape[1])]
    levels = range(frame.index.nlevels)
    columns += [(back.index.get_level_values(i), frame.index.get_level_values(i)) for i in levels]
    for theirs, ours in columns:
        if str(ours.dtype) == "object" and list(map(type, theirs)) != list(map(type, ours)):
            raise TypeError("objects in it change their type")


def _array(place: Place, name: str, value: Any) -> Any:
    import numpy as np

    if value.ndim == 0 and type(value) is np.ndarray:
        return save(place, name, value[()])
    if type(value) not in (np.ndarray, np.memmap):
        raise Refused(f"a {_called(value)}, and only a plain array can be saved")
    if value.dtype.hasobject:
        raise Refused("an array of objects")

    def write(file: Path) -> None:
        with file.open("wb") as out:
            np.save(out, np.asarray(value), allow_pickle=False)

    return place.write(name + ".npy", "npy", write)


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:150]


def _called(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
