"""``nbflow status``, ``results`` and ``logs``: the verbs that only look."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..api.reading import Stored
    from ..api.run import Item, Run


@click.command()
@click.argument("target", required=False)
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(target: str | None, state_dir: str | None, as_json: bool) -> int:
    """Show how a run stands, or list all runs below this folder.

    TARGET is a notebook (its newest run), a run folder, or the beginning of a run id.
    """
    from .. import api
    from ..api.reading import locate
    from ..reporters.text import status_list, status_one
    from .work import columns, say

    if target is None:
        lines, broken = _all(state_dir)
        if as_json:
            click.echo(json.dumps({"runs": [_line_data(line) for line in lines], "unreadable": broken}))
            return 0
        say(status_list(lines, columns()))
        say([f"  cannot be read: {text}" for text in broken])
        return 0
    stored = locate(target, state_dir=api.state_folder(state_dir))
    run = stored.run()
    if as_json:
        click.echo(json.dumps(run.data()))
        return 0
    say(status_one(_standing(stored, run, target, state_dir), columns()))
    return 0


def _standing(stored: Stored, run: Run, target: str, state_dir: str | None) -> Any:
    from ..reporters.text import Standing
    from ..store.lock import read_owner
    from .work import end_of, near

    owner = read_owner(stored.folder) if stored.at_work else None
    progress = run.progress
    return Standing(
        run_id=run.id,
        name=stored.home.name,
        started=progress.started,
        now=time.time(),
        end=end_of(run, target, state_dir),
        owner=f"{owner.user} on {owner.host}, process {owner.pid}" if owner is not None else "",
        folder=near(stored.folder),
        active=list(progress.active.values()),
    )


def _all(state_dir: str | None) -> tuple[list[Any], list[str]]:
    from .. import api
    from ..api.reading import locate
    from ..errors import NbflowError
    from ..reporters.text import RunLine
    from ..store.home import all_runs, size

    lines, broken = [], []
    tops = [Path.cwd(), *([api.state_folder(state_dir)] if api.state_folder(state_dir) else [])]
    for folder in [run for top in tops if top is not None for run in all_runs(top)]:
        try:
            run = locate(folder).run()
            progress = run.progress
            done, failed = progress.counts["completed"], progress.counts["failed"]
            lines.append(
                RunLine(run.id, folder.parent.name, run.status, done, len(run), failed, progress.started, size(folder))
            )
        except NbflowError as problem:
            broken.append(problem.message)
    return lines, broken


def _line_data(line: Any) -> dict[str, Any]:
    names = ("run_id", "name", "status", "done", "total", "failed", "started", "size")
    return {name: getattr(line, name) for name in names}


@click.command()
@options.target
@click.option("-o", "file", metavar="FILE", help="Write them there: .csv, .json, or .parquet.")
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def results(target: str, file: str | None, state_dir: str | None, as_json: bool) -> int:
    """Show the results of a run as a table: one row per item.

    TARGET is a notebook (its newest run), a run folder, or the beginning of a run id.
    """
    from .. import api
    from ..reporters.table import table
    from .work import columns, say, table_of

    run = api.status(target, state_dir=state_dir)
    if as_json:
        click.echo(json.dumps(run.data()))
        return 0
    if file is not None:
        write_table(run, Path(file))
        say([f"{len(run)} rows in {file}"])
        return 0
    rows, names = table_of(run, run.outcomes)
    say(table(rows, names, columns(), len(rows)))
    return 0


def write_table(run: Run, file: Path) -> None:
    """Write the table of a run; the file's ending says how.

    Raises
    ------
    ParameterError
        For an ending that is not known.
    StoreError
        If the file cannot be written.
    """
    from ..errors import ParameterError, StoreError
    from ..store.files import write_atomically
    from ..values import tagged

    rows = run.rows()
    if file.suffix not in (".csv", ".tsv", ".json", ".parquet"):
        raise ParameterError(f"-o {file}: unknown ending {file.suffix!r}", "Write to .csv, .tsv, .json or .parquet.")
    if not file.parent.is_dir():
        raise StoreError(f"-o {file}: there is no folder {file.parent}", f"Make it: mkdir -p {file.parent}")
    try:
        if file.suffix == ".json":
            write_atomically(file, (json.dumps([tagged(row) for row in rows], indent=1) + "\n").encode("ascii"))
        elif file.suffix == ".parquet":
            run.to_frame().to_parquet(file)
        else:
            write_atomically(file, _separated(rows, "," if file.suffix == ".csv" else "\t"))
    except OSError as problem:
        raise StoreError(f"-o {file}: {problem.strerror or problem}") from problem


def _separated(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    import io

    from ..values import File, dumps

    names = list(dict.fromkeys(name for row in rows for name in row))
    last = ["status", "seconds", "attempts", "error", "notebook"]
    names = [name for name in names if name not in last] + last
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)

    def cell(value: Any) -> Any:
        if isinstance(value, File):
            return value.path
        return dumps(value) if isinstance(value, (list, dict)) else value

    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue().encode("utf-8")


@click.command()
@options.target
@click.argument("item", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing while it is at work.")
@options.state_dir
def logs(target: str, item: str | None, follow: bool, state_dir: str | None) -> int:
    """Show what an item printed, or all of them.

    ITEM is its index from 0, or what it is called, such as city=Cairo.
    """
    from .. import api

    run = api.status(target, state_dir=state_dir)
    chosen = run.outcomes if item is None else [run[item]]
    if follow:
        return _follow(target, item, state_dir)
    for one in chosen:
        if item is None:
            click.echo(f"==> {one.index}  {one.label}  {one.status} <==")
        click.echo(api.log_text(run, one), nl=False)
    return 0


def _follow(target: str, item: str | None, state_dir: str | None) -> int:
    """Print what comes until nobody works at the run any more."""
    from .. import api
    from ..api.reading import locate

    seen: dict[str, int] = {}
    last = ""
    while True:
        stored = locate(target, state_dir=api.state_folder(state_dir))
        at_work = stored.at_work
        run = stored.run()
        chosen = run.outcomes if item is None else [run[item]]
        for one in chosen:
            last = _print_new(api.log_file(run, one), one, seen, last, named=item is None)
        if not at_work or (item is not None and chosen[0].status not in ("running", "pending")):
            return 0
        time.sleep(0.3)


def _print_new(file: Path | None, item: Item, seen: dict[str, int], last: str, *, named: bool) -> str:
    if file is None:
        return last
    with file.open("rb") as log:
        log.seek(seen.get(str(file), 0))
        new = log.read()
    if not new:
        return last
    seen[str(file)] = seen.get(str(file), 0) + len(new)
    if named and last != str(file):
        click.echo(f"==> {item.index}  {item.label} <==")
    sys.stdout.write(new.decode("utf-8", "replace"))
    sys.stdout.flush()
    return str(file)
