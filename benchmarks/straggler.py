"""A slow item first in line: how much longer than ideal the run takes.

python benchmarks/straggler.py [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import finish, in_turn, seconds, table
from workflows import nap, run_calls

WORKERS = 4
SHAPES = {
    "one straggler first": [1.0] + [0.05] * 60,
    "every fourth is slow": [0.2, 0.02, 0.02, 0.02] * 15,
}
"""Seconds that the items sleep, in item order."""
BOUND = 1.1


def ideal(naps: Sequence[float]) -> float:
    """Give the seconds below which no schedule of this width can come."""
    return max(*naps, sum(naps) / WORKERS)


def nbflow(naps: Sequence[float]) -> float:
    """Give the seconds that nbflow takes."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: run_calls("nap", naps, workers=WORKERS, folder=Path(folder)))


def pool(naps: Sequence[float]) -> float:
    """Give the seconds that a bare thread pool takes."""
    with ThreadPoolExecutor(WORKERS) as executor:
        return seconds(lambda: list(executor.map(nap, naps)))


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, figures, misses = [], {}, []
    for name, naps in SHAPES.items():
        best = ideal(naps)
        pairs = in_turn(lambda: nbflow(naps), lambda: pool(naps), options.rounds)  # noqa: B023 - called in this turn
        ours, bare = (statistics.median(column) / best for column in zip(*pairs, strict=True))
        rows.append([name, f"{best:.2f} s", f"{ours:.3f}", f"{bare:.3f}"])
        figures[name] = {"ideal": best, "pairs": pairs, "over_ideal": ours, "pool_over_ideal": bare}
        if name == "one straggler first" and ours > BOUND:
            misses.append(f"{name}: {ours:.3f} of the ideal time, at most {BOUND} wanted")
    text = table([f"{WORKERS} at a time", "ideal", "nbflow / ideal", "thread pool / ideal"], rows)
    return finish("A straggler", text, figures, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
