"""Requests to run workflows: checked here, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import definition as d
from ..engine.plan import Plan
from ..engine.recorded import Recorded, anything
from ..errors import ParameterError, TargetError, did_you_mean
from ..events import NodeFinished, RunFinished, RunStarted
from ..loading.building import OnDisk
from ..loading.inputs import fit
from ..loading.workflow_file import Source, read_workflow
from ..model import Block, NodeId, Step, node_text
from ..steps import FanOut, If, Loop, StepList, SubWorkflow, Switch
from ..store.home import Home
from ..types import Changed
from .flow import FlowDefinition, flow_definition, of_run
from .kinds import kinds, planned
from .order import Token, tokens
from .reading import Stored
from .requests import (
    Limits,
    check_changed,
    check_kernel,
    concurrency,
    default_concurrency,
    free_id,
    refuse_at_work,
)
from .requirements import check_requirements
from .session import Request, answers, ask

UNNAMED = "workflow"
"""What a workflow is called that has neither a file nor a name."""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """What a run would do with one task or gate."""

    node: str
    label: str
    runs: bool
    """Whether it would run."""
    reason: str
    """``kept``, ``asked for``, ``left out``, ``never ran``, ``failed``, ``interrupted``, ``parameters changed``,
    ``cell 5 of fit.ipynb changed``, ``load runs again``, ``waits for load``, ``waits for a person``."""
    code: bool = False
    """Whether it runs again only because its code changed: a question for a person."""


def loaded(workflow: str | os.PathLike[str] | d.Workflow) -> tuple[d.Workflow, Source, Path, bool]:
    """Give a definition, where it stands, the file of its runs, and whether that is there."""
    if isinstance(workflow, d.Workflow):
        name = workflow.name or UNNAMED
        return workflow, Source(name), Path(name), False
    path = Path(workflow)
    definition, source = read_workflow(path, known=kinds())
    return definition, source, path, True


def flow_request(
    workflow: str | os.PathLike[str] | d.Workflow,
    *,
    given: Mapping[str, Any],
    text: bool = False,
    max_workers: int | None = None,
    state_dir: Path | None = None,
) -> Request:
    """Check a new run of a workflow; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    definition, source, path, in_file = loaded(workflow)
    home = Home.of(path, state_dir)
    workers = concurrency(max_workers) if max_workers is not None else definition.max_workers or default_concurrency()
    flow = flow_definition(
        definition,
        source,
        OnDisk(home.folder, check_kernel),
        given=given,
        text=text,
        in_file=in_file,
        max_workers=workers,
    )
    check_requirements(flow.built, source)
    home.check()
    run_id = free_id(home)
    seconds = _earlier_seconds(home) if _asks_for_seconds(flow.built.block) else {}
    return _request(home, of_run(flow, run_id), run_id, Recorded(seconds=seconds), seconds=seconds)


def _asks_for_seconds(block: Block) -> bool:
    """Whether some fan-out starts first what took longest."""
    return any(
        (isinstance(step, FanOut) and step.order == "longest-first") or any(map(_asks_for_seconds, _blocks(step)))
        for step in block.steps
    )


def _earlier_seconds(home: Home) -> dict[str, float]:
    """Give how long each item took in the newest earlier run, by key."""
    runs = home.runs()
    if not runs:
        return {}
    events = Stored(home, runs[-1], None).events
    return {
        event.key: round(event.outcome.seconds, 3)
        for event in events
        if isinstance(event, NodeFinished) and ":" in event.node[-1] and event.outcome.status == "completed"
    }


def _request(home: Home, flow: FlowDefinition, run_id: str, recorded: Recorded, **more: Any) -> Request:
    files = {path: text.encode() for path, text in flow.built.files.items()}
    if flow.in_file:
        files[home.name] = home.file.read_bytes()
    return Request(
        home=home,
        notebooks=flow.notebooks,
        definition=flow,
        run_id=run_id,
        workers=flow.max_workers,
        recorded=recorded,
        warnings=tuple(dict.fromkeys(flow.built.warnings)),
        files=files,
        **more,
    )


