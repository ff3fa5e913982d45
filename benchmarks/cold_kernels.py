"""Notebooks in fresh kernels: nbflow beside papermill in a thread pool of the same width.

python benchmarks/cold_kernels.py [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
from measure import finish, in_turn, median_ratio, seconds, table
from nbformat.v4 import new_code_cell, new_notebook

import nbflow

BOUND = 1.0
CELLS = {
    "tiny": ["x = n + 1", "print(x)", "y = x * 2"],
    "pandas": [
        "import numpy as np\nimport pandas as pd",
        "draws = np.random.default_rng(n).normal(size=200_000)",
        "frame = pd.DataFrame({'value': draws, 'group': np.arange(len(draws)) % 100})",
        "means = frame.groupby('group')['value'].mean()\nprint(means.describe())",
        "y = float(means.max())",
    ],
}
"""Code cells of the notebooks, between the parameters and the results."""


def write(folder: Path, name: str, code: Sequence[str]) -> Path:
    """Write a notebook that has a parameter ``n``, these code cells, and a result ``y``."""
    cells = [
        new_code_cell("n = 0", metadata={"tags": ["parameters"]}),
        *map(new_code_cell, code),
        new_code_cell("y = y", metadata={"tags": ["results"]}),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def quiet_kernels(folder: Path) -> None:
    """Keep the startup files and the configuration of this user out of the kernels of both sides."""
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    os.environ["IPYTHONDIR"] = str(profile.parent)


def run_nbflow(notebook: Path, items: int, workers: int, kernel_start: str = "cold") -> float:
    """Give the seconds that nbflow takes; every item must have completed."""
    grid = {"n": list(range(items))}
    start = time.perf_counter()
    run = nbflow.map(notebook, grid=grid, max_concurrency=workers, kernel_start=kernel_start, quiet=True)
    spent = time.perf_counter() - start
    run.check()
    return spent


def run_papermill(notebook: Path, items: int, workers: int) -> float:
    """Give the seconds that papermill takes in a thread pool; an item that fails ends the benchmark."""

    def one(n: int) -> None:
        target = notebook.parent / f"papermill-{notebook.stem}-{n}.ipynb"
        papermill.execute_notebook(str(notebook), str(target), {"n": n}, progress_bar=False)

    with ThreadPoolExecutor(workers) as executor:
        return seconds(lambda: list(executor.map(one, range(items))))


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # papermill's own, once a kernel
    size = options.items, options.workers
    rows, figures, misses = [], {}, []
    with tempfile.TemporaryDirectory() as name:
        quiet_kernels(Path(name))
        for kind in CELLS:
            notebook = write(Path(name), kind, CELLS[kind])
            in_turn(lambda: run_nbflow(notebook, 1, 1), lambda: run_papermill(notebook, 1, 1), 1)  # noqa: B023 - imports
            pairs = in_turn(lambda: run_nbflow(notebook, *size), lambda: run_papermill(notebook, *size), options.rounds)  # noqa: B023 - called in this turn
            ratio = median_ratio(pairs)
            figures[kind] = {"pairs": pairs, "ratio": ratio}
            rows += [
                [f"{kind}, pair {i}", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.3f}"] for i, (a, b) in enumerate(pairs, 1)
            ]
            rows.append([f"**{kind}, median**", "", "", f"**{ratio:.3f}**"])
            if ratio > BOUND:
                misses.append(f"{kind}: {ratio:.3f} of papermill's time, at most {BOUND} wanted")
    header = [f"{options.items} notebooks, {options.workers} at a time", "nbflow", "papermill", "ratio"]
    return finish("Cold kernels", table(header, rows), figures, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
