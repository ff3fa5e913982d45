"""The checkpoint: one readable JSON beside the notebook that tells how a run stands, and suffices to resume it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import StoreError
from ..events import NodeFinished
from ..model import node_text
from ..outcome import Outcome, Record
from ..state import Progress, RunState
from ..values import tagged
from ..version import __version__
from .files import write_atomically
from .journal import NEWER, Records, read_outcome
from .names import is_run_id

FORMAT = 1
IN_FULL = 1000
"""Items up to which all nodes stand in it; above that the failed ones, and the journal's hash."""
_RESTORE = "Put the file back from a copy; or move it away: the run folder says the same, where it is still there."
_SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "run_id": str,
    "name": str,
    "status": str,
    "reason": str,
    "epoch": int,
    "started": (int, float),
    "finished": (int, float, type(None)),
    "counts": dict,
    "owner": dict,
    "folder": str,
    "workflow": dict,
    "nodes": dict,
}
SHARE = 0.05
"""Part of a run's time that writing checkpoints may take."""


def counts(progress: Progress) -> dict[str, int]:
    """Give how many tasks stand how."""
    ended = {name: progress.counts[name] for name in ("completed", "failed", "cancelled", "paused", "skipped")}
    running = len(progress.active)
    return {"total": progress.total, **ended, "running": running, "waiting": progress.waiting, "kept": progress.kept}


def render(
    state: RunState,
    *,
    definition: Mapping[str, Any],
    owner: Mapping[str, Any],
    surroundings: Mapping[str, Any],
    folder: str,
    journal: Mapping[str, Any],
    called: Callable[[NodeFinished], str] = lambda event: event.label,
    older: Mapping[str, Record] | None = None,
) -> dict[str, Any]:
    """Give the content of a checkpoint.

    Parameters
    ----------
    state : RunState
        How the run stands.
    definition : mapping
        What is run, as the loader reads it.
    owner : mapping
        The process at work.
    surroundings : mapping
        What was recorded at the start.
    folder : str
        The run folder, relative to the checkpoint's.
    journal : mapping
        ``bytes`` and ``sha256`` of the journal.
    called : callable, optional
        Gives what people call a task.
    older : mapping of str to Record, optional
        What earlier starts of the run recorded, by key: it stays, also where this one did not come to it.
    """
    progress = state.progress
    leaves = [event for event in list(state.nodes.values()) if event.leaf]
    shown = leaves if len(leaves) <= IN_FULL else [e for e in leaves if e.outcome.status == "failed"][:IN_FULL]
    ended = {event.key for event in leaves if event.outcome.status in ("completed", "failed")}
    unused = {key: record for key, record in (older or {}).items() if key not in ended}
    return {
        "nbflow": FORMAT,
        "nbflow_version": __version__,
        "run_id": progress.run_id,
        "name": progress.name,
        "status": progress.status,
        "reason": progress.reason,
        "epoch": progress.epoch,
        "started": progress.started,
        "finished": progress.finished,
        "counts": counts(progress),
        "inputs": tagged(progress.inputs),
        "owner": dict(owner),
        "folder": folder,
        "journal": dict(journal),
        "workflow": dict(definition),
        "nodes": {node_text(event.node): _node(event, called) for event in shown},
        "nodes_left_out": len(leaves) - len(shown) + max(0, len(unused) - IN_FULL),
        "older": {key: _record(record) for key, record in list(unused.items())[:IN_FULL]},
        "warnings": [warning.message for warning in progress.warnings[:50]],
        "surroundings": dict(surroundings),
    }


def _node(event: NodeFinished, called: Callable[[NodeFinished], str]) -> dict[str, Any]:
    return {
        "status": event.outcome.status,
        "label": called(event),
        "index": event.index,
        **_outcome(event.outcome),
        "kept": event.kept,
        "key": event.key,
        "fingerprint": event.fingerprint,
    }


