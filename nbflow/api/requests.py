"""Requests: what is asked for, checked from end to end before anything is started or written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from pathlib import Path
from typing import Any, get_args

from ..engine.plan import Repeated, plan
from ..engine.recorded import Recorded
from ..errors import LockedError, ParameterError, RefusedError, TargetError, did_you_mean
from ..loading.items import Items
from ..loading.parameters import check, shared_values
from ..outcome import Record
from ..reporters.text import Earlier as Earlier  # the command line has its type from here
from ..sizes import size_or_share
from ..source import Notebook, assigned, read_notebook
from ..steps import KernelStart
from ..store.home import Home
from ..store.lock import read_owner
from ..store.names import new_run_id
from ..store.surroundings import usable_cores
from ..types import Changed
from ..values import digest
from .copies import check_folder, names
from .definition import MapDefinition, changes, check_secrets, code_of, find_item, from_home, own_kernel
from .reading import Stored, locate
from .session import Request, answers, ask


@dataclass(frozen=True, slots=True)
class Planned:
    """What a resume would do with one item."""

    index: int
    label: str
    runs: bool
    """Whether it would run."""
    reason: str
    """``kept``, ``asked for``, ``left out``, ``never ran``, ``failed``, ``interrupted``, ``cell 5 changed``,
    ``parameter year changed``."""
    code: bool = False
    """Whether it runs again only because its code changed: a question for a person."""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """What a run would do with one task or gate."""

    node: str
    label: str
    runs: bool
    """Whether it would run."""
    reason: str
    """``kept``, ``asked for``, ``left out``, ``never ran``, ``failed``, ``interrupted``, ``parameters changed``,
    ``a file of its results is gone``, ``what it left was saved by somebody else``,
    ``cell 5 of fit.ipynb changed``, ``what it waits for changed``, ``waits for load``, ``waits for a person``."""
    code: bool = False
    """Whether it runs again only because its code changed: a question for a person."""


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """The options of a map, as they were given."""

    max_concurrency: int | None = None
    kernel: str | None = None
    output: tuple[str, ...] = ()
    output_dir: str | None = None
    name: str | None = None
    cwd: str = "notebook"
    start: KernelStart | None = None
    timeout: float | None = None
    memory: int | None = None
    """Bytes."""
    max_memory: str | float | None = None
    retry: int = 0
    fail_fast: bool = False
    max_failures: int | None = None
    secret: tuple[str, ...] = ()
    changed: Changed = "ask"
    state_dir: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a resume sets anew for the rest of a map; ``None`` leaves it as it was."""

    fail_fast: bool | None = None
    """``False`` takes away either limit of failures."""
    max_failures: int | None = None
    timeout: float | None = None
    """Seconds that an item may take."""
    start: KernelStart | None = None
    """How kernels start."""
    memory: int | None = None
    """Bytes of memory that an item needs."""

    def of(self, definition: MapDefinition) -> MapDefinition:
        """Give a map with these limits; what finished of it stays finished."""
        check_failures(fail_fast=bool(self.fail_fast), max_failures=self.max_failures)
        if self.fail_fast is not None or self.max_failures is not None:
            definition = replace(definition, fail_fast=bool(self.fail_fast), max_failures=self.max_failures)
        if self.start is not None:
            definition = replace(definition, start=self.start.data())
        if self.timeout is not None:
            definition = replace(definition, timeout=self.timeout)
        return definition if self.memory is None else replace(definition, memory=self.memory)

    def refuse(self, workflow: str) -> None:
        """Raise if there is anything in it: the steps of a workflow say that themselves."""
        switch = "--fail-fast" if self.fail_fast else "--no-fail-fast"
        given = {
            switch: self.fail_fast,
            "--max-failures": self.max_failures,
            "--timeout": self.timeout,
            "--memory": self.memory,
        }
        for option, value in given.items():
            if value is not None:
                raise ParameterError(
                    f"{option} is an option of maps, and {workflow} is a workflow",
                    "Its steps say it themselves, by the keys on_error, max_failures, timeout, memory.",
                )


def check_failures(*, fail_fast: bool, max_failures: int | None) -> None:
    """Raise if these limits of failures say nothing, or two things."""
    if max_failures is not None and max_failures < 1:
        raise ParameterError(f"--max-failures is {max_failures}", "It is a number from 1.")
    if max_failures is not None and fail_fast:
        raise ParameterError(
            "--fail-fast and --max-failures are both given", "--fail-fast is --max-failures 1: keep one of them."
        )


def check_max_memory(given: str | float | None) -> str | float | None:
    """Give a limit of memory as it was said; raise if it is none."""
    if given is not None:
        size_or_share(given, 1, "max_memory (--max-memory)")
    return given


def default_concurrency() -> int:
    """Give how many items run at a time by default: four, or as many cores as there are for us."""
    return min(4, usable_cores())


