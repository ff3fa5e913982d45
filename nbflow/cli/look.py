"""``nbflow status``, ``results`` and ``logs``: the verbs that only look."""

from __future__ import annotations

import codecs
import gc
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import TargetError
from . import options
from .screen import columns, echo, say

if TYPE_CHECKING:
    from ..api.runs import Item, Node


@click.command()
@click.argument("target", required=False)
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(target: str | None, state_dir: str | None, as_json: bool) -> int:
    """Show how a run stands, or list all runs below this folder.

    TARGET is a notebook or workflow (its newest run), a run folder, or the beginning of a run id.
    """
    from ..api import state_folder
    from ..api.reading import locate
    from ..api.showing import every_run, list_data, list_lines, status_lines

    elsewhere = state_folder(state_dir)
    if target is None:
        if elsewhere is not None and not elsewhere.is_dir():
            told = f"--state-dir {elsewhere}: there is no such folder"
            raise TargetError(told, "Leave it out, or say where runs are kept.")
        lines, broken = every_run([Path.cwd(), *([elsewhere] if elsewhere is not None else [])])
        if as_json:
            echo(json.dumps(list_data(lines, broken)))
        else:
            say(list_lines(lines, broken, columns()))
        return 0
    stored = locate(target, state_dir=elsewhere)
    run = stored.run()
    if as_json:
        echo(json.dumps(run.data()))
    else:
        say(status_lines(stored, run, target, state_dir, columns()))
    return 0


@click.command()
@options.target
@click.option("-o", "file", metavar="FILE", help="Write them there: .csv, .tsv, .json, or .parquet.")
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def results(target: str, file: str | None, state_dir: str | None, as_json: bool) -> int:
    """Show the results of a run as a table: one row per item of a map, or per task of a workflow.

    TARGET is a notebook or workflow (its newest run), a run folder, or the beginning of a run id.
    """
    from .. import api
    from ..api.showing import table_lines, write_table

    run = api.status(target, state_dir=state_dir)
    if file is not None:
        write_table(run, Path(file))
    if as_json:
        echo(json.dumps(run.data()))
    elif file is not None:
        say([f"{len(run):,} row{'' if len(run) == 1 else 's'} in {file}"])
    else:
        say(table_lines(run, columns()))
    return 0


@click.command()
@options.target
@click.argument("item", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing while it is at work.")
@options.state_dir
def logs(target: str, item: str | None, follow: bool, state_dir: str | None) -> int:
    """Show what an item printed, or all of them.

    ITEM of a map is its index from 0, or what it is called: city=Cairo. Of a workflow it is a node (train:fit:2),
    what that is called, or a step with all that is in it.
    """
    from .. import api
    from ..api.runs import log_text

    if follow:
        gc.enable()
        return _follow(target, item, state_dir)
    run = api.status(target, state_dir=state_dir)
    chosen = run.outcomes if item is None else run.tasks(item)
    for one in chosen:
        if item is None or len(chosen) > 1:
            say([f"==> {_called(one)}  {one.status} <=="])
        echo(log_text(run, one), nl=False)
    return 0


def _follow(target: str, item: str | None, state_dir: str | None) -> int:
    """Print what comes until nobody works at it any more."""
    from .. import api
    from ..api.reading import locate
    from ..api.runs import log_file

    seen: dict[Path, _Seen] = {}
    last: Path | None = None
    while True:
        stored = locate(target, state_dir=api.state_folder(state_dir))
        at_work = stored.at_work  # asked before the logs are read: what comes later is read in the next turn
        run = stored.run()
        chosen = run.outcomes if item is None else run.tasks(item)
        several = item is None or len(chosen) > 1 or len(seen) > 1
        for one in chosen:
            file = log_file(run, one)
            if file is not None and _print_new(file, one, seen, named=several and file != last):
                last = file
        if not at_work or (not several and chosen[0].status not in ("running", "pending")):
            return 0
        time.sleep(0.3)


def _called(one: Item | Node) -> str:
    """Give an item with its index, a node with its id."""
    from ..api.runs import Item

    return f"{one.index}  {one.label}" if isinstance(one, Item) else one.id


@dataclass
class _Seen:
    """How much of a log was printed; the bytes of a character may come one by one."""

    size: int = 0
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


def _print_new(file: Path, item: Item | Node, seen: dict[Path, _Seen], *, named: bool) -> bool:
    """Print what is new in a log; tells whether there was something."""
    known = seen.setdefault(file, _Seen())
    with file.open("rb") as log:
        log.seek(known.size)
        new = log.read()
    known.size += len(new)
    text = known.decoder.decode(new)
    if not text:
        return False
    if named:
        say([f"==> {_called(item)} <=="])
    echo(text, nl=False)
    return True
