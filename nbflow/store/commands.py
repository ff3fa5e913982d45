"""Commands from outside: one file each in the run folder, so that any process, host or container can send them."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from pathlib import Path

from ..instruction import Instruction
from .files import write_atomically

_MORE = ("node", "choice", "by")
_COMMAND = re.compile(r"[0-9]{19}-[0-9a-f]{4}\.json")


def send(folder: Path, instruction: Instruction) -> Path:
    """Ask whoever works at a run to do something.

    Parameters
    ----------
    folder : Path
        The run folder.
    instruction : Instruction
        What to do.

    Returns
    -------
    Path
        The file that carries it: it is there until it was taken.
    """
    box = folder / "commands"
    box.mkdir(exist_ok=True)
    name = f"{time.time_ns():019d}-{secrets.token_hex(2)}.json"
    write_atomically(box / name, json.dumps({"command": instruction.word, **_more(instruction)}).encode())
    return box / name


def take_back(sent: Path) -> bool:
    """Take back what was sent; tells whether it was still there, and nobody has obeyed it."""
    try:
        sent.unlink()
    except FileNotFoundError:
        return False
    return True


def _more(instruction: Instruction) -> dict[str, str]:
    return {name: text for name in _MORE if (text := getattr(instruction, name))}


def drop(folder: Path, before: float) -> None:
    """Forget the commands that were sent before a moment: they were meant for an earlier start of the run.

    Parameters
    ----------
    folder : Path
        The run folder.
    before : float
        Seconds since 1970.
    """
    for file in (folder / "commands").glob("*.json"):
        if _COMMAND.fullmatch(file.name) and int(file.name[:19]) < before * 1e9:
            file.unlink(missing_ok=True)


def take(folder: Path) -> list[Instruction]:
    """Take the commands that came in, oldest first; one that cannot be read is given by its file's name.

    Files that are no commands are left alone.
    """
    box = os.path.join(folder, "commands")  # noqa: PTH118 - asked four times a second: a third of a Path's time
    try:
        names = [name for name in os.listdir(box) if _COMMAND.fullmatch(name)]  # noqa: PTH208 - as above
    except (FileNotFoundError, NotADirectoryError):
        return []
    taken = []
    for name in sorted(names):
        file = folder / "commands" / name
        try:
            data = json.loads(file.read_bytes())
            instruction = Instruction(str(data["command"]), *(str(data.get(name, "")) for name in _MORE))
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            instruction = Instruction(name)
        try:
            file.unlink()
        except OSError:
            continue  # another look took it, or it would be obeyed again and again
        taken.append(instruction)
    return taken
