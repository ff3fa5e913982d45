"""The api: the one place that wires notebooks, engine, store and reporters together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

from ..durations import seconds as duration
from ..engine.plan import Plan
from ..engine.recorded import Recorded
from ..errors import ParameterError, RefusedError, StoreError, TargetError, did_you_mean
from ..events import Event
from ..loading.items import Items, build_items
from ..loading.parameters import check, shared_values
from ..source import Notebook, read_notebook
from ..store import commands
from ..store.home import Home, all_runs
from ..store.journal import Records
from ..store.names import new_run_id
from ..store.surroundings import usable_cores
from ..types import Changed
from .copies import check_folder, names
from .definition import MapDefinition, changed_places, find_item
from .interrupts import Interrupts
from .reading import Stored, locate
from .run import Item, Run
from .session import OnEvent, Request, Session, answers, ask

__all__ = [
    "Item",
    "Planned",
    "Run",
    "cancel",
    "clean",
    "logs",
    "map",
    "results",
    "resume",
    "status",
]

_WRONG_NAMES = {
    "n_jobs": "max_concurrency",
    "workers": "max_concurrency",
    "max_workers": "max_concurrency",
    "jobs": "max_concurrency",
    "params": "parameters",
    "outputs": "output",
    "kernel_name": "kernel",
    "retries": "retry",
    "secrets": "secret",
    "callback": "on_event",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """What a resume would do with one item."""

    index: int
    label: str
    runs: bool
    """Whether it would run."""
    reason: str
    """``kept``, ``never ran``, ``failed``, ``interrupted``, ``cell 5 changed``, ``parameter year changed``."""


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """The options of a map, as they were given."""

    max_concurrency: int | None = None
    kernel: str | None = None
    output: tuple[str, ...] = ()
    output_dir: str | None = None
    name: str | None = None
    cwd: str = "notebook"
    timeout: float | None = None
    retry: int = 0
    fail_fast: bool = False
    max_failures: int | None = None
    secret: tuple[str, ...] = ()
    changed: Changed = "ask"
    state_dir: Path | None = None


def default_concurrency() -> int:
    """Give how many items run at a time by default: four, or as many cores as there are for us."""
    return min(4, usable_cores())


# -- requests: everything is checked before anything is written ---------------------------------------------


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
        notebook=notebook,
        definition=definition,
        run_id=_free_id(home),
        workers=definition.max_concurrency,
        recorded=Recorded(),
        warnings=tuple(items.warnings),
    )


def again_request(notebook: Notebook, items: Items, options: MapOptions) -> Request:
    """Check a map that goes on with the newest run of its notebook; without one it is new."""
    home = Home.of(notebook.path, options.state_dir)
    try:
        stored = locate(notebook.path, state_dir=options.state_dir)
    except TargetError:
        return map_request(notebook, items, options)
    request = map_request(notebook, items, options)
    request = replace(request, run_id=stored.id, stored=stored, recorded=answers(stored.records, options.changed))
    _refuse_at_work(stored)
    ask(request, request.plan(), _before(stored, request), f"nbflow map {home.name} ... --resume")
    return request


def resume_request(
    stored: Stored,
    *,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
    max_concurrency: int | None = None,
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
    ask_first : bool
        Whether changed code of finished items is a question; a dry run only shows it.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    before = stored.definition
    notebook = read_notebook(stored.home.file)
    definition = replace(before.of(notebook), changed=changed)
    if max_concurrency is not None:
        definition = replace(definition, max_concurrency=concurrency(max_concurrency))
    warnings: list[str] = []
    shared = definition.shared
    given = dict(parameters or {})
    if clash := [name for name in given if definition.items and name in definition.items[0]]:
        raise ParameterError(
            f"{clash[0]} differs from item to item, so it cannot be set for all of them.",
            f"Start again with other items: nbflow map {notebook.name} --resume ... keeps those that stay the same.",
        )
    if given:
        shared = {**shared, **shared_values(notebook, given, text=text, place="-p" if text else "")}
    warnings += check(notebook, [*shared, *(definition.items[0] if definition.items else ())])
    if given:
        definition = replace(definition, shared=shared)
    _check_kernel(definition.kernel)
    request = Request(
        home=stored.home,
        notebook=notebook,
        definition=definition,
        run_id=stored.id,
        workers=definition.max_concurrency,
        recorded=_forgetting(stored, definition, changed, from_ or only, only=only is not None, force=force),
        stored=stored,
        warnings=tuple(warnings),
        take_over=take_over,
    )
    _refuse_at_work(stored, take_over=take_over)
    if ask_first and not force:
        ask(request, request.plan(), _before(stored, request), f"nbflow resume {target or stored.home.name}")
    return request


def _before(stored: Stored, request: Request) -> MapDefinition:
    del request
    return stored.definition


def _forgetting(
    stored: Stored, definition: MapDefinition, changed: Changed, item: str | None, *, only: bool, force: bool
) -> Recorded:
    """Give the records without those that somebody wants to have again."""
    if force:
        return Recorded()
    recorded = answers(stored.records, changed)
    if item is None:
        return recorded
    key = _keys(definition)[find_item(definition, item)]
    kept = {k: record for k, record in recorded.answers.items() if k != key}
    return replace(recorded, answers=kept, only=frozenset([key]) if only else None)


def _keys(definition: MapDefinition) -> list[str]:
    """Give who each item is, in item order."""
    from ..engine.plan import plan

    return [one.task.key for one in plan(definition.workflow(), Recorded()).tasks]


def _refuse_at_work(stored: Stored, *, take_over: bool = False) -> None:
    from ..errors import LockedError
    from ..store.lock import read_owner

    owner = read_owner(stored.folder)
    if owner is None or not owner.alive(time.time()) or take_over:
        return
    if owner.here and owner.pid == os.getpid() and not stored.at_work:
        return
    raise LockedError(
        f"run {stored.id} is at work in process {owner.pid}{'' if owner.here else f' on {owner.host}'}",
        f"Wait for it, or stop it: nbflow cancel {stored.id}"
        + ("" if owner.here else "\nIf that process is dead for certain, add --take-over."),
    )


def _definition(home: Home, notebook: Notebook, items: Items, options: MapOptions) -> MapDefinition:
    for name in options.secret:
        if name not in os.environ:
            raise ParameterError(
                f"--secret {name}: there is no environment variable of that name", f"Set it: export {name}=..."
            )
    if options.max_failures is not None and options.max_failures < 1:
        raise ParameterError(f"--max-failures is {options.max_failures}", "It is a number from 1.")
    if options.max_failures is not None and options.fail_fast:
        raise ParameterError(
            "--fail-fast and --max-failures are both given", "--fail-fast is --max-failures 1: keep one of them."
        )
    if options.retry < 0:
        raise ParameterError(f"--retry is {options.retry}", "It is how often an item is tried, from 1.")
    if options.name is not None and options.output_dir is None:
        raise ParameterError(f"--name {options.name!r} is given without --output-dir", "Say where: --output-dir DIR")
    if options.cwd not in ("notebook", "item") and not (home.folder / options.cwd).is_dir():
        raise ParameterError(
            f"--cwd {options.cwd!r}: no such folder", "It is notebook, item, or a folder that is there."
        )
    kernel = options.kernel or notebook.kernel or "python3"
    _check_kernel(kernel)
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
        cwd=options.cwd,
        timeout=options.timeout,
        retry=options.retry,
        fail_fast=options.fail_fast,
        max_failures=options.max_failures,
        output_dir=options.output_dir,
        name=options.name,
        secrets=options.secret,
        changed=options.changed,
    )
    if definition.output_dir is not None:
        check_folder(home.folder / definition.output_dir)
        names(definition)
    return definition


def _check_kernel(name: str) -> None:
    from ..kernels import check as check_kernel

    check_kernel(name)


def concurrency(given: object) -> int:
    """Give the items in flight: a whole number from 1, or the default for ``None``."""
    if given is None:
        return default_concurrency()
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ParameterError(
            f"max_concurrency (-j) is {given!r}", "It is a whole number from 1: how many items run at a time."
        )
    return given


def _free_id(home: Home) -> str:
    while (home.runs_folder / (run_id := new_run_id(time.time()))).exists():
        pass
    return run_id


def unfinished(home: Home) -> str:
    """Give the id of the newest run of a notebook if it could be resumed; empty otherwise."""
    try:
        stored = locate(home.file, state_dir=None if home.base == home.folder else home.base.parent)
        status = stored.run().status
    except RefusedError:
        return ""
    return stored.id if status in ("failed", "interrupted", "paused") else ""


# -- for people -----------------------------------------------------------------------------------------------


def map(  # noqa: A001 - what it does is what the built-in map does
    notebook: str | os.PathLike[str],
    items: Any = None,
    *,
    grid: Mapping[str, Iterable[Any]] | None = None,
    zip: Mapping[str, Iterable[Any]] | None = None,  # noqa: A002 - the built-in's meaning
    parameters: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    max_concurrency: int | None = None,
    kernel: str | None = None,
    output: Sequence[str] = (),
    output_dir: str | os.PathLike[str] | None = None,
    name: str | None = None,
    cwd: str | os.PathLike[str] = "notebook",
    timeout: float | str | None = None,
    retry: int = 0,
    fail_fast: bool = False,
    max_failures: int | None = None,
    resume: bool = False,
    changed: Changed = "ask",
    detach: bool = False,
    dry_run: bool = False,
    secret: Sequence[str] = (),
    quiet: bool = False,
    state_dir: str | os.PathLike[str] | None = None,
    on_event: OnEvent | Sequence[OnEvent] = (),
    **unknown: object,
) -> Any:
    """Run one notebook over many parameter sets, several at a time, and give the run when it has ended.

    Parameters
    ----------
    notebook : path
        The notebook; its parameters stand in the cell tagged ``parameters``.
    items : path, DataFrame, or iterable, optional
        A table (CSV, JSON, YAML), or one mapping of parameters per item, in item order.
    grid : mapping of names to lists, optional
        Every combination is an item.
    zip : mapping of names to lists, optional
        Lists of equal length, taken side by side.
    parameters : mapping, optional
        What all items share.
    columns : sequence of str, optional
        The columns of ``items`` that are used.
    max_concurrency : int, optional
        Items in flight at most; by default four, or the usable cores if they are fewer.
    kernel : str, optional
        Name of the kernel; by default the notebook's own.
    output : sequence of str, optional
        Names of the results; by default those of the cell tagged ``results``.
    output_dir, name : str, optional
        Copy finished notebooks there, called by this template (``"{city}"``).
    cwd : str
        Where kernels start: ``"notebook"`` (its directory), ``"item"`` (an empty folder each), or a folder.
    timeout : float or str, optional
        Seconds (or ``"30m"``) that an item may take.
    retry : int
        How often an item is tried; 0: only a kernel that did not start is tried again.
    fail_fast : bool
        Start nothing more after the first failure.
    max_failures : int, optional
        Start nothing more after so many failures.
    resume : bool
        Go on with the newest run of this notebook: finished items with equal parameters are kept.
    changed : {"ask", "keep", "rerun"}
        What to do with finished items whose code changed.
    detach : bool
        Let a process of its own do it, and come back at once.
    dry_run : bool
        Only say what would be done: gives a list of :class:`Planned`.
    secret : sequence of str, optional
        Names of environment variables whose values are masked in everything written.
    quiet : bool
        Show no progress.
    state_dir : path, optional
        Where to keep runs instead of beside the notebook; also ``NBFLOW_STATE_DIR``.
    on_event : callable or sequence of callables, optional
        Called with each event, one at a time and in order, in a thread of their own.

    Returns
    -------
    Run
        Also when items failed: :meth:`Run.check` raises then.

    Raises
    ------
    RefusedError
        If it cannot begin; then nothing was started or written.
    KeyboardInterrupt
        In a script, after an interrupt, when everything is written; ``.run`` is the run.

    Examples
    --------
    >>> run = nbflow.map("forecast.ipynb", grid={"city": ["Oslo", "Lima"]})  # doctest: +SKIP
    >>> run.to_frame()  # doctest: +SKIP
    """
    refuse_unknown("map", unknown)
    with Interrupts() as interrupts:
        found = read_notebook(Path(notebook))
        options = MapOptions(
            max_concurrency=max_concurrency,
            kernel=kernel,
            output=tuple([output] if isinstance(output, str) else output),
            output_dir=os.fspath(output_dir) if output_dir is not None else None,
            name=name,
            cwd=os.fspath(cwd),
            timeout=None if timeout is None else duration(timeout, "timeout"),
            retry=retry,
            fail_fast=fail_fast,
            max_failures=max_failures,
            secret=tuple([secret] if isinstance(secret, str) else secret),
            changed=changed,
            state_dir=state_folder(state_dir),
        )
        built = build_items(found, items=items, grid=grid, zip=zip, parameters=parameters, columns=columns)
        request = (again_request if resume else map_request)(found, built, options)
        if dry_run:
            return explained(request)
        if detach:
            return detached(request)
        return work(request, interrupts, quiet=quiet, on_event=on_event)


def resume(
    target: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    changed: Changed = "ask",
    from_: str | None = None,
    only: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    take_over: bool = False,
    detach: bool = False,
    max_concurrency: int | None = None,
    quiet: bool = False,
    state_dir: str | os.PathLike[str] | None = None,
    on_event: OnEvent | Sequence[OnEvent] = (),
    **unknown: object,
) -> Any:
    """Finish what is missing of a run; nothing that completed runs again.

    Parameters
    ----------
    target : path or str
        A notebook (its run started or resumed last), a run folder, or the beginning of a run id.
    parameters : mapping, optional
        New values for parameters that all items share; every item runs again with them.
    changed : {"ask", "keep", "rerun"}
        What to do with finished items whose code changed.
    from_, only : str, optional
        Run this item again (its index, or ``"city=Cairo"``) and what is missing; with ``only`` nothing else.
    force : bool
        Run everything again.
    dry_run : bool
        Only say what would be done: gives a list of :class:`Planned`.
    take_over : bool
        Take the run from a process of another host that seems to be alive.
    detach, max_concurrency, quiet, state_dir, on_event
        As in :func:`map`.

    Returns
    -------
    Run

    Raises
    ------
    RefusedError
        If it cannot begin; a :class:`ChangedError` asks what to do with finished items whose code changed.

    Examples
    --------
    >>> nbflow.resume("forecast.ipynb").check()  # doctest: +SKIP
    """
    refuse_unknown("resume", unknown)
    with Interrupts() as interrupts:
        stored = locate(target, state_dir=state_folder(state_dir))
        request = resume_request(
            stored,
            parameters=parameters,
            max_concurrency=max_concurrency,
            changed=changed,
            from_=from_,
            only=only,
            force=force,
            take_over=take_over,
            target=os.fspath(target),
            ask_first=not dry_run,
        )
        if dry_run:
            return explained(request)
        if detach:
            return detached(request)
        return work(request, interrupts, quiet=quiet, on_event=on_event)


def status(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> Run:
    """Give a run as it stands now, whoever works at it.

    Parameters
    ----------
    target : path or str
        A notebook, a run folder, or the beginning of a run id.

    Examples
    --------
    >>> nbflow.status("forecast.ipynb").status  # doctest: +SKIP
    'completed'
    """
    return locate(target, state_dir=state_folder(state_dir)).run()


def results(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> list[Any]:
    """Give the results of all items of a run, in item order; ``None`` for an item without.

    Examples
    --------
    >>> nbflow.results("forecast.ipynb")[0]["rmse"]  # doctest: +SKIP
    1.831
    """
    return status(target, state_dir=state_dir).results


def logs(
    target: str | os.PathLike[str], item: int | str | None = None, *, state_dir: str | os.PathLike[str] | None = None
) -> str:
    """Give what one item printed, or all of them, in item order.

    Parameters
    ----------
    target : path or str
        A notebook, a run folder, or the beginning of a run id.
    item : int or str, optional
        Its index from 0, or what it is called (``"city=Cairo"``).

    Examples
    --------
    >>> print(nbflow.logs("forecast.ipynb", "city=Cairo"))  # doctest: +SKIP
    """
    run = status(target, state_dir=state_dir)
    chosen = run.outcomes if item is None else [run[item]]
    return "".join(log_text(run, one) for one in chosen)


def log_text(run: Run, item: Item) -> str:
    """Give what an item printed; of one at work what it printed so far."""
    file = log_file(run, item)
    return file.read_text(encoding="utf-8", errors="replace") if file is not None else ""


def log_file(run: Run, item: Item) -> Path | None:
    """Give the log of an item; of one at work, or one that was cut off, the newest that it has."""
    if item.log is not None and item.log.exists():
        return item.log
    from ..store.names import file_stem

    stem = file_stem(item.index, item.label)
    found = sorted((run.folder / "logs").glob(f"{_literal(stem)}*.log"), key=lambda file: file.stat().st_mtime)
    return found[-1] if found else None


def _literal(text: str) -> str:
    import glob

    return glob.escape(text)


def cancel(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> None:
    """Ask the process that works at a run to end it: kernels are interrupted, and after 3 s killed.

    Raises
    ------
    TargetError
        If nobody works at it.

    Examples
    --------
    >>> nbflow.cancel("forecast.ipynb")  # doctest: +SKIP
    """
    stored = locate(target, state_dir=state_folder(state_dir))
    if not stored.at_work:
        raise TargetError(f"run {stored.id} is not at work: it is {stored.run().status}", "There is nothing to cancel.")
    commands.send(stored.folder, "cancel")


def clean(
    target: str | os.PathLike[str], *, keep: int = 1, state_dir: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Remove old runs of a notebook with all their files, and give what was removed.

    Parameters
    ----------
    target : path or str
        The notebook.
    keep : int
        How many of the newest stay. A run that is at work stays in any case.

    Examples
    --------
    >>> nbflow.clean("forecast.ipynb", keep=3)  # doctest: +SKIP
    """
    import shutil

    if isinstance(keep, bool) or keep < 0:
        raise ParameterError(f"--keep is {keep}", "It is how many of the newest runs stay, from 0.")
    stored = locate(target, state_dir=state_folder(state_dir))
    runs = stored.home.runs()
    old = [Stored(stored.home, folder, None) for folder in runs[: max(0, len(runs) - keep)]]
    gone = []
    for run in old:
        if not _is_at_work(run):
            shutil.rmtree(run.folder)
            gone.append(run.folder)
    return gone


