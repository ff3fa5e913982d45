"""Surroundings: what is recorded when a run starts, because it cannot be added to old runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from .. import __version__

_CAPS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "PYTHONHASHSEED")
_PACKAGES = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions() if d.metadata['Name']}))"
)


def usable_cores() -> int:
    """Give how many cores this process may use: by affinity, and by the limit of its control group.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(Path("/sys/fs/cgroup")) or _quota_v1(Path("/sys/fs/cgroup/cpu"))
    return max(1, min(cores, int(quota + 0.5)) if quota else cores)


def _quota_v2(root: Path) -> float | None:
    """Give the smallest limit, in cores, on the way from this process's group to the root."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    group = next((line[3:] for line in own if line.startswith("0::")), "")
    folder, limits = root / group.lstrip("/"), []
    for place in (folder, *folder.parents):
        if not place.is_relative_to(root):
            break
        try:
            most, period = (place / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        if most != "max":
            limits.append(int(most) / int(period))
    return min(limits, default=None)


def _quota_v1(folder: Path) -> float | None:
    try:
        most = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return most / period if most > 0 else None


def surroundings(folder: Path, kernel: str) -> dict[str, Any]:
    """Give what decides results besides code and parameters.

    Parameters
    ----------
    folder : Path
        The notebook's folder, for its git commit.
    kernel : str
        Name of the kernel.
    """
    return {
        "nbflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": kernel,
        "environment": {name: os.environ[name] for name in _CAPS if name in os.environ},
        "git": _git(folder),
    }


def packages(python: str) -> dict[str, str]:
    """Give name and version of each package of an environment.

    Parameters
    ----------
    python : str
        The environment's interpreter; the first word of the kernel's command.
    """
    done = _run([python, "-c", _PACKAGES], None, 20.0)
    return dict(sorted(json.loads(done).items())) if done else {}


def interpreter(argv: Sequence[str]) -> str | None:
    """Give the Python interpreter that a kernel's command starts, if it is one."""
    if not argv or "python" not in Path(argv[0]).name:
        return None
    return sys.executable if argv[0] in ("python", "python3") else argv[0]


def _git(folder: Path) -> dict[str, Any] | None:
    """Give commit, and whether files differ from it; nbflow's own files apart."""
    commit = _run(["git", "rev-parse", "HEAD"], folder, 2.0)
    if not commit:
        return None
    ours = [":(exclude,glob)**/nbflow-runs/**", ":(exclude,glob)**/*.nbflow.json"]
    status = _run(["git", "status", "--porcelain", "--", ".", *ours], folder, 2.0)
    return {"commit": commit.strip(), "dirty": None if status is None else bool(status.strip())}


def _run(command: Sequence[str], folder: Path | None, limit: float) -> str | None:
    """Give what a program prints; ``None`` if it is not there, fails, or takes longer than ``limit`` seconds."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words only
            command, cwd=folder, capture_output=True, text=True, timeout=limit, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
