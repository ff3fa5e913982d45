"""Endpoints: a private folder per kernel for its sockets and its connection file."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Endpoint", "make_endpoint"]

LONGEST = 100
"""Bytes of a socket's path: Linux takes 107, macOS 103, and a name of ours comes behind the folder."""


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
    if os.name == "posix":
        for place in _places():
            if len(os.fsencode(place)) + len("/nbf-12345678/k-5") <= LONGEST and os.access(place, os.W_OK | os.X_OK):
                return Endpoint(Path(tempfile.mkdtemp(prefix="nbf-", dir=place)), "ipc")
    return Endpoint(Path(tempfile.mkdtemp(prefix="nbf-")), "tcp")


def _places() -> list[str]:
    return [place for place in (tempfile.gettempdir(), "/tmp", os.environ.get("XDG_RUNTIME_DIR")) if place]  # noqa: S108 - mkdtemp makes a 0700 folder in it
