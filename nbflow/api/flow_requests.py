"""Requests to run workflows: checked here, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import definition as d
from ..engine.plan import Plan, Planned, Repeated, repeated
from ..engine.recorded import Recorded, anything
from ..errors import DefinitionError, ParameterError, TargetError, did_you_mean
from ..events import NodeFinished, RunFinished, RunStarted
from ..loading.building import OnDisk
from ..loading.inputs import fit
from ..loading.notebook_file import read_file
from ..loading.workflow_file import Source
from ..model import Block, NodeId, Step, node_text
from ..namespace import ASKED, KEPT, Entry, Past, Piece, files_of
from ..notebooks.names import trusted
from ..signing import Signer
from ..steps import CellsStep, FanOut, KernelStart, Loop
from ..store.home import Home
from ..task import Task
from ..types import Changed
from ..values import Value
from .definition import code_of
from .flow import FlowDefinition, flow_definition, of_run, path_of, steps_below
from .kinds import flows, kinds, planned
from .order import Token, tokens
from .reading import Stored
from .requests import (
    Limits,
    PlannedNode,
    check_changed,
    check_kernel,
    check_max_memory,
    concurrency,
    default_concurrency,
    free_id,
    refuse_at_work,
)
from .requirements import check_requirements
from .session import Request, answers, ask

UNNAMED = "workflow"
"""What a workflow is called that has neither a file nor a name."""


def loaded(
    workflow: str | os.PathLike[str] | d.Workflow, given: Collection[str] = ()
) -> tuple[d.Workflow, Source, Path, bool]:
    """Give a definition, where it stands, the file of its runs, and whether that is there."""
    if isinstance(workflow, d.Workflow):
        name = workflow.name or UNNAMED
        if name in (".", "..") or any(sign in name for sign in "/\\:\0"):
            told = f"Workflow: name is {name!r:.60}, and its runs are kept under it in the working directory"
            raise DefinitionError(told, "Give it a name without / \\ and :, such as monthly.")
        return workflow, Source(name), Path(name), False
    path = Path(workflow)
    definition, source = read_file(path, "", kinds(), given)
    return definition, source, path, True


def flow_request(
    workflow: str | os.PathLike[str] | d.Workflow,
    *,
    given: Mapping[str, Any],
    text: bool = False,
    max_workers: int | None = None,
    start: KernelStart | None = None,
    max_memory: str | float | None = None,
    state_dir: Path | None = None,
) -> Request:
    """Check a new run of a workflow; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    definition, source, path, in_file = loaded(workflow, given)
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
        max_memory=definition.max_memory if max_memory is None else check_max_memory(max_memory),
    )
    flow = replace(flow, start=None if start is None else start.data())
    check_requirements(flow.built, source)
    home.check()
    run_id = free_id(home)
    seconds = _earlier_seconds(home) if _asks_for_seconds(flow.built.block) else {}
    return _request(home, of_run(flow, run_id), run_id, Recorded(seconds=seconds), seconds=seconds)


def _asks_for_seconds(block: Block) -> bool:
    """Whether some fan-out starts first what took longest."""
    return any(
        (isinstance(step, FanOut) and step.order == "longest-first") or any(map(_asks_for_seconds, step.blocks))
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
    max_memory: str | float | None = None,
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
    flow = _now(stored, before, parameters or {}, text=text, changed=changed).after(before, stored.records)
    flow = replace(flow, start=before.start if limits.start is None else limits.start.data())
    if max_concurrency is not None:
        flow = replace(flow, max_workers=concurrency(max_concurrency))
    if max_memory is not None:
        flow = replace(flow, max_memory=check_max_memory(max_memory))
    started = [event for event in stored.events if isinstance(event, RunStarted)]
    seconds = next((event.seconds for event in started if event.seconds), {})
    recorded = replace(answers(stored.records, flow.changed), seconds=seconds)
    if not failed_too:
        recorded = replace(recorded, statuses=frozenset({"completed", "failed"}))
    forgets = _forgets(stored, flow, from_, only, force=force)
    recorded = _without(recorded, forgets, only=only is not None)
    lost = _lost(flow, recorded, stored.folder) if only is None else dict[str, str]()
    recorded = replace(recorded, answers={key: one for key, one in recorded.answers.items() if key not in lost})
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
        lost=lost,
        again=tuple(asked),
        answers=gates or {},
        seconds=seconds,
    )
    refuse_at_work(stored, take_over=take_over)
    if ask_first and not force:
        ask(request, _repeated(request, before), before, f"nbflow resume {target or stored.home.name}")
    return request


