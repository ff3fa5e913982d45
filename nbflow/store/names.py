"""Names on disk: run ids, file names from labels, and the files of each attempt."""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from pathlib import Path

from ..errors import TargetError
from ..model import NotebookStep
from ..task import Places, Task

LONGEST = 100
"""Bytes that a file name made from a label has at most."""
_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{4,6}-[0-9a-z]{4,16}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


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
    >>> slug("São Paulo: 3/4"), slug("../etc"), slug("NUL"), slug("")
    ('São-Paulo-3-4', 'etc', 'NUL_', 'item')
    """
    text = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isalnum() or c in "._=+,@" else "-" for c in text)
    kept = re.sub(r"\.\.+", ".", re.sub(r"-+", "-", kept)).strip("-. ")
    encoded = kept.encode("utf-8", "ignore")[:longest]
    kept = encoded.decode("utf-8", "ignore").rstrip("-. ") or "item"
    return f"{kept}_" if kept.partition(".")[0].lower() in _RESERVED else kept


def new_run_id(now: float, salt: str | None = None) -> str:
    """Give a run id that sorts by time: local date and time to the second, and four random digits.

    Parameters
    ----------
    now : float
        Seconds since 1970.

    Examples
    --------
    >>> new_run_id(0.0, "7f3a")[-5:]
    '-7f3a'
    """
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{salt or secrets.token_hex(2)}"


def check_run_id(text: str) -> str:
    """Give the run id back if it is one, before it becomes a path.

    Raises
    ------
    TargetError
        If it is none.
    """
    if not _RUN_ID.fullmatch(text):
        raise TargetError(
            f"{text!r} is no run id", "A run id looks like 20261123-030112-7f3a; nbflow status lists them."
        )
    return text


def file_stem(index: int | None, label: str) -> str:
    """Give the file name of an item, without ending.

    Examples
    --------
    >>> file_stem(16, "city=Cairo")
    '16_Cairo'
    """
    if index is None:
        return slug(label)
    values = " ".join(part.partition("=")[2] or part for part in label.split(" "))
    return f"{index}_{slug(values, LONGEST - 20)}"


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

    def places(self, task: Task) -> Places:
        """Give the files of an attempt."""
        base = file_stem(task.index, task.label)
        name, turn = base, 0
        if isinstance(task.step, NotebookStep):  # other kinds leave no files, so their names need not be free
            while not self._free(name):
                turn += 1
                mark = task.fingerprint.replace(".", "").replace("-", "")[:6]
                name = f"{base}-{mark}" if turn == 1 else f"{base}-{mark}-{turn}"
            self._taken.add(name)
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
        folder = self._folder
        owned = (f"{name}.ipynb", f"{name}.failed.ipynb", f"logs/{name}.log", f"artifacts/{name}", f"items/{name}")
        return name not in self._taken and not any((folder / file).exists() for file in owned)
