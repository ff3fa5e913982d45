"""What the system that this one grew from was tested for: order, concurrency, isolation, halting, failure."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbflow.engine.kinds import concurrency
from nbflow.engine.machine import Machine
from nbflow.errors import DefinitionError
from nbflow.events import NodeFinished, Warned
from nbflow.model import Block, Literal, Name, Names, Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.task import Context, Task
from nbflow.testing import FakeStep, ItemParameters, PausingStep, Simulated, fan_out, simulate, testing_kinds, workflow
from nbflow.values import Value
from tests.runs import drive

LAST_FIRST: Callable[[int], int] = lambda count: count - 1  # noqa: E731 - a choice of the task that ends next


def item(task: Task) -> Outcome:
    """Give the item back."""
    return completed(task.parameters["item"])


def test_results_stand_in_item_order() -> None:
    """One after the other or all at once, the last one first: the results stand as the items."""
    for window in (1, 3, 10):
        run = simulate(workflow(fan_out([5, 3, 4], max_concurrency=Literal(window))), item, choose=LAST_FIRST)
        assert run.outcome is not None
        assert {"map": {"results": [5, 3, 4]}} == run.outcome.output


def test_items_that_end_in_reverse_give_results_in_order(tmp_path: Path) -> None:
    """Each item waits for the one behind it, in real threads."""
    over = [threading.Event() for _ in range(5)]
    over[4].set()
    ended: list[int] = []

    def wait_for_the_next(task: Task, context: Context) -> Outcome:
        at = task.parameters["item"]
        assert isinstance(at, int)
        assert over[at].wait(30)
        ended.append(at)
        if at:
            over[at - 1].set()
        return completed(at)

    driver = drive(workflow(fan_out(range(5), max_concurrency=Literal(5)), max_workers=5), wait_for_the_next, tmp_path)
    assert [4, 3, 2, 1, 0] == ended
    assert [0, 1, 2, 3, 4] == driver.results("map")


def test_items_run_at_the_same_time(tmp_path: Path) -> None:
    """Four items meet at a barrier that no three can open."""
    barrier = threading.Barrier(4)

    def meet(task: Task, context: Context) -> Outcome:
        barrier.wait(30)
        return completed(threading.current_thread().name)

    driver = drive(workflow(fan_out(range(4), max_concurrency=Literal(4))), meet, tmp_path)
    assert 4 == len(set(driver.results("map")))


def test_no_more_items_than_the_window_run_at_the_same_time(tmp_path: Path) -> None:
    """Of nine items in a window of three, three are at work at most, and three are at once."""
    at_work, most, lock = set(), [0], threading.Lock()
    barrier = threading.Barrier(3)

    def count(task: Task, context: Context) -> Outcome:
        with lock:
            at_work.add(task.node)
            most[0] = max(most[0], len(at_work))
        barrier.wait(30)
        with lock:
            at_work.discard(task.node)
        return completed()

    drive(workflow(fan_out(range(9), max_concurrency=Literal(3)), max_workers=8), count, tmp_path)
    assert 3 == most[0]


def test_each_item_has_a_scope_of_its_own() -> None:
    """Steps of an item see its value, also behind a fan-out inside, and no sibling's."""
    inner = fan_out([7, 8], FakeStep(id="deep", parameters=ItemParameters()), id="inner", item_name="small")
    body = [
        FakeStep(id="before", parameters=ItemParameters()),
        inner,
        FakeStep(id="after", parameters=ItemParameters()),
    ]
    run = simulate(workflow(fan_out([1, 2], body, max_concurrency=Literal(2))), item, choose=LAST_FIRST)
    assert run.outcome is not None
    one = {"before": 1, "inner": {"results": [7, 8]}, "after": 1}
    two = {"before": 2, "inner": {"results": [7, 8]}, "after": 2}
    assert {"map": {"results": [one, two]}} == run.outcome.output
    names = {node_text(event.node) for event in run.events if isinstance(event, NodeFinished)}
    assert {"map:before:0", "map:inner:0:deep:1", "map:inner:1:deep:0", "map:after:1", "map:*:0"} <= names


class Maybe(FakeStep):
    """A task for some items, a pause for others."""


