"""Runs of Python calls for benchmarks: the real engine, driver, journal and checkpoint, and no kernels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from nbflow.api.workflows import run_workflow
from nbflow.model import Block, Literal, Name, Workflow
from nbflow.steps import CallStep, FanOut
from nbflow.values import Value


def nothing(item: object) -> int:  # noqa: ARG001 - it does nothing
    """Do nothing, and give a small result."""
    return 0


def nap(item: float) -> None:
    """Sleep for so many seconds."""
    time.sleep(item)


def run_calls(function: str, items: Sequence[Value], *, workers: int, folder: Path) -> None:
    """Run a function of this module over items, as a fan-out of `call` steps.

    Parameters
    ----------
    function : str
        ``nothing`` or ``nap``.
    items : sequence
        One value per item, in item order.
    workers : int
        Items in flight at most.
    folder : Path
        Where the run is kept.
    """
    fan_out = FanOut(
        id="map",
        items=Literal([{"item": item} for item in items]),
        body=Block([CallStep(id="call", function=f"workflows:{function}", parameters=Name("item"))]),
        max_concurrency=Literal(workers),
        on_error="continue",
    )
    workflow = Workflow(name="benchmark", block=Block([fan_out]), max_workers=workers)
    state = run_workflow(workflow, folder)
    assert state.progress.counts["completed"] == len(items), state.progress
