"""Reading runs: how one stands, from its files alone. Readers never write and never take the lock."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..engine.plan import plan
from ..engine.recorded import Recorded, anything, equal, equal_but_code
from ..errors import DefinitionError, StoreError, TargetError
from ..events import Event, GateOpened, NodeFinished, NodeStarted, RunFinished, RunStarted
from ..model import NodeId
from ..outcome import Record
from ..source import has_steps, read_cells
from ..state import Progress, RunState
from ..store import checkpoint as checkpoints
from ..store.checkpoint import Checkpoint
from ..store.home import Home, find, without_ending
from ..store.journal import Journaled, Records, read_journal, records
from ..store.lock import read_owner
from ..types import RunStatus
from ..values import Value
from .definition import FORMAT, Definition, MapDefinition
from .runs import Run, run_of

LOST = "Put the run folder back from a copy, or start again: nbflow map NOTEBOOK ..."
SHOWN = frozenset({"completed", "failed"})
FRESH = 0.1
"""Seconds for which what was read of a run holds."""


@dataclass(frozen=True)
class Stored:
    """A run as it stands on disk: with its folder, or with only the checkpoint of it."""

    home: Home
    folder: Path
    """The run folder; perhaps not there."""
    checkpoint: Checkpoint | None
    """The checkpoint beside the notebook, if it is this run's."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.name

    @cached_property
    def journaled(self) -> Journaled | None:
        """What the journal says; ``None`` if there is none, or its process died before the first line."""
        path = self.folder / "journal.jsonl"
        found = read_journal(path) if path.exists() else None
        return found if found is not None and found.events else None

    @cached_property
    def events(self) -> list[Event]:
        """What the journal says, in order."""
        return self.journaled.events if self.journaled is not None else []

    @cached_property
    def records(self) -> Records:
        """What is recorded of items: by the journal, and by the checkpoint where that knows more."""
        if self.journaled is not None:
            found = records(self.events)
            for key, record in self.restored.items():
                found.answers[key] = record
                found.attempts.pop(key, None)
                found.begun.discard(key)
            return found
        if self.checkpoint is None:
            begun = any((self.folder / "source").glob("*"))  # the journal is made before the sources are copied
            if begun and not (self.folder / "journal.jsonl").exists():
                raise StoreError(f"{self.folder}: its journal is gone, and no checkpoint has its items", LOST)
            return Records()
        if self.checkpoint.left_out:
            count = self.checkpoint.left_out
            raise StoreError(
                f"{self.checkpoint.path}: {count:,} ended items stand only in the journal of {self.id}, which is gone",
                LOST,
            )
        return self.checkpoint.records()

    @property
    def cut_short(self) -> bool:
        """Whether the journal had more when the checkpoint was written: a backup was put back, or the power went."""
        journaled, checkpoint = self.journaled, self.checkpoint
        if journaled is None or checkpoint is None or journaled.good >= checkpoint.journal_bytes:
            return False
        return self._last_start <= int(checkpoint.data["epoch"])  # else it is of a start before this journal's

    @cached_property
    def restored(self) -> dict[str, Record]:
        """Records that a journal which was cut short has no more: the checkpoint is newer than all of it."""
        if not self.cut_short or self.checkpoint is None:
            return {}
        known = {key: (r.fingerprint, r.outcome.status) for key, r in records(self.events).answers.items()}
        found = self.checkpoint.records().answers
        return {key: r for key, r in found.items() if known.get(key) != (r.fingerprint, r.outcome.status)}

    @cached_property
    def definition(self) -> Definition:
        """What was run."""
        path = self.folder / "workflow.json"
        if path.exists():
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
            except OSError as problem:
                raise StoreError(f"{path}: {problem.strerror}", "Put the file back from a copy.") from problem
            except ValueError as problem:
                raise StoreError(f"{path}: is no JSON ({problem})", "Put the file back from a copy.") from problem
            return self._definition(data, path)
        if self.checkpoint is not None:
            return self._definition(self.checkpoint.data["workflow"], self.checkpoint.path)
        raise StoreError(f"{self.folder}: has no workflow.json", "The folder is not whole; start a new run.")

    def _definition(self, data: Mapping[str, Any], place: Path) -> Definition:
        if isinstance(data, Mapping) and data.get("nbflow") == FORMAT and data.get("kind") == "workflow":
            from .flow import FlowDefinition, of_run  # what only workflows need is not loaded for a map

            return of_run(FlowDefinition.read(data, place, self.home.folder, self.folder / "source"), self.id)
        return MapDefinition.read(data, place)

    @cached_property
    def epoch(self) -> int:
        """How often it was started or resumed."""
        known = 0 if self.checkpoint is None else int(self.checkpoint.data["epoch"])
        return max(known, self._last_start)  # it may know of more starts than a journal that was lost

    @cached_property
    def _last_start(self) -> int:
        return max((event.epoch for event in self.events if isinstance(event, RunStarted)), default=0)

    @cached_property
    def told(self) -> Checkpoint | None:
        """The checkpoint, if it says how the run stands: nobody works at it, and nothing was journaled since."""
        owner = read_owner(self.folder)
        if self.checkpoint is None or (owner is not None and owner.alive(time.time())):
            return None
        size, _ = _times(self.folder / "journal.jsonl") or (-1, 0)
        return self.checkpoint if size == self.checkpoint.journal_bytes else None

    @property
    def status(self) -> RunStatus:
        """How the run stands, without a look at its items where that can be."""
        if self.told is None:
            return self.run().status
        told: RunStatus = self.told.data["status"]
        return "interrupted" if told == "running" else told

    @property
    def at_work(self) -> bool:
        """Whether a process works at it now."""
        owner = read_owner(self.folder)
        return self._last_end is None and bool(self.events) and owner is not None and owner.alive(time.time())

    @cached_property
    def _last_end(self) -> RunFinished | None:
        newest = next((e for e in reversed(self.events) if isinstance(e, (RunFinished, RunStarted))), None)
        return newest if isinstance(newest, RunFinished) else None

    def recorded(self) -> Recorded:
        """Give what answers when the run is only looked at: finished items stand, unless they are to run again."""
        if not self.definition.known:
            same = anything
        elif self.definition.kind == "map" and self.definition.changed == "rerun":
            same = equal
        else:  # of a workflow this is what was run
            same = equal_but_code
        known = self.records
        return Recorded(known.answers, known.attempts, known.begun, known.to_retry, same, SHOWN)

    def fresh(self) -> Stored:
        """Give the same, to be read again."""
        return Stored(self.home, self.folder, _own(self.home, self.folder))

    def run(self) -> Run:
        """Give the run as a person holds it."""
        return run_of(self.definition, self.folder, self.home.checkpoint, Seen(self))