def _is_at_work(stored: Stored) -> bool:
    try:
        return stored.at_work
    except StoreError:
        return False  # its journal cannot be read, so nobody writes it


# -- shared by the api and the command line ----------------------------------------------------------------------


def work(request: Request, interrupts: Interrupts, *, quiet: bool, on_event: OnEvent | Sequence[OnEvent] = ()) -> Run:
    """Work at a run to its end, and show it."""
    from ..reporters.screen import reporter

    observers: Sequence[OnEvent] = [on_event] if callable(on_event) else list(on_event)
    shown = None if quiet else reporter(request.workers)
    session = Session(request, on_event=observers, reporter=shown)
    session.start()
    session.wait(interrupts)
    if interrupts.noted and not in_notebook():
        stopped = KeyboardInterrupt()
        stopped.run = session.run  # type: ignore[attr-defined]  # whoever catches it finds the run there
        raise stopped
    return session.run


def in_notebook() -> bool:
    """Whether this is a notebook's cell, where an interrupt ends the cell and not the program."""
    import sys

    return "ipykernel.zmqshell" in sys.modules


def explained(request: Request) -> list[Planned]:
    """Give what would be done with each item, and why."""
    planned = request.plan()
    rows = [Planned(e.index or 0, e.label, runs=False, reason="kept") for e in planned.kept]
    rows += [
        Planned(one.task.index or 0, one.task.label, runs=True, reason=_reason(request, one.reason))
        for one in planned.tasks
    ]
    return sorted(rows, key=lambda row: row.index)


