"""``nbflow map`` and ``nbflow resume``: the verbs that run notebooks."""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import click

from ..errors import StoreError
from . import options
from .screen import columns, echo, let_go_of_pipes, say, stdout_kept

if TYPE_CHECKING:
    from ..api.interrupts import Interrupts
    from ..api.requests import Earlier, Planned, PlannedNode
    from ..api.runs import Run
    from ..api.session import Request

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
CODES = {"completed": 0, "paused": 3}


@click.command("map")
@click.argument("notebook")
@click.option("--items", metavar="FILE", help="A table of items: CSV, JSON or YAML.")
@click.option("--grid", multiple=True, metavar="NAME=A,B", help="Every combination is an item.")
@click.option("--zip", "zipped", multiple=True, metavar="NAME=A,B", help="Lists taken side by side.")
@options.working
@click.option("--columns", "used", metavar="A,B", help="The columns of FILE that are used.")
@click.option("-k", "--kernel", metavar="KERNEL", help="The kernel; by default the notebook's own.")
@click.option("--output", metavar="A,B", help="Names of the results; by default those of the cell tagged results.")
@click.option("--output-dir", metavar="DIR", help="Copy finished notebooks there ...")
@click.option("--name", metavar="TEMPLATE", help="... under this name, such as '{city}'.")
@click.option("--cwd", default="notebook", metavar="notebook|item|DIR", help="Where kernels start.", show_default=True)
@click.option("--timeout", metavar="30m", help="How long an item may take.")
@click.option("--memory", metavar="2GB", help="How much memory an item needs: it starts where that is there.")
@click.option("--retry", type=int, default=0, metavar="N", help="How often an item is tried.")
@click.option("--fail-fast", is_flag=True, help="Start nothing more after the first failure.")
@click.option("--max-failures", type=int, metavar="N", help="Start nothing more after N failures.")
@click.option("--resume", "again", is_flag=True, help="Go on with the newest run: equal items are kept.")
@click.option("--secret", multiple=True, metavar="NAME", help="A variable whose value is masked in what is written.")
@options.kernels
@options.plugged
@options.state_dir
@options.output
def map_(
    notebook: str,
    items: str | None,
    grid: tuple[str, ...],
    zipped: tuple[str, ...],
    parameters: tuple[str, ...],
    jobs: int | None,
    changed: str | None,
    dry_run: bool,
    detach: bool,
    used: str | None,
    kernel: str | None,
    output: str | None,
    output_dir: str | None,
    name: str | None,
    cwd: str,
    timeout: str | None,
    memory: str | None,
    max_memory: str | None,
    retry: int,
    fail_fast: bool,
    max_failures: int | None,
    again: bool,
    secret: tuple[str, ...],
    kernel_start: str | None,
    preload: str | None,
    executor: str,
    reporter: str | None,
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run NOTEBOOK over many parameter sets, several at a time.

    \b
      nbflow map forecast.ipynb --items cities.csv -p year=2026
      nbflow map train.ipynb --grid city=Oslo,Lima --grid depth=2,3 -j 4
    """
    from ..api import requests, state_folder
    from ..api.interrupts import Interrupts
    from ..api.words import map_words

    with Interrupts(SIGNALS) as interrupts:
        request = map_words(
            notebook,
            items=items,
            grid=grid,
            zip=zipped,
            parameters=parameters,
            columns=used,
            jobs=jobs,
            kernel=kernel,
            output=output,
            output_dir=output_dir,
            name=name,
            cwd=cwd,
            kernel_start=kernel_start,
            preload=preload,
            timeout=timeout,
            memory=memory,
            max_memory=max_memory,
            retry=retry,
            fail_fast=fail_fast,
            max_failures=max_failures,
            secret=secret,
            changed=changed or "ask",  # type: ignore[arg-type]  # click has checked the word
            again=again,
            state_dir=state_folder(state_dir),
            ask_first=not dry_run,
        )
        earlier = None if again else requests.earlier(request.home)
        using = Using(executor, reporter)
        show = shows()(notebook, state_dir, quiet=quiet, as_json=as_json, earlier=earlier, using=using)
        return show.go(request, interrupts, dry_run=dry_run, detach=detach)


@click.command()
@options.target
@options.working
@click.option("--from", "from_", metavar="ITEM", help="Run this again, with what waits for it and is missing.")
@click.option("--only", metavar="ITEM", help="Run this item or step again, nothing else.")
@click.option("--force", is_flag=True, help="Run everything again.")
@click.option("--timeout", metavar="30m", help="How long an item may take from now on.")
@click.option("--memory", metavar="2GB", help="How much memory an item needs from now on.")
@click.option(
    "--fail-fast/--no-fail-fast",
    default=None,
    help="Start nothing more after the first failure from now on, or whatever fails.",
)
@click.option("--max-failures", type=int, metavar="N", help="Start nothing more after N failures from now on.")
@click.option("--take-over", is_flag=True, help="Take the run from a process of another host.")
@options.kernels
@options.plugged
@options.state_dir
@options.output
def resume(
    target: str,
    parameters: tuple[str, ...],
    jobs: int | None,
    changed: str | None,
    dry_run: bool,
    detach: bool,
    from_: str | None,
    only: str | None,
    force: bool,
    timeout: str | None,
    memory: str | None,
    max_memory: str | None,
    fail_fast: bool | None,
    max_failures: int | None,
    take_over: bool,
    kernel_start: str | None,
    preload: str | None,
    executor: str,
    reporter: str | None,
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Finish what is missing of a run; nothing that completed runs again.

    TARGET is a notebook or workflow (its newest run), a run folder, or the beginning of a run id.
    """
    from ..api import state_folder
    from ..api.interrupts import Interrupts
    from ..api.words import resume_words

    with Interrupts(SIGNALS) as interrupts:
        request = resume_words(
            target,
            parameters=parameters,
            jobs=jobs,
            changed=changed or "ask",  # type: ignore[arg-type]  # click has checked the word
            from_=from_,
            only=only,
            force=force,
            take_over=take_over,
            fail_fast=fail_fast,
            max_failures=max_failures,
            kernel_start=kernel_start,
            preload=preload,
            timeout=timeout,
            memory=memory,
            max_memory=max_memory,
            ask_first=not dry_run,
            state_dir=state_folder(state_dir),
        )
        using = Using(executor, reporter)
        show = shows()(target, state_dir, quiet=quiet, as_json=as_json, using=using)
        return show.go(request, interrupts, dry_run=dry_run, detach=detach)


@dataclass(frozen=True)
class Using:
    """Names of what a working uses."""

    executor: str
    reporter: str | None


class Show:
    """How a working is shown: as pictures, as one JSON object, or not at all."""

    def __init__(
        self,
        target: str,
        state_dir: str | None,
        *,
        quiet: bool,
        as_json: bool,
        using: Using,
        earlier: Earlier | None = None,
    ) -> None:
        self._using = using
        self._target = target
        self._state_dir = state_dir
        self._quiet = quiet
        self._as_json = as_json
        self._earlier = earlier

    def go(self, request: Request, interrupts: Interrupts, *, dry_run: bool, detach: bool) -> int:
        """Plan, detach or work, as it was asked for; gives the exit code."""
        if dry_run:
            try:
                return self._plan(request)
            except BrokenPipeError:  # it only looks, and its reader has seen enough
                let_go_of_pipes()
                return 0
        if detach:
            return self._detach(request)
        return self._work(request, interrupts)

    def _plan(self, request: Request) -> int:
        from ..api.requests import planning
        from ..api.showing import plan_lines

        rows = planning(request)
        if request.definition.kind == "workflow":
            nodes = cast("list[PlannedNode]", rows)
            data = {"nodes": [{"node": r.node, "runs": r.runs, "reason": r.reason} for r in nodes]}
        else:
            items = cast("list[Planned]", rows)
            data = {"items": [{"index": r.index, "item": r.label, "runs": r.runs, "reason": r.reason} for r in items]}
        if self._as_json:
            echo(json.dumps({"run_id": request.run_id, **data}))
        else:
            say(plan_lines(rows, columns()))
            if request.definition.changed == "ask" and any(row.code for row in rows):
                say(["", "It would ask first: --changed keep keeps finished ones, --changed rerun runs them again."])
        return 0

    def _detach(self, request: Request) -> int:
        from ..api.detaching import detach

        run = detach(request, self._using.executor)
        target = self._target
        self._tell(
            run, [f"run {run.id} is at work on its own", f"  nbflow status {target}", f"  nbflow cancel {target}"]
        )
        return 0

    def _work(self, request: Request, interrupts: Interrupts) -> int:
        from ..api import plugins
        from ..api.answering import ask_who_is_there
        from ..api.session import Session
        from ..api.showing import count, end_lines, shown

        if (done := request.nothing_to_do()) is not None:
            what = "item" if request.definition.kind == "map" else "task"
            number = count(done)
            all_of_it = f"the only {what} of run {done.id} is" if number == 1 else None
            self._tell(done, [f"nothing to do: {all_of_it or f'all {number:,} {what}s of run {done.id} are'} done"])
            return 0
        asks = not (self._quiet or self._as_json)
        asker, asking = ask_who_is_there(request.home.folder) if asks else (None, None)
        name = self._using.reporter
        reporter = None if self._quiet else shown(request, sys.stderr, self._earlier, asking, name)
        session = Session(request, reporter=reporter, asker=asker, executor=plugins.executor(self._using.executor))
        gc.freeze()  # what is loaded is not looked through again and again
        gc.enable()
        with stdout_kept(self._as_json):
            session.start()
            session.wait(interrupts)
        run = session.run
        if not run.is_newest():  # another run of this notebook began meanwhile: its name means that one now
            self._target = run.id
        screen = sys.stderr if self._quiet else sys.stdout
        logged = not (self._quiet or sys.stderr.isatty())  # there warnings stand whole, each at its time
        lines = end_lines(run, self._target, self._state_dir, columns(screen), warned=logged)
        self._tell(run, ["", *lines] if sys.stderr.isatty() else lines)
        if self._quiet and run.status != "completed":
            with contextlib.suppress(OSError, StoreError):  # the exit code says it too
                say(lines, sys.stderr)
        if run.status == "interrupted" and interrupts.noted:
            return 128 + interrupts.noted[0]
        return CODES.get(run.status, 1)

    def _tell(self, run: Run, lines: list[str]) -> None:
        try:
            if self._as_json:
                echo(json.dumps(run.data()))
            elif not self._quiet:
                say(lines)
        except BrokenPipeError:  # what was done is worth its exit code, whoever reads of it
            let_go_of_pipes()


def shows() -> type[Show]:
    """Give what shows a working: in a terminal, or in whatever else has called the verb."""
    found = click.get_current_context().find_object(type)
    return Show if found is None else found
