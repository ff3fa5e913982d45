"""The api: the one place that wires notebooks, engine, store and reporters together."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ..durations import seconds as duration
from ..errors import LockedError, ParameterError, TargetError, did_you_mean
from ..loading.items import build_items
from ..model import NodeId, node_text
from ..sizes import size
from ..source import has_steps, read_notebook
from ..steps import KernelStart
from ..store.home import find, remove
from ..store.lock import RunLock
from ..types import Changed
from . import live, plugins
from .answering import record_answers, undelivered
from .interrupts import Interrupts
from .reading import Stored, locate
from .requests import (
    Limits,
    MapOptions,
    Planned,
    PlannedNode,
    again_request,
    at_work,
    explained,
    map_request,
    planning,
    resuming,
)
from .runs import Item, MapRun, Node, Run, WorkflowRun, find_gate, log_text, step_of, whoever
from .session import OnEvent, Request, Session

if TYPE_CHECKING:
    from ..definition import Workflow
    from .restoring import Restored

__all__ = [
    "Item",
    "MapRun",
    "Node",
    "Planned",
    "PlannedNode",
    "Run",
    "WorkflowRun",
    "answer",
    "attach",
    "cancel",
    "clean",
    "load",
    "logs",
    "map",
    "restore",
    "results",
    "resume",
    "run",
    "start",
    "status",
]

END_SECONDS = 10.0
"""How long a run may take to end for which nobody waits any more."""

_WRONG_NAMES = {
    "n_jobs": "max_concurrency",
    "workers": "max_concurrency",
    "max_workers": "max_concurrency",
    "jobs": "max_concurrency",
    "params": "parameters",
    "inputs": "parameters",
    "outputs": "output",
    "kernel_name": "kernel",
    "retries": "retry",
    "secrets": "secret",
    "callback": "on_event",
}
_WRONG_RUN_NAMES = {
    **_WRONG_NAMES,
    "max_concurrency": "max_workers",
    "n_jobs": "max_workers",
    "workers": "max_workers",
    "jobs": "max_workers",
    "parameters": "inputs",
    "params": "inputs",
}


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
    kernel_start: str | None = None,
    preload: str | Sequence[str] | None = None,
    timeout: float | str | None = None,
    memory: float | str | None = None,
    max_memory: float | str | None = None,
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
    executor: str = "threads",
    reporter: str | None = None,
    keep_kernel_on_failure: bool = False,
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
        Copy finished notebooks there (from the working directory), called by this template (``"{city}"``).
    cwd : str
        Where kernels start: ``"notebook"`` (its directory), ``"item"`` (an empty folder each), or a folder
        (from the working directory).
    kernel_start : {"warm", "cold"}, optional
        By default ``warm``: where there are several items, kernels are forked from one that is ready.
    preload : {"auto", "off"} or sequence of str, optional
        Modules that it has imported; by default ``auto``, the known ones that the cells import.
    timeout : float or str, optional
        Seconds (or ``"30m"``) that an item may take.
    memory : float or str, optional
        Bytes (or ``"2GB"``) that an item needs: it starts where so much is there.
    max_memory : float or str, optional
        Bytes (or ``"12GB"``, or ``"80%"`` of what there is) that all items at work may use together.
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
    executor : str
        What tasks run in: ``threads``, or the name that a plug-in has.
    reporter : str, optional
        What shows the run: ``widgets``, ``page``, ``bars``, ``lines``, or a plug-in's name; by default the one for
        where people watch.
    keep_kernel_on_failure : bool
        Let the kernel of a failed item live on as long as this process; a warning says how to connect to it.

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
    given = dict(locals())
    told = listeners(on_event, detach=detach)
    with Interrupts(wishes()) as interrupts:
        request = _map_request(given)
        if dry_run:
            return explained(request)
        if detach:
            return detached(request, executor)
        return work(request, interrupts, quiet=quiet, on_event=told, executor=executor, reporter=reporter)


def run(
    workflow: str | os.PathLike[str] | Workflow,
    *,
    inputs: Mapping[str, Any] | None = None,
    max_workers: int | None = None,
    kernel_start: str | None = None,
    preload: str | Sequence[str] | None = None,
    max_memory: float | str | None = None,
    detach: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    state_dir: str | os.PathLike[str] | None = None,
    on_event: OnEvent | Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
    keep_kernel_on_failure: bool = False,
    **unknown: object,
) -> Any:
    """Run a workflow, and give the run when it has ended.

    Parameters
    ----------
    workflow : path or Workflow
        A workflow file, or the same made of constructors; or a notebook whose cells are steps.
    inputs : mapping, optional
        Values of its inputs; of a notebook those of its parameters.
    max_workers : int, optional
        Tasks in flight at most; by default what the workflow says, else four, or the usable cores if they are fewer.
    max_memory : float or str, optional
        Bytes (or ``"12GB"``, or ``"80%"`` of what there is) that tasks may use together; by default what the workflow
        says.
    kernel_start, preload, detach, dry_run, quiet, state_dir, on_event, executor, reporter, keep_kernel_on_failure
        As in :func:`map`; what is said here holds for all steps. A dry run gives a list of :class:`PlannedNode`.

    Returns
    -------
    WorkflowRun
        Also when tasks failed or a gate waits for a person.

    Raises
    ------
    RefusedError
        If it cannot begin; then nothing was started or written.
    KeyboardInterrupt
        In a script, after an interrupt, when everything is written; ``.run`` is the run.

    Examples
    --------
    >>> nbflow.run("monthly.yml", inputs={"year": 2026}).check()  # doctest: +SKIP
    """
    given = dict(locals())
    told = listeners(on_event, detach=detach)
    with Interrupts(wishes()) as interrupts:
        request = _flow_request(given)
        if dry_run:
            return planning(request)
        if detach:
            return detached(request, executor)
        return work(request, interrupts, quiet=quiet, on_event=told, executor=executor, reporter=reporter)


def start(
    target: str | os.PathLike[str] | Workflow,
    items: Any = None,
    *,
    detach: bool = False,
    quiet: bool = False,
    on_event: OnEvent | Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
    **options: Any,
) -> Any:
    """Begin a run and come back at once, with the run at work; in a notebook its view has buttons.

    It ends with this process: a script waits for it (``.wait()``), or gives it a process of its own (``detach=True``).

    Parameters
    ----------
    target : path or Workflow
        A notebook, which is run over its items as by :func:`map`; or a workflow, or a notebook whose cells are steps,
        as by :func:`run`.
    items : path, DataFrame, or iterable, optional
        As in :func:`map`.
    detach : bool
        Let a process of its own do it, which goes on when this one ends; it is shown all the same.
    quiet, on_event, executor, reporter
        As in :func:`map`.
    **options
        All else that :func:`map` takes (``grid``, ``zip``, ``parameters``, ``max_concurrency``, ...), or for a workflow
        :func:`run` (``inputs``, ``max_workers``, ...).

    Returns
    -------
    Run
        At work: :meth:`Run.wait`, ``await run``, :meth:`Run.pause`, :meth:`Run.cancel`, :meth:`Run.retry_failed`.

    Raises
    ------
    RefusedError
        If it cannot begin; then nothing was started or written.

    Examples
    --------
    >>> run = nbflow.start("forecast.ipynb", grid={"city": ["Oslo", "Lima"]})  # doctest: +SKIP
    >>> run.pause()  # doctest: +SKIP
    """
    told = listeners(on_event, detach=detach)
    maps = (
        items is not None
        or not {"grid", "zip"}.isdisjoint(options)
        or (_is_notebook(target) and not _has_steps(target))
    )
    function, make = (map, _map_request) if maps else (run, _flow_request)
    first = {"notebook": target, "items": items} if maps else {"workflow": target}
    bound = inspect.signature(function).bind(**first, **options)
    bound.apply_defaults()
    with Interrupts(wishes()):  # one that comes now is heard when the run is at work, or was not begun
        request = make(bound.arguments)
        if bound.arguments["dry_run"]:
            return planning(request)
        if detach:
            return live_detached(request, executor, quiet=quiet)
        return live.begin(
            request, target=_typed(request), quiet=quiet, on_event=told, executor=executor, reporter=reporter
        )


def attach(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> Run:
    """Show a run in this cell, and give it: after a reload, or one that another process or notebook works at.

    Its buttons reach whoever works at it. Of one that nobody works at any more it shows how it ended.

    Parameters
    ----------
    target : path or str
        A notebook or workflow, a run folder, or the beginning of a run id.

    Examples
    --------
    >>> nbflow.attach("forecast.ipynb")  # doctest: +SKIP
    """
    stored = locate(os.fspath(target), state_dir=state_folder(state_dir))
    return live.attach(stored, os.fspath(target))


def _is_notebook(target: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(target, (str, os.PathLike)) and os.fspath(target).endswith(".ipynb")


def _has_steps(notebook: str | os.PathLike[str]) -> bool:
    """Whether the cells of a notebook are steps."""
    return has_steps(read_notebook(Path(notebook)).cells)


def _map_request(given: Mapping[str, Any]) -> Request:
    """Check what :func:`map` was given."""
    refuse_unknown("map", given["unknown"])
    found = read_notebook(Path(given["notebook"]))
    output, secret, timeout, memory = given["output"], given["secret"], given["timeout"], given["memory"]
    options = MapOptions(
        **{name: given[name] for name in ("max_concurrency", "kernel", "name", "max_memory", "retry", "fail_fast")},
        **{name: given[name] for name in ("max_failures", "changed")},
        output=tuple([output] if isinstance(output, str) else output),
        output_dir=os.fspath(given["output_dir"]) if given["output_dir"] is not None else None,
        cwd=os.fspath(given["cwd"]),
        start=KernelStart.said(given["kernel_start"], given["preload"]),
        timeout=None if timeout is None else duration(timeout, "timeout"),
        memory=None if memory is None else size(memory, "memory"),
        secret=tuple([secret] if isinstance(secret, str) else secret),
        state_dir=state_folder(given["state_dir"]),
    )
    built = build_items(found, **{name: given[name] for name in ("items", "grid", "zip", "parameters", "columns")})
    if given["resume"]:
        request = again_request(found, built, options, ask_first=not given["dry_run"])
    else:
        request = map_request(found, built, options)
    return replace(request, keep_kernels=given["keep_kernel_on_failure"])


def _flow_request(given: Mapping[str, Any]) -> Request:
    """Check what :func:`run` was given."""
    from .flow_requests import flow_request  # what only workflows need is not loaded for a map

    refuse_unknown("run", given["unknown"], _WRONG_RUN_NAMES)
    request = flow_request(
        given["workflow"],
        given=given["inputs"] or {},
        max_workers=given["max_workers"],
        max_memory=given["max_memory"],
        start=KernelStart.said(given["kernel_start"], given["preload"]),
        state_dir=state_folder(given["state_dir"]),
    )
    return replace(request, keep_kernels=given["keep_kernel_on_failure"])


def load(workflow: str | os.PathLike[str]) -> Workflow:
    """Read a workflow file, or the steps of a notebook; ``print`` of it, or :meth:`Workflow.data`, shows what it says.

    Raises
    ------
    DefinitionError
        With all that is wrong with its shape. (What it refers to is checked when it is run.)

    Examples
    --------
    >>> nbflow.load("monthly.yml").steps[0].id  # doctest: +SKIP
    'load'
    """
    from ..loading.notebook_file import read_file
    from .kinds import kinds

    return read_file(Path(workflow), "", kinds())[0]


def answer(
    target: str | os.PathLike[str],
    gate: str,
    option: str,
    *,
    all: bool = False,  # noqa: A002 - the option's name
    resume: bool = True,
    quiet: bool = False,
    state_dir: str | os.PathLike[str] | None = None,
    on_event: OnEvent | Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
) -> WorkflowRun:
    """Answer a gate of a run, and go on with it.

    Parameters
    ----------
    target : path or str
        A workflow file (its run started or resumed last), a run folder, or the beginning of a run id.
    gate : str
        The gate: a step's id, or in fan-outs a node's (``train:sure:3``).
    option : str
        The name of one of its options.
    all : bool
        Answer all open gates of this step.
    resume : bool
        Whether to go on with the run; a process that works at it does so in any case.
    quiet, state_dir, on_event, executor, reporter
        As in :func:`map`.

    Raises
    ------
    TargetError
        If no such gate is open, or it has no such option.

    Examples
    --------
    >>> nbflow.answer("monthly.yml", "review", "approve").status  # doctest: +SKIP
    'completed'
    """
    told = listeners(on_event)
    with Interrupts(wishes()) as interrupts:
        stored = locate(os.fspath(target), state_dir=state_folder(state_dir))
        answered, request = answering(stored, gate, option, everything=all, go_on=resume, by="Python")
        if request is not None:
            answered = work(request, interrupts, quiet=quiet, on_event=told, executor=executor, reporter=reporter)
        assert isinstance(answered, WorkflowRun), "maps have no gates"
        return answered


def answering(
    stored: Stored, gate: str, option: str, *, everything: bool, go_on: bool, by: str, max_workers: int | None = None
) -> tuple[Run, Request | None]:
    """Answer a gate; gives the run, and the request that goes on with it, where it is for us to do so.

    Raises
    ------
    RefusedError
        If no such gate is open, it has no such option, or the run cannot go on.
    """
    found = stored.run()
    if not isinstance(found, WorkflowRun):
        raise TargetError(f"run {found.id} is a map, and has no gates", "nbflow resume goes on with it.")
    waiting = found.waits_for
    same = [one for one in waiting if step_of(one.node) == gate] if everything else []
    gates = [find_gate([one], node_text(one.node), option) for one in same] or [find_gate(waiting, gate, option)]
    if stored.at_work:
        gates = undelivered(found, gates, option, whoever(by))
        if not gates:
            return found, None
        stored = stored.fresh()  # that process has ended, so it is for us to do
        found = stored.run()
    answers: dict[NodeId, tuple[str, str]] = {one.node: (option, whoever(by)) for one in gates}
    if not go_on:
        record_answers(stored, gates, answers)
        return stored.fresh().run(), None
    return found, resuming(stored)(
        stored, gates=answers, failed_too=False, target=stored.home.name, max_concurrency=max_workers
    )


def resume(
    target: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    changed: Changed = "ask",
    from_: int | str | None = None,
    only: int | str | None = None,
    force: bool = False,
    dry_run: bool = False,
    take_over: bool = False,
    detach: bool = False,
    max_concurrency: int | None = None,
    timeout: float | str | None = None,
    memory: float | str | None = None,
    max_memory: float | str | None = None,
    fail_fast: bool | None = None,
    max_failures: int | None = None,
    kernel_start: str | None = None,
    preload: str | Sequence[str] | None = None,
    quiet: bool = False,
    state_dir: str | os.PathLike[str] | None = None,
    on_event: OnEvent | Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
    **unknown: object,
) -> Any:
    """Finish what is missing of a run; what completed runs again only where it is asked for, or what it reads changed.

    Parameters
    ----------
    target : path or str
        A notebook or workflow (its run started or resumed last), a run folder, or the beginning of a run id.
    parameters : mapping, optional
        New values for parameters that all items of a map share, which every item runs again with; or for inputs of a
        workflow, which repeat the steps that may read them.
    changed : {"ask", "keep", "rerun"}
        What to do with finished items whose code changed.
    from_, only : int or str, optional
        Run this item again (its index, or ``"city=Cairo"``) and what is missing; with ``only`` nothing else.
    force : bool
        Run everything again.
    dry_run : bool
        Only say what would be done: gives a list of :class:`Planned`.
    take_over : bool
        Take the run from a process of another host that seems to be alive.
    timeout, memory, max_failures
        As in :func:`map`, for the rest of a map; by default as they were.
    fail_fast : bool, optional
        As in :func:`map`, for the rest of a map; ``False`` also takes ``max_failures`` away. By default as it was.
    kernel_start, preload
        As in :func:`map`, for the rest of the run; by default as it was.
    detach, max_concurrency, max_memory, quiet, state_dir, on_event, executor, reporter
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
    told = listeners(on_event, detach=detach)
    with Interrupts(wishes()) as interrupts:
        stored = locate(os.fspath(target), state_dir=state_folder(state_dir))
        request = resuming(stored)(
            stored,
            parameters=parameters,
            max_concurrency=max_concurrency,
            max_memory=max_memory,
            limits=Limits(
                fail_fast=fail_fast,
                max_failures=max_failures,
                timeout=None if timeout is None else duration(timeout, "timeout"),
                start=KernelStart.said(kernel_start, preload),
                memory=None if memory is None else size(memory, "memory"),
            ),
            changed=changed,
            from_=None if from_ is None else str(from_),
            only=None if only is None else str(only),
            force=force,
            take_over=take_over,
            target=os.fspath(target),
            ask_first=not dry_run,
        )
        if dry_run:
            return planning(request)
        if detach:
            return detached(request, executor)
        return work(request, interrupts, quiet=quiet, on_event=told, executor=executor, reporter=reporter)


