"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DiskFullError", "is_full", "own_writes", "sync_folder", "write_atomically"]


class DiskFullError(OSError):
    """There is no room for what nbflow itself writes while a task is at work: no fault of the task."""


def is_full(problem: OSError) -> bool:
    """Whether an error says that there is no room."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def own_writes() -> Iterator[None]:
    """Tell a full disk as that: nothing but nbflow writes in here, the task's code has a process of its own.

    Raises
    ------
    DiskFullError
        In place of an OSError that says so.
    """
    try:
        yield
    except OSError as problem:
        if not is_full(problem):
            raise
        raise DiskFullError(problem.errno, problem.strerror, problem.filename) from problem


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at every moment, also after a power cut, either the old or the new one stands there.

    Parameters
    ----------
    path : Path
        Its folder exists. An existing file keeps its mode.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        If it cannot be written; the old file stands untouched and no temporary one is left.
    """
    short = path.name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")
    temporary = path.with_name(f".{short}.{secrets.token_hex(4)}.tmp")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mode = None
    try:
        with temporary.open("xb") as file:
            if mode is not None:
                temporary.chmod(mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # not every file system can; the files themselves are synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
