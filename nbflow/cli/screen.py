"""The screen: how wide it is, and how lines get there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from ..errors import StoreError

WIDEST = 120
WITHOUT = 100
"""Columns where there is no terminal."""


def columns(file: TextIO | None = None) -> int:
    """Give the columns that may be used."""
    if not (file or sys.stdout).isatty():
        return WITHOUT
    return min(shutil.get_terminal_size((80, 24)).columns - 1, WIDEST)


def open_streams() -> None:
    """Open what is closed of stdin, stdout and stderr: else the next file, a journal, gets the place of one of them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


@contextlib.contextmanager
def stdout_kept(wanted: object) -> Iterator[None]:
    """Keep stdout for the one object of ``--json``: what functions that are called print goes to stderr meanwhile."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def let_go_of_pipes() -> None:
    """Write nothing more to streams that take nothing; the interpreter would complain about them at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
            with contextlib.suppress(OSError):
                stream.flush()
    os.close(nowhere)


def say(lines: list[str], file: TextIO | None = None) -> None:
    """Print lines."""
    from ..api.showing import write_lines

    try:
        write_lines(lines, file or sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise unwritten(problem) from problem


def echo(text: str, *, nl: bool = True) -> None:
    """Print text that is for programs, or not ours."""
    from ..api.showing import writable

    try:
        click.echo(writable(text, sys.stdout), nl=nl)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise unwritten(problem) from problem


def unwritten(problem: OSError) -> StoreError:
    """Give the error for output that cannot be written."""
    why = problem.strerror or str(problem)
    return StoreError(f"the output cannot be written: {why}", "Make room, or send it elsewhere.")
