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

from ..errors import TargetError, did_you_mean
from ..events import GateAnswered, GateOpened
from ..model import NodeId, node_text
from ..outcome import Record, completed
from ..reporters.escape import for_terminal, wrapped
from ..store import checkpoint as checkpoints
from ..store.commands import take_back
from ..store.journal import Journal
from ..store.lock import RunLock, read_owner
from .reading import Stored
from .runs import WorkflowRun

__all__ = ["TerminalAsker", "ask_who_is_there", "record_answers", "undelivered"]

SHOWN_LINES = 200
"""Lines of a file to be judged that are shown."""
HEARD = 10.0
"""Seconds that the process at work may take to take an answer in."""
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
        self._question: _Question | None = None
        self._rejected: dict[NodeId, str] = {}
        """What was chosen for gates that may ask again."""

    def ask(self, gate: GateOpened, answer: Callable[[str | None], None]) -> None:
        """Ask, and come back at once."""

        def chosen_now(choice: str | None) -> None:
            if choice is not None:
                self._rejected[gate.node] = choice  # if it asks again, this is why
            answer(choice)

        self._question = question = _Question(gate, chosen_now, self._rejected.pop(gate.node, ""))

        def begin() -> None:
            self._asking.wait(PATIENCE)
            with contextlib.closing(question):
                question.put(self._folder)

        threading.Thread(target=begin, name="nbflow-question", daemon=True).start()

    def withdraw(self) -> None:
        """The question needs no answer any more, if it had none."""
        if self._question is not None:
            self._question.withdraw()


class _Question:
    """One question to the person at the terminal, until it was answered or withdrawn.

    Parameters
    ----------
    gate : GateOpened
        What is asked.
    answer : callable
        Is told what was chosen; ``None``: nothing was.
    rejected : str
        What was chosen the last time, where it is asked again.
    """

    def __init__(self, gate: GateOpened, answer: Callable[[str | None], None], rejected: str) -> None:
        self._gate = gate
        self._answer = answer
        self._rejected = rejected
        self._awake, self._wake = os.pipe()
        self._open = True
        self._lock = threading.Lock()  # who withdraws must not write into what was closed, and is another's now

    def close(self) -> None:
        """Let go of it: from here on there is nothing to withdraw."""
        with self._lock:
            self._open = False
            os.close(self._wake)
            os.close(self._awake)

    def withdraw(self) -> None:
        """It needs no answer any more."""
        with self._lock:
            if self._open:
                os.write(self._wake, b"x")

    def put(self, folder: Path) -> None:
        """Ask until there is an answer."""
        columns = shutil.get_terminal_size((80, 24)).columns - 1
        self._forget_what_was_typed()
        self._say(*question(self._gate, folder, columns, rejected=self._rejected), end="")
        while (text := self._line()) is not None:
            if text == "":  # end of input: that is no answer
                self._say("")
                self._answer(None)
                return
            choice = chosen(self._gate, text)
            if choice is not None:
                self._answer(choice)
                return
            self._say(*wrapped("  ", no_answer(self._gate, text.strip()), columns), end=" ")

    @staticmethod
    def _forget_what_was_typed() -> None:
        """Pass over what was typed before the question stood there: it cannot be the answer to it."""
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

    def _line(self) -> str | None:
        """Give the line that was typed; empty at the end of input, ``None`` where none is wanted any more."""
        ready, _, _ = select.select([sys.stdin.fileno(), self._awake], [], [])
        if self._awake in ready:
            self._say("")
            return None
        return sys.stdin.readline()

    @staticmethod
    def _say(*lines: str, end: str = "\n") -> None:
        sys.stderr.write("\n".join(lines) + end)
        sys.stderr.flush()


def undelivered(run: WorkflowRun, gates: Sequence[GateOpened], option: str, by: str) -> list[GateOpened]:
    """Send an answer to the process that works at a run; gives the gates that it did not hear of before it ended.

    Parameters
    ----------
    run : WorkflowRun
        A run that was at work just now.
    gates : sequence of GateOpened
        What is answered.
    option, by : str
        The answer, and whose it is.
    """
    try:
        sent = {run.pass_on(gate, option, by): gate for gate in gates}
    except TargetError:  # it has ended since
        return list(gates)
    end = time.monotonic() + HEARD
    while time.monotonic() < end and any(file.exists() for file in sent):
        owner = read_owner(run.folder)
        if owner is None or not owner.alive(time.time()):
            return [gate for file, gate in sent.items() if take_back(file)]
        time.sleep(0.05)
    return []  # it was heard, or lies there for a process that is alive and busy


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
    TargetError
        If somebody answered before.
    StoreError
        If they cannot be written.
    """
    lock = RunLock(stored.folder)
    lock.acquire()
    try:
        fresh = stored.fresh()
        run = fresh.run()
        assert isinstance(run, WorkflowRun), "maps have no gates"
        still = {gate.node for gate in run.waits_for}
        if late := [node_text(gate.node) for gate in gates if gate.node not in still]:
            raise TargetError(f"{', '.join(late)} was answered in the meantime", "nbflow status shows how it stands.")
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