def flow_resume_request(
    stored: Stored,
    *,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
    max_concurrency: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    changed: Changed = "ask",
    from_: str | None = None,
    only: str | None = None,
    force: bool = False,
    take_over: bool = False,
    target: str = "",
    ask_first: bool = True,
    gates: Mapping[NodeId, tuple[str, str]] | None = None,
    failed_too: bool = True,
) -> Request:
    """Check that a run of a workflow can be taken up again; nothing is written.

    Parameters
    ----------
    limits : Limits
        Must be empty: they are those of maps.
    gates : mapping, optional
        Answers to gates, each with who gave it.
    failed_too : bool
        Whether failed tasks whose failure was tolerated run again.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    check_changed(changed)
    if from_ is not None and only is not None:
        raise ParameterError("--from and --only are both given", "--only starts nothing else: keep one of them.")
    limits.refuse(stored.home.name)
    before = stored.definition
    assert isinstance(before, FlowDefinition), "maps have requests of their own"
    if _aborted(stored):
        raise TargetError(
            f"run {stored.id} was aborted by a person, and cannot go on", f"Start again: nbflow run {stored.home.name}"
        )
    flow = _now(stored, before, parameters or {}, text=text, changed=changed)
    if max_concurrency is not None:
        flow = replace(flow, max_workers=concurrency(max_concurrency))
    started = [event for event in stored.events if isinstance(event, RunStarted)]
    seconds = next((event.seconds for event in started if event.seconds), {})
    recorded = replace(answers(stored.records, flow.changed), seconds=seconds)
    if not failed_too:
        recorded = replace(recorded, statuses=frozenset({"completed", "failed"}))
    forgets = _forgets(stored, flow, from_, only, force=force)
    recorded = _without(recorded, forgets, only=only is not None)
    asked = ["--force"] if force else []
    asked += [f"--from={from_}"] if from_ is not None else []
    asked += [f"--only={only}"] if only is not None else []
    request = _request(
        stored.home,
        of_run(flow, stored.id),
        stored.id,
        recorded,
        stored=stored,
        take_over=take_over,
        forgets=forgets,
        again=tuple(asked),
        answers=gates or {},
        seconds=seconds,
    )
    refuse_at_work(stored, take_over=take_over)
    if ask_first and not force:
        ask(request, request.plan(), before, f"nbflow resume {target or stored.home.name}")
    return request


def _aborted(stored: Stored) -> bool:
    """Whether a person ended the run for good."""
    last = next((event.status for event in reversed(stored.events) if isinstance(event, RunFinished)), "")
    if not stored.events and stored.checkpoint is not None:
        last = str(stored.checkpoint.data["status"])
    return last == "aborted"


def _now(
    stored: Stored, before: FlowDefinition, given: Mapping[str, Any], *, text: bool, changed: Changed
) -> FlowDefinition:
    """Give the definition as it is now: its file, where there is one, and its notebooks."""
    source, definition = Source(before.file), before.definition
    if before.in_file:
        definition, source = read_workflow(stored.home.file, known=kinds())
    declared = definition.inputs
    kept = {name: value for name, value in before.given.items() if name in declared}
    new = {n: fit(n, declared[n], value, text=text) if n in declared else value for n, value in given.items()}
    flow = flow_definition(
        definition,
        source,
        OnDisk(stored.home.folder, check_kernel),
        given={**kept, **new},
        text=False,
        in_file=before.in_file,
        max_workers=before.max_workers,
    )
    check_requirements(flow.built, source)
    unchanged = flow.code == before.code
    return replace(flow, changed=before.changed if changed == "ask" and unchanged else changed)


def _without(recorded: Recorded, forgets: tuple[str, ...], *, only: bool) -> Recorded:
    """Give the records without those that somebody does not want any more; with ``only`` nothing else may start."""
    if forgets == ("*",):
        return replace(recorded, answers={}, attempts={}, begun=frozenset())
    kept = {key: record for key, record in recorded.answers.items() if key not in forgets}
    return replace(recorded, answers=kept, only=frozenset(forgets) if only else None)


def _forgets(
    stored: Stored, flow: FlowDefinition, from_: str | None, only: str | None, *, force: bool
) -> tuple[str, ...]:
    """Give the keys of the tasks that somebody wants to run again."""
    if force:
        return ("*",)
    name = from_ if from_ is not None else only
    if name is None:
        return ()
    whole = Recorded(stored.records.answers, same=anything, statuses=frozenset({"completed", "failed"}))
    found = planned(flow.workflow(), whole)
    keys = {event.node: event.key for event in found.events if isinstance(event, NodeFinished) and event.leaf}
    keys.update({one.task.node: one.task.key for one in found.tasks})
    again = Again.of(name, flow.built.block, list(keys))
    chosen = [key for node, key in keys.items() if again.wants(node, dependents=only is None)]
    return tuple(chosen)


# -- why ----------------------------------------------------------------------------------------------------------


def explained_nodes(request: Request) -> list[PlannedNode]:
    """Give what would be done with each task and gate, and why."""
    found, flow = request.plan(), request.definition
    assert isinstance(flow, FlowDefinition)
    rows = [
        PlannedNode(
            node_text(e.node), e.label, runs=False, reason="left out" if e.outcome.status == "pending" else "kept"
        )
        for e in found.kept
    ]
    for one in found.tasks:
        asked = request.forgets == ("*",) or one.task.key in request.forgets
        reason = "asked for" if asked else _reason(request, flow, found, one.reason, one.task.node)
        code = one.reason == "code" and not asked
        rows.append(PlannedNode(node_text(one.task.node), one.task.label, runs=True, reason=reason, code=code))
    gates = [PlannedNode(node_text(g.node), g.label, runs=True, reason="waits for a person") for g in found.gates]
    behind = _behind(flow.built.block, found) if request.recorded.only is None else ()
    places = flow.built.block.at
    return sorted([*rows, *gates, *behind], key=lambda row: _place(tuple(row.node.split("/")), places))


def _place(node: NodeId, places: Mapping[str, int]) -> tuple[int, ...]:
    """Give where a node stands in the order of one worker, as far as its id tells: its step, then items and turns."""
    turns = (int(turn) for _, turn in tokens(node) if turn is not None and turn.isdecimal())
    return (places[root_of(node)], *turns)


def _behind(block: Block, found: Plan) -> Iterator[PlannedNode]:
    """Give the steps that are not reached before others have ended."""
    ended = {e.node[0] for e in found.events if isinstance(e, NodeFinished) and e.outcome.status != "pending"}
    begun = {root_of(event.node) for event in found.events if isinstance(event, NodeFinished)}
    begun |= {root_of(one.task.node) for one in found.tasks} | {root_of(gate.node) for gate in found.gates}
    for place, step in enumerate(block.steps):
        if step.id in begun:
            continue
        above = [block.steps[other].id for other in block.waits[place]] + [one.id for one in block.steps[:place]]
        first = next((one for one in above if one not in ended), "the others")
        yield PlannedNode(step.id, step.name or step.id, runs=True, reason=f"waits for {first}")


def root_of(node: NodeId) -> str:
    """Give the id of the step of the outermost list in which a node stands."""
    return node[0].partition(":")[0]


def _reason(request: Request, flow: FlowDefinition, found: Plan, reason: str, node: NodeId) -> str:
    if request.stored is None:
        return reason
    before = request.stored.definition
    assert isinstance(before, FlowDefinition)
    if reason == "code":
        return f"{flow.changed_since(before, ())} changed"
    if reason == "parameters":
        names = [name for name, value in flow.given.items() if before.given.get(name, ...) != value]
        return f"input {', '.join(names)} changed" if names else "parameters changed"
    if reason == "waits":
        block = flow.built.block
        place = block.at.get(root_of(node))
        running = {root_of(one.task.node) for one in found.tasks}
        waits = [] if place is None else [block.steps[other].id for other in block.waits[place]]
        first = next((one for one in waits if one in running), "")
        return f"{first} runs again" if first else "what it waits for changed"
    return reason


# -- from and only ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Again:
    """A step or node that is to run again, and what waits for it."""

    spine: tuple[Token, ...]
    dependents: tuple[frozenset[str], ...]
    """For each list on the way: the ids of the steps that wait for the one on the way."""

    @staticmethod
    def of(text: str, block: Block, nodes: list[NodeId]) -> Again:
        """Find what a person means: a node's id, or a step's.

        Raises
        ------
        TargetError
            If nothing is called so, or several steps are.
        """
        exact = next((node for node in nodes if node_text(node) == text), None)
        if exact is not None:
            spine = tuple(tokens(exact))
            return Again(spine, _dependents(block, [step for step, _ in spine]))
        known = list(_spines(block, ()))
        found = [path for path in known if path[-1] == text or "/".join(path) == text]
        if len(found) == 1:
            return Again(tuple((step, None) for step in found[0]), _dependents(block, list(found[0])))
        if found:
            several = ", ".join("/".join(path) for path in found)
            raise TargetError(f"{text!r}: {len(found)} steps are called so: {several}", "Name one of them.")
        ids = [path[-1] for path in known]
        raise TargetError(f"there is no step {text!r}.{did_you_mean(text, ids)}", f"There are: {', '.join(ids[:20])}.")

    def wants(self, node: NodeId, *, dependents: bool) -> bool:
        """Whether a node is to run again; with or without what waits for it."""
        given = tokens(node)
        if _begins(given, self.spine):
            return True
        return dependents and any(
            len(given) > level
            and _begins(given, self.spine[:level])
            and given[level][0] in self.dependents[level]
            and self.spine[level][1] in (None, given[level][1])
            for level in range(len(self.spine))
        )


def _begins(given: list[Token], spine: tuple[Token, ...]) -> bool:
    return len(given) >= len(spine) and all(
        one[0] == wanted[0] and wanted[1] in (None, one[1]) for one, wanted in zip(given, spine, strict=False)
    )


def _blocks(step: Step) -> list[Block]:
    """Give the lists of steps in a step."""
    match step:
        case FanOut():
            return [step.body]
        case If():
            return [step.then, step.otherwise]
        case Switch():
            return [*(block for _, block in step.cases), step.default]
        case Loop() | StepList() | SubWorkflow():
            return [step.block]
        case _:
            return []


def _spines(block: Block, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for step in block.steps:
        yield (*above, step.id)
        for inner in _blocks(step):
            yield from _spines(inner, (*above, step.id))


def _dependents(block: Block, spine: list[str]) -> tuple[frozenset[str], ...]:
    found: list[frozenset[str]] = []
    blocks = [block]
    for step_id in spine:
        here = next((one for one in blocks if step_id in one.at), None)
        if here is None:
            break
        place = here.at[step_id]
        found.append(frozenset(one.id for at, one in enumerate(here.steps) if here.before[at] >> place & 1))
        blocks = _blocks(here.steps[place])
    return (*found, *[frozenset[str]()] * (len(spine) - len(found)))
