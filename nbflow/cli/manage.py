"""``nbflow cancel``, ``clean``, ``tag``, ``init`` and ``doctor``: small changes, and a look at what is there."""

from __future__ import annotations

import json

import click

from . import options
from .screen import columns, echo, say


@click.command()
@options.target
@options.state_dir
def cancel(target: str, state_dir: str | None) -> int:
    """End a run that another process works at; what is done is kept."""
    from .. import api

    api.cancel(target, state_dir=state_dir)
    say([f"asked to stop; nbflow status {target} shows when it has, nbflow resume {target} goes on"])
    return 0


@click.command()
@options.target
@click.option("--keep", type=int, default=1, show_default=True, metavar="N", help="How many of the newest runs stay.")
@options.state_dir
def clean(target: str, keep: int, state_dir: str | None) -> int:
    """Remove old runs of a notebook or workflow with all their files.

    TARGET is the notebook or workflow; or one run, by its folder or the beginning of its id: then that one alone.
    """
    from .. import api

    gone, stay = api.cleaned(target, keep, state_dir)
    lines = [f"removed run {folder.name}" for folder in gone]
    for folder, worker in stay:
        where = f"run {folder.name} is at work{f' in {worker}' if worker else ''}, and stays"
        lines.append(f"{where}; it is ended by: nbflow cancel {folder.name}")
    say(lines or ["nothing to remove"])
    return 0


@click.command()
@click.argument("notebook")
@click.argument("cell", type=int, required=False)
@click.argument("tags", nargs=-1, metavar="[TAG...]")
@click.option("--remove", is_flag=True, help="Take the tags away.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tag(notebook: str, cell: int | None, tags: tuple[str, ...], remove: bool, as_json: bool) -> int:
    """Give a cell of NOTEBOOK tags, or show them.

    CELL counts the code cells from 1. Without TAG that cell is shown, without CELL all code cells are listed.

    \b
      parameters results setup skip-execution raises-exception timeout:30s     any cell
      step:clean                                                               begins a step
      needs:load each:cities as:city max:4 retry:2                             where a step begins

    All tags of one call are written, or none.
    """
    from ..api.tag_words import tag_data, tag_lines, tag_words

    if remove and not tags:
        raise click.UsageError("--remove needs a cell and the tags to take away", click.get_current_context())
    done = [tag_words(notebook, cell, tags, remove=remove)] if cell is not None and tags else []
    if as_json:
        echo(json.dumps(tag_data(notebook, cell)))
    else:
        say(done or tag_lines(notebook, cell, columns()))
    return 0


@click.command()
@click.argument("folder", default=".")
def init(folder: str) -> int:
    """Make a small working project in FOLDER: two notebooks and a workflow over them."""
    from ..api.project import make_project

    say(make_project(folder))
    return 0


@click.command()
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(state_dir: str | None, as_json: bool) -> int:
    """Look after what nbflow needs here: kernels, versions, what can be written, and what is off."""
    from ..api import state_folder
    from ..api.project import examined

    found = examined(state_folder(state_dir))
    if as_json:
        click.echo(
            json.dumps({"checks": [{"name": one.name, "ok": one.fine, "message": one.message} for one in found]})
        )
    else:
        width = max(len(one.name) for one in found)
        say([f"{'ok ' if one.fine else 'off'}  {one.name:<{width}}  {one.message}" for one in found])
    return 0 if all(one.fine for one in found) else 2
