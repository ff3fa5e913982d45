"""``nbflow map`` and ``nbflow resume``: the verbs that run notebooks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..api.interrupts import Interrupts
    from ..api.run import Run
    from ..api.session import Request

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
CODES = {"completed": 0, "paused": 3}


@click.command("map")
@click.argument("notebook")
@click.option("--items", metavar="FILE", help="A table of items: CSV, JSON or YAML.")
@click.option("--grid", multiple=True, metavar="NAME=A,B", help="Every combination is an item.")
@click.option("--zip", "zipped", multiple=True, metavar="NAME=A,B", help="Lists taken side by side.")
@options.working
@click.option("--columns", metavar="A,B", help="The columns of FILE that are used.")
@click.option("-k", "--kernel", metavar="KERNEL", help="The kernel; by default the notebook's own.")
@click.option("--output", metavar="A,B", help="Names of the results; by default those of the cell tagged results.")
@click.option("--output-dir", metavar="DIR", help="Copy finished notebooks there ...")
@click.option("--name", metavar="TEMPLATE", help="... under this name, such as '{city}'.")
@click.option("--cwd", default="notebook", metavar="notebook|item|DIR", help="Where kernels start.", show_default=True)
@click.option("--timeout", metavar="30m", help="How long an item may take.")
@click.option("--retry", type=int, default=0, metavar="N", help="How often an item is tried.")
@click.option("--fail-fast", is_flag=True, help="Start nothing more after the first failure.")
@click.option("--max-failures", type=int, metavar="N", help="Start nothing more after N failures.")
@click.option("--resume", "again", is_flag=True, help="Go on with the newest run: equal items are kept.")
@click.option("--secret", multiple=True, metavar="NAME", help="A variable whose value is masked in what is written.")
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
    columns: str | None,
    kernel: str | None,
    output: str | None,
    output_dir: str | None,
    name: str | None,
    cwd: str,
    timeout: str | None,
    retry: int,
    fail_fast: bool,
    max_failures: int | None,
    again: bool,
    secret: tuple[str, ...],
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run NOTEBOOK over many parameter sets, several at a time.

    \b
      nbflow map forecast.ipynb --items cities.csv -p year=2026
      nbflow map train.ipynb --grid city=Oslo,Lima --grid depth=2,3 -j 4
    """
    from .. import api
    from ..api import requests
    from ..api.interrupts import Interrupts
    from ..durations import seconds
    from ..loading.items import from_command_line
    from ..source import read_notebook

    with Interrupts(SIGNALS) as interrupts:
        found = read_notebook(Path(notebook))
        wanted = requests.MapOptions(
            max_concurrency=jobs,
            kernel=kernel,
            output=tuple(word.strip() for word in output.split(",")) if output else (),
            output_dir=os.path.abspath(output_dir) if output_dir else None,  # noqa: PTH100 - symlinks stay as they are named
            name=name,
            cwd=cwd,
            timeout=None if timeout is None else seconds(timeout, "--timeout"),
            retry=retry,
            fail_fast=fail_fast,
            max_failures=max_failures,
            secret=secret,
            changed=changed or "ask",  # type: ignore[arg-type]  # click has checked the word
            state_dir=api.state_folder(state_dir),
        )
        built = from_command_line(found, items=items, grid=grid, zip=zipped, parameters=parameters, columns=columns)
        request = (requests.again_request if again else requests.map_request)(found, built, wanted)
        note = "" if again else requests.unfinished(request.home)
        return _go(request, interrupts, notebook, note, dry_run, detach, quiet, as_json, state_dir)


