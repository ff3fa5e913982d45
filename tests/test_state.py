"""What a run's events add up to."""

from __future__ import annotations

from typing import Any

import pytest

from nbflow.events import (
    AttemptFailed,
    CellFinished,
    CellStarted,
    Event,
    FanOutOpened,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunStarted,
    StepsOpened,
    Warned,
)
from nbflow.outcome import Failure, Outcome, completed, failed
from nbflow.state import RunState, fold

BEGAN = RunStarted(100.0, "run", "train.ipynb", 1, {"year": 2026}, 2)
OPENED = FanOutOpened(100.0, ("map",), 4)


def node(index: int) -> tuple[str, ...]:
    """Give an item's node."""
    return (f"map:item:{index}",)


def started(index: int, at: float = 100.0, attempt: int = 1) -> NodeStarted:
    """Give the start of an item."""
    return NodeStarted(at, node(index), f"key{index}", attempt, f"city={index}", index)


def finished(index: int, outcome: Outcome, **more: Any) -> NodeFinished:
    """Give the end of an item."""
    return NodeFinished(110.0, node(index), f"key{index}", "a.b.c", outcome, f"city={index}", index, **more)


def test_tasks_are_waiting_active_or_ended() -> None:
    """Four items: one completed, one failed, one at work, one waits."""
    bad = finished(1, failed("error", "boom"))
    state = fold([BEGAN, OPENED, started(0), started(1), finished(0, completed(1)), bad, started(2)])
    progress = state.progress
    assert (4, 2, 1, [node(2)]) == (progress.total, progress.ended, progress.waiting, list(progress.active))
    assert {"completed": 1, "failed": 1} == dict(progress.counts)
    assert [bad] == progress.failures
    assert ("running", "run", "train.ipynb", {"year": 2026}) == (
        progress.status,
        progress.run_id,
        progress.name,
        progress.inputs,
    )


def test_a_cell_at_work_is_shown_with_its_heading_and_last_line() -> None:
    """What came of another node, or of one that is not at work, moves nothing."""
    events: list[Event] = [
        BEGAN,
        started(0),
        CellStarted(101.0, node(0), 3, 9, "Fit"),
        Printed(102.0, node(0), "epoch 1"),
    ]
    events += [CellFinished(103.0, node(0), 3, "completed", 2.0), CellStarted(104.0, node(9), 1, 1, "none")]
    (task,) = fold(events).progress.active.values()
    assert (3, 9, "Fit", "epoch 1", 1) == (task.cell, task.cells, task.heading, task.line, task.attempt)


def test_a_failed_attempt_is_no_longer_at_work_and_not_ended() -> None:
    """It rests until the next attempt."""
    state = fold([BEGAN, OPENED, started(0), AttemptFailed(101.0, node(0), "key0", 1, failed("start", "x"), 5.0)])
    assert ({}, 0, 4) == (state.progress.active, state.progress.ended, state.progress.waiting)
    state.apply(started(0, 106.0, 2))
    assert 2 == state.progress.active[node(0)].attempt


def test_the_seconds_left_come_from_the_tasks_of_this_epoch() -> None:
    """Two took ten seconds each; of two more one is half done; two at a time."""
    kept = finished(3, Outcome("completed", seconds=1000.0), kept=True)
    took = [finished(index, Outcome("completed", seconds=10.0)) for index in (0, 1)]
    events = [BEGAN, FanOutOpened(100.0, ("map",), 5), kept, *took, started(2, 110.0)]
    progress = fold(events).progress
    assert 1 == progress.kept
    assert pytest.approx((2 * 10.0 - 5.0) / 2) == progress.remaining(115.0)
    assert fold([BEGAN, OPENED, kept]).progress.remaining(115.0) is None


