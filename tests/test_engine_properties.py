"""What holds for every workflow and every interleaving, told by an independent interpreter."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from nbflow.engine.recorded import Recorded
from nbflow.events import AttemptFailed, Event, NodeFinished, NodeStarted, RunStarted
from nbflow.model import Block, Literal, Step, Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.state import fold
from nbflow.steps import FanOut
from nbflow.store.journal import decode, encode
from nbflow.store.journal import records as journal_records
from nbflow.task import Task
from nbflow.testing import FakeStep, Simulated, fan_out, records, simulate, workflow
from tests.reference import Layout, layout, mean
from tests.strategies import Maker, Watch, acting, answering, check_equal, ends, steady

randoms = st.randoms(use_true_random=False)
often = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def any_of(random: Random) -> Any:
    """Give a choice of the task that ends next."""
    return lambda count: random.randrange(count)


def made(random: Random, **limits: Any) -> tuple[Workflow, Any]:
    """Give a workflow and how its tasks act, so that retries end the same over crashes."""
    flow = Maker(random, **limits).workflow()
    return flow, steady(acting(random.randint(0, 10**6)), layout(flow))


# -- the rules, each as a function of a source of random numbers --------------------------------------


def equals_one_worker(random: Random, **limits: Any) -> int:
    """Any interleaving gives what one worker gives, within windows and workers, and nothing starts behind a halt."""
    flow, acts = made(random, **limits)
    run = simulate(flow, answering(acts), choose=any_of(random))
    check_equal(mean(flow, acts), run)
    assert run.most_running <= flow.max_workers
    Watch(layout(flow)).all(run.events)
    return len(run.started)


def one_worker_is_the_order(random: Random, **limits: Any) -> int:
    """One worker starts the tasks in the order of the meaning."""
    flow, acts = made(random, retries=False, **limits)
    run = simulate(flow, answering(acts), max_workers=1)
    meaning = mean(flow, acts)
    assert meaning.starts == [node_text(task.node) for task in run.started]
    assert meaning.nodes == ends(run)
    return len(run.started)


def journal_says_the_state(random: Random, **limits: Any) -> int:
    """The journal's lines fold to the live state, kept nodes apart."""
    flow, acts = made(random, **limits)
    first = simulate(flow, answering(acts), choose=any_of(random), cut_after=random.randint(0, 40))
    began = RunStarted(0.0, "run", "test", 1, {}, 2)
    run = simulate(flow, answering(acts), choose=any_of(random), recorded=records(first))
    events: list[Event] = [began, *run.events]
    lines = [line for one in events if (line := encode(one)) is not None]
    told, live = fold(decode(line) for line in lines), fold(events)
    kept = {node for node, one in live.nodes.items() if one.kept}
    assert {n: _rounded(o) for n, o in live.nodes.items() if n not in kept} == {
        n: _rounded(o) for n, o in told.nodes.items()
    }
    alone = fold(one for one in events if not (isinstance(one, NodeFinished) and one.kept))
    assert (alone.progress.counts, alone.progress.active, alone.progress.total, alone.progress.warnings) == (
        told.progress.counts,
        told.progress.active,
        told.progress.total,
        told.progress.warnings,
    )
    return len(run.started)


def _rounded(one: NodeFinished) -> tuple[Any, ...]:
    """Give what a line keeps of a node's end: the output of a container is computed again from its parts."""
    outcome = one.outcome
    output = outcome.output if one.leaf else None
    return one.node, one.key, one.leaf, outcome.status, output, outcome.error, outcome.attempts, one.label, one.index


def crash_changes_nothing(random: Random, **limits: Any) -> int:
    """After crashes at any event, a resume gives the uninterrupted run, and nothing recorded runs again."""
    flow, acts = made(random, **limits)
    whole = mean(flow, acts)
    runs: list[Simulated] = []
    for epoch in range(3):
        known = records(*runs)
        cut = random.randint(0, 60) if epoch < 2 else None
        run = simulate(flow, answering(acts), choose=any_of(random), recorded=known, cut_after=cut)
        done = {key for key, record in known.answers.items() if record.outcome.status == "completed"}
        assert set() == done & {task.key for task in run.started}
        _check_attempts(flow, run, known)
        Watch(layout(flow)).all(run.events)
        runs.append(run)
        if run.outcome is not None:
            check_equal(whole, run)
            break
    return sum(len(run.started) for run in runs)


