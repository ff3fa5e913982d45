"""The journal: a run's events, one JSON line each. It is the truth, and nothing else is written first."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..errors import StoreError
from ..events import (
    AttemptFailed,
    Event,
    FanOutOpened,
    GateAnswered,
    GateOpened,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunHeld,
    RunStarted,
    Warned,
)
from ..model import node_text
from ..outcome import Failure, Outcome, Record, completed
from ..types import Status
from ..values import tagged, untagged
from .files import sync_folder

FORMAT = 1
"""Version of the lines; stands in each ``RunStarted``."""
_FAILURE = ("kind", "message", "exception", "cell", "traceback", "node")
_STATUSES = frozenset(get_args(Status))
_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # json.dumps would make one per line


class TakenOverError(OSError):
    """The run is another process's now: nothing more may be written into its journal."""

    def __init__(self) -> None:
        super().__init__("taken over by another process")


class NewerError(ValueError):
    """A line that another version of nbflow wrote."""


@dataclass(frozen=True, slots=True)
class Records:
    """What is on disk of tasks, by key."""

    answers: dict[str, Record] = field(default_factory=dict)
    """How each ended last; a cancelled one has not ended."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Attempts that began since, without a recorded end of the task; what a cancel ended is none of them."""
    begun: set[str] = field(default_factory=set)
    """Keys of tasks that began since, without a recorded end: cut off by a death or a cancel."""
    to_retry: set[str] = field(default_factory=set)
    """Keys of those of them of which an attempt failed that was to be followed by another."""


def records(events: Iterable[Event]) -> Records:
    """Give what a run's events say of each task, over all its epochs."""
    found = Records()
    flying: set[str] = set()
    for event in events:
        match event:
            case RunStarted(forgets=("*",)):
                flying.clear()
                found.answers.clear()
                found.attempts.clear()
                found.begun.clear()
                found.to_retry.clear()
            case RunStarted():
                flying.clear()
                for key in event.forgets:
                    found.answers.pop(key, None)
                    found.attempts.pop(key, None)
                    found.begun.discard(key)
                    found.to_retry.discard(key)
            case GateAnswered():
                found.answers[event.key] = Record(event.fingerprint, completed({"choice": event.choice}))
            case NodeStarted():
                flying.add(event.key)
                found.begun.add(event.key)
                found.attempts[event.key] = found.attempts.get(event.key, 0) + 1
            case AttemptFailed():
                flying.discard(event.key)
                found.to_retry.add(event.key)
            case NodeFinished(leaf=True) if event.outcome.status in ("completed", "failed"):
                found.answers[event.key] = Record(event.fingerprint, event.outcome)
                found.attempts.pop(event.key, None)
                found.begun.discard(event.key)
                found.to_retry.discard(event.key)
            case NodeFinished(leaf=True) if event.outcome.status == "cancelled" and event.key in flying:
                flying.discard(event.key)
                found.attempts[event.key] -= 1
            case _:
                pass
    return found


def encode(event: Event) -> str | None:
    """Give an event's line, without its end; ``None`` for what is not journaled."""
    match event:
        case NodeStarted():
            data = {"node": node_text(event.node), "key": event.key, **_called(event.label, event.index)}
            if event.attempt != 1:
                data["attempt"] = event.attempt
        case NodeFinished(kept=False):
            data = {"node": node_text(event.node), "key": event.key, **_outcome(event.outcome, event.leaf)}
            if event.fingerprint:
                data["fingerprint"] = event.fingerprint
            if not event.leaf:
                data["leaf"] = False
            if not event.leaf or event.outcome.status != "completed":  # it may have ended without a start
                data.update(_called(event.label, event.index))
        case AttemptFailed():
            data = {"node": node_text(event.node), "key": event.key, "attempt": event.attempt, "delay": event.delay}
            data.update(_outcome(event.outcome, leaf=True))
        case RunStarted():
            data = {"nbflow": FORMAT, "run_id": event.run_id, "name": event.name, "epoch": event.epoch}
            data.update(inputs=tagged(event.inputs), max_workers=event.max_workers)
            if event.forgets:
                data["forgets"] = list(event.forgets)
            if event.seconds:
                data["seconds"] = dict(event.seconds)
        case GateOpened():
            data = {"node": node_text(event.node), "key": event.key, "fingerprint": event.fingerprint}
            data.update(message=event.message, options=list(event.options), **_called(event.label, event.index))
            if event.show is not None:
                data["show"] = event.show
        case GateAnswered():
            data = {"node": node_text(event.node), "key": event.key, "fingerprint": event.fingerprint}
            data.update(choice=event.choice, by=event.by)
        case FanOutOpened():
            data = {"node": node_text(event.node), "total": event.total}
        case Warned():
            data = {"node": node_text(event.node) if event.node is not None else None, "message": event.message}
        case RunHeld():
            data = {"held": event.held}
        case RunFinished():
            data = {"status": event.status, "reason": event.reason, "error": _failure(event.error)}
        case _:
            return None
    return _write({"event": type(event).__name__, "at": round(event.at, 3), **data})


