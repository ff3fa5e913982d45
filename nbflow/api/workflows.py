"""Workflows of any steps, run with a journal in a folder: what maps are made of, without notebooks around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..driver import Driver
from ..engine.machine import Machine
from ..engine.recorded import Recorded
from ..events import Event, RunStarted
from ..executors.calls import CallRunner
from ..executors.threads import ThreadExecutor
from ..model import Step, Workflow
from ..reporters.audience import Audience
from ..state import RunState
from ..steps import CallStep
from ..store.home import Home
from ..store.journal import Journal, read_journal, records
from ..store.lock import RunLock
from ..store.names import Namer, check_run_id
from ..task import Runner
from .interrupts import Interrupts
from .ledger import RunLedger

RUNNERS: Mapping[type[Step], Runner] = {CallStep: CallRunner()}


def run_workflow(
    workflow: Workflow,
    folder: Path,
    *,
    run_id: str = "20000101-000000-0000",
    max_workers: int | None = None,
    on_event: Sequence[Callable[[Event], None]] = (),
    runners: Mapping[type[Step], Runner] = RUNNERS,
) -> RunState:
    """Run a workflow, or go on with the run of this id, and give how it stands at the end.

    Parameters
    ----------
    workflow : Workflow
        What to run.
    folder : Path
        Where its runs are kept.
    run_id : str
        A run of this id that is there already is resumed.
    max_workers : int, optional
        Tasks in flight at most; by default the workflow's.
    on_event : sequence of callables
        Get every event, in a thread of their own.
    runners : mapping
        How tasks run, by the class of their step.

    Examples
    --------
    >>> import tempfile
    >>> from nbflow.model import Block, Literal
    >>> step = CallStep(id="power", function="builtins:dict", parameters=Literal({"a": 1}))
    >>> with tempfile.TemporaryDirectory() as there:
    ...     state = run_workflow(Workflow(name="one", block=Block([step])), Path(there))
    >>> state.nodes["power",].outcome.output
    {'a': 1}
    """
    workers = max_workers or workflow.max_workers
    home = Home.of(folder / workflow.name)
    place = home.run_folder(check_run_id(run_id))
    if not place.is_dir():
        home.create(run_id)
    lock = RunLock(place)
    lock.acquire()
    path = place / "journal.jsonl"
    before = read_journal(path) if path.exists() else None
    found = records(before.events) if before is not None else None
    epoch = 1 if before is None else 1 + sum(isinstance(event, RunStarted) for event in before.events)
    journal = Journal(path, before.good if before is not None else 0)
    definition = {"nbflow": 1, "kind": "workflow", "name": workflow.name}
    audience = Audience(on_event, name="on_event callbacks")
    started = RunStarted(time.time(), run_id, workflow.name, epoch, dict(workflow.inputs), workers)
    driver = Driver(
        machine=Machine(workflow, Recorded(found.answers, found.attempts) if found else None, max_workers=workers),
        executor=ThreadExecutor(workers),
        runners=runners,
        places=Namer(place).places,
        ledger=RunLedger(home, place, lock, journal, definition, {}),
        started=started,
        tell=audience.tell if on_event else _nobody,
    )
    if on_event:
        audience.start()
    with Interrupts() as interrupts:
        driver.start()
        while not driver.done.wait(0.2):
            if interrupts.noted:
                interrupts.answered = True
                driver.cancel("Ctrl-C", now=len(interrupts.noted) > 1)
    audience.close(0) if on_event else None
    if driver.crashed is not None:
        raise driver.crashed
    return driver.state


def _nobody(event: Event) -> None:
    """Tell nobody."""