def _pause_at_one(step: Maybe, names: Names) -> Any:
    if names["item"] == 1:
        yield from ()
        return Outcome("paused")
    return (yield from testing_kinds[FakeStep](step, names))


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("choose", [lambda count: 0, LAST_FIRST])
def test_the_first_item_that_halts_decides(window: int, choose: Callable[[int], int], monkeypatch: Any) -> None:
    """A pause at item 1 stands before a failure at item 2, whichever came first."""
    monkeypatch.setitem(testing_kinds, Maybe, _pause_at_one)  # type: ignore[arg-type]
    step = Maybe(id="step", parameters=ItemParameters())

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.parameters["item"] == 2 else item(task)

    run = simulate(workflow(fan_out(range(5), step, max_concurrency=Literal(window))), answer, choose=choose)
    assert run.outcome is not None
    assert ("paused", {"map": {"results": [0, None], "failed": 0, "missing": 3}}) == (
        run.outcome.status,
        run.outcome.output,
    )


@pytest.mark.parametrize("window", [1, 4])
def test_a_failure_before_a_pause_decides(window: int) -> None:
    """Steps before the failed one are read, steps behind it are not."""
    steps = [FakeStep(id="fit", parameters=ItemParameters()), PausingStep(id="ask")]

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.parameters["item"] == 0 else item(task)

    run = simulate(workflow(fan_out(range(3), steps, max_concurrency=Literal(window))), answer, choose=LAST_FIRST)
    assert run.outcome is not None
    partial = {"results": [{"fit": None}], "failed": 1, "missing": 2}
    assert ("failed", {"map": partial}) == (run.outcome.status, run.outcome.output)
    assert run.outcome.error is not None
    assert "boom" == run.outcome.error.message


@pytest.mark.parametrize("window", [1, 2, 8])
def test_tolerated_failures_do_not_shorten_the_results(window: int) -> None:
    """A failed item has None in its place and the fan-out completes."""
    step = FakeStep(id="step", parameters=ItemParameters(), continue_on_error=True)

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.parameters["item"] in (0, 2) else item(task)

    run = simulate(workflow(fan_out(range(4), step, max_concurrency=Literal(window))), answer, choose=LAST_FIRST)
    assert run.outcome is not None
    assert ("completed", {"map": {"results": [None, 1, None, 3]}}) == (run.outcome.status, run.outcome.output)


class Raises:
    """A binding that has no value."""

    def resolve(self, names: Names) -> Value:
        """Raise."""
        raise LookupError(f"nothing for item {names['index']}")


@pytest.mark.parametrize("on_error", ["halt", "continue"])
def test_an_item_whose_parameters_cannot_be_had_fails_by_name(on_error: str) -> None:
    """It fails before it could record anything, and is attributed all the same."""
    flow = workflow(fan_out([1, 2], FakeStep(id="fit", parameters=Raises()), on_error=on_error))
    run = simulate(flow, item)
    assert [] == run.started
    assert run.outcome is not None
    assert "failed" == run.outcome.status
    error = run.finished("map:fit:0").error
    assert error is not None
    assert ("expression", "LookupError: nothing for item 0") == (error.kind, error.message)


def test_a_kind_that_raises_fails_its_item_only(monkeypatch: Any) -> None:
    """The other items run to their end."""

    def kind(step: Maybe, names: Names) -> Any:
        if names["item"] == 1:
            raise ZeroDivisionError("in the kind")
        return (yield from testing_kinds[FakeStep](step, names))

    monkeypatch.setitem(testing_kinds, Maybe, kind)  # type: ignore[arg-type]
    step = Maybe(id="step", parameters=ItemParameters())
    run = simulate(workflow(fan_out(range(3), step, on_error="continue")), item)
    assert ["completed", "failed", "completed"] == [run.finished(f"map:step:{i}").status for i in range(3)]
    error = run.finished("map:step:1").error
    assert error is not None
    assert "ZeroDivisionError: in the kind" == error.message


def fall_over(number: int) -> None:
    """Raise, with a place that a traceback can name."""
    raise KeyError(f"rain_mm {number}")


