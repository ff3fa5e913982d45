"""Surroundings: what is recorded when a run starts, because it cannot be added to old runs."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from ..early import OURS
from ..host import usable_cores
from ..version import __version__
from .lock import user

__all__ = ["interpreter", "packages", "surroundings", "usable_cores"]

_CAPS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "PYTHONHASHSEED")
# importlib.metadata parses each file whole, twice: a third of what a kernel takes to start.
_PACKAGES = r"""
import sys
sys.path = [place for place in sys.path if place]  # or a json.py of the user would be imported
import json, os, re
found = {}
for place in sys.path:
    for name in sorted(os.listdir(place)) if os.path.isdir(place) and os.access(place, os.R_OK) else ():
        kept = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}.get(os.path.splitext(name)[1])
        path = os.path.join(place, name)
        if kept is not None and os.path.isdir(path):
            path = os.path.join(path, kept)
        if kept is None or not os.path.isfile(path) or not os.access(path, os.R_OK):
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            head = file.read().partition("\n\n")[0]
        fields = [re.search("^" + field + ": *(.+)$", head, re.MULTILINE) for field in ("Name", "Version")]
        if all(fields):
            found.setdefault(*(field[1].strip() for field in fields))
print(json.dumps(found))
"""


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
        "platform": _platform(),
        "user": user(),
        "host": socket.gethostname(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": kernel,
        "environment": {name: os.environ[name] for name in _CAPS if name in os.environ},
        "git": _git(folder),
    }


def _platform() -> str:
    """Give what ``platform.platform()`` says, which runs a program and reads Python's own file for it."""
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ()) else None
    if libc is None:
        return platform.platform()
    system = os.uname()
    return f"{system.sysname}-{system.release}-{system.machine}-with-{libc.replace(' ', '')}"


def packages(python: str) -> dict[str, str]:
    """Give name and version of each package of an environment.

    Parameters
    ----------
    python : str
        The environment's interpreter; the first word of the kernel's command.
    """
    done = _run([python, "-c", _PACKAGES], None, 20.0)
    try:
        return dict(sorted(json.loads((done or "{}").splitlines()[-1]).items()))
    except (ValueError, AttributeError, IndexError):  # it is not Python, or says something of its own at its end
        return {}


def interpreter(argv: Sequence[str]) -> str | None:
    """Give the Python interpreter that a kernel's command starts, if it is one."""
    if not argv or "python" not in Path(argv[0]).name:
        return None
    return sys.executable if argv[0] in OURS else argv[0]


def _git(folder: Path) -> dict[str, Any] | None:
    """Give commit, and whether files differ from it; nbflow's own files apart."""
    whole = folder.resolve()
    if "GIT_DIR" not in os.environ and not any((place / ".git").exists() for place in (whole, *whole.parents)):
        return None
    git = [
        "git",
        "--no-optional-locks",
        "-c",
        "core.fsmonitor=false",
    ]  # writes nothing, runs nothing of the repository's
    commit = _run([*git, "rev-parse", "--verify", "HEAD"], folder, 2.0)
    if not commit:
        return None
    ours = [":(top,exclude,glob)**/nbflow-runs/**", ":(top,exclude,glob)**/*.nbflow.json"]
    status = _run([*git, "status", "--porcelain", "--", ":(top)", *ours], folder, 2.0)
    return {"commit": commit.strip(), "dirty": None if status is None else bool(status.strip())}


def _run(command: Sequence[str], folder: Path | None, limit: float) -> str | None:
    """Give what a program prints; ``None`` if it is not there, fails, or takes longer than ``limit`` seconds."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words only
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
