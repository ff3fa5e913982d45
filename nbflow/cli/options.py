"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def state_dir(command: F) -> F:
    """Add ``--state-dir``."""
    return click.option("--state-dir", metavar="DIR", help="Where runs are kept instead of beside their file.")(command)


def output(command: F) -> F:
    """Add ``--quiet`` and ``--json``."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing unless something failed.")(command)


def working(command: F) -> F:
    """Add what ``map`` and ``resume`` share."""
    command = click.option("--detach", is_flag=True, help="Let a process of its own do it.")(command)
    command = click.option("--dry-run", is_flag=True, help="Only say what would run, and why.")(command)
    command = click.option(
        "--changed",
        type=click.Choice(["keep", "rerun"]),
        help="Finished items whose code changed: keep them, or run them again.",
    )(command)
    command = max_memory(command)
    command = click.option("-j", "jobs", type=int, metavar="N", help="Items at a time.")(command)
    return click.option(
        "-p", "-i", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter that all items share."
    )(command)


def max_memory(command: F) -> F:
    """Add ``--max-memory``."""
    told = "Memory that all tasks may use together, or a share of what there is: 80%."
    return click.option("--max-memory", metavar="12GB", help=told)(command)


def plugged(command: F) -> F:
    """Add ``--executor`` and ``--reporter``."""
    shows, runs = "What shows the run: bars, lines, or a plug-in's.", "What tasks run in: threads, or a plug-in's."
    command = click.option("--reporter", metavar="NAME", help=shows)(command)
    return click.option("--executor", default="threads", metavar="NAME", help=runs)(command)


def kernels(command: F) -> F:
    """Add ``--kernel-start`` and ``--preload``."""
    shared = "What kernels have imported before they are forked: auto, off, or modules."
    command = click.option("--preload", metavar="auto|off|A,B", help=shared)(command)
    warm = "Fork kernels from one that is ready, where there are several (the default), or start each by itself."
    return click.option("--kernel-start", type=click.Choice(["warm", "cold"]), help=warm)(command)


def target(command: F) -> F:
    """Add the target: a notebook or workflow, a run folder, or the beginning of a run id."""
    return click.argument("target")(command)
