"""Values: what parameters and results may be, and the one exact JSON text they have.

Null, booleans, integers, floats with NaN and infinities, text, dates, lists, text-keyed mappings, and
references to files. JSON has no word for some of these, so they are written as a mapping with the key
``$nbflow``; fingerprints and journal use the same text.

This file is carried into kernels as it stands, to read results there: the standard library only, nothing
newer than Python 3.9, and no import of anything of nbflow.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

__all__ = [
    "File",
    "NotAValueError",
    "Value",
    "argument",
    "assigned",
    "canonical",
    "digest",
    "dumps",
    "loads",
    "located",
    "passed",
    "result",
    "tagged",
    "untagged",
]

Value = Union[None, bool, int, float, str, dt.date, dt.time, dt.timedelta, "File", list[Any], dict[str, Any]]

TAG = "$nbflow"
EXACT = 2**53  # JSON readers of other languages keep whole numbers up to here
DEEPEST = 100  # a value nested deeper than this is a mistake, or contains itself


class NotAValueError(TypeError):
    """An object that can be no parameter and no result, with the place where it stands inside the value.

    Parameters
    ----------
    what : str
        Type, and reason where the type alone does not tell.
    where : str
        Path inside the value (``['scores'][3]``), empty for the value itself.
    """

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        return f"{self.what} at {self.where}" if self.where else self.what


class File(os.PathLike):  # type: ignore[type-arg]  # subscripted, it could not be made in Python 3.8
    """A reference to a file that holds a value too large or too special for JSON; a path to what opens files.

    Parameters
    ----------
    path : str
        Where the file is; whole wherever it is given to a person or to a task, and relative to the run folder in
        what is recorded, so that both can move.
    size : int
        Size in bytes.
    sha256 : str
        Digest of its content, in hexadecimal digits.
    format : str
        ``parquet``, ``series``, ``npy``, ``json``, or ``file`` for a file of the notebook's own.
    """

    __slots__ = ("format", "path", "sha256", "size")

    def __init__(self, path: str, size: int, sha256: str, format: str = "file") -> None:  # noqa: A002 - the field's word
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.format = format

    @classmethod
    def of(cls, path: str, folder: str, format: str = "file") -> File:  # noqa: A002 - the field's word
        """Give the reference to a file that exists; inside of the folder by its path from there."""
        digest, size = hashlib.sha256(), 0
        with Path(path).open("rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
                size += len(part)
        whole, top = Path(path).resolve(), Path(folder).resolve()
        shown = whole.relative_to(top) if top in whole.parents else whole
        return cls(shown.as_posix(), size, digest.hexdigest(), format)

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"File({self.path!r}, {self.size} bytes, {self.format})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and (self.sha256, self.size, self.format) == (
            other.sha256,
            other.size,
            other.format,
        )

    def __hash__(self) -> int:
        return hash(self.sha256)


def argument(value: Any) -> Any:
    """Give the value a notebook gets for a parameter: plain types that every kernel's language has.

    Numpy and pandas scalars become Python's, tuples lists, paths and dates text (ISO 8601), a
    :class:`File` its path.

    Parameters
    ----------
    value : object
        What the caller gave.

    Raises
    ------
    NotAValueError
        If it is, or contains, anything else.

    Examples
    --------
    >>> import datetime
    >>> argument({"days": (datetime.date(2026, 11, 23),), "rate": 0.1})
    {'days': ['2026-11-23'], 'rate': 0.1}
    """
    return _walk(value, "", 0, _argument_leaf)


def assigned(value: Any) -> Any:
    """Give the value of a name in Python: like :func:`argument`, but dates stay dates.

    Raises
    ------
    NotAValueError
        As :func:`argument` does.

    Examples
    --------
    >>> import datetime
    >>> assigned((datetime.date(2026, 11, 23), File("rain.csv", 812, "9f", "csv")))
    [datetime.date(2026, 11, 23), 'rain.csv']
    """
    return _walk(value, "", 0, _assigned_leaf)


def passed(value: Any) -> Any:
    """Give the value that is passed on to a task: like :func:`argument`, but a :class:`File` stays a reference.

    Raises
    ------
    NotAValueError
        As :func:`argument` does.

    Examples
    --------
    >>> passed((1, File("artifacts/load/table.parquet", 812, "9f", "parquet")))
    [1, File('artifacts/load/table.parquet', 812 bytes, parquet)]
    """
    return _walk(value, "", 0, _passed_leaf)


def located(value: Any, folder: str) -> Any:
    """Give a value in which the paths of files are whole.

    Parameters
    ----------
    value : Value
        As it is recorded.
    folder : str
        The run folder.

    Examples
    --------
    >>> located({"tables": [File("artifacts/load/table.parquet", 812, "9f", "parquet")]}, "/runs/1")
    {'tables': [File('/runs/1/artifacts/load/table.parquet', 812 bytes, parquet)]}
    """
    if isinstance(value, File):
        return File(str(Path(folder, value.path)), value.size, value.sha256, value.format)
    if isinstance(value, list):
        return [located(part, folder) for part in value]
    if isinstance(value, dict):
        return {name: located(part, folder) for name, part in value.items()}
    return value


def result(value: Any, folder: str | None = None) -> Any:
    """Give the value that a result is kept as: like :func:`argument`, but dates stay dates.

    Parameters
    ----------
    value : object
        What somebody left or returned.
    folder : str, optional
        The run folder, where paths to files that exist are to become references to them, as in its record.

    Raises
    ------
    NotAValueError
        If it is, or contains, anything that JSON with tags cannot hold exactly.

    Examples
    --------
    >>> result({"ends": (1, float("inf"))})
    {'ends': [1, inf]}
    """

    def leaf(part: Any, where: str) -> Any:
        return _result_leaf(part if folder is None else _recorded(part, folder), where)

    return _walk(value, "", 0, leaf)


def _walk(value: Any, where: str, depth: int, leaf: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return _text(value, where) if kind is str else _whole(value, where) if kind is int else value
    if depth > DEEPEST:
        raise NotAValueError(f"a value nested more than {DEEPEST} deep", where[:60] + "...")
    if isinstance(value, (list, tuple)):
        return [_walk(v, f"{where}[{i}]", depth + 1, leaf) for i, v in enumerate(value)]
    if isinstance(value, Mapping) and not _library(value):
        return {_key(k, where): _walk(v, f"{where}[{k!r}]", depth + 1, leaf) for k, v in value.items()}
    return leaf(_scalar(value, where), where)


def _library(value: Any) -> str:
    root = type(value).__module__.partition(".")[0]
    return root if root in ("numpy", "pandas") else ""


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise NotAValueError(f"a mapping with the key {key!r:.40} ({_name(key)}; keys must be text)", where)
    return str.__str__(_text(key, where))


def _text(text: str, where: str) -> str:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise NotAValueError("text with half a character (a lone surrogate)", where) from None
    return text


def _whole(value: int, where: str) -> int:
    if not -EXACT <= value <= EXACT:
        try:
            _digits(value)
        except NotAValueError as problem:
            raise NotAValueError(problem.what, where) from None
    return value


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _scalar(value: Any, where: str) -> Any:
    """Give Python's own scalar for a subclass of one, or for a scalar of numpy or pandas."""
    library = _library(value)
    if library:
        value = _foreign_scalar(value, library, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), where)
    if isinstance(value, int):
        return _whole(int.__int__(value), where)
    if isinstance(value, float):
        return float.__float__(value)
    return value