def map_request(notebook: Notebook, items: Items, options: MapOptions) -> Request:
    """Check a new map; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    home = Home.of(notebook.path, options.state_dir)
    definition = _definition(home, notebook, items, options)
    home.check()
    return Request(
        home=home,
        notebooks={home.name: notebook},
        definition=definition,
        run_id=free_id(home),
        workers=definition.max_concurrency,
        recorded=Recorded(),
        warnings=(*items.warnings, *_unassigned(notebook, options.output)),
    )


def _unassigned(notebook: Notebook, names: Sequence[str]) -> Iterator[str]:
    """Warn of results that no cell gives: by other ways than an assignment there may be one all the same."""
    known = assigned(notebook) if names else None
    for name in names:
        if known is not None and name not in known:
            yield f"--output {name}: no cell of {notebook.name} assigns it.{did_you_mean(name, sorted(known))}"


def again_request(notebook: Notebook, items: Items, options: MapOptions, *, ask_first: bool = True) -> Request:
    """Check a map that goes on with the newest run of its notebook; without one it is new."""
    home = Home.of(notebook.path, options.state_dir)
    try:
        stored = locate(notebook.path, state_dir=options.state_dir)
    except TargetError:
        return map_request(notebook, items, options)
    before = map_of(stored)
    kernel = options.kernel or own_kernel(notebook)
    options = replace(options, changed=_answered(before, options.changed, notebook, kernel))
    if options.kernel not in (None, before.kernel) and options.changed == "ask":
        options = replace(options, changed="rerun")  # it was just asked for
    request = map_request(notebook, items, options)
    request = replace(request, definition=map_of(request).after(before, stored.records))
    recorded = answers(stored.records, options.changed)
    adopted = _renamed(before, map_of(request), recorded)
    recorded = replace(recorded, answers={**recorded.answers, **dict(adopted)})
    request = replace(request, run_id=stored.id, stored=stored, recorded=recorded, adopted=adopted)
    refuse_at_work(stored)
    if ask_first:
        ask(request, _repeated(request), before, f"nbflow map {home.name} ... --resume")
    return request


def _renamed(before: MapDefinition, now: MapDefinition, recorded: Recorded) -> tuple[tuple[str, Record], ...]:
    """Give the records of items whose parameters stayed while names went between the items and the shared ones."""
    if {name for item in before.items for name in item} == {name for item in now.items for name in item}:
        return ()
    known: dict[str, list[Record]] = {}
    for index, key in enumerate(_keys(before)):
        if (record := recorded.answers.get(key)) is not None:
            known.setdefault(digest(before.parameters(index)), []).append(record)
    found = []
    for index, key in enumerate(_keys(now)):
        same = known.get(digest(now.parameters(index)))
        if same and key not in recorded.answers:
            found.append((key, same.pop(0)))
    return tuple(found)


def resume_request(
    stored: Stored,
    *,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
    max_concurrency: int | None = None,
    max_memory: str | float | None = None,
    limits: Limits = Limits(),
    changed: Changed = "ask",
    from_: str | None = None,
    only: str | None = None,
    force: bool = False,
    take_over: bool = False,
    target: str = "",
    ask_first: bool = True,
) -> Request:
    """Check that a run can be taken up again; nothing is written.

    Parameters
    ----------
    stored : Stored
        The run.
    parameters : mapping, optional
        New values for parameters that all items share.
    text : bool
        Whether those are texts, as the command line gives them.
    limits : Limits
        What counts for the rest instead of what was said at the start.
    ask_first : bool
        Whether changed code of finished items is a question; a dry run only shows it.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    check_changed(changed)
    if from_ is not None and only is not None:
        raise ParameterError("--from and --only are both given", "--only starts nothing else: keep one of them.")
    if force and (from_ is not None or only is not None):
        one = "--only" if only is not None else "--from"
        raise ParameterError(
            f"--force and {one} are both given",
            f"{one} runs that item again by itself, --force all of them: keep one.",
        )
    before = map_of(stored)
    notebook = read_notebook(stored.home.file)
    definition = before.of(notebook)
    changed = _answered(before, changed, notebook, definition.kernel)
    definition = limits.of(replace(definition.after(before, stored.records), changed=changed))
    if max_concurrency is not None:
        definition = replace(definition, max_concurrency=concurrency(max_concurrency))
    if max_memory is not None:
        definition = replace(definition, max_memory=check_max_memory(max_memory))
    warnings: list[str] = []
    shared = definition.shared
    given = dict(parameters or {})
    of_items = list(dict.fromkeys(name for item in definition.items for name in item))
    if clash := [name for name in given if name in of_items]:
        raise ParameterError(
            f"{clash[0]} differs from item to item, so it cannot be set for all of them.",
            f"Start again with other items: nbflow map {notebook.name} --resume ... keeps those that stay the same.",
        )
    if given:
        shared = {**shared, **shared_values(notebook, given, text=text, place="-p" if text else "")}
    warnings += check(notebook, [*shared, *of_items])
    if given:
        definition = replace(definition, shared=shared)
    check_secrets(definition, os.environ)
    check_kernel(definition.kernel)
    item = from_ if from_ is not None else only
    forgets: tuple[str, ...] = ("*",) if force else ()
    if item is not None and not force:
        forgets = (_keys(definition)[find_item(definition, item, target)],)
    asked = ["--force"] if force else []
    asked += [f"--from={from_}"] if from_ is not None else []
    asked += [f"--only={only}"] if only is not None else []
    request = Request(
        home=stored.home,
        notebooks={stored.home.name: notebook},
        definition=definition,
        run_id=stored.id,
        workers=definition.max_concurrency,
        recorded=_without(answers(stored.records, changed), forgets, only=only is not None),
        forgets=forgets,
        stored=stored,
        warnings=tuple(warnings),
        take_over=take_over,
        again=tuple(asked),
    )
    refuse_at_work(stored, take_over=take_over)
    if ask_first and not force:
        ask(request, _repeated(request), before, f"nbflow resume {target or stored.home.name}")
    return request


