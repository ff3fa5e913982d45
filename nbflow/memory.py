"""Memory: what this host and our control group have of it, what processes use, and whether a process died of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .sizes import size_or_share

__all__ = ["EXCEPTIONS", "MemoryWatch", "Room", "available", "room", "used", "whole"]

GROUPS = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")

EXCEPTIONS = frozenset(("MemoryError", "_ArrayMemoryError", "ArrowMemoryError"))
"""Names of exceptions that say that memory ran out: Python's own, and those that NumPy and Arrow derive from it."""

KILLED = -9
SHELL_SAYS_KILLED = 137
"""The exit code of a shell whose command was killed."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The files of one control group; version 2 and version 1 name them differently."""

    events: Path
    limit: Path
    peak: Path
    used: Path
    stat: Path


class MemoryWatch:
    """Compares the count of processes that the system ended for memory, before and after.

    Parameters
    ----------
    groups, own : Path
        Where the system shows control groups, and which is ours.
    """

    def __init__(self, groups: Path = GROUPS, own: Path = SELF) -> None:
        self._group = next(_on_the_way(groups, own), None)
        self._before = self._killed()

    def died_of_it(self, code: int | None) -> bool:
        """Whether it is known that memory ended a process: it was killed, and the system counted that.

        Parameters
        ----------
        code : int, optional
            The exit code; negative: the signal.
        """
        return code in (KILLED, SHELL_SAYS_KILLED) and self._counted

    def hint(self, code: int | None) -> str:
        """Tell what speaks for memory, if anything does; ``code`` is the kernel's exit code."""
        if self._counted:
            return f"memory?{self._in_use()} (the system counted it)"
        if code == KILLED:
            return f"memory?{self._in_use()} (a guess from the signal)"
        return ""

    @property
    def _counted(self) -> bool:
        killed = self._killed()
        return killed is not None and self._before is not None and killed > self._before

    def _killed(self) -> int | None:
        if self._group is None:
            return None
        return _counts(self._group.events).get("oom_kill")

    def _in_use(self) -> str:
        if self._group is None:
            return ""
        limit, used = _limit(self._group), _number(self._group.peak) or _number(self._group.used)
        return "" if limit is None or used is None else f" {used / 1e9:.1f} of {limit / 1e9:.1f} GB were in use"


def whole(groups: Path = GROUPS, own: Path = SELF) -> int:
    """Give the bytes of memory that there are for us: those of the host, or the limit of our control group.

    Examples
    --------
    >>> whole() > 10_000_000
    True
    """
    limits = [limit for group in _on_the_way(groups, own) if (limit := _limit(group)) is not None]
    return min([psutil.virtual_memory().total, *limits])


def available(groups: Path = GROUPS, own: Path = SELF) -> int:
    """Give the bytes of memory that are free for us now: what the host can give, within our control group's limit.

    Examples
    --------
    >>> 0 <= available() <= whole()
    True
    """
    free = [psutil.virtual_memory().available]
    for group in _on_the_way(groups, own):
        limit, now = _limit(group), _number(group.used)
        if limit is not None and now is not None:
            counts = _counts(group.stat)
            cache = counts.get("total_inactive_file", counts.get("inactive_file", 0))  # given back when it is needed
            free.append(max(0, limit - now + cache))
    return min(free)


@dataclass(frozen=True, slots=True)
class Room:
    """Measures what processes use, and how much there is for all of them together.

    Parameters
    ----------
    most : int, optional
        That much, in bytes; without it what they use already, and what is free for us now.
    """

    most: int | None = None

    def __call__(self, pids: Iterable[int]) -> tuple[dict[int, int], int]:
        """Give the bytes that each process uses, and those that there are."""
        using = used(pids)
        return using, available() + sum(using.values()) if self.most is None else self.most


def room(said: str | float | None) -> Room:
    """Give what measures the room for tasks of which a person said how much they may use together.

    Parameters
    ----------
    said : str or float, optional
        A size, or a share of what there is for us; none: no limit was said.
    """
    return Room(None if said is None else size_or_share(said, whole(), "max_memory"))


def used(pids: Iterable[int]) -> dict[int, int]:
    """Give the bytes that processes use now, each with all its child processes.

    Memory that processes share counts for each by its part, where the system tells it (Linux); else in full.

    Parameters
    ----------
    pids : iterable of int
        Who is asked for; of one that is gone it is 0.
    """
    wanted = list(pids)
    children: defaultdict[int, list[psutil.Process]] = defaultdict(list)
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter() if wanted else ():
        try:
            children[process.ppid()].append(process)
        except psutil.Error:
            continue  # it is gone
        found[process.pid] = process
    return {pid: sum(map(_used, _tree(found.get(pid), children))) for pid in wanted}


def _tree(top: psutil.Process | None, children: defaultdict[int, list[psutil.Process]]) -> Iterator[psutil.Process]:
    """Give a process and all below it."""
    if top is not None:
        yield top
        for child in children[top.pid]:
            yield from _tree(child, children)


def _used(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except psutil.AccessDenied:
        pass
    except psutil.Error:
        return 0
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _on_the_way(groups: Path, own: Path) -> Iterator[_Group]:
    """Give the control groups that this process is in, from its own to the top; in a container that is shown there."""
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version2 = not controllers
        if not version2 and "memory" not in controllers.split(","):
            continue
        top = groups if version2 else groups / "memory"
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(top):
                break
            if version2 and (place / "memory.events").exists():
                names = ("memory.events", "memory.max", "memory.peak", "memory.current", "memory.stat")
            elif not version2 and (place / "memory.oom_control").exists():
                names = (
                    "memory.oom_control",
                    "memory.limit_in_bytes",
                    "memory.max_usage_in_bytes",
                    "memory.usage_in_bytes",
                    "memory.stat",
                )
            else:
                continue
            yield _Group(*(place / name for name in names))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # not this system, or not for us
        return ""


def _counts(file: Path) -> dict[str, int]:
    """Give the numbers of a file that has a name and a number in each line."""
    lines = (line.split() for line in _read(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _limit(group: _Group) -> int | None:
    limit = _number(group.limit)
    return None if limit is None or limit > 2**50 else limit  # version 1 says "no limit" by a huge number


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None
