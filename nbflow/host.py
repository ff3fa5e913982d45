"""This host: how many cores there are for us, and which of its processes live."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cache
from pathlib import Path

import psutil

__all__ = [
    "THREADS",
    "UNKNOWN",
    "began",
    "boot",
    "born",
    "cache_folder",
    "ending",
    "group_of",
    "quota",
    "tends_resources",
    "thread_limits",
    "usable_cores",
]

THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables by which libraries are told how many threads to use.

OpenBLAS, MKL, numexpr, BLIS and PyTorch go by ``OMP_NUM_THREADS`` where nothing else is said. Theirs are left alone:
they would count for more than an ``OMP_NUM_THREADS`` that somebody sets. So are caps above which a library refuses to
go (``NUMEXPR_MAX_THREADS``, ``NUMBA_NUM_THREADS``).
"""


UNKNOWN = -255
"""The exit code of a process of which nobody can tell how it ended; no signal has this number."""


def group_of(leader: int) -> list[int]:
    """Give the processes of a group, its leader apart; nothing where the system does not list processes."""
    found = []
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - asked at the end of each kernel: a third of a Path's time
    except OSError:
        return []
    for name in names:
        if name.isdigit() and int(name) != leader:
            with contextlib.suppress(OSError):  # it ended meanwhile
                if os.getpgid(int(name)) == leader:
                    found.append(int(name))
    return found


def tends_resources(pid: int) -> bool:
    """Whether a process that lives is a resource tracker: multiprocessing's, or joblib's.

    It tidies up and ends by itself when those have ended that have its pipe.
    """
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return False


def usable_cores() -> int:
    """Give how many cores this process may use: by affinity, and by the limit of its control group.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, round(quota() or cores)))


def thread_limits(at_once: int) -> dict[str, str]:
    """Give variables that share out the cores: so many threads for each of the tasks that run at a time.

    Parameters
    ----------
    at_once : int
        How many tasks run at a time at most.

    Examples
    --------
    >>> set(thread_limits(1000).values())
    {'1'}
    """
    return dict.fromkeys(THREADS, str(max(1, usable_cores() // max(1, at_once))))


def quota(root: Path = Path("/")) -> float | None:
    """Give the smallest limit, in cores, on the way from this process's control group to the top.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, names, group = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if names else "")  # names are of version 1, none of version 2
        folder = top / group.lstrip("/")
        limits += [_limit(place) for place in (folder, *folder.parents) if place.is_relative_to(top)]
    return min((limit for limit in limits if limit), default=None)


def _limit(group: Path) -> float | None:
    """Give the limit of one control group, in cores; ``None`` if it has none."""
    try:
        if (group / "cpu.max").exists():
            most, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            most, period = ((group / f"cpu.cfs_{what}_us").read_text(encoding="ascii") for what in ("quota", "period"))
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):  # no limit, "max"
        return None


def cache_folder() -> Path:
    """Give the folder for what this user's processes remember, and can find out again; it need not be there."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache").expanduser()
    return base / "nbflow"


@cache
def born() -> float:
    """Give when this process began, in seconds since 1970."""
    return psutil.Process().create_time()


@cache
def boot() -> str:
    """Give what differs between machines, boots and containers that share a host name."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{machine} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def began(pid: int) -> float | None:
    """Give when a process began; ``None`` if there is none, or only what is left of a dead one.

    Linux tells it in ticks since boot; psutil's seconds since 1970 move when somebody sets the clock.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else float(fields[18])
    except (OSError, ValueError, IndexError):
        pass
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def ending(code: int | None) -> str:
    """Tell how a process ended.

    Parameters
    ----------
    code : int, optional
        Its exit code; negative: the signal that ended it.

    Examples
    --------
    >>> ending(-9)
    'signal 9'
    >>> ending(3)
    'exit code 3'
    """
    if code is None or code == UNKNOWN:
        return "nobody knows how"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
