"""Every case comes out as it says: one by one, all at once in any order, and cut off after every event."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from nbflow.api.flow import FlowDefinition, flow_definition, of_run
from nbflow.api.flow_requests import _forgets, _without
from nbflow.api.kinds import flows, kinds
from nbflow.api.session import answers
from nbflow.driver import work
from nbflow.engine.recorded import Recorded
from nbflow.errors import RefusedError
from nbflow.events import Event, GateAnswered, GateOpened, NodeFinished, NodeStarted, RunStarted, Warned
from nbflow.executors.calls import CallRunner
from nbflow.loading.building import OnDisk
from nbflow.loading.inputs import fit
from nbflow.loading.workflow_file import read_workflow
from nbflow.model import node_text
from nbflow.outcome import Outcome, completed
from nbflow.steps import CallStep, NotebookStep
from nbflow.store.journal import Records
from nbflow.store.journal import records as journal_records
from nbflow.store.names import Namer
from nbflow.task import Context, Task
from nbflow.testing import Simulated, simulate
from tests.conformance.case import CASES, Case, Expect, Round

HERE = Path(__file__).parent
HALTS = {"failed", "paused", "cancelled", "aborted"}
NAMES = {case.name: case for case in CASES}
BEGUN = [case.name for case in CASES if not case.rounds[0].expect.refused]
REFUSED = [case.name for case in CASES if case.rounds[0].expect.refused]


class NeverStop:
    """Nobody asks to stop."""

    reason = None
    kill = False

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Give what ends it."""
        return lambda: None


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the case's files; its modules are nobody else's."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(HERE)])
    monkeypatch.setenv("RAN", str(tmp_path / "ran.txt"))
    monkeypatch.delitem(sys.modules, "helpers", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


# -- one epoch --------------------------------------------------------------------------------------------------


def load(one: Round, folder: Path) -> FlowDefinition:
    """Build what a round runs."""
    one.write(folder)
    definition, source = read_workflow(folder / "workflow.yml", known=kinds())
    given = {name: fit(name, definition.inputs[name], text, text=True) for name, text in one.texts.items()}
    flow = flow_definition(
        definition,
        source,
        OnDisk(folder),
        given={**one.inputs, **given},
        text=False,
        in_file=True,
        max_workers=definition.max_workers or 4,
    )
    return of_run(flow, "20260101-0000-c0de")


def act(flow: FlowDefinition, folder: Path) -> Callable[[Task], Outcome | None]:
    """Give what carries tasks out, in this process."""
    import conformance_tasks  # type: ignore[import-not-found]  # it stands beside the cases

    call, namer = CallRunner(), Namer(folder.parent / "run")

    def notebook(task: Task, context: Any) -> Outcome:
        assert isinstance(task.step, NotebookStep)
        source = flow.notebooks[task.step.path]
        names: dict[str, Any] = {}
        given = dict(task.parameters)
        for cell in source.cells:
            exec(cell.source, names)
            if cell.source.startswith("# nbflow: parameters"):
                names.update(given)
        wanted = task.step.outputs or source.result_names
        return completed({name: names[name] for name in wanted})

    def answer(task: Task) -> Outcome | None:
        conformance_tasks.ATTEMPT[0] = task.attempt
        runner = call if isinstance(task.step, CallStep) else notebook
        try:
            context = Context(namer.places(task), NeverStop(), lambda event: None)
            return replace(work(runner, task, context), seconds=0.0)
        except conformance_tasks.Hang:
            return None

    return answer


@dataclass(frozen=True)
class Epoch:
    """A start, and what somebody did not want any more at it."""

    run: Simulated
    forgets: tuple[str, ...] = ()


def records(epochs: list[Epoch]) -> Records:
    """Give what the journals of these epochs say."""
    events: list[Event] = []
    for number, epoch in enumerate(epochs, 1):
        events.append(RunStarted(0.0, "test", "test", number, {}, 1, epoch.forgets))
        events += (e for e in epoch.run.events if not (isinstance(e, NodeFinished) and e.kept))
    return journal_records(events)


def person(one: Round, ours: list[Epoch]) -> Callable[[GateOpened], str | None]:
    """Give the person who answers the gates of a round, the n-th time with the n-th answer."""
    asked: dict[Any, int] = {}

    def choose(gate: GateOpened) -> str | None:
        given = one.answers.get(node_text(gate.node), [])
        before = sum(isinstance(e, GateAnswered) and e.node == gate.node for epoch in ours for e in epoch.run.events)
        at = before + asked.setdefault(gate.node, 0)
        asked[gate.node] += 1
        return given[at] if at < len(given) else None

    return choose


# -- what must be so --------------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Give a value that equals only values of the same types: true is not 1."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return (type(value).__name__, value)


def ends(run: Simulated) -> dict[str, NodeFinished]:
    """Give how each node ended."""
    return {node_text(e.node): e for e in run.events if isinstance(e, NodeFinished)}


def check(expect: Expect, run: Simulated, warned: list[str], *, exact: bool, resumed: bool = False) -> None:
    """Compare a round with what must come of it."""
    assert run.outcome is not None
    found = ends(run)
    if exact or not any(one["status"] in HALTS for one in expect.nodes.values()):
        assert sorted([*expect.nodes, *expect.behind]) == sorted(found), "the nodes that were reached"
    for node, wanted in expect.nodes.items():
        assert node in found, f"{node} was not reached"
        ended = found[node].outcome
        error = f"{ended.error.kind}: {ended.error.message}" if ended.error is not None else ""
        assert (node, wanted["status"]) == (node, ended.status), error
        if "output" in wanted:
            assert (node, shape(wanted["output"])) == (node, shape(ended.output))
        for key, value in wanted.get("has", {}).items():
            assert isinstance(ended.output, dict)
            assert (node, key, shape(value)) == (node, key, shape(ended.output.get(key)))
        if "error" in wanted:
            assert wanted["error"] in error, f"{node}: {error}"
        else:
            assert error == "" or ended.status != "completed", f"{node}: {error}"
        if "attempts" in wanted and not resumed:
            assert (node, wanted["attempts"]) == (node, ended.attempts)
    assert expect.status == run.outcome.status
    if expect.output is not None:
        assert shape(expect.output) == shape(run.outcome.output)
    if expect.because:
        assert run.outcome.error is not None
        assert expect.because in f"{run.outcome.error.kind}: {run.outcome.error.message}"
    if expect.waits_for is not None:
        assert sorted(expect.waits_for) == sorted(
            n for n, e in found.items() if e.leaf and e.outcome.status == "paused"
        )
    told = [*warned, *(e.message for e in run.events if isinstance(e, Warned))]
    assert len(expect.warnings) == len(told), told
    assert all(any(part in one for one in told) for part in expect.warnings), told


def completed_keys(run: Simulated) -> set[str]:
    """Give the keys of the tasks whose completion is recorded."""
    return {e.key for e in run.events if isinstance(e, NodeFinished) and e.leaf and e.outcome.status == "completed"}


def too_often(dead: Simulated, after: Simulated) -> list[str]:
    """Give the tasks that were tried more often than they may be: attempts that a death cut off count."""
    ended = {e.key for e in dead.events if isinstance(e, NodeFinished)}
    begun = Counter(e.key for e in dead.events if isinstance(e, NodeStarted))
    tried = Counter(task.key for task in after.started)
    most = {task.key: max(task.step.retry.attempts, begun[task.key] + 1) for task in after.started}
    return [key for key, times in tried.items() if key not in ended and begun[key] + times > most[key]]


# -- the tests --------------------------------------------------------------------------------------------------


class Chain:
    """The rounds of a case, one after the other."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.before: list[Epoch] = []

    def rounds(self) -> Iterator[Round]:
        """Give each round with its definition; one that is refused is checked here."""
        for one in self.case.rounds:
            if one.expect.refused:
                refused(one, self.folder)
                continue
            self.now, self.flow = one, load(one, self.folder)
            yield one

    @property
    def warned(self) -> list[str]:
        """What is wrong with the definition, and not so wrong that it is refused."""
        return list(dict.fromkeys(self.flow.built.warnings))

    def start(self, **how: Any) -> Epoch:
        """Run the round on what came of those before it."""
        one, found = self.now, records(self.before)
        stored: Any = SimpleNamespace(records=found)
        forgets = _forgets(stored, self.flow, one.from_, one.only, force=one.force)
        recorded = _without(answers(found, one.changed), forgets, only=one.only is not None)
        return Epoch(self._run(recorded, [], **how), forgets)

    def resume(self, dead: Epoch, **how: Any) -> Simulated:
        """Go on after a death in this round."""
        return self._run(answers(records([*self.before, dead]), self.now.changed), [dead], **how)

    def _run(self, recorded: Recorded, ours: list[Epoch], **how: Any) -> Simulated:
        carried = act(self.flow, self.folder)
        asked = person(self.now, ours)
        return simulate(self.flow.workflow(), carried, person=asked, recorded=recorded, kinds=flows(), **how)


def refused(one: Round, folder: Path) -> None:
    """Check that a round is refused, with these parts of the message."""
    with pytest.raises(RefusedError) as caught:
        load(one, folder)
    for part in one.expect.refused:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_place_and_remedy(name: str, place: Path) -> None:
    """The message has each of the parts that the case names."""
    refused(NAMES[name].rounds[0], place)


@pytest.mark.parametrize("name", BEGUN)
def test_one_worker_is_the_meaning(name: str, place: Path) -> None:
    """With one worker exactly the nodes of the case are reached, and its tasks run in their order."""
    chain = Chain(NAMES[name], place)
    for one in chain.rounds():
        epoch = chain.start(max_workers=1)
        check(one.expect, epoch.run, chain.warned, exact=True)
        if one.runs is not None:
            assert one.runs == [node_text(task.node) for task in epoch.run.started]
        chain.before.append(epoch)


@pytest.mark.parametrize("seed", [None, *range(5)])
@pytest.mark.parametrize("name", BEGUN)
def test_any_interleaving_comes_to_the_same(name: str, seed: int | None, place: Path) -> None:
    """Four workers, tasks that end in any order, at first the last first: each node that counts ends the same."""
    chain = Chain(NAMES[name], place)
    choose = (lambda count: count - 1) if seed is None else Random(seed).randrange
    for one in chain.rounds():
        epoch = chain.start(max_workers=4, choose=choose)
        check(one.expect, epoch.run, chain.warned, exact=False)
        if one.expect.at_once is not None:
            assert one.expect.at_once == epoch.run.most_running
        if one.runs is not None:
            assert set(one.runs) <= {node_text(task.node) for task in epoch.run.started}
        chain.before.append(epoch)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", [name for name in BEGUN if not NAMES[name].uncut])
def test_a_death_after_any_event_changes_and_repeats_nothing(name: str, workers: int, place: Path) -> None:
    """Cut off after each event and resumed to the end: the same comes of it, and nothing recorded runs again."""
    chain = Chain(NAMES[name], place)
    for one in chain.rounds():
        whole = chain.start(max_workers=workers)
        for cut in range(len(whole.run.events) + 1):
            choose = Random(cut).randrange if workers > 1 else lambda count: 0
            dead = chain.start(max_workers=workers, cut_after=cut, choose=choose)
            after = chain.resume(dead, max_workers=workers, choose=choose)
            check(one.expect, after, chain.warned, exact=False, resumed=True)
            again = completed_keys(dead.run) & {task.key for task in after.started}
            assert not again, f"cut off after {cut} events"
            assert not too_often(dead.run, after), f"cut off after {cut} events"
        chain.before.append(whole)


# -- the cases can fail ------------------------------------------------------------------------------------------


def wrong(expect: Expect) -> Iterator[Expect]:
    """Give the same with one thing in it that is not so, for each thing."""
    yield replace(expect, status="running")
    yield replace(expect, warnings=[*expect.warnings, "no such warning"])
    yield replace(expect, nodes={**expect.nodes, "no-such-node": {"status": "completed"}})
    for part in ("output", "because", "waits_for"):
        if getattr(expect, part):
            yield replace(expect, **{part: "otherwise"})
    for node, told in expect.nodes.items():
        yield replace(expect, nodes={name: one for name, one in expect.nodes.items() if name != node})
        for key in told:
            other = {"no such key": 1} if key == "has" else "otherwise"
            yield replace(expect, nodes={**expect.nodes, node: {**told, key: other}})


@pytest.mark.parametrize("name", BEGUN)
def test_each_thing_that_a_case_says_is_looked_at(name: str, place: Path) -> None:
    """A case with one wrong word in it fails, wherever the word is."""
    chain = Chain(NAMES[name], place)
    for one in chain.rounds():
        epoch = chain.start(max_workers=1)
        check(one.expect, epoch.run, chain.warned, exact=True)
        for expect in wrong(one.expect):
            with pytest.raises(AssertionError):
                check(expect, epoch.run, chain.warned, exact=True)
        chain.before.append(epoch)


@pytest.mark.parametrize("name", REFUSED)
def test_each_part_of_a_refusal_is_looked_at(name: str, place: Path) -> None:
    """A refusal with another word in it is not the one of the case."""
    one = NAMES[name].rounds[0]
    for at in range(len(one.expect.refused)):
        parts = [f"{part} otherwise" if at == here else part for here, part in enumerate(one.expect.refused)]
        with pytest.raises(AssertionError):
            refused(replace(one, expect=replace(one.expect, refused=parts)), place)