def remade(stored: Stored, flow: FlowDefinition, step: str) -> Request:
    """Give the request that runs one step of a run again, or for the first time, by another definition of it."""
    keys = {one.task.node: one.task.key for one in planned(flow.workflow(), Recorded()).tasks}
    forgets = (keys[(step,)],)
    recorded = _without(answers(stored.records, "keep"), forgets, only=True)
    return _request(stored.home, flow, stored.id, recorded, stored=stored, forgets=forgets)


def _repeated(request: Request, before: FlowDefinition) -> Repeated:
    """Give what finished and would be repeated for what files say now; defaults count also for what is left out."""
    flow, recorded, found = request.definition, request.recorded, request.plan()
    assert isinstance(flow, FlowDefinition)
    if recorded.only is not None and flow.followed(before):
        recorded = replace(recorded, only=None)
        found = planned(flow.workflow(), recorded)
    return repeated(found, flow.workflow(), flow.keeping(before).workflow(), recorded, flows())


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
        definition, source = read_file(stored.home.file, "", kinds(), [*before.chosen, *given])
    declared = definition.inputs
    settled = before.chosen | {name for name, one in declared.items() if "default" not in one.model_fields_set}
    kept = {name: value for name, value in before.given.items() if name in declared and name in settled}
    new = {n: fit(n, declared[n], value, text=text) if n in declared else value for n, value in given.items()}
    edited = definition.max_workers not in (None, before.definition.max_workers)  # else as it was asked for, by -j too
    same_memory = definition.max_memory == before.definition.max_memory
    flow = flow_definition(
        definition,
        source,
        OnDisk(stored.home.folder, check_kernel),
        given={**kept, **new},
        text=False,
        in_file=before.in_file,
        max_workers=(definition.max_workers if edited else None) or before.max_workers,
        max_memory=before.max_memory if same_memory else definition.max_memory,
    )
    check_requirements(flow.built, source)
    unchanged = (flow.code, flow.said, flow.defaults) == (before.code, before.said, before.defaults)
    flow = replace(flow, changed=before.changed if changed == "ask" and unchanged else changed)
    return flow.keeping(before) if flow.changed == "keep" else flow


def _without(recorded: Recorded, forgets: tuple[str, ...], *, only: bool) -> Recorded:
    """Give the records without those that somebody does not want any more; with ``only`` nothing else may start."""
    if forgets == ("*",):
        return replace(recorded, answers={}, attempts={}, begun=frozenset(), to_retry=frozenset())
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
    ended = [event for event in found.events if isinstance(event, NodeFinished)]
    keys = {event.node: event.key for event in ended if event.leaf}
    keys.update({one.task.node: one.task.key for one in found.tasks})
    again = Again.of(name, flow.built.block, [*keys, *(event.node for event in ended)])
    chosen = [key for node, key in keys.items() if again.wants(node, dependents=only is None)]
    return tuple(chosen)


# -- what is gone --------------------------------------------------------------------------------------------------


def _lost(flow: FlowDefinition, recorded: Recorded, folder: Path) -> dict[str, str]:
    """Give the keys of finished tasks that run again, and why: a task needs what they left, which will run.

    Files of theirs are gone; or they are items, and somebody else saved them: an item can be repeated nowhere else.
    """
    signer = Signer()
    gone = {key for key, record in recorded.answers.items() if _is_gone(record.outcome.output, folder)}
    names = {
        key: {name for name, entry in record.outcome.names.items() if _is_gone(entry, folder)}
        for key, record in recorded.answers.items()
    }
    foreign = {
        key: {name for name, one in record.outcome.names.items() if name != ASKED and not trusted(one, signer)}  # type: ignore[arg-type]
        for key, record in recorded.answers.items()
    }
    steps = steps_below(flow.built.block)
    lost: dict[str, str] = {}
    while (gone | {key for key in names if names[key] | foreign[key]}) - lost.keys():
        left = {key: record for key, record in recorded.answers.items() if key not in lost}
        found = planned(flow.workflow(), replace(recorded, answers=left))
        runs: dict[NodeId, frozenset[str]] = {event.node: frozenset() for event in found.waiting}
        runs |= {one.task.node: _repeats_read(one.task, signer) for one in found.tasks}

        def read(event: NodeFinished, left: Mapping[str, set[str]], runs: dict[NodeId, frozenset[str]] = runs) -> bool:
            names = left.get(event.key, set())
            return any(_takes(steps[path_of(node)], event.node, names, more) for node, more in runs.items())

        more: dict[str, str] = {}
        for event in found.kept:
            behind = event.key in gone and any(_behind(node, event.node, flow.built.block) for node in runs)
            if behind or read(event, names):
                more[event.key] = "a file of its results is gone"
            elif ":" in event.node[-1] and read(event, foreign):
                more[event.key] = "what it left was saved by somebody else"
        if not more:
            break
        lost |= more
    return lost