def _reason(request: Request, reason: str) -> str:
    if request.stored is None:
        return reason
    before, now = request.stored.definition, request.definition
    if reason == "code":
        return f"{changed_places(before.cells, now.cells)} changed"
    if reason == "parameters":
        changed = [name for name, value in now.shared.items() if before.shared.get(name, ...) != value]
        return f"parameter {', '.join(changed)} changed" if changed else "parameters changed"
    return reason


def detached(request: Request) -> Run:
    """Let a process of its own work at a run."""
    from .detaching import detach

    return detach(request)


def state_folder(given: str | os.PathLike[str] | None) -> Path | None:
    """Give the state directory: the one given, else that of ``NBFLOW_STATE_DIR``, else none."""
    chosen = given if given is not None else os.environ.get("NBFLOW_STATE_DIR")
    return Path(chosen) if chosen else None


def refuse_unknown(function: str, unknown: Mapping[str, object]) -> None:
    """Refuse keywords that there are not, and name the right ones.

    Raises
    ------
    TypeError
        As Python itself would.
    """
    for name in unknown:
        known = _WRONG_NAMES.get(name)
        import inspect

        there = [p for p in inspect.signature(globals()[function]).parameters if p != "unknown"]
        hint = f" Did you mean {known!r}?" if known in there else did_you_mean(name, there)
        raise TypeError(f"nbflow.{function}() has no keyword {name!r}.{hint}")
