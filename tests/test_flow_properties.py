"""What holds for every workflow of any kinds and every interleaving, told by an independent interpreter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nbflow.api.kinds import flows, makers
from nbflow.definition import Workflow as Definition
from nbflow.engine.plan import plan
from nbflow.engine.recorded import Recorded
from nbflow.events import Event, GateAnswered, GateOpened, NodeFinished, NodeStarted
from nbflow.loading.building import Kept, build
from nbflow.loading.inputs import fit_all
from nbflow.loading.workflow_file import Source, define, dump, parse
from nbflow.model import Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.task import Task
from nbflow.testing import Simulated, records, simulate
from tests.flows import Data, Maker, Meaning, acting, answering

often = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
randoms = st.randoms(use_true_random=False)


class Case:
    """A workflow, how its tasks act, and what people say."""

    def __init__(self, random: Random, **limits: Any) -> None:
        maker = Maker(random, **limits)
        self.random = random
        self.data: Data = maker.workflow()
        self.files = maker.files
        self.seed = random.randint(0, 10**6)
        self.acts, self.gates = acting(self.seed), answering(self.seed)
        self.definition: Definition = define(self.data, Source("w.yml"))
        texts = {name: dump(define(data, Source(name))) for name, data in self.files.items()}
        built = build(self.definition, Source("w.yml"), Kept(Path(), texts), makers=makers())
        inputs = fit_all(self.definition.inputs, {}, text=False)
        self.workflow = Workflow(
            name="w", block=built.block, inputs=inputs, max_workers=self.definition.max_workers or 2
        )
        self.meaning = Meaning(self.files, self.acts, self.gates)
        self.said = self.meaning.tell(self.data, inputs)

    def run(self, *earlier: Simulated, **options: Any) -> Simulated:
        """Run it on top of earlier epochs, in any interleaving."""
        asked = Counter(
            node_text(event.node) for run in earlier for event in run.events if isinstance(event, GateAnswered)
        )

        def answer(task: Task) -> Outcome:
            most = task.step.retry.attempts if "error" in task.step.retry.on else 1
            status, output = self.acts(node_text(task.node), task.parameters, task.attempt, most)
            return completed(output) if status == "completed" else failed("error", "boom")

        def gate(event: GateOpened) -> str | None:
            asked[node_text(event.node)] += 1
            return self.gates(node_text(event.node), asked[node_text(event.node)])

        options.setdefault("choose", lambda count: self.random.randrange(count))
        return simulate(
            self.workflow,
            answer,
            person=gate,
            kinds=flows(),
            **{"recorded": records(*earlier) if earlier else None, **options},
        )

    def check(self, run: Simulated) -> None:
        """Check that a run equals what one worker does, and every node that one worker reaches."""
        assert run.outcome is not None
        if self.said.status == "aborted":  # a person's word is the one exception to order
            assert "aborted" == run.outcome.status
            return
        if run.outcome.status == "aborted":
            return  # a gate behind a halt was answered before the halt came
        assert self.said.status == run.outcome.status
        got = ends(run.events)
        wanted = {node: (said.status, said.output) for node, said in self.meaning.nodes.items()}
        assert wanted == {node: got.get(node) for node in wanted}


def ends(events: list[Event]) -> dict[str, tuple[str, Any]]:
    """Give how each node ended."""
    return {
        node_text(event.node): (event.outcome.status, event.outcome.output)
        for event in events
        if isinstance(event, NodeFinished)
    }


def any_interleaving_equals_one_worker(random: Random, **limits: Any) -> int:
    """Sequential is the meaning, and concurrent runs equal it."""
    case = Case(random, **limits)
    alone = case.run(max_workers=1, choose=lambda count: 0)
    case.check(alone)
    together = case.run()
    case.check(together)
    assert together.most_running <= case.workflow.max_workers
    return len(together.started)


def one_worker_starts_in_the_order_of_the_text(random: Random, **limits: Any) -> int:
    """The tasks of one worker are those of the meaning, in its order."""
    case = Case(random, gates=False, retries=False, **limits)  # while these wait, others go on, also with one worker
    run = case.run(max_workers=1, choose=lambda count: 0)
    assert case.meaning.starts == [node_text(task.node) for task in run.started]
    return len(run.started)


def a_resume_from_any_prefix_equals_the_whole_run(random: Random, **limits: Any) -> int:
    """Cut off anywhere, twice, and resumed: the same outcome, and no completed task runs again."""
    case = Case(random, **limits)
    runs: list[Simulated] = []
    for epoch in range(3):
        cut = random.randint(0, 40) if epoch < 2 else None
        run = case.run(*runs, cut_after=cut)
        done = {
            event.key
            for earlier in runs
            for event in earlier.events
            if isinstance(event, NodeFinished) and event.leaf and event.outcome.status == "completed"
        }
        again = done & {event.key for event in run.events if isinstance(event, NodeStarted)}
        assert set() == again
        answered = {e.key for earlier in runs for e in earlier.events if isinstance(e, GateAnswered)} & done
        assert set() == answered & {event.key for event in run.events if isinstance(event, GateOpened)}
        runs.append(run)
        if run.outcome is not None:
            break
    if runs[-1].outcome is not None:
        case.check(runs[-1])
    return sum(len(run.started) for run in runs)


def a_plan_names_what_a_resume_starts(random: Random, **limits: Any) -> int:
    """What is named kept starts not, what starts is named or stands in a step that is; and what is named does start."""
    case = Case(random, gates=False, retries=False, **limits)
    first = case.run(max_workers=1, choose=lambda count: 0)
    known = records(first)
    forgotten = frozenset(key for key in known.answers if not random.randint(0, 3))
    known = Recorded({key: record for key, record in known.answers.items() if key not in forgotten})
    found = plan(case.workflow, known, flows())
    again = case.run(recorded=known, max_workers=1, choose=lambda count: 0)
    started = {node_text(task.node) for task in again.started}
    would = {node_text(one.task.node) for one in found.tasks}
    waiting = {node_text(event.node) for event in found.waiting}
    kept = {node_text(event.node) for event in found.kept}
    assert set() == kept & started
    named = {turn for node in would | waiting for turn in turns(node)}
    unnamed = {node for node in started - would if not any(below(node, step) for step in waiting)}
    later = {node for node in unnamed if any((loop, one) in named for loop, turn in turns(node) for one in range(turn))}
    assert set() == unnamed - later, "all but the turns behind one that would run"
    assert set() == {node for node in waiting if any(below(node, other) for other in would | kept)}
    if all(status != "failed" for status, _ in ends(again.events).values()):
        assert would <= started, "nothing has halted"
    return len(would | kept)


def turns(node: str) -> Iterator[tuple[str, int]]:
    """Give the loops in which a node stands, each with its turn."""
    parts = node.split("/")
    for place, part in enumerate(parts):
        pieces = part.split(":")
        for at in range(1, len(pieces), 2):
            if pieces[max(0, at - 2)].startswith("l"):
                yield "/".join([*parts[:place], ":".join(pieces[:at])]), int(pieces[at + 1])


def below(node: str, step: str) -> bool:
    """Whether a node is a step, or stands in it at any depth."""
    return node == step or node.startswith((f"{step}/", f"{step}:"))


def a_failure_is_told_where_it_happened(random: Random, **limits: Any) -> int:
    """What people are shown of a failed run is never nothing, and never the same failure twice."""
    case = Case(random, **limits)
    run = case.run()
    ended = {node_text(event.node): event for event in run.events if isinstance(event, NodeFinished)}
    itself = {name for name, event in ended.items() if event.failed_itself}
    assert {name for name, event in ended.items() if event.leaf and event.outcome.status == "failed"} <= itself
    for name, event in ended.items():
        if event.outcome.status == "failed" and name not in itself:
            assert event.outcome.error is not None
            assert event.outcome.error.node in itself
    assert run.outcome is not None
    if run.outcome.status == "failed":
        assert run.outcome.error is not None
        assert run.outcome.error.node in itself
    return len(run.started)


def text_and_back_is_the_same(random: Random, **limits: Any) -> int:
    """YAML → model → YAML."""
    case = Case(random, **limits)
    text = dump(case.definition)
    assert case.definition == parse(text, "w.yml")[0]
    assert text == dump(parse(text, "w.yml")[0])
    return 1


RULES = [
    a_plan_names_what_a_resume_starts,
    any_interleaving_equals_one_worker,
    one_worker_starts_in_the_order_of_the_text,
    a_resume_from_any_prefix_equals_the_whole_run,
    a_failure_is_told_where_it_happened,
    text_and_back_is_the_same,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_for_every_workflow(rule: Any) -> None:
    """Each rule holds in 100 random workflows."""
    sizes: list[int] = []

    @often
    @given(randoms)
    def check(random: Random) -> None:
        sizes.append(rule(random))

    check()
    assert len(sizes) >= 100


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_for_workflows_of_all_sizes(rule: Any) -> None:
    """Each rule holds in 300 workflows drawn evenly: those of Hypothesis are mostly small."""
    sizes = [rule(Random(seed), steps=4) for seed in range(300)]
    if rule is not text_and_back_is_the_same:
        assert max(sizes) >= 20
        assert sum(size >= 4 for size in sizes) >= 40, "too few of these runs are deep"


@pytest.mark.long
def test_large_random_workflows_keep_all_rules_for_two_minutes() -> None:
    """All rules in workflows of hundreds of tasks; on a slow machine up to ten minutes, until it has had one."""
    began, sizes, seed = time.monotonic(), [0], 10_000
    while (spent := time.monotonic() - began) < 120 or (max(sizes) < 200 and spent < 600):
        seed += 1
        for rule in RULES:
            try:
                sizes.append(rule(Random(seed), steps=5, depth=4))
            except AssertionError as problem:
                raise AssertionError(f"{rule.__name__}(Random({seed}), steps=5, depth=4)") from problem
    assert max(sizes) >= 200
