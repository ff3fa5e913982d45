"""Room: a task starts where there is memory for it, and one that is tried again may have the run for itself."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbflow
from nbflow import driver
from nbflow.api.reading import locate
from nbflow.engine.machine import Machine
from nbflow.engine.protocol import Begin, Cancel, Measure, Measured, Start, TaskEnded, TimerFired
from nbflow.events import AttemptFailed, Event, NodeFinished, NodeStarted, Warned
from nbflow.memory import Room, room, whole
from nbflow.model import Block, Literal, NodeId, Retry, Step, Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.steps import FanOut
from nbflow.task import Context, Task
from nbflow.testing import FakeStep, ItemParameters, Simulated, fan_out, records, simulate, testing_kinds, workflow
from tests.reference import layout, mean
from tests.runs import drive, make
from tests.strategies import Maker, acting, answering, check_equal, steady

ROOM = 100
"""Bytes for all tasks of the random runs."""
ALONE = Retry(attempts=3, on=("memory",), alone=True)


def items(count: int, memory: int | None = None, retry: Retry = ALONE, **keys: Any) -> FanOut:
    """Give a fan-out whose items need so much memory."""
    step = FakeStep(id="item", parameters=ItemParameters(), memory=memory, retry=retry)
    return fan_out(range(count), step, max_concurrency=Literal(count), **keys)


def at_work(events: Sequence[Event]) -> list[int]:
    """Give how many tasks are at work after each event."""
    work: set[NodeId] = set()
    found = []
    for event in events:
        if isinstance(event, NodeStarted):
            work.add(event.node)
        elif isinstance(event, (NodeFinished, AttemptFailed)):
            work.discard(event.node)
        found.append(len(work))
    return found


# -- what always holds -------------------------------------------------------------------------------------------


def greedy(flow: Workflow, random: Random) -> Workflow:
    """Give the workflow with tasks that need memory, some of them more than there is, and are tried again alone."""

    def grow(step: Step) -> Step:
        if isinstance(step, FanOut):
            return replace(step, body=Block([grow(one) for one in step.body.steps]))
        if not isinstance(step, FakeStep):
            return step
        alone = replace(step.retry, alone=bool(random.randint(0, 1)))
        return replace(step, memory=random.choice([None, 1, 20, 40, 60, 100, 150]), retry=alone)

    return replace(flow, block=Block([grow(step) for step in flow.block.steps]), max_workers=random.randint(1, 6))


def used(node: NodeId) -> int:
    """Give what a task uses while it is at work."""
    return zlib.crc32(node_text(node).encode()) % 70


class Watch:
    """Looks at events one by one: who is at work, and whether it may be."""

    def __init__(self, flow: Workflow, before: Simulated | None = None) -> None:
        places = layout(flow).places
        self.step: Callable[[NodeId], Any] = lambda node: places[node_text(node)].step
        self.work: dict[NodeId, bool] = {}
        self.seen: set[NodeId] = set()
        self.retried: set[str] = records(before).to_retry if before is not None else set()  # type: ignore[assignment]  # it is a set
        self.together = 0

    def all(self, run: Simulated) -> Watch:
        """Look at all events of a run; of what tasks use is known what was measured."""
        looks = set(run.looks)
        for place, event in enumerate(run.events):
            if place in looks:
                self.seen = set(self.work)
            match event:
                case NodeStarted():
                    self._started(event)
                case AttemptFailed():
                    del self.work[event.node]
                    self.seen.discard(event.node)
                    self.retried.add(event.key)
                case NodeFinished(leaf=True):
                    self.work.pop(event.node, None)
                    self.seen.discard(event.node)
                    self.retried.discard(event.key)
                case _:
                    pass
        return self

    def _started(self, event: NodeStarted) -> None:
        step = self.step(event.node)
        alone = step.retry.alone and event.key in self.retried
        assert not any(self.work.values()), f"{event.node} started beside one that is to be alone"
        assert not (alone and self.work), f"{event.node} is to be alone, and {list(self.work)} are at work"
        taken = sum(max(self.step(node).memory or 0, used(node) * (node in self.seen)) for node in self.work)
        assert not self.work or taken + (step.memory or 0) <= ROOM, "above the limit"
        self.together += bool(self.work)
        self.work[event.node] = alone


def measured(tasks: Sequence[Task]) -> tuple[Mapping[NodeId, int], int]:
    """Give what these tasks use, and what there is."""
    return {task.node: used(task.node) for task in tasks}, ROOM


def holds(random: Random) -> tuple[int, int]:
    """Whatever ends when: never above the limit unless alone, never stuck, alone is alone; also over crash and cancel.

    Gives how many tasks ran, and how many started beside others.
    """
    flow = greedy(Maker(random).workflow(), random)
    acts = steady(acting(random.randint(0, 10**6), one_in=4), layout(flow))
    any_of = lambda count: random.randrange(count)  # noqa: E731 - a choice of what ends next
    cut: dict[str, Any] = random.choice(
        [{}, {"cut_after": random.randint(0, 40)}, {"cancel_after": random.randint(0, 9)}]
    )
    answer = answering(acts)
    first = simulate(flow, answer, choose=any_of, measure=measured, **cut)
    seen = Watch(flow).all(first)
    assert first.outcome is not None or "cut_after" in cut
    second = simulate(flow, answer, choose=any_of, measure=measured, recorded=records(first))
    again = Watch(flow, first).all(second)
    if not cut:
        check_equal(mean(flow, acts), first)
    check_equal(mean(flow, acts), second)
    return len(first.started) + len(second.started), seen.together + again.together


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.randoms(use_true_random=False))
def test_memory_is_kept_in_every_workflow(random: Random) -> None:
    """In random workflows, with random ends."""
    holds(random)


def test_memory_is_kept_in_workflows_of_all_sizes() -> None:
    """Drawn evenly, for those of Hypothesis are mostly small; many start side by side, and many are tried again."""
    found = [holds(Random(seed)) for seed in range(150)]
    assert max(tasks for tasks, _ in found) >= 20
    assert sum(together for _, together in found) >= 100


# -- one rule after the other ------------------------------------------------------------------------------------


class Moves:
    """A machine that is moved step by step, and the tasks that it has started."""

    def __init__(self, flow: Workflow, *, limited: bool = True, **more: Any) -> None:
        self.machine = Machine(flow, kinds=testing_kinds, limited=limited, **more)
        self.running: list[str] = []
        self.warned: list[str] = []
        self.asked = False
        self.timers: list[Any] = []

    def __call__(self, stimulus: Any) -> list[str]:
        """Give who is at work after that."""
        if isinstance(stimulus, TaskEnded):
            self.running.remove(node_text(stimulus.node))
        commands = self.machine.handle(stimulus, 0.0)
        self.running += [node_text(one.task.node) for one in commands if isinstance(one, Start)]
        self.warned += [one.message for one in commands if isinstance(one, Warned)]
        self.timers += [one for one in commands if type(one).__name__ == "SetTimer"]
        self.asked = any(isinstance(one, Measure) for one in commands)
        return [name.rpartition(":")[2] for name in self.running]

    def end(self, name: str, outcome: Outcome | None = None) -> list[str]:
        """Let a task end."""
        return self(TaskEnded((name,), outcome or completed()))


def test_the_first_starts_unasked_and_the_others_after_a_look() -> None:
    """As many as there is room for, by what they say; a task that ends makes room for the next."""
    run = Moves(workflow(items(4, memory=40), max_workers=4))
    assert ["0"] == run(Begin())
    assert run.asked
    assert ["0", "1"] == run(Measured({}, 100))
    assert run.machine.short
    assert ["1"] == run.end("map:item:0"), "nobody knows how memory stands now"
    assert run.asked
    assert ["1", "2"] == run(Measured({}, 100))
    assert ["2"] == run.end("map:item:1")
    assert ["3"] == run.end("map:item:2"), "with nothing at work it starts at once"
    assert ["starts wait for memory: tasks at work use or reserve 0 kB of 0 kB"] == run.warned, "once in a run"


def test_what_a_task_uses_counts_where_it_is_more_than_it_said() -> None:
    """And what it said where that is more; when memory falls the next one starts without any task having ended."""
    run = Moves(workflow(items(3, memory=20), max_workers=4))
    run(Begin())
    zero, one = ("map:item:0",), ("map:item:1",)
    assert ["0"] == run(Measured({zero: 81}, 100))
    assert run.machine.short
    assert ["0", "1"] == run(Measured({zero: 70}, 100))
    assert ["0", "1", "2"] == run(Measured({zero: 50, one: 30}, 100))
    assert not run.machine.short


def test_a_task_that_says_nothing_waits_only_for_a_limit() -> None:
    """Without a limit it is not held back; under one it needs nothing for itself, and what the others use counts."""
    assert ["0", "1", "2"] == Moves(workflow(items(3)), limited=False)(Begin())
    run = Moves(workflow(items(3)))
    assert ["0"] == run(Begin())
    assert ["0"] == run(Measured({("map:item:0",): 101}, 100))
    assert ["0", "1", "2"] == run(Measured({("map:item:0",): 100}, 100))


def test_a_task_larger_than_all_room_runs_when_nothing_else_does() -> None:
    """And nothing starts beside it."""
    run = Moves(workflow(items(2, memory=1000)))
    assert ["0"] == run(Begin())
    assert ["0"] == run(Measured({}, 100))
    assert ["1"] == run.end("map:item:0")


def test_nothing_overtakes_a_task_that_waits_for_memory() -> None:
    """Neither the next items, nor steps behind it that need nothing."""
    large, small = FakeStep(id="large", needs=(), memory=60), FakeStep(id="small", needs=())
    run = Moves(workflow(FakeStep(id="first", needs=(), memory=60), large, small), limited=False)
    assert ["first"] == run(Begin())
    assert ["first"] == run(Measured({}, 100))
    assert ["large", "small"] == run.end("first")


def test_a_cancel_ends_what_waits() -> None:
    """For memory, and for being alone: nothing starts any more."""
    run = Moves(workflow(items(3, memory=60, on_error="continue")))
    run(Begin())
    assert ["0"] == run(Measured({}, 100))
    run(Cancel())
    assert [] == run.end("map:item:0", Outcome("cancelled"))
    run = Moves(workflow(items(3, on_error="continue")), limited=False)
    run(Begin())
    run.end("map:item:1", failed("memory", "too much"))
    assert ["0", "2"] == run(TimerFired(run.timers[0]))
    run(Cancel())
    assert ["2"] == run.end("map:item:0", Outcome("cancelled"))
    assert [] == run.end("map:item:2", Outcome("cancelled"))


def test_a_task_that_is_tried_again_alone_waits_for_the_others_and_they_for_it() -> None:
    """Until nothing else runs; then nothing else starts, though there are workers."""
    run = Moves(workflow(items(6, on_error="continue"), max_workers=3), limited=False)
    assert ["0", "1", "2"] == run(Begin())
    assert ["0", "2", "3"] == run.end("map:item:1", failed("memory", "too much")), "not before its delay is over"
    assert ["0", "2", "3"] == run(TimerFired(run.timers[0]))
    assert ["2", "3"] == run.end("map:item:0"), "nothing starts that would keep it waiting"
    assert ["3"] == run.end("map:item:2")
    assert ["1"] == run.end("map:item:3")
    assert ["4", "5"] == run.end("map:item:1", failed("memory", "too much")), "the others go on while it rests"
    assert ["4", "5"] == run(TimerFired(run.timers[1]))
    run.end("map:item:4")
    assert ["1"] == run.end("map:item:5")


def test_a_driver_that_is_killed_between_two_attempts_tries_again_alone() -> None:
    """Also when it is killed during the second one; what it only cut off starts beside others."""
    flow = workflow(items(4, on_error="continue"))

    def answer(task: Task) -> Outcome:
        return failed("memory", "too much") if task.index == 1 and task.attempt < 3 else completed()

    whole = simulate(flow, answer)
    for cut in range(len(whole.events) + 1):
        first = simulate(flow, answer, cut_after=cut)
        second = simulate(flow, answer, recorded=records(first))
        Watch(flow, first).all(second)
        assert "completed" == second.finished("map").status
    begun = simulate(flow, answer, cut_after=5)
    assert 4 == simulate(flow, lambda task: completed(), recorded=records(begun)).most_running


def test_room_is_what_was_said_or_what_there_is() -> None:
    """A size, a share of the machine, or what tasks use with what is free."""
    assert ({}, 2_000_000_000) == room("2GB")([])
    assert ({}, whole() // 2) == room("50%")([])
    using, free = Room()([])
    assert {} == using
    assert 0 < free <= whole()


def test_the_limit_of_a_run_stays_over_resumes(folder: Path) -> None:
    """Until another is given, or its file says another; an option counts for more than the file."""
    said = "nbflow: 1\nmax_memory: 3GB\nsteps: [{id: no, run: 'false'}]\n"
    (folder / "no.yml").write_text(said)

    def limit() -> object:
        return locate("no.yml").definition.max_memory

    nbflow.run("no.yml", quiet=True)
    assert "3GB" == limit()
    nbflow.run("no.yml", max_memory="1GB", quiet=True)
    assert "1GB" == limit()
    nbflow.resume("no.yml", quiet=True)
    assert "1GB" == limit()
    nbflow.resume("no.yml", max_memory="50%", quiet=True)
    assert "50%" == limit()
    (folder / "no.yml").write_text(said.replace("3GB", "4GB"))
    nbflow.resume("no.yml", quiet=True)
    assert "4GB" == limit()


# -- in a driver -------------------------------------------------------------------------------------------------


def test_a_driver_looks_at_the_processes_of_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What their runners say; while one uses all the room the other waits and starts when that has ended."""
    monkeypatch.setattr(driver, "LOOK", 0.05)
    looked, over = threading.Event(), []

    def measure(pids: Sequence[int]) -> tuple[dict[int, int], int]:
        if not pids:
            return {}, 60
        looked.set()
        return dict.fromkeys(pids, 101), 150  # what they say would fit into it

    def act(task: Task, context: Context) -> Outcome:
        if task.index == 0:
            context.began(4711)
            assert looked.wait(30)
        over.append(task.index)
        return completed()

    run = drive(workflow(items(2, memory=50)), act, tmp_path, measure=measure)
    assert [0, 1] == over
    assert "completed" == run.status


