"""Detached runs: a process of its own works at them and outlives the one that began them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..errors import StoreError
from ..events import RunStarted
from ..store.files import write_atomically
from ..store.journal import read_journal
from ..store.lock import RunLock
from . import plugins
from .reading import Stored
from .runs import Run
from .session import Request, open_journal

PATIENCE = 30.0
"""Seconds that the process may take to begin."""

PROGRAM = "import sys; sys.path[:] = filter(None, sys.path); from nbflow.cli import main; main()"
"""The command line, with no module out of the working directory: a click.py beside the notebook is not ours."""


def detach(request: Request, executor: str = "threads") -> Run:
    """Start a process that works at a run, and give the run as soon as it has begun.

    Parameters
    ----------
    request : Request
        What to do.
    executor : str
        The name of what its tasks run in.

    Raises
    ------
    LockedError
        If another process works at it; then nothing is written.
    StoreError
        If the process does not begin; its last words are in the message.
    """
    plugins.executor(executor)  # there is one of this name
    folder = request.folder
    if not folder.is_dir():
        request.home.create(request.run_id)
    _write_definition(request)
    words = [sys.executable, "-c", PROGRAM, "resume", str(folder), "--quiet", "-j", str(request.workers)]
    words += ["--executor", executor]
    changed = request.definition.changed
    words += ["--changed", changed] if changed != "ask" else []
    words += ["--take-over"] if request.take_over else []
    words += request.again
    said = folder / "detached.log"
    with said.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - our own words only
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=request.home.folder
        )
    threading.Thread(target=process.wait, name="nbflow-detached", daemon=True).start()  # nothing is left of it then
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if _epoch(folder) >= request.epoch or process.poll() == 0:
            return Stored(request.home, folder, None).run()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise StoreError(f"the detached process did not begin: {said.read_text(encoding='utf-8', errors='replace')[-400:]}")


def _write_definition(request: Request) -> None:
    """Write what the process is to do, while nobody else works at the run."""
    folder = request.folder
    lock = RunLock(folder)
    lock.acquire(take_over=request.take_over)
    try:
        if request.adopted:  # the process finds them by the keys that the definition gives from now on
            open_journal(request)[0].close()
        data = request.definition.data()
        write_atomically(folder / "workflow.json", (json.dumps(data, indent=1) + "\n").encode("ascii"))
        if request.home.base != request.home.folder:
            write_atomically(folder / "home.json", json.dumps({"folder": str(request.home.folder)}).encode())
    finally:
        lock.release()


def _epoch(folder: Path) -> int:
    """Give which start of the run its journal tells of last; 0 before the first."""
    path = folder / "journal.jsonl"
    events = read_journal(path).events if path.exists() else []
    return max((event.epoch for event in events if isinstance(event, RunStarted)), default=0)
