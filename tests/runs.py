"""Real runs for tests: a driver with real threads, and a ledger in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbflow.driver import Driver
from nbflow.engine.machine import Machine
from nbflow.engine.recorded import Recorded
from nbflow.events import Event, NodeFinished, RunStarted
from nbflow.executors.threads import ThreadExecutor
from nbflow.instruction import Instruction
from nbflow.model import Workflow, node_text
from nbflow.outcome import Outcome
from nbflow.state import RunState
from nbflow.task import Context, Places, Runner, Task
from nbflow.testing import FakeStep, testing_kinds


@dataclass
class Memory:
    """A ledger that keeps events in a list, and may be told to fail or to pass on commands."""

    events: list[Event] = field(default_factory=list)
    words: list[Instruction] = field(default_factory=list)
    """Commands that come in at the next look."""
    full: Callable[[Sequence[Event]], OSError | None] = lambda events: None
    """Gives why these events cannot be written."""
    room: int = 0
    """How often room was made."""
    closed: int = 0

    def write(self, events: Sequence[Event]) -> None:
        """Keep the events."""
        problem = self.full(events)
        if problem is not None:
            raise problem
        self.events.extend(events)

    def tend(self, state: RunState, now: float) -> list[str]:
        """Give the commands."""
        words, self.words = self.words, []
        return words

    def make_room(self) -> None:
        """Count."""
        self.room += 1

    def close(self, state: RunState, now: float) -> None:
        """Count."""
        self.closed += 1


@dataclass
class Run:
    """A driver with what it wrote and told."""

    driver: Driver
    ledger: Memory
    told: list[Event]

    def ended(self, node: str) -> Outcome:
        """Give how a node ended."""
        return next(e.outcome for e in self.ledger.events if isinstance(e, NodeFinished) and node_text(e.node) == node)

    def results(self, node: str) -> list[Any]:
        """Give the results of a fan-out."""
        output = self.ended(node).output
        assert isinstance(output, dict)
        return list(output["results"])

    @property
    def status(self) -> str:
        """Give how the run ended."""
        return self.driver.state.progress.status


def make(
    flow: Workflow,
    runner: Runner,
    folder: Path,
    *,
    ledger: Memory | None = None,
    recorded: Recorded | None = None,
    tell: Callable[[Event], None] | None = None,
    workers: int | None = None,
    **more: Any,
) -> Run:
    """Give a driver that has not begun."""
    told: list[Event] = []
    ledger = ledger or Memory()
    places = Places(*[folder / name for name in ("run", "a.ipynb", "a.failed.ipynb", "log", "artifacts", "item")])
    runners: Mapping[Any, Runner] = {FakeStep: runner}
    driver = Driver(
        machine=Machine(flow, recorded, kinds=testing_kinds, max_workers=workers),
        executor=ThreadExecutor(workers or flow.max_workers),
        runners=runners,
        places=lambda task: places,
        ledger=ledger,
        started=RunStarted(0.0, "run", "test", 1, {}, flow.max_workers),
        tell=tell or told.append,
        **more,
    )
    return Run(driver, ledger, told)


def drive(flow: Workflow, runner: Callable[[Task, Context], Outcome], folder: Path, **more: Any) -> Run:
    """Give a run that has ended."""
    run = make(flow, runner, folder, **more)
    run.driver.start()
    assert run.driver.done.wait(60), "the run did not end"
    if run.driver.crashed is not None:
        raise run.driver.crashed
    return run
