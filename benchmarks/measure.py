"""Measuring: two things in turn, several times, and the median of their ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def seconds(work: Callable[[], object]) -> float:
    """Give the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(one: Callable[[], float], other: Callable[[], float], rounds: int) -> list[tuple[float, float]]:
    """Measure both, ``rounds`` times, each first in every second pair: what else the machine does hits both."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = other()
            pairs.append((one(), second))
        else:
            first = one()
            pairs.append((first, other()))
    return pairs


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Give the median of the pairs' ratios.

    Examples
    --------
    >>> median_ratio([(1.0, 2.0), (3.0, 3.0), (9.0, 10.0)])
    0.9
    """
    return statistics.median(one / other for one, other in pairs)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Give a Markdown table that is readable as text too; the first column is text, the others are numbers.

    Examples
    --------
    >>> print(table(["what", "n"], [["a", 1], ["bc", 20]]))
    | what |  n |
    |------|---:|
    | a    |  1 |
    | bc   | 20 |
    """
    lines = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["| " + " | ".join(_fit(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|")
    return "\n".join(text)


def _fit(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]


def machine() -> str:
    """Give where it was measured, in words."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def finish(name: str, text: str, figures: object, misses: Sequence[str], target: Path | None) -> int:
    """Print a benchmark's table and what missed its bound; write it all as JSON; give the exit code."""
    print(f"{name}  ({machine()})\n\n{text}\n")
    for miss in misses:
        print(f"  missed: {miss}")
    if target is not None:
        found = {"name": name, "table": text, "figures": figures, "misses": list(misses)}
        target.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 1 if misses else 0
