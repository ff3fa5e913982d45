"""The machine, rule by rule: what starts, what is kept, what a plan says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import pytest

from nbflow.engine.machine import MOVES, Machine
from nbflow.engine.plan import plan
from nbflow.engine.protocol import Begin, Breath, Cancel, Finish, Interrupt, SetTimer, Start, TaskEnded, TimerFired
from nbflow.engine.recorded import Recorded, equal_but_code
from nbflow.events import AttemptFailed, FanOutOpened, NodeFinished, NodeStarted
from nbflow.model import Literal, Merged, Name, Names, Retry, Step, Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.steps import CallStep
from nbflow.task import Task
from nbflow.testing import (
    FakeStep,
    ItemParameters,
    PausingStep,
    Simulated,
    fan_out,
    records,
    simulate,
    testing_kinds,
    workflow,
)
from nbflow.values import Value


def fine(task: Task) -> Outcome:
    """Complete with the item."""
    return completed(task.parameters.get("item"))


def nodes(run: Simulated) -> list[str]:
    """Give the nodes that started, in order."""
    return [node_text(task.node) for task in run.started]


def calls(flow: list[int], **keys: Any) -> Workflow:
    """Give a workflow of calls, which a plan knows."""
    step = CallStep(id="item", function="m:f", source=keys.pop("source", "1"), parameters=ItemParameters())
    return workflow(fan_out(flow, step, **keys))


def test_a_failed_step_ends_what_waits_and_lets_what_runs_finish() -> None:
    """Items in flight are recorded, the rest never starts, and the results end with the failed item."""

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.index == 1 else fine(task)

    run = simulate(
        workflow(fan_out(range(9), max_concurrency=Literal(3))), answer, choose=lambda count: min(1, count - 1)
    )
    assert ["map:item:0", "map:item:1", "map:item:2"] == nodes(run)
    assert "completed" == run.finished("map:item:2").status
    assert run.outcome is not None
    assert {"map": {"results": [0, None], "failed": 1, "missing": 7}} == run.outcome.output


def test_places_before_a_failure_go_on_and_decide() -> None:
    """Item 0 fails at its second step after item 1 has failed at its first."""

    def answer(task: Task) -> Outcome:
        bad = (task.step.id, task.index) in (("b", 0), ("a", 1))
        return failed("error", f"boom {task.index}") if bad else completed(task.step.id)

    flow = workflow(fan_out(range(3), [FakeStep(id="a"), FakeStep(id="b")], max_concurrency=Literal(2)))
    run = simulate(flow, answer, choose=lambda count: count - 1)
    assert ["map:a:0", "map:a:1", "map:b:0"] == nodes(run)
    assert run.outcome is not None
    assert run.outcome.error is not None
    assert "boom 0" == run.outcome.error.message
    assert {"results": [{"a": "a", "b": None}], "failed": 1, "missing": 2} == run.finished("map").output


@pytest.mark.parametrize("order", [*permutations([1, 3, 5])])
def test_the_nth_failure_in_item_order_decides(order: tuple[int, ...]) -> None:
    """In whatever order they came, the second in item order halts."""
    left = list(range(8))
    ends_in = [*order, 0, 2, 4, 6, 7]

    def choose(count: int) -> int:
        place = left.index(ends_in[8 - count])
        del left[place]
        return place

    def answer(task: Task) -> Outcome:
        return failed("error", f"boom {task.index}") if task.index in (1, 3, 5) else fine(task)

    flow = workflow(fan_out(range(8), max_failures=2, max_concurrency=Literal(8)), max_workers=8)
    run = simulate(flow, answer, choose=choose)
    assert {"results": [0, None, 2, None], "failed": 2, "missing": 4} == run.finished("map").output
    assert run.outcome is not None
    assert run.outcome.error is not None
    assert ("failed", "boom 3") == (run.outcome.status, run.outcome.error.message)


def test_continue_runs_all_items_and_fails_at_the_end() -> None:
    """The error counts the lost items."""

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.index in (1, 3) else fine(task)

    run = simulate(workflow(fan_out(range(5), on_error="continue")), answer)
    error = run.finished("map").error
    assert error is not None
    assert "2 of 5 failed" == error.message
    assert {"results": [0, None, 2, None, 4], "failed": 2, "missing": 0} == run.finished("map").output


def test_a_paused_item_lets_the_others_run_under_continue() -> None:
    """Forty questions are answered in one round."""
    steps: list[Step] = [FakeStep(id="fit", parameters=ItemParameters()), PausingStep(id="ask")]
    run = simulate(workflow(fan_out(range(4), steps, on_error="continue")), fine)
    assert 4 == len(run.started)
    assert run.outcome is not None
    assert "paused" == run.outcome.status


def test_a_tolerated_fan_out_keeps_its_partial_results() -> None:
    """The list goes on behind it."""

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.index == 1 else fine(task)

    flow = workflow(fan_out(range(3), continue_on_error=True), FakeStep(id="after"))
    run = simulate(flow, answer)
    assert run.outcome is not None
    partial = {"results": [0, None], "failed": 1, "missing": 1}
    assert ("completed", {"map": partial, "after": None}) == (run.outcome.status, run.outcome.output)
    assert "failed" == run.finished("map").status


def test_nested_fan_outs_share_the_workers_and_end() -> None:
    """Six times six on one worker: no deadlock, in the order of the text."""
    inner = fan_out(range(6), id="inner", max_concurrency=Literal(6))
    flow = workflow(fan_out(range(6), inner, max_concurrency=Literal(6)), max_workers=1)
    run = simulate(flow, fine)
    assert 1 == run.most_running
    assert [f"map:inner:{i}:item:{k}" for i in range(6) for k in range(6)] == nodes(run)


def test_a_retry_gives_what_the_last_attempt_gave() -> None:
    """Failed attempts are events of their own; the delay grows by the factor up to the largest."""

    def answer(task: Task) -> Outcome:
        return failed("start", "no kernel") if task.attempt < 4 else completed("up")

    retry = Retry(attempts=4, delay=10, factor=3, jitter=False, max_delay=50)
    run = simulate(workflow(FakeStep(id="one", retry=retry)), answer)
    assert [10, 30, 50] == [event.delay for event in run.events if isinstance(event, AttemptFailed)]
    assert (90, 4) == (run.clock, run.finished("one").attempts)
    assert "up" == run.finished("one").output


@pytest.mark.parametrize(
    ("kind", "exception", "attempts"), [("start", None, 2), ("error", None, 1), ("error", "OSError", 2)]
)
def test_only_named_failures_are_tried_again(kind: str, exception: str | None, attempts: int) -> None:
    """By kind or by the name of the exception."""
    retry = Retry(attempts=2, on=("start", "OSError"))
    run = simulate(workflow(FakeStep(id="one", retry=retry)), lambda task: failed(kind, "boom", exception))
    assert attempts == len(run.started)


def test_attempts_that_a_crash_cut_off_count() -> None:
    """Two attempts began and died with the process: the last of three is left, and it has number 3."""
    flow = workflow(FakeStep(id="one", retry=Retry(attempts=3, on=("error",))))
    cut = simulate(flow, fine, cut_after=1)
    run = simulate(flow, lambda task: failed("error", "boom"), recorded=records(cut, cut))
    assert [3] == [task.attempt for task in run.started]
    again = simulate(flow, lambda task: failed("error", "boom"), recorded=records(cut, cut, run))
    assert [4, 5, 6] == [task.attempt for task in again.started], "after a recorded failure all tries are there again"


def test_a_crash_loop_still_gives_one_try() -> None:
    """However often the process died, a resume tries once."""
    flow = workflow(FakeStep(id="one", retry=Retry(attempts=2, on=("error",))))
    cut = simulate(flow, fine, cut_after=1)
    run = simulate(flow, lambda task: failed("error", "boom"), recorded=records(*[cut] * 5))
    assert [6] == [task.attempt for task in run.started]


def test_cancel_ends_what_rests_between_two_attempts() -> None:
    """A delay of an hour is not waited for."""
    retry = Retry(attempts=2, on=("error",), delay=3600, jitter=False)
    flow = workflow(fan_out(range(3), FakeStep(id="fit", retry=retry), max_concurrency=Literal(3)))
    run = simulate(flow, lambda task: failed("error", "boom"), cancel_after=3)
    assert run.outcome is not None
    assert ("cancelled", 0.0) == (run.outcome.status, run.clock)


def test_a_halt_ends_many_that_rest_inside_each_other() -> None:
    """Items of two levels rest between attempts when the first of all fails: each ends once."""
    retry = Retry(attempts=2, on=("start",), delay=3600, jitter=False)
    inner = fan_out(range(3), FakeStep(id="fit", retry=retry), id="inner", max_concurrency=Literal(3))
    flow = workflow(fan_out(range(3), inner, max_concurrency=Literal(3)), max_workers=9)

    def answer(task: Task) -> Outcome:
        return failed("error" if task.node == ("map:inner:0:fit:0",) else "start", "boom")

    run = simulate(flow, answer, choose=lambda count: count - 1)
    ended = [event.node for event in run.events if isinstance(event, NodeFinished)]
    assert len(set(ended)) == len(ended)
    assert run.outcome is not None
    assert ("failed", 0.0) == (run.outcome.status, run.clock)


def test_what_completed_while_being_cancelled_is_kept() -> None:
    """A run that missed nothing is completed although somebody cancelled."""
    run = simulate(workflow(FakeStep(id="a"), FakeStep(id="b")), fine, cancel_after=2)
    assert run.outcome is not None
    assert "completed" == run.outcome.status


def test_a_time_out_of_a_fan_out_interrupts_its_tasks() -> None:
    """It fails with the kind timeout, whatever its items say."""
    flow = workflow(replace(fan_out(range(4), max_concurrency=Literal(2)), timeout=7.0), FakeStep(id="after"))
    machine = Machine(flow, kinds=_kinds())
    commands = machine.handle(Begin(), 0.0)
    (timer,) = [command for command in commands if isinstance(command, SetTimer)]
    assert 7.0 == timer.seconds
    asked = machine.handle(TimerFired(timer), 7.0)
    assert [Interrupt((("map:item:0",), ("map:item:1",)), "timeout")] == asked
    machine.handle(TaskEnded(("map:item:0",), Outcome("cancelled")), 8.0)
    last = machine.handle(TaskEnded(("map:item:1",), Outcome("cancelled")), 8.0)
    (end,) = [command for command in last if isinstance(command, Finish)]
    assert end.outcome.error is not None
    assert ("failed", "timeout") == (end.outcome.status, end.outcome.error.kind)


def test_a_time_out_changes_nothing_where_all_was_done() -> None:
    """The last item completes after the time was up: nothing was missing."""
    flow = workflow(replace(fan_out(range(2), max_concurrency=Literal(2)), timeout=7.0))
    machine = Machine(flow, kinds=_kinds())
    (timer,) = [command for command in machine.handle(Begin(), 0.0) if isinstance(command, SetTimer)]
    machine.handle(TimerFired(timer), 7.0)
    machine.handle(TaskEnded(("map:item:0",), completed(1)), 8.0)
    last = machine.handle(TaskEnded(("map:item:1",), completed(2)), 8.0)
    assert "completed" == next(command.outcome.status for command in last if isinstance(command, Finish))


def _kinds() -> Any:
    from nbflow.testing import testing_kinds

    return testing_kinds


def test_a_long_replay_takes_a_breath() -> None:
    """A resume of many items hears a cancel in the middle."""
    flow = workflow(fan_out(range(5 * MOVES)))
    known = records(simulate(flow, fine))
    machine = Machine(flow, known, kinds=_kinds())
    commands = machine.handle(Begin(), 0.0)
    assert any(isinstance(command, Breath) for command in commands)
    assert sum(isinstance(command, NodeFinished) for command in commands) <= MOVES
    last = machine.handle(Cancel(), 0.0)
    while not any(isinstance(command, Finish) for command in last):
        assert any(isinstance(command, Breath) for command in last)
        last = machine.handle(Breath(), 0.0)
    assert not any(isinstance(command, Start) for command in last)


def test_a_resume_tells_recorded_items_as_kept_and_runs_the_rest() -> None:
    """Kept items need no worker and no room in the window."""
    flow = workflow(fan_out(range(5)))
    first = simulate(flow, lambda task: failed("error", "boom") if task.index == 3 else fine(task))
    run = simulate(flow, fine, recorded=records(first))
    assert ["map:item:3", "map:item:4"] == nodes(run)
    assert [0, 1, 2] == [event.index for event in run.events if isinstance(event, NodeFinished) and event.kept]
    assert {"results": [0, 1, 2, 3, 4]} == run.finished("map").output


def test_equal_items_have_records_of_their_own() -> None:
    """The second of three equal items is missing, and only that runs."""
    flow = workflow(fan_out([7, 7, 7]))
    first = simulate(flow, lambda task: failed("error", "boom") if task.index == 1 else completed(task.index))
    second = simulate(flow, lambda task: completed(task.index), recorded=records(first))
    assert ["map:item:1", "map:item:2"] == nodes(second)


def test_other_code_runs_again_and_all_behind_it() -> None:
    """What waits for it runs again too, since notebooks talk through files; what stands beside it is kept."""

    def flow(code: str) -> Workflow:
        steps = [FakeStep(id="load", code=code), FakeStep(id="clean"), FakeStep(id="other", needs=())]
        return workflow(*steps, FakeStep(id="report", needs=("clean", "other")))

    known = records(simulate(flow("1"), fine))
    assert ["load", "clean", "report"] == nodes(simulate(flow("2"), fine, recorded=known))
    assert [] == nodes(simulate(flow("2"), fine, recorded=replace(known, same=equal_but_code)))
    assert [] == nodes(simulate(flow("1"), fine, recorded=known))


def test_records_from_before_files_counted_as_code_still_answer() -> None:
    """A step with what its file says is answered by a record without; other code is seen all the same."""

    def flow(code: str, written: Value) -> Workflow:
        fit = FakeStep(id="fit", code=code, parameters=Literal({"rate": 1}), written=written)
        return workflow(fit, FakeStep(id="b"))

    known = records(simulate(flow("1", None), fine))
    assert [] == nodes(simulate(flow("1", [{"rate": 1}, {}]), fine, recorded=known))
    keep = replace(known, same=equal_but_code)
    assert [] == nodes(simulate(flow("2", [{"rate": 1}, {}]), fine, recorded=keep))
    assert "code" == plan(flow("2", [{"rate": 1}, {}]), known, testing_kinds).tasks[0].reason


def test_other_parameters_run_again() -> None:
    """The key is the same, the fingerprint is not."""
    shared = Merged((Literal({"year": 2026}), ItemParameters()))

    def flow(year: int) -> Workflow:
        step = FakeStep(id="fit", parameters=Merged((Literal({"year": year}), ItemParameters())))
        return workflow(fan_out([1, 2], step))

    assert {"year": 2026, "item": 5} == shared.resolve({"item": 5})  # type: ignore[arg-type]
    known = records(simulate(flow(2026), fine))
    assert 2 == len(simulate(flow(2027), fine, recorded=known).started)


def test_windows_names_and_tolerance_never_count_for_a_resume() -> None:
    """How it runs is not what it does."""
    known = records(simulate(workflow(fan_out(range(4))), fine))
    step = FakeStep(id="item", parameters=ItemParameters(), retry=Retry(9), timeout=5.0, continue_on_error=True)
    flow = workflow(
        fan_out(range(4), step, max_concurrency=Literal(4), on_error="continue", item_name="row", timeout=9.0)
    )
    assert [] == nodes(simulate(flow, fine, recorded=known, max_workers=9))


def test_only_named_tasks_start() -> None:
    """The others stay pending, and the run does not complete."""
    flow = workflow(fan_out(range(4), on_error="continue"))
    keys = [task.key for task in simulate(flow, fine).started]
    run = simulate(flow, fine, recorded=Recorded(only=frozenset({keys[2]})))
    assert ["map:item:2"] == nodes(run)
    assert run.outcome is not None
    assert "pending" == run.outcome.status


def test_a_plan_says_what_would_run_and_why() -> None:
    """Never ran, failed, other code, other parameters; and what is kept."""

    def answer(task: Task) -> Outcome:
        return failed("error", "boom") if task.index == 1 else fine(task)

    first = simulate(calls([1, 2, 3], on_error="continue"), answer)
    made = plan(calls([1, 2, 3, 4], on_error="continue"), records(first))
    assert [(1, "failed"), (3, "never ran")] == [(one.task.index, one.reason) for one in made.tasks]
    assert ([0, 2], 4, "pending") == ([one.index for one in made.kept], made.total, made.outcome.status)
    edited = plan(calls([1, 2, 3], source="2", on_error="continue"), records(first))
    assert ["code", "failed", "code"] == [one.reason for one in edited.tasks]


def test_a_plan_of_a_halting_list_shows_all_items() -> None:
    """Items that would run do not hide the ones behind them."""
    made = plan(calls([1, 2, 3], on_error="continue"), Recorded())
    assert [0, 1, 2] == [one.task.index for one in made.tasks]


def labels(run: Simulated) -> list[str]:
    """Give what the tasks that started are called."""
    return [event.label for event in run.events if isinstance(event, NodeStarted)]


def test_labels_say_what_people_call_an_item() -> None:
    """By step, varying keys of the items around it, and turn; in a map the step goes without saying."""
    items = [{"city": "Oslo", "year": 2026}, {"city": "Lima", "year": 2026}]
    step = FakeStep(id="fit", parameters=Name("item"))
    run = simulate(workflow(fan_out(items, step, varying=("city",))), fine)
    assert ["fit city=Oslo", "fit city=Lima"] == labels(run)
    alone = simulate(workflow(fan_out(items, step, varying=("city",), says_step=False)), fine)
    assert ["city=Oslo", "city=Lima"] == labels(alone)
    both = simulate(workflow(fan_out(items, [step, FakeStep(id="score")], varying=("city",))), fine)
    assert ["fit city=Oslo", "score city=Oslo"] == labels(both)[:2]
    plain = FakeStep(id="fit")
    numbers = simulate(workflow(fan_out([0, 1], plain, item_name="depth")), fine)
    assert ["fit depth=0", "fit depth=1"] == labels(numbers)
    inner = fan_out(["a"], [plain], id="deeper", item_name="model")
    assert ["fit city=Oslo year=2026 model=a"] == labels(simulate(workflow(fan_out(items[:1], [inner])), fine))


def test_a_fan_out_tells_how_many_items_it_has() -> None:
    """Before any of them starts."""
    run = simulate(workflow(fan_out(range(3))), fine)
    first = run.events[0]
    assert isinstance(first, FanOutOpened)
    assert (3, ("map",)) == (first.total, first.node)


@dataclass(frozen=True)
class Said:
    """A binding that gives what is said of the item."""

    work: dict[int, str]

    def resolve(self, names: Names) -> Any:
        """Give the mapping."""
        return {"work": self.work[Name("item").resolve(names)]}  # type: ignore[index]  # the items are numbers


def before_last(items: Iterable[int], work: dict[int, str]) -> Workflow:
    """Give a fan-out, and a step behind it that reads nothing of it."""
    return workflow(fan_out(list(items), FakeStep(id="item", parameters=Said(work))), FakeStep(id="last"))


@pytest.mark.parametrize("items", [*permutations([1, 2, 2])])
def test_the_order_of_items_counts_for_nothing_behind_them(items: tuple[int, ...]) -> None:
    """All is kept, whatever order they had."""
    work = {1: "a", 2: "b"}
    first = simulate(before_last([2, 1, 2], work), fine)
    assert [] == nodes(simulate(before_last(items, work), fine, recorded=records(first)))


@pytest.mark.parametrize(
    ("items", "work"),
    [
        ([1, 2, 2], {1: "b", 2: "a"}),
        ([1, 1, 2], {1: "a", 2: "b"}),
        ([1], {1: "a"}),
        ([1, 2], {1: "a", 2: "b"}),
        ([1, 2, 2, 2], {1: "a", 2: "b"}),
        ([2, 3, 3], {2: "a", 3: "b"}),
    ],
)
def test_other_items_and_other_work_of_them_count_behind_them(items: list[int], work: dict[int, str]) -> None:
    """Who did what, and how often."""
    first = simulate(before_last([1, 2, 2], {1: "a", 2: "b"}), fine)
    assert "last" in nodes(simulate(before_last(items, work), fine, recorded=records(first)))
