"""The driver with real threads: what is written first, what ends how, and who is told."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbflow.driver import Driver
from nbflow.events import AttemptFailed, Event, NodeFinished, NodeStarted, RunFinished, RunStarted, Warned
from nbflow.files import own_writes
from nbflow.instruction import Instruction
from nbflow.model import Literal, Retry
from nbflow.outcome import Failure, Outcome, completed, failed
from nbflow.store.journal import decode, encode
from nbflow.task import Context, Task
from nbflow.testing import FakeStep, ItemParameters, Simulated, fan_out, records, simulate, workflow
from tests.runs import Memory, Run, drive, make

SHORT: Any = {"grace": {"cancel": 0.05, "timeout": 0.05}, "last": 0.05}


def item(task: Task, context: Context) -> Outcome:
    """Give the item back."""
    return completed(task.parameters.get("item"))


def listen(task: Task, context: Context) -> Outcome:
    """Work until asked to stop."""
    asked = threading.Event()
    end = context.stop.listen(asked.set)
    try:
        assert asked.wait(30), "nobody asked"
    finally:
        end()
    if context.stop.reason == "timeout":
        return failed("timeout", "no time left")
    return Outcome("cancelled")


def waiting(run: Run, until: Callable[[], bool]) -> None:
    """Wait until something holds, or fail."""
    for _ in range(3000):
        if until():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def finish(run: Run) -> Run:
    """Wait until a run has ended."""
    assert run.driver.done.wait(30), "the run did not end"
    assert run.driver.crashed is None
    return run


def test_every_event_is_written_before_it_is_told(tmp_path: Path) -> None:
    """Whoever is told of an event finds it in the journal, in the same order."""
    ledger, late = Memory(), []

    def tell(event: Event) -> None:
        told.append(event)
        if event not in ledger.events:
            late.append(event)

    told: list[Event] = []
    drive(workflow(fan_out(range(20), max_concurrency=Literal(4))), item, tmp_path, ledger=ledger, tell=tell)
    assert [] == late
    assert ledger.events == told
    assert isinstance(told[0], RunStarted)
    assert isinstance(told[-1], RunFinished)
    assert 1 == ledger.closed


def test_no_task_begins_before_its_line_is_written(tmp_path: Path) -> None:
    """A worker finds the start of its task in the journal."""
    ledger, early = Memory(), []

    def look(task: Task, context: Context) -> Outcome:
        if not any(isinstance(event, NodeStarted) and event.node == task.node for event in list(ledger.events)):
            early.append(task.node)
        return completed()

    drive(workflow(fan_out(range(30), max_concurrency=Literal(4))), look, tmp_path, ledger=ledger)
    assert [] == early


def test_a_run_in_threads_equals_a_simulated_one(tmp_path: Path) -> None:
    """Same outcome, same output."""
    flow = workflow(fan_out([1, 2, 3], fan_out([4, 5], id="inner"), max_concurrency=Literal(3)), FakeStep(id="last"))
    simulated = simulate(flow, lambda task: completed(task.parameters.get("item")))
    run = drive(flow, item, tmp_path)
    assert simulated.outcome is not None
    assert simulated.finished("map").output == run.ended("map").output
    assert "completed" == run.status


def test_the_disk_is_full_once_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    """Nothing starts whose line could not be written, what ended is kept, and a resume does the rest."""
    began: list[Any] = []
    barrier = threading.Event()

    def full(events: Sequence[Event]) -> OSError | None:
        third = any(isinstance(event, NodeStarted) and event.index == 3 for event in events)
        if third and not ledger.room:
            barrier.set()
            return OSError(errno.ENOSPC, "No space left on device")
        return None

    def slow_first(task: Task, context: Context) -> Outcome:
        began.append(task.parameters["item"])
        if task.index == 0:
            assert barrier.wait(30)
        return completed(task.index)

    ledger = Memory(full=full)
    flow = workflow(fan_out(range(10, 16), max_concurrency=Literal(2)))
    run = drive(flow, slow_first, tmp_path, ledger=ledger)
    assert ("interrupted", "disk full") == (run.status, run.driver.state.progress.reason)
    assert 1 == ledger.room
    assert 13 not in began
    kept = {
        e.index for e in ledger.events if isinstance(e, NodeFinished) and e.leaf and e.outcome.status == "completed"
    }
    assert {0, 1, 2} == kept, "what was at work when the disk was full has ended and is kept"
    assert 3 not in {event.index for event in ledger.events if isinstance(event, NodeStarted)}
    again: list[Any] = []

    def rest(task: Task, context: Context) -> Outcome:
        again.append(task.index)
        return completed(task.index)

    second = drive(flow, rest, tmp_path, recorded=records(Simulated(events=ledger.events)))
    assert ("completed", [0, 1, 2, 3, 4, 5]) == (second.status, second.results("map"))
    assert [3, 4, 5] == sorted(again)


def test_a_task_that_finds_the_disk_full_interrupts_the_run(tmp_path: Path) -> None:
    """No space for what nbflow writes is no fault of the item: it is not failed."""

    def no_room(task: Task, context: Context) -> Outcome:
        with own_writes():
            raise OSError(errno.ENOSPC, "No space left on device")

    run = drive(workflow(fan_out(range(3), on_error="continue")), no_room, tmp_path)
    assert ("interrupted", "disk full") == (run.status, run.driver.state.progress.reason)
    assert "cancelled" == run.ended("map:item:0").status


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_an_error_of_the_system_that_a_task_raises_is_its_failure(tmp_path: Path, number: int) -> None:
    """What it writes where is its own affair; the others go on."""

    def odd(task: Task, context: Context) -> Outcome:
        if task.index == 1:
            raise OSError(number, "mine")
        return completed(task.index)

    run = drive(workflow(fan_out(range(3), on_error="continue")), odd, tmp_path)
    assert ("failed", [0, None, 2]) == (run.status, run.results("map"))
    error = run.ended("map:item:1").error
    assert error is not None
    assert error.message.endswith(f"[Errno {number}] mine")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (completed({1, 2}), "returned set, which cannot be kept"),  # type: ignore[arg-type]
        (completed([{"a": object()}]), "returned object at [0]['a'], which cannot be kept"),
        (completed({"n": 10**5000}), "returned an integer of 16610 bits at ['n'], which cannot be kept"),
        (Outcome("great"), "ended 'great', which is none of aborted, cancelled, completed"),  # type: ignore[arg-type]
        (Outcome("failed", error=Failure("error", object())), "ended with the error Failure(kind='error'"),  # type: ignore[arg-type]
        (None, "gave None, and no nbflow.outcome.Outcome"),
    ],
)
def test_what_a_runner_gives_and_nobody_can_keep_is_its_failure(tmp_path: Path, given: Any, words: str) -> None:
    """The others' work is kept, and what is written can be read."""

    def odd(task: Task, context: Context) -> Outcome:
        return given if task.index == 1 else completed((task.index,))  # type: ignore[arg-type, no-any-return]

    run = drive(workflow(fan_out(range(3), on_error="continue")), odd, tmp_path)
    error = run.ended("map:item:1").error
    assert error is not None
    assert "output" == error.kind
    assert error.message.startswith(words)
    assert ("failed", [[0], None, [2]]) == (run.status, run.results("map"))
    lines = [line for line in map(encode, run.ledger.events) if line is not None]
    assert len(lines) == len([decode(line) for line in lines])