def _check_attempts(flow: Workflow, run: Simulated, known: Recorded) -> None:
    """Attempts that a crash cut off count against the policy; one try is always given."""
    steps = {task.key: task.step for task in run.started}
    for key, count in Counter(task.key for task in run.started).items():
        assert count <= max(1, steps[key].retry.attempts - known.attempts.get(key, 0))
    numbers = [(task.key, task.attempt) for task in run.started]
    assert len(set(numbers)) == len(numbers)
    for task in run.started:
        record = known.answers.get(task.key)
        before = (record.outcome.attempts if record else 0) + known.attempts.get(task.key, 0)
        assert task.attempt > before


def cancel_changes_nothing(random: Random, **limits: Any) -> int:
    """After a cancel at any moment, a resume gives the uninterrupted run, and nothing recorded runs again."""
    flow, acts = made(random, **limits)
    moment = random.randint(0, 12)
    first = simulate(flow, answering(acts), choose=any_of(random), cancel_after=moment)
    assert first.outcome is not None
    ended = sum(isinstance(one, NodeFinished | AttemptFailed) and not _container(one) for one in first.events)
    assert len(first.started) <= ended
    second = simulate(flow, answering(acts), choose=any_of(random), recorded=records(first))
    done = {key for key, record in records(first).answers.items() if record.outcome.status == "completed"}
    assert set() == done & {task.key for task in second.started}
    check_equal(mean(flow, acts), second)
    return len(first.started) + len(second.started)


def _container(one: Event) -> bool:
    return isinstance(one, NodeFinished) and not one.leaf


def one_more_item_is_one_more_task(random: Random, **limits: Any) -> int:
    """A value put anywhere into the items runs one task; the old list again runs none."""
    items = [random.randint(0, 4) for _ in range(random.randint(0, 8))]
    more = [*items]
    more.insert(random.randint(0, len(items)), random.randint(0, 5))

    def flow(values: list[int]) -> Workflow:
        inner = fan_out([7, 8], id="inner", max_concurrency=Literal(2), item_name="small")
        deep = fan_out(values, inner, id="deep", needs=())
        return workflow(fan_out(values, max_concurrency=Literal(3)), deep)

    def answer(task: Task) -> Outcome:
        return completed(task.key)

    first = simulate(flow(items), answer, choose=any_of(random))
    second = simulate(flow(more), answer, choose=any_of(random), recorded=records(first))
    fresh = [task.node[0].partition(":")[0] for task in second.started]
    assert (1, 2) == (fresh.count("map"), fresh.count("deep"))
    third = simulate(flow(items), answer, choose=any_of(random), recorded=records(first, second))
    assert [] == third.started
    assert ends(first) == ends(third)
    return len(first.started)


def never_stale(random: Random, **limits: Any) -> int:
    """Tasks that talk through files never leave an old file behind, whatever changed and was cancelled."""
    flow = Maker(random, pauses=False, retries=False, broken=False, **limits).workflow()
    disk: dict[str, Any] = {}
    runs: list[Simulated] = []
    count = 0
    for epoch in range(5):
        flow = _edited(flow, random) if epoch else flow
        moment = random.randint(0, 10) if epoch < 4 else None
        runs.append(
            simulate(
                flow, _through_files(disk, flow), choose=any_of(random), recorded=records(*runs), cancel_after=moment
            )
        )
        count += len(runs[-1].started)
    fresh: dict[str, Any] = {}
    anew = simulate(flow, _through_files(fresh, flow), max_workers=1)
    files = {node for node, (status, _) in ends(anew).items() if status == "completed" and node in fresh}
    assert anew.outcome is not None
    assert runs[-1].outcome is not None
    assert (anew.outcome.status, anew.outcome.output) == (runs[-1].outcome.status, runs[-1].outcome.output)
    assert {node: fresh[node] for node in files} == {node: disk.get(node) for node in files}
    again = simulate(flow, _through_files(disk, flow), recorded=records(*runs))
    assert set() == files & {node_text(task.node) for task in again.started}
    return count