def _foreign_scalar(value: Any, library: str, where: str) -> Any:
    name = type(value).__name__
    if library == "pandas":
        if name in ("NaTType", "NAType"):
            return None
        if name == "Timestamp" and not value.nanosecond:
            return value.to_pydatetime()
        if name == "Timedelta" and not value.nanoseconds:
            return value.to_pytimedelta()
        if name in ("Timestamp", "Timedelta"):
            raise NotAValueError(
                f"{_name(value)} with nanoseconds ({value}), which Python's own types cannot hold",
                where,
            )
        raise NotAValueError(_name(value), where)
    if not hasattr(value, "dtype") or getattr(value, "shape", None) != () or name == "ndarray":
        raise NotAValueError(_name(value), where)
    if name in ("datetime64", "timedelta64"):
        coarse = (
            value.astype(type(value)(0, "us").dtype)
            if value.dtype.name.endswith(("[ns]", "[ps]", "[fs]", "[as]"))
            else value
        )
        plain = coarse.item()
        if plain is not None and (isinstance(plain, int) or coarse != value):
            raise NotAValueError(f"{_name(value)} ({value}), which Python's own types cannot hold", where)
        return plain
    if value.dtype.kind == "c":
        raise NotAValueError(_name(value), where)
    plain = value.item()
    if type(plain) is type(value):  # longdouble gives itself
        try:
            same = float(plain) == plain or plain != plain
        except (TypeError, ValueError, OverflowError):
            same = False
        if not same:
            raise NotAValueError(f"{_name(value)} ({value!r}), which a float cannot hold", where)
        return float(plain)
    return plain


def _argument_leaf(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _duration(value)
    if isinstance(value, File):
        return value.path
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return _text(path, where)
    raise NotAValueError(_name(value), where)


def _assigned_leaf(value: Any, where: str) -> Any:
    return value if isinstance(value, (dt.date, dt.time, dt.timedelta)) else _argument_leaf(value, where)


def _passed_leaf(value: Any, where: str) -> Any:
    return value if isinstance(value, File) else _argument_leaf(value, where)


def _recorded(value: Any, folder: str) -> Any:
    """Give the reference to a file as a run records it; other values as they are."""
    if isinstance(value, File):
        inside = Path(folder) in Path(value.path).parents
        path = Path(value.path).relative_to(folder).as_posix() if inside else value.path
        return File(path, value.size, value.sha256, value.format)
    if isinstance(value, os.PathLike) and os.path.isfile(value):  # noqa: PTH113 - false for every reason
        return File.of(os.fspath(value), folder)
    return value


def _result_leaf(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, File)):
        return value
    if isinstance(value, (dt.date, dt.time)):
        zone = getattr(value, "tzinfo", None)
        if zone is not None and value.utcoffset() is None:  # type: ignore[union-attr]
            raise NotAValueError(f"{_name(value)} with a time zone that has no offset", where)
        return value
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return _text(path, where)
    raise NotAValueError(_name(value), where)