def _is_gone(value: Value, folder: Path) -> bool:
    """Whether a file is not there that a value is saved in."""
    return any(not (folder / file.path).exists() for file in files_of(value))


def _takes(step: Step, giver: NodeId, names: Collection[str], more: Collection[str]) -> bool:
    """Whether a step that will run may read one of some names that a node has left, or a function that uses one; with
    what else is read in its kernel."""
    if isinstance(step, FanOut) and step.single:
        step = step.body.steps[0]
    if not names or not isinstance(step, CellsStep) or step.piece is None:
        return False
    last = path_of(giver)[-1]
    if last not in {piece.id for piece in step.earlier}:
        return False
    return step.piece.reads is None or any(name in KEPT or name in step.piece.reads or name in more for name in names)


def _behind(node: NodeId, other: NodeId, block: Block) -> bool:
    """Whether a node waits for another one."""
    lists: tuple[Block, ...] = (block,)
    inside = False
    for (step, turn), (before, earlier) in zip(tokens(node), tokens(other), strict=False):
        if turn != earlier:  # another item, or another turn
            return inside and turn is not None and earlier is not None and int(turn) > int(earlier)
        here = next((one for one in lists if step in one.at and before in one.at), None)
        if here is None:
            return False
        if step != before:
            return bool(here.before[here.at[step]] >> here.at[before] & 1)
        lists, inside = here.steps[here.at[step]].blocks, isinstance(here.steps[here.at[step]], Loop)
    return False


# -- why ----------------------------------------------------------------------------------------------------------


def explained_nodes(request: Request) -> list[PlannedNode]:
    """Give what would be done with each task and gate, and why."""
    found, flow, signer = request.plan(), request.definition, Signer()
    assert isinstance(flow, FlowDefinition)
    questions = _questions(request)
    rows = [
        PlannedNode(
            node_text(e.node), e.label, runs=False, reason="left out" if e.outcome.status == "pending" else "kept"
        )
        for e in found.kept
    ]
    for one in found.tasks:
        asked = request.forgets == ("*",) or one.task.key in request.forgets
        gone = request.lost.get(one.task.key, "")
        reason = "asked for" if asked else gone or _reason(request, flow, one)
        reason += _with_repeats(one.task, signer)
        code = one.task.key in questions
        rows.append(PlannedNode(node_text(one.task.node), one.task.label, runs=True, reason=reason, code=code))
    rows += [PlannedNode(node_text(g.node), g.label, runs=True, reason="waits for a person") for g in found.gates]
    rows += _waiting(request, flow, found)
    places = [*steps_below(flow.built.block)]
    at = {path: place for place, path in enumerate(places)}
    return sorted(rows, key=lambda row: _place(tuple(row.node.split("/")), at))


def _repeats(task: Task, signer: Signer) -> tuple[list[str], tuple[Piece, ...]]:
    """Give the names that cannot be restored for a step of a notebook, and the steps that it repeats for them."""
    step = task.step
    if not isinstance(step, CellsStep) or step.piece is None:
        return [], ()
    past = Past(step.earlier, task.given)  # type: ignore[arg-type]  # what steps left are mappings

    def known(entry: Entry) -> bool:
        return trusted(entry, signer)

    lost = past.lost(step.piece, known)
    return lost, past.repeated(lost, known)


def _repeats_read(task: Task, signer: Signer) -> frozenset[str]:
    """Give the names that the steps read which a step of a notebook repeats, where that is known."""
    return frozenset(name for piece in _repeats(task, signer)[1] for name in piece.reads or ())


def _with_repeats(task: Task, signer: Signer) -> str:
    """Give which steps a step of a notebook repeats in its kernel, for names that could not be saved."""
    lost, again = _repeats(task, signer)
    return f", repeats {', '.join(one.id for one in again)} ({', '.join(lost)} cannot be restored)" if again else ""


def _questions(request: Request) -> Mapping[str, NodeId]:
    """Give the tasks about which a resume would ask first."""
    if request.stored is None or request.forgets == ("*",):
        return {}
    before = request.stored.definition
    assert isinstance(before, FlowDefinition)
    return _repeated(request, before).changed


def _waiting(request: Request, flow: FlowDefinition, found: Plan) -> Iterator[PlannedNode]:
    """Give the steps that are not reached before others have ended, without those that only gather."""
    steps, runs = steps_below(flow.built.block), request.recorded.only is None
    for event in found.waiting:
        assert event.outcome.error is not None
        if event.leaf or steps[path_of(event.node)].blocks:
            reason = event.outcome.error.message if runs else "left out"
            yield PlannedNode(node_text(event.node), event.label, runs=runs, reason=reason)