def _repeated(request: Request) -> Repeated:
    """Give the finished items that run again for their code; nothing waits for an item."""
    return Repeated({one.task.key: one.task.node for one in request.plan().tasks if one.reason == "code"})


def check_changed(given: str) -> None:
    """Raise if this is no word for what to do with changed code."""
    if given not in get_args(Changed):
        raise ParameterError(
            f"changed is {given!r}{did_you_mean(given, list(get_args(Changed)))}",
            "It is keep or rerun: what to do with finished items whose code changed.",
        )


def map_of(holder: Stored | Request) -> MapDefinition:
    """Give the definition of a map's run."""
    definition = holder.definition
    assert isinstance(definition, MapDefinition), "a workflow has requests of its own"
    return definition


def _answered(before: MapDefinition, changed: Changed, notebook: Notebook, kernel: str) -> Changed:
    """Give what holds for changed code: an answer stands until the code changes again, or the kernel."""
    same = before.source == notebook.digest and before.kernel == kernel
    return before.changed if changed == "ask" and same else changed


def _without(recorded: Recorded, forgets: tuple[str, ...], *, only: bool) -> Recorded:
    """Give the records without those that somebody does not want any more; with ``only`` nothing else may start."""
    if forgets == ("*",):
        return Recorded(same=recorded.same)
    kept = {key: record for key, record in recorded.answers.items() if key not in forgets}
    return replace(recorded, answers=kept, only=frozenset(forgets) if only else None)


def _keys(definition: MapDefinition) -> list[str]:
    """Give who each item is, in item order."""
    return [one.task.key for one in plan(definition.workflow(), Recorded()).tasks]


def refuse_at_work(stored: Stored, *, take_over: bool = False) -> None:
    """Raise if another process works at the run."""
    owner = read_owner(stored.folder)
    if owner is None or not owner.alive(time.time()) or take_over:
        return
    if owner.here and owner.pid == os.getpid() and not stored.at_work:
        return
    raise LockedError(
        f"run {stored.id} is at work in {at_work(stored.folder)}",
        f"Wait for it, or stop it: nbflow cancel {stored.id}"
        + ("" if owner.here else "\nIf that process is dead for certain, add --take-over."),
    )


def at_work(folder: Path) -> str:
    """Give who works at the run of a folder, such as ``process 4711 on host7``; empty if nobody does."""
    owner = read_owner(folder)
    if owner is None or not owner.alive(time.time()):
        return ""
    return f"process {owner.pid}{'' if owner.here else f' on {owner.host}'}"