def _called(label: str, index: int | None) -> dict[str, Any]:
    data: dict[str, Any] = {"label": label} if label else {}
    if index is not None:
        data["index"] = index
    return data


def _outcome(outcome: Outcome, leaf: bool) -> dict[str, Any]:  # noqa: FBT001 - a fact, not an option
    data: dict[str, Any] = {"status": outcome.status}
    if leaf and outcome.output is not None:
        data["output"] = tagged(outcome.output)
    if outcome.error is not None:
        data["error"] = _failure(outcome.error)
    data["seconds"] = round(outcome.seconds, 6)
    if outcome.attempts != 1:
        data["attempts"] = outcome.attempts
    if outcome.notebook is not None:
        data["notebook"] = outcome.notebook
    if outcome.log is not None:
        data["log"] = outcome.log
    if leaf and outcome.names:
        data["names"] = tagged(dict(outcome.names))
    return data


def _failure(error: Failure | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {name: value for name in _FAILURE if (value := getattr(error, name)) is not None}


def decode(line: str) -> Event:
    """Give the event of a line; keys that this version does not know are passed over.

    Raises
    ------
    NewerError
        If another version of nbflow wrote it.
    ValueError
        If it is no event.
    """
    try:
        data = json.loads(line)
        decoder = _DECODERS.get(data["event"])
        if decoder is None:
            raise NewerError(f"an event {data['event']!r:.40}, which this nbflow does not know")
        return decoder(data)
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg} at character {problem.pos + 1}") from problem
    except KeyError as problem:
        raise ValueError(f"{problem} is missing") from problem
    except (TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"a value of the wrong type: {problem}") from problem


def read_outcome(data: Mapping[str, Any]) -> Outcome:
    """Give the outcome that stands in a line, or in a node of a checkpoint.

    Raises
    ------
    ValueError, KeyError, TypeError
        If there is none.
    """
    if data["status"] not in _STATUSES:
        raise ValueError(f"the status {data['status']!r:.40}")
    return Outcome(
        data["status"],
        untagged(data.get("output")),
        read_failure(data.get("error")),
        float(data.get("seconds") or 0),
        int(data.get("attempts", 1)),
        data.get("notebook"),
        data.get("log"),
        untagged(data.get("names", {})),
    )


def read_failure(data: Mapping[str, Any] | None) -> Failure | None:
    """Give the error that stands in a line."""
    if data is None:
        return None
    return Failure(str(data["kind"]), str(data["message"]), *map(data.get, ("exception", "cell", "traceback", "node")))


def _at(data: Mapping[str, Any]) -> float:
    return float(data["at"])


def _node(data: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(data["node"].split("/"))


def _name(data: Mapping[str, Any]) -> tuple[str, int | None]:
    return data.get("label", ""), data.get("index")


def _run_started(data: Mapping[str, Any]) -> RunStarted:
    if data["nbflow"] != FORMAT:
        raise NewerError(f"version {data['nbflow']!r:.40} of the format; this nbflow reads version {FORMAT}")
    inputs = untagged(data["inputs"])
    forgets = tuple(data.get("forgets", ()))
    workers = int(data["max_workers"])
    seconds = {key: float(each) for key, each in data.get("seconds", {}).items()}
    return RunStarted(_at(data), data["run_id"], data["name"], int(data["epoch"]), inputs, workers, forgets, seconds)


_DECODERS: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "RunStarted": _run_started,
    "FanOutOpened": lambda d: FanOutOpened(_at(d), _node(d), int(d["total"])),
    "NodeStarted": lambda d: NodeStarted(_at(d), _node(d), d["key"], int(d.get("attempt", 1)), *_name(d)),
    "AttemptFailed": lambda d: AttemptFailed(
        _at(d), _node(d), d["key"], int(d["attempt"]), read_outcome(d), float(d["delay"])
    ),
    "NodeFinished": lambda d: NodeFinished(
        _at(d), _node(d), d["key"], d.get("fingerprint", ""), read_outcome(d), *_name(d), d.get("leaf", True)
    ),
    "GateOpened": lambda d: GateOpened(
        _at(d), _node(d), d["key"], d["fingerprint"], d["message"], tuple(d["options"]), d.get("show"), *_name(d)
    ),
    "GateAnswered": lambda d: GateAnswered(_at(d), _node(d), d["key"], d["fingerprint"], d["choice"], d["by"]),
    "Warned": lambda d: Warned(_at(d), _node(d) if d.get("node") is not None else None, d["message"]),
    "RunHeld": lambda d: RunHeld(_at(d), bool(d["held"])),
    "RunFinished": lambda d: RunFinished(_at(d), d["status"], read_failure(d.get("error")), d.get("reason", "")),
}


