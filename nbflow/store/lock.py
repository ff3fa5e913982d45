"""The lock of a run: one process works at it, and everybody can see which."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LockedError, StoreError
from ..host import began, boot
from ..version import __version__
from .files import write_atomically

STALE = 60.0
"""Seconds after which the heartbeat of another host's process counts as its death."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that works, or worked, at a run."""

    user: str
    host: str
    boot: str
    """Tells machines and containers of one name apart."""
    pid: int
    process_start: float
    """When the process began, by a clock that nobody sets: its id may be used again after it."""
    since: float
    """When it took the run."""
    heartbeat: float
    """When it was last seen, in seconds since 1970, as ``since`` is; 0 when it has let go of the run."""
    nbflow: str = __version__
    """Its version of nbflow."""

    def alive(self, now: float) -> bool:
        """Whether it still works: by its process on this host, by its heartbeat elsewhere."""
        if not self.heartbeat:
            return False
        if self.here:
            return began(self.pid) == self.process_start
        return now - self.heartbeat < STALE

    @property
    def here(self) -> bool:
        """Whether it is of this host and container."""
        return (self.host, self.boot) == (socket.gethostname(), boot())


def read_owner(folder: Path) -> Owner | None:
    """Give who works, or worked, at a run; ``None`` if that cannot be told. Never takes the lock."""
    try:
        data = json.loads((folder / "owner.json").read_bytes())
        user, host, boot, version = (str(data.get(name, "")) for name in ("user", "host", "boot", "nbflow"))
        start, since, heartbeat = (float(data[name]) for name in ("process_start", "since", "heartbeat"))
        return Owner(user, host, boot, int(data["pid"]), start, since, heartbeat, version)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class RunLock:
    """Keeps a run for this process; the system frees it when the process ends, however it ends.

    Parameters
    ----------
    folder : Path
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(str(folder / "lock"), timeout=0, thread_local=False)
        self.owner = _this_process(time.time())

    def acquire(self, *, take_over: bool = False) -> str:
        """Take the run, and give a warning if it was taken from a process of another host that did not let go.

        Parameters
        ----------
        take_over : bool
            Take it also from a process of another host that seems to be alive.

        Raises
        ------
        LockedError
            If another process works at it.
        StoreError
            If the folder cannot be locked.
        """
        before = read_owner(self._folder)
        now = time.time()
        if before is not None and not before.here and before.alive(now) and not take_over:
            raise _locked(
                self._folder,
                f"{_who(before)} (seen {max(0.0, now - before.heartbeat):.0f} s ago)",
                "\nIf that process is dead for certain, add --take-over.",
            )
        try:
            self._lock.acquire()
        except Timeout:
            holder = read_owner(self._folder)
            raise _locked(self._folder, _who(holder) if holder is not None else "another process") from None
        except (OSError, NotImplementedError) as problem:
            raise StoreError(
                f"{self._folder}: cannot be locked ({problem})",
                "Keep runs elsewhere: --state-dir DIR (or set NBFLOW_STATE_DIR).",
            ) from problem
        try:
            self.owner = _this_process(now)
            self.beat(now)
        except BaseException:
            self._lock.release()
            raise
        if before is None or before.here or not before.heartbeat:
            return ""
        return f"taken over from {_who(before)}"

    def beat(self, now: float) -> None:
        """Show that this process is alive.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.owner = replace(self.owner, heartbeat=now)
        write_atomically(self._folder / "owner.json", json.dumps(asdict(self.owner), indent=1).encode("ascii"))

    def lost(self) -> bool:
        """Whether a process of another host took the run over: then nothing more may be written here."""
        seen, own = read_owner(self._folder), self.owner
        return seen is not None and (seen.host, seen.boot, seen.pid) != (own.host, own.boot, own.pid)

    def release(self) -> None:
        """Let go of the run, and show it."""
        try:
            with contextlib.suppress(OSError):  # on a full disk the lock alone must tell
                if not self.lost():
                    self.beat(0.0)
        finally:
            self._lock.release()


def _locked(folder: Path, who: str, more: str = "") -> LockedError:
    target = folder.name if Path.cwd() in folder.parents else str(folder)
    return LockedError(
        f"run {folder.name} is being worked at by {who}",
        f"Wait for it, or stop it: nbflow cancel {target}{more}",
        str(folder),
    )


def _who(owner: Owner) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(owner.since))
    return f"process {owner.pid} of {owner.user} on {owner.host} since {since}"


def _this_process(now: float) -> Owner:
    pid = os.getpid()
    return Owner(user(), socket.gethostname(), boot(), pid, began(pid) or 0.0, now, now)


def user() -> str:
    """Give the name of this process's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
