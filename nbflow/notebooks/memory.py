"""Whether a kernel died because memory ran out: the counts that the system keeps."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryWatch"]

GROUPS = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class _Group:
    """The files of one control group; version 2 and version 1 name them differently."""

    events: Path
    limit: Path
    peak: Path
    used: Path


class MemoryWatch:
    """Compares the count of processes that the system ended for memory, before and after.

    Parameters
    ----------
    groups, own : Path
        Where the system shows control groups, and which is ours.
    """

    def __init__(self, groups: Path = GROUPS, own: Path = SELF) -> None:
        self._group = _find(groups, own)
        self._before = self._killed()

    def hint(self, code: int | None) -> str:
        """Tell what speaks for memory, if anything does; ``code`` is the kernel's exit code."""
        if self._group is not None and self._before is not None:
            killed = self._killed()
            if killed is not None and killed > self._before:
                return f"memory?{self._in_use()} (the system counted it)"
        if code == -signal.SIGKILL:
            return f"memory?{self._in_use()} (a guess from the signal)"
        return ""

    def _killed(self) -> int | None:
        if self._group is None:
            return None
        counts = dict(line.split()[:2] for line in _read(self._group.events).splitlines() if len(line.split()) > 1)
        return int(counts["oom_kill"]) if counts.get("oom_kill", "").isdigit() else None

    def _in_use(self) -> str:
        if self._group is None:
            return ""
        limit, used = _number(self._group.limit), _number(self._group.peak) or _number(self._group.used)
        if limit is None or used is None or limit > 2**50:  # version 1 says "no limit" by a huge number
            return ""
        return f" {used / 1e9:.1f} of {limit / 1e9:.1f} GB were in use"


def _find(groups: Path, own: Path) -> _Group | None:
    """Give the control group that this process is in; in a container it is shown at the top."""
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version2 = not controllers
        if not version2 and "memory" not in controllers.split(","):
            continue
        top = groups if version2 else groups / "memory"
        for folder in (top / path.lstrip("/"), top):
            if version2 and (folder / "memory.events").exists():
                names = ("memory.events", "memory.max", "memory.peak", "memory.current")
            elif not version2 and (folder / "memory.oom_control").exists():
                names = (
                    "memory.oom_control",
                    "memory.limit_in_bytes",
                    "memory.max_usage_in_bytes",
                    "memory.usage_in_bytes",
                )
            else:
                continue
            return _Group(*(folder / name for name in names))
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # not this system, or not for us
        return ""


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None
