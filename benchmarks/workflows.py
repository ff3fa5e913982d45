"""Runs of Python calls for benchmarks: the real engine, driver, journal and checkpoint, and no kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nbflow.api.ledger import RunLedger
from nbflow.driver import Driver
from nbflow.engine.machine import Machine
from nbflow.events import Event, RunStarted
from nbflow.executors.threads import ThreadExecutor
from nbflow.model import Block, CallStep, FanOut, Literal, Name, Workflow
from nbflow.outcome import Outcome, completed
from nbflow.store.home import Home
from nbflow.store.journal import Journal
from nbflow.store.lock import RunLock
from nbflow.store.names import Namer, new_run_id
from nbflow.task import Context, Task
from nbflow.values import Value


def _nobody(event: Event) -> None:
    """Hear an event, as a run without reporters does."""


def run_calls(function: Callable[[Value], Value], items: Sequence[Value], *, workers: int, folder: Path) -> Path:
    """Run a function over items as a fan-out of `call` steps, and give the run folder.

    Parameters
    ----------
    function : callable
        Gets one item.
    items : sequence
        One value per item, in item order.
    workers : int
        Items in flight at most.
    folder : Path
        Where the run is kept.
    """

    def runner(task: Task, context: Context) -> Outcome:  # noqa: ARG001 - a runner's signature
        return completed(function(task.parameters["item"]))

    step = CallStep(id="call", function="benchmarks:call", parameters=Name("item"))
    rows = [{"item": item} for item in items]
    fan_out = FanOut(
        id="map", items=Literal(rows), body=Block([step]), max_concurrency=Literal(workers), on_error="continue"
    )
    workflow = Workflow(name="benchmark", block=Block([fan_out]), max_workers=workers)
    home = Home.of(folder / "benchmark")
    run_id = new_run_id(time.time())
    run_folder = home.create(run_id)
    lock = RunLock(run_folder)
    lock.acquire()
    driver = Driver(
        machine=Machine(workflow, max_workers=workers),
        executor=ThreadExecutor(workers),
        runners={CallStep: runner},
        places=Namer(run_folder).places,
        ledger=RunLedger(home, run_folder, lock, Journal(run_folder / "journal.jsonl"), {}, {}),
        started=RunStarted(time.time(), run_id, home.name, 1, {}, workers),
        tell=_nobody,
    )
    driver.start()
    driver.done.wait()
    if driver.crashed is not None:
        raise driver.crashed
    assert driver.state.progress.status == "completed", driver.state.progress
    return run_folder