def _definition(home: Home, notebook: Notebook, items: Items, options: MapOptions) -> MapDefinition:
    check_changed(options.changed)
    for option, text in (("kernel", options.kernel), ("cwd", options.cwd), ("output-dir", options.output_dir)):
        if text is not None and not text.strip():
            raise ParameterError(f"--{option} {text!r} is empty", f"Leave it out, or say which: --{option} NAME")
    if any(not name.strip() for name in options.output):
        raise ParameterError(
            f"--output {','.join(options.output)!r} has an empty name in it",
            "Write names like this: --output rmse,n_days",
        )
    for name in options.output:
        if not name.isidentifier() or iskeyword(name):
            raise ParameterError(
                f"--output {name!r} can be no name in a notebook", "Write names like this: --output rmse,n_days"
            )
    for name in options.secret:
        if name not in os.environ:
            raise ParameterError(
                f"--secret {name}: there is no environment variable of that name", f"Set it: export {name}=..."
            )
    check_failures(fail_fast=options.fail_fast, max_failures=options.max_failures)
    if options.retry < 0:
        raise ParameterError(f"--retry is {options.retry}", "It is how often an item is tried, from 0.")
    if options.name is not None and options.output_dir is None:
        raise ParameterError(f"--name {options.name!r} is given without --output-dir", "Say where: --output-dir DIR")
    cwd = options.cwd if options.cwd in ("notebook", "item") else from_home(home.folder, options.cwd)
    if options.cwd not in ("notebook", "item") and not (home.folder / cwd).is_dir():
        raise ParameterError(
            f"--cwd {options.cwd!r}: no such folder", "It is notebook, item, or a folder that is there."
        )
    kernel = options.kernel or own_kernel(notebook)
    check_kernel(kernel)
    definition = MapDefinition(
        notebook=home.name,
        items=items.rows,
        shared=items.shared,
        varying=items.varying,
        source=notebook.digest,
        cells=notebook.cell_digests,
        kernel=kernel,
        max_concurrency=concurrency(options.max_concurrency),
        outputs=options.output,
        cwd=cwd,
        start=None if options.start is None else options.start.data(),
        timeout=options.timeout,
        memory=options.memory,
        max_memory=check_max_memory(options.max_memory),
        retry=options.retry,
        fail_fast=options.fail_fast,
        max_failures=options.max_failures,
        output_dir=None if options.output_dir is None else from_home(home.folder, options.output_dir),
        name=options.name,
        secrets=options.secret,
        kernel_asked=options.kernel is not None,
        changed=options.changed,
    )
    check_secrets(definition, os.environ)
    if definition.output_dir is not None:
        check_folder(home.folder / definition.output_dir)
        names(definition, home.folder)
    return definition


def check_kernel(name: str) -> None:
    """Raise if there is no kernel of this name."""
    from ..kernels import check

    check(name)


def concurrency(given: object) -> int:
    """Give the items in flight: a whole number from 1, or the default for ``None``."""
    if given is None:
        return default_concurrency()
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ParameterError(
            f"max_concurrency (-j) is {given!r}", "It is a whole number from 1: how many items run at a time."
        )
    return given


def free_id(home: Home) -> str:
    """Give an id that no run of this home has."""
    while (home.runs_folder / (run_id := new_run_id(time.time()))).exists():
        pass
    return run_id


def earlier(home: Home) -> Earlier | None:
    """Give a run of a notebook or workflow that is at work, or else the newest one if it could be resumed."""
    for folder in reversed(home.runs()):
        if worker := at_work(folder):
            return Earlier(folder.name, worker)
    try:
        stored = locate(home.file, state_dir=None if home.base == home.folder else home.base.parent)
        status = stored.status
    except RefusedError:
        return None
    return Earlier(stored.id) if status in ("failed", "interrupted", "paused") else None


def resuming(stored: Stored) -> Callable[..., Request]:
    """Give what checks that a run of this kind can be taken up again; it takes what :func:`resume_request` takes."""
    if stored.definition.kind == "map":
        return resume_request
    from .flow_requests import flow_resume_request  # what only workflows need is not loaded for a map

    return flow_resume_request


def planning(request: Request) -> list[Planned] | list[PlannedNode]:
    """Give what would be done with each item or node, and why."""
    if request.definition.kind == "map":
        return explained(request)
    from .flow_requests import explained_nodes

    return explained_nodes(request)


def explained(request: Request) -> list[Planned]:
    """Give what would be done with each item, and why."""
    planned = request.plan()
    rows = [
        Planned(e.index or 0, e.label, runs=False, reason="left out" if e.outcome.status == "pending" else "kept")
        for e in planned.kept
    ]
    known = request.recorded.answers
    codes = {one.task.key: code_of(known[one.task.key]) for one in planned.tasks if one.reason == "code"}
    places = {code: changes([code], map_of(request)) for code in set(codes.values())}
    for one in planned.tasks:
        asked = request.forgets == ("*",) or one.task.key in request.forgets
        reason = "asked for" if asked else _reason(request, one.reason)
        reason = f"{places[codes[one.task.key]]} changed" if reason == "code" else reason
        code = one.reason == "code" and not asked
        rows.append(Planned(one.task.index or 0, one.task.label, runs=True, reason=reason, code=code))
    return sorted(rows, key=lambda row: row.index)


def _reason(request: Request, reason: str) -> str:
    if request.stored is None:
        return reason
    before, now = map_of(request.stored), map_of(request)
    if reason == "parameters":
        changed = [name for name, value in now.shared.items() if before.shared.get(name, ...) != value]
        names = {"outputs": "--output", "cwd": "--cwd"}
        options = [words for name, words in names.items() if getattr(before, name) != getattr(now, name)]
        if changed or not options:
            return f"parameter {', '.join(changed)} changed" if changed else "parameters changed"
        return f"{', '.join(options)} changed"
    return reason