def _record(record: Record) -> dict[str, Any]:
    return {"status": record.outcome.status, **_outcome(record.outcome), "fingerprint": record.fingerprint}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "output": tagged(outcome.output),
        "error": None if outcome.error is None else asdict(outcome.error),
        "seconds": round(outcome.seconds, 6),
        "attempts": outcome.attempts,
        "notebook": outcome.notebook,
        "log": outcome.log,
        **({"names": tagged(dict(outcome.names))} if outcome.names else {}),
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; one that is there stays whole until the new one is."""
    text = json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False)
    write_atomically(path, text.encode("ascii") + b"\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says."""

    path: Path
    data: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.data["run_id"])

    @property
    def folder(self) -> Path:
        """The run folder, whether it is there or not."""
        return self.path.parent / str(self.data["folder"])

    @property
    def journal_bytes(self) -> int:
        """How long the journal was when it was written; 0 where it does not say."""
        journal = self.data.get("journal")
        size = journal.get("bytes") if isinstance(journal, dict) else None
        return size if isinstance(size, int) else 0

    def records(self) -> Records:
        """Give what it says of tasks that ended."""
        found = Records()
        older = [(key, record) for key, record in self.data.get("older", {}).items()]
        for key, node in [*older, *((node["key"], node) for node in self.data["nodes"].values())]:
            outcome = read_outcome(node)
            if outcome.status in ("completed", "failed"):
                found.answers[key] = Record(str(node["fingerprint"]), outcome)
            elif outcome.status == "cancelled" and outcome.attempts:
                found.begun.add(key)
        return found

    @property
    def left_out(self) -> int:
        """How many ended tasks do not stand in it: only the journal knows of them."""
        return int(self.data.get("nodes_left_out", 0))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    StoreError
        If it is not there, not whole, or of a newer version.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as problem:
        raise StoreError(f"{path}: {problem.strerror}", _RESTORE) from problem
    except (ValueError, RecursionError) as problem:
        raise StoreError(f"{path}: is no JSON ({problem})", _RESTORE) from problem
    if not isinstance(data, dict) or "nbflow" not in data:
        raise StoreError(f"{path}: is no checkpoint", "Move the file away: a run keeps its checkpoint under that name.")
    if data["nbflow"] != FORMAT:
        raise StoreError(
            f"{path}: was written in version {data['nbflow']!r:.40} of the format; this nbflow reads version {FORMAT}",
            NEWER,
        )
    for key, shapes in _SHAPES.items():
        if not isinstance(data.get(key), shapes) or isinstance(data.get(key), bool):
            raise StoreError(f"{path}: {key!r} is {data.get(key)!r:.60}", _RESTORE)
    if not is_run_id(data["run_id"]):
        raise StoreError(f"{path}: 'run_id' is {data['run_id']!r:.60}, which is no run id", _RESTORE)
    folder = PureWindowsPath(data["folder"])  # splits at both slashes
    if folder.name not in (data["run_id"], "", ".") or folder.anchor or ".." in folder.parts:
        raise StoreError(f"{path}: 'folder' is {data['folder']!r:.60}, which is no run folder beside it", _RESTORE)
    checkpoint = Checkpoint(path, data)
    try:
        checkpoint.records()
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise StoreError(f"{path}: a node cannot be read ({problem!r:.80})", _RESTORE) from problem
    return checkpoint


def add_records(checkpoint: Checkpoint, records: Mapping[str, Record]) -> None:
    """Write what was recorded while nobody works at the run into its checkpoint."""
    older = {**checkpoint.data.get("older", {}), **{key: _record(record) for key, record in records.items()}}
    nodes = {name: node for name, node in checkpoint.data["nodes"].items() if node["key"] not in records}
    write(checkpoint.path, {**checkpoint.data, "nodes": nodes, "older": older})


class Pace:
    """Says when a checkpoint is due, so that writing them costs at most 5 % of a run's time.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.due(0.0), pace.wrote(0.0, 0.1), pace.due(1.0), pace.due(2.5)
    (True, None, False, True)
    """

    def __init__(self) -> None:
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether one may be written now; ``now`` in seconds of any clock that only goes on."""
        return now >= self._next

    def wrote(self, now: float, seconds: float) -> None:
        """Learn that writing one ended now, and how long it took."""
        self._next = now + max(seconds / SHARE - seconds, 1.0)