@dataclass(frozen=True, slots=True)
class Journaled:
    """What a journal says."""

    events: list[Event]
    dropped: str = ""
    """The torn last line, where a process died while it wrote."""
    good: int = 0
    """Bytes up to the end of the last whole line."""


def read_journal(path: Path) -> Journaled:
    """Read a journal; a torn last line is dropped.

    Raises
    ------
    StoreError
        For a bad line elsewhere, with file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise StoreError(f"{path}: {problem.strerror}", AWAY) from problem
    whole, end, torn = data.rpartition(b"\n")
    lines = whole.split(b"\n") if end else []
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(decode(line.decode("utf-8")))
        except NewerError as problem:
            raise StoreError(f"{path}:{number}: {problem}", NEWER, f"{path}:{number}") from problem
        except ValueError as problem:
            if number == len(lines) and not torn:  # a power cut can take the middle of what was written last
                return Journaled(events, _shown(line), len(whole) - len(line))
            raise _bad(path, number, str(problem)) from problem
    if events and not isinstance(events[0], RunStarted):
        raise _bad(path, 1, "a journal begins with RunStarted")
    return Journaled(events, _shown(torn), len(data) - len(torn))


AWAY = (
    "Put the file back from a copy; or, for up to 1,000 items, move it away: nbflow resume then goes by the checkpoint."
)
NEWER = "It was written by a newer nbflow: pip install -U nbflow"


def _bad(path: Path, number: int, problem: str) -> StoreError:
    return StoreError(f"{path}:{number}: is no line of a journal ({problem})", AWAY, f"{path}:{number}")


def _shown(torn: bytes) -> str:
    """Give a torn line for people: one that is not empty, however little of it there is."""
    text = torn.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else "?" for c in text)[:80]


class Journal:
    """A journal that is written to. Used by one thread at a time.

    Parameters
    ----------
    path : Path
        The file; made if it is not there. A torn line behind ``good`` bytes is cut off.
    good : int, optional
        Bytes up to the end of the last whole line, as :func:`read_journal` gave them.

    Raises
    ------
    StoreError
        If there is more behind ``good`` than one torn line: what is written is never cut off.
    """

    def __init__(self, path: Path, good: int = 0) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o666)
        self.size = good
        """Bytes that stand."""
        self._synced = -1
        self._end = good  # bytes that we left there: more than stand, after a write that failed and was not cut back
        try:
            self._digest = self._adopt()
        except BaseException:
            os.close(self._handle)
            raise

    def _adopt(self) -> hashlib._Hash:
        data = self._path.read_bytes()
        if len(data) < self.size or not _is_torn(data[self.size :]):
            raise StoreError(
                f"{self._path}: changed while it was read", "Ask again; nbflow status shows how the run stands."
            )
        self._cut()
        return hashlib.sha256(data[: self.size])

    @property
    def sha256(self) -> str:
        """Digest of all bytes that stand, in hexadecimal digits."""
        return self._digest.hexdigest()

    def append(self, events: Iterable[Event]) -> None:
        """Write the lines of these events out of the process.

        Raises
        ------
        OSError
            If they could not all be written; then none of them stands.
        TakenOverError
            If others wrote there meanwhile; nothing of theirs is touched.
        """
        if os.fstat(self._handle).st_size != self._end:
            raise TakenOverError
        data = "".join(line + "\n" for event in events if (line := encode(event)) is not None).encode("ascii")
        if self._end != self.size:
            self._cut()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._handle, data[written:])
                self._end = self.size + written
        except OSError:
            self._cut()
            raise
        self.size += len(data)
        self._digest.update(data)

    def _cut(self) -> None:
        """Cut back to the last good byte; where even that fails, the next write tries again first."""
        os.ftruncate(self._handle, self.size)
        self._end = self.size

    def sync(self) -> None:
        """Bring what was written to the disk; a power cut takes only what came after."""
        if self._synced != self.size:
            os.fsync(self._handle)
            if self._synced < 0:
                sync_folder(self._path.parent)  # else the name of a new file may be gone with the power
            self._synced = self.size

    def close(self) -> None:
        """Sync and let go of the file."""
        try:
            self.sync()
        finally:
            os.close(self._handle)


def _is_torn(tail: bytes) -> bool:
    """Whether these bytes are what a death in mid-write leaves: no whole line."""
    if b"\n" not in tail:
        return True
    try:
        decode(tail.decode("utf-8"))
    except ValueError as problem:
        return tail.index(b"\n") == len(tail) - 1 and not isinstance(problem, NewerError)
    return False
