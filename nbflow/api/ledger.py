"""The ledger: what the driver writes into while it works at a run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..events import Event, NodeFinished
from ..instruction import Instruction
from ..outcome import Record
from ..state import RunState
from ..store import checkpoint as checkpoints
from ..store import commands
from ..store.checkpoint import Pace
from ..store.home import Home
from ..store.journal import Journal, TakenOverError
from ..store.lock import RunLock

BEAT = 5.0
"""Seconds between heartbeats."""
SYNC = 1.0
"""Seconds between fsyncs: what a power cut takes at most."""
RESERVE = 1_000_000
"""Bytes kept back for a full disk."""


class RunLedger:
    """Journal, checkpoint, heartbeat and commands of one run. Used by the driver's thread, once it is at work.

    Parameters
    ----------
    home : Home
        Where the run lives.
    folder : Path
        The run folder.
    lock : RunLock
        Taken; released at the end.
    journal : Journal
        Open; closed at the end.
    definition, surroundings : mapping
        What stands in the checkpoint besides the state.
    called : callable, optional
        Gives what people call a task.
    older : mapping of str to Record, optional
        What earlier starts of the run recorded, by key.
    """

    def __init__(
        self,
        home: Home,
        folder: Path,
        lock: RunLock,
        journal: Journal,
        definition: Mapping[str, Any],
        surroundings: Mapping[str, Any],
        called: Callable[[NodeFinished], str] = lambda event: event.label,
        older: Mapping[str, Record] | None = None,
    ) -> None:
        self._home = home
        self._folder = folder
        self._lock = lock
        self._journal = journal
        self._definition = definition
        self._surroundings = surroundings
        self._called = called
        self._older = older
        self._pace = Pace()
        self._beaten = self._synced = time.monotonic()
        self._ours: tuple[int, int] | None = None  # inode and time of the checkpoint we wrote last
        self._reserve = folder / "reserve"
        self._seen = -1
        self._closed = False
        self._lost = False  # another process has the run now: nothing more may be written

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint goes: beside the notebook, unless another run of it began since."""
        if self._ours is None or _mark(self._home.checkpoint) in (self._ours, None) or not self._anothers():
            return self._home.checkpoint
        return self._folder / "checkpoint.json"

    def _anothers(self) -> bool:
        """Whether the checkpoint that stands there now was written by others, and not only touched or broken."""
        try:
            return checkpoints.read(self._home.checkpoint).run_id != self._folder.name or self._lock.lost()
        except StoreError:
            return False

    def begin(self, state: RunState) -> None:
        """Write the first checkpoint, keep room back for a full disk, and forget what earlier starts were told."""
        commands.drop(self._folder, self._lock.owner.since)
        self._reserve.write_bytes(bytes(RESERVE))
        self._keep_another()
        self._write_checkpoint(state)

    def _keep_another(self) -> None:
        """Give an unfinished run, of which only the checkpoint is left, that in a folder: ours takes its place."""
        try:
            other = checkpoints.read(self._home.checkpoint)
        except StoreError:
            return
        folder, workflow = self._home.run_folder(other.run_id), other.data["workflow"]
        if other.run_id == self._folder.name or folder.is_symlink() or (folder / "journal.jsonl").exists():
            return
        if other.data["status"] in ("completed", "aborted") or not {"items", "definition"} & set(workflow):
            return  # nothing to go on with, or it cannot be
        folder.mkdir(exist_ok=True)
        checkpoints.write(folder / "checkpoint.json", {**other.data, "folder": "."})
        if self._home.base != self._home.folder:
            checkpoints.write(folder / "home.json", {"folder": str(self._home.folder)})
        checkpoints.write(folder / "workflow.json", workflow)  # last: with it the folder is a run

    def write(self, events: Sequence[Event]) -> None:
        """Write the lines of these events out of the process; of a run that was taken over, none."""
        if self._lost:
            raise TakenOverError
        try:
            self._journal.append(events)
        except TakenOverError:
            self._lost = True
            raise

    def tend(self, state: RunState, now: float) -> list[Instruction]:
        """Do what is due, and give the commands that came from outside."""
        if self._lost:
            return []
        moment = time.monotonic()
        if moment - self._synced >= SYNC:
            self._synced = moment
            self._journal.sync()
        if moment - self._beaten >= BEAT:
            self._beaten = moment
            if self._lock.lost():
                self._lost = True
                return [Instruction("taken over")]
            self._lock.beat(now)
        if self._journal.size != self._seen and self._pace.due(moment):
            self._write_checkpoint(state)
        return commands.take(self._folder)

    def make_room(self) -> None:
        """Free what was kept back."""
        if not self._lost:
            self._reserve.unlink(missing_ok=True)

    def close(self, state: RunState, now: float) -> None:  # noqa: ARG002 - the shape of a ledger
        """Write the last checkpoint and let go of the run, the lock in any case; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as last:
            last.callback(self._lock.release)
            last.callback(self._journal.close)
            self._lost = self._lost or self._lock.lost()
            self.make_room()
            if not self._lost:
                self._write_checkpoint(state)

    def _write_checkpoint(self, state: RunState) -> None:
        began = time.monotonic()
        self._journal.sync()  # what stands in a checkpoint is never lost with the power by the journal
        path = self.checkpoint
        content = checkpoints.render(
            state,
            definition=self._definition,
            owner=asdict(self._lock.owner),
            surroundings=self._surroundings,
            folder=os.path.relpath(self._folder, path.parent),
            journal={"bytes": self._journal.size, "sha256": self._journal.sha256},
            called=self._called,
            older=self._older,
        )
        checkpoints.write(path, content)
        if path == self._home.checkpoint:
            self._ours = _mark(path)
        self._seen = self._journal.size
        moment = time.monotonic()
        self._pace.wrote(moment, moment - began)


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
