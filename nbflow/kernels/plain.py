"""Plain kernels: those of this environment, found and started without the libraries of Jupyter.

They take longer to load than a kernel takes to be started, so that the first kernel of a process starts before them.
What is unusual in any way is left to jupyter_client.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..early import OURS
from .endpoints import Endpoint

__all__ = ["PlainSpec", "find_plain", "plain_command", "start_plain"]

_ELSEWHERE = (
    *("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_PLATFORM_DIRS", "XDG_DATA_HOME"),
    *("PYTHONUSERBASE", "JUPYTER_DEFAULT_PROVISIONER_NAME"),
)
"""Variables that make Jupyter look for kernels elsewhere, or start them otherwise."""
_KEYS = {"argv", "display_name", "language", "metadata", "env", "interrupt_mode", "kernel_protocol_version"}
_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_NAME = re.compile(r"\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True, slots=True)
class PlainSpec:
    """What ``kernel.json`` says."""

    folder: Path
    data: Mapping[str, Any]

    @property
    def argv(self) -> list[str]:
        """The command, with names in braces."""
        return list(self.data["argv"])

    @property
    def command(self) -> list[str]:
        """The command, which names this interpreter."""
        first, *others = self.argv
        return [sys.executable if first in OURS else first, *others]

    @property
    def language(self) -> str:
        """The language's name."""
        return str(self.data.get("language") or "")


def find_plain(name: str) -> PlainSpec | None:
    """Give a kernel of this environment; ``None`` if jupyter_client has to look for it."""
    if not sys.platform.startswith("linux") or any(os.environ.get(one) for one in _ELSEWHERE):
        return None
    folder = Path(sys.prefix, "share", "jupyter", "kernels", name)
    own = Path("~/.local/share/jupyter/kernels").expanduser()
    try:
        if name != name.lower() or (own.is_dir() and any(one.name.lower() == name for one in own.iterdir())):
            return None  # a user's own kernel may go first, or behind it
        data = json.loads((folder / "kernel.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return PlainSpec(folder, data) if _is_plain(data) else None


def _is_plain(data: Any) -> bool:
    if not isinstance(data, dict) or not data.keys() <= _KEYS or data.get("env"):
        return False
    argv, metadata = data.get("argv"), data.get("metadata", {})
    usual = isinstance(argv, list) and all(isinstance(word, str) and not word.startswith("~") for word in argv)
    return bool(usual and argv and isinstance(metadata, dict) and "kernel_provisioner" not in metadata)


def plain_command(
    spec: PlainSpec, name: str, endpoint: Endpoint, own: Sequence[str], env: Mapping[str, str]
) -> list[str]:
    """Write the connection file, as jupyter_client does; give the kernel's command.

    Parameters
    ----------
    spec, name : PlainSpec, str
        The kernel.
    endpoint : Endpoint
        Where it listens; of unix sockets.
    own : sequence of str
        More words of its command.
    env : mapping
        Its whole environment.
    """
    connection = {
        **{port: number for number, port in enumerate(_PORTS, 1)},
        "ip": endpoint.ip,
        "key": str(uuid.uuid4()),
        "transport": endpoint.transport,
        "signature_scheme": "hmac-sha256",
        "kernel_name": name,
        "jupyter_session": env.get("JPY_SESSION_NAME", ""),
    }
    descriptor = os.open(endpoint.connection_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(connection, file, indent=2)
    known = {
        "connection_file": os.path.realpath(endpoint.connection_file),
        "prefix": sys.prefix,
        "resource_dir": str(spec.folder),
    }
    return [_NAME.sub(lambda found: known.get(found[1], found[0]), word) for word in [*spec.command, *own]]


def start_plain(command: Sequence[str], cwd: Path, env: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    """Start the process, as jupyter_client does.

    Parameters
    ----------
    command : sequence of str
        What :func:`plain_command` gave.
    cwd, env : Path, mapping
        Its directory, and its whole environment.
    output : int
        The descriptor for what it writes itself.
    """
    process = subprocess.Popen(  # noqa: S603 - the command of an installed kernel
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.close()
    return process