def status(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> Run:
    """Give a run as it stands now, whoever works at it.

    Parameters
    ----------
    target : path or str
        A notebook or workflow, a run folder, or the beginning of a run id.

    Examples
    --------
    >>> nbflow.status("forecast.ipynb").status  # doctest: +SKIP
    'completed'
    """
    return locate(os.fspath(target), state_dir=state_folder(state_dir)).run()


def results(target: str | os.PathLike[str], *, state_dir: str | os.PathLike[str] | None = None) -> Any:
    """Give the results of a run: of a map a list, in item order; of a workflow a mapping, by the ids of its steps.

    Examples
    --------
    >>> nbflow.results("forecast.ipynb")[0]["rmse"]  # doctest: +SKIP
    1.831
    """
    found = status(target, state_dir=state_dir)
    assert isinstance(found, (MapRun, WorkflowRun)), "there are these two"
    return found.results


def logs(
    target: str | os.PathLike[str], item: int | str | None = None, *, state_dir: str | os.PathLike[str] | None = None
) -> str:
    """Give what one item printed, or all of them, in item order.

    Parameters
    ----------
    target : path or str
        A notebook or workflow, a run folder, or the beginning of a run id.
    item : int or str, optional
        Of a map its index from 0, or what it is called (``"city=Cairo"``); of a workflow a node (``"train:fit:2"``),
        what that is called, or a step with all that is in it.

    Examples
    --------
    >>> print(nbflow.logs("forecast.ipynb", "city=Cairo"))  # doctest: +SKIP
    """
    found = status(target, state_dir=state_dir)
    chosen = found.outcomes if item is None else found.tasks(item)
    return "".join(log_text(found, one) for one in chosen)


def restore(
    target: str | os.PathLike[str],
    step: str | None = None,
    *,
    state_dir: str | os.PathLike[str] | None = None,
    into: dict[str, Any] | None = None,
    setup: bool | None = None,
) -> Restored:
    """Bring the names of a notebook's run into this kernel, to look at them or to run a failed cell by hand.

    First the setup cells run here, with the parameters of the run. Then come the names that the steps have saved for
    later ones; settings and the state of random numbers stay as they are here. It only reads: somebody may be at work
    at the run.

    Parameters
    ----------
    target : path or str
        A notebook or workflow, a run folder, or the beginning of a run id.
    step : str, optional
        A step of cells, or one of its items by node (``"fit:fit:1"``) or by what it is called (``"fit city=Lima"``).
        What it left comes, with what those left that it waits for; if it did not complete, what it found when it
        began. By default the first that failed, else the last that completed.
    into : dict, optional
        Where the names go: ``globals()``. By default the notebook's variables; elsewhere than in IPython it is needed.
    setup : bool, optional
        Whether the setup cells run, as the run has kept them. By default they do, and are refused where they are other
        ones than in the notebook beside the run: then you have changed them since, or somebody else made the run, whose
        code they may be. With ``True`` they run all the same; with ``False`` it is for you to have run them.

    Returns
    -------
    Restored
        ``names``, ``left_out`` with the reasons, ``bytes``, and ``step``.

    Raises
    ------
    RefusedError
        If there is no such run or step, it saves no names, or its setup cells are not those of the notebook beside it;
        then nothing was changed.
    NbflowError
        If a setup cell raises an error here.

    Examples
    --------
    >>> nbflow.restore("analysis.ipynb")  # doctest: +SKIP
    restored rows, model (12.3 MB) as step fit found them
    left out: conn (is a sqlite3.Connection: run cell 3)
    """
    from .restoring import bring  # what only this needs is not loaded for runs

    stored = locate(os.fspath(target), state_dir=state_folder(state_dir))
    return bring(stored, None if step is None else str(step), into=into, setup=setup)


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
    status(target, state_dir=state_dir).cancel()


def clean(
    target: str | os.PathLike[str], *, keep: int = 1, state_dir: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Remove old runs of a notebook or workflow with all their files, and give what was removed.

    Parameters
    ----------
    target : path or str
        The notebook or workflow; or one run, by its folder or the beginning of its id: then that one alone.
    keep : int
        How many stay: the one started or resumed last, and the newest of the others. A run that is at work stays
        in any case.

    Raises
    ------
    TargetError
        If ``target`` is the one run that was started or resumed last, and ``keep`` is not 0.

    Examples
    --------
    >>> nbflow.clean("forecast.ipynb", keep=3)  # doctest: +SKIP
    """
    return cleaned(target, keep, state_dir)[0]


def _removed(folder: Path) -> bool:
    """Remove a run unless somebody works at it, or is just beginning to."""
    lock = RunLock(folder)
    try:
        lock.acquire()
    except LockedError:
        return False
    try:
        remove(folder)
    finally:
        lock.release()
    return True


# -- shared by the api and the command line ----------------------------------------------------------------------


def cleaned(
    target: str | os.PathLike[str], keep: int, state_dir: str | os.PathLike[str] | None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Remove old runs; gives those that are gone, and those that stay because somebody works at them, with who."""
    if isinstance(keep, bool) or keep < 0:
        raise ParameterError(f"--keep is {keep}", "It is how many of the newest runs stay, from 0.")
    stored = locate(os.fspath(target), state_dir=state_folder(state_dir))
    if find(os.fspath(target), Path.cwd(), state_folder(state_dir))[1] is not None:
        current = stored.checkpoint is not None and stored.checkpoint.path == stored.home.checkpoint
        if keep and current and not at_work(stored.folder):
            raise TargetError(
                f"run {stored.id} is the newest of {stored.home.name}", "Remove it all the same: add --keep 0 (keep=0)."
            )
        old = [stored.folder]
    else:
        runs = sorted(stored.home.runs(), key=lambda folder: folder == stored.folder)  # the one resumed last is newest
        old = runs[: max(0, len(runs) - keep)]
    gone = [folder for folder in old if _removed(folder)]
    return gone, [(folder, at_work(folder)) for folder in old if folder not in gone]


def work(
    request: Request,
    interrupts: Interrupts,
    *,
    quiet: bool,
    on_event: Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
) -> Run:
    """Work at a run to its end, and show it."""
    if (done := request.nothing_to_do()) is not None:
        return done
    handle = live.Handle(request.folder, request.home.folder, blocking=True) if in_notebook() and not quiet else None
    if quiet:
        asker, shown = None, None
    elif handle is None:
        asker, asking = live.asking(request, None)
        shown = live.show(request, reporter, _typed(request), None, asking)
    else:
        shown = live.show(request, reporter, _typed(request), handle)
        asker, _ = live.asking(request, handle, shown)
    pool = plugins.executor(executor)
    session = Session(request, on_event=on_event, reporter=shown, asker=asker, executor=pool)
    try:
        live.keep(session, handle, shown, on_event=on_event, executor=executor, reporter=reporter)
        session.start()
        session.wait(interrupts)
    except BaseException:
        if not session.closed.is_set():  # nobody waits for it any more
            session.driver.cancel("nobody waits for it", now=True)
            session.driver.done.wait(END_SECONDS)
            session.close()
        raise
    finally:
        live.forget(session)
    if signal.SIGTERM in interrupts.noted:  # everything is written: now the process ends as it would have
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    if interrupts.noted and not in_notebook():
        stopped = KeyboardInterrupt()
        stopped.run = session.run  # type: ignore[attr-defined]  # whoever catches it finds the run there
        raise stopped
    return session.run


def begin(request: Request, *, quiet: bool, executor: str, reporter: str | None) -> Run:
    """Begin to work at a run, show it in this cell, and come back at once."""
    return live.begin(request, target=_typed(request), quiet=quiet, executor=executor, reporter=reporter)


def live_detached(request: Request, executor: str, *, quiet: bool) -> Run:
    """Let a process of its own work at a run, and show it in this cell."""
    run = detached(request, executor)
    if not quiet:
        live.follow(run, _typed(request))
    return run


def _typed(request: Request) -> str:
    """Give what a run is called in Python, from here: by its id, for its file means the newest run of it."""
    try:
        below = request.folder.is_relative_to(Path.cwd())
    except OSError:  # the working directory was deleted
        below = False
    return request.run_id if below else str(request.folder)


def listeners(given: OnEvent | Sequence[OnEvent], *, detach: bool = False) -> list[OnEvent]:
    """Give the functions that get the events.

    Raises
    ------
    TypeError
        If one of them is none: a mistake of the program that calls.
    ParameterError
        If there are some, and another process does the work.
    """
    several = isinstance(given, Iterable) and not callable(given) and not isinstance(given, str)
    found: list[Any] = list(given) if several else [given]  # type: ignore[arg-type]  # it was just asked
    for one in found:
        if not callable(one):
            what = "on_event takes a function of one event, or a sequence of them"
            raise TypeError(f"{what}, not {one!r:.60} ({type(one).__name__})")
    if detach and found:
        raise ParameterError(
            "on_event= and detach=True are both given", "The other process calls nobody here: keep one of them."
        )
    return found


def wishes() -> list[signal.Signals]:
    """Give the signals that end a run, and not the process at once; SIGTERM only where nobody handles it."""
    default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    return [signal.SIGINT, signal.SIGTERM] if default else [signal.SIGINT]


def in_notebook() -> bool:
    """Whether this is a notebook's cell, where an interrupt ends the cell and not the program."""
    return "ipykernel.zmqshell" in sys.modules


def detached(request: Request, executor: str) -> Run:
    """Let a process of its own work at a run."""
    from .detaching import detach

    if request.keep_kernels:
        told = "keep_kernel_on_failure=True and detach=True are both given"
        raise ParameterError(told, "The other process ends with its run, and its kernels with it: keep one of them.")
    return detach(request, executor)


def state_folder(given: str | os.PathLike[str] | None) -> Path | None:
    """Give the state directory: the one given, else that of ``NBFLOW_STATE_DIR``, else none."""
    if given is not None and not os.fspath(given).strip():
        raise ParameterError("--state-dir '' is empty", "Leave it out, or say which: --state-dir DIR")
    chosen = given if given is not None else os.environ.get("NBFLOW_STATE_DIR")
    return Path(chosen) if chosen else None


def refuse_unknown(function: str, unknown: Mapping[str, object], wrong: Mapping[str, str] = _WRONG_NAMES) -> None:
    """Refuse keywords that there are not, and name the right ones.

    Raises
    ------
    TypeError
        As Python itself would.
    """
    for name in unknown:
        known = wrong.get(name)
        there = [p for p in inspect.signature(globals()[function]).parameters if p != "unknown"]
        hint = f" Did you mean {known!r}?" if known in there else did_you_mean(name, there)
        raise TypeError(f"nbflow.{function}() has no keyword {name!r}.{hint}")