def _edited(flow: Workflow, random: Random) -> Workflow:
    """Give the workflow with other code in some of its tasks."""

    def edit(step: Step) -> Step:
        if isinstance(step, FanOut):
            return replace(step, body=Block([edit(one) for one in step.body.steps]))
        return replace(step, code=str(random.randint(0, 2))) if not random.randint(0, 3) else step  # type: ignore[call-arg]  # only fakes are made here

    return replace(flow, block=Block([edit(step) for step in flow.block.steps]))


def _through_files(disk: dict[str, Any], flow: Workflow) -> Any:
    """Give tasks that read all files of what they wait for, and write one of their own."""
    places = layout(flow)

    def acts(node: str, parameters: Any, attempt: int) -> tuple[str, Any, str]:
        return _fate(node, places), parameters, "error"

    def answer(task: Task) -> Outcome:
        node = node_text(task.node)
        read = []
        for group, place in places.places[node].path:
            steps = places.lists.get(group, [])
            for other in range(place) if steps else ():
                if _waits([step for step, _ in steps], place, other):
                    read += [(name, disk.get(name)) for name in places.reached(steps[other][1], acts)]
        assert isinstance(task.step, FakeStep)
        text = repr((task.step.code, task.parameters, sorted(read, key=repr)))
        disk[node] = zlib.crc32(text.encode())
        return completed(task.parameters) if _fate(node, places) == "completed" else failed("error", "boom")

    return answer


def _fate(node: str, places: Layout) -> str:
    """Give how a task ends: a few fail, others after an edit."""
    step = places.places[node].step
    assert isinstance(step, FakeStep)
    return "failed" if zlib.crc32(f"{node}{step.code}".encode()) % 9 == 0 else "completed"


def _waits(steps: list[Step], place: int, other: int) -> bool:
    """Tell whether a step names another one in ``needs``, or stands right behind it in a plain list."""
    needs = steps[place].needs
    return other == place - 1 if needs is None else steps[other].id in needs


RULES = [
    equals_one_worker,
    one_worker_is_the_order,
    journal_says_the_state,
    crash_changes_nothing,
    cancel_changes_nothing,
    one_more_item_is_one_more_task,
    never_stale,
]


# -- the tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_for_every_workflow(rule: Any) -> None:
    """Each rule holds in 200 random workflows."""
    sizes: list[int] = []

    @often
    @given(randoms)
    def check(random: Random) -> None:
        sizes.append(rule(random))
        event(f"tasks: {min(sizes[-1].bit_length(), 6)} bits")

    check()
    assert len(sizes) >= 200


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_for_workflows_of_all_sizes(rule: Any) -> None:
    """Each rule holds in 150 workflows drawn evenly: those of Hypothesis are mostly small."""
    sizes = [rule(Random(seed)) for seed in range(150)]
    assert max(sizes) >= 8
    assert sum(size >= 5 for size in sizes) >= 40, "too few of these runs are deep"


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_at_each_event_of_a_run_repeats_nothing(seed: int) -> None:
    """One workflow, cut after every single event, through the lines of the journal."""
    flow, acts = made(Random(seed), steps=2, items=4)
    answer, whole = answering(acts), mean(flow, acts)
    events = len(simulate(flow, answer, choose=any_of(Random(seed))).events)
    for cut in range(events + 1):
        first = simulate(flow, answer, choose=any_of(Random(seed)), cut_after=cut)
        lines = [line for one in first.events if (line := encode(one)) is not None]
        assert min(cut, events) == len(first.events)
        found = journal_records(decode(line) for line in lines)
        second = simulate(flow, answer, recorded=Recorded(found.answers, found.attempts))
        done = {one.key for one in first.events if isinstance(one, NodeFinished) and one.outcome.status == "completed"}
        assert set() == done & {one.key for one in second.events if isinstance(one, NodeStarted)}
        check_equal(whole, second)


@pytest.mark.long
def test_large_random_workflows_keep_all_rules_for_a_minute() -> None:
    """All rules in workflows of hundreds of tasks."""
    began, sizes, seed = time.monotonic(), [0], 10_000
    while time.monotonic() - began < 60:
        seed += 1
        for rule in RULES:
            try:
                sizes.append(rule(Random(seed), steps=5, items=8, depth=3))
            except AssertionError as problem:
                raise AssertionError(f"{rule.__name__}(Random({seed}), steps=5, items=8, depth=3)") from problem
    assert max(sizes) >= 200