@dataclass
class Seen:
    """The facts of a run that this process does not work at, read when they are asked for."""

    stored: Stored
    _state: RunState | None = field(default=None, init=False)
    _mark: object = field(default=None, init=False)
    """How the files stood when they were read."""
    _until: float = field(default=0.0, init=False)
    """Until when the files are not looked at again, so that one picture of a long run is made from one reading."""

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._read().progress

    def ended(self) -> list[NodeFinished]:
        """Give the nodes that ended."""
        return list(self._read().nodes.values())

    def gates(self) -> list[GateOpened]:
        """Give the gates that wait for a person."""
        return list(self._read().progress.gates.values())

    def state(self) -> RunState:
        """Give all of it, at one moment."""
        return self._read()

    def _read(self) -> RunState:
        if self._state is not None and time.monotonic() < self._until:
            return self._state
        mark = self._marked()
        if self._state is None:
            self._state = _state(self.stored)
        elif mark != self._mark:
            home, folder, before = self.stored.home, self.stored.folder, self.stored.definition
            fresh = Stored(home, folder, _own(home, folder))
            if (folder.is_dir() or fresh.checkpoint is not None) and _alike(fresh.definition, before):
                self.stored, self._state = fresh, _state(fresh)  # with other items it is another picture: ask again
        self._mark, self._until = mark, time.monotonic() + FRESH
        return self._state

    def _marked(self) -> object:
        """Give what differs when there is something new to read: the files, and whether somebody works at them."""
        owner, folder = read_owner(self.stored.folder), self.stored.folder
        files = [folder / "journal.jsonl", folder / "workflow.json", self.stored.home.checkpoint]
        return owner is not None and owner.alive(time.time()), [_times(path) for path in files]