@click.command()
@options.target
@options.working
@click.option("--from", "from_", metavar="ITEM", help="Run this item again, and what is missing.")
@click.option("--only", metavar="ITEM", help="Run this item again, and nothing else.")
@click.option("--force", is_flag=True, help="Run everything again.")
@click.option("--take-over", is_flag=True, help="Take the run from a process of another host.")
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
    take_over: bool,
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Finish what is missing of a run; nothing that completed runs again.

    TARGET is a notebook (its newest run), a run folder, or the beginning of a run id.
    """
    from .. import api
    from ..api import requests
    from ..api.interrupts import Interrupts
    from ..api.reading import locate
    from ..loading.items import assignments

    with Interrupts(SIGNALS) as interrupts:
        stored = locate(target, state_dir=api.state_folder(state_dir))
        request = requests.resume_request(
            stored,
            parameters=assignments("-p", parameters),
            text=True,
            max_concurrency=jobs,
            changed=changed or "ask",  # type: ignore[arg-type]  # click has checked the word
            from_=from_,
            only=only,
            force=force,
            take_over=take_over,
            target=target,
            ask_first=not dry_run,
        )
        return _go(request, interrupts, target, "", dry_run, detach, quiet, as_json, state_dir)


def _go(
    request: Request,
    interrupts: Interrupts,
    target: str,
    note: str,
    dry_run: bool,
    detach: bool,
    quiet: bool,
    as_json: bool,
    state_dir: str | None,
) -> int:
    from .. import api
    from ..api import requests
    from ..reporters.text import Planned, explain

    if dry_run:
        rows = requests.explained(request)
        if as_json:
            items = [{"index": r.index, "item": r.label, "runs": r.runs, "reason": r.reason} for r in rows]
            click.echo(json.dumps({"run_id": request.run_id, "items": items}))
        else:
            _print(explain([Planned(r.index, r.label, r.runs, r.reason) for r in rows], columns()))
        return 0
    if detach:
        run = api.detached(request)
        if as_json:
            click.echo(json.dumps(run.data()))
        elif not quiet:
            _print([f"run {run.id} is at work on its own", f"  nbflow status {target}", f"  nbflow cancel {target}"])
        return 0
    return _work(request, interrupts, target, note, quiet, as_json, state_dir)


def _work(
    request: Request, interrupts: Interrupts, target: str, note: str, quiet: bool, as_json: bool, state_dir: str | None
) -> int:
    from ..api.session import Session
    from ..reporters.screen import reporter
    from ..reporters.text import ending, head

    planned = request.plan() if request.stored is not None else None
    kept = len(planned.kept) if planned is not None else 0
    if planned is not None and not planned.tasks and request.stored is not None:
        run = request.stored.run()
        if run.status == "completed":
            return _nothing_to_do(run, quiet, as_json)
    lines = head(
        request.home.name,
        len(request.definition.items),
        request.workers,
        request.definition.kernel,
        request.run_id,
        kept,
        note,
    )
    shown = None if quiet else reporter(request.workers, sys.stderr, [*lines, ""])
    session = Session(request, reporter=shown)
    session.start()
    session.wait(interrupts)
    run = session.run
    if as_json:
        click.echo(json.dumps(run.data()))
    told = ending(end_of(run, target, state_dir), columns(sys.stderr if quiet else sys.stdout))
    if not quiet and not as_json:
        _print(["", *told] if sys.stderr.isatty() else told)
    elif quiet and run.status != "completed":
        _print(told, sys.stderr)
    return code_of(run, interrupts)


def _nothing_to_do(run: Run, quiet: bool, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(run.data()))
    elif not quiet:
        _print([f"nothing to do: all {len(run)} items of run {run.id} are done"])
    return 0


def code_of(run: Run, interrupts: Interrupts) -> int:
    """Give the exit code for how a run ended."""
    if run.status == "interrupted" and interrupts.noted:
        return 128 + interrupts.noted[0]
    return CODES.get(run.status, 1)


def end_of(run: Run, target: str, state_dir: str | None = None) -> Any:
    """Give what there is to say of a run, as the texts want it."""
    from ..reporters.text import Ending, Failed

    progress = run.progress
    items = run.outcomes
    rows, names = table_of(run, items)
    failures = [
        Failed.of(item.label, item.error, near(item.notebook) if item.notebook else None, item.index)
        for item in items
        if item.status == "failed"
    ]
    now = progress.finished or time.time()
    return Ending(
        status=run.status,
        total=len(items),
        counts=dict(progress.counts),
        target=target,
        reason=run.reason,
        kept=progress.kept,
        ran=bool(progress.ended - progress.kept or progress.active),
        failures=failures,
        rows=rows,
        columns=names,
        warnings=[warning.message for warning in run.warnings],
        seconds=max(0.0, now - progress.started),
        options=f"--state-dir {state_dir}" if state_dir else "",
    )


def table_of(run: Run, items: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Give the rows of the results table and its columns: what varies, results, status, seconds."""
    varying = [name for name in run.varying if items and name in items[0].parameters]
    rows: list[dict[str, Any]] = []
    results: dict[str, None] = {}
    for item in items:
        output: dict[str, Any] = item.output if isinstance(item.output, dict) else {}
        clash = {name: f"result.{name}" for name in output if name in varying or name in ("status", "seconds")}
        named = {clash.get(name, name): value for name, value in output.items()}
        results.update(dict.fromkeys(named))
        parameters = {name: item.parameters[name] for name in varying}
        first = {} if varying else {"index": item.index}
        rows.append({**first, **parameters, **named, "status": item.status, "seconds": item.seconds})
    return rows, [*(varying or ["index"]), *results, "status", "seconds"]


def near(path: Path) -> str:
    """Give a path as it is typed from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def columns(file: Any = None) -> int:
    """Give the columns that may be used."""
    return min(shutil.get_terminal_size((79, 24)).columns, 120) if (file or sys.stdout).isatty() else 100


def _print(lines: list[str], file: Any = None) -> None:
    from ..reporters.escape import for_file

    out = file or sys.stdout
    out.write("".join(f"{for_file(line, out)}\n" for line in lines))
    out.flush()


say = _print