def test_a_start_that_was_held_back_follows_when_memory_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task has ended by then; who waits is not said to have started."""
    monkeypatch.setattr(driver, "LOOK", 0.05)
    second, looks = threading.Event(), []

    def measure(pids: Sequence[int]) -> tuple[dict[int, int], int]:
        looks.append([e.index for e in run.ledger.events if isinstance(e, NodeStarted)])
        return {}, 100 if len(looks) < 4 else 200

    def act(task: Task, context: Context) -> Outcome:
        if task.index == 0:
            assert second.wait(30)
        second.set()
        return completed()

    run = make(workflow(items(2, memory=60)), act, tmp_path, measure=measure)
    run.driver.start()
    assert run.driver.done.wait(30)
    assert [[0]] * 4 == looks, "and nobody looks when nothing is held back"
    assert [0, 1] == [e.index for e in run.ledger.events if isinstance(e, NodeStarted)]
    assert 1 == len(run.driver.state.progress.warnings)


def test_a_resume_tries_alone_what_was_to_be_tried_alone(folder: Path) -> None:
    """The run was cancelled while the item waited for its second attempt; the others start beside each other."""
    step = nbflow.Shell(
        id="fit",
        run='test "$N" != 2 || test -e ok || exit 1; sleep 0.2',  # so long is each of them at work
        env={"N": "{{ item }}"},
        retry=nbflow.Retry(attempts=2, on=["error"], delay="1h", alone=True),
    )
    fan = nbflow.FanOut(id="each", items=[1, 2, 3, 4, 5, 6], max_concurrency=3, step=step)

    def cancel(event: Event) -> None:
        if isinstance(event, AttemptFailed):
            nbflow.cancel("alone")

    flow = nbflow.Workflow(name="alone", steps=[fan], max_workers=3)
    assert "interrupted" == nbflow.run(flow, quiet=True, on_event=cancel).status
    Path("ok").touch()
    events: list[Event] = []
    nbflow.resume("alone", quiet=True, on_event=events.append).check()
    second = next(i for i, event in enumerate(events) if isinstance(event, NodeStarted) and event.index == 1)
    ends = next(i for i, event in enumerate(events) if i > second and isinstance(event, NodeFinished))
    assert {1} == set(at_work(events)[second:ends])
    assert 3 == max(at_work(events))


# -- with real kernels -------------------------------------------------------------------------------------------

HOLD = """\
import os, time
x = bytearray(b"1" * 200_000_000)
"""


def test_kernels_that_hold_200_mb_keep_within_the_limit(notebook: Callable[..., Path]) -> None:
    """Two have room, a third has not; all of them run in the end, and it is told once why they waited."""
    events: list[Event] = []
    path = notebook(HOLD, results="square = len(x)")
    run = nbflow.map(
        path,
        grid={"n": [1, 2, 3]},
        max_concurrency=3,
        memory="300MB",
        max_memory="650MB",
        quiet=True,
        on_event=events.append,
    )
    assert [200_000_000] * 3 == [item["square"] for item in run.check().results]
    assert 2 == max(at_work(events))
    assert ["starts wait for memory: tasks at work use or reserve 600 MB of 650 MB"] == [
        warning.message for warning in run.warnings
    ]


def test_a_kernel_that_lets_go_of_memory_lets_the_next_one_start(notebook: Callable[..., Path]) -> None:
    """It holds 200 MB until the next one was held back, lets go of them, and waits for the next one to run."""
    waits = "while not os.path.exists({!r}): time.sleep(0.01)\n"
    lets_go = f"{HOLD}open('holds', 'w').close()\n{waits.format('free')}del x\n{waits.format('ran')}"
    notebook(lets_go, parameters=None, results=None, name="large.ipynb")
    notebook("open('ran', 'w').close()", parameters=None, results=None, name="next.ipynb")
    steps: list[Any] = [
        nbflow.Notebook(id="large", notebook="large.ipynb", needs=[], memory="1MB", timeout="60s"),
        nbflow.Shell(id="holds", needs=[], run="until test -e holds; do sleep 0.01; done", timeout="60s"),
        nbflow.Notebook(id="next", notebook="next.ipynb", needs=["holds"], memory="150MB"),
    ]

    def free(event: Event) -> None:
        if isinstance(event, Warned):
            Path("free").touch()

    flow = nbflow.Workflow(name="frees", max_memory="350MB", max_workers=3, steps=steps)
    run = nbflow.run(flow, quiet=True, on_event=free).check()
    assert 1 == len(run.warnings)


def test_an_item_that_ran_out_of_memory_is_tried_again_alone(notebook: Callable[..., Path]) -> None:
    """Three at a time; one has no memory beside others, and has it when it is alone."""
    events: list[Event] = []
    notebook(
        "import os\nif n == 1 and not os.path.exists('tried'):\n    open('tried', 'w').close()\n"
        "    raise MemoryError('too much')"
    )
    step = nbflow.Notebook(
        id="fit",
        notebook="work.ipynb",
        parameters={"n": "{{ item }}"},
        retry=nbflow.Retry(attempts=2, on=["memory"], alone=True),
    )
    fan = nbflow.FanOut(id="each", items=[0, 1, 2, 3], max_concurrency=3, step=step)
    run = nbflow.run(nbflow.Workflow(name="alone", steps=[fan]), max_workers=3, quiet=True, on_event=events.append)
    assert [0, 1, 4, 9] == [one["square"] for one in run.check().results["each"]["results"]]
    failure = next(event.outcome.error for event in events if isinstance(event, AttemptFailed))
    assert failure is not None
    assert ("memory", "MemoryError: too much") == (failure.kind, failure.message)
    begins = next(i for i, event in enumerate(events) if isinstance(event, NodeStarted) and event.attempt == 2)
    ends = next(i for i, event in enumerate(events) if i > begins and isinstance(event, NodeFinished))
    assert 3 == max(at_work(events))
    assert {1} == set(at_work(events)[begins:ends])