def test_cancel_interrupts_what_runs_and_starts_nothing_new(tmp_path: Path) -> None:
    """Tasks that listen end at once; the rest never begins."""
    run = make(workflow(fan_out(range(9), max_concurrency=Literal(3))), listen, tmp_path)
    run.driver.start()
    waiting(run, lambda: len(run.driver.state.progress.active) == 3)
    run.driver.cancel("Ctrl-C")
    finish(run)
    assert ("interrupted", "Ctrl-C") == (run.status, run.driver.state.progress.reason)
    assert 3 == sum(isinstance(event, NodeStarted) for event in run.told)


def test_a_command_from_outside_cancels(tmp_path: Path) -> None:
    """The ledger brings the word ``cancel``; an unknown word is warned about."""
    ledger = Memory(words=[Instruction("dance")])
    run = make(workflow(fan_out(range(3))), listen, tmp_path, ledger=ledger)
    run.driver.start()
    waiting(run, lambda: any(isinstance(event, Warned) for event in run.told))
    ledger.words.append(Instruction("cancel"))
    finish(run)
    assert ("interrupted", "nbflow cancel") == (run.status, run.driver.state.progress.reason)
    (warning,) = [event.message for event in run.told if isinstance(event, Warned)]
    assert "'dance'" in warning


def test_a_task_that_never_listens_is_given_up(tmp_path: Path) -> None:
    """After interrupt, kill and the last wait the run ends without it, and its late end changes nothing."""
    release = threading.Event()

    def deaf(task: Task, context: Context) -> Outcome:
        release.wait(30)
        return completed("late")

    run = make(workflow(fan_out(range(2), max_concurrency=Literal(2))), deaf, tmp_path, **SHORT)
    run.driver.start()
    waiting(run, lambda: len(run.driver.state.progress.active) == 2)
    run.driver.cancel()
    finish(run)
    release.set()
    assert "interrupted" == run.status
    assert ["cancelled", "cancelled"] == [run.ended(f"map:item:{i}").status for i in range(2)]


