"""Endpoints: a private folder per kernel for its sockets and its connection file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..host import began, boot

__all__ = ["Endpoint", "make_endpoint", "remove_left"]

LONGEST = 100
"""Bytes of a socket's path: Linux takes 107, macOS 103, and a name of ours comes behind the folder."""

_NAME = re.compile(r"nbf-([0-9a-f]{6})-([0-9a-f]{1,8})-([0-9a-f]+)-[^-]*")
"""A folder's name: machine, process, when that began, and what chance adds."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a kernel listens."""

    folder: Path
    """Readable by this user only; holds the connection file, and the sockets of ``ipc``."""
    transport: str
    """``ipc``, or ``tcp`` where no folder has a path short enough for a socket."""

    @property
    def ip(self) -> str:
        """What Jupyter calls the address: the beginning of each socket's path, or an address."""
        return str(self.folder / "k") if self.transport == "ipc" else "127.0.0.1"

    @property
    def connection_file(self) -> str:
        """The file by which the kernel learns its endpoints and its key."""
        return str(self.folder / "kernel.json")

    def remove(self) -> None:
        """Delete the folder and what is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_endpoint() -> Endpoint:
    """Make a fresh endpoint: unix sockets where they work, they cannot collide as ports do.

    Raises
    ------
    OSError
        If no temporary folder can be written.
    """
    prefix = f"nbf-{_machine()}-{os.getpid():x}-{_began(os.getpid()):x}-"
    if os.name == "posix":
        behind = len(f"/{prefix}12345678/k-5")
        for place in _places():
            if len(os.fsencode(place)) + behind <= LONGEST and os.access(place, os.W_OK | os.X_OK):
                return Endpoint(Path(tempfile.mkdtemp(prefix=prefix, dir=place)), "ipc")
    return Endpoint(Path(tempfile.mkdtemp(prefix=prefix)), "tcp")


def remove_left() -> None:
    """Delete what processes of this user left that were killed: their sockets, and their kernels' keys.

    A process is known by its id and its start. Those of other machines and containers cannot be seen from here, so
    what is theirs stays.
    """
    for place in dict.fromkeys(_places()):
        with contextlib.suppress(OSError), os.scandir(place) as entries:  # it is not there, or not for us
            for entry in entries:
                if _left(entry):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _left(entry: os.DirEntry[str]) -> bool:
    """Whether this is the folder of a process that is gone."""
    name = _NAME.fullmatch(entry.name)
    if name is None or name[1] != _machine() or int(name[3], 16) == _began(int(name[2], 16)):
        return False
    # In a folder that all users share, others may put something there under such a name.
    return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == _user()


def _began(pid: int) -> int:
    return int(began(pid) or 0)


@cache
def _machine() -> str:
    """Give the mark of this machine and container: others may use the same temporary folder."""
    return hashlib.blake2b(f"{socket.gethostname()} {boot()}".encode(), digest_size=3).hexdigest()


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # as st_uid is where there are no such users


def _places() -> list[str]:
    return [place for place in (tempfile.gettempdir(), "/tmp", os.environ.get("XDG_RUNTIME_DIR")) if place]  # noqa: S108 - mkdtemp makes a 0700 folder in it
