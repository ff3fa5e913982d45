"""What nbflow itself costs: no-op items with the journal on, beside a bare thread pool of the same width.

    python benchmarks/engine_overhead.py [--json FILE]

Every figure comes from a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from measure import finish, in_turn, median_ratio, seconds, table
from workflows import nothing, run_calls

WORKERS = 4
SIZES = (1_000, 10_000, 100_000)
MICROSECONDS, GROWTH, JOURNAL, MEMORY = 150, 1.2, 400, 1024
"""Bounds: µs per item at 10k; that at 100k over it; journal bytes per item; bytes of memory per item."""


def peak() -> int:
    """Give the most memory this process ever had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would begin with the size of the process that started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def nbflow(size: int) -> dict[str, float]:
    """Measure a run of nbflow in this process."""
    items = list(range(size))
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent = seconds(lambda: run_calls("nothing", items, workers=WORKERS, folder=folder))
        (journal,) = folder.rglob("journal.jsonl")
        return {"seconds": spent, "journal": journal.stat().st_size, "memory": peak() - before}


def pool(size: int) -> dict[str, float]:
    """Measure a bare thread pool in this process."""
    before = psutil.Process().memory_info().rss
    with ThreadPoolExecutor(WORKERS) as executor:
        spent = seconds(lambda: list(executor.map(nothing, range(size))))
    return {"seconds": spent, "journal": 0, "memory": peak() - before}


def fresh(what: str, size: int) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--one", what, "--size", str(size)]
    return json.loads(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)


def size_figures(size: int, rounds: int) -> dict[str, object]:
    """Measure one size, both in turn."""
    found: dict[str, list[dict[str, float]]] = {"nbflow": [], "pool": []}

    def one(what: str) -> float:
        found[what].append(fresh(what, size))
        return found[what][-1]["seconds"]

    pairs = in_turn(lambda: one("nbflow"), lambda: one("pool"), rounds)
    figures: dict[str, object] = {"pairs": pairs, "ratio": median_ratio(pairs)}
    for what, records in found.items():
        for name in ("seconds", "journal", "memory"):
            figures[f"{what}_{name}"] = statistics.median(record[name] for record in records)
    return figures


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=["nbflow", "pool"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"nbflow": nbflow, "pool": pool}[options.one](options.size)))
        return 0
    figures = {size: size_figures(size, options.rounds) for size in SIZES}
    rows = [
        [
            f"{size:,} items",
            f"{f['nbflow_seconds'] / size * 1e6:.0f} µs",
            f"{f['pool_seconds'] / size * 1e6:.1f} µs",
            f"{f['nbflow_journal'] / size:.0f} B",
            f"{f['nbflow_memory'] / 1e6:.1f} MB",
        ]
        for size, f in figures.items()
    ]
    middle, large = figures[SIZES[1]], figures[SIZES[2]]
    each = {size: f["nbflow_seconds"] / size * 1e6 for size, f in figures.items()}
    growth = each[SIZES[2]] / each[SIZES[1]]
    bytes_each = max(f["nbflow_journal"] / size for size, f in figures.items())
    memory = (large["nbflow_memory"] - middle["nbflow_memory"]) / (SIZES[2] - SIZES[1])
    wanted = [
        (each[SIZES[1]], MICROSECONDS, "µs per item at 10,000"),
        (growth, GROWTH, "times that per item at 100,000"),
        (bytes_each, JOURNAL, "bytes of journal per item"),
        (memory, MEMORY, "bytes of memory per item from 10,000 to 100,000"),
    ]
    misses = [f"{got:.2f} {what}, at most {bound} wanted" for got, bound, what in wanted if got > bound]
    text = table(["no-op items, 4 at a time", "nbflow, each", "thread pool, each", "journal, each", "memory"], rows)
    text += f"\n\nFrom 10,000 to 100,000 items the driver's memory grows by {memory:.0f} bytes an item."
    return finish("Engine overhead", text, figures | {"memory": memory, "growth": growth}, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
