"""What plug-ins are checked by: what is ours passes, and what would harm a run is found."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nbflow import testing
from nbflow.api.plugins import executors, reporters
from nbflow.events import Event, GateOpened
from nbflow.executors.threads import ThreadExecutor
from nbflow.outcome import Outcome, completed
from nbflow.reporters.screen import Scene
from nbflow.task import Task
from nbflow.testing import FakeStep, check_executor, check_reporter, check_runner


def plugin() -> ModuleType:
    """Load the plug-in by its path: on the path of all tests it would be installed for all."""
    spec = spec_from_file_location("nbflow_stamp_by_path", Path(__file__).parent / "plugin" / "nbflow_stamp.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAMP = plugin()


@pytest.mark.parametrize("make", [*executors().values(), ThreadPoolExecutor, STAMP.named_threads])
def test_an_executor_that_keeps_the_contract_passes(make: Callable[[int], Executor]) -> None:
    """Ours, that of the standard library, and the plug-in's."""
    check_executor(make)


class Swallows(ThreadExecutor):
    """Its futures never carry an exception."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Lose what is raised."""

        def call() -> Any:
            try:
                return fn(*args, **kwargs)
            except BaseException:
                return None

        return super().submit(call)


class Waits(ThreadPoolExecutor):
    """Its shutdown waits for what runs, whatever it is told."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Remember the last one."""
        self.last = super().submit(fn, *args, **kwargs)
        return self.last

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have it end, and wait."""
        self.last.set_result(True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda width: ThreadExecutor(width + 1), "more than 3 run at a time"),
        (lambda width: ThreadExecutor(width - 1), "2 run at a time, and 3 should"),
        (Swallows, "None, None, None, None, None, None"),
        (Waits, "waited"),
    ],
)
def test_an_executor_that_would_harm_a_run_is_found(
    make: Callable[[int], Executor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many at a time, an exception that is lost, an end that hangs."""
    monkeypatch.setattr(testing, "PATIENCE", 2.0)
    with pytest.raises(AssertionError, match=words):
        check_executor(make)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (completed({1, 2}), "one returned set, which cannot be kept"),  # type: ignore[arg-type]
        (Outcome("great"), "one ended 'great', which is none of aborted, cancelled"),  # type: ignore[arg-type]
        (None, "one gave None, and no nbflow.outcome.Outcome"),
    ],
)
def test_a_runner_whose_outcome_cannot_be_kept_is_found(given: Any, words: str) -> None:
    """As the driver finds it, but before somebody runs it."""
    step = FakeStep(id="one")
    tasks = [Task((name,), name, step, {}, 1, name, None, "-.-.-") for name in ("one", "two")]
    with pytest.raises(AssertionError, match=words):
        check_runner(lambda task, context: given, tasks, lambda task: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", ["bars", "lines", "dots"])
def test_a_reporter_that_takes_all_passes(name: str) -> None:
    """Ours and the plug-in's, on a stream that is no terminal."""
    make = {**reporters(), "dots": STAMP.dots}[name]
    check_reporter(lambda: make(Scene(2, io.StringIO(), ["head"])))


class Forgetful:
    """Does not know of gates."""

    def begin(self) -> None:
        """Nothing."""

    def __call__(self, event: Event) -> None:
        """Fail at a gate."""
        if isinstance(event, GateOpened):
            raise LookupError("no such event")

    def draw(self, now: float) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def test_a_reporter_that_raises_is_found_with_the_event() -> None:
    """So that its author sees what it was."""
    with pytest.raises(AssertionError, match=r"LookupError by GateOpened\(.*Publish"):
        check_reporter(Forgetful)