def test_a_second_cancel_kills_at_once(tmp_path: Path) -> None:
    """A task that waits for the kill need not wait for the grace time."""
    killed = threading.Event()

    def stubborn(task: Task, context: Context) -> Outcome:
        asked = threading.Event()
        context.stop.listen(lambda: killed.set() if context.stop.kill else asked.set())
        assert killed.wait(30)
        return Outcome("cancelled")

    run = make(workflow(FakeStep(id="one")), stubborn, tmp_path, grace={"cancel": 1000.0, "timeout": 1000.0})
    run.driver.start()
    waiting(run, lambda: len(run.driver.state.progress.active) == 1)
    run.driver.cancel()
    run.driver.cancel(now=True)
    finish(run)
    assert "interrupted" == run.status


def test_a_task_whose_time_is_up_fails_with_the_kind_timeout(tmp_path: Path) -> None:
    """It is interrupted; the other items go on."""

    def slow_second(task: Task, context: Context) -> Outcome:
        return listen(task, context) if task.index == 1 else completed(task.index)

    step = FakeStep(id="fit", timeout=0.05, parameters=ItemParameters())
    run = drive(workflow(fan_out(range(3), step, on_error="continue")), slow_second, tmp_path)
    assert ("failed", [0, None, 2]) == (run.status, run.results("map"))
    error = run.ended("map:fit:1").error
    assert error is not None
    assert "timeout" == error.kind


def test_a_task_that_hangs_past_its_time_frees_its_worker(tmp_path: Path) -> None:
    """With one worker the next item runs although the thread of the first never comes back."""
    release = threading.Event()

    def deaf_first(task: Task, context: Context) -> Outcome:
        if task.index == 0:
            release.wait(30)
        return completed(task.index)

    step = FakeStep(id="fit", timeout=0.2, parameters=ItemParameters())
    run = drive(workflow(fan_out(range(3), step, on_error="continue"), max_workers=1), deaf_first, tmp_path, **SHORT)
    release.set()
    assert [None, 1, 2] == run.results("map")
    error = run.ended("map:fit:0").error
    assert error is not None
    assert ("timeout", "no time left after 0.2 s; it did not stop when asked to") == (error.kind, error.message)


def test_the_late_end_of_a_lost_attempt_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    """The first attempt comes back while the second is at work; the second counts."""
    release, back = threading.Event(), threading.Event()

    def twice(task: Task, context: Context) -> Outcome:
        if task.attempt == 1:
            assert release.wait(30)
            back.set()
            return completed("first")
        release.set()
        assert back.wait(30)
        time.sleep(0.05)  # the first attempt's thread puts its end into the inbox meanwhile
        return completed("second")

    step = FakeStep(id="fit", timeout=0.2, retry=Retry(attempts=2, on=("timeout",)))
    run = drive(workflow(step), twice, tmp_path, grace={"cancel": 0.05, "timeout": 0.05}, last=0.05)
    assert ("completed", "second", 2) == (run.status, run.ended("fit").output, run.ended("fit").attempts)


