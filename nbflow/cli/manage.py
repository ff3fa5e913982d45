"""``nbflow cancel``, ``clean`` and ``tag``: the verbs that change something small."""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@options.target
@options.state_dir
def cancel(target: str, state_dir: str | None) -> int:
    """End a run that another process works at; what is done is kept."""
    from .. import api
    from .work import say

    api.cancel(target, state_dir=state_dir)
    say([f"asked to stop; nbflow status {target} shows when it has, nbflow resume {target} goes on"])
    return 0


@click.command()
@options.target
@click.option("--keep", type=int, default=1, show_default=True, metavar="N", help="How many of the newest runs stay.")
@options.state_dir
def clean(target: str, keep: int, state_dir: str | None) -> int:
    """Remove old runs of a notebook with all their files."""
    from .. import api
    from .work import near, say

    gone = api.clean(target, keep=keep, state_dir=state_dir)
    say([f"removed {near(folder)}" for folder in gone] or ["nothing to remove"])
    return 0


@click.command()
@click.argument("notebook")
@click.argument("cell", type=int)
@click.argument("tag")
@click.option("--remove", is_flag=True, help="Take the tag away.")
def tag(notebook: str, cell: int, tag: str, remove: bool) -> int:
    """Give a cell of NOTEBOOK a tag, such as parameters or results.

    CELL counts the code cells from 1.
    """
    from ..loading.tagging import add_tag, remove_tag
    from .work import say

    say([(remove_tag if remove else add_tag)(Path(notebook), cell, tag)])
    return 0