def test_the_last_tasks_are_not_shared_among_idle_workers() -> None:
    """Four workers, one task left that is half done: it takes what it takes; a short one waits for the long one."""
    began = RunStarted(100.0, "run", "train.ipynb", 1, {}, 4)
    took = [finished(index, Outcome("completed", seconds=10.0)) for index in (0, 1)]
    progress = fold([began, FanOutOpened(100.0, ("map",), 3), *took, started(2, 110.0)]).progress
    assert pytest.approx(5.0) == progress.remaining(115.0)
    two = [began, FanOutOpened(100.0, ("map",), 4), *took, started(2, 106.0), started(3, 114.0)]
    assert pytest.approx(9.0) == fold(two).progress.remaining(115.0)


def test_containers_move_no_counts() -> None:
    """Only tasks are counted, but every node that ended is known."""
    container = NodeFinished(110.0, ("map",), "key", "", completed({"results": []}), "map", None, leaf=False)
    state = fold([BEGAN, OPENED, container])
    assert (0, {("map",): container}) == (state.progress.ended, state.nodes)


def test_a_resume_begins_anew() -> None:
    """What this epoch does not tell is not there: stale nodes of earlier epochs go."""
    first: list[Event] = [BEGAN, OPENED, started(0), finished(0, completed(1)), Warned(1.0, None, "careful")]
    state = fold([*first, RunFinished(120.0, "interrupted", None, "Ctrl-C"), RunStarted(200.0, "run", "n", 2, {}, 2)])
    assert RunState(progress=state.progress) == state
    assert (2, "running", 0, 0, "", None, []) == (
        state.progress.epoch,
        state.progress.status,
        state.progress.ended,
        state.progress.total,
        state.progress.reason,
        state.progress.finished,
        state.progress.warnings,
    )


def test_the_end_says_status_reason_and_error() -> None:
    """Nothing is at work any more."""
    error = Failure("error", "boom")
    progress = fold([BEGAN, started(0), RunFinished(120.0, "failed", error)]).progress
    assert ("failed", 120.0, error, {}) == (progress.status, progress.finished, progress.error, progress.active)


def test_an_end_without_a_label_takes_it_from_the_start() -> None:
    """The journal tells label and index once; failures keep the label, ended items their index."""
    bare = NodeFinished(110.0, node(0), "key0", "a.b.c", failed("error", "boom"), "", None)
    state = fold([BEGAN, started(0), bare])
    (failure,) = state.progress.failures
    assert ("city=0", 0, 0) == (failure.label, failure.index, state.nodes[node(0)].index)


def test_what_was_left_out_waits_on() -> None:
    """A part of a run that was not asked for has not ended."""
    assert 4 == fold([BEGAN, OPENED, finished(0, Outcome("pending", attempts=0))]).progress.waiting


def test_the_seconds_left_do_not_come_from_tasks_of_another_kind() -> None:
    """A quick step tells nothing of the items behind it; the first item that ends does."""
    quick = NodeFinished(100.0, ("say",), "say", "a.b.c", Outcome("completed", seconds=0.002), "say", None)
    state = fold([BEGAN, StepsOpened(100.0, (), 2), quick, OPENED, started(0), started(1)])
    assert state.progress.remaining(105.0) is None
    state.apply(finished(0, Outcome("completed", seconds=10.0)))
    assert pytest.approx((3 * 10.0 + 4.0) / 2) == state.progress.remaining(106.0)
    other = NodeStarted(106.0, ("gather",), "gather", 1, "gather", None)
    state.apply(other)
    assert state.progress.remaining(106.0) is None, "what is at work now is of a kind that nobody has seen"


def test_what_takes_longer_than_the_others_is_not_said_to_be_done() -> None:
    """It counts with the seconds that it took already; when only such are left, nothing is said."""
    took = [finished(index, Outcome("completed", seconds=10.0)) for index in (0, 1)]
    alone = fold([BEGAN, FanOutOpened(100.0, ("map",), 3), *took, started(2, 110.0)]).progress
    assert alone.remaining(140.0) is None
    more = fold([BEGAN, FanOutOpened(100.0, ("map",), 5), *took, started(2, 110.0), started(3, 138.0)]).progress
    assert pytest.approx((50.0 / 3 + 50.0 / 3 - 2.0) / 2) == more.remaining(140.0)