def test_the_time_of_the_run_ends_all_that_runs(tmp_path: Path) -> None:
    """A run whose time is up has failed with the kind timeout."""
    flow = replace(workflow(fan_out(range(4), max_concurrency=Literal(2))), timeout=0.1)
    run = drive(flow, listen, tmp_path)
    assert "failed" == run.status
    error = run.driver.state.progress.error
    assert error is not None
    assert ("timeout", "no time left after 0.1 s") == (error.kind, error.message)


def test_the_time_of_a_container_ends_what_is_in_it(tmp_path: Path) -> None:
    """The fan-out fails with the kind timeout; what stands beside it goes on."""
    slow = replace(fan_out(range(4)), timeout=0.1, continue_on_error=True)

    def slow_items(task: Task, context: Context) -> Outcome:
        return listen(task, context) if task.index is not None else completed("fine")

    run = drive(workflow(slow, FakeStep(id="last")), slow_items, tmp_path)
    error = run.ended("map").error
    assert error is not None
    assert ("completed", "timeout", "fine") == (run.status, error.kind, run.ended("last").output)


def test_a_retry_waits_its_delay_and_holds_no_worker(tmp_path: Path) -> None:
    """While the first item rests, the one worker runs the others."""
    order: list[tuple[int | None, int]] = []

    def flaky(task: Task, context: Context) -> Outcome:
        order.append((task.index, task.attempt))
        return failed("start", "no kernel") if (task.index, task.attempt) == (0, 1) else completed(task.index)

    step = FakeStep(id="fit", retry=Retry(attempts=2, delay=0.3, jitter=False))
    flow = workflow(fan_out(range(3), step, max_concurrency=Literal(3)), max_workers=1)
    run = drive(flow, flaky, tmp_path)
    assert [(0, 1), (1, 1), (2, 1), (0, 2)] == order
    (rest,) = [event for event in run.told if isinstance(event, AttemptFailed)]
    assert (0.3, 2) == (rest.delay, run.ended("map:fit:0").attempts)


def test_a_paused_run_starts_nothing_until_it_goes_on(tmp_path: Path) -> None:
    """What runs ends; the rest waits."""
    gate, begun = threading.Event(), threading.Event()

    def first_waits(task: Task, context: Context) -> Outcome:
        begun.set()
        assert gate.wait(30)
        return completed(task.index)

    run = make(workflow(fan_out(range(3))), first_waits, tmp_path)
    run.driver.start()
    assert begun.wait(30)
    run.driver.pause()
    gate.set()
    waiting(run, lambda: run.driver.state.progress.ended == 1)
    run.driver.note(Warned(0.0, None, "still here"))  # is told after all that came before it
    waiting(run, lambda: any(isinstance(event, Warned) for event in run.told))
    assert 1 == sum(isinstance(event, NodeStarted) for event in run.told)
    run.driver.unpause()
    assert [0, 1, 2] == finish(run).results("map")