def _place(node: NodeId, at: Mapping[tuple[str, ...], int]) -> tuple[int, ...]:
    """Give where a node stands in the order of one worker: its step in each list on the way, each with item or turn."""
    path: tuple[str, ...] = ()
    place: list[int] = []
    for step_id, turn in tokens(node):
        path = (*path, step_id)
        place += [int(turn or 0), at[path]]  # the items of a list come one after the other, each with all its steps
    return tuple(place)


def _reason(request: Request, flow: FlowDefinition, one: Planned) -> str:
    reason, node = one.reason, one.task.node
    if request.stored is None:
        return reason
    before = request.stored.definition
    assert isinstance(before, FlowDefinition)
    if reason == "code":
        code = code_of(request.recorded.answers[one.task.key])
        return f"{flow.code_since(before, {node: code}) or 'its code'} changed"
    if reason == "parameters":
        defaults = flow.followed(before)
        names = [n for n, value in flow.given.items() if n not in defaults and before.given.get(n, ...) != value]
        words = [f"input {', '.join(names)}"] if names else []
        words += [f"default of {', '.join(defaults)}"] if defaults else []
        return f"{' and '.join(words) or 'parameters'} changed"
    if reason == "waits":
        answer = request.recorded.answers.get(one.task.key)
        edited = "" if answer is None else flow.code_since(before, {node: code_of(answer)})
        return f"{edited or 'what it waits for'} changed"
    return reason


# -- from and only ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Again:
    """A step or node that is to run again, and what waits for it."""

    spine: tuple[Token, ...]
    dependents: tuple[frozenset[str], ...]
    """For each list on the way: the ids of the steps that wait for the one on the way."""
    loops: tuple[bool, ...]
    """For each list on the way: whether it is the body of a loop, whose later turns wait for the earlier ones."""

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
            return Again(spine, *_around(block, [step for step, _ in spine]))
        known = list(steps_below(block))
        found = [path for path in known if path[-1] == text or "/".join(path) == text]
        if len(found) == 1:
            return Again(tuple((step, None) for step in found[0]), *_around(block, list(found[0])))
        if found:
            several = ", ".join("/".join(path) for path in found)
            raise TargetError(f"{text!r}: {len(found)} steps are called so: {several}", "Name one of them.")
        ids = list(dict.fromkeys(path[-1] for path in known))
        items = [node_text(node) for node in nodes if node[-1].startswith(f"{text.partition(' ')[0]}:")]
        called = f"Call an item as nbflow results does: {items[0]}" if items else f"There are: {', '.join(ids[:20])}."
        raise TargetError(f"there is no step {text!r}.{did_you_mean(text, ids)}", called)

    def wants(self, node: NodeId, *, dependents: bool) -> bool:
        """Whether a node is to run again; with or without what waits for it."""
        given = tokens(node)
        if _begins(given, self.spine):
            return True
        return dependents and any(
            len(given) > level and _begins(given, self.spine[:level]) and self._waits(given[level], level)
            for level in range(len(self.spine))
        )

    def _waits(self, given: Token, level: int) -> bool:
        """Whether what stands in a list on the way waits for what is on the way."""
        (step, turn), (_, wanted) = given, self.spine[level]
        if self.loops[level] and turn is not None and wanted is not None and int(turn) > int(wanted):
            return True
        return step in self.dependents[level] and wanted in (None, turn)


def _begins(given: list[Token], spine: tuple[Token, ...]) -> bool:
    return len(given) >= len(spine) and all(
        one[0] == wanted[0] and wanted[1] in (None, one[1]) for one, wanted in zip(given, spine, strict=False)
    )


def _around(block: Block, spine: list[str]) -> tuple[tuple[frozenset[str], ...], tuple[bool, ...]]:
    """Give for each list on the way who waits for the step on the way, and whether it is the body of a loop."""
    found: list[frozenset[str]] = []
    loops: list[bool] = []
    lists: tuple[Block, ...] = (block,)
    inside = False
    for step_id in spine:
        here = next((one for one in lists if step_id in one.at), None)
        if here is None:
            break
        place = here.at[step_id]
        found.append(frozenset(one.id for at, one in enumerate(here.steps) if here.before[at] >> place & 1))
        loops.append(inside)
        lists, inside = here.steps[place].blocks, isinstance(here.steps[place], Loop)
    left = len(spine) - len(found)
    return (*found, *[frozenset[str]()] * left), (*loops, *[False] * left)