def _alike(one: Definition, other: Definition) -> bool:
    """Whether one picture shows both: a map has the same items."""
    match one, other:
        case MapDefinition(), MapDefinition():
            return one.items == other.items
        case _:
            return one.kind == other.kind


def _times(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _state(stored: Stored) -> RunState:
    """Give how a run stands: what is recorded of its items, and what its newest epoch says of itself."""
    state = RunState()
    definition = stored.definition
    started = [event for event in stored.events if isinstance(event, RunStarted)]
    first = started[-1] if started else _started(stored)
    state.apply(first)
    items: dict[NodeId, tuple[Value, ...]] = {}  # of tasks that have not ended: the journal does not tell them
    for event in plan(definition.workflow(), stored.recorded(), definition.flows()).events:
        if isinstance(event, NodeFinished) and event.outcome.status == "pending":
            items[event.node] = event.items
            continue
        state.apply(event)
    newest = stored.events[stored.events.index(first) + 1 :] if started else []
    at_work = stored.at_work
    labels: dict[str, NodeStarted] = {}
    begun: set[NodeId] = set()  # and not ended: these are at work, or between two attempts
    closed: dict[NodeId, NodeFinished] = {}  # containers that ended before the run did
    for event in newest:
        match event:
            case NodeStarted():
                labels[event.key] = event
                begun.add(event.node)
                if at_work:
                    state.apply(replace(event, items=items.get(event.node, ())))
            case NodeFinished(leaf=True) if event.outcome.status == "cancelled":
                start = labels.get(event.key)
                named = replace(event, label=start.label, index=start.index) if start else event
                _take_back(state, named.node)
                state.apply(named)
            case NodeFinished(leaf=True) if event.node not in state.nodes:
                # It stands behind what failed, and had begun before that: a plan does not come to it.
                start = labels.get(event.key)
                state.apply(replace(event, label=start.label, index=start.index) if start else event)
            case NodeFinished(leaf=True):
                _mark_done(state, event)
            case NodeFinished():
                closed[event.node] = event
            case _:
                pass
        if not isinstance(event, (NodeStarted, NodeFinished)) and not _opens(event):
            state.apply(event)
        if isinstance(event, NodeFinished):
            begun.discard(event.node)
    for node in begun if at_work else ():
        _take_back(state, node)
    for node, event in closed.items() if not at_work else ():
        state.nodes.setdefault(node, event)  # what would go on with a resume, it left as cancelled
    _clock_containers(state, stored.events)
    return _settled(stored, state, at_work=at_work)


def _clock_containers(state: RunState, events: Iterable[Event]) -> None:
    """Give containers, which were computed again just now, the seconds that they took when they were run."""
    for event in events:
        match event:
            case NodeFinished(leaf=False) if (known := state.nodes.get(event.node)) is not None:
                seconds = event.outcome.seconds
                state.nodes[event.node] = replace(known, outcome=replace(known.outcome, seconds=seconds))
            case _:
                pass


def _opens(event: Event) -> bool:
    return type(event).__name__ == "FanOutOpened"  # the plan told it


def _take_back(state: RunState, node: NodeId) -> None:
    """Take out how a node ended earlier: the newest epoch says otherwise."""
    if (known := state.nodes.pop(node, None)) is not None:
        state.progress.take_back(known)


def _mark_done(state: RunState, event: NodeFinished) -> None:
    """An item that ended in the newest epoch is at work no more, and was not kept from an older one."""
    state.progress.active.pop(event.node, None)
    known = state.nodes.get(event.node)
    if known is not None and known.kept:
        state.nodes[event.node] = replace(known, kept=False)
        state.progress.kept -= 1
        state.progress.took(event)


def _started(stored: Stored) -> RunStarted:
    """Give the start of a run of which there is only the checkpoint."""
    workers = stored.definition.workers
    if stored.checkpoint is None:  # its process died, or is just beginning
        return RunStarted(0.0, stored.id, stored.home.name, 0, {}, workers)
    data = stored.checkpoint.data
    return RunStarted(float(data["started"]), stored.id, str(data["name"]), int(data["epoch"]), {}, workers)


def _settled(stored: Stored, state: RunState, *, at_work: bool) -> RunState:
    """A run that nobody works at and that has not said how it ended was interrupted."""
    progress = state.progress
    if not stored.events and stored.checkpoint is not None:
        progress.status, progress.reason = stored.checkpoint.data["status"], stored.checkpoint.data["reason"]
        progress.finished = stored.checkpoint.data["finished"]
    if progress.status == "running" and not at_work:
        progress.status, progress.reason = "interrupted", progress.reason or "its process ended"
        progress.finished = _last_sign(stored, progress.started)
        progress.active.clear()
    if not at_work:
        progress.cut_off = len(stored.records.begun)
    return state


def _last_sign(stored: Stored, started: float) -> float:
    """Give when a start of a run whose process ended was last seen alive: by its events, or by its heartbeat."""
    signs = [started, *(event.at for event in stored.events[-1:])]
    owner = read_owner(stored.folder)
    if owner is not None and owner.since <= started:  # else it is of a later process, which did nothing yet
        signs.append(owner.heartbeat)
    return max(signs)


def locate(target: str | Path, cwd: Path | None = None, state_dir: Path | None = None) -> Stored:
    """Give the run that a target means.

    Parameters
    ----------
    target : str or Path
        A notebook (its run started or resumed last), its checkpoint, a run folder, or the beginning of a run id.
    cwd : Path, optional
        Where relative paths begin; the working directory.
    state_dir : Path, optional
        Where runs are kept instead of beside their notebooks.

    Raises
    ------
    TargetError
        If there is no such run.
    StoreError
        If what is on disk cannot be read.
    """
    path, run_id = find(str(target), cwd or Path.cwd(), state_dir)
    if run_id is not None:
        home = _home_of_folder(path)
        return Stored(home, path, _own(home, path))
    home = Home.of(path, state_dir)
    if home.checkpoint.is_file():
        checkpoint = checkpoints.read(home.checkpoint)
        if checkpoint.data["name"] != home.name:
            raise StoreError(
                f"{home.checkpoint}: is the checkpoint of {checkpoint.data['name']}, not of {home.name}",
                f"Give it back its name: {checkpoint.data['name']}.nbflow.json",
            )
        return Stored(home, home.run_folder(checkpoint.run_id), checkpoint)
    runs = home.runs()
    if not runs:
        typed, verb = str(without_ending(Path(target))), "run" if path.suffix != ".ipynb" or _has_steps(path) else "map"
        kept = f" --state-dir {shlex.quote(str(state_dir))}" if state_dir is not None else ""
        raise TargetError(f"{target}: has no run yet", f"nbflow {verb} {shlex.quote(typed)}{kept} starts one.")
    return Stored(home, runs[-1], None)


def _own(home: Home, folder: Path) -> Checkpoint | None:
    """Give the checkpoint of this run: beside the notebook, or in the folder when a newer run took that place."""
    for path in (home.checkpoint, folder / "checkpoint.json"):
        try:
            checkpoint = checkpoints.read(path)
        except StoreError:
            continue  # there is none, or it cannot be read: the folder says all
        if checkpoint.run_id == folder.name:
            return checkpoint
    return None


def _has_steps(notebook: Path) -> bool:
    """Whether cells of a notebook begin steps; of one that cannot be read it is not known."""
    try:
        return has_steps(read_cells(notebook)[1])
    except (TargetError, DefinitionError):
        return False


def _home_of_folder(folder: Path) -> Home:
    """Give the home that a run folder belongs to; one in a state directory says where its notebook is."""
    base, name = folder.parents[2], folder.parent.name
    try:
        said = json.loads((folder / "home.json").read_text(encoding="utf-8"))["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return Home(base, name, base)
    return Home(Path(said), name, base)