class WordlessError(Exception):
    """Cannot say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ValueError("x" * 10_000_000), "ValueError: " + "x" * 599 + "…"),
        (WordlessError(), "WordlessError: its text cannot be had: RuntimeError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyError(), "KeyError"),
    ],
)
def test_whatever_a_task_raises_fails_it_in_a_few_words(problem: BaseException, message: str, tmp_path: Path) -> None:
    """The journal keeps at most 20,000 characters of the traceback: its beginning and its end."""

    def fails(task: Task, context: Context) -> Outcome:
        raise problem

    run = drive(workflow(FakeStep(id="fails")), fails, tmp_path)
    error = run.driver.state.nodes["fails",].outcome.error
    assert error is not None
    assert message == error.message
    assert 20_100 > len(error.traceback or "")
    assert (error.traceback or "").startswith("Traceback")


def test_a_warning_is_told_once(tmp_path: Path) -> None:
    """Five items warn of the same; a person reads it once, with the first item that it is about."""

    def warn(task: Task, context: Context) -> Outcome:
        return Outcome("completed", warnings=("figure cannot be saved",))

    run = drive(workflow(fan_out(range(5))), warn, tmp_path)
    assert ["item item=0: figure cannot be saved"] == [event.message for event in run.told if isinstance(event, Warned)]


def test_items_that_write_the_same_file_at_once_are_warned_about(tmp_path: Path) -> None:
    """The warning names the file and both items."""
    barrier = threading.Barrier(2)

    def write(task: Task, context: Context) -> Outcome:
        barrier.wait(30)
        return Outcome("completed", wrote=("model.pkl",))

    run = drive(workflow(fan_out(["Oslo", "Lima"], max_concurrency=Literal(2))), write, tmp_path)
    (message,) = [event.message for event in run.told if isinstance(event, Warned)]
    for part in ("Oslo", "Lima", "model.pkl", "--cwd item"):
        assert part in message


def test_a_driver_that_fails_itself_tells_the_caller(tmp_path: Path) -> None:
    """The exception is kept, what runs is asked to stop, and nobody waits for ever."""
    stopped = threading.Event()

    def until_killed(task: Task, context: Context) -> Outcome:
        if task.index == 0:
            end = threading.Event()
            context.stop.listen(end.set)
            assert end.wait(30)
            stopped.set()
        return completed()

    def tell(event: Event) -> None:
        if isinstance(event, NodeFinished):
            raise RuntimeError("a bug")

    run = make(workflow(fan_out(range(2), max_concurrency=Literal(2))), until_killed, tmp_path, tell=tell)
    run.driver.start()
    assert run.driver.done.wait(30)
    assert "a bug" == str(run.driver.crashed)
    assert stopped.wait(30)


def test_a_straggler_first_in_line_holds_up_nobody(tmp_path: Path) -> None:
    """Item 0 ends when all others have: a free place is filled as soon as any item ends."""
    ended = threading.Semaphore(0)

    def straggler(task: Task, context: Context) -> Outcome:
        if task.index == 0:
            for _ in range(15):
                assert ended.acquire(timeout=20), "item 0 was waited for"
        else:
            ended.release()
        return completed(task.index)

    run = drive(workflow(fan_out(range(16), max_concurrency=Literal(2))), straggler, tmp_path)
    assert [*range(16)] == run.results("map")


def test_threads_have_names_that_say_whose_they_are(tmp_path: Path) -> None:
    """A thread dump of a stuck process can be read, and no thread is left behind."""
    names: set[str] = set()

    def note(task: Task, context: Context) -> Outcome:
        names.update(thread.name for thread in threading.enumerate())
        assert threading.current_thread().daemon
        return completed()

    drive(workflow(fan_out(range(4), max_concurrency=Literal(2))), note, tmp_path)
    assert "nbflow-driver" in names
    assert any(name.startswith("nbflow-worker") for name in names)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("nbflow") and thread.name in names]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


def test_a_hanging_task_does_not_keep_the_process(tmp_path: Path) -> None:
    """The process ends although a worker never comes back."""
    script = """
import sys, threading
from pathlib import Path
from nbflow.outcome import completed
from nbflow.testing import FakeStep, workflow
from tests.runs import make

begun = threading.Event()

def hang(task, context):
    begun.set()
    threading.Event().wait()

run = make(workflow(FakeStep(id="one")), hang, Path(sys.argv[1]))
run.driver.start()
assert begun.wait(20)
print("over")
"""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30, cwd=root, check=False
    )
    assert ("over\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_an_item_that_does_nothing_costs_little(tmp_path: Path) -> None:
    """Threads and machine, without a journal; ten times what is aimed at, since test machines are busy."""
    count = 2000
    began = time.perf_counter()
    drive(workflow(fan_out(range(count), max_concurrency=Literal(4))), item, tmp_path)
    assert (time.perf_counter() - began) / count < 1.5e-3


@pytest.mark.parametrize("reason", ["cancel", "timeout"])
def test_the_grace_is_that_of_the_reason(reason: str) -> None:
    """Three seconds after a cancel, ten after a time-out."""
    from nbflow.driver import GRACE

    assert {"cancel": 3.0, "timeout": 10.0} == dict(GRACE)
    assert reason in GRACE
    assert Driver.last == 1.0
