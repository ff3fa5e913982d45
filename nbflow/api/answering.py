"""Answers to gates: asked in the terminal, or written down for a run that nobody works at."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from ..errors import did_you_mean
from ..events import GateAnswered, GateOpened
from ..model import NodeId
from ..outcome import Record, completed
from ..reporters.escape import for_terminal, wrapped
from ..store import checkpoint as checkpoints
from ..store.journal import Journal
from ..store.lock import RunLock
from .reading import Stored

__all__ = ["TerminalAsker", "ask_who_is_there", "record_answers"]

SHOWN_LINES = 200
"""Lines of a file to be judged that are shown."""
PATIENCE = 2.0
"""Seconds that the picture of the run may take to make room for a question."""


def ask_who_is_there(folder: Path) -> tuple[TerminalAsker | None, threading.Event | None]:
    """Give what asks the person at the terminal, and what is set while a question has the terminal for itself.

    Parameters
    ----------
    folder : Path
        The workflow's folder: files to be judged are relative to it.
    """
    if "ipykernel.zmqshell" in sys.modules or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return None, None
    asking = threading.Event()
    return TerminalAsker(folder, asking), asking


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


class TerminalAsker:
    """Asks the person at the terminal, one question at a time, by the number or the name of an option.

    Parameters
    ----------
    folder : Path
        The workflow's folder.
    asking : threading.Event
        Set by the picture of the run when it has made room.
    """

    def __init__(self, folder: Path, asking: threading.Event) -> None:
        self._folder = folder
        self._asking = asking
        self._wake: int | None = None
        """Where the question that is asked now hears that it needs no answer any more."""
        self._rejected: dict[NodeId, str] = {}
        """What was chosen for gates that may ask again."""

    def ask(self, gate: GateOpened, answer: Callable[[str | None], None]) -> None:
        """Ask, and come back at once."""
        if self._wake is not None:
            os.close(self._wake)
        awake, self._wake = os.pipe()  # of its own: what an earlier question did not hear is not for this one
        threading.Thread(target=self._ask, args=(gate, answer, awake), name="nbflow-question", daemon=True).start()

    def withdraw(self) -> None:
        """The question needs no answer any more."""
        if self._wake is not None:
            with contextlib.suppress(OSError):  # it was answered, and listens no more
                os.write(self._wake, b"x")

    def _ask(self, gate: GateOpened, answer: Callable[[str | None], None], awake: int) -> None:
        try:
            self._until_answered(gate, answer, awake)
        finally:
            os.close(awake)

    def _until_answered(self, gate: GateOpened, answer: Callable[[str | None], None], awake: int) -> None:
        self._asking.wait(PATIENCE)
        columns = shutil.get_terminal_size((80, 24)).columns - 1
        self._say(*question(gate, self._folder, columns, rejected=self._rejected.pop(gate.node, "")), end="")
        while True:
            text = self._line(awake)
            if text is None:
                return
            if text == "":  # end of input: that is no answer
                self._say("")
                answer(None)
                return
            choice = chosen(gate, text)
            if choice is not None:
                self._rejected[gate.node] = choice  # if it asks again, this is why
                answer(choice)
                return
            self._say(*wrapped("  ", no_answer(gate, text.strip()), columns), end=" ")

    def _line(self, awake: int) -> str | None:
        """Give the line that was typed; empty at the end of input, ``None`` where none is wanted any more."""
        source = sys.stdin.fileno()
        ready, _, _ = select.select([source, awake], [], [])
        if awake in ready:
            self._say("")
            return None
        return sys.stdin.readline()

    @staticmethod
    def _say(*lines: str, end: str = "\n") -> None:
        sys.stderr.write("\n".join(lines) + end)
        sys.stderr.flush()


def question(gate: GateOpened, folder: Path, columns: int, rejected: str = "") -> list[str]:
    """Give the lines of a question: what is to be judged, what is asked, and the options.

    Parameters
    ----------
    folder : Path
        Where the file to be judged stands.
    columns : int
        Columns of the terminal that may be used.
    rejected : str
        What was chosen the last time, where it is asked again: the file was shown then.
    """
    lines = [""]
    if rejected:
        why = f"You chose {for_terminal(rejected)}, and this gate asks again then (on_reject: retry)."
        lines += [*wrapped("  ", why, columns), ""]
    if gate.show is not None:
        path = folder / gate.show
        lines += [f"  {for_terminal(str(path))}", *(f"  │ {line}" for line in excerpt(path) if not rejected), ""]
    lines += [*wrapped(f"  {for_terminal(gate.label)}: ", for_terminal(gate.message), columns), ""]
    lines += [f"    {number}  {for_terminal(option)}" for number, option in enumerate(gate.options, 1)]
    return [*lines, "", "  Your answer (Ctrl-D leaves it open): "]


def no_answer(gate: GateOpened, text: str) -> str:
    """Give the words for what is no answer, with those that are."""
    options = ", ".join(f"{number} or {for_terminal(name)}" for number, name in enumerate(gate.options, 1))
    return f"{for_terminal(text)!r} is no answer.{did_you_mean(text, list(gate.options))} It takes: {options}."


def excerpt(path: Path) -> list[str]:
    """Give the first lines of a text file; nothing of a notebook, which is to be opened in Jupyter."""
    if path.suffix == ".ipynb":
        return []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = [for_terminal(line.rstrip("\n"))[:300] for line in islice(file, SHOWN_LINES + 1)]
    except OSError as problem:
        return [f"(cannot be read: {problem.strerror})"]
    return lines if len(lines) <= SHOWN_LINES else [*lines[:SHOWN_LINES], "…"]


def chosen(gate: GateOpened, text: str) -> str | None:
    """Give the option that a person means: by its number from 1, or its name, in whatever case."""
    text = text.strip()
    if text.isdecimal() and 1 <= int(text) <= len(gate.options) and text not in gate.options:
        return gate.options[int(text) - 1]
    return next((option for option in gate.options if option.casefold() == text.casefold()), None)


def record_answers(stored: Stored, gates: Sequence[GateOpened], answers: Mapping[NodeId, tuple[str, str]]) -> None:
    """Write answers down for a run that nobody works at: the next resume finds them.

    Raises
    ------
    LockedError
        If somebody began to work at it.
    StoreError
        If they cannot be written.
    """
    lock = RunLock(stored.folder)
    lock.acquire()
    try:
        fresh = stored.fresh()
        journaled = fresh.journaled
        events = [GateAnswered(time.time(), g.node, g.key, g.fingerprint, *answers[g.node]) for g in gates]
        if journaled is not None:
            journal = Journal(stored.folder / "journal.jsonl", journaled.good)
            journal.append(events)
            journal.close()
        if fresh.checkpoint is not None:
            records = {e.key: Record(e.fingerprint, completed({"choice": e.choice})) for e in events}
            checkpoints.add_records(fresh.checkpoint, records)
    finally:
        lock.release()
