"""The screen: how wide it is, and how lines get there."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

WIDEST = 120
WITHOUT = 100
"""Columns where there is no terminal."""


def columns(file: TextIO | None = None) -> int:
    """Give the columns that may be used."""
    if not (file or sys.stdout).isatty():
        return WITHOUT
    return min(shutil.get_terminal_size((80, 24)).columns - 1, WIDEST)


def say(lines: list[str], file: TextIO | None = None) -> None:
    """Print lines."""
    from ..api.showing import write_lines

    write_lines(lines, file or sys.stdout)
