"""Names on disk: run ids, file names from labels, and the files of each attempt."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path

from ..errors import TargetError
from ..steps import CallStep
from ..task import Places, Task

LONGEST = 100
"""Bytes that a file name made from a label has at most."""
_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{4,6}-[0-9a-z]{4,16}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
_SIGN = re.compile(r"(?<![^\W_])-(?=[0-9])")
"""The minus of a number, not the hyphen of a date: without it -1 and 1 would have one name."""
_NAME = re.compile(r"(?:^| )[^ =]+=")


def slug(text: str, longest: int = LONGEST) -> str:
    """Give a file name, without ending, for any text.

    Parameters
    ----------
    text : str
        What it is called.
    longest : int
        Bytes that it has at most.

    Examples
    --------
    >>> slug("São Paulo: 3/4"), slug("../etc"), slug("NUL"), slug(""), slug("-1.5")
    ('São-Paulo-3-4', 'etc', 'NUL_', 'item', '-1.5')
    """
    text = _SIGN.sub("\0", unicodedata.normalize("NFC", text).replace("\0", " "))  # no sign is joined or stripped
    kept = "".join(c if c.isalnum() or c in "._=+,@\0" or unicodedata.category(c)[0] == "M" else "-" for c in text)
    kept = re.sub(r"\.\.+", ".", re.sub(r"-+", "-", kept)).strip("-.").replace("\0", "-")
    encoded = kept.encode("utf-8")[:longest]
    kept = encoded.decode("utf-8", "ignore").rstrip("-.") or "item"
    return f"{kept}_" if kept.partition(".")[0].lower() in _RESERVED else kept


def new_run_id(now: float, salt: str | None = None) -> str:
    """Give a run id that sorts by time: local date and time, and the part of the second in four digits.

    Local time is what people remember; ids of the hour that summer time repeats sort among each other.

    Parameters
    ----------
    now : float
        Seconds since 1970.
    salt : str, optional
        Stands for the last four digits.

    Examples
    --------
    >>> new_run_id(0.5)[-5:], new_run_id(0.0, "7f3a")[-5:]
    ('-8000', '-7f3a')
    """
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{salt or format(int(now % 1 * 65536), '04x')}"


def is_run_id(text: str) -> bool:
    """Whether a text is the id of a run, and nothing besides.

    Examples
    --------
    >>> is_run_id("20261123-030112-7f3a"), is_run_id("../20261123-030112-7f3a")
    (True, False)
    """
    return _RUN_ID.fullmatch(text) is not None


def check_run_id(text: str) -> str:
    """Give the run id back if it is one, before it becomes a path.

    Raises
    ------
    TargetError
        If it is none.
    """
    if not is_run_id(text):
        raise TargetError(
            f"{text!r} is no run id", "A run id looks like 20261123-030112-7f3a; nbflow status lists them."
        )
    return text


def file_stem(index: int | None, label: str) -> str:
    """Give the file name of an item, without ending.

    Examples
    --------
    >>> file_stem(16, "city=New York year=2026")
    '16_New-York_2026'
    """
    if index is None:
        return slug(label)
    return f"{index}_{slug(_NAME.sub('_', label).removeprefix('_'), LONGEST - 20)}"


class Namer:
    """Hands out the files of attempts; none is ever handed out twice or overwrites what is there.

    Used by the driver's thread only.

    Parameters
    ----------
    folder : Path
        The run folder; what is in it already belongs to earlier epochs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        self._call = self._places("call")

    def places(self, task: Task) -> Places:
        """Give the files of an attempt; calls of functions leave none, and share places that nobody makes."""
        if isinstance(task.step, CallStep):
            return self._call
        base = name = file_stem(task.index, task.label)
        mark = re.sub("[^0-9a-z]", "", task.fingerprint)[-6:]
        turn = 1
        while not self._free(name):
            name = f"{base}-{mark}" if turn == 1 else f"{base}-{mark}-{turn}"
            turn += 1
        self._taken.add(name.casefold())  # on some file systems Oslo and oslo are one
        return self._places(name)

    def _places(self, name: str) -> Places:
        folder = self._folder
        return Places(
            folder,
            folder / f"{name}.ipynb",
            folder / f"{name}.failed.ipynb",
            folder / "logs" / f"{name}.log",
            folder / "artifacts" / name,
            folder / "items" / name,
        )

    def _free(self, name: str) -> bool:
        if name.casefold() in self._taken:
            return False
        owned = (f"{name}.ipynb", f"{name}.failed.ipynb", f"logs/{name}.log", f"artifacts/{name}", f"items/{name}")
        return not any(os.path.lexists(self._folder / file) for file in owned)
