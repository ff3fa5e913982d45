"""Notebooks in forked kernels: nbflow beside papermill in a thread pool of the same width.

python benchmarks/warm_kernels.py [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from cold_kernels import quiet_kernels, run_nbflow, run_papermill, write
from measure import finish, table
from plot import bars

from nbflow.kernels.warm.templates import Templates
from nbflow.notebooks.preload import automatic
from nbflow.source import read_notebook

WITHOUT, WITH = 10.0, 8.0
"""Bounds: how many times faster than papermill, the template's start not counted and counted."""

CELLS = {
    "three lines": ["x = n + 1\ny = x * 2\nprint(y)"],
    "pandas": [
        "import matplotlib.pyplot as plt\nimport pandas as pd",
        "frame = pd.DataFrame({'a': range(1000), 'b': [n] * 1000})\nframe.describe()",
        "axes = frame.plot(x='a', y='b')\nplt.close()",
        "y = float(frame.b.sum())",
    ],
}
"""Code cells of the notebooks, between the parameters and the results."""

SIDES = {
    "papermill": "papermill, 2 threads",
    "cold": "nbflow, started",
    "warm": "nbflow, forked",
    "one more worker": "nbflow, forked, 3 workers",
    "cells alone": "the cells alone",
}
"""What people call the sides."""


def start_of_template(preload: Sequence[str]) -> float:
    """Give the seconds that a template's start takes: its first kernel, less a later one."""
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{file}"]

    async def measured() -> float:
        templates = Templates()
        times = []
        try:
            for number in range(6):
                with tempfile.TemporaryDirectory() as folder:
                    argv = [part.format(file=f"{folder}/kernel-{number}.json") for part in command]
                    began = time.perf_counter()
                    env = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
                    kernel = await templates.fork(argv, env, folder, [0, 1, 2], preload)
                    times.append(time.perf_counter() - began)
                    kernel.kill()
                    kernel.wait()
        finally:
            templates.close()
        return times[0] - min(times[3:])  # the second waits for what the template does after the first

    return asyncio.run(measured())


def in_process(folder: Path, kind: str, items: int) -> float:
    """Give the seconds of the cells alone, one after another in one process that imported all: what no kernel costs."""
    code = "\n".join(CELLS[kind])
    program = (
        "import sys, time, io, contextlib, matplotlib; matplotlib.use('agg')\n"
        "cells = compile(sys.argv[1], 'cells', 'exec')\n"
        "with contextlib.redirect_stdout(io.StringIO()): exec(cells, {'n': 0})\n"
        "began = time.perf_counter()\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    for n in range(int(sys.argv[2])): exec(cells, {'n': n})\n"
        "print(time.perf_counter() - began)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, code, str(items)], cwd=folder, check=True, capture_output=True, text=True
    )
    return float(told.stdout)


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # papermill's own, once a kernel
    items, workers = options.items, options.workers
    rows, figures, misses, groups = [], {}, [], []
    with tempfile.TemporaryDirectory() as name:
        quiet_kernels(Path(name))
        for kind, code in CELLS.items():
            notebook = write(Path(name), kind.replace(" ", "-"), code)
            preload = automatic(read_notebook(notebook).cells)
            sides: dict[str, Callable[[], float]] = {
                "papermill": lambda: run_papermill(notebook, items, workers),  # noqa: B023 - called in this turn
                "cold": lambda: run_nbflow(notebook, items, workers),  # noqa: B023
                "warm": lambda: run_nbflow(notebook, items, workers, "warm"),  # noqa: B023
                "one more worker": lambda: run_nbflow(notebook, items, workers + 1, "warm"),  # noqa: B023
                "template": lambda: start_of_template(preload),  # noqa: B023
                "cells alone": lambda: in_process(Path(name), kind, items),  # noqa: B023
            }
            run_nbflow(notebook, 2, 2, "warm")  # what is remembered of the modules, and imports
            run_papermill(notebook, 1, 1)
            times: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(options.rounds):
                order = list(sides) if number % 2 == 0 else list(reversed(sides))
                for side in order:
                    times[side].append(sides[side]())
            figures[kind] = times
            both = list(zip(times["papermill"], times["warm"], times["template"], strict=True))
            counted = statistics.median(theirs / ours for theirs, ours, _ in both)
            alone = statistics.median(theirs / (ours - start) for theirs, ours, start in both)
            pictured = []
            for side, spent in times.items():
                median = statistics.median(spent)
                each = median / items * 1000
                if side == "template":
                    rows.append([f"{kind}: its start alone", f"{median:.2f} s", "", ""])
                    continue
                ratio = statistics.median(a / b for a, b in zip(times["papermill"], spent, strict=True))
                times_papermill = f"{ratio:.1f}" if each >= 1 else ""
                rows.append([f"{kind}: {SIDES[side]}", f"{median:.2f} s", f"{each:.1f} ms", times_papermill])
                pictured.append((SIDES[side], each, f"{each:.0f} ms", side in ("warm", "one more worker")))
            rows.append([f"**{kind}: forked, the start not counted**", "", "", f"**{alone:.1f}**"])
            rows.append([f"**{kind}: forked, the start counted**", "", "", f"**{counted:.1f}**"])
            groups.append((f"{kind}: milliseconds per notebook", pictured))
            for found, bound, what in ((alone, WITHOUT, "without"), (counted, WITH, "with")):
                if found < bound:
                    misses.append(f"{kind}: {found:.1f} times papermill {what} the template's start, {bound:g} wanted")
    header = [f"{items} notebooks, {workers} at a time", "all", "each", "times papermill"]
    if options.picture is not None:
        options.picture.write_text(
            bars(groups, "milliseconds per notebook: papermill, nbflow, and the cells alone"), "utf-8"
        )
    return finish("Warm kernels", table(header, rows), figures, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