def _duration(value: dt.timedelta) -> str:
    """Give the ISO 8601 text of a duration (``P1DT3.5S``)."""
    sign = "-" if value < dt.timedelta(0) else ""
    value = abs(value)
    seconds = f"{value.seconds}.{value.microseconds:06d}".rstrip("0").rstrip(".")
    return f"{sign}P{value.days}DT{seconds}S"


def tagged(value: Any) -> Any:
    """Give what the standard ``json`` module can write of a value, with tags for the rest."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -EXACT <= value <= EXACT else {TAG: "integer", "text": _digits(value)}
    if kind is float:
        if math.isfinite(value):
            return value
        return {TAG: "float", "text": "nan" if value != value else "inf" if value > 0 else "-inf"}
    if kind is list:
        return [tagged(v) for v in value]
    if kind is dict:
        plain = {k: tagged(v) for k, v in value.items()}
        return {TAG: "mapping", "items": plain} if TAG in plain else plain
    if isinstance(value, File):
        return {
            TAG: "file",
            "path": value.path,
            "size": value.size,
            "sha256": value.sha256,
            "format": value.format,
        }
    if isinstance(value, dt.datetime):
        return {TAG: "datetime", "text": value.isoformat(), **({"fold": 1} if value.fold else {})}
    if isinstance(value, dt.date):
        return {TAG: "date", "text": value.isoformat()}
    if isinstance(value, dt.time):
        return {TAG: "time", "text": value.isoformat(), **({"fold": 1} if value.fold else {})}
    if isinstance(value, dt.timedelta):
        return {
            TAG: "duration",
            "days": value.days,
            "seconds": value.seconds,
            "microseconds": value.microseconds,
        }
    raise NotAValueError(_name(value))


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write more digits than sys.get_int_max_str_digits()
        raise NotAValueError(f"an integer of {value.bit_length()} bits") from None


def _time(kind: Any) -> Any:
    return lambda tag: kind.fromisoformat(tag["text"]).replace(fold=tag.get("fold", 0))


_READERS = {
    "integer": lambda tag: int(tag["text"]),
    "float": lambda tag: float(tag["text"]),
    "mapping": lambda tag: {k: untagged(v) for k, v in tag["items"].items()},
    "file": lambda tag: File(tag["path"], tag["size"], tag["sha256"], tag["format"]),
    "datetime": _time(dt.datetime),
    "date": lambda tag: dt.date.fromisoformat(tag["text"]),
    "time": _time(dt.time),
    "duration": lambda tag: dt.timedelta(tag["days"], tag["seconds"], tag["microseconds"]),
}


def untagged(data: Any) -> Any:
    """Give the value that was written by :func:`tagged`.

    Raises
    ------
    ValueError
        If a tag is unknown or misses a part.
    """
    kind = type(data)
    if kind is list:
        return [untagged(v) for v in data]
    if kind is dict:
        tag = data.get(TAG)
        if tag is None:
            return {k: untagged(v) for k, v in data.items()}
        try:
            return _READERS[tag](data)
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"a value with the tag {tag!r} cannot be read") from problem
    return data


# Made once: json.dumps would make an encoder for each value that is not written its usual way.
_plain = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_sorted = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True).encode


def dumps(value: Any) -> str:
    """Give the exact JSON text of a value, on one line and in ASCII.

    Examples
    --------
    >>> dumps({"score": float("nan"), "big": 2**70})
    '{"score":{"$nbflow":"float","text":"nan"},"big":{"$nbflow":"integer","text":"1180591620717411303424"}}'
    """
    return _plain(tagged(value))


def loads(text: str) -> Any:
    """Give the value of a text that :func:`dumps` wrote.

    Examples
    --------
    >>> loads(dumps({"days": [1, 2], "rate": float("inf")}))
    {'days': [1, 2], 'rate': inf}
    """
    return untagged(json.loads(text))


def canonical(value: Any) -> str:
    """Give the text of :func:`dumps` with mappings sorted by key: equal values, equal text."""
    return _sorted(tagged(value))


def digest(value: Any, size: int = 8) -> str:
    """Give the hexadecimal digest of a value, of ``size`` bytes; equal for equal values.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.blake2b(canonical(value).encode("ascii"), digest_size=size).hexdigest()