def test_an_exception_in_a_worker_is_a_failed_item_with_its_traceback(tmp_path: Path) -> None:
    """The traceback names function, file and cause; the other items are there."""

    def raising(task: Task, context: Context) -> Outcome:
        if task.parameters["item"] == 1:
            try:
                fall_over(1)
            except KeyError as cause:
                raise ValueError("no rain") from cause
        return item(task)

    driver = drive(workflow(fan_out(range(3), on_error="continue", max_concurrency=Literal(3))), raising, tmp_path)
    assert [0, None, 2] == driver.results("map")
    outcome = driver.ended("map:item:1")
    assert outcome.error is not None
    assert ("error", "ValueError: no rain", "ValueError") == (
        outcome.error.kind,
        outcome.error.message,
        outcome.error.exception,
    )
    text = outcome.error.traceback or ""
    for part in ("in fall_over", "test_seed.py", "KeyError: 'rain_mm 1'", "direct cause", "in raising"):
        assert part in text


def test_no_items_complete_with_no_results() -> None:
    """An empty list is no failure."""
    run = simulate(workflow(fan_out([])), item)
    assert run.outcome is not None
    assert ("completed", {"map": {"results": []}}) == (run.outcome.status, run.outcome.output)


def test_items_that_are_no_list_fail_the_step_with_their_type() -> None:
    """The message names the type and the value."""
    flow = workflow(fan_out([], id="map"))
    step = flow.block.steps[0]
    object.__setattr__(step, "items", Literal("Oslo"))
    error = simulate(flow, item).finished("map").error
    assert error is not None
    assert ("expression", "the items of map are str 'Oslo', not a list") == (error.kind, error.message)


@pytest.mark.parametrize(
    ("value", "window", "warned"),
    [
        ("4", 4, False),
        (4, 4, False),
        (3.0, 3, False),
        (None, 1, False),
        (0, 1, False),
        (-2, 1, False),
        (2.9, 2, True),
        ("abc", 1, True),
        ("2.9", 1, True),
        (math.inf, 1, True),
        (math.nan, 1, True),
        (True, 1, True),
        ([4], 1, True),
    ],
)
def test_a_window_known_at_run_time_is_read_leniently(value: Any, window: int, warned: bool) -> None:
    """What is no whole number runs one by one, or rounded down, and says so."""
    assert (window, warned) == (concurrency(value)[0], bool(concurrency(value)[1]))
    flow = Workflow(
        name="test",
        block=Block([fan_out(range(6), max_concurrency=Name("inputs_width"))]),
        inputs={},
        max_workers=8,
    )
    object.__setattr__(flow.block.steps[0], "max_concurrency", _Late(value))
    run = simulate(flow, item)
    assert window == run.most_running
    assert warned == any(isinstance(event, Warned) for event in run.events)


class _Late:
    def __init__(self, value: Any) -> None:
        self.value = value

    def resolve(self, names: Names) -> Value:
        return self.value


@pytest.mark.parametrize("value", ["4", 4, 3.0, None, "1", 0, -1, "0"])
def test_a_literal_window_may_be_text_or_nothing(value: Any) -> None:
    """Whole numbers, whole floats, numeric text and null are windows; numbers below 1 mean 1."""
    assert value == fan_out([1], max_concurrency=Literal(value)).max_concurrency.resolve({})  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [2.9, "abc", "2.9", True, math.inf, math.nan, [4], {}])
def test_a_literal_window_that_is_none_is_a_definition_error(value: Any) -> None:
    """The message names value and step."""
    with pytest.raises(DefinitionError, match=r"max_concurrency is .* in step 'map'") as refused:
        fan_out([1], max_concurrency=Literal(value))
    assert refused.value.remedy


def test_a_worker_that_is_free_takes_the_next_item_at_once() -> None:
    """A straggler first in line holds one place; all other items pass through the second."""
    run = Simulated()
    flow = workflow(fan_out(range(9), max_concurrency=Literal(2)))
    run = simulate(flow, item, choose=LAST_FIRST)  # item 0 ends when nothing else is there
    ended = [event.index for event in run.events if isinstance(event, NodeFinished) and event.leaf]
    assert [*range(1, 9), 0] == ended


def test_live_nodes_are_as_many_as_workers_times_depth() -> None:
    """A fan-out of ten thousand items holds a cursor, not ten thousand nodes."""
    from nbflow.engine.protocol import Begin, Start, TaskEnded

    flow = workflow(fan_out(range(10_000), max_concurrency=Literal(1000)), max_workers=8)
    machine = Machine(flow, kinds=testing_kinds)
    commands = machine.handle(Begin(), 0.0)
    for _ in range(100):
        (task, *_rest) = [command.task for command in commands if isinstance(command, Start)]
        assert machine.live <= 8 + 2
        commands = machine.handle(TaskEnded(task.node, completed()), 0.0)
